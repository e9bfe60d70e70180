"""Numba twins of the elementwise kernels: same names, same arguments, same bits.

Data (A, B, C), scales of shape (A or 1, B or 1, C or 1). Each kernel walks the rows (a, b) and
hands one row to a loop that the compiler vectorizes: a row has one scale, or one per column.
Float32 throughout and no fastmath: a reordered or fused operation would change codes at ties.
"""

import numpy as np

from quantlab.kernels import reference
from quantlab.kernels.paths import jit


@jit
def _row(scale, a, b):
    # row (a, b) of scales of shape (A or 1, B or 1, C or 1)
    return scale[a if scale.shape[0] > 1 else 0, b if scale.shape[1] > 1 else 0]


@jit
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


@jit
def _quantize_shared(x, s, z, low, high, out):
    for i in range(x.size):
        out[i] = np.int32(min(max(np.rint(x[i] / s) + z, low), high))


@jit
def _quantize_columns(x, s, z, low, high, out):
    for i in range(x.size):
        out[i] = np.int32(min(max(np.rint(x[i] / s[i]) + np.float32(z[i]), low), high))


@jit
def dequantize(codes, scale, zero_point, out):
    for a in range(codes.shape[0]):
        for b in range(codes.shape[1]):
            s, z = _row(scale, a, b), _row(zero_point, a, b)
            if s.size == 1:
                _dequantize_shared(codes[a, b], s[0], z[0], out[a, b])
            else:
                _dequantize_columns(codes[a, b], s, z, out[a, b])
    return out


@jit
def _dequantize_shared(codes, s, z, out):
    for i in range(codes.size):
        out[i] = np.float32(np.int32(np.int32(codes[i]) - z)) * s


@jit
def _dequantize_columns(codes, s, z, out):
    for i in range(codes.size):
        out[i] = np.float32(np.int32(np.int32(codes[i]) - z[i])) * s[i]


@jit
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


@jit
def _fake_shared(x, s, z, low, high, out):
    for i in range(x.size):
        out[i] = (min(max(np.rint(x[i] / s) + z, low), high) - z) * s


@jit
def _fake_columns(x, s, z, low, high, out):
    for i in range(x.size):
        zero = np.float32(z[i])
        out[i] = (min(max(np.rint(x[i] / s[i]) + zero, low), high) - zero) * s[i]


@jit
def inside(x, scale, zero_point, qmin, qmax, out):
    low, high = np.float32(qmin), np.float32(qmax)
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z, row, ok = _row(scale, a, b), _row(zero_point, a, b), x[a, b], out[a, b]
            if s.size == 1:
                step, zero = s[0], np.float32(z[0])
                for i in range(row.size):
                    code = np.rint(row[i] / step) + zero
                    ok[i] = (code >= low) & (code <= high)
            else:
                for i in range(row.size):
                    code = np.rint(row[i] / s[i]) + np.float32(z[i])
                    ok[i] = (code >= low) & (code <= high)
    return out


# Squares may be added in any order; nothing that decides about a code is a sum.
@jit(fastmath={"reassoc", "contract", "nsz"})
def _sums(x, s, z, low, high):
    # x (n,), s and z (1,) or (n,): sums of squares of error and of x, and how many saturate
    noise, power, beyond, own = np.float32(0), np.float32(0), np.int32(0), 1 if s.size > 1 else 0
    for i in range(x.size):
        zero = np.float32(z[own * i])
        wanted = np.rint(x[i] / s[own * i]) + zero
        code = min(max(wanted, low), high)
        beyond = np.int32(beyond + np.int32(wanted != code))
        error = x[i] - (code - zero) * s[own * i]
        noise += error * error
        power += x[i] * x[i]
    return noise, power, beyond


@jit
def measure(x, scale, zero_point, qmin, qmax):
    low, high = np.float32(qmin), np.float32(qmax)
    noise, power, beyond = 0.0, 0.0, 0
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z, row = _row(scale, a, b), _row(zero_point, a, b), x[a, b]
            for i in range(0, row.size, 2048):
                if s.size > 1:
                    s, z = _row(scale, a, b)[i : i + 2048], _row(zero_point, a, b)[i : i + 2048]
                e, p, n = _sums(row[i : i + 2048], s, z, low, high)
                noise, power, beyond = noise + e, power + p, beyond + n
    return noise, power, beyond


@jit
def minmax(x):
    # x (n,) float32, no NaN. Floats compare like integers if negative ones are turned around, and
    # minima of integers are taken many at a time
    low, high, ordered = np.int32(2**31 - 1), np.int32(-(2**31)), x.view(np.int32)
    for i in range(ordered.size):
        v = _turn(ordered[i])
        low, high = min(low, v), max(high, v)
    ends = np.array([_turn(low), _turn(high)], np.int32).view(np.float32)
    return ends[0], ends[1]


@jit
def _turn(v):
    return np.int32(v ^ ((v >> np.int32(31)) & np.int32(0x7FFFFFFF)))


def nearest_level(x, scale, thresholds, out):
    if thresholds.size > 1024:
        return reference.nearest_level(x, scale, thresholds, out)
    _nearest_level(x, scale, thresholds, np.empty(512, np.float32), np.empty(512, np.int32), out)
    return out


@jit
def _nearest_level(x, scale, thresholds, ratio, count, out):
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s = _row(scale, a, b)
            stride = 1 if s.size > 1 else 0
            for start in range(0, x.shape[2], 512):  # a piece that stays in the nearest cache
                row, levels = x[a, b, start : start + 512], out[a, b, start : start + 512]
                own = s[start : start + 512] if s.size > 1 else s
                for i in range(row.size):
                    ratio[i] = row[i] / own[stride * i]
                _count_below(ratio[: row.size], thresholds, count)
                for i in range(row.size):
                    levels[i] = count[i]


@jit
def _count_below(v, thresholds, count):
    # all thresholds, without a branch: several in one instruction, faster than a search
    for i in range(v.size):
        count[i] = 0
    for j in range(thresholds.size):
        t = thresholds[j]
        for i in range(v.size):
            count[i] += np.int32(v[i] > t)


@jit
def lookup(codes, scale, levels, out):
    for a in range(codes.shape[0]):
        for b in range(codes.shape[1]):
            s = _row(scale, a, b)
            own = 1 if s.size > 1 else 0
            for i in range(codes.shape[2]):
                out[a, b, i] = levels[codes[a, b, i]] * s[own * i]
    return out
