"""Why do two requantizers differ by one? Each usual rule, tried. Taught in chapter 9."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantlab import _checks
from quantlab.integer import fixed_point_multiplier
from quantlab.scheme import QuantizationParams


@dataclass(frozen=True)
class _Task:
    """What every rule starts from: acc * scale / out, once in fixed point, once in float32."""

    acc: np.ndarray  # (..., N) int64
    m: np.ndarray  # () or (N,) int64: scale / out.scale = m * 2**-shift
    shift: np.ndarray
    scale: np.ndarray  # float32, real value of one unit of acc
    out: np.float32
    zero: int
    low: int
    high: int
    dtype: np.dtype  # of a stored code

    def clamp(self, values: np.ndarray) -> np.ndarray:
        return np.clip(values, self.low, self.high).astype(np.int64)

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Floor of the exact quotient, what is left over, and half a unit, all int64."""
        product, half = self.acc * self.m, np.int64(1) << (self.shift - 1)
        floor = product >> self.shift
        return floor, product - (floor << self.shift), half


def _up(t: _Task) -> np.ndarray:
    floor, rest, half = t.parts()
    return floor + (rest >= half) + t.zero


def _even(t: _Task, before: int = 0) -> np.ndarray:
    floor, rest, half = t.parts()
    tie_up = (floor + before) % 2 == 1
    return floor + (rest > half) + ((rest == half) & tie_up)


def _away(t: _Task) -> np.ndarray:
    floor, rest, half = t.parts()
    return floor + (rest > half) + ((rest == half) & (t.acc > 0)) + t.zero


def _double(t: _Task) -> np.ndarray:
    # gemmlowp: SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT; left shifts first
    left = np.maximum(31 - t.shift, 0)
    product = (t.acc << left) * t.m
    nudged = product + np.where(product >= 0, 2**30, 1 - 2**30)
    first = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    right = np.maximum(t.shift - 31, 0)
    mask = (np.int64(1) << right) - 1
    return (first >> right) + ((first & mask) > (mask >> 1) + (first < 0)) + t.zero


def _float(t: _Task) -> np.ndarray:
    return np.rint(t.acc.astype(np.float32) * (t.scale / t.out)) + t.zero


def _divided(t: _Task) -> np.ndarray:
    return np.rint(t.acc.astype(np.float32) * t.scale / t.out) + t.zero


def _inverse(t: _Task) -> np.ndarray:
    return np.rint(t.acc.astype(np.float32) * t.scale * (np.float32(1) / t.out)) + t.zero


# Rules by name, each (task) -> codes before the clamp; the first is the one of the library.
_ROUNDINGS: dict[str, Callable[[_Task], np.ndarray]] = {
    "one rounding, ties up": _up,
    "one rounding, ties to even": lambda t: _even(t) + t.zero,
    "one rounding, ties away from zero": _away,
    "no rounding (floor)": lambda t: t.parts()[0] + t.zero,
    "zero point inside the rounding": lambda t: _even(t, t.zero) + t.zero,
    "double rounding": _double,
    "float32 requantization": _float,
    "float32, divided by the output scale": _divided,
    "float32, inverse multiplied": _inverse,
}
_RULES: dict[str, Callable[[_Task], np.ndarray]] = {
    **{name: lambda t, f=f: t.clamp(f(t)) for name, f in _ROUNDINGS.items()},
    "wrap: no clamp before the cast": lambda t: _up(t).astype(t.dtype),
}


@dataclass(frozen=True)
class Mismatch:
    """What `explain_mismatch` found; print it.

    count of total codes differ, by at most `largest`; a_rules and b_rules name every rule that
    reproduces all of a, and of b (empty: none of the known ones); `example` describes the first
    difference.
    """

    count: int
    total: int
    largest: int
    a_rules: tuple[str, ...]
    b_rules: tuple[str, ...]
    example: str

    def __str__(self) -> str:
        if not self.count:
            return f"all {self.total:,} codes are equal"
        lines = [
            f"{self.count:,} of {self.total:,} codes differ, by at most {self.largest}",
            f"first at {self.example}",
        ]
        for name, rules in (("a", self.a_rules), ("b", self.b_rules)):
            lines.append(f"{name} fits: {'; '.join(rules) or 'none of the known rules'}")
        return "\n".join(lines)


def explain_mismatch(
    a: Any, b: Any, acc: Any, scale: Any, out: QuantizationParams, *, relu: bool = False
) -> Mismatch:
    """Say why two requantizations of the same accumulators differ: which rule made a, which b.

    a, b: integer codes, one shape; acc: int32 accumulators of that shape; scale: real value of
    one unit of acc (scale_x * scale_w), one or one per value of the last axis; out: the grid of
    the codes, `relu` if they are clamped at its zero point. Known rules: ties up (the library,
    LiteRT), to even, away from zero; floor; zero point inside the rounding; double rounding
    (gemmlowp); float32 multiplied, divided, or multiplied by the inverse; a cast without clamp.
    Raises ValueError for shapes, dtypes and scales that do not fit.
    Source: arXiv 1712.05877; gemmlowp; onnxruntime. Taught in chapter 9.

    >>> out = QuantizationParams(0.5, 3)
    >>> even, up, acc = [5, 5, 1, 5, 127], [5, 6, 1, 5, 127], [6, 10, -10, 9, 1000]
    >>> print(explain_mismatch(even, up, acc, 0.125, out))
    1 of 5 codes differ, by at most 1
    first at 1: acc 10 * 0.125 / 0.5 = 2.5 (a tie) + 3: a 5, b 6
    a fits: one rounding, ties to even; float32 requantization; float32, divided by the output
    scale; float32, inverse multiplied
    b fits: one rounding, ties up
    """
    me = "explain_mismatch"
    a, b, acc = (_checks.real_array(v, me, name) for v, name in ((a, "a"), (b, "b"), (acc, "acc")))
    if any(v.dtype.kind not in "iu" for v in (a, b, acc)) or not a.shape == b.shape == acc.shape:
        raise ValueError(
            f"{me}: a is {a.dtype} {a.shape}, b {b.dtype} {b.shape}, acc {acc.dtype} {acc.shape}; "
            "expected integers of one shape"
        )
    if np.abs(acc.astype(np.int64)).max() > 2**31:
        raise ValueError(f"{me}: acc reaches beyond int32")
    scale = _checks.float32_array(scale, me, "scale")
    if scale.ndim > 1 or (scale.ndim and scale.shape[0] not in (1, acc.shape[-1])):
        raise ValueError(f"{me}: scale has shape {scale.shape}; expected one, or one per column")
    if not isinstance(out, QuantizationParams) or out.axis is not None or out.is_binary:
        raise ValueError(f"{me}: out is {out}; expected a grid with one scale and a code for 0")
    m, shift = (
        np.asarray(v) for v in fixed_point_multiplier(scale.astype(np.float64) / float(out.scale))
    )
    zero = int(out.zero_point)
    fixed = np.float32(out.scale), zero, zero if relu else out.qmin, out.qmax, out.code_dtype
    task = _Task(acc.astype(np.int64), m, shift, scale, *fixed)
    made = {name: rule(task) for name, rule in _RULES.items()}
    rules = [tuple(n for n, codes in made.items() if (codes == v).all()) for v in (a, b)]
    gap = np.abs(a.astype(np.int64) - b.astype(np.int64))
    example = _example(a, b, task, gap > 0) if gap.any() else ""
    return Mismatch(int((gap > 0).sum()), a.size, int(gap.max()), *rules, example)


def _example(a: np.ndarray, b: np.ndarray, t: _Task, differ: np.ndarray) -> str:
    at = tuple(int(i) for i in np.argwhere(differ)[0])
    _, rest, half = t.parts()
    scale = float(np.broadcast_to(t.scale, a.shape)[at])
    tie = " (a tie)" if np.broadcast_to(rest == half, a.shape)[at] else ""
    quotient = int(t.acc[at]) * scale / float(t.out)
    where = at[0] if len(at) == 1 else at
    return (
        f"{where}: acc {t.acc[at]} * {scale:.6g} / {float(t.out):.6g} = {quotient:.10g}{tie} "
        f"+ {t.zero}: a {a[at]}, b {b[at]}"
    )
