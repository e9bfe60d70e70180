"""Numba twins of the elementwise kernels: same names, same arguments, same bits.

Data (A, B, C), scales of shape (A or 1, B or 1, C or 1). Each kernel walks the rows (a, b) and
hands one row to a loop that the compiler vectorizes: a row has one scale, or one per column.
Float32 throughout and no fastmath: a reordered or fused operation would change codes at ties.
"""

import numpy as np
from numba import njit

# Python's division would test every scale for zero, and no loop with a test vectorizes
_jit = njit(cache=True, error_model="numpy")


@_jit
def row_of(scale, a, b):
    # row (a, b) of scales of shape (A or 1, B or 1, C or 1)
    return scale[a if scale.shape[0] > 1 else 0, b if scale.shape[1] > 1 else 0]


@_jit
def quantize(x, scale, zero_point, qmin, qmax, out):
    low, high = np.float32(qmin), np.float32(qmax)
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z = row_of(scale, a, b), row_of(zero_point, a, b)
            if s.size == 1:
                _quantize_shared(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
            else:
                _quantize_columns(x[a, b], s, z, low, high, out[a, b])
    return out


@_jit
def _quantize_shared(x, s, z, low, high, out):
    for i in range(x.size):
        out[i] = np.int32(min(max(np.rint(x[i] / s) + z, low), high))


@_jit
def _quantize_columns(x, s, z, low, high, out):
    for i in range(x.size):
        out[i] = np.int32(min(max(np.rint(x[i] / s[i]) + np.float32(z[i]), low), high))


@_jit
def dequantize(codes, scale, zero_point, out):
    for a in range(codes.shape[0]):
        for b in range(codes.shape[1]):
            s, z = row_of(scale, a, b), row_of(zero_point, a, b)
            if s.size == 1:
                _dequantize_shared(codes[a, b], s[0], z[0], out[a, b])
            else:
                _dequantize_columns(codes[a, b], s, z, out[a, b])
    return out


@_jit
def _dequantize_shared(codes, s, z, out):
    for i in range(codes.size):
        out[i] = np.float32(np.int32(np.int32(codes[i]) - z)) * s


@_jit
def _dequantize_columns(codes, s, z, out):
    for i in range(codes.size):
        out[i] = np.float32(np.int32(np.int32(codes[i]) - z[i])) * s[i]


@_jit
def fake_quantize(x, scale, zero_point, qmin, qmax, out):
    low, high = np.float32(qmin), np.float32(qmax)
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z = row_of(scale, a, b), row_of(zero_point, a, b)
            if s.size == 1:
                _fake_shared(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
            else:
                _fake_columns(x[a, b], s, z, low, high, out[a, b])
    return out


@_jit
def _fake_shared(x, s, z, low, high, out):
    for i in range(x.size):
        out[i] = (min(max(np.rint(x[i] / s) + z, low), high) - z) * s


@_jit
def _fake_columns(x, s, z, low, high, out):
    for i in range(x.size):
        zero = np.float32(z[i])
        out[i] = (min(max(np.rint(x[i] / s[i]) + zero, low), high) - zero) * s[i]


@_jit
def inside(x, scale, zero_point, qmin, qmax, out):
    low, high = np.float32(qmin), np.float32(qmax)
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z = row_of(scale, a, b), row_of(zero_point, a, b)
            if s.size == 1:
                _inside_shared(x[a, b], s[0], np.float32(z[0]), low, high, out[a, b])
            else:
                _inside_columns(x[a, b], s, z, low, high, out[a, b])
    return out


@_jit
def _inside_shared(x, s, z, low, high, out):
    for i in range(x.size):
        code = np.rint(x[i] / s) + z
        out[i] = (code >= low) & (code <= high)


@_jit
def _inside_columns(x, s, z, low, high, out):
    for i in range(x.size):
        code = np.rint(x[i] / s[i]) + np.float32(z[i])
        out[i] = (code >= low) & (code <= high)


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def add_squares(x, y):
    # sums of (x - y)^2 and x^2 over one short block, in any order
    noise, power = np.float32(0), np.float32(0)
    for i in range(x.size):
        d = x[i] - y[i]
        noise += d * d
        power += x[i] * x[i]
    return np.float64(noise), np.float64(power)


@_jit
def measure(x, scale, zero_point, qmin, qmax):
    low, high = np.float32(qmin), np.float32(qmax)
    block, within = np.empty(2048, np.float32), np.empty(2048, np.bool_)
    noise, power, beyond = 0.0, 0.0, 0
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z = row_of(scale, a, b), row_of(zero_point, a, b)
            for i in range(0, x.shape[2], 2048):
                piece = x[a, b, i : i + 2048]
                fake, ok = block[: piece.size], within[: piece.size]
                if s.size == 1:
                    zero = np.float32(z[0])
                    _fake_shared(piece, s[0], zero, low, high, fake)
                    _inside_shared(piece, s[0], zero, low, high, ok)
                else:
                    part = slice(i, i + 2048)
                    _fake_columns(piece, s[part], z[part], low, high, fake)
                    _inside_columns(piece, s[part], z[part], low, high, ok)
                e, p = add_squares(piece, fake)
                noise, power, beyond = noise + e, power + p, beyond + ok.size - ok.sum()
    return noise, power, beyond


@_jit
def minmax(x):
    # x (n,) float32, no NaN. Floats compare like integers if negative ones are turned around, and
    # minima of integers are taken many at a time
    low, high, ordered = np.int32(2**31 - 1), np.int32(-(2**31)), x.view(np.int32)
    for i in range(ordered.size):
        v = _turn(ordered[i])
        low, high = min(low, v), max(high, v)
    ends = np.array([_turn(low), _turn(high)], np.int32).view(np.float32)
    return ends[0], ends[1]


@_jit
def _turn(v):
    return np.int32(v ^ ((v >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@_jit
def nearest_level(x, scale, thresholds, out):
    ratio, count = np.empty(512, np.float32), np.empty(512, np.int32)
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s = row_of(scale, a, b)
            for start in range(0, x.shape[2], 512):  # a piece that stays in the nearest cache
                piece = slice(start, min(start + 512, x.shape[2]))
                v = ratio[: piece.stop - start]
                if s.size == 1:
                    _divide_shared(x[a, b, piece], s[0], v)
                else:
                    _divide_columns(x[a, b, piece], s[piece], v)
                if thresholds.size <= 1024:
                    _count_below(v, thresholds, count[: v.size], out[a, b, piece])
                else:
                    _search_below(v, thresholds, out[a, b, piece])
    return out


@_jit
def _divide_shared(x, s, out):
    for i in range(x.size):
        out[i] = x[i] / s


@_jit
def _divide_columns(x, s, out):
    for i in range(x.size):
        out[i] = x[i] / s[i]


@_jit
def _count_below(v, thresholds, count, out):
    # all thresholds, without a branch: several in one instruction, faster than a search
    count[:] = 0
    for j in range(thresholds.size):
        t = thresholds[j]
        for i in range(v.size):
            count[i] += np.int32(v[i] > t)
    for i in range(v.size):
        out[i] = count[i]


@_jit
def _search_below(v, thresholds, out):
    for i in range(v.size):
        out[i] = np.searchsorted(thresholds, v[i])


@_jit
def lookup(codes, scale, levels, out):
    for a in range(codes.shape[0]):
        for b in range(codes.shape[1]):
            s = row_of(scale, a, b)
            if s.size == 1:
                _lookup_shared(codes[a, b], s[0], levels, out[a, b])
            else:
                _lookup_columns(codes[a, b], s, levels, out[a, b])
    return out


@_jit
def _lookup_shared(codes, s, levels, out):
    for i in range(codes.size):
        out[i] = levels[codes[i]] * s


@_jit
def _lookup_columns(codes, s, levels, out):
    for i in range(codes.size):
        out[i] = levels[codes[i]] * s[i]
