"""The four schemes and the parameters of a uniform grid. Taught in chapter 2."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quantlab import _checks


class QuantizationScheme(Enum):
    """Where zero sits on the grid, and how many values share one scale.

    Taught in chapter 4 (symmetric, asymmetric) and chapter 5 (per tensor, per channel).

    >>> QuantizationScheme.SYMMETRIC_PER_CHANNEL.symmetric
    True
    """

    SYMMETRIC_PER_TENSOR = "symmetric per tensor"
    ASYMMETRIC_PER_TENSOR = "asymmetric per tensor"
    SYMMETRIC_PER_CHANNEL = "symmetric per channel"
    ASYMMETRIC_PER_CHANNEL = "asymmetric per channel"

    @property
    def symmetric(self) -> bool:
        """True where the zero point is fixed at the middle of the codes."""
        return self.value.startswith("symmetric")

    @property
    def per_channel(self) -> bool:
        """True where each channel has its own scale."""
        return self.value.endswith("channel")


def code_range(bits: int, signed: bool, narrow_range: bool) -> tuple[int, int]:
    """Smallest and largest code; one signed narrow bit is the binary pair -1, +1.

    >>> code_range(8, True, True), code_range(8, False, False), code_range(1, True, True)
    ((-127, 127), (0, 255), (-1, 1))
    """
    if bits == 1 and signed and narrow_range:
        return -1, 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return low + int(narrow_range), high


@dataclass(frozen=True, eq=False)
class QuantizationParams:
    """Scale, zero point and code range of a uniform grid: real = scale * (code - zero_point).

    `scale` (float32, > 0) and `zero_point` (int32, inside the code range) have shape () for one
    grid per tensor, (C,) for one per channel along `axis`, or, with `block_size`, the shape of
    the data with shape[axis] / block_size along `axis`. Both are made read-only.
    One bit, signed and narrow, is the binary quantizer: codes -1 and +1, no zero. It alone may
    have the scale 0: a group of zeros then comes back as zeros, though its codes say +1. ONNX has
    no such grid; written there as int8 codes, a scale of 0 still multiplies to 0.

    Raises ValueError for bits outside 1-16, scales that are not positive and finite, zero points
    outside the codes, and shapes that contradict `axis` and `block_size`.
    Source: ONNX QuantizeLinear-21 (shapes), gemmlowp quantization.md (equation).
    Taught in chapter 2.

    >>> p = QuantizationParams(0.5, 3, bits=4, signed=False)
    >>> p.qmin, p.qmax, p.levels
    (0, 15, 16)
    >>> (p.scale * (np.array([0, 3, 15]) - p.zero_point)).tolist()
    [-1.5, 0.0, 6.0]
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    bits: int = 8
    signed: bool = True
    narrow_range: bool = False
    axis: int | None = None
    block_size: int | None = None

    if TYPE_CHECKING:  # numbers and lists are taken, arrays are kept

        def __init__(
            self,
            scale: npt.ArrayLike,
            zero_point: npt.ArrayLike,
            bits: int = 8,
            signed: bool = True,
            narrow_range: bool = False,
            axis: int | None = None,
            block_size: int | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        me = "QuantizationParams"
        set_ = object.__setattr__
        set_(self, "bits", _checks.integer(self.bits, me, "bits", 1, 16))
        set_(self, "signed", bool(self.signed))
        set_(self, "narrow_range", bool(self.narrow_range))
        if self.bits == 1 and self.narrow_range and not self.signed:
            raise ValueError(
                f"{me}: one unsigned narrow bit leaves a single code; "
                "use narrow_range=False (codes 0, 1) or signed=True (codes -1, +1)"
            )
        scale = self._checked_scale()
        set_(self, "scale", _read_only(scale))
        set_(self, "zero_point", _read_only(self._checked_zero_point(scale)))
        self._check_layout()
        # the two ends of the grid must be float32 numbers, else dequantize would return infinity
        with np.errstate(over="ignore"):
            ends = [self.scale * np.float32(q - self.zero_point) for q in (self.qmin, self.qmax)]
        if not np.isfinite(ends).all():
            raise ValueError(
                f"{me}: scale {self.scale.max():.3g} puts the end of the grid beyond "
                "float32 (3.4e38); rescale the data"
            )

    def __reduce__(self) -> tuple:  # a copy is made anew, because NumPy's copies can be written to
        return type(self), tuple(getattr(self, f.name) for f in fields(self))

    def _checked_scale(self) -> np.ndarray:
        scale = _checks.real_array(self.scale, "QuantizationParams", "scale")
        with np.errstate(over="ignore", under="ignore"):
            scale = scale.astype(np.float32)
        bad = ~(np.isfinite(scale) & (scale > 0)) & ~(self.is_binary & (scale == 0))
        if bad.any():
            raise ValueError(
                f"QuantizationParams: scale is {scale[bad][0]} in float32 "
                f"({int(bad.sum())} of {scale.size} values); expected a positive, "
                "finite number"
            )
        return scale.reshape(()) if self.axis is None and scale.size == 1 else scale

    def _checked_zero_point(self, scale: np.ndarray) -> np.ndarray:
        given = _checks.real_array(self.zero_point, "QuantizationParams", "zero_point")
        zero_point = np.broadcast_to(given, scale.shape) if given.size == 1 else given
        if zero_point.shape != scale.shape:
            raise ValueError(
                f"QuantizationParams: zero_point has shape {given.shape}, scale "
                f"{scale.shape}; expected equal shapes or one zero point for all"
            )
        low, high = (0, 0) if self.is_binary else (self.qmin, self.qmax)
        bad = (zero_point != np.rint(zero_point)) | (zero_point < low) | (zero_point > high)
        if bad.any():
            raise ValueError(
                f"QuantizationParams: zero_point is {zero_point[bad][0]}; expected an "
                f"integer code in [{low}, {high}], so that zero is exact"
            )
        return zero_point.astype(np.int32)

    def _check_layout(self) -> None:
        me, shape = "QuantizationParams", self.scale.shape
        if self.axis is None:
            if self.block_size is not None:
                raise ValueError(f"{me}: block_size={self.block_size} needs an axis to run along")
            if shape:
                raise ValueError(
                    f"{me}: scale has shape {shape} but axis is None; "
                    "give the axis of the channels, or one scale"
                )
            return
        if self.block_size is None:
            if len(shape) != 1:
                raise ValueError(
                    f"{me}: scale has shape {shape}; expected (channels,) along axis "
                    f"{self.axis}, or a block_size"
                )
            _checks.normalize_axis(self.axis, 64, me)  # the rank is known only with the data
            return
        size = _checks.integer(self.block_size, me, "block_size", 1, 2**31 - 1)
        object.__setattr__(self, "block_size", size)
        _checks.normalize_axis(self.axis, len(shape), me)

    @property
    def is_binary(self) -> bool:
        """True for the grid {-scale, +scale}, the only one without a zero."""
        return self.bits == 1 and self.signed and self.narrow_range

    @property
    def qmin(self) -> int:
        """Smallest code."""
        return code_range(self.bits, self.signed, self.narrow_range)[0]

    @property
    def qmax(self) -> int:
        """Largest code."""
        return code_range(self.bits, self.signed, self.narrow_range)[1]

    @property
    def levels(self) -> int:
        """Number of codes in use."""
        return 2 if self.is_binary else self.qmax - self.qmin + 1

    @property
    def code_dtype(self) -> np.dtype:
        """Storage type of one unpacked code: int8, uint8, int16 or uint16."""
        return np.dtype(f"{'' if self.signed else 'u'}int{8 if self.bits <= 8 else 16}")

    def normal_form(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """3-D shapes for data and scales under which plain broadcasting pairs them.

        The kernels see only this form, and the last dimension is the one they run along.

        >>> QuantizationParams([1, 2, 3], 0, axis=0).normal_form((3, 4, 5))
        ((1, 3, 20), (1, 3, 1))
        """
        if self.axis is None:
            return (1, 1, math.prod(shape)), (1, 1, 1)
        axis = _checks.normalize_axis(self.axis, len(shape), "QuantizationParams")
        expected = scale_shape(shape, axis, self.block_size)
        if self.scale.shape != expected:
            raise ValueError(
                f"QuantizationParams: scale has shape {self.scale.shape}; data of "
                f"shape {tuple(shape)} with axis={self.axis}, "
                f"block_size={self.block_size} needs {expected}"
            )
        outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        if self.block_size is None:
            n = shape[axis]
            if inner == 1:
                return (1, outer, n), (1, 1, n)
            return (outer, n, inner), (1, n, 1)
        blocks, size = outer * expected[axis], self.block_size
        if inner == 1:
            return (1, blocks, size), (1, blocks, 1)
        return (blocks, size, inner), (blocks, 1, inner)

    def broadcast(
        self, shape: tuple[int, ...]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Scale and zero point, one per element of data of `shape`.

        >>> QuantizationParams([0.5, 2], 0, axis=1).broadcast((1, 2))[0].tolist()
        [[0.5, 2.0]]
        """
        data, small = self.normal_form(tuple(shape))
        scale = np.broadcast_to(self.scale.reshape(small), data).reshape(shape)
        return scale, np.broadcast_to(self.zero_point.reshape(small), data).reshape(shape)

    def __repr__(self) -> str:
        def show(a: np.ndarray) -> str:
            return f"{a:.6g}" if a.ndim == 0 else f"{a.min():.6g}..{a.max():.6g} {a.shape}"

        where = "" if self.axis is None else f", axis={self.axis}"
        where += "" if self.block_size is None else f", block_size={self.block_size}"
        return (
            f"QuantizationParams(scale={show(self.scale)}, zero_point={show(self.zero_point)}, "
            f"bits={self.bits}, codes {self.qmin}..{self.qmax}{where})"
        )


def checked_params(params: Any, function: str) -> QuantizationParams:
    """`params`, or an error that says what a grid is made with."""
    if not isinstance(params, QuantizationParams):
        raise ValueError(
            f"{function}: params is a {type(params).__name__}; expected QuantizationParams: "
            "choose_params(x, scheme, bits) makes them, QuantizationParams(scale, 0) by hand"
        )
    return params


def scale_shape(shape: tuple[int, ...], axis: int, block_size: int | None) -> tuple[int, ...]:
    """Shape of the scales for data of `shape`: (channels,), or blocked along `axis`.

    >>> scale_shape((4, 6), 0, None), scale_shape((4, 6), 1, 3)
    ((4,), (4, 2))
    """
    length = shape[axis]
    if block_size is None:
        return (length,)
    if length % block_size:
        divisors = [d for d in range(1, min(length, 4096) + 1) if length % d == 0]
        near = sorted(sorted(divisors, key=lambda d: abs(d - block_size))[:4])
        raise ValueError(
            f"QuantizationParams: block_size {block_size} does not divide the "
            f"{length} values along axis {axis}; pad with zeros to "
            f"{-(-length // block_size) * block_size}, or use one of {near}"
        )
    return (*shape[:axis], length // block_size, *shape[axis + 1 :])


def _read_only(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.setflags(write=False)
    return array
