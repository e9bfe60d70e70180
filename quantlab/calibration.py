"""From data to parameters: which range should the grid cover? Taught in chapter 3."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from quantlab import _checks
from quantlab.scheme import QuantizationParams, QuantizationScheme, code_range, scale_shape

_ME = "choose_params"
_OPTIONS = {
    "minmax": {},
    "percentile": {"percentile": 99.9},
    "mse": {},
    "entropy": {"bins": 2048},
    "aciq": {"distribution": "auto"},
}


def choose_params(
    x: Any,
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
    One symmetric bit is the binary grid: scale = mean abs(x), the MSE optimum, by any method.

    method: "minmax"; "percentile" (percentile=99.9, of abs(x) when symmetric, else of both
    ends); "mse" (searches the clip); "entropy" (bins=2048, Kullback-Leibler on a histogram);
    "aciq" (distribution="auto", "normal" or "laplace", clip from a formula).
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
    scheme, options = _checked_choice(scheme, method, options)
    bits = _checks.integer(bits, _ME, "bits", 1, 16)
    narrow = scheme.symmetric if narrow_range is None else bool(narrow_range)
    if bits == 1 and scheme.symmetric and not (signed and narrow):
        raise ValueError(f"{_ME}: one symmetric bit is the binary grid (signed=True, "
                         f"narrow_range=True), got signed={signed}, narrow_range={narrow}; "
                         "drop them or use an asymmetric scheme")
    if bits == 1 and not scheme.symmetric and narrow:
        raise ValueError(f"{_ME}: one asymmetric bit has codes 0 and 1; narrow_range=True would "
                         "leave one of them")
    whole = not scheme.per_channel and block_size is None
    groups, shape = (x.reshape(1, -1), ()) if whole else _groups(x, axis, block_size)
    codes = code_range(bits, signed, narrow)
    if bits == 1 and scheme.symmetric:
        scale = _step(np.abs(groups).mean(axis=1, dtype=np.float64).astype(np.float32), 1)
        zero_point = np.zeros(len(groups), np.int32)
    else:
        low, high = _METHODS[method](groups, codes, scheme.symmetric, **options)
        grid = _symmetric_grid if scheme.symmetric else _asymmetric_grid
        scale, zero_point = grid(low, high, *codes)
    return QuantizationParams(
        scale.reshape(shape), zero_point.reshape(shape), bits, signed, narrow,
        None if whole else axis, block_size,
    )


def _checked_choice(scheme: Any, method: str, options: dict) -> tuple[QuantizationScheme, dict]:
    if not isinstance(scheme, QuantizationScheme):
        names = ", ".join(QuantizationScheme.__members__)
        raise ValueError(f"{_ME}: scheme is {scheme!r}; expected a QuantizationScheme: {names}")
    if method not in _OPTIONS:
        raise ValueError(f"{_ME}: method is {method!r}; expected one of {', '.join(_OPTIONS)}")
    unknown = sorted(set(options) - set(_OPTIONS[method]))
    if unknown:
        known = ", ".join(_OPTIONS[method]) or "no options"
        raise ValueError(f"{_ME}: method {method!r} does not know {', '.join(unknown)}; "
                         f"it takes {known}")
    return scheme, {**_OPTIONS[method], **options}


def _groups(x: np.ndarray, axis: int, block_size: int | None) -> tuple[np.ndarray, tuple]:
    """One row per scale, and the shape of the scales: x (..., C, ...) -> (C, n), (C,)."""
    axis = _checks.normalize_axis(axis, x.ndim, _ME)
    if block_size is None:
        return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1), (x.shape[axis],)
    block_size = _checks.integer(block_size, _ME, "block_size", 1, 2**31 - 1)
    shape = scale_shape(x.shape, axis, block_size)
    blocks = x.reshape(*shape[: axis + 1], block_size, *shape[axis + 1 :])
    return np.moveaxis(blocks, axis + 1, -1).reshape(-1, block_size), shape


# --- the grid over a range: low, high (groups,) float32 -> scale float32, zero point int32


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
    alpha = np.maximum(-low, high)
    scale = _step(alpha, (qmax - qmin) / 2)
    zero_point = np.full(scale.shape, 0 if qmin < 0 else (qmax + 1) // 2, np.int32)
    return _finite_grid(scale, np.maximum(qmax - zero_point, zero_point - qmin)), zero_point


def _asymmetric_grid(low, high, qmin, qmax):
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    with np.errstate(over="ignore"):
        span = high - low
    if np.isinf(span).any():
        worst = int(np.argmax(span))
        raise ValueError(f"{_ME}: the range {low[worst]:.3g} to {high[worst]:.3g} is wider than "
                         "float32 (3.4e38); rescale the data")
    scale = _step(span, qmax - qmin)
    zero_point = np.clip(np.rint(np.float32(qmin) - low / scale), qmin, qmax).astype(np.int32)
    return _finite_grid(scale, np.maximum(qmax - zero_point, zero_point - qmin)), zero_point


# --- the range: groups (G, n) float32 -> low, high (G,) float32


def _minmax(groups, codes, symmetric):
    return groups.min(axis=1), groups.max(axis=1)


_METHODS = {"minmax": _minmax}
