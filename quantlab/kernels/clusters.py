"""Numba twins of one-dimensional k-means: sums by bin, and the exact cuts."""

import numpy as np

from quantlab.kernels.paths import jit


def bin_sums(x, low, density, counts, sums):
    # x (n,) floats, density = bins / range -> counts (bins,) int64, sums (bins,) float64
    counts.fill(0)
    sums.fill(0)
    _bin_sums(x, float(low), float(density), counts, sums, np.empty(512, np.int32))
    return counts, sums


@jit
def _bin_sums(x, low, density, counts, sums, at):
    last = np.int32(counts.size - 1)
    for start in range(0, x.size, at.size):
        some = min(at.size, x.size - start)
        for i in range(some):  # a loop of its own: without the sums it is vectorized
            at[i] = min(np.int32((x[start + i] - low) * density), last)
        for i in range(some):
            counts[at[i]] += 1
            sums[at[i]] += x[start + i]


@jit
def _cluster_cost(mass, first, second, i, j):
    s = first[j] - first[i]
    return max((second[j] - second[i]) - s * s / (mass[j] - mass[i]), 0.0)


def kmeans_cuts(mass, first, second, k):
    # prefix sums (n + 1,) over sorted points, k <= n -> cuts (k + 1,) int64
    n = mass.size - 1
    cuts = np.zeros(k + 1, np.int64)
    _kmeans_cuts(
        mass,
        first,
        second,
        np.zeros((k, n + 1), np.int32),
        np.zeros((2, n + 1)),
        np.empty((128, 4), np.int64),
        cuts,
    )
    return cuts


@jit
def _kmeans_cuts(mass, first, second, begins, costs, pending, cuts):
    # begins (k, n + 1), costs (2, n + 1): the last clusters and the one before, in turn
    n, k = mass.size - 1, cuts.size - 1
    for j in range(1, n + 1):
        costs[0, j] = _cluster_cost(mass, first, second, np.int64(0), j)
    for c in range(1, k):
        _add_cluster(
            mass,
            first,
            second,
            c,
            n if c == k - 1 else c + 1,
            costs[(c - 1) % 2],
            costs[c % 2],
            begins[c],
            pending,
        )
    cuts[k] = n
    for c in range(k - 1, 0, -1):
        cuts[c] = begins[c, cuts[c + 1]]


@jit
def _add_cluster(mass, first, second, c, lowest, previous, best, begin, pending):
    # best[j], begin[j] for j = lowest..n: halve the j, then the beginnings that remain. Rows of
    # pending: from and to which j, from and to which beginning
    n, waiting = mass.size - 1, 1
    pending[0, 0], pending[0, 1], pending[0, 2], pending[0, 3] = lowest, n, c, n - 1
    while waiting:
        waiting -= 1
        task, other = pending[waiting], pending[waiting + 1]
        j_low, j_high, i_low, i_high = task[0], task[1], task[2], task[3]
        if j_low > j_high:
            continue
        j = (j_low + j_high) // 2
        at, least = i_low, np.inf
        for i in range(i_low, min(i_high, j - 1) + 1):
            cost = previous[i] + _cluster_cost(mass, first, second, i, j)
            if cost < least:
                at, least = i, cost
        best[j], begin[j] = least, at
        task[1], task[3] = j - 1, at
        other[0], other[1], other[2], other[3] = j + 1, j_high, at, i_high
        waiting += 2
