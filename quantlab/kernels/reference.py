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
    np.multiply(x >= 0, 2, out=out, casting="unsafe")
    out -= 1
    return out


def inside(x, scale, zero_point, qmin, qmax, out):
    # x (A, B, C) float32 -> out (A, B, C) bool: True where the clamp leaves the code alone
    code = _unclamped(x, scale, zero_point)
    out[...] = (code >= np.float32(qmin)) & (code <= np.float32(qmax))
    return out


def measure(x, scale, zero_point, qmin, qmax):
    # x (A, B, C) float32 -> sums of (x - fake_quantize(x))^2 and of x^2, and how many saturate.
    # The sums are exact to float64; twins add float32 squares by blocks, to 6 digits
    fake = fake_quantize(x, scale, zero_point, qmin, qmax, np.empty_like(x))
    within = inside(x, scale, zero_point, qmin, qmax, np.empty(x.shape, bool))
    wide = x.astype(np.float64)
    return ((wide - fake) ** 2).sum(), (wide**2).sum(), int(x.size - within.sum())


def minmax(x):
    # x (n,) float32 -> smallest and largest value
    return x.min(), x.max()


def integer_matmul(x, w, x_zero, w_zero):
    # x (M, K), w (K, N) codes, x_zero scalar, w_zero (N,) -> (M, N) int32, zero points removed
    return (x.astype(np.int32) - np.int32(x_zero)) @ (w.astype(np.int32) - w_zero)


def grouped_matmul(x, w, scale, x_zero):
    # x (M, K) uint8, w (K, N) int8, scale (groups, N) float32 -> (M, N) float32; the int32 sum of
    # a group is exact, the groups are added in float32 from first to last
    out, size = np.zeros((x.shape[0], w.shape[1]), np.float32), w.shape[0] // scale.shape[0]
    for g, step in enumerate(scale):
        part = slice(g * size, (g + 1) * size)
        sums = (x[:, part].astype(np.int32) - np.int32(x_zero)) @ w[part].astype(np.int32)
        out += sums.astype(np.float32) * step
    return out


def pack_weights(w, groups=None):
    # w (K, N) codes -> the same for integer_matmul, or with groups for grouped_matmul, in the
    # order in which the products of a path read them; here as they are
    return np.array(w)


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


def nearest_level(x, scale, thresholds, out):
    # x (A, B, C) float32, thresholds (k - 1,) rising -> out codes: how many lie below x / scale
    with np.errstate(over="ignore"):
        out[...] = np.searchsorted(thresholds, x / scale, side="left")
    return out


def lookup(codes, scale, levels, out):
    # codes (A, B, C) in 0..k-1, levels (k,) float32 -> out (A, B, C) float32
    with np.errstate(over="ignore"):
        out[...] = levels[codes] * scale
    return out


def bin_sums(x, low, density, counts, sums):
    # x (n,) floats, density = bins / range -> counts (bins,) int64, sums (bins,) float64
    at = np.minimum(((x - np.float64(low)) * density).astype(np.int64), counts.size - 1)
    counts[...] = np.bincount(at, minlength=counts.size)
    sums[...] = np.bincount(at, x, minlength=counts.size)
    return counts, sums


def _cluster_cost(mass, first, second, i, j):
    # squared error of points i to j - 1 around their mean; prefix sums of w, w x, w x^2
    s = first[j] - first[i]
    return np.maximum((second[j] - second[i]) - s * s / (mass[j] - mass[i]), 0.0)


def kmeans_cuts(mass, first, second, k):
    # prefix sums (n + 1,) over sorted points, k <= n -> cuts (k + 1,) int64: the least squared
    # error; cluster c holds the points cuts[c] to cuts[c + 1] - 1
    n = mass.size - 1
    begins = np.zeros((k, n + 1), np.int32)  # where the last of c + 1 clusters of j points begins
    best = np.zeros(n + 1)
    best[1:] = _cluster_cost(mass, first, second, 0, np.arange(1, n + 1))
    for c in range(1, k):
        previous, best = best, np.zeros(n + 1)
        # the best beginning never moves left as j grows: halve the j, then the beginnings
        pending = [(n if c == k - 1 else c + 1, n, c, n - 1)]
        while pending:
            j_low, j_high, i_low, i_high = pending.pop()
            if j_low > j_high:
                continue
            j = (j_low + j_high) // 2
            i = np.arange(i_low, min(i_high, j - 1) + 1)
            costs = previous[i] + _cluster_cost(mass, first, second, i, j)
            at = int(costs.argmin())
            best[j], begins[c, j] = costs[at], i_low + at
            pending.append((j_low, j - 1, i_low, i_low + at))
            pending.append((j + 1, j_high, i_low + at, i_high))
    cuts = np.zeros(k + 1, np.int64)
    cuts[k] = n
    for c in range(k - 1, 0, -1):
        cuts[c] = begins[c, cuts[c + 1]]
    return cuts


def pack_signs(x):
    # x (M, K) float32 -> (M, ceil(K / 64)) uint64; bit k % 64 of word k // 64 is set where x >= 0
    words = -(-x.shape[1] // 64)
    packed = np.zeros((x.shape[0], 8 * words), np.uint8)
    octets = np.packbits(x >= 0, axis=1, bitorder="little")
    packed[:, : octets.shape[1]] = octets  # the bits beyond K stay 0
    return packed.view("<u8").astype(np.uint64)


def xnor_matmul(a, b, k):
    # a (M, W), b (N, W) uint64 signs of k values -> (M, N) int32: agreements minus disagreements
    out = np.empty((a.shape[0], b.shape[0]), np.int32)
    for m in range(a.shape[0]):
        out[m] = k - 2 * np.bitwise_count(a[m] ^ b).sum(axis=1, dtype=np.int64)
    return out
