"""Exercises of chapter 7, non-uniform quantization."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

F32 = np.float32
RNG = np.random.default_rng(7)
BELL = RNG.standard_normal(400)
TAILS = RNG.standard_t(3, 400)
UNEVEN = np.array([-2.0, -0.5, 0.0, 0.1, 1.0, 4.0])
QUARTET = np.array([-1.5, -0.5, 0.5, 1.5])
SIXTEEN = np.sort(
    np.concatenate([[-1, 0, 1], -np.geomspace(0.09, 0.7, 6), np.geomspace(0.08, 0.72, 7)])
)


@exercise("07-nearest", (BELL, UNEVEN), (TAILS, QUARTET))
def nearest(x, levels):
    """A cell ends halfway between two levels."""
    return np.searchsorted((levels[:-1] + levels[1:]) / 2, x)


@mistake("07-nearest")
def next_above(x, levels):
    """np.searchsorted on the levels finds the next level above, not the nearest. Search among the
    midpoints between levels.
    """
    return np.minimum(np.searchsorted(levels, x), levels.size - 1)


@mistake("07-nearest")
def next_below(x, levels):
    """that is the level below each value, a floor. The border between two levels is their
    midpoint.
    """
    return np.maximum(np.searchsorted(levels, x, side="right") - 1, 0)


@mistake("07-nearest")
def levels_below(x, levels):
    """np.searchsorted on the levels counts the levels below each value, up to as many as there are.
    The nearest level is found among the midpoints between levels.
    """
    return np.searchsorted(levels, x)


@mistake("07-nearest")
def even_step(x, levels):
    """right only for evenly spaced levels: you divide by one step. Here each gap has its own
    midpoint.
    """
    step = (levels[-1] - levels[0]) / (levels.size - 1)
    return np.clip(np.rint((x - levels[0]) / step), 0, levels.size - 1).astype(int)


@mistake("07-nearest")
def the_level(x, levels):
    """these are the levels; asked for is the code, the index of the level."""
    return levels[nearest(x, levels)]


def _lloyd(x, levels, steps, center=np.mean, refresh=True, guard=True):
    levels = np.array(levels, float)
    codes = nearest(x, levels)
    for _ in range(steps):
        if refresh:
            codes = nearest(x, levels)
        for j in range(levels.size):
            if (codes == j).any():
                levels[j] = center(x[codes == j])
            elif not guard:
                levels[j] = 0.0
    return levels


@exercise(
    "07-lloyd", (BELL, QUARTET, 5), (TAILS, UNEVEN, 8), (BELL, np.array([-1.0, 1.0, 40.0, 50.0]), 3)
)
def lloyd(x, levels, steps):
    """Nearest level, then the mean of each cell; an empty cell stays."""
    levels = np.array(levels, dtype=float)
    for _ in range(steps):
        codes = np.searchsorted((levels[:-1] + levels[1:]) / 2, x)
        for j in range(levels.size):
            if (codes == j).any():
                levels[j] = x[codes == j].mean()
    return levels


@mistake("07-lloyd")
def frozen_cells(x, levels, steps):
    """the cells stay those of the starting levels: after the first step nothing moves. The
    midpoints must be computed again in every step.
    """
    return _lloyd(x, levels, steps, refresh=False)


@mistake("07-lloyd")
def medians(x, levels, steps):
    """you take medians. They make the absolute error least; the squared error is least at the
    mean.
    """
    return _lloyd(x, levels, steps, center=np.median)


@mistake("07-lloyd")
def empty_to_zero(x, levels, steps):
    """right but for a level that no value is nearest to: it jumps to 0. Leave it where it is."""
    return _lloyd(x, levels, steps, guard=False)


@mistake("07-lloyd")
def one_step_more(x, levels, steps):
    """one step too many."""
    return _lloyd(x, levels, steps + 1)


@mistake("07-lloyd")
def one_step_less(x, levels, steps):
    """one step too few."""
    return _lloyd(x, levels, steps - 1)


def _to_power(x, rule):
    size = np.abs(np.asarray(x, float))
    safe = np.where(size > 0, size, 1.0)
    return np.where(size > 0, np.sign(x) * 2.0 ** rule(safe), 0.0)


@exercise("07-power", (np.array([0.18, -0.18, 0.2, 0.74, 0.76, -5.9, 6.1, 0.0, 1.0]),), (TAILS,))
def power(x):
    """Halfway between 2**e and its double lies 1.5 times 2**e."""
    size = np.where(x == 0, 1.0, np.abs(x))
    e = np.floor(np.log2(size))
    e += size > 1.5 * 2.0**e
    return np.sign(x) * 2.0**e


@mistake("07-power")
def round_the_log(x):
    """you round the logarithm, so 0.18 becomes 0.25. Asked for is the nearest power, 0.125: the
    border lies at 1.5 times a power, not at sqrt(2).
    """
    return _to_power(x, lambda size: np.rint(np.log2(size)))


@mistake("07-power")
def floor_the_log(x):
    """you floor the logarithm: 0.2 becomes 0.125, but 0.25 is nearer."""
    return _to_power(x, lambda size: np.floor(np.log2(size)))


@mistake("07-power")
def ceil_the_log(x):
    """you take the next power above: 0.18 becomes 0.25, but 0.125 is nearer."""
    return _to_power(x, lambda size: np.ceil(np.log2(size)))


@mistake("07-power")
def sign_lost(x):
    """the magnitudes are right, the signs are lost."""
    return np.abs(power(x))


@exercise("07-bytes", (2048, 4), (32, 4), (256, 8), (1001, 3))
def stored(n, bits):
    """Packed codes, and a table of 2**bits float32 levels."""
    return -(-n * bits // 8) + 4 * 2**bits


@mistake("07-bytes")
def table_forgotten(n, bits):
    """you count the codes only. Without the table of 2**bits levels nobody can read them."""
    return -(-n * bits // 8)


@mistake("07-bytes")
def not_packed(n, bits):
    """a whole byte per code. Below 8 bits the codes are packed."""
    return n + 4 * 2**bits


@mistake("07-bytes")
def one_byte_a_level(n, bits):
    """a level is a float32: 4 bytes, not 1."""
    return -(-n * bits // 8) + 2**bits


@mistake("07-bytes")
def a_level_per_bit(n, bits):
    """b bits name 2**b levels, not b."""
    return -(-n * bits // 8) + 4 * bits


@mistake("07-bytes")
def in_bits(n, bits):
    """that is the number of bits; 8 of them make a byte."""
    return n * bits + 32 * 2**bits


@exercise("07-blocks", (BELL[:384], SIXTEEN, 64), (TAILS[:96] * 0.02, SIXTEEN, 32))
def blocks(w, levels, size):
    """Divide each block by its largest magnitude, round, multiply back."""
    parts = w.reshape(-1, size)
    peak = np.abs(parts).max(axis=1, keepdims=True)
    borders = (levels[:-1] + levels[1:]) / 2
    rounded = levels[np.searchsorted(borders, parts / peak)]
    return (rounded * peak).reshape(w.shape)


@mistake("07-blocks")
def unscaled(w, levels, size):
    """the levels end at -1 and 1, but the values do not: everything larger saturates. Divide each
    block by its largest magnitude first.
    """
    return levels[nearest(w, levels)]


@mistake("07-blocks")
def not_multiplied_back(w, levels, size):
    """the values come back between -1 and 1: multiply each block by its largest magnitude again."""
    b = w.reshape(-1, size)
    return levels[nearest(b / np.abs(b).max(axis=1, keepdims=True), levels)].reshape(w.shape)


@mistake("07-blocks")
def one_peak(w, levels, size):
    """one scale for all blocks. Each block has a largest magnitude of its own."""
    return blocks(w, levels, w.size)


@mistake("07-blocks")
def peak_without_sign(w, levels, size):
    """the largest value is not the largest magnitude: a block whose peak is negative saturates.
    Take the absolute value.
    """
    b = w.reshape(-1, size)
    peak = b.max(axis=1, keepdims=True)
    return (levels[nearest(b / peak, levels)] * peak).reshape(w.shape)


@mistake("07-blocks")
def standard_deviation(w, levels, size):
    """divided by the standard deviation the block does not end at 1: its large values saturate.
    Divide by the largest magnitude.
    """
    b = w.reshape(-1, size)
    width = b.std(axis=1, keepdims=True)
    return (levels[nearest(b / width, levels)] * width).reshape(w.shape)


def lopsided_tails(rng):
    """400 values to see and 2,000 to come: fat tails, the right one heavier."""
    x = rng.standard_t(4, 2400)
    x *= np.where(x > 0, 2.0, 1.0) * rng.uniform(0.5, 2.0)
    return x[:400].astype(F32), x[400:].astype(F32)


def snr_of_levels(levels, unseen):
    """SNR (dB) of the nearest levels; ValueError for levels that are not 16 rising numbers."""
    try:
        levels = np.asarray(levels, dtype=float).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError("expected 16 rising levels, as numbers") from None
    if levels.size != 16 or not np.isfinite(levels).all() or not (np.diff(levels) > 0).all():
        raise ValueError(
            f"your levels are {levels.size} numbers; expected 16, each larger than the one before"
        )
    x = unseen.astype(float)
    return 10 * np.log10(np.mean(x**2) / np.mean((x - levels[nearest(x, levels)]) ** 2))


def even_min_max(x):
    return np.linspace(x.min(), x.max(), 16)


@transfer(
    "07-transfer",
    draw=lopsided_tails,
    measure=snr_of_levels,
    plain=even_min_max,
    target=15.0,
    unit="dB",
)
def spread_and_settle(x):
    """Add scaled copies, so that the tails hold more values; then Lloyd."""
    x = x.astype(float)
    more = np.concatenate([x * size for size in np.geomspace(0.7, 1.6, 7)])
    levels = np.quantile(more, np.linspace(0, 1, 18)[1:-1])
    for _ in range(300):
        borders = (levels[:-1] + levels[1:]) / 2
        cells = np.searchsorted(borders, more)
        count = np.bincount(cells, minlength=16)
        total = np.bincount(cells, more, 16)
        levels = np.where(count > 0, total / np.maximum(count, 1), levels)
    return levels
