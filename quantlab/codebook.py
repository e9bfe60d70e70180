"""Levels that need not be evenly spaced, and arrays stored as codes into them.

Taught in chapter 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantlab import _checks, kernels
from quantlab.calibration import absmax_scale
from quantlab.scheme import QuantizationParams, checked_params

# quantiles of the normal distribution, averaged over both tails, scaled to [-1, 1]
NF4 = np.array([
    -1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
], np.float32)  # fmt: skip
NF4.setflags(write=False)

_ROUNDINGS = ("nearest", "log")
_EXACT = 1 << 14  # up to here the exact search takes less time than it takes to notice


# --- levels that follow the data


def kmeans_levels(x: npt.ArrayLike, k: int, *, method: str = "auto") -> npt.NDArray[np.float64]:
    """The k levels of least squared error for the values x (Lloyd-Max for an empirical density).

    x: real array, any shape. Returns rising float64 levels in units of x, shape (k,), or fewer
    where x has fewer distinct values. method: "exact" (dynamic programming over the sorted
    values, O(k n log n)); "histogram" (the same over 4096 bins, or 64 k if more; where outliers
    leave most of them empty, over groups of sorted values; up to 64 levels at most 0.1 % above
    the least error); "auto" (exact up to 16,384 values). Lloyd's iterations from random starts
    end above it: on 2,048 trained weights with 16 levels by 8 % in the median.
    Raises ValueError for bad data, values beyond float32, k outside 1-1024, an unknown method.
    Source: Bruce 1965, Wu 1991, arXiv 1701.07204. Taught in chapter 7.

    >>> kmeans_levels([0.0, 0.1, 0.9, 1.0, 5.0], 3).round(6).tolist()
    [0.05, 0.95, 5.0]
    """
    me = "kmeans_levels"
    x = _checks.real_array(x, me).reshape(-1)
    x = x if x.dtype == np.float32 else _checks.float64_array(x, me)
    ends = kernels.minmax(np.ascontiguousarray(x)) if x.dtype == np.float32 else (x.min(), x.max())
    _checks.float32_array(ends, me)
    k = _checks.integer(k, me, "k", 1, 1024)
    _checks.choice(method, me, "method", ("auto", "exact", "histogram"))
    if method == "exact" or (method == "auto" and x.size <= _EXACT):
        return _cluster(*np.unique(x, return_counts=True), k)
    return _cluster_fast(x, k, float(ends[0]), float(ends[1]))


def _cluster(points: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """Best levels for sorted distinct `points` (n,), each there `counts` (n,) times."""
    points, counts = points.astype(np.float64), counts.astype(np.float64)
    if points.size <= k:
        return points
    middle = int(np.searchsorted(counts.cumsum(), counts.sum() / 2))
    y = points - points[middle]
    y = np.ldexp(y, -np.frexp(y[-1] - y[0])[1])  # near 1, so that no square underflows
    mass, first, second = (_outward_sums(a, middle) for a in (counts, counts * y, counts * y * y))
    cuts = kernels.kmeans_cuts(mass, first, second, k)[:-1]
    return np.add.reduceat(counts * points, cuts) / np.add.reduceat(counts, cuts)


def _outward_sums(a: np.ndarray, middle: int) -> np.ndarray:
    """Prefix sums (n + 1,) that are 0 at `middle`: an outlier blurs only the ranges it is in."""
    left, right = np.cumsum(a[:middle][::-1])[::-1], np.cumsum(a[middle:])
    return np.concatenate([-left, [0.0], right])


def _cluster_fast(x: np.ndarray, k: int, low: float, high: float) -> np.ndarray:
    bins = max(4096, 64 * k)
    for many in (bins // 2, 2 * bins) if low < high else ():  # few, unless the data needs more
        counts, sums = np.empty(many, np.int64), np.empty(many)
        kernels.bin_sums(x, low, many / (high - low), counts, sums)
        if counts.max() * 16 * k <= x.size:  # 16 bins a level, even where the data is densest
            used = np.flatnonzero(counts)
            return _cluster(sums[used] / counts[used], counts[used], k)
    x = np.sort(x)
    even = np.searchsorted(x, np.linspace(low, high, bins, endpoint=False).astype(x.dtype))
    full = np.arange(0, x.size, -(-x.size // max(bins, _EXACT)))
    cuts = np.union1d(even, full)  # groups narrow in value and in rank
    x = x.astype(np.float64)
    counts = np.diff(cuts, append=x.size)
    levels = np.unique(_cluster(np.add.reduceat(x, cuts) / counts, counts, k))
    cells = SortedCells(x)
    for _ in range(100):  # Lloyd's iterations settle what the groups left open
        counts, sums = cells(levels)
        levels = np.unique(np.where(counts > 0, sums / np.maximum(counts, 1), levels))
    return levels


class SortedCells:
    """Count and sum of the values nearest to each level, in O(k log n) a call."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x  # (n,) float64, sorted
        self.middle = x[x.size // 2]
        self.sums = _outward_sums(x - self.middle, x.size // 2)

    def __call__(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inner = np.searchsorted(self.x, (levels[:-1] + levels[1:]) / 2)
        cuts = np.concatenate([[0], inner, [self.x.size]])
        counts = np.diff(cuts)
        return counts, np.diff(self.sums[cuts]) + counts * self.middle


def learn_levels(
    x: npt.ArrayLike, levels: npt.ArrayLike, steps: int = 100, learning_rate: float = 1.0
) -> npt.NDArray[np.float64]:
    """`levels` after gradient descent on the mean squared error of x.

    x: real array, any shape; levels: rising starting levels (k,). Each step moves level j by
    -learning_rate * dMSE/dl_j = learning_rate * 2/n * sum of (x - l_j) over the values nearest
    to it. Returns float64 (k,). A rate of n / (2 count_j) would be one Lloyd iteration; above
    twice that a level overshoots. Raises ValueError for bad data, steps or rates.
    Taught in chapter 7.

    >>> learn_levels([0.0, 1.0, 4.0, 5.0], [0.0, 1.0], steps=60).round(3).tolist()
    [0.5, 4.5]
    """
    me = "learn_levels"
    x = _checks.float64_array(x, me).reshape(-1)
    levels = _rising(levels, me, np.float64)
    steps = _checks.integer(steps, me, "steps", 0, 10**9)
    rate = _checks.float64_array(learning_rate, me, "learning_rate")
    if rate.ndim or rate <= 0:
        raise ValueError(
            f"{me}: learning_rate is {_checks.brief(learning_rate)}; expected a positive number"
        )
    cells = SortedCells(np.sort(x))
    for _ in range(steps):
        counts, sums = cells(levels)
        gradient = 2 / x.size * (counts * levels - sums)
        levels = np.sort(levels - rate * gradient)
    return levels


# --- levels that follow a law


def lloyd_max_levels(distribution: str, k: int) -> npt.NDArray[np.float64]:
    """The k levels of least mean squared error for a known density of mean 0 and variance 1.

    distribution: "normal" or "laplace"; k: 1 to 1024. Returns rising float64 levels (k,), in
    units of sigma. Each lies at the mean of its cell, each cell ends halfway between levels; both
    densities are log-concave, so one answer exists, and Newton's method finds it.
    Raises ValueError for another distribution or k.
    Source: Lloyd 1957, Max 1960. Taught in chapter 7.

    >>> lloyd_max_levels("normal", 4).round(6).tolist()
    [-1.510418, -0.45278, 0.45278, 1.510418]
    >>> lloyd_max_levels("laplace", 2).round(6).tolist()
    [-0.707107, 0.707107]
    """
    me = "lloyd_max_levels"
    _checks.choice(distribution, me, "distribution", _TAILS)
    k = _checks.integer(k, me, "k", 1, 1024)
    half, odd = k // 2, k % 2  # the other half mirrors, an odd k has a level at 0
    if half == 0:
        return np.zeros(1)
    levels = _companded_start(distribution, k)
    for step in range(60):
        error, slope = _centroid_error(distribution, levels, odd)
        move = error if step < 5 else np.linalg.solve(slope, error)
        levels = levels - move
        if step >= 5 and np.abs(move).max() < 1e-13:
            break
    return np.concatenate([-levels[::-1], np.zeros(odd), levels])


def _normal_tail(t):
    # (probability beyond t, integral of x beyond t, density at t)
    from scipy import special  # a fifth of a second, and nothing else here needs it

    density = np.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    return special.ndtr(-t), density, density


def _laplace_tail(t):
    rate = math.sqrt(2)
    beyond = np.exp(-rate * t) / 2
    return beyond, (t + 1 / rate) * beyond, rate * beyond


_TAILS = {"normal": _normal_tail, "laplace": _laplace_tail}


def _companded_start(distribution: str, k: int) -> np.ndarray:
    """Positive levels at even quantiles of density^(1/3), which is optimal for many levels."""
    x = np.linspace(0, 6 * math.sqrt(3 if distribution == "normal" else 9), 20_001)
    share = np.cumsum(_TAILS[distribution](x)[2] ** (1 / 3))
    rank = (np.arange(k - k // 2, k) + 0.5) / k * 2 - 1  # 0 to 1 over the positive half
    return np.interp(rank, share / share[-1], x)


def _centroid_error(distribution: str, levels: np.ndarray, odd: int):
    """Level minus mean of its cell (m,), and the derivative of that by the levels (m, m)."""
    m = levels.size
    first = levels[0] / 2 if odd else 0.0
    t = np.concatenate([[first], (levels[:-1] + levels[1:]) / 2])
    beyond, moment, density = (np.append(a, 0.0) for a in _TAILS[distribution](t))
    mass = beyond[:-1] - beyond[1:]
    mean = (moment[:-1] - moment[1:]) / mass
    by_start = density[:-1] * (mean - t) / mass  # d mean / d start of the cell
    by_end = np.zeros(m)
    by_end[:-1] = density[1:-1] * (t[1:] - mean[:-1]) / mass[:-1]
    slope = np.eye(m)
    i = np.arange(m)
    slope[i[1:], i[:-1]] -= by_start[1:] / 2  # a cell starts halfway to the level below
    slope[i[1:], i[1:]] -= by_start[1:] / 2
    slope[i[:-1], i[1:]] -= by_end[:-1] / 2
    slope[i[:-1], i[:-1]] -= by_end[:-1] / 2
    slope[0, 0] -= odd * by_start[0] / 2
    return levels - mean, slope


def log_levels(
    x: npt.ArrayLike, bits: int, *, rounding: str = "nearest"
) -> npt.NDArray[np.float32]:
    """Zero and powers of two down from the largest magnitude of x: a multiply becomes a shift.

    x: real array; bits: 1 to 16. Returns 2**bits - 1 rising float32 levels, 0 and
    +-2**(e - j), fewer where they leave the normal float32 numbers; one bit gives +-2**e with
    2**e near mean abs(x) and no zero. `rounding` picks e: "log" rounds log2 of the
    magnitude, "nearest" takes the nearest power. 0.18 is 2**-2.47: "log" gives 0.25,
    "nearest" 0.125. `quantize_codebook` takes the same word for the values between the levels.
    Raises ValueError for bad data, bits or rounding.
    Source: arXiv 1603.01025 ("log"). Taught in chapter 7.

    >>> log_levels([0.18], 2, rounding="log").tolist(), log_levels([0.18], 2).tolist()
    ([-0.25, 0.0, 0.25], [-0.125, 0.0, 0.125])
    """
    me = "log_levels"
    size = np.abs(_checks.float32_array(x, me)).astype(np.float64)
    bits = _checks.integer(bits, me, "bits", 1, 16)
    _checks.choice(rounding, me, "rounding", _ROUNDINGS)
    anchor = float(size.mean() if bits == 1 else size.max()) or 1.0
    fraction, e = math.frexp(anchor)  # anchor = fraction * 2**e, fraction in [1/2, 1)
    top = e - (fraction < (math.sqrt(0.5) if rounding == "log" else 0.75))
    top = min(max(top, -126), 127)
    if bits == 1:
        return np.array([-(2.0**top), 2.0**top], np.float32)
    last = max(top - (2 ** (bits - 1) - 2), -126)
    powers = np.ldexp(1.0, np.arange(last, top + 1))
    return np.concatenate([-powers[::-1], [0.0], powers]).astype(np.float32)


def float_levels(name: str) -> npt.NDArray[np.float32]:
    """All finite values of a small floating-point format, as rising float32 levels.

    name: "e4m3" (253 levels up to 448, no infinity), "e5m2" (247, up to 57344), "e2m1" (15, up
    to 6). Minus zero counts as zero. Raises ValueError for another name.
    Source: arXiv 2209.05433 (FP8), OCP Microscaling 1.0 (FP4). Taught in chapter 7.

    >>> float_levels("e2m1")[7:].tolist(), len(float_levels("e4m3"))
    ([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], 253)
    """
    formats = {"e4m3": (3, 7, 127), "e5m2": (2, 15, 124), "e2m1": (1, 1, 8)}
    _checks.choice(name, "float_levels", "name", formats)
    mantissa_bits, bias, finite = formats[name]  # the codes above are infinity or NaN
    code = np.arange(1, finite)
    exponent, mantissa = code >> mantissa_bits, code & (1 << mantissa_bits) - 1
    normal = exponent > 0  # a hidden leading 1; below it the spacing stays that of exponent 1
    value = np.ldexp(
        mantissa + (normal << mantissa_bits), np.maximum(exponent, 1) - bias - mantissa_bits
    )
    return np.concatenate([-value[::-1], [0.0], value]).astype(np.float32)


def round_to_format(x: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    """The nearest number that a 16-bit floating-point format can hold, as float32; ties to even.

    x: real array, taken as float32. name: "fp16" (11 significant bits, up to 65504) or "bf16" (8,
    up to 3.4e38). Like the hardware it makes infinity of what rounds beyond the largest number.
    Raises ValueError for bad data or another name.
    Source: IEEE 754-2008 (binary16). Taught in chapter 12.

    >>> round_to_format([0.1, 1e-8, 65519, 65520], "fp16").tolist()
    [0.0999755859375, 0.0, 65504.0, inf]
    >>> round_to_format([0.1, 65520], "bf16").tolist()
    [0.10009765625, 65536.0]
    """
    formats = {"fp16": (11, -24, 65504), "bf16": (8, -133, 255 * 2.0**120)}
    _checks.choice(name, "round_to_format", "name", formats)
    digits, lowest, largest = formats[name]  # significant bits, exponent of the least step
    x = _checks.float32_array(x, "round_to_format", "x").astype(np.float64)
    step = np.maximum(np.frexp(x)[1] - digits, lowest)  # doubles at every power of two
    y = np.ldexp(np.rint(np.ldexp(x, -step)), step)
    return np.where(np.abs(y) > largest, np.copysign(np.inf, y), y).astype(np.float32)


# --- codes


@dataclass(frozen=True, eq=False)
class CodebookTensor:
    """Codes into a table of levels: value = levels[code] * scale.

    `codes` (uint8, or uint16 above 256 levels) has the shape of the data, `levels` is float32
    (k,), rising. `params` says where each scale applies (scale, axis, block_size); its zero
    point is 0. Made by `quantize_codebook`. Raises ValueError for codes that have no level.
    Taught in chapter 7.

    >>> q = quantize_codebook([0.1, -0.6, 0.8, 0.9], [-0.5, 0.0, 0.25, 1.0])
    >>> q.codes.tolist(), q.dequantize().tolist(), q.nbytes
    ([1, 0, 3, 3], [0.0, -0.5, 1.0, 1.0], 17)
    """

    codes: np.ndarray
    levels: np.ndarray
    params: QuantizationParams

    def __post_init__(self) -> None:
        me, params = "CodebookTensor", checked_params(self.params, "CodebookTensor")
        _checks.typed_array(self.codes, params.code_dtype, me, "codes")
        _checks.typed_array(self.levels, np.float32, me, "levels")
        _rising(self.levels, me)
        params.normal_form(self.codes.shape)
        if (last := int(self.codes.max())) >= self.levels.size:
            raise ValueError(
                f"{me}: codes go up to {last}; expected less than {self.levels.size} levels"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the codes, which is that of the data."""
        return self.codes.shape

    @property
    def bits(self) -> int:
        """Bits of one packed code."""
        return self.params.bits

    @property
    def scale(self) -> np.ndarray:
        """float32, shape () | (C,) | blocked, as in QuantizationParams."""
        return self.params.scale

    @property
    def nbytes(self) -> int:
        """Stored bytes: packed codes, 4 for each level, 4 for each scale unless it is a single 1.

        A format that the hardware decodes (FP8, FP4) stores no table: subtract levels.nbytes.
        """
        scales = 0 if self.scale.size == 1 and self.scale.item() == 1 else self.scale.nbytes
        return math.ceil(self.codes.size * self.bits / 8) + self.levels.nbytes + scales

    def pack(self) -> npt.NDArray[np.uint8]:
        """The codes as a bitstream (uint8), first code in the lowest bits."""
        return kernels.pack(self.codes.reshape(-1), self.bits)

    def dequantize(self) -> npt.NDArray[np.float32]:
        """levels[codes] * scale, float32, in the shape of the codes."""
        data, small = self.params.normal_form(self.shape)
        out = np.empty(data, np.float32)
        kernels.lookup(self.codes.reshape(data), self.scale.reshape(small), self.levels, out)
        return out.reshape(self.shape)

    def __repr__(self) -> str:
        return (
            f"CodebookTensor(shape={self.shape}, {self.nbytes} bytes, "
            f"{self.levels.size} levels {self.levels[0]:.6g}..{self.levels[-1]:.6g})"
        )


def quantize_codebook(
    x: npt.ArrayLike,
    levels: npt.ArrayLike,
    scale: npt.ArrayLike = 1.0,
    *,
    axis: int | None = None,
    block_size: int | None = None,
    rounding: str = "nearest",
) -> CodebookTensor:
    """The code of the level nearest to each x / scale.

    x: real array; levels: rising, (k,), k up to 65536, stored as float32. scale: 1 for levels in
    units of x; "absmax" makes the largest magnitude of the tensor, of each channel of `axis` or
    of each block meet the largest level; or numbers in the shapes of QuantizationParams.
    rounding "nearest": cells end halfway between levels, ties go to the even code, counted from
    the level nearest 0 (on an even grid that is `quantize`, on FP8 and FP4 it is IEEE rounding).
    "log": they end at the geometric mean, as if log2(x) were rounded; next to 0 at 2**-0.5 of
    the smallest level. Values beyond the last level take its code.
    Raises ValueError for bad data, levels, scales, a rounding that is neither.
    Source: arXiv 2305.14314 (NF4, absmax over blocks of 64). Taught in chapter 7.

    >>> quantize_codebook([[0.5, -2.0], [0.1, 0.0]], NF4, "absmax", axis=0).codes.tolist()
    [[10, 0], [15, 7]]
    """
    me = "quantize_codebook"
    x = _checks.float32_array(x, me)
    levels = _rising(levels, me)
    if isinstance(scale, str):
        if scale != "absmax" or not levels.any():
            raise ValueError(
                f"{me}: scale is {_checks.brief(scale)}; expected numbers, or 'absmax' with a "
                "level that is not 0"
            )
        scale = absmax_scale(x, np.abs(levels).max(), axis, block_size, me)
    bits = max(1, math.ceil(math.log2(levels.size)))
    params = QuantizationParams(scale, 0, bits, signed=False, axis=axis, block_size=block_size)
    data, small = params.normal_form(x.shape)
    codes = np.empty(data, params.code_dtype)
    thresholds = _thresholds(levels, rounding)
    kernels.nearest_level(x.reshape(data), params.scale.reshape(small), thresholds, codes)
    return CodebookTensor(codes.reshape(x.shape), levels, params)


def _rising(levels: npt.ArrayLike, function: str, dtype: type = np.float32) -> np.ndarray:
    """`levels` as an array (k,) of `dtype`, each larger than the one before."""
    _checks.float32_array(levels, function, "levels")
    levels = np.asarray(levels, dtype)
    if levels.ndim != 1 or levels.size > 65536 or not (np.diff(levels) > 0).all():
        raise ValueError(
            f"{function}: levels has shape {levels.shape}; expected one row of up to "
            "65,536 numbers, each larger than the one before in float32: np.unique"
        )
    return levels


def _thresholds(levels: np.ndarray, rounding: str) -> np.ndarray:
    """The largest float32 that still takes the lower of two neighbors, (k - 1,)."""
    _checks.choice(rounding, "quantize_codebook", "rounding", _ROUNDINGS)
    low, high = levels[:-1].astype(np.float64), levels[1:].astype(np.float64)
    if rounding == "nearest":
        end = (low + high) / 2
        odd = (np.arange(low.size) - np.abs(levels).argmin()) % 2 != 0
    else:
        end = np.sign(low + high) * np.sqrt(np.abs(low * high))
        end = np.where(low * high < 0, 0.0, end)  # neighbors on both sides of 0: the sign
        beside_zero = low * high == 0
        end = np.where(beside_zero, (low + high) * math.sqrt(0.5), end)
        odd = np.zeros(low.size, np.bool_)
    below = np.float32(-np.inf)
    last = end.astype(np.float32)
    last = np.where(last > end, np.nextafter(last, below), last)
    return np.where(odd & (last == end), np.nextafter(last, below), last)
