"""From data to parameters: which range should the grid cover? Taught in chapter 3."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab import _checks, kernels
from quantlab.scheme import QuantizationParams, QuantizationScheme, code_range, scale_shape

_ME = "choose_params"
_OPTIONS: dict[str, dict[str, Any]] = {
    "minmax": {},
    "percentile": {"percentile": 99.9},
    "mse": {},
    "entropy": {"bins": 2048},
    "aciq": {"distribution": "auto"},
}


def choose_params(
    x: npt.ArrayLike,
    scheme: QuantizationScheme,
    bits: int = 8,
    *,
    method: str = "minmax",
    signed: bool = True,
    narrow_range: bool | None = None,
    axis: int = 0,
    block_size: int | None = None,
    **options: Any,
) -> QuantizationParams:
    """Scale and zero point for `x`: one pair per tensor, per channel of `axis`, or per block.

    x: real array. Symmetric: codes spread over [-alpha, alpha], zero point in the middle.
    Asymmetric: over [lo, hi], extended to contain 0, in the float32 arithmetic of ONNX
    DynamicQuantizeLinear. `narrow_range` None means True for symmetric (scale alpha / 127 at
    8 bits), False for asymmetric. With `block_size` each run of that many values along `axis`
    has its own pair, and the scheme only says symmetric or asymmetric.
    One symmetric bit is the binary grid: scale = mean abs(x), the MSE optimum, by any method,
    and 0 where all of x is 0. Other grids take the scale 1 there.

    method: "minmax"; "percentile" (percentile=99.9, of abs(x) when symmetric, else of both
    ends; where so many values are 0 that the range would be 0, of the other values); "mse"
    (searches the clip); "entropy" (bins=2048, Kullback-Leibler on a histogram); "aciq"
    (distribution="auto", "normal" or "laplace", clip from a formula).
    Entropy needs many values: with fewer than about 100 for each bin it weighs the luck of the
    sample, and at 8 bits its SNR moves by several dB with the number of bins.
    Raises ValueError for bad data, an unknown method or option, a rank without `axis`, and
    ranges beyond float32.
    Source: arXiv 1712.05877 (grid), TensorRT 2017 (entropy), arXiv 1810.05723 (ACIQ).
    Taught in chapters 2 and 3.

    >>> x = np.array([-1.0, 0.0, 0.5, 3.0])
    >>> p = choose_params(x, QuantizationScheme.ASYMMETRIC_PER_TENSOR, bits=4, signed=False)
    >>> round(float(p.scale), 4), int(p.zero_point)
    (0.2667, 4)
    """
    x = _checks.float32_array(x, _ME)
    scheme, options = checked_choice(scheme, method, options)
    bits = _checks.integer(bits, _ME, "bits", 1, 16)
    narrow = scheme.symmetric if narrow_range is None else bool(narrow_range)
    if bits == 1 and scheme.symmetric and not (signed and narrow):
        raise ValueError(
            f"{_ME}: one symmetric bit is the binary grid (signed=True, "
            f"narrow_range=True), got signed={signed}, narrow_range={narrow}; "
            "drop them or use an asymmetric scheme"
        )
    if bits == 1 and not scheme.symmetric and narrow:
        raise ValueError(
            f"{_ME}: one asymmetric bit has codes 0 and 1; narrow_range=True would "
            "leave one of them"
        )
    whole = not scheme.per_channel and block_size is None
    groups, shape = (x.reshape(1, -1), ()) if whole else groups_of(x, axis, block_size)
    codes = code_range(bits, signed, narrow)
    if bits == 1 and scheme.symmetric:
        scale = np.abs(groups).mean(axis=1, dtype=np.float64).astype(np.float32)
        zero_point = np.zeros(len(groups), np.int32)
    else:
        low, high = _METHODS[method](groups, codes, scheme.symmetric, **options)
        grid = _symmetric_grid if scheme.symmetric else _asymmetric_grid
        scale, zero_point = grid(low, high, *codes)
    return QuantizationParams(
        scale.reshape(shape),
        zero_point.reshape(shape),
        bits,
        signed,
        narrow,
        None if whole else axis,
        block_size,
    )


def checked_choice(scheme: Any, method: str, options: dict) -> tuple[QuantizationScheme, dict]:
    """The scheme, and the options of the method with its defaults filled in."""
    if not isinstance(scheme, QuantizationScheme):
        names = ", ".join(QuantizationScheme.__members__)
        raise ValueError(
            f"{_ME}: scheme is {_checks.brief(scheme)}; expected a QuantizationScheme: {names}"
        )
    _checks.choice(method, _ME, "method", _OPTIONS)
    unknown = sorted(set(options) - set(_OPTIONS[method]))
    if unknown:
        known = ", ".join(_OPTIONS[method]) or "no options"
        raise ValueError(
            f"{_ME}: method {method!r} does not know {', '.join(unknown)}; it takes {known}"
        )
    return scheme, {**_OPTIONS[method], **options}


def absmax_scale(
    x: np.ndarray, top: float, axis: int | None, block_size: int | None, function: str
) -> np.ndarray:
    """Scales under which the largest magnitude of x, of a channel or of a block meets `top`."""
    whole = axis is None and block_size is None
    groups, shape = (x.reshape(1, -1), ()) if whole else groups_of(x, axis, block_size, function)
    return _step(np.abs(groups).max(axis=1), top).reshape(shape)


def groups_of(
    x: np.ndarray, axis: int | None, block_size: int | None, function: str = _ME
) -> tuple[np.ndarray, tuple]:
    """One row per scale, and the shape of the scales: x (..., C, ...) -> (C, n), (C,)."""
    axis = _checks.normalize_axis(axis, x.ndim, function)
    if block_size is None:
        return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1), (x.shape[axis],)
    block_size = _checks.integer(block_size, function, "block_size", 1, 2**31 - 1)
    shape = scale_shape(x.shape, axis, block_size)
    blocks = x.reshape(*shape[: axis + 1], block_size, *shape[axis + 1 :])
    return np.moveaxis(blocks, axis + 1, -1).reshape(-1, block_size), shape


# --- the grid over a range: low, high (G,) float32 -> scale float32, zero point int32


def _step(span: np.ndarray, steps: float) -> np.ndarray:
    """span / steps; 1 where the span is zero, never below the smallest normal float32."""
    scale = np.maximum(span / np.float32(steps), np.finfo(np.float32).tiny)
    return np.where(span == 0, np.float32(1), scale)


def _finite_grid(scale: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """One float32 step smaller where rounding put scale * steps beyond float32."""
    with np.errstate(over="ignore"):
        overflow = np.isinf(scale * steps.astype(np.float32))
    return np.where(overflow, np.nextafter(scale, np.float32(0)), scale)


def _symmetric_grid(low, high, qmin, qmax):
    scale = _step(high, (qmax - qmin) / 2)
    zero_point = np.full(scale.shape, 0 if qmin < 0 else (qmax + 1) // 2, np.int32)
    return _finite_grid(scale, np.maximum(qmax - zero_point, zero_point - qmin)), zero_point


def _asymmetric_grid(low, high, qmin, qmax):
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    with np.errstate(over="ignore"):
        span = high - low
    if np.isinf(span).any():
        worst = int(np.argmax(span))
        raise ValueError(
            f"{_ME}: the range {low[worst]:.3g} to {high[worst]:.3g} is wider than "
            "float32 (3.4e38); rescale the data"
        )
    scale = _step(span, qmax - qmin)
    zero_point = np.clip(np.rint(np.float32(qmin) - low / scale), qmin, qmax).astype(np.int32)
    return _finite_grid(scale, np.maximum(qmax - zero_point, zero_point - qmin)), zero_point


# --- the range: groups (G, n) float32 -> low, high (G,) float32; symmetric: low = -high


def _minmax(groups, codes, symmetric):
    low, high = groups.min(axis=1), groups.max(axis=1)
    peak = np.maximum(-low, high)
    return (-peak, peak) if symmetric else (np.minimum(low, 0), np.maximum(high, 0))


def _percentile(groups, codes, symmetric, percentile):
    least = 0 if symmetric else 50
    number = isinstance(percentile, (int, float, np.number)) and not isinstance(percentile, bool)
    if number and 0 < percentile <= 1:
        raise ValueError(
            f"{_ME}: percentile is {percentile!r}; expected percent, not a share: "
            f"percentile={100 * float(percentile):g}"
        )
    if not (number and least < percentile <= 100):
        raise ValueError(
            f"{_ME}: percentile is {_checks.brief(percentile)}; "
            f"expected a number above {least} and up to 100"
        )

    def ends(values):  # (..., n) -> low, high (2, ...)
        if symmetric:
            high = np.percentile(np.abs(values), percentile, axis=-1)
            return np.float32([-high, high])
        return np.percentile(values, [100 - percentile, percentile], axis=-1).astype(np.float32)

    values = groups.astype(np.float64)
    low, high = ends(values)
    for g in np.flatnonzero((low >= 0) & (high <= 0) & values.any(axis=1)):
        low[g], high[g] = ends(values[g][values[g] != 0])  # zeros are exact on any grid
    return low, high


def _mse(groups, codes, symmetric):
    # a power of two brings each group near 1 without changing any code
    exponent = np.frexp(np.abs(groups).max(axis=1))[1]
    unit = np.ldexp(groups, -exponent[:, None])
    low, high = _minmax(unit, codes, symmetric)
    cost = _MeanSquaredError(unit, codes, symmetric)
    floor = np.abs(unit).mean(axis=1) / 2  # no useful clip lies below half the mean magnitude
    if symmetric:
        high = _lowest(lambda alpha: cost(-alpha, alpha), high, floor, (48, 16, 16))
        return -np.ldexp(high, exponent), np.ldexp(high, exponent)
    peak = np.maximum(-low, high)
    both = _lowest(lambda a: cost(np.maximum(low, -a), np.minimum(high, a)), peak, floor, (32, 12))
    low, high = np.maximum(low, -both), np.minimum(high, both)
    for _ in range(2):  # then one end at a time
        high = _lowest(lambda b, low=low: cost(low, b), high, floor, (12, 10))
        low = -_lowest(lambda a, high=high: cost(-a, high), -low, floor, (12, 10))
    low, high = _neighboring_zero_points(cost, low, high)
    return tuple(np.where(peak == 0, peak, np.ldexp(end, exponent)) for end in (low, high))


def _neighboring_zero_points(cost, low, high):
    """Moving one end moves the rounded zero point by jumps: try the near ones, scale by scale."""
    qmin, qmax = cost.codes
    scale, zero_point = _asymmetric_grid(low, high, qmin, qmax)
    least = cost(low, high)
    for step in (-2, -1, 0, 1, 2):
        z = np.clip(zero_point + step, qmin, qmax).astype(np.float32)
        s = _lowest(
            lambda s, z=z: cost((qmin - z) * s, (qmax - z) * s), 1.5 * scale, scale / 1.5, (16, 12)
        )
        here = cost((qmin - z) * s, (qmax - z) * s)
        low = np.where(here < least, (qmin - z) * s, low)
        high = np.where(here < least, (qmax - z) * s, high)
        least = np.minimum(here, least)
    return low, high


class _MeanSquaredError:
    """Cost of a range, one number per group: what fake quantization on its grid would lose."""

    def __init__(self, groups, codes, symmetric):
        self.groups, self.codes = np.ascontiguousarray(groups), codes
        self.grid = _symmetric_grid if symmetric else _asymmetric_grid
        self.out = np.empty((1, *groups.shape), np.float32)

    def __call__(self, low, high):
        scale, zero_point = (a[None, :, None] for a in self.grid(low, high, *self.codes))
        kernels.fake_quantize(self.groups[None], scale, zero_point, *self.codes, self.out)
        np.subtract(self.out, self.groups, out=self.out)
        loss = np.square(self.out, out=self.out).mean(axis=(0, 2), dtype=np.float64)
        return np.where(low == high, np.inf, loss)


def _lowest(cost, top, floor, rounds):
    """For each group the value of lowest cost: 0, or a log-spaced scan from `top` to `floor`.

    Each further round scans between the neighbors of the best value so far, so the cost never
    exceeds that of `top`.
    """
    top = np.maximum(top, np.float32(1e-30))  # a group of zeros costs nothing wherever it ends
    best, least = top, cost(top)
    low, high = np.minimum(floor, top) + np.float32(1e-30), top
    columns = np.arange(len(top))
    for points in rounds:
        scan = np.geomspace(high, low, points).astype(np.float32)  # (points, G)
        costs = np.array([cost(value) for value in scan])
        at = costs.argmin(axis=0)
        better = costs[at, columns] < least
        best = np.where(better, scan[at, columns], best)
        least = np.minimum(costs[at, columns], least)
        high = scan[np.maximum(at - 1, 0), columns]
        low = scan[np.minimum(at + 1, points - 1), columns]
    zero = np.zeros_like(best)
    return np.where((top <= 1e-30) | (cost(zero) < least), zero, best)


def _entropy(groups, codes, symmetric, bins):
    bins = _checks.integer(bins, _ME, "bins", 16, 2**20)
    low, high = _minmax(groups, codes, symmetric)
    peak, other = np.maximum(-low, high), np.minimum(-low, high)
    for g in np.flatnonzero(peak):
        sizes = np.abs(groups[g][groups[g] != 0]).astype(np.float64)  # zeros are exact anyway
        counts = np.histogram(sizes, bins, (0, float(peak[g])))[0]
        kept = _kl_cut(counts, codes[1] - codes[0], bins * float(other[g]) / float(peak[g]))
        clip = np.float32(peak[g] * (kept / bins))
        low[g], high[g] = max(low[g], -clip), min(high[g], clip)
    return low, high


def _kl_cut(counts: np.ndarray, steps: int, other: float) -> int:
    """How many bins of a histogram of abs(x) to keep, so that the codes say the most.

    counts (bins,); the `steps` between the codes are shared with the shorter side of the data,
    which ends after `other` bins. P: the bins kept, with all that lies beyond added to the last.
    Q: the same bins, each with the mean of the bins that share its code. Least KL(P, Q) wins.
    """
    bins = len(counts)
    best, cut = np.inf, bins
    for kept in np.unique(np.linspace(bins, 16, 128).astype(int))[::-1]:
        mine = steps * kept / (kept + min(kept, other))
        if mine >= kept:  # a step finer than a bin: the histogram cannot tell
            break
        p = counts[:kept].astype(np.float64)
        p[-1] += counts[kept:].sum()
        code = np.rint((np.arange(kept) + 0.5) * mine / kept).astype(int)
        members = np.bincount(code, p > 0)
        mean = np.bincount(code, counts[:kept]) / np.maximum(members, 1)
        used = p > 0
        p, q = p[used] / p.sum(), mean[code][used]
        if (q == 0).any():  # the last bin holds nothing but clipped values
            continue
        divergence = float(np.sum(p * np.log(p / (q / q.sum()))))
        if divergence < best:
            best, cut = divergence, int(kept)
    return cut


def _aciq(groups, codes, symmetric, distribution):
    _checks.choice(distribution, _ME, "distribution", ("auto", "normal", "laplace"))
    bits = math.ceil(math.log2(codes[1] - codes[0] + 1))
    low, high = _minmax(groups, codes, symmetric)
    values = groups.astype(np.float64)
    one_sided = ~np.array(symmetric) & ((low == 0) | (high == 0))
    # a one-sided group is half of a symmetric one, with all the codes: one bit more for the half
    center = np.where(symmetric | one_sided, 0.0, values.mean(axis=1))
    values -= center[:, None]
    b, sigma = np.abs(values).mean(axis=1), np.sqrt((values**2).mean(axis=1))
    gauss = {k: aciq_clip(bits + k, "normal") for k in (0, 1)}
    laplace = {k: aciq_clip(bits + k, "laplace") for k in (0, 1)}
    # the likelier of the two: Laplace where log(2 e b) < log(2 pi e sigma^2) / 2
    likely = 2 * math.e * b < np.sqrt(2 * np.pi * math.e) * sigma
    is_laplace = likely if distribution == "auto" else np.full(len(b), distribution == "laplace")
    clip = np.where(
        is_laplace,
        b * np.where(one_sided, laplace[1], laplace[0]),
        sigma * np.where(one_sided, gauss[1], gauss[0]),
    )
    return (
        np.maximum(low, center - clip).astype(np.float32),
        np.minimum(high, center + clip).astype(np.float32),
    )


def aciq_clip(bits: int, distribution: str) -> float:
    """Clip that minimizes overload plus granular noise for a known distribution.

    Returns alpha / sigma for "normal", alpha / b for "laplace" (b = mean abs(x)): the root of
    overload slope = alpha / (3 * 4**bits), which for Laplace is LambertW(3 * 4**bits).
    Source: arXiv 1810.05723, equations 6 to 12. Taught in chapter 3.

    >>> round(aciq_clip(4, "normal"), 5), round(aciq_clip(4, "laplace"), 5)
    (2.55914, 5.02864)
    """
    from scipy import optimize, special  # half a second, and no other method needs them

    me = "aciq_clip"
    steps = 3 * 4.0 ** _checks.integer(bits, me, "bits", 1, 17)
    if _checks.choice(distribution, me, "distribution", ("normal", "laplace")) == "laplace":
        return float(special.lambertw(steps).real)

    def slope(a: float) -> float:  # granular minus overload, rising
        density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        return a / steps - 2 * (density - a * special.ndtr(-a))

    return float(optimize.brentq(slope, 0, 40, xtol=1e-12))


_METHODS: dict[str, Callable[..., Any]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
    "aciq": _aciq,
}
