"""Exercises of chapter 15, silicon and edge."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from . import exercise, mistake, transfer

RNG = np.random.default_rng(15)

SUMS = np.concatenate([RNG.integers(-(2**40), 2**40, 200), np.arange(-20, 20)])


@exercise("15-shift", (SUMS, 1), (SUMS, 7), (SUMS, 30), (np.int64([-1, -8, 0, 8]), 3))
def shifted_down(v, t):
    """Turn the bits of a negative number, shift, turn them back."""
    down = np.where(v < 0, ~v, v) >> t
    return np.where(v < 0, ~down, down)


@mistake("15-shift")
def to_zero(v, t):
    """that rounds toward zero, as C's division does: -1 / 2 is 0, and rounding down gives -1."""
    return np.sign(v) * (np.abs(v) >> t)


@mistake("15-shift")
def one_lower(v, t):
    """negative multiples of 2**t come out one too low: ~ on both sides, no further minus one."""
    return np.where(v < 0, -((-v >> t) + 1), v >> t)


@mistake("15-shift")
def to_nearest(v, t):
    """that rounds to the nearest: the half is added elsewhere, this step only rounds down."""
    return (v + (np.int64(1) << (t - 1))) >> t


CODES = RNG.integers(-8, 8, (3, 6))
ODD = RNG.integers(-8, 8, (2, 5))


@exercise("15-pack", (CODES,), (ODD,), (np.int64([[-8, 7, -1], [0, 1, 2]]),))
def two_in_a_byte(codes):
    """Bring to 0..15, fill up with 0, put each second code 16 times higher."""
    halves = codes + 8
    if codes.shape[1] % 2:
        halves = np.pad(halves, ((0, 0), (0, 1)))
    return halves[:, 0::2] + 16 * halves[:, 1::2]


@mistake("15-pack")
def high_first(codes):
    """the first code of a pair belongs in the lower half, yours is in the upper one."""
    packed = two_in_a_byte(codes)
    return packed // 16 + 16 * (packed % 16)


@mistake("15-pack")
def filled_early(codes):
    """the half left over must be 0: fill up after the 8 is added, not before."""
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return two_in_a_byte(codes)


@mistake("15-pack")
def signs_kept(codes):
    """the codes keep their signs and spill into their neighbors: add 8 first, so that each lies in
    0 to 15.
    """
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return codes[:, 0::2] + 16 * codes[:, 1::2]


@mistake("15-pack")
def twos_complement(codes):
    """those are the bits of two's complement; here a code is stored plus 8, so -8 is 0."""
    halves = codes % 16
    if codes.shape[1] % 2:
        halves = np.pad(halves, ((0, 0), (0, 1)))
    return halves[:, 0::2] + 16 * halves[:, 1::2]


NETWORKS = (
    ((4, 16, 8, 1), 8),
    ((4, 16, 8, 1), 4),
    ((5, 3), 4),
    ((12, 64, 32, 1), 8),
    ((7, 9, 3), 4),
)


@exercise("15-bytes", *NETWORKS)
def table_bytes(sizes, bits):
    """Weights row by row, 4 bytes an output, 5 more for a hidden one."""
    total = 0
    for i in range(1, len(sizes)):
        row = sizes[i - 1] if bits == 8 else (sizes[i - 1] + 1) // 2
        total += sizes[i] * (row + 4 + 5)
    return total - 5 * sizes[-1]  # the last layer is not requantized


@mistake("15-bytes")
def weights_only(sizes, bits):
    """those are the weights; biases, multipliers and shifts are tables too."""
    return sum(o * (i if bits == 8 else (i + 1) // 2) for i, o in pairwise(sizes))


@mistake("15-bytes")
def last_requantized(sizes, bits):
    """the last layer returns its accumulators: it has no multiplier and no shift."""
    return table_bytes(sizes, bits) + 5 * sizes[-1]


@mistake("15-bytes")
def no_shifts(sizes, bits):
    """each hidden output has a shift as well, one byte beside its multiplier."""
    return table_bytes(sizes, bits) - sum(sizes[1:-1])


@mistake("15-bytes")
def not_row_by_row(sizes, bits):
    """with an odd number of inputs each row ends in half a byte that is filled up: round up for
    each output, not once.
    """
    packed = sum((o * i * bits + 7) // 8 for i, o in pairwise(sizes))
    return table_bytes(sizes, bits) - weights_only(sizes, bits) + packed


VALUES = RNG.normal(0, 5, 300).astype(np.float32)
GRIDS = tuple(
    (VALUES, np.float32(s), z, b) for s, z, b in ((0.05, 120, 8), (0.3, 11, 5), (0.4, 0, 4))
)


@exercise("15-clip", *GRIDS)
def codes_of_the_grid(x, scale, zero_point, bits):
    """Round, add the zero point, and clamp to the grid, not to the type."""
    codes = np.rint(x / scale) + zero_point
    return np.clip(codes, 0, 2**bits - 1).astype(np.uint8)


@mistake("15-clip")
def end_of_the_type(x, scale, zero_point, bits):
    """right at 8 bits. 255 is the end of the type; the grid of 5 bits ends at 31."""
    return np.clip(np.rint(x / scale) + zero_point, 0, 255).astype(np.uint8)


@mistake("15-clip")
def clip_before_zero(x, scale, zero_point, bits):
    """you clamp before the zero point is added: everything below zero is lost."""
    return (np.clip(np.rint(x / scale), 0, 2**bits - 1) + zero_point).astype(np.uint8)


@mistake("15-clip")
def one_too_many(x, scale, zero_point, bits):
    """a grid of b bits has 2**b codes, and the last of them is 2**b - 1."""
    return np.clip(np.rint(x / scale) + zero_point, 0, 2**bits).astype(np.uint16)


@mistake("15-clip")
def signed_grid(x, scale, zero_point, bits):
    """that is the end of a signed grid; this one is unsigned."""
    codes = np.rint(x / scale) + zero_point
    return np.clip(codes, 0, 2 ** (bits - 1) - 1).astype(np.uint8)


@mistake("15-clip")
def cast_first(x, scale, zero_point, bits):
    """the cast came before the clamp, so codes beyond the type wrapped around."""
    codes = (np.rint(x / scale) + zero_point).astype(np.int64) % 256
    return np.minimum(codes, 2**bits - 1).astype(np.uint8)


BUDGET, OUTPUTS, INPUTS = 144, 8, 12


def layer_and_rows(rng):
    """Weights (8, 12) and rows whose columns differ in size: ((weights, seen), (weights, rows))."""
    weights = np.clip(rng.standard_normal((OUTPUTS, INPUTS)) / 2, -1.5, 1.5)
    size = 10 ** rng.uniform(-0.8, 0.6, INPUTS)
    rows = size * np.maximum(rng.standard_normal((4400, INPUTS)) + 0.3, 0)
    return (weights, rows[:400]), (weights, rows[400:])


def terms_of(units):
    """Fewest terms +-2**k of each integer: the digits of its non-adjacent form."""
    n = np.abs(units)
    return np.bitwise_count((3 * n) ^ n)


def snr_of_terms(answer, unseen):
    """SNR in dB of the outputs; a ValueError for weights off the grid or too many terms."""
    weights, rows = unseen
    made = np.asarray(answer, float)
    if made.shape != weights.shape or not np.isfinite(made).all():
        raise ValueError(f"an answer is a matrix {weights.shape} of finite numbers")
    units = 256 * made
    if (units != np.rint(units)).any() or np.abs(units).max() >= 2**20:
        raise ValueError("each weight is a multiple of 1/256, below 4096")
    used = int(terms_of(units.astype(np.int64)).sum())
    if used > BUDGET:
        raise ValueError(f"your weights take {used} terms; this chip has {BUDGET}")
    exact = rows @ weights.T
    return 10 * np.log10((exact**2).mean() / ((rows @ made.T - exact) ** 2).mean())


def one_power_each(weights, inputs):
    nearest = np.exp2(np.rint(np.log2(np.maximum(np.abs(weights), 2.0**-9))))
    return np.where(nearest < 2.0**-8, 0.0, np.sign(weights) * nearest)


@transfer(
    "15-transfer",
    draw=layer_and_rows,
    measure=snr_of_terms,
    plain=one_power_each,
    target=28.0,
    unit="dB",
)
def where_it_pays(weights, inputs):
    """Term by term: the power nearest to what is left, where it pays most."""
    power = (inputs**2).mean(axis=0)
    made = np.zeros_like(weights)
    for _ in range(144):
        left = weights - made
        size = np.maximum(np.abs(left), 2.0**-9)
        low = np.exp2(np.floor(np.log2(size)))
        step = np.where(size - low > low / 2, 2 * low, low)
        step = np.where(step < 2.0**-8, 0.0, np.sign(left) * step)
        gain = power * (left**2 - (left - step) ** 2)
        at = np.unravel_index(np.argmax(gain), gain.shape)
        made[at] += step[at]
    return made
