"""Numba twins of the integer product and its requantization."""

import numpy as np
from numba import njit


def integer_matmul(x, w, x_zero, w_zero):
    # x (M, K), w (K, N) codes, x_zero scalar, w_zero (N,) -> (M, N) int32, zero points removed
    return _integer_matmul(x, np.ascontiguousarray(w), x_zero, w_zero)  # one layout to compile


@njit(cache=True)
def _integer_matmul(x, w, x_zero, w_zero):
    out = np.zeros((x.shape[0], w.shape[1]), np.int32)
    wide = np.empty(w.shape, np.int32)
    for k in range(w.shape[0]):
        for n in range(w.shape[1]):
            wide[k, n] = np.int32(np.int32(w[k, n]) - w_zero[n])
    for m in range(x.shape[0]):
        for k in range(x.shape[1]):
            _add_row(np.int32(np.int32(x[m, k]) - np.int32(x_zero)), wide[k], out[m])
    return out


@njit(cache=True)
def _add_row(factor, row, acc):
    # acc (N,) += factor * row (N,); the casts keep int32, which Numba would widen to int64
    for n in range(row.size):
        acc[n] = np.int32(acc[n] + np.int32(factor * row[n]))


@njit(cache=True)
def grouped_matmul(x, w, scale, x_zero):
    # x (M, K) uint8, w (N, K) int8 codes -8..7, scale (N, groups) float32 -> (M, N) float32
    out, size = np.zeros((x.shape[0], w.shape[0]), np.float32), w.shape[1] // scale.shape[1]
    for m in range(x.shape[0]):
        for n in range(w.shape[0]):
            for g in range(scale.shape[1]):
                part = slice(g * size, (g + 1) * size)
                total = np.float32(_dot(x[m, part], w[n, part], np.int32(x_zero)))
                out[m, n] += np.float32(total * scale[n, g])
    return out


@njit(cache=True)
def _dot(x, w, x_zero):
    total = np.int32(0)
    for k in range(x.size):
        total = np.int32(total + np.int32(np.int32(np.int32(x[k]) - x_zero) * np.int32(w[k])))
    return total


def requantize(acc, multiplier, shift, zero_point, qmin, qmax, out):
    # acc (M, N) int32, multiplier and shift (N,) int64 -> out (M, N) codes; one rounding
    # signed codes are written as the unsigned integers of the same bits: one kernel for both
    _requantize(acc, multiplier, shift, zero_point, qmin, qmax, out.view(f"u{out.itemsize}"))
    return out


@njit(cache=True)
def _requantize(acc, multiplier, shift, zero_point, qmin, qmax, out):
    for i in range(acc.shape[0]):
        for n in range(acc.shape[1]):
            half = np.int64(1) << (shift[n] - 1)
            value = ((np.int64(acc[i, n]) * multiplier[n] + half) >> shift[n]) + zero_point
            out[i, n] = min(max(value, qmin), qmax)
