"""Products of codes in integers: one accumulator, one multiplier, one rounding.

Taught in chapter 9.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantlab import _checks, kernels
from quantlab.scheme import QuantizationParams
from quantlab.tensor import QuantizedTensor


def fixed_point_multiplier(real: Any) -> tuple[Any, Any]:
    """A positive factor as an integer: real = m * 2**-shift with m in [2**30, 2**31).

    real: a factor or an array of factors, 0 <= real < 2**30. Returns two ints, or two int64
    arrays of its shape. 0, and factors so small that every int32 times it rounds to 0, give
    m = 0. Raises ValueError for negative, infinite or larger factors.
    Source: gemmlowp, LiteRT (one rounding). Taught in chapter 9.

    >>> fixed_point_multiplier(0.75), fixed_point_multiplier(0)
    ((1610612736, 31), (0, 31))
    """
    array = _checks.real_array(real, "fixed_point_multiplier", "real").astype(np.float64)
    if (array < 0).any() or (array >= 2**30).any():
        raise ValueError(f"fixed_point_multiplier: real is {real}; expected 0 <= real < 2**30")
    fraction, exponent = np.frexp(array)  # array = fraction * 2**exponent, fraction in [1/2, 1)
    m = np.rint(fraction * 2**31).astype(np.int64)
    carry = m == 2**31
    m, shift = np.where(carry, 2**30, m), 31 - exponent.astype(np.int64) - carry
    zero = (m == 0) | (shift > 62)  # below 2**-32: every int32 product rounds to 0
    m, shift = np.where(zero, 0, m), np.where(zero, 31, shift)
    return (m, shift) if array.ndim else (int(m), int(shift))


def requantize(acc: Any, m: Any, shift: Any, zero_point: int, qmin: int, qmax: int) -> np.ndarray:
    """Codes from accumulators with one rounding: ((acc * m + 2**(shift-1)) >> shift) + zero_point.

    acc: int32, any shape; m, shift: ints, or one per value of the last axis. Returns codes
    clamped to [qmin, qmax], int8 or int16 if qmin < 0, else uint8 or uint16. Ties go up.
    Raises ValueError for accumulators beyond int32, m outside [0, 2**31), shift outside 1-62.
    Source: LiteRT, onnxruntime QLinearMatMul. Taught in chapter 9.

    >>> requantize([-300, 100, 9000], *fixed_point_multiplier(0.01), 5, -128, 127).tolist()
    [2, 6, 95]
    """
    me = "requantize"
    acc = _integers(acc, me, "acc", -(2**31), 2**31 - 1)
    if not (-32768 <= qmin < qmax <= (32767 if qmin < 0 else 65535)):
        raise ValueError(f"{me}: codes {qmin} to {qmax} fit neither int16 nor uint16")
    n = acc.shape[-1] if acc.ndim else 1
    m, shift = (
        _integers(a, me, name, low, high)
        for a, name, low, high in ((m, "m", 0, 2**31 - 1), (shift, "shift", 1, 62))
    )
    if any(a.shape not in ((), (1,), (n,)) for a in (m, shift)):
        raise ValueError(
            f"{me}: m has shape {m.shape}, shift {shift.shape}; expected one "
            f"value, or one for each of the {n} columns of acc"
        )
    width = 8 if (qmin >= -128 and qmax <= 127) or (0 <= qmin and qmax <= 255) else 16
    out = np.empty((acc.size // n, n), f"{'' if qmin < 0 else 'u'}int{width}")
    rows = acc.astype(np.int32).reshape(-1, n)
    kernels.requantize(rows, _spread(m, n), _spread(shift, n), zero_point, qmin, qmax, out)
    return out.reshape(acc.shape)


def _spread(a: np.ndarray, n: int) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(a, (n,)), dtype=np.int64)


def _integers(a: Any, function: str, name: str, low: int, high: int) -> np.ndarray:
    array = _checks.real_array(a, function, name)
    if array.dtype.kind not in "iu" or array.min() < low or array.max() > high:
        raise ValueError(
            f"{function}: {name} is {array.dtype} from {array.min()} to "
            f"{array.max()}; expected integers in [{low}, {high}]"
        )
    return array


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """Weights (K, N) of a product, copied once into the order in which the kernels read them.

    Made by `pack_weights`; taken by `quantized_matmul` and by the layers of `nn`.
    Taught in chapter 9.
    """

    weights: QuantizedTensor
    _codes: Any = field(init=False, repr=False)
    _zero: np.ndarray = field(init=False, repr=False)  # (N,) int32
    _largest: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        codes, zero, largest = _operand(self.weights, "pack_weights", blocks=True)
        p = self.weights.params
        if p.block_size is not None and (zero.any() or p.bits > 8 or codes.max() > 127):
            raise ValueError(f"pack_weights: blocks take symmetric codes that fit int8; got {p}")
        if p.block_size is None:
            packed = kernels.pack_weights(codes)
        else:
            packed = kernels.pack_weights(codes.astype(np.int8), p.scale.shape[0])
        values = {"_codes": packed, "_zero": zero, "_largest": largest}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple:
        return pack_weights, (self.weights,)  # another process may read in another order

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N)."""
        return self.weights.shape

    def product(self, x: QuantizedTensor) -> np.ndarray:
        """x @ weights in real values, float32 (M, N): exact integer sums, then their scales.

        x (M, K): one scale; with blocks, unsigned codes of up to 8 bits. The blocks are added in
        float32 from first to last. Raises ValueError as `quantized_matmul` does.
        """
        me, p = "PackedWeights.product", self.weights.params
        if p.block_size is None:
            return quantized_matmul(x, self).astype(np.float32) * (x.params.scale * p.scale)
        _check_inputs(x, self.weights, me)
        check_room(x.params, self._largest, p.block_size, me)
        if x.codes.dtype != np.uint8:
            raise ValueError(f"{me}: x has codes of {x.codes.dtype}; blocks take uint8")
        zero, scale = int(x.params.zero_point), x.params.scale * p.scale
        return kernels.grouped_matmul(np.ascontiguousarray(x.codes), self._codes, scale, zero)


def pack_weights(w: QuantizedTensor) -> PackedWeights:
    """Copy weights (K, N) once into the order in which the kernels of this machine read them.

    Pays from the second product on. w: one scale, one per column (axis 1), or blocks along K
    (axis 0); a layer with weights (out, in) packs w.T. Codes of 4 bits stay two in a byte.
    Raises ValueError for other granularities. Taught in chapter 9.

    >>> w = QuantizedTensor(np.array([[2], [5]], np.int8), QuantizationParams(1, 0))
    >>> x = QuantizedTensor(np.array([[7, 3]], np.uint8), QuantizationParams(1, 3, signed=False))
    >>> quantized_matmul(x, pack_weights(w)).tolist()
    [[8]]
    """
    return PackedWeights(w)


def quantized_matmul(
    x: QuantizedTensor,
    w: QuantizedTensor | PackedWeights,
    out: QuantizationParams | None = None,
    *,
    bias: Any = None,
) -> np.ndarray | QuantizedTensor:
    """Integer product of codes, (M, K) @ (K, N): int32 accumulators with zero points removed.

    x: one scale. w: one scale, or one per column (axis 1), so a layer with weights (out, in)
    calls quantized_matmul(x, w.T); weights that serve more than once come from `pack_weights`.
    bias: integers (N,) in units of scale_x * scale_w. With `out` (one scale) the accumulators are
    requantized, and a QuantizedTensor comes back.
    Raises ValueError for shapes or granularities that do not fit, and where K (and the bias)
    could overflow the accumulator: K abs(x code) abs(w code) must stay below 2**31.
    Source: arXiv 1712.05877, ONNX QLinearMatMul. Taught in chapter 9.

    >>> x = QuantizedTensor(np.array([[7, 3]], np.uint8), QuantizationParams(1, 3, signed=False))
    >>> w = QuantizedTensor(np.array([[2], [5]], np.int8), QuantizationParams(1, 0))
    >>> quantized_matmul(x, w).tolist()
    [[8]]
    """
    me = "quantized_matmul"
    weights = w.weights if isinstance(w, PackedWeights) else w
    _check_inputs(x, weights, me)
    if isinstance(w, PackedWeights) and weights.params.block_size is None:
        codes, zero, largest = w._codes, w._zero, w._largest
    else:
        codes, zero, largest = _operand(weights, me)
    (k, n), reserve = weights.shape, 0
    if bias is not None:
        bias = _integers(bias, me, "bias", -(2**31), 2**31 - 1)
        if bias.shape != (n,):
            raise ValueError(f"{me}: bias has shape {bias.shape}; expected ({n},)")
        reserve = int(np.abs(bias.astype(np.int64)).max())
    check_room(x.params, largest, k, me, reserve)
    if x.codes.itemsize > 1:
        codes = weights.codes  # bytes are packed for bytes
    acc = kernels.integer_matmul(
        np.ascontiguousarray(x.codes), codes, int(x.params.zero_point), zero
    )
    if bias is not None:
        acc += bias.astype(np.int32)
    if out is None:
        return acc
    if out.axis is not None or out.is_binary:
        raise ValueError(f"{me}: out is {out}; expected one scale for the whole output, 2 codes up")
    real = x.params.scale.astype(np.float64) * weights.params.scale / np.float64(out.scale)
    m, shift = fixed_point_multiplier(real)
    return QuantizedTensor(requantize(acc, m, shift, int(out.zero_point), out.qmin, out.qmax), out)


def _operand(w: QuantizedTensor, me: str, blocks: bool = False) -> tuple[np.ndarray, Any, int]:
    """Codes, zero points (N,) int32 and largest magnitude of weights (K, N) that fit a product."""
    if not isinstance(w, QuantizedTensor) or w.ndim != 2:
        got = getattr(w, "shape", type(w).__name__)
        raise ValueError(f"{me}: w is {got}; expected a QuantizedTensor of two axes (K, N)")
    p, blocked = w.params, w.params.block_size is not None
    if blocked > blocks or (p.axis is not None and p.axis % 2 == blocked):
        raise ValueError(
            f"{me}: w has {f'blocks of {p.block_size}' if blocked else 'scales'} along axis "
            f"{p.axis}; expected one scale for the tensor or one per column (axis 1)"
            f"{' or blocks along axis 0' * blocks}; transpose it, or dequantize first"
        )
    zero = p.zero_point if blocked else np.broadcast_to(p.zero_point, w.shape[1:])
    return w.codes, zero.astype(np.int32), largest_code(p)


def _check_inputs(x: QuantizedTensor, w: QuantizedTensor, me: str) -> None:
    for a, name in ((x, "x"), (w, "w")):
        if not isinstance(a, QuantizedTensor):
            raise ValueError(f"{me}: {name} is {type(a).__name__}; expected a QuantizedTensor")
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(f"{me}: x has shape {x.shape}, w {w.shape}; expected (M, K) and (K, N)")
    if x.params.axis is not None:
        raise ValueError(
            f"{me}: x has scales along axis {x.params.axis}; expected one for the "
            "tensor, because one accumulator adds up a whole row"
        )


def check_room(x: QuantizationParams, w_largest: int, k: int, me: str, reserve: int = 0) -> None:
    """Raise ValueError if k products of codes, and `reserve` for a bias, could leave int32."""
    term, room = largest_code(x) * w_largest, 2**31 - 1 - reserve
    if k * term > room:
        raise ValueError(
            f"{me}: K = {k} products of up to {term:,} can overflow the int32 "
            f"accumulator; split K into parts of at most {room // term:,}"
        )


def largest_code(params: QuantizationParams) -> int:
    """Largest magnitude of a code with its zero point removed."""
    z = params.zero_point
    low, high = (int(z), int(z)) if z.ndim == 0 else (int(z.min()), int(z.max()))
    return max(params.qmax - low, high - params.qmin)
