"""Things to grab: one object each, drawn with handles that the reader drags in the page.

Like the explorers they live without a kernel, are live in JupyterLab, and leave a still PNG where
there is no JavaScript. A chapter feeds data; it writes no JavaScript.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets as tr
from matplotlib.figure import Figure

from quantlab import _checks
from quantlab.calibration import choose_params
from quantlab.scheme import QuantizationParams, QuantizationScheme
from quantlab.teach.figures import COLORS, limit_span
from quantlab.teach.widgets import _CSS, _HERE, _MOST_VALUES, _axes, _Explorer, _module, _one_of
from quantlab.tensor import fake_quantize


def _esm(name: str) -> str:
    return _module("explorer_arithmetic.js", "explorer_parts.js", "grab_parts.js", name)


class _Object(_Explorer):
    """What the things to grab share: their look, and one flat array checked in one place."""

    _css = _CSS + (_HERE / "grab.css").read_text("utf-8")
    data = tr.Bytes().tag(sync=True)

    def _flat(self, x: Any, name: str = "data") -> np.ndarray:
        me = type(self).__name__
        x = _checks.float32_array(x, me, name)
        if x.ndim != 1:
            raise ValueError(
                f"{me}: {name} has shape {x.shape}; expected (n,): pass {name}.ravel()"
            )
        if x.size > _MOST_VALUES:
            raise ValueError(f"{me}: {name} has {x.size:,} values; pass at most {_MOST_VALUES:,}")
        return x

    def _inside(self, name: str, value: Any, low: float, high: float) -> float:
        try:
            value = float(value)
        except (TypeError, ValueError):
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(
                f"{type(self).__name__}: {name} is {value:g}; expected {low:.4g} to {high:.4g}"
            )
        return value


class Ruler(_Object):
    """A number line whose marks are the levels of a grid, with the histogram of the data behind.

    The reader drags a value, an end of the range, or the bits, and sees the value travel through
    scale, rounding and back, its error in blue; may zoom into one step, and hunt for the value
    that loses most (scored against the true worst: ends, and halves between marks).
    data: real array (n,), at most 100,000 values, not constant zero; name and unit: what they are.
    value: where the dot starts (None: the 90th percentile of the magnitudes). bits 2 to 8.
    scheme "symmetric" (both ends move together, zero point 0) or "asymmetric". clip: the
    symmetric end, or (low, high) with zero inside; None: the data's own range.
    The grid is choose_params of the two ends; traits value, low, high, bits follow the hand.
    Raises ValueError for bad data or a start outside its limits. Taught in chapter 2.

    >>> Ruler(np.linspace(-1, 1, 64), name="ramp", unit="", bits=3, value=0.3)
    Ruler(ramp: 64 values; 3 bits over -1 to 1, 0.3 becomes 0.333)
    """

    _esm = _esm("ruler.js")
    value = tr.Float().tag(sync=True)
    low = tr.Float().tag(sync=True)
    high = tr.Float().tag(sync=True)
    bits = tr.Int(3, min=2, max=8).tag(sync=True)

    def __init__(
        self,
        data: Any,
        *,
        name: str = "return",
        unit: str = "%",
        bits: int = 3,
        scheme: str = "symmetric",
        value: float | None = None,
        clip: float | tuple[float, float] | None = None,
        caption: str = "",
    ) -> None:
        me = "Ruler"
        self._x = self._flat(data)
        low, high = float(self._x.min()), float(self._x.max())
        size = max(-low, high)
        if not 1e-30 <= size <= 1e30:
            raise ValueError(
                f"{me}: data reaches {size:g}; expected magnitudes of 1e-30 to 1e30, not all zero"
            )
        _one_of(me, "scheme", scheme, ("symmetric", "asymmetric"))
        low, high = min(low, 0.0), max(high, 0.0)
        paired = scheme == "symmetric"
        reach = 1.12 * size if paired else 0.12 * (high - low)
        reach = (-reach, reach) if paired else (low - reach, high + reach)
        if clip is None:
            clip = size if paired else (low, high)
        ends = _checks.real_array(clip, me, "clip")
        if ends.shape not in ((), (2,)):
            raise ValueError(f"{me}: clip has shape {ends.shape}; expected one end, or (low, high)")
        first, last = (-ends, ends) if ends.ndim == 0 else ends
        if value is None:
            value = float(np.percentile(np.abs(self._x.astype(np.float64)), 90))
            value = min(value, high) if high else -value
        start = {
            "value": self._inside("value", value, low, high),
            "low": self._inside("clip", first, reach[0], 0),
            "high": self._inside("clip", last, 0, reach[1]),
            "bits": _checks.integer(bits, me, "bits", 2, 8),
        }
        if start["low"] == start["high"]:
            raise ValueError(f"{me}: clip is {clip}; expected a range wider than zero")
        spec = {
            "title": f"Ruler: {name} on a grid",
            "name": name,
            "unit": unit,
            "scheme": scheme,
            "reach": reach,
            "ends": [low, high],
            "start": start,
            "caption": caption,
        }
        super().__init__(spec=spec, data=self._x.tobytes(), **start)

    def params(self) -> QuantizationParams:
        """The grid over the present range."""
        scheme = QuantizationScheme[f"{self.spec['scheme'].upper()}_PER_TENSOR"]
        return choose_params([self.low, self.high], scheme, self.bits)

    def __repr__(self) -> str:
        back = float(fake_quantize([self.value], self.params())[0])
        return (
            f"Ruler({self.spec['name']}: {len(self._x):,} values; {self.bits} bits over "
            f"{self.low:.3g} to {self.high:.3g}, {self.value:.3g} becomes {back:.3g})"
        )

    def figure(self) -> Figure:
        """The still: histogram, marks, and the value with its error."""
        figure, (ax,) = _axes(2.6)
        p, reach = self.params(), self.spec["reach"]
        ax.hist(self._x, 80, range=reach, color=COLORS["signal"], alpha=0.5)
        levels = (np.arange(p.qmin, p.qmax + 1) - p.zero_point) * p.scale
        for level in levels:
            ax.axvline(level, 0, 0.25, color=COLORS["quantized"], linewidth=1.5)
        limit_span(ax, reach[0], float(levels[0]))
        limit_span(ax, float(levels[-1]), reach[1])
        back = float(fake_quantize([self.value], p)[0])
        height = 0.35 * ax.get_ylim()[1]
        ax.plot([self.value, back], [height, height], color=COLORS["error"], linewidth=4)
        ax.plot(self.value, height, "o", color=COLORS["signal"])
        ax.plot(back, height, "|", color=COLORS["quantized"], markersize=16, markeredgewidth=3)
        unit = f" ({self.spec['unit']})" if self.spec["unit"] else ""
        ax.set(xlabel=self.spec["name"] + unit, ylabel="values", xlim=reach)
        return figure
