"""Quantize, dequantize, fake-quantize and measure at the speed of memory; bits as in `reference`.

Two ideas. A division is replaced by x * (1 / scale) and one step of Newton's method in fused
multiply-adds, which returns the correctly rounded quotient (Markstein 1990), so ties fall alike:

    q = x * inverse;  q = q + inverse * (x - q * scale)

And an output larger than the last cache is computed in blocks that stay in the first level, then
streamed past the caches:

    x ~~~~[ 2048 values ]~~~~>   codes in a scratch of the first level   ===>  whole lines to out
"""

import os

import numpy as np
from numba import njit

from quantlab.kernels import simd
from quantlab.kernels.elementwise import (
    _dequantize_columns,
    _dequantize_shared,
    _fake_columns,
    _fake_shared,
    _quantize_columns,
    _quantize_shared,
    _row,
)
from quantlab.kernels.elementwise import measure as _measure_by_division

_jit = njit(cache=True, error_model="numpy")
_SIZES = getattr(os, "sysconf_names", {})
LAST_CACHE = os.sysconf("SC_LEVEL3_CACHE_SIZE") if "SC_LEVEL3_CACHE_SIZE" in _SIZES else 0
FAR = max(LAST_CACHE, 2**24)  # bytes read and written from which an output is streamed
BLOCK = 2048
# Between these, 1 / scale is a normal number and no remainder of a division underflows.
SMALL, LARGE = np.float32(2.0**-60), np.float32(2.0**60)


@_jit
def _quantize_piece(x, s, z, low, high, out):
    # a value beyond the ends of the grid becomes the end, whose code is the last one
    inverse, bottom, top = np.float32(1) / s, (low - z) * s, (high - z) * s
    zero = np.int32(z)
    for i in range(x.size):
        v = min(max(x[i], bottom), top)
        q = v * inverse
        q = simd.fma(simd.fma(-q, s, v), inverse, q)
        out[i] = np.int32(np.int32(np.rint(q)) + zero)


@_jit
def _fake_piece(x, s, z, low, high, out):
    inverse, bottom, top = np.float32(1) / s, (low - z) * s, (high - z) * s
    for i in range(x.size):
        v = min(max(x[i], bottom), top)
        q = v * inverse
        q = simd.fma(simd.fma(-q, s, v), inverse, q)
        out[i] = (np.rint(q) + np.float32(0)) * s  # + 0 turns -0 into 0, as the zero point does


@_jit
def _to_line(out):
    # values before the first whole 64-byte line
    return min(-out.ctypes.data % 64 // out.itemsize, out.size)


@_jit
def _quantize_far(x, s, z, low, high, out):
    block, first = np.empty(BLOCK, out.dtype), _to_line(out)
    last = first + (x.size - first) // BLOCK * BLOCK
    _quantize_piece(x[:first], s, z, low, high, out[:first])
    for i in range(first, last, BLOCK):
        _quantize_piece(x[i : i + BLOCK], s, z, low, high, block)
        simd.stream(block, out, i * out.itemsize, BLOCK * out.itemsize)
    _quantize_piece(x[last:], s, z, low, high, out[last:])


@_jit
def _fake_far(x, s, z, low, high, out):
    block, first = np.empty(BLOCK, out.dtype), _to_line(out)
    last = first + (x.size - first) // BLOCK * BLOCK
    _fake_piece(x[:first], s, z, low, high, out[:first])
    for i in range(first, last, BLOCK):
        _fake_piece(x[i : i + BLOCK], s, z, low, high, block)
        simd.stream(block, out, i * out.itemsize, BLOCK * out.itemsize)
    _fake_piece(x[last:], s, z, low, high, out[last:])


@_jit
def _dequantize_far(codes, s, z, out):
    block, first = np.empty(BLOCK, out.dtype), _to_line(out)
    last = first + (codes.size - first) // BLOCK * BLOCK
    _dequantize_shared(codes[:first], s, z, out[:first])
    for i in range(first, last, BLOCK):
        _dequantize_shared(codes[i : i + BLOCK], s, z, block)
        simd.stream(block, out, i * out.itemsize, BLOCK * out.itemsize)
    _dequantize_shared(codes[last:], s, z, out[last:])


@_jit
def quantize(x, scale, zero_point, qmin, qmax, out):
    low, high, far = np.float32(qmin), np.float32(qmax), x.nbytes + out.nbytes > FAR
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z = _row(scale, a, b), _row(zero_point, a, b)
            if s.size > 1:
                _quantize_columns(x[a, b], s, z, low, high, out[a, b])
            elif not SMALL < s[0] < LARGE:
                _quantize_shared(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
            elif far:
                _quantize_far(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
            else:
                _quantize_piece(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
    return out


@_jit
def fake_quantize(x, scale, zero_point, qmin, qmax, out):
    low, high, far = np.float32(qmin), np.float32(qmax), x.nbytes + out.nbytes > FAR
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z = _row(scale, a, b), _row(zero_point, a, b)
            if s.size > 1:
                _fake_columns(x[a, b], s, z, low, high, out[a, b])
            elif not SMALL < s[0] < LARGE:
                _fake_shared(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
            elif far:
                _fake_far(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
            else:
                _fake_piece(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
    return out


@_jit
def dequantize(codes, scale, zero_point, out):
    far = codes.nbytes + out.nbytes > FAR
    for a in range(codes.shape[0]):
        for b in range(codes.shape[1]):
            s, z = _row(scale, a, b), _row(zero_point, a, b)
            if s.size > 1:
                _dequantize_columns(codes[a, b], s, z, out[a, b])
            elif far:
                _dequantize_far(codes[a, b], s[0], z[0], out[a, b])
            else:
                _dequantize_shared(codes[a, b], s[0], z[0], out[a, b])
    return out


# Squares may be added in any order; nothing that decides about a code is a sum.
@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _measure_piece(x, s, z, low, high):
    # as _fake_piece, but the clip lies one step beyond the ends, to see who would pass them
    inverse, bottom, top = np.float32(1) / s, low - z, high - z
    below, above = (bottom - np.float32(1)) * s, (top + np.float32(1)) * s
    noise, power, beyond = np.float32(0), np.float32(0), np.int32(0)
    for i in range(x.size):
        v = min(max(x[i], below), above)
        q = v * inverse
        wanted = np.rint(simd.fma(simd.fma(-q, s, v), inverse, q))
        code = min(max(wanted, bottom), top)
        beyond = np.int32(beyond + np.int32(wanted != code))
        d = x[i] - code * s
        noise += d * d
        power += x[i] * x[i]
    return np.float64(noise), np.float64(power), beyond


@_jit
def measure(x, scale, zero_point, qmin, qmax):
    if scale.shape[2] > 1 or not (SMALL < scale.min() and scale.max() < LARGE):
        return _measure_by_division(x, scale, zero_point, qmin, qmax)
    low, high = np.float32(qmin), np.float32(qmax)
    noise, power, beyond = 0.0, 0.0, 0
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z = _row(scale, a, b)[0], np.float32(_row(zero_point, a, b)[0])
            for i in range(0, x.shape[2], BLOCK):
                e, p, more = _measure_piece(x[a, b, i : i + BLOCK], s, z, low, high)
                noise, power, beyond = noise + e, power + p, beyond + more
    return noise, power, beyond
