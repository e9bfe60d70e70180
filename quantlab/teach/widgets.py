"""Explorers that live without a kernel: anywidget views whose ES modules compute in the browser.

The same object is live in JupyterLab, on the built page, and a still PNG where there is no
JavaScript. A chapter feeds data; it writes no JavaScript.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from inspect import isgenerator
from itertools import product
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets as tr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from quantlab import _checks
from quantlab.calibration import choose_params
from quantlab.error import predicted_snr_db, snr_db
from quantlab.scheme import QuantizationParams, QuantizationScheme
from quantlab.teach.figures import COLORS, LAW
from quantlab.tensor import fake_quantize

_HERE = Path(__file__).parent
_CSS = (_HERE / "explorer.css").read_text("utf-8")
_MOST_VALUES = 100_000  # a page stays under its size, a redraw near its frame


def _module(*names: str) -> str:
    """One ES module from several files, whose seams are marked: a page carries each file once.

    Imports between the files, comments and indents are dropped; only the last file exports.
    """
    *shared, last = ((_HERE / name).read_text("utf-8") for name in names)
    shared = [re.sub(r"^export (default )?", "", text, flags=re.M) for text in shared]
    return re.sub(
        r"^(import| *//) .*\n|^ +| +// .*$", "", "/*seam*/\n".join([*shared, last]), flags=re.M
    )


class _Explorer(anywidget.AnyWidget):
    """What both explorers share: the still picture, the representation, the house errors."""

    _css = _CSS
    _refresh: Callable[[], tuple] | None = None
    spec = tr.Dict().tag(sync=True)

    def _hear(self, _widget: Any, message: dict, _buffers: Any) -> None:
        """Answers from the kernel: that it is alive, and new measurements when asked."""
        if message.get("type") == "hello":
            self.send({"type": "alive"})
        if message.get("type") != "refresh" or self._refresh is None:
            return
        try:
            made = self._refresh()
            state = self._state(*(self._told(made) if isgenerator(made) else made))
        except Exception as error:  # whatever happens in the callable belongs on the page
            self.send({"type": "error", "text": f"{type(error).__name__}: {error}"})
            return
        with self.hold_sync():
            for name, value in state.items():
                setattr(self, name, value)
        self.send({"type": "done"})

    def _told(self, steps: Any) -> Any:
        """What a generator returns; on its way it yields (share done, words) for the bar."""
        while True:
            try:
                share, words = next(steps)
            except StopIteration as end:
                return end.value
            self.send({"type": "progress", "share": share, "text": words})

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        still = base64.b64encode(self._png()).decode()
        return {**data, "text/plain": repr(self), "image/png": still}, metadata

    def _png(self) -> bytes:
        """The still as a palette PNG: small enough to travel in the notebook."""
        figure, raw, small = self.figure(), io.BytesIO(), io.BytesIO()
        FigureCanvasAgg(figure).print_figure(raw, dpi=100, format="png")
        image = Image.open(raw).convert("RGB")
        image.quantize(64).save(small, "PNG", optimize=True)
        return small.getvalue()


def _one_of(function: str, name: str, value: Any, choices: Sequence) -> Any:
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise ValueError(f"{function}: {name} is {value!r}; expected one of {listed}")
    return value


def _all_of(function: str, name: str, values: Sequence, choices: Sequence) -> list:
    if isinstance(values, str):
        raise ValueError(f"{function}: {name} is the text {values!r}; expected a tuple of names")
    return [_one_of(function, name, value, choices) for value in values]


def _axes(height: float, ncols: int = 1, nrows: int = 1) -> tuple[Figure, np.ndarray]:
    """A bare Figure: pyplot would show it a second time."""
    figure = Figure(figsize=(7.0, height), layout="constrained", facecolor="white")
    axes = figure.subplots(nrows, ncols, squeeze=False).ravel()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
        ax.xaxis.label.set_size(9)
        ax.yaxis.label.set_size(9)
        ax.grid(color="#e4e4e4", linewidth=0.8)
        ax.set_axisbelow(True)
    return figure, axes


# ---------------------------------------------------------------- one array, quantized

_PANELS = ("trace", "staircase", "error", "values", "snr", "channels")
_SCHEMES = ("symmetric", "asymmetric")
_CONTROLS = ("data", "bits", "scheme", "clip", "granularity")


class ArrayExplorer(_Explorer):
    """Quantizes an array in the browser and shows what is lost.

    data: real array (n,) or (channels, n), or a dict {label: array} of equal shapes, which adds
    a "data" control. name, unit: what the values are, for the axes. bits 1 to 16; scheme
    "symmetric" or "asymmetric"; clip: percentile 90 to 100 (100 is min-max); granularity
    "tensor", "channel" or a group size that divides n: where the controls start. presets:
    {button: {"bits": ..., "clip": ...}}, named settings.
    controls: some of "bits", "scheme", "clip", "granularity". panels: some of "trace",
    "staircase", "error", "values", "snr", "channels". channel: what a row is called.
    groups: the group sizes that the granularity control offers (None: 16 to 128 that divide n).
    Scales, codes and values are those of choose_params and fake_quantize, bit for bit.
    Raises ValueError for bad data or an unknown name. Taught in chapter 2.

    >>> ArrayExplorer(np.linspace(-1, 1, 64), name="ramp", unit="", bits=4)
    ArrayExplorer(ramp: 64 values; 4 bits, symmetric, clip 100 %, one scale per tensor)
    """

    _esm = _module("explorer_arithmetic.js", "explorer_parts.js", "array_explorer.js")
    data = tr.Bytes().tag(sync=True)
    bits = tr.Int(3, min=1, max=16).tag(sync=True)
    scheme = tr.Enum(_SCHEMES, "symmetric").tag(sync=True)
    clip = tr.Float(100.0, min=90, max=100).tag(sync=True)
    granularity = tr.Unicode("tensor").tag(sync=True)
    array = tr.Unicode().tag(sync=True)
    pinned = tr.Dict().tag(sync=True)

    def __init__(
        self,
        data: Any,
        *,
        name: str = "return",
        unit: str = "%",
        bits: int = 3,
        scheme: str = "symmetric",
        clip: float = 100.0,
        granularity: str | int = "tensor",
        controls: Sequence[str] = ("bits", "scheme", "clip"),
        panels: Sequence[str] = ("trace", "staircase", "error", "snr"),
        note: str = "",
        caption: str = "",
        channel: str = "channel",
        groups: Sequence[int] | None = None,
        presets: Mapping[str, Mapping] | None = None,
    ) -> None:
        me = "ArrayExplorer"
        self._arrays = _rows(data, me)
        rows, columns = next(iter(self._arrays.values())).shape
        if groups is None:
            groups = [g for g in (16, 32, 64, 128) if columns % g == 0 and g < columns]
        sizes = ["tensor", *(["channel"] if rows > 1 else []), *(str(g) for g in groups)]
        groups = [_checks.integer(g, me, "group size", 1, columns) for g in groups]
        bad = [g for g in groups if columns % g]
        if bad:
            raise ValueError(
                f"{me}: groups of {bad[0]} do not divide the {columns} values of a "
                f"{channel}; choose a divisor of {columns}"
            )
        fits = isinstance(granularity, (int, np.integer)) and granularity > 0
        if fits and columns % granularity == 0 and str(granularity) not in sizes:
            sizes.append(str(granularity))
        checks = {
            "bits": lambda v: _checks.integer(v, me, "bits", 1, 16),
            "scheme": lambda v: _one_of(me, "scheme", v, _SCHEMES),
            "clip": lambda v: _clip(v, me),
            "granularity": lambda v: _one_of(me, "granularity", str(v), sizes),
            "array": lambda v: _one_of(me, "array", v, list(self._arrays)),
        }
        start = {"bits": bits, "scheme": scheme, "clip": clip, "granularity": granularity}
        start = {k: checks[k](v) for k, v in start.items()} | {"array": next(iter(self._arrays))}
        ready = {
            str(name): {_one_of(me, "presets", k, list(checks)): checks[k](v) for k, v in p.items()}
            for name, p in (presets or {}).items()
        }
        panels = _all_of(me, "panels", panels, _PANELS)
        if rows == 1 and "channels" in panels:
            raise ValueError(
                f"{me}: panel 'channels' needs data of shape (channels, n), got ({columns},)"
            )
        chosen = _all_of(me, "controls", controls, _CONTROLS)
        if len(self._arrays) > 1:
            chosen = ["data", *(c for c in chosen if c != "data")]
        else:
            chosen = [c for c in chosen if c != "data"]
        if len(sizes) == 1 and "granularity" in chosen:
            raise ValueError(
                f"{me}: control 'granularity' has one choice for shape ({columns},); "
                "pass rows of channels or groups=(size, ...)"
            )
        spec = {
            "title": f"Explorer: {name}, quantized",
            "name": name,
            "unit": unit,
            "note": note,
            "caption": caption,
            "channel": channel,
            "controls": chosen,
            "panels": panels,
            "granularities": sizes,
            "start": start,
            "presets": ready,
            "arrays": [{"label": k, "rows": rows, "columns": columns} for k in self._arrays],
        }
        packed = b"".join(a.tobytes() for a in self._arrays.values())
        super().__init__(spec=spec, data=packed, **start)

    def __repr__(self) -> str:
        s, a = self.spec, self._arrays[self.array]
        bits = f"{self.bits} bit{'s' * (self.bits > 1)}"
        return (
            f"ArrayExplorer({s['name']}: {a.size:,} values; {bits}, {self.scheme}, "
            f"clip {self.clip:g} %, one scale per {self._per()})"
        )

    def _per(self) -> str:
        return self.granularity if self.granularity.isalpha() else f"group of {self.granularity}"

    def params(self, bits: int | None = None) -> QuantizationParams:
        """The grid of the current controls, from quantlab (at other `bits` if given)."""
        a, grid = self._arrays[self.array], {}
        kind = "TENSOR"
        if self.granularity == "channel":
            kind = "CHANNEL"
        elif self.granularity != "tensor":
            grid = {"axis": 1, "block_size": int(self.granularity)}
        if self.clip < 100:
            grid |= {"method": "percentile", "percentile": self.clip}
        scheme = QuantizationScheme[f"{self.scheme.upper()}_PER_{kind}"]
        return choose_params(a, scheme, bits or self.bits, **grid)

    def figure(self) -> Figure:
        """The still: signal and quantized, and SNR against bits, as matplotlib draws them."""
        a = self._arrays[self.array]
        figure, (left, right) = _axes(2.9, ncols=2)
        n = min(a.shape[1], 150)
        label = f"{self.spec['name']} ({self.spec['unit']})".replace(" ()", "")
        left.plot(a[0, :n], color=COLORS["signal"], linewidth=1.2, label="signal")
        left.step(
            range(n),
            fake_quantize(a, self.params())[0, :n],
            where="mid",
            color=COLORS["quantized"],
            linewidth=1.6,
            label=f"{self.bits} bits",
        )
        left.set(xlabel="sample", ylabel=label)
        snr = np.array([snr_db(a, fake_quantize(a, self.params(b))) for b in range(1, 17)])
        right.plot(
            range(1, 17),
            np.where(np.isfinite(snr), snr, np.nan),
            "o",
            markersize=4,
            color=COLORS["quantized"],
            label="measured",
        )
        slope = 20 * math.log10(2)
        rms, fine = np.sqrt(np.mean(a.astype(np.float64) ** 2)), self.params(16)
        if self.granularity == "tensor" and rms:
            half = float(fine.scale) * (fine.qmax - fine.qmin) / 2
            law = predicted_snr_db(np.arange(2, 17), half / rms)
            right.plot(range(2, 17), law, **LAW, label=f"law, {slope:.2f} dB per bit")
        right.set(xlabel="bits", ylabel="SNR (dB)", xticks=[1, 4, 8, 12, 16])
        for ax in (left, right):
            ax.legend(frameon=False, fontsize=8)
        return figure


def _clip(clip: float, me: str) -> float:
    if not 90 <= clip <= 100:
        raise ValueError(f"{me}: clip is {clip}; expected a percentile from 90 to 100")
    return float(clip)


def _rows(data: Any, me: str) -> dict[str, np.ndarray]:
    """{label: (rows, columns) float32} of one shape, from an array or a dict of arrays."""
    named = dict(data) if isinstance(data, Mapping) else {"data": data}
    arrays = {}
    for label, values in named.items():
        a = _checks.float32_array(values, me, str(label))
        if a.ndim not in (1, 2):
            raise ValueError(f"{me}: {label} has shape {a.shape}; expected (n,) or (channels, n)")
        arrays[str(label)] = a.reshape(-1, a.shape[-1])
    shapes = sorted({a.shape for a in arrays.values()})
    if len(shapes) != 1:
        raise ValueError(f"{me}: data has arrays of shapes {shapes or 'none'}; expected one shape")
    total = sum(a.size for a in arrays.values())
    if total > _MOST_VALUES:
        raise ValueError(
            f"{me}: data has {total:,} values; pass at most {_MOST_VALUES:,} "
            "(a slice), so that a slider step stays fast"
        )
    return arrays


# ---------------------------------------------------------------- a measured grid


class GridExplorer(_Explorer):
    """Shows measurements over a grid of settings: a curve, its interval, every measure here.

    dims: {name: list of values}, one control each (numbers: slider, text: select).
    measures: {name: dict(values=array over dims in order, low=, high= (interval), unit=,
    reference=(label, value), law=array, law_name="law", steps=True to draw levels level)}; NaN
    means not measured. x: the dimension on the x axis. start: {name: value} (first values
    otherwise). references: {measure: [(label, value), ...]}. units: {dimension: unit}.
    presets: {button: {dimension: value}}, named settings. guess: the name of a Predict on the page
    (curve or number), whose guess is drawn with the first measure. note: the source of the data.
    refresh: a callable that returns new (dims, measures, note); its button appears only while a
    kernel is alive. Raises ValueError for shapes and names that do not fit. Taught in chapter 17.

    >>> GridExplorer({"bits": [2, 4, 8]}, {"SNR": {"values": [7.0, 18.0, 41.0]}}, x="bits")
    GridExplorer(SNR over bits (3); at bits 2)
    >>> rows = [{"bits": b, "scheme": s, "snr": 6.0 * b} for b in (2, 4) for s in ("a", "b")]
    >>> GridExplorer.from_table(rows, {"snr": {"unit": "dB"}}, x="bits")
    GridExplorer(snr over bits (2) x scheme (2); at bits 2, scheme a)
    """

    _esm = _module("explorer_parts.js", "grid_explorer.js")
    values = tr.Bytes().tag(sync=True)
    point = tr.Dict().tag(sync=True)
    measure = tr.Unicode().tag(sync=True)
    pinned = tr.Dict().tag(sync=True)

    @classmethod
    def from_table(
        cls,
        table: Any,
        measures: Mapping[str, Mapping] | Sequence[str],
        *,
        x: str,
        dims: Sequence[str] | None = None,
        **options: Any,
    ) -> GridExplorer:
        """An explorer of a tidy table: a list of dicts, a dict of columns or a data frame.

        measures: the columns to show, or {column: dict(name=, unit=, low=, high=, law= (columns),
        reference=, steps=)}. dims: the columns that are settings (None: x and every other column
        of texts, integers or booleans with more than one value). A setting without a row is not
        measured; two rows for one setting are refused. options: those of GridExplorer; a refresh
        returns (table, note).
        """
        if not isinstance(measures, Mapping):
            measures = {name: {} for name in measures}
        if anew := options.get("refresh"):

            def again() -> tuple:
                fresh, note = anew()
                return (*_of_table(fresh, measures, x, dims), note)

            options["refresh"] = again
        return cls(*_of_table(table, measures, x, dims), x=x, **options)

    def __init__(
        self,
        dims: Mapping[str, Sequence],
        measures: Mapping[str, Mapping],
        *,
        x: str,
        start: Mapping[str, Any] | None = None,
        references: Mapping[str, Sequence] | None = None,
        note: str = "",
        refresh: Callable[[], tuple] | None = None,
        units: Mapping[str, str] | None = None,
        caption: str = "",
        presets: Mapping[str, Mapping] | None = None,
        guess: Any = "",
    ) -> None:
        self._refresh, self._x, self._start = refresh, x, dict(start or {})
        self._presets, self._guess = dict(presets or {}), str(guess)
        self._references, self._units = dict(references or {}), dict(units or {})
        self._caption = caption
        super().__init__(**self._state(dims, measures, note))
        self.on_msg(self._hear)

    def _state(self, dims: Mapping, measures: Mapping, note: str) -> dict[str, Any]:
        """Checked traits for these measurements; nothing changes if the check fails."""
        me = "GridExplorer"
        dims = {str(k): [_plain(v) for v in values] for k, values in dims.items()}
        if not dims or not all(dims.values()):
            raise ValueError(f"{me}: dims is {dims}; expected names with at least one value each")
        if not measures:
            raise ValueError(f"{me}: measures is empty; expected at least one")
        _one_of(me, "x", self._x, list(dims))
        for name in (*self._start, *self._units):
            _one_of(me, "start and units", name, list(dims))
        for name in self._references:
            _one_of(me, "references", name, list(measures))
        point = {
            k: v.index(_one_of(me, f"start[{k!r}]", self._start.get(k, v[0]), v))
            for k, v in dims.items()
        }
        presets = {}
        for name, setting in self._presets.items():
            for k, v in setting.items():
                _one_of(me, f"presets[{name!r}]", k, list(dims))
                _one_of(me, f"presets[{name!r}][{k!r}]", v, dims[k])
            presets[name] = {k: dims[k].index(v) for k, v in setting.items()}
        shape, buffer, described, offset = tuple(map(len, dims.values())), [], [], 0
        for name, m in measures.items():
            unknown = set(m) - {
                "values",
                "low",
                "high",
                "law",
                "unit",
                "reference",
                "law_name",
                "steps",
            }
            if "values" not in m or unknown:
                raise ValueError(
                    f"{me}: measure {name!r} has keys {sorted(m)}; expected values "
                    "and some of low, high, law, law_name, unit, reference, steps"
                )
            parts = {}
            for key in ("values", "low", "high", "law"):
                if m.get(key) is None:
                    continue
                a = np.asarray(m[key], np.float64).astype(np.float32)
                if a.shape != shape:
                    raise ValueError(
                        f"{me}: {key} of {name!r} has shape {a.shape}; dims "
                        f"{', '.join(dims)} need {shape}"
                    )
                parts[key], offset = offset, offset + a.size
                buffer.append(np.ascontiguousarray(a))
            lines = [
                *([m["reference"]] if m.get("reference") else []),
                *self._references.get(name, []),
            ]
            described.append(
                {
                    "name": name,
                    "unit": m.get("unit", ""),
                    "parts": parts,
                    "law_name": m.get("law_name", "law"),
                    "steps": bool(m.get("steps")),
                    "references": [[str(k), float(v)] for k, v in lines],
                }
            )
        self._arrays = np.concatenate([a.ravel() for a in buffer])
        spec = {
            "title": f"Explorer: measurements over {', '.join(dims)}",
            "x": self._x,
            "note": note,
            "dims": [
                {"name": k, "values": v, "unit": self._units.get(k, "")} for k, v in dims.items()
            ],
            "measures": described,
            "start": point,
            "caption": self._caption,
            "presets": presets,
            "guess": self._guess,
            "refresh": self._refresh is not None,
        }
        first = described[0]["name"]
        measure = self.measure if self.measure in measures else first
        state = {"spec": spec, "values": self._arrays.tobytes(), "point": point, "pinned": {}}
        return state | {"measure": measure}

    def __repr__(self) -> str:
        dims = self.spec["dims"]
        names = ", ".join(m["name"] for m in self.spec["measures"])
        shape = " x ".join(f"{d['name']} ({len(d['values'])})" for d in dims)
        here = ", ".join(f"{d['name']} {d['values'][self.point[d['name']]]}" for d in dims)
        return f"GridExplorer({names} over {shape}; at {here})"

    def figure(self) -> Figure:
        """The still: the chosen measure against x, the current settings in orange."""
        dims, m = (
            self.spec["dims"],
            next(m for m in self.spec["measures"] if m["name"] == self.measure),
        )
        shape = tuple(len(d["values"]) for d in dims)
        part = {
            k: self._arrays[o : o + math.prod(shape)].reshape(shape) for k, o in m["parts"].items()
        }
        x = next(d for d in dims if d["name"] == self._x)
        at = range(len(x["values"]))
        numeric = all(isinstance(v, (int, float)) for v in x["values"])
        where = x["values"] if numeric else at
        figure, (ax,) = _axes(3.2)
        others = [range(len(d["values"])) if d is not x else [slice(None)] for d in dims]
        settings = list(product(*others))
        for index in settings[:: max(1, -(-len(settings) // 5))]:
            ax.plot(where, part["values"][index], color=COLORS["limit"], linewidth=0.8)
        here = tuple(slice(None) if d is x else self.point[d["name"]] for d in dims)
        if "low" in part and "high" in part:
            ax.fill_between(
                where,
                part["low"][here],
                part["high"][here],
                alpha=0.2,
                linewidth=0,
                color=COLORS["quantized"],
                label="interval",
            )
        for label, value in m["references"]:
            ax.axhline(value, color=COLORS["signal"], linewidth=1)
            ax.annotate(
                f"{label} {value:.4g}",
                (1, value),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=8,
            )
        if "law" in part:
            ax.plot(where, part["law"][here], **LAW, label=m["law_name"])
        label = ", ".join(
            f"{d['name']} {d['values'][self.point[d['name']]]}" for d in dims if d is not x
        )
        ax.plot(
            where,
            part["values"][here],
            "o-",
            color=COLORS["quantized"],
            markersize=4,
            label=label or m["name"],
        )
        if numeric and min(where) > 0 and max(where) / min(where) >= 50:
            ax.set_xscale("log")
        if not numeric or len(where) <= 12:
            ax.set_xticks(list(where), [str(v) for v in x["values"]])
            ax.minorticks_off()
        unit = f" ({m['unit']})" if m["unit"] else ""
        ax.set(xlabel=x["name"], ylabel=m["name"] + unit)
        ax.legend(frameon=False, fontsize=8)
        return figure


def _of_table(
    table: Any, measures: Mapping[str, Mapping], x: str, dims: Sequence[str] | None
) -> tuple[dict, dict]:
    """The dims and measures of GridExplorer for a tidy table."""
    me = "GridExplorer.from_table"
    columns = _columns(table, me)
    parts = ("low", "high", "law")
    taken = {*measures, *(m[k] for m in measures.values() for k in parts if k in m)}
    for name in (*taken, *(dims or ()), x):
        _one_of(me, "column", name, list(columns))
    if dims is None:
        dims = [k for k in columns if k == x or (k not in taken and _is_setting(columns[k]))]
    levels = {k: list(dict.fromkeys(columns[k])) for k in dims}
    for k, values in levels.items():
        if not any(isinstance(v, str) for v in values):
            levels[k] = sorted(values)
    places = [tuple(v.index(columns[k][i]) for k, v in levels.items()) for i in _rows_of(columns)]
    if len(set(places)) < len(places):
        twice = next(p for p in places if places.count(p) > 1)
        at = ", ".join(f"{k}={v[i]!r}" for (k, v), i in zip(levels.items(), twice, strict=True))
        raise ValueError(f"{me}: {at} has several rows; name every setting in dims, or average")

    def spread(column: str) -> np.ndarray:
        grid = np.full([len(v) for v in levels.values()], np.nan)
        for place, value in zip(places, columns[column], strict=True):
            grid[place] = np.nan if value is None else value
        return grid

    shown = {}
    for column, m in measures.items():
        given = {k: v for k, v in m.items() if k not in ("name", *parts)}
        given |= {k: spread(m[k]) for k in parts if k in m}
        shown[m.get("name", column)] = {"values": spread(column), **given}
    return levels, shown


def _columns(table: Any, me: str) -> dict[str, list]:
    """A table as {column: list of values}, plain Python values."""
    if isinstance(table, Mapping) or hasattr(table, "columns"):
        names = list(table) if isinstance(table, Mapping) else list(table.columns)
        columns = {str(k): [_plain(v) for v in table[k]] for k in names}
    else:
        rows = list(table)
        columns = {str(k): [_plain(r.get(k)) for r in rows] for r in rows[:1] for k in r}
    lengths = sorted({len(v) for v in columns.values()})
    if len(lengths) != 1 or lengths == [0]:
        raise ValueError(f"{me}: table has columns of {lengths or 'no'} rows; expected one length")
    return columns


def _rows_of(columns: Mapping[str, list]) -> range:
    return range(len(next(iter(columns.values()))))


def _is_setting(values: list) -> bool:
    return len(set(values)) > 1 and all(isinstance(v, (str, int)) for v in values)


def _plain(value: Any) -> Any:
    """A value of a dimension as JSON knows it: number or text."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, (int, float, str)) else str(value)
