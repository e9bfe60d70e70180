"""The same parameters from data that arrive in pieces. Taught in chapter 3."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab import _checks
from quantlab.calibration import checked_choice, choose_params, groups_of
from quantlab.scheme import QuantizationParams, QuantizationScheme


class MinMaxObserver:
    """The range of data that arrive in pieces, per tensor or per channel of `axis`.

    Keeps four numbers for each channel. `params` equals choose_params(method="minmax") of all the
    pieces together exactly; for one symmetric bit (scale mean abs(x)) up to float32 rounding.
    Raises ValueError for bad data, pieces whose channels differ in number, and `params` before
    the first `update`. Taught in chapter 3.

    >>> o = MinMaxObserver().update([0.5, -1.0]).update([3.0])
    >>> p = o.params(QuantizationScheme.ASYMMETRIC_PER_TENSOR, bits=4, signed=False)
    >>> round(float(p.scale), 4), int(p.zero_point), o.count
    (0.2667, 4, 3)
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self.count = 0  # values seen, all channels together
        # (C,), or (1,) per tensor; total of abs(x)
        self.low = self.high = self.total = np.empty(0)

    def update(self, x: npt.ArrayLike) -> MinMaxObserver:
        """Take one piece: real array, any shape; returns the observer."""
        me = "MinMaxObserver.update"
        x = _checks.float32_array(x, me)
        groups = x.reshape(1, -1) if self.axis is None else groups_of(x, self.axis, None, me)[0]
        low, high = groups.min(axis=1), groups.max(axis=1)
        total = np.abs(groups).sum(axis=1, dtype=np.float64)
        if self.count:
            if low.shape != self.low.shape:
                raise ValueError(
                    f"{me}: x has {len(low)} channels along axis {self.axis}; the "
                    f"pieces before had {len(self.low)}"
                )
            low, high = np.minimum(low, self.low), np.maximum(high, self.high)
            total += self.total
        self.low, self.high, self.total = low, high, total
        self.count += x.size
        return self

    def params(
        self,
        scheme: QuantizationScheme,
        bits: int = 8,
        *,
        method: str = "minmax",
        signed: bool = True,
        narrow_range: bool | None = None,
    ) -> QuantizationParams:
        """The grid for all that was seen; the arguments are those of choose_params."""
        me = "MinMaxObserver.params"
        scheme, _ = checked_choice(scheme, method, {})
        _check_seen(self.count, me)
        if method != "minmax":
            raise ValueError(
                f"{me}: method is {method!r}; a range knows only minmax, use a HistogramObserver"
            )
        if scheme.per_channel and self.axis is None:
            raise ValueError(
                f"{me}: {scheme.name} needs channels; make the observer with "
                "MinMaxObserver(axis=...)"
            )
        if bits == 1 and scheme.symmetric:
            ends = (self.total / (self.count / len(self.total)))[:, None]
            if not scheme.per_channel:
                ends = self.total.sum(keepdims=True) / self.count
        else:
            ends = np.stack([self.low, self.high], axis=1)  # (C, 2): all that minmax looks at
        p = choose_params(ends, scheme, bits, signed=signed, narrow_range=narrow_range)
        return replace(p, axis=self.axis) if scheme.per_channel else p


class HistogramObserver:
    """The distribution of data that arrive in pieces, per tensor, in `bins` bins.

    The bins share a range [-2**e, 2**e) that doubles when a value leaves it; two old bins then
    become one, so the counts do not depend on how the data were cut into pieces. Exact zeros and
    both ends are kept apart. `params` hands choose_params the values that the histogram
    describes (at most 2**20), each within one bin width of the true one of its rank: "minmax" is
    exact, a percentile is off by less than one bin width, at most 4 * max abs(x) / bins. "aciq"
    and "mse" lose as much as on the data themselves (within 0.1 %); "entropy", whose minimum is
    flat, mostly makes the same cut.
    Raises ValueError for bad data, `bins` not a multiple of 4, a per-channel scheme, and `params`
    before the first `update`. Source: PyTorch HistogramObserver (idea). Taught in chapter 3.

    >>> o = HistogramObserver().update(np.arange(-500, 0)).update(np.arange(500))
    >>> p = o.params(QuantizationScheme.SYMMETRIC_PER_TENSOR, method="percentile", percentile=90)
    >>> abs(127 * float(p.scale) - 450) <= o.bin_width
    True
    """

    def __init__(self, bins: int = 16384) -> None:
        me = "HistogramObserver"
        self.bins = _checks.integer(bins, me, "bins", 16, 2**24)
        if bins % 4:
            raise ValueError(
                f"{me}: bins is {bins}; expected a multiple of 4, so that bins merge "
                "in pairs on both sides of 0"
            )
        self.counts = np.zeros(bins, np.int64)  # of all values but zeros
        self.count = self.zeros = 0
        self.low, self.high = np.float32(np.inf), np.float32(-np.inf)
        self.exponent: int | None = None  # the bins cover [-2**exponent, 2**exponent)

    @property
    def bin_width(self) -> float:
        """Width of one bin in units of the data; 0 before the first value that is not zero."""
        return 0.0 if self.exponent is None else math.ldexp(2 / self.bins, self.exponent)

    def update(self, x: npt.ArrayLike) -> HistogramObserver:
        """Take one piece: real array, any shape; returns the observer."""
        x = _checks.float32_array(x, "HistogramObserver.update").reshape(-1)
        self.count += x.size
        self.low, self.high = min(self.low, x.min()), max(self.high, x.max())
        rest = x[x != 0]
        self.zeros = self.count - int(self.counts.sum()) - rest.size
        if rest.size:
            exponent = self._widen(int(np.frexp(np.abs(rest).max())[1]))
            # a power of two scales exactly, so floor never puts a value into a neighbor's bin
            unit = np.ldexp(rest.astype(np.float64), -exponent) * (self.bins / 2)
            at = np.floor(unit).astype(np.int64) + self.bins // 2
            self.counts += np.bincount(at, minlength=self.bins)
        return self

    def _widen(self, exponent: int) -> int:
        if self.exponent is None:
            self.exponent = exponent
        while self.exponent < exponent:
            middle = self.counts.reshape(-1, 2).sum(axis=1)
            quarter = np.zeros(self.bins // 4, np.int64)
            self.counts = np.concatenate([quarter, middle, quarter])
            self.exponent += 1
        return self.exponent

    def values(self, limit: int = 2**20) -> np.ndarray:
        """The data as the histogram knows them: sorted, float32, evenly spread inside each bin.

        All `count` values, or `limit` of them at even ranks.
        """
        _check_seen(self.count, "HistogramObserver.values")
        limit = _checks.integer(limit, "HistogramObserver.values", "limit", 1, 2**31)
        n = min(self.count, limit)
        counts = np.insert(self.counts, self.bins // 2, self.zeros)  # zeros: a bin of width 0
        lefts = (np.arange(self.bins) - self.bins // 2) * self.bin_width
        lefts = np.insert(lefts, self.bins // 2, 0.0)
        widths = np.insert(np.full(self.bins, self.bin_width), self.bins // 2, 0.0)
        rank = ((np.arange(n) + 0.5) * (self.count / n)).astype(np.int64)
        ends = counts.cumsum()
        at = np.searchsorted(ends, rank, side="right")
        inside = (rank - (ends - counts)[at] + 0.5) / counts[at]
        values = (lefts[at] + widths[at] * inside).astype(np.float32)
        values[0], values[-1] = self.low, self.high
        return np.clip(values, self.low, self.high)

    def params(
        self,
        scheme: QuantizationScheme,
        bits: int = 8,
        *,
        method: str = "minmax",
        signed: bool = True,
        narrow_range: bool | None = None,
        **options: Any,
    ) -> QuantizationParams:
        """The grid for all that was seen; the arguments are those of choose_params."""
        scheme, options = checked_choice(scheme, method, options)
        if scheme.per_channel:
            raise ValueError(
                f"HistogramObserver.params: {scheme.name} needs one observer for each "
                "channel, or a MinMaxObserver(axis=...)"
            )
        return choose_params(
            self.values(),
            scheme,
            bits,
            method=method,
            signed=signed,
            narrow_range=narrow_range,
            **options,
        )


def _check_seen(count: int, function: str) -> None:
    if not count:
        raise ValueError(f"{function}: nothing seen yet; call update(x) first")
