"""The arithmetic of quantlab, in NumPy: the definition that every faster path must equal.

Elementwise kernels take data of shape (A, B, C) and scales of a shape that broadcasts to it
(`QuantizationParams.normal_form` makes both), and fill `out` of shape (A, B, C).
"""

from __future__ import annotations

import numpy as np


def _unclamped(x, scale, zero_point):
    # x (A, B, C) float32 -> the code before the clamp, float32, may be infinite
    with np.errstate(over="ignore"):
        steps = np.rint(x / scale)  # a true division: x * (1 / scale) differs near ties
    return steps + zero_point.astype(np.float32)


def quantize(x, scale, zero_point, qmin, qmax, out):
    # x (A, B, C) float32 -> out (A, B, C) codes; the clamp comes before the cast
    out[...] = np.clip(_unclamped(x, scale, zero_point), np.float32(qmin), np.float32(qmax))
    return out


def dequantize(codes, scale, zero_point, out):
    # codes (A, B, C) integers -> out (A, B, C) float32; int32, because 200 - (-100) needs 9 bits
    out[...] = (codes.astype(np.int32) - zero_point).astype(np.float32) * scale
    return out


def fake_quantize(x, scale, zero_point, qmin, qmax, out):
    # x (A, B, C) float32 -> out (A, B, C) float32 on the grid
    code = np.clip(_unclamped(x, scale, zero_point), np.float32(qmin), np.float32(qmax))
    out[...] = (code - zero_point.astype(np.float32)) * scale
    return out


def quantize_binary(x, out):
    # x (A, B, C) float32 -> out (A, B, C) codes -1 and +1; the sign of 0 and of -0 is +1
    out[...] = np.where(x >= 0, 1, -1)
    return out


def inside(x, scale, zero_point, qmin, qmax, out):
    # x (A, B, C) float32 -> out (A, B, C) bool: True where the clamp leaves the code alone
    code = _unclamped(x, scale, zero_point)
    out[...] = (code >= np.float32(qmin)) & (code <= np.float32(qmax))
    return out


def integer_matmul(x, w, x_zero, w_zero):
    # x (M, K), w (K, N) codes, x_zero scalar, w_zero (N,) -> (M, N) int32, zero points removed
    return (x.astype(np.int32) - np.int32(x_zero)) @ (w.astype(np.int32) - w_zero)


def requantize(acc, multiplier, shift, zero_point, qmin, qmax, out):
    # acc (M, N) int32, multiplier and shift (N,) int64 -> out (M, N) codes; one rounding
    half = np.int64(1) << (shift - 1)
    rounded = (acc.astype(np.int64) * multiplier + half) >> shift
    out[...] = np.clip(rounded + zero_point, qmin, qmax)
    return out


def pack(codes, bits):
    # codes (n,) integers -> (ceil(n * bits / 8),) uint8; first code in the lowest bits
    planes = (codes.astype(np.int32)[:, None] >> np.arange(bits)) & 1  # (n, bits)
    return np.packbits(planes.astype(np.uint8), bitorder="little")


def unpack(buffer, bits, signed, out):
    # buffer (ceil(n * bits / 8),) uint8 -> out (n,) codes; two's complement if signed
    planes = np.unpackbits(buffer, count=out.size * bits, bitorder="little")
    codes = planes.reshape(out.size, bits).astype(np.int32) @ (1 << np.arange(bits))
    out[...] = codes - (codes >> (bits - 1) << bits) if signed else codes
    return out
