"""Numba twins of the binary product: 64 signs a word, one XOR and one popcount for 64 products."""

import numpy as np
from numba import njit


@njit(cache=True, inline="always")
def _popcount(v):
    # sums of 2, 4, 8 bits side by side; compilers turn these lines into one instruction
    v = v - ((v >> np.uint64(1)) & np.uint64(0x5555555555555555))
    v = (v & np.uint64(0x3333333333333333)) + ((v >> np.uint64(2)) & np.uint64(0x3333333333333333))
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (v * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(cache=True)
def _distance(a, b):
    # a, b (W,) uint64 -> number of bits in which they differ
    total = np.uint64(0)
    for w in range(a.size):
        total += _popcount(a[w] ^ b[w])
    return total


@njit(cache=True)
def xnor_matmul(a, b, k):
    # a (M, W), b (N, W) uint64 signs of k values -> (M, N) int32: agreements minus disagreements
    out = np.empty((a.shape[0], b.shape[0]), np.int32)
    for m in range(a.shape[0]):
        for n in range(b.shape[0]):
            out[m, n] = np.int32(k - 2 * np.int64(_distance(a[m], b[n])))
    return out
