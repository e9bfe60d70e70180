"""Numba twins of one-dimensional k-means: sums by bin, and the exact cuts."""

import numpy as np
from numba import njit

_jit = njit(cache=True, error_model="numpy")


@_jit
def bin_sums(x, low, density, counts, sums):
    # x (n,) floats, density = bins / range -> counts (bins,) int64, sums (bins,) float64
    counts[:] = 0
    sums[:] = 0.0
    at, last, zero = np.empty(512, np.int32), np.int32(counts.size - 1), np.float64(low)
    for start in range(0, x.size, 512):
        some = x[start : start + 512]
        _bins(some, zero, density, last, at)
        for i in range(some.size):
            counts[at[i]] += 1
            sums[at[i]] += some[i]
    return counts, sums


@_jit
def _bins(x, low, density, last, out):
    # a loop of its own: without the sums it is vectorized
    for i in range(x.size):
        out[i] = min(np.int32((x[i] - low) * density), last)


@_jit
def _cluster_cost(mass, first, second, i, j):
    s = first[j] - first[i]
    return max((second[j] - second[i]) - s * s / (mass[j] - mass[i]), 0.0)


@_jit
def kmeans_cuts(mass, first, second, k):
    # prefix sums (n + 1,) over sorted points, k <= n -> cuts (k + 1,) int64
    n = mass.size - 1
    begins = np.zeros((k, n + 1), np.int32)
    best, previous = np.zeros(n + 1), np.zeros(n + 1)
    for j in range(1, n + 1):
        best[j] = _cluster_cost(mass, first, second, 0, j)
    for c in range(1, k):
        best, previous = previous, best
        _add_cluster(mass, first, second, c, n if c == k - 1 else c + 1, previous, best, begins[c])
    cuts = np.zeros(k + 1, np.int64)
    cuts[k] = n
    for c in range(k - 1, 0, -1):
        cuts[c] = begins[c, cuts[c + 1]]
    return cuts


@_jit
def _add_cluster(mass, first, second, c, lowest, previous, best, begin):
    # best[j], begin[j] for j = lowest..n: halve the j, then the beginnings that remain
    n = mass.size - 1
    pending = np.empty((128, 4), np.int64)
    pending[0] = lowest, n, c, n - 1
    waiting = 1
    while waiting:
        waiting -= 1
        j_low, j_high, i_low, i_high = pending[waiting]
        if j_low > j_high:
            continue
        j = (j_low + j_high) // 2
        at, least = i_low, np.inf
        for i in range(i_low, min(i_high, j - 1) + 1):
            cost = previous[i] + _cluster_cost(mass, first, second, i, j)
            if cost < least:
                at, least = i, cost
        best[j], begin[j] = least, at
        pending[waiting] = j_low, j - 1, i_low, at
        pending[waiting + 1] = j + 1, j_high, at, i_high
        waiting += 2
