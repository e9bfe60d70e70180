"""Arrays on a grid: quantize, dequantize, pack. Taught in chapter 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab import _checks, kernels
from quantlab.scheme import QuantizationParams, checked_params


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """Integer codes and the grid they live on.

    `codes` has the shape of the data and the dtype of the grid: int8, uint8, int16 or uint16.
    Raises ValueError for codes of another dtype or outside the grid, and for a shape that does
    not fit the scales. Taught in chapter 2.

    >>> q = quantize([-1.0, 0.2, 0.9], QuantizationParams(0.25, 0, bits=4))
    >>> q.codes.tolist(), q.dequantize().tolist(), q.nbytes
    ([-4, 1, 4], [-1.0, 0.25, 1.0], 6)
    """

    codes: np.ndarray
    params: QuantizationParams

    def __post_init__(self) -> None:
        codes, params = self.codes, self.params
        checked_params(params, "QuantizedTensor")
        _checks.typed_array(codes, params.code_dtype, "QuantizedTensor", "codes")
        params.normal_form(codes.shape)
        low, high = int(codes.min()), int(codes.max())
        hole = params.is_binary and not codes.all()
        if low < params.qmin or high > params.qmax or hole:
            raise ValueError(
                f"QuantizedTensor: codes run from {low} to {high}"
                f"{' and contain 0' * hole}; expected "
                f"{params.qmin} {'or' if params.is_binary else 'to'} {params.qmax}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the codes, which is that of the data."""
        return self.codes.shape

    @property
    def ndim(self) -> int:
        """Rank of the data."""
        return self.codes.ndim

    @property
    def T(self) -> QuantizedTensor:
        """The transposed matrix, with the axis of the scales moved along."""
        if self.ndim != 2:
            raise ValueError(f"QuantizedTensor.T: shape {self.shape}; expected a matrix")
        p = self.params
        if p.axis is None:
            return QuantizedTensor(self.codes.T, p)
        moved = QuantizationParams(
            p.scale.T,
            p.zero_point.T,
            p.bits,
            p.signed,
            p.narrow_range,
            1 - p.axis % 2,
            p.block_size,
        )
        return QuantizedTensor(self.codes.T, moved)

    @property
    def nbytes(self) -> int:
        """Stored bytes: packed codes (below 8 bits), scales, and zero points unless all are 0."""
        p, width = self.params, self.codes.itemsize
        codes = math.ceil(self.codes.size * p.bits / 8) if p.bits < 8 else self.codes.size * width
        return codes + 4 * p.scale.size + width * p.zero_point.size * bool(p.zero_point.any())

    def pack(self) -> npt.NDArray[np.uint8]:
        """The codes as a bitstream (uint8), first code in the lowest bits.

        Two's complement, as ONNX packs int4; a binary +1 is a set bit. Taught in chapter 5.

        >>> q = quantize([1.0, 2.0, -1.0], QuantizationParams(1.0, 0, bits=4))
        >>> [hex(byte) for byte in q.pack()]
        ['0x21', '0xf']
        """
        codes = np.ascontiguousarray(self.codes).reshape(-1)
        return kernels.pack(codes > 0 if self.params.is_binary else codes, self.params.bits)

    @classmethod
    def from_packed(
        cls, buffer: npt.ArrayLike, params: QuantizationParams, shape: tuple[int, ...]
    ) -> QuantizedTensor:
        """The tensor of `shape` that `pack` turned into `buffer` (uint8).

        Raises ValueError for a buffer of another dtype or length. Taught in chapter 5.

        >>> p = QuantizationParams(1.0, 0, bits=4)
        >>> QuantizedTensor.from_packed(np.array([0x21, 0x0F], np.uint8), p, (3,)).codes.tolist()
        [1, 2, -1]
        """
        buffer = _checks.real_array(buffer, "from_packed", "buffer")
        shape = _checks.shape(shape, "from_packed")
        params = checked_params(params, "from_packed")
        need = math.ceil(math.prod(shape) * params.bits / 8)
        if buffer.dtype != np.uint8 or buffer.shape != (need,):
            raise ValueError(
                f"from_packed: buffer is {buffer.dtype} of shape {buffer.shape}; "
                f"{params.bits}-bit codes of shape {shape} need uint8 ({need},)"
            )
        codes = np.empty(math.prod(shape), params.code_dtype)
        kernels.unpack(
            np.ascontiguousarray(buffer), params.bits, params.signed and not params.is_binary, codes
        )
        return cls((2 * codes - 1 if params.is_binary else codes).reshape(shape), params)

    def dequantize(self) -> npt.NDArray[np.float32]:
        """scale * (code - zero_point), float32, in the shape of the codes."""
        data, small = self.params.normal_form(self.shape)
        out = np.empty(data, np.float32)
        codes = np.ascontiguousarray(self.codes).reshape(data)
        kernels.dequantize(codes, *_small(self.params, small), out)
        return out.reshape(self.shape)

    def __repr__(self) -> str:
        return f"QuantizedTensor(shape={self.shape}, {self.nbytes} bytes, {self.params})"


def _small(params: QuantizationParams, shape: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point in the 3-D shape that the kernels broadcast."""
    return params.scale.reshape(shape), params.zero_point.reshape(shape)


def quantize(x: npt.ArrayLike, params: QuantizationParams) -> QuantizedTensor:
    """The nearest code of each value: clamp(rint(x / scale) + zero_point, qmin, qmax).

    x: real array, any shape the scales fit. Float32 division, ties to the even integer, clamp
    before the cast. The binary grid takes the sign, +1 for 0. Raises ValueError for NaN,
    infinity, an empty array, values beyond float32, complex or text.
    Source: ONNX QuantizeLinear. Taught in chapter 2.

    >>> quantize([0.25, 0.75, 9.0], QuantizationParams(0.5, 0, bits=4)).codes.tolist()
    [0, 2, 7]
    """
    x = _checks.float32_array(x, "quantize")
    params = checked_params(params, "quantize")
    data, small = params.normal_form(x.shape)
    codes = np.empty(data, params.code_dtype)
    if params.is_binary:
        kernels.quantize_binary(x.reshape(data), codes)
    else:
        kernels.quantize(x.reshape(data), *_small(params, small), params.qmin, params.qmax, codes)
    return QuantizedTensor(codes.reshape(x.shape), params)


def dequantize(q: QuantizedTensor) -> npt.NDArray[np.float32]:
    """The real values of the codes, scale * (code - zero_point), float32.

    Source: ONNX DequantizeLinear. Taught in chapter 2.

    >>> p = QuantizationParams(0.5, 3, bits=4, signed=False)
    >>> dequantize(QuantizedTensor(np.array([0, 3, 5], np.uint8), p)).tolist()
    [-1.5, 0.0, 1.0]
    """
    if not isinstance(q, QuantizedTensor):
        raise ValueError(
            f"dequantize: q is a {type(q).__name__}; expected a QuantizedTensor, as "
            "quantize(x, params) returns, or QuantizedTensor(codes, params)"
        )
    return q.dequantize()


def fake_quantize(x: npt.ArrayLike, params: QuantizationParams) -> npt.NDArray[np.float32]:
    """The values of x moved onto the grid, float32: dequantize(quantize(x)), bit for bit.

    x: real array, any shape the scales fit. Raises ValueError as quantize does.
    Source: arXiv 1712.05877, equation 12. Taught in chapter 2.

    >>> fake_quantize([0.25, 0.75, 9.0], QuantizationParams(0.5, 0, bits=4)).tolist()
    [0.0, 1.0, 3.5]
    """
    x = _checks.float32_array(x, "fake_quantize")
    params = checked_params(params, "fake_quantize")
    if params.is_binary:
        return quantize(x, params).dequantize()
    data, small = params.normal_form(x.shape)
    out = np.empty(data, np.float32)
    kernels.fake_quantize(x.reshape(data), *_small(params, small), params.qmin, params.qmax, out)
    return out.reshape(x.shape)


def inside(x: np.ndarray, params: QuantizationParams) -> np.ndarray:
    """Where rint(x / scale) + zero_point lies in [qmin, qmax]; x float32, bool of its shape.

    The binary grid has no clamp: there it is abs(x) <= 2 scale (rint(x / scale) in [-2, 2] would
    reach 2.5). With scale = mean abs(x) a Gaussian keeps 89 % of its values.
    """
    data, small = params.normal_form(x.shape)
    scale, zero_point = _small(params, small)
    if params.is_binary:
        return (np.abs(x).reshape(data) <= 2 * scale).reshape(x.shape)
    out = np.empty(data, dtype=np.bool_)
    kernels.inside(x.reshape(data), scale, zero_point, params.qmin, params.qmax, out)
    return out.reshape(x.shape)


def _with_gradient(
    x: Any, params: Any, upstream: Any, function: str
) -> tuple[np.ndarray, np.ndarray]:
    x = _checks.float32_array(x, function)
    checked_params(params, function)
    upstream = _checks.float32_array(upstream, function, "upstream")
    if upstream.shape != x.shape:
        raise ValueError(
            f"{function}: x has shape {x.shape}, upstream {upstream.shape}; expected equal shapes"
        )
    return x, upstream


def ste_gradient(
    x: npt.ArrayLike, params: QuantizationParams, upstream: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """Straight-through gradient: `upstream` where the clamp left the code alone, 0 elsewhere.

    x, upstream: real arrays of one shape; returns float32 of that shape. The mask is
    qmin <= rint(x / scale) + zero_point <= qmax; on the binary grid abs(x) <= 2 scale, a window
    as wide as the two cells (scale = mean abs(x) alone would stop 42 % of a Gaussian).
    Raises ValueError as quantize does, and for unequal shapes.
    Source: arXiv 1308.3432. Taught in chapter 11.

    >>> ste_gradient([0.3, 9.0, -3.9], QuantizationParams(0.5, 0, bits=4), [1, 1, 1]).tolist()
    [1.0, 0.0, 1.0]
    """
    x, upstream = _with_gradient(x, params, upstream, "ste_gradient")
    return np.where(inside(x, params), upstream, np.float32(0))


def lsq_gradient(
    x: npt.ArrayLike, params: QuantizationParams, upstream: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """d loss / d scale when the scale is learned (LSQ): one number for each scale.

    x, upstream (d loss / d fake_quantize(x, params)): real arrays of one shape. The derivative of
    one quantized value is rint(x/scale) - x/scale where the clamp left the code alone and
    code - zero_point at the ends (-Qn or Qp); on the binary grid the sign. Returns float32 of
    the shape of the scale, summed in float64, without LSQ's factor 1 / sqrt(n * qmax).
    Raises ValueError as quantize does, and for unequal shapes.
    Source: arXiv 1902.08153, equation 3. Taught in chapter 11.

    >>> lsq_gradient([0.625, 9.0], QuantizationParams(0.5, 0, bits=4), [1, 1]).item()  # -1/4 + 7
    6.75
    """
    x, upstream = _with_gradient(x, params, upstream, "lsq_gradient")
    data, small = params.normal_form(x.shape)
    scale, zero_point = _small(params, small)
    slope = quantize(x, params).codes.reshape(data).astype(np.float64) - zero_point
    if not params.is_binary:
        slope -= np.where(inside(x, params).reshape(data), x.reshape(data) / scale.astype("f8"), 0)
    shared = tuple(i for i in range(3) if small[i] == 1)
    total = (slope * upstream.reshape(data)).sum(axis=shared)
    return total.reshape(params.scale.shape).astype(np.float32)
