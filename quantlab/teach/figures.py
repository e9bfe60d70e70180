"""The house style of every figure: one meaning, one color; captions instead of titles."""

from __future__ import annotations

import base64
import pickle
import re
from collections.abc import Iterable

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text
from matplotlib_inline.backend_inline import set_matplotlib_formats

TEXT_WIDTH = 6.4  # inches: the text column
PHONE_WIDTH = 3.9  # inches: the same on a phone, where a figure is drawn a second time

COLORS = {
    "signal": "#6b6b6b",
    "quantized": "#E69F00",
    "error": "#0072B2",
    "law": "#222222",
    "limit": "#bdbdbd",
    "third": "#009E73",
    "fourth": "#CC79A7",
}

UNIT = re.compile(r"(\d) (?=[%A-Za-zµ])")  # a number and what it counts stay on one line

LAW = {"color": COLORS["law"], "linestyle": (0, (5, 3)), "linewidth": 1.2}


def style() -> None:
    """Set the house style for this notebook: vector figures, lw 2, a second drawing for phones.

    Taught in chapter 1.

    >>> style()
    >>> COLORS["quantized"], COLORS["error"]
    ('#E69F00', '#0072B2')
    """
    set_matplotlib_formats("svg")
    if shell := get_ipython():
        shell.display_formatter.formatters["image/svg+xml"].for_type(Figure, drawings)
    mpl.rcParams.update(
        {
            "figure.dpi": 96,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "svg.hashsalt": "quantlab",  # the same figure gives the same bytes
            "font.size": 11,
            "font.family": "DejaVu Sans",
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#444444",
            "axes.grid": True,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.8,
            "lines.linewidth": 2.0,
            "lines.markersize": 5,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "legend.handlelength": 1.8,
            "axes.prop_cycle": mpl.cycler(
                color=[COLORS[k] for k in ("signal", "quantized", "error", "third", "fourth")]
            ),
        }
    )


def drawings(fig: Figure) -> str:
    """The figure as SVG, with its twin for a phone in the metadata; the book takes it out again.

    Taught in chapter 1.
    """
    wide, twin = print_figure(fig, "svg"), pickle.loads(pickle.dumps(fig))
    plt.close(twin)  # a figure out of a pickle wants to be shown as well
    narrow = base64.b64encode(print_figure(_narrowed(twin), "svg").encode()).decode()
    return wide.replace("</svg>", f'<metadata id="narrow">{narrow}</metadata></svg>')


def _narrowed(fig: Figure) -> Figure:
    """The figure at a phone's width: axes side by side go one below the other."""
    share = PHONE_WIDTH / fig.get_figwidth()
    fig.set_figwidth(PHONE_WIDTH)
    placed = [ax for ax in fig.axes if ax.get_subplotspec() is not None]
    if placed and (columns := placed[0].get_subplotspec().get_gridspec().ncols) > 1:
        fig.set_figheight(fig.get_figheight() * columns * 0.8)
        column = GridSpec(len(placed), 1, figure=fig)
        for place, ax in zip(column, placed, strict=True):
            ax.set_subplotspec(place)
            ax.tick_params(labelleft=True, labelbottom=True)
    for text in fig.findobj(Text):
        text.set_fontsize(text.get_fontsize() * max(share, 0.82))
    return fig


def figure(
    height: float = 3.2, ncols: int = 1, nrows: int = 1, **options
) -> tuple[Figure, Axes | np.ndarray]:
    """A figure as wide as the text column; returns ``(figure, axes)`` like ``plt.subplots``.

    ``height`` in inches; ``options`` go to ``plt.subplots``. Taught in chapter 1.

    >>> fig, (left, right) = figure(ncols=2)
    >>> fig.get_size_inches().tolist()
    [6.4, 3.2]
    >>> plt.close(fig)
    """
    return plt.subplots(nrows, ncols, figsize=(TEXT_WIDTH, height), **options)


def bits_color(bits: int) -> tuple[float, float, float, float]:
    """Color of a bit width: dark for few bits, light for many (1 to 16). Taught in chapter 2.

    >>> dark, light = bits_color(1), bits_color(16)
    >>> bool(sum(dark[:3]) < sum(light[:3]))
    True
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"bits_color: bits is {bits}; expected an integer from 1 to 16")
    return mpl.colormaps["cividis"](0.85 * np.log2(bits) / 4)


def limit_span(ax: Axes, low: float, high: float, label: str | None = None) -> None:
    """Hatch the stretch of the x axis that a limit or a clip takes away. Taught in chapter 2."""
    ax.axvspan(
        low, high, facecolor="none", edgecolor=COLORS["limit"], hatch="///", lw=0, label=label
    )


def table(rows: Iterable[Iterable], columns: list[str], *, caption: str = ""):
    """A small Markdown table of results for the page, built from variables of the run.

    ``rows`` holds strings (already rounded to what the run supports). Returns an
    ``IPython.display.Markdown``. Taught in chapter 1.

    >>> table([["8", "40.9"]], ["bits", "SNR (dB)"]).data.splitlines()[2]
    '| 8 | 40.9 |'
    """
    from IPython.display import Markdown

    lines = ["| " + " | ".join(columns) + " |", "|" + " :-- |" * len(columns)]
    for row in rows:
        cells = [UNIT.sub("\\1\u00a0", str(cell)) for cell in row]
        if len(cells) != len(columns):
            raise ValueError(
                f"table: a row has {len(cells)} cells, the header {len(columns)}: {cells}"
            )
        lines.append("| " + " | ".join(cells) + " |")
    if caption:
        lines += ["", caption]
    return Markdown("\n".join(lines))
