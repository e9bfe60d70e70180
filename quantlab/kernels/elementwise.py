"""Numba twins of the elementwise kernels: same names, same arguments, same bits.

Data (A, B, C), scales of shape (A or 1, B or 1, C or 1). Each kernel walks the rows (a, b) and
hands one row to a loop that the compiler vectorizes: a row has one scale, or one per column.
Float32 throughout and no fastmath: a reordered or fused operation would change codes at ties.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def _row(scale, a, b):
    # row (a, b) of scales of shape (A or 1, B or 1, C or 1)
    return scale[a if scale.shape[0] > 1 else 0, b if scale.shape[1] > 1 else 0]


@njit(cache=True)
def quantize(x, scale, zero_point, qmin, qmax, out):
    low, high = np.float32(qmin), np.float32(qmax)
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z = _row(scale, a, b), _row(zero_point, a, b)
            if s.size == 1:
                _quantize_shared(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
            else:
                _quantize_columns(x[a, b], s, z, low, high, out[a, b])
    return out


@njit(cache=True)
def _quantize_shared(x, s, z, low, high, out):
    for i in range(x.size):
        out[i] = np.int32(min(max(np.rint(x[i] / s) + z, low), high))


@njit(cache=True)
def _quantize_columns(x, s, z, low, high, out):
    for i in range(x.size):
        out[i] = np.int32(min(max(np.rint(x[i] / s[i]) + np.float32(z[i]), low), high))


@njit(cache=True)
def dequantize(codes, scale, zero_point, out):
    for a in range(codes.shape[0]):
        for b in range(codes.shape[1]):
            s, z = _row(scale, a, b), _row(zero_point, a, b)
            if s.size == 1:
                _dequantize_shared(codes[a, b], s[0], z[0], out[a, b])
            else:
                _dequantize_columns(codes[a, b], s, z, out[a, b])
    return out


@njit(cache=True)
def _dequantize_shared(codes, s, z, out):
    for i in range(codes.size):
        out[i] = np.float32(np.int32(np.int32(codes[i]) - z)) * s


@njit(cache=True)
def _dequantize_columns(codes, s, z, out):
    for i in range(codes.size):
        out[i] = np.float32(np.int32(np.int32(codes[i]) - z[i])) * s[i]


@njit(cache=True)
def fake_quantize(x, scale, zero_point, qmin, qmax, out):
    low, high = np.float32(qmin), np.float32(qmax)
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z = _row(scale, a, b), _row(zero_point, a, b)
            if s.size == 1:
                _fake_shared(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
            else:
                _fake_columns(x[a, b], s, z, low, high, out[a, b])
    return out


@njit(cache=True)
def _fake_shared(x, s, z, low, high, out):
    for i in range(x.size):
        out[i] = (min(max(np.rint(x[i] / s) + z, low), high) - z) * s


@njit(cache=True)
def _fake_columns(x, s, z, low, high, out):
    for i in range(x.size):
        zero = np.float32(z[i])
        out[i] = (min(max(np.rint(x[i] / s[i]) + zero, low), high) - zero) * s[i]


@njit(cache=True)
def quantize_binary(x, out):
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            for c in range(x.shape[2]):
                out[a, b, c] = 1 if x[a, b, c] >= 0 else -1
    return out


@njit(cache=True)
def inside(x, scale, zero_point, qmin, qmax, out):
    low, high = np.float32(qmin), np.float32(qmax)
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z, columns = _row(scale, a, b), _row(zero_point, a, b), x[a, b]
            for c in range(columns.size):
                k = c if s.size > 1 else 0
                code = np.rint(columns[c] / s[k]) + np.float32(z[k])
                out[a, b, c] = (code >= low) and (code <= high)
    return out
