"""Things to grab: one object each, drawn with handles that the reader drags in the page.

Like the explorers they live without a kernel, are live in JupyterLab, and leave a still PNG where
there is no JavaScript. A chapter feeds data; it writes no JavaScript.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets as tr
from matplotlib.figure import Figure

from quantlab import _checks
from quantlab.calibration import choose_params
from quantlab.error import mse
from quantlab.integer import fixed_point_multiplier, quantized_matmul, requantize
from quantlab.market.features import FeatureScaler
from quantlab.scheme import QuantizationParams, QuantizationScheme
from quantlab.teach.figures import COLORS, LAW, limit_span
from quantlab.teach.widgets import _CSS, _HERE, _MOST_VALUES, _axes, _Explorer, _module, _one_of
from quantlab.tensor import QuantizedTensor, fake_quantize, quantize, ste_gradient


def _esm(name: str) -> str:
    return _module("explorer_arithmetic.js", "explorer_parts.js", "grab_parts.js", name)


class _Object(_Explorer):
    """What the things to grab share: their look, and one flat array checked in one place."""

    _css = _CSS + (_HERE / "grab.css").read_text("utf-8")
    data = tr.Bytes().tag(sync=True)

    def _begin(self, spec: dict, start: dict, caption: str, *arrays: np.ndarray) -> None:
        spec = {"limits": {}, "start": start, "caption": caption} | spec
        spec["choices"] = {"bits": list(range(2, 9))} | spec.get("choices", {})
        data = b"".join(np.float32(a).tobytes() for a in arrays)
        super().__init__(spec=spec, data=data, **start)

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

    def _size(self, x: np.ndarray) -> float:
        size = float(np.abs(x).max())
        if not 1e-30 <= size <= 1e30:
            raise ValueError(
                f"{type(self).__name__}: data reaches {size:g}; expected magnitudes of 1e-30 to "
                "1e30, not all zero"
            )
        return size


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
        size = self._size(self._x)
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
            "limits": {"value": [low, high], "low": [reach[0], 0], "high": [0, reach[1]]},
        }
        self._begin(spec, start, caption, self._x)

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


_CLIPS = {
    m: m.lower().replace("-", "") for m in ("min-max", "percentile", "MSE", "ACIQ", "entropy")
}


class Clip(_Object):
    """A clip to drag over a histogram, and below it the U of the error on the same axis.

    Beyond the clip values overload, below it they are rounded: each noise in its color, and the
    sum a curve with a bottom. Buttons put the methods of choose_params on the line. A wrong tick,
    `wrong` times the largest magnitude, shows which methods run after it; the error is always
    that of the data without it.
    data: real array (n,), at most 100,000 values (4,000 redraw within a frame), not all zero.
    bits 2 to 8, a symmetric grid; clip: where it starts (None: min-max, nothing clipped). Traits
    clip, bits, wrong and method ("" once dragged) follow the hand.
    Raises ValueError for bad data or a start outside its limits. Taught in chapter 3.

    >>> Clip(np.linspace(-1, 1, 65), name="ramp", unit="", bits=4)
    Clip(ramp: 65 values; 4 bits, clip 1, rms error 0.041)
    """

    _esm = _esm("clip.js")
    clip = tr.Float().tag(sync=True)
    bits = tr.Int(4, min=2, max=8).tag(sync=True)
    wrong = tr.Int(0, min=0, max=1).tag(sync=True)
    method = tr.Unicode().tag(sync=True)

    def __init__(
        self,
        data: Any,
        *,
        name: str = "return",
        unit: str = "%",
        bits: int = 4,
        clip: float | None = None,
        wrong: float = 4.0,
        caption: str = "",
    ) -> None:
        self._x = self._flat(data)
        largest = self._size(self._x)
        tick = largest * self._inside("wrong", wrong, 1.1, 20)
        start = {
            "clip": largest if clip is None else self._inside("clip", clip, largest / 50, largest),
            "bits": _checks.integer(bits, "Clip", "bits", 2, 8),
            "wrong": 0,
            "method": "min-max" if clip is None else "",
        }
        samples = (self._x, np.append(self._x, np.float32(tick)))
        methods = {
            label: [[self._alpha(x, b, method) for b in range(2, 9)] for x in samples]
            for label, method in _CLIPS.items()
        }
        spec = {
            "title": f"Clip: where to cut {name}",
            "name": name,
            "unit": unit,
            "largest": largest,
            "tick": tick,
            "methods": methods,
            "limits": {"clip": [largest / 50, tick]},
            "choices": {"wrong": [0, 1], "method": ["", *methods]},
        }
        self._begin(spec, start, caption, self._x)

    @staticmethod
    def _alpha(x: np.ndarray, bits: int, method: str) -> float:
        p = choose_params(x, QuantizationScheme.SYMMETRIC_PER_TENSOR, bits, method=method)
        return float(p.scale * np.float32(p.qmax))

    def _rms(self, clip: float) -> float:
        p = choose_params([clip], QuantizationScheme.SYMMETRIC_PER_TENSOR, self.bits)
        return float(np.sqrt(mse(self._x, fake_quantize(self._x, p))))

    def __repr__(self) -> str:
        return (
            f"Clip({self.spec['name']}: {len(self._x):,} values; {self.bits} bits, "
            f"clip {self.clip:.3g}, rms error {self._rms(self.clip):.3g})"
        )

    def figure(self) -> Figure:
        """The still: the histogram with the clip, and the error against the clip."""
        figure, (left, right) = _axes(2.8, ncols=2)
        largest, unit = self.spec["largest"], self.spec["unit"] and f" ({self.spec['unit']})"
        left.hist(self._x, 80, color=COLORS["signal"], alpha=0.6)
        left.set(xlabel=self.spec["name"] + unit, ylabel="values", yscale="log")
        for sign in (-1, 1):
            left.axvline(sign * self.clip, color=COLORS["quantized"])
        clips = np.geomspace(largest / 50, largest, 60)
        right.plot(clips, [self._rms(c) for c in clips], color=COLORS["quantized"])
        for label, alphas in self.spec["methods"].items():
            at = alphas[0][self.bits - 2]
            right.plot(at, self._rms(at), "o", color=COLORS["law"], markersize=4)
            right.annotate(label, (at, self._rms(at)), fontsize=7, rotation=40)
        right.set(xlabel="clip" + unit, ylabel="rms error" + unit, yscale="log")
        return figure


class Decision(_Object):
    """Every row a dot, its float logit against its quantized one; those that change sides light up.

    The reader takes bits away, drags the threshold (and the fee), and clicks a dot to see its
    features and both answers. logits: (n,) of the float model, at most 5,000 rows. quantized:
    {bits: (n,)}, the logits of the same rows at each bit width. features: (n, f) and names (f,),
    shown as they are; targets: (n,) bool, the truth. gains: (n,), what a yes earns before the
    fee, in `unit`: adds the fee and what both models earn. answers: the words for no and yes;
    name: what is drawn, if it is not a logit.
    A logit above the threshold is a yes. Traits bits, threshold, fee and picked (a row) follow
    the hand. Raises ValueError for shapes that do not fit and bad values. Taught in chapter 6.

    >>> logits = np.linspace(-1, 1, 9)
    >>> Decision(logits, {2: np.round(logits), 8: logits}, bits=2)
    Decision(9 rows; 2 bits, threshold 0: 2 answers change)
    """

    _esm = _esm("decision.js")
    bits = tr.Int(8).tag(sync=True)
    threshold = tr.Float(0.0).tag(sync=True)
    fee = tr.Float(0.0).tag(sync=True)
    picked = tr.Int(0).tag(sync=True)

    def __init__(
        self,
        logits: Any,
        quantized: Mapping[int, Any],
        *,
        features: Any = None,
        names: Sequence[str] = (),
        targets: Any = None,
        gains: Any = None,
        unit: str = "%",
        fee: float = 0.0,
        bits: int | None = None,
        threshold: float = 0.0,
        answers: tuple[str, str] = ("no", "yes"),
        name: str = "logit",
        caption: str = "",
    ) -> None:
        me = "Decision"
        self._float = self._flat(logits, "logits")
        n = len(self._float)
        if n > 5000:
            raise ValueError(f"{me}: logits has {n:,} rows; pass at most 5,000 (a slice)")
        if not quantized:
            raise ValueError(f"{me}: quantized is empty; expected {{bits: logits}}")
        widths = sorted(_checks.integer(b, me, "bits in quantized", 1, 32) for b in quantized)
        self._quantized = {b: self._flat(quantized[b], f"quantized[{b}]") for b in widths}
        x = np.zeros((n, 0)) if features is None else np.asarray(features)
        x = _checks.float32_array(x, me, "features") if x.size else x
        columns = {f"quantized[{b}]": q for b, q in self._quantized.items()} | {"features": x}
        for label, given in (("targets", targets), ("gains", gains)):
            if given is not None:
                columns[label] = self._flat(given, label)
        for label, column in columns.items():
            if len(column) != n:
                raise ValueError(f"{me}: {label} has {len(column)} rows, logits has {n}")
        if x.ndim != 2 or x.shape[1] != len(names):
            raise ValueError(
                f"{me}: features has shape {x.shape}, names has {len(names)}; expected (n, names)"
            )
        every = np.concatenate([self._float, [threshold]])
        low, high = np.percentile(every, [0.2, 99.8])
        low, high = min(low, -1e-6), max(high, 1e-6)
        view = [float(low - 0.06 * (high - low)), float(high + 0.06 * (high - low))]
        most = 4 * float(np.abs(columns["gains"]).mean()) if gains is not None else 0.0
        most_fee = max(most, 2 * fee) or 1.0
        start = {
            "bits": _one_of(me, "bits", widths[0] if bits is None else bits, widths),
            "threshold": self._inside("threshold", threshold, *view),
            "fee": self._inside("fee", fee, 0, most_fee),
        }
        t, q = np.float32(threshold), self._quantized[start["bits"]]
        flipped = (self._float > t) != (q > t)  # the surest answer that changes, if one does
        start["picked"] = int(np.argmax(flipped * (1 + np.abs(self._float - t))))
        spec = {
            "title": "Decisions: float against quantized",
            "name": name,
            "n": n,
            "widths": widths,
            "features": [str(f) for f in names],
            "targets": targets is not None,
            "gains": gains is not None,
            "most_fee": most_fee,
            "unit": unit,
            "view": view,
            "answers": list(answers),
            "limits": {"threshold": view, "fee": [0, most_fee], "picked": [0, n - 1]},
            "choices": {"bits": widths},
        }
        self._begin(spec, start, caption, self._float, *columns.values())

    def flips(self) -> np.ndarray:
        """The rows whose answer changes at the present bits and threshold, (k,) int."""
        t = np.float32(self.threshold)
        return np.flatnonzero((self._float > t) != (self._quantized[self.bits] > t))

    def __repr__(self) -> str:
        return (
            f"Decision({len(self._float):,} rows; {self.bits} bits, threshold "
            f"{self.threshold:g}: {len(self.flips()):,} answers change)"
        )

    def figure(self) -> Figure:
        """The still: both logits, and the rows that changed sides."""
        figure, (ax,) = _axes(3.4)
        q, flips, view = self._quantized[self.bits], self.flips(), self.spec["view"]
        ax.plot(self._float, q, "o", color=COLORS["signal"], markersize=3, alpha=0.4)
        ax.plot(self._float[flips], q[flips], "o", color=COLORS["quantized"], label="flipped")
        ax.axhline(self.threshold, color=COLORS["law"], linewidth=0.8)
        ax.axvline(self.threshold, color=COLORS["law"], linewidth=0.8)
        names = f"{self.spec['name']} in float32", f"{self.spec['name']} at {self.bits} bits"
        ax.set(xlim=view, ylim=view, xlabel=names[0], ylabel=names[1])
        ax.legend(frameon=False, fontsize=8)
        return figure


class Matrix(_Object):
    """X times W in codes: drag a code, click a product, step through its sum.

    The four sums of (x - Zx)(w - Zw) are colored blocks: the row term goes with a zero point of 0
    for W, the column terms fold into the bias. Areas of one color share a scale.
    x: real (m, k), one asymmetric grid; w: real (k, n); m and n at most 4, k at most 6. bits 2 to
    8. weights "asymmetric" or "symmetric"; per "tensor", "channel" (a column of W) or "group" (half
    a column, k even). Codes and accumulators are those of quantize and quantized_matmul. Traits
    values (x by rows, then w by columns), bits, weights, per, step, picked and folded follow the
    hand.
    Raises ValueError for shapes that do not fit and bad values. Taught in chapter 4.

    >>> Matrix([[0.5, 1.0]], [[1.0], [-0.5]], bits=4)
    Matrix((1, 2) @ (2, 1) at 4 bits, W asymmetric per tensor)
    """

    _esm = _esm("matrix.js")
    values = tr.List(tr.Float()).tag(sync=True)
    bits = tr.Int(4, min=2, max=8).tag(sync=True)
    weights = tr.Unicode("asymmetric").tag(sync=True)
    per = tr.Unicode("tensor").tag(sync=True)
    step = tr.Int(0).tag(sync=True)
    picked = tr.Int(0).tag(sync=True)
    folded = tr.Int(0, min=0, max=1).tag(sync=True)

    def __init__(
        self,
        x: Any,
        w: Any,
        *,
        bits: int = 4,
        weights: str = "asymmetric",
        per: str = "tensor",
        caption: str = "",
    ) -> None:
        me = "Matrix"
        x, w = (_checks.float32_array(a, me, label) for a, label in ((x, "x"), (w, "w")))
        if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
            raise ValueError(f"{me}: x {x.shape} and w {w.shape}; expected (m, k) and (k, n)")
        (m, k), n = x.shape, w.shape[1]
        if m > 4 or n > 4 or k > 6:
            raise ValueError(
                f"{me}: m, k, n are {m}, {k}, {n}; expected at most 4, 6, 4 (a corner)"
            )
        shares = ["tensor", "channel", "group"][: 3 - k % 2]
        reach = [1.5 * self._size(x), 1.5 * self._size(w)]
        start = {
            "values": [float(v) for v in (*x.ravel(), *w.T.ravel())],
            "bits": _checks.integer(bits, me, "bits", 2, 8),
            "weights": _one_of(me, "weights", weights, ("asymmetric", "symmetric")),
            "per": _one_of(me, "per", per, shares),
            "step": k,
            "picked": 0,
            "folded": 0,
        }
        spec = {
            "title": "Matrix: a product of codes",
            "m": m,
            "k": k,
            "n": n,
            "reach": reach,
            "limits": {"picked": [0, m * n - 1], "values": [-max(reach), max(reach)]},
            "choices": {
                "weights": ["asymmetric", "symmetric"],
                "per": shares,
                "step": list(range(k + 1)),
                "folded": [0, 1],
            },
        }
        self._begin(spec, start, caption)

    def tensors(self) -> tuple[QuantizedTensor, QuantizedTensor]:
        """X and W as they stand, quantized: quantized_matmul of them gives the accumulators."""
        m, k, n = (self.spec[label] for label in "mkn")
        x = np.float32(self.values[: m * k]).reshape(m, k)
        w = np.float32(self.values[m * k :]).reshape(n, k).T
        grouped = self.per == "group"
        kind = "TENSOR" if grouped else self.per.upper()
        cut = {"axis": 0, "block_size": k // 2} if grouped else {"axis": 1}
        scheme = QuantizationScheme[f"{self.weights.upper()}_PER_{kind}"]
        free = choose_params(x, QuantizationScheme.ASYMMETRIC_PER_TENSOR, self.bits)
        return quantize(x, free), quantize(w, choose_params(w, scheme, self.bits, **cut))

    def __repr__(self) -> str:
        m, k, n = (self.spec[label] for label in "mkn")
        return (
            f"Matrix(({m}, {k}) @ ({k}, {n}) at {self.bits} bits, W {self.weights} per {self.per})"
        )

    def figure(self) -> Figure:
        """The still: the codes of X, of W, and their accumulators."""
        figure, axes = _axes(2.4, ncols=3)
        x, w = self.tensors()
        grouped = self.per == "group"  # each output then has two sums; shown is what they give
        product = (
            np.round(x.dequantize() @ w.dequantize(), 2) if grouped else quantized_matmul(x, w)
        )
        for ax, label, codes in zip(
            axes, ("X", "W", "X W"), (x.codes, w.codes, product), strict=True
        ):
            ax.imshow(codes, cmap="cividis", alpha=0.35)
            for (i, j), code in np.ndenumerate(codes):
                ax.text(j, i, str(code), ha="center", va="center", fontsize=9)
            ax.set(xlabel=label, xticks=[], yticks=[])
            ax.grid(False)
        return figure


class Accumulator(_Object):
    """One sum of products of codes: it grows, fits or wraps, and comes back as a code.

    The reader adds products (the row repeats where K goes beyond it), sets the bits of the codes
    and of the accumulator, and sees where the sum of this row, or of the largest codes there are,
    leaves the register; one fixed-point multiplication brings what is left to the output grid.
    x, w: real (n,), inputs and weights of one output, n at most 4,096; x on an asymmetric grid, w
    on a symmetric one. out: the range (low, high) of the output grid (None: what the row reaches).
    k: products so far, 1 to 131,072 (None: n); bits 2 to 8; width 8 to 32; inputs "row" or
    "worst". Codes and sums are those of quantize, quantized_matmul and requantize. Traits k, bits,
    width and inputs follow the hand.
    Raises ValueError for shapes that do not fit and bad values. Taught in chapter 9.

    >>> a = Accumulator([0.5, 1.0, 0.2], [1.0, 0.6, -0.4], width=16)
    >>> a, a.code()
    (Accumulator(3 products of 8-bit codes: 32,908 needs 17 bits of 16), -128)
    """

    _esm = _esm("accumulator.js")
    k = tr.Int(1, min=1, max=2**17).tag(sync=True)
    bits = tr.Int(8, min=2, max=8).tag(sync=True)
    width = tr.Int(16, min=8, max=32).tag(sync=True)
    inputs = tr.Unicode("row").tag(sync=True)

    def __init__(
        self,
        x: Any,
        w: Any,
        *,
        out: tuple[float, float] | None = None,
        k: int | None = None,
        bits: int = 8,
        width: int = 16,
        inputs: str = "row",
        caption: str = "",
    ) -> None:
        me = "Accumulator"
        self._x, self._w = self._flat(x, "x"), self._flat(w, "w")
        n = len(self._x)
        if len(self._w) != n or n > 4096:
            raise ValueError(
                f"{me}: x has {n:,} values, w {len(self._w):,}; expected as many, at most 4,096"
            )
        self._size(self._x), self._size(self._w)
        if out is None:
            sums = np.cumsum(self._x.astype(np.float64) * self._w)
            out = (min(0.0, float(sums.min())), max(0.0, float(sums.max())))
        ends = _checks.float32_array(out, me, "out")
        if ends.shape != (2,) or not ends[0] <= 0 <= ends[1] or ends[0] == ends[1]:
            raise ValueError(f"{me}: out is {out}; expected (low, high) around 0")
        choices = {"width": list(range(8, 33)), "inputs": ["row", "worst"]}
        start = {
            "k": _checks.integer(n if k is None else k, me, "k", 1, 2**17),
            "bits": _checks.integer(bits, me, "bits", 2, 8),
            "width": _checks.integer(width, me, "width", 8, 32),
            "inputs": _one_of(me, "inputs", inputs, choices["inputs"]),
        }
        spec = {
            "title": "Accumulator: a sum of products and its register",
            "n": n,
            "out": [float(e) for e in ends],
            "limits": {"k": [1, 2**17]},
            "choices": choices,
        }
        self._begin(spec, start, caption, self._x, self._w)

    def tensors(self) -> tuple[QuantizedTensor, QuantizedTensor, QuantizationParams]:
        """Codes of x (1, n) and of w (n, 1), and the output grid, at the present bits."""
        free, centered = (
            QuantizationScheme[f"{s}_PER_TENSOR"] for s in ("ASYMMETRIC", "SYMMETRIC")
        )
        x = quantize(self._x[None], choose_params(self._x, free, self.bits))
        w = quantize(self._w[:, None], choose_params(self._w, centered, self.bits))
        return x, w, choose_params(self.spec["out"], free, self.bits)

    def sum(self) -> int:
        """The sum of the present products, exact."""
        x, w, _ = self.tensors()
        if self.inputs == "worst":
            return self.k * (2**self.bits - 1) * w.params.qmax
        terms = (x.codes[0].astype(np.int64) - x.params.zero_point) * w.codes[:, 0]
        return int(terms.sum()) * (self.k // len(terms)) + int(terms[: self.k % len(terms)].sum())

    def kept(self) -> int:
        """What the accumulator holds: the sum in `width` bits of two's complement."""
        half = 1 << (self.width - 1)
        return (self.sum() + half) % (2 * half) - half

    def code(self) -> int:
        """The code that comes out of the accumulator."""
        x, w, out = self.tensors()
        real = np.float64(x.params.scale) * np.float64(w.params.scale) / np.float64(out.scale)
        m, shift = fixed_point_multiplier(real)
        return int(requantize(self.kept(), m, shift, int(out.zero_point), out.qmin, out.qmax))

    def __repr__(self) -> str:
        total = self.sum()
        need = (total if total >= 0 else ~total).bit_length() + 1
        return (
            f"Accumulator({self.k:,} products of {self.bits}-bit codes: {total:,} needs {need} "
            f"bits of {self.width})"
        )

    def figure(self) -> Figure:
        """The still: bits of the sum against the products, and where the accumulator ends."""
        figure, (ax,) = _axes(2.8)
        ks, term = np.geomspace(1, 2**17, 120), (2**self.bits - 1) * (2 ** (self.bits - 1) - 1)
        ax.plot(ks, np.log2(ks * term) + 1, **LAW, label="largest codes")
        ax.plot(self.k, np.log2(abs(self.sum()) + 1) + 1, "o", color=COLORS["signal"], label="now")
        ax.axhspan(self.width, 36, facecolor="none", edgecolor=COLORS["limit"], hatch="///", lw=0)
        ax.set(xlabel="products in the sum, K", ylabel="bits of the sum", xscale="log")
        ax.set(ylim=(0, 36), yticks=[8, 16, 24, 32])
        ax.legend(frameon=False, fontsize=8, loc="upper left")
        return figure


class Candle(_Object):
    """A strip of candles with one long wick to pull, and what it does to the levels of all others.

    Below the strip stand the ranges of all candles on one axis with the levels of two scalings:
    min-max levels follow the longest candle, those of log z-scores stay. A scrubber lets the last
    candle grow from its parts, as an open candle does. candles: Candles (or anything with open,
    high, low, close of (n,)), oldest first; every: how many of them make one candle of the strip
    and are its parts; show: candles in the strip, around the widest. bits 2 to 8.
    Codes are those of FeatureScaler and choose_params. Traits low (a price), part and bits follow
    the hand. Raises ValueError for too few candles and bad values. Taught in chapter 13.

    >>> from quantlab.market import synthetic_candles
    >>> Candle(synthetic_candles(6000, seed=7))
    Candle(500 candles of 12 parts, longest 8.29 %; 4 bits)
    """

    _esm = _esm("candle.js")
    low = tr.Float().tag(sync=True)
    part = tr.Int(1).tag(sync=True)
    bits = tr.Int(4, min=2, max=8).tag(sync=True)

    def __init__(
        self, candles: Any, *, every: int = 12, show: int = 40, bits: int = 4, caption: str = ""
    ) -> None:
        me = "Candle"
        every = _checks.integer(every, me, "every", 2, 60)
        show = _checks.integer(show, me, "show", 10, 80)
        names = ("open", "high", "low", "close")
        fine = np.stack(
            [_checks.real_array(getattr(candles, k), me, k).astype(np.float64) for k in names], 1
        )
        n = len(fine) // every
        if n < show or n > 20_000:
            raise ValueError(
                f"{me}: {len(fine):,} candles make {n:,} of {every} parts; "
                f"expected {show} to 20,000"
            )
        if not (fine > 0).all():
            raise ValueError(f"{me}: prices must be positive; the lowest is {fine.min():g}")
        groups = fine[len(fine) - n * every :].reshape(n, every, 4)
        whole = np.stack(
            [groups[:, 0, 0], groups[..., 1].max(1), groups[..., 2].min(1), groups[:, -1, 3]], 1
        )
        widths = 100 * (whole[:, 1] - whole[:, 2]) / whole[:, 0]
        worst = int(np.argmax(widths[:-1]))  # the last one grows
        first = min(max(worst - show // 3, 0), n - show)
        order = [*range(first, first + show)]
        if order[-1] != n - 1:  # what the strip ends with is the open candle
            widths[[order[-1], n - 1]] = widths[[n - 1, order[-1]]]
        strip, parts = whole[order], groups[order[-1]]
        long = worst - first
        body = float(min(strip[long, 0], strip[long, 3]))
        bottom = min(0.85 * body, float(strip[:, 2].min()))
        top = float(strip[:, 1].max())
        self._ranges = np.float32(widths)
        positive = self._ranges[self._ranges > 0]
        if positive.size == 0:
            raise ValueError(f"{me}: no candle has a range; expected prices that move")
        start = {
            "low": float(np.float32(strip[long, 2])),
            "part": max(1, every // 3),
            "bits": _checks.integer(bits, me, "bits", 2, 8),
        }
        most = 100 * (float(strip[long, 1]) - bottom) / float(strip[long, 0])
        self._long = strip[long]
        self._worst = worst
        spec = {
            "title": "Candle: one long wick and the levels of all",
            "show": show,
            "parts": every,
            "long": long,
            "worst": worst,
            "price": [bottom - 0.08 * (top - bottom), top],
            "span": [
                float(np.percentile(positive, 0.5)) / 1.5,
                max(1.3 * most, 1.5 * widths.max()),
            ],
            "limits": {"low": [bottom, body]},
            "choices": {"part": list(range(1, every + 1))},
        }
        self._begin(spec, start, caption, strip, parts, self._ranges)

    def ranges(self) -> np.ndarray:
        """Ranges of all candles in percent, (n,) float32, the long one as it stands."""
        ranges = self._ranges.copy()
        high, open_ = (np.float32(self._long[k]) for k in (1, 0))
        ranges[self._worst] = 100 * (float(high) - self.low) / float(open_)
        return ranges

    def codes(self, method: str) -> np.ndarray:
        """Codes of the ranges, scaled by FeatureScaler(method), on a min-max grid, (n,)."""
        column = self.ranges()[:, None]
        scaled = FeatureScaler(method).fit(column).transform(column)
        p = choose_params(scaled, QuantizationScheme.ASYMMETRIC_PER_TENSOR, self.bits)
        return quantize(scaled, p).codes.ravel()

    def __repr__(self) -> str:
        return (
            f"Candle({len(self._ranges):,} candles of {self.spec['parts']} parts, longest "
            f"{self.ranges()[self._worst]:.3g} %; {self.bits} bits)"
        )

    def figure(self) -> Figure:
        """The still: how many candles share each code, under both scalings."""
        figure, axes = _axes(2.6, ncols=2)
        edges = np.arange(2**self.bits + 1) - 2 ** (self.bits - 1) - 0.5
        for ax, method in zip(axes, ("minmax", "log-zscore"), strict=True):
            ax.hist(self.codes(method), edges, color=COLORS["quantized"])
            ax.set(xlabel=f"code after {method}", ylabel="candles")
        return figure


class Bits(_Object):
    """Two rows of signs as bits to flip: XOR, popcount, and the product that they give.

    a, b: real (k,), at most 16; only their signs count (0 is +1, as in binarize). names: what the
    rows are called. The product may be dragged too: bits of b flip until it fits.
    Traits a and b, lists of 0 and 1, follow the hand.
    Raises ValueError for bad data and lengths that differ. Taught in chapter 8.

    >>> Bits([0.3, -1.0, 2.0], [1.0, 1.0, 1.0])
    Bits(3 bits, 1 differ, product 1)
    """

    _esm = _esm("bits.js")
    a = tr.List(tr.Int()).tag(sync=True)
    b = tr.List(tr.Int()).tag(sync=True)

    def __init__(
        self, a: Any, b: Any, *, names: tuple[str, str] = ("a", "b"), caption: str = ""
    ) -> None:
        a, b = self._flat(a, "a"), self._flat(b, "b")
        if len(a) != len(b) or len(a) > 16:
            raise ValueError(f"Bits: a has {len(a)}, b {len(b)}; expected one length, at most 16")
        start = {"a": [int(v >= 0) for v in a], "b": [int(v >= 0) for v in b]}
        spec = {
            "title": "Bits: a product of signs",
            "k": len(a),
            "names": list(names),
            "choices": {"a": [0, 1], "b": [0, 1]},
        }
        self._begin(spec, start, caption)

    def __repr__(self) -> str:
        differ = sum(p != q for p, q in zip(self.a, self.b, strict=True))
        return f"Bits({len(self.a)} bits, {differ} differ, product {len(self.a) - 2 * differ})"

    def figure(self) -> Figure:
        """The still: both rows and where they differ."""
        figure, (ax,) = _axes(1.6)
        rows = np.array([self.a, self.b, np.bitwise_xor(self.a, self.b)])
        ax.imshow(rows, cmap="cividis", alpha=0.4)
        for (i, j), bit in np.ndenumerate(rows):
            ax.text(j, i, str(bit), ha="center", va="center")
        ax.set(xticks=[], yticks=range(3), yticklabels=[*self.spec["names"], "XOR"])
        ax.grid(False)
        return figure


class Latent(_Object):
    """One weight pulled across a step by a gradient: what is dragged is not what is used.

    Above, the loss 1/2 (w - best)**2 and the staircase that rounding makes of it, with its true
    slope, 0, and the one that the straight-through estimator borrows from the mark; below, where
    that slope carries the weight. The reader drags the weight and the bottom of the loss, changes
    the bits, takes the mask away. best: the weight of least loss, within a symmetric grid that
    ends at `clip`; value: where the latent weight starts, up to 1.6 clip; rate: of a step.
    Steps are those of fake_quantize and ste_gradient in float32 (`path`). Traits value, best,
    bits and mask follow the hand. Raises ValueError for starts outside. Taught in chapter 11.

    >>> Latent(best=0.3, value=-0.5, bits=2)
    Latent(2 bits to 1, -0.5 used as 0; best 0.3)
    """

    _esm = _esm("latent.js")
    value = tr.Float().tag(sync=True)
    best = tr.Float().tag(sync=True)
    bits = tr.Int(2, min=1, max=4).tag(sync=True)
    mask = tr.Int(1, min=0, max=1).tag(sync=True)

    def __init__(
        self,
        best: float,
        *,
        value: float = 0.0,
        clip: float = 1.0,
        bits: int = 2,
        rate: float = 0.15,
        steps: int = 48,
        caption: str = "",
    ) -> None:
        clip = self._inside("clip", clip, 1e-6, 1e6)
        start = {
            "value": self._inside("value", value, -1.6 * clip, 1.6 * clip),
            "best": self._inside("best", best, -clip, clip),
            "bits": _checks.integer(bits, "Latent", "bits", 1, 4),
            "mask": 1,
        }
        spec = {
            "title": "Latent: a weight and the mark that it is used as",
            "reach": 1.6 * clip,
            "rate": self._inside("rate", rate, 1e-3, 1),
            "steps": _checks.integer(steps, "Latent", "steps", 40, 400),
            "scales": [clip / max(2 ** (b - 1) - 1, 2 - (b > 1)) for b in range(1, 5)],
            "limits": {"value": [-1.6 * clip, 1.6 * clip], "best": [-clip, clip]},
            "choices": {"bits": [1, 2, 3, 4], "mask": [0, 1]},
        }
        self._begin(spec, start, caption)

    def params(self) -> QuantizationParams:
        """The grid at the present bits; the two marks of one bit lie at half the clip."""
        return QuantizationParams(self.spec["scales"][self.bits - 1], 0, self.bits, True, True)

    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """Latent and rounded weight before each of the next steps, (steps + 1,) float32 each."""
        w, p, best = np.float32([self.value]), self.params(), np.float32(self.best)
        latent, rounded = [], []
        for _ in range(self.spec["steps"] + 1):
            latent.append(w[0])
            rounded.append(fake_quantize(w, p)[0])
            slope = np.float32([rounded[-1] - best])
            w = w - np.float32(self.spec["rate"]) * (
                ste_gradient(w, p, slope) if self.mask else slope
            )
        return np.array(latent), np.array(rounded)

    def __repr__(self) -> str:
        back = float(self.path()[1][0])
        grid = f"{self.bits} bit{'s'[: self.bits - 1]} to {self.spec['limits']['best'][1]:.3g}"
        return f"Latent({grid}, {self.value:.3g} used as {back:.3g}; best {self.best:.3g})"

    def figure(self) -> Figure:
        """The still: the loss with its staircase, and the path from here."""
        figure, (left, right) = _axes(2.8, ncols=2)
        x = np.linspace(-self.spec["reach"], self.spec["reach"], 801)
        left.plot(x, (x - self.best) ** 2 / 2, color=COLORS["signal"])
        stairs = fake_quantize(x, self.params())
        left.plot(x, (stairs - self.best) ** 2 / 2, color=COLORS["quantized"])
        left.plot(self.value, (self.path()[1][0] - self.best) ** 2 / 2, "o", color=COLORS["signal"])
        left.set(xlabel="latent weight", ylabel="loss")
        for line, name in zip(self.path(), ("signal", "quantized"), strict=True):
            right.plot(line, color=COLORS[name], drawstyle="steps-post")
        right.axhline(self.best, color=COLORS["law"], linestyle="--", linewidth=1)
        right.set(xlabel="step", ylabel="weight")
        return figure


class Roofline(_Object):
    """A layer to drag over width and batch: bytes over the bus, or arithmetic, whichever is longer.

    Above, the map of sizes; along a line the two take equally long, below it the bus binds. Below
    it, for every precision, the least time of each. peaks: {name: (bits of a weight, G operations
    a second)}, 2 to 6 of them, the first to compare with; bandwidth: GB/s. Inputs and outputs are
    float32; below 16 bits each output has a float32 scale. Traits width and batch follow the
    hand. Raises ValueError for limits that are not positive or a start outside. Taught in
    chapter 12. Source: Williams et al. 2009.

    >>> Roofline({"FP32": (32, 100.0), "INT8": (8, 400.0)}, 20.0, width=1024, batch=1)
    Roofline(1024 x 1024, batch 1: FP32 210 us by the bus, INT8 53.2 us by the bus)
    """

    _esm = _esm("roofline.js")
    width = tr.Int(256, min=16, max=4096).tag(sync=True)
    batch = tr.Int(1, min=1, max=1024).tag(sync=True)

    def __init__(
        self,
        peaks: Mapping[str, tuple[int, float]],
        bandwidth: float,
        *,
        width: int = 256,
        batch: int = 1,
        caption: str = "",
    ) -> None:
        if not 2 <= len(peaks) <= 6:
            raise ValueError(f"Roofline: peaks has {len(peaks)} entries; expected 2 to 6")
        start = {
            "width": _checks.integer(width, "Roofline", "width", 16, 4096),
            "batch": _checks.integer(batch, "Roofline", "batch", 1, 1024),
        }
        spec = {
            "title": "Roofline: what a layer waits for",
            "kinds": [
                [
                    str(name),
                    _checks.integer(bits, "Roofline", f"bits of {name}", 1, 32),
                    self._inside(f"peak of {name}", peak, 1e-3, 1e9),
                ]
                for name, (bits, peak) in peaks.items()
            ],
            "bandwidth": self._inside("bandwidth", bandwidth, 1e-3, 1e9),
            "limits": {"width": [16, 4096], "batch": [1, 1024]},
        }
        self._begin(spec, start, caption)

    def needs(self) -> dict[str, tuple[float, float, float, float]]:
        """{name: (bytes, operations, seconds of the bus, seconds of the arithmetic)}."""
        n, m, found = self.width, self.batch, {}
        for name, bits, peak in self.spec["kinds"]:
            moved = n * n * bits / 8 + 4 * n * (2 if bits < 16 else 1) + 8 * m * n
            work = 2 * n * n * m
            bus = moved / self.spec["bandwidth"] / 1e9
            found[name] = (moved, work, bus, work / peak / 1e9)
        return found

    def __repr__(self) -> str:
        said = (
            f"{name} {max(bus, work) * 1e6:.3g} us by the {'bus' if bus >= work else 'arithmetic'}"
            for name, (_, _, bus, work) in self.needs().items()
        )
        return f"Roofline({self.width} x {self.width}, batch {self.batch}: {', '.join(said)})"

    def figure(self) -> Figure:
        """The still: the two times of each precision, on a logarithmic axis."""
        figure, (ax,) = _axes(2.8)
        for i, (_, _, bus, work) in enumerate(self.needs().values()):
            ax.barh(i - 0.18, bus * 1e6, 0.32, color=COLORS["error"], label="bus" * (not i))
            label = "arithmetic" * (not i)
            ax.barh(i + 0.18, work * 1e6, 0.32, color=COLORS["quantized"], label=label)
        ax.set_yticks(range(len(self.needs())), list(self.needs()))
        ax.invert_yaxis()
        layer = f"{self.width} x {self.width}, batch {self.batch}"
        ax.set(xscale="log", xlabel=f"least time (µs) of a layer {layer}")
        ax.legend(fontsize=8)
        return figure
