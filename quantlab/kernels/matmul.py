"""Numba twins of the products: rows of codes in one piece, summed in int32, or bit by bit."""

import numpy as np

from quantlab.kernels.paths import jit


def pack_weights(w, groups=None):
    # w (K, N) codes -> what the products below read fastest: every column in one piece
    return np.array(w, order="F")


def integer_matmul(x, w, x_zero, w_zero):
    # x (M, K), w (K, N) codes, x_zero scalar, w_zero (N,) -> (M, N) int32, zero points removed
    steps = x.astype(np.int32) - np.int32(x_zero)
    if x.itemsize == w.itemsize == 1 and -128 <= x_zero <= 255:
        steps = steps.astype(np.int16)  # a product of int16 takes one instruction, of int32 two
    out = np.zeros((x.shape[0], w.shape[1]), np.int32)
    if w.flags.c_contiguous:
        _by_rows(steps, w, out)
    else:
        _by_columns(steps, np.ascontiguousarray(w.T), out)
    if w_zero.any():  # sum x (w - z) = sum x w - z sum x, in arithmetic modulo 2^32
        out -= steps.sum(axis=1, dtype=np.int32)[:, None] * w_zero
    return out


@jit
def _by_columns(x, w, out):
    # x (M, K), w (N, K) -> out (M, N): for many rows or few, without a copy of layers' weights
    for m in range(x.shape[0]):
        for n in range(w.shape[0]):
            out[m, n] = _dot(x[m], w[n])


@jit
def _dot(x, w):
    # the casts keep int32, which Numba would widen to int64
    total = np.int32(0)
    for k in range(x.size):
        total = np.int32(total + np.int32(np.int32(x[k]) * np.int32(w[k])))
    return total


@jit
def _by_rows(x, w, out):
    # x (M, K), w (K, N), out (M, N) zeros: four rows of w at a time, to load a sum less often
    for m in range(x.shape[0]):
        k = 0
        for k in range(0, x.shape[1] - 3, 4):
            _add_rows(x[m, k : k + 4], w[k], w[k + 1], w[k + 2], w[k + 3], out[m])
        for k in range(x.shape[1] // 4 * 4, x.shape[1]):
            _add_rows(x[m, k : k + 1], w[k], w[k], w[k], w[k], out[m])


@jit
def _add_rows(x, w0, w1, w2, w3, acc):
    zero = np.int32(0)
    a = np.int32(x[0])
    b, c, d = (np.int32(x[1]), np.int32(x[2]), np.int32(x[3])) if x.size > 1 else (zero, zero, zero)
    for n in range(acc.size):
        first = np.int32(a * np.int32(w0[n])) + np.int32(b * np.int32(w1[n]))
        second = np.int32(c * np.int32(w2[n])) + np.int32(d * np.int32(w3[n]))
        acc[n] = np.int32(acc[n] + np.int32(np.int32(first) + np.int32(second)))


def grouped_matmul(x, w, scale, x_zero):
    # x (M, K) uint8, w (K, N) int8, scale (groups, N) float32 -> (M, N) float32
    steps, out = x.astype(np.int16) - np.int16(x_zero), np.zeros((x.shape[0], w.shape[1]), "f4")
    _grouped(steps, np.ascontiguousarray(w.T), np.ascontiguousarray(scale.T), out)
    return out


@jit
def _grouped(x, w, scale, out):
    size = w.shape[1] // scale.shape[1]
    for m in range(x.shape[0]):
        for n in range(w.shape[0]):
            for g in range(scale.shape[1]):
                part = slice(g * size, (g + 1) * size)
                out[m, n] += np.float32(np.float32(_dot(x[m, part], w[n, part])) * scale[n, g])


def requantize(acc, multiplier, shift, zero_point, qmin, qmax, out):
    # acc (M, N) int32, multiplier and shift (N,) int64 -> out (M, N) codes; one rounding
    # signed codes are written as the unsigned integers of the same bits: one kernel for both
    _requantize(acc, multiplier, shift, zero_point, qmin, qmax, out.view(f"u{out.itemsize}"))
    return out


@jit
def _requantize(acc, multiplier, shift, zero_point, qmin, qmax, out):
    for i in range(acc.shape[0]):
        for n in range(acc.shape[1]):
            half = np.int64(1) << (shift[n] - 1)
            value = ((np.int64(acc[i, n]) * multiplier[n] + half) >> shift[n]) + zero_point
            out[i, n] = min(max(value, qmin), qmax)


def xnor_matmul(a, b, k):
    # a (M, W), b (N, W) uint64 signs of k values -> (M, N) int32: agreements minus disagreements
    out = np.empty((a.shape[0], b.shape[0]), np.int32)
    _xnor(np.ascontiguousarray(a), np.ascontiguousarray(b), k, out)
    return out


@jit
def _xnor(a, b, k, out):
    for m in range(a.shape[0]):
        for n in range(b.shape[0]):
            out[m, n] = np.int32(k - 2 * np.int64(_distance(a[m], b[n])))


@jit
def _distance(a, b):
    # a, b (W,) uint64 -> number of bits in which they differ
    total = np.uint64(0)
    for w in range(a.size):
        total += _popcount(a[w] ^ b[w])
    return total


@jit(inline="always")
def _popcount(v):
    # sums of 2, 4, 8 bits side by side; compilers turn these lines into one instruction
    v = v - ((v >> np.uint64(1)) & np.uint64(0x5555555555555555))
    v = (v & np.uint64(0x3333333333333333)) + ((v >> np.uint64(2)) & np.uint64(0x3333333333333333))
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (v * np.uint64(0x0101010101010101)) >> np.uint64(56)
