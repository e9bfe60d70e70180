"""Exercises of chapter 7, non-uniform quantization."""

from __future__ import annotations

import numpy as np

from . import Exercise

F32 = np.float32
RNG = np.random.default_rng(7)
BELL = RNG.standard_normal(400)
TAILS = RNG.standard_t(3, 400)
UNEVEN = np.array([-2.0, -0.5, 0.0, 0.1, 1.0, 4.0])
QUARTET = np.array([-1.5, -0.5, 0.5, 1.5])


def nearest(x, levels):
    """Index of the level nearest to each value: cells end at the midpoints."""
    return np.searchsorted((levels[:-1] + levels[1:]) / 2, x)


def _next_above(x, levels):
    return np.minimum(np.searchsorted(levels, x), levels.size - 1)


def _next_below(x, levels):
    return np.maximum(np.searchsorted(levels, x, side="right") - 1, 0)


def _even_step(x, levels):
    step = (levels[-1] - levels[0]) / (levels.size - 1)
    return np.clip(np.rint((x - levels[0]) / step), 0, levels.size - 1).astype(int)


def _the_level(x, levels):
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


def lloyd(x, levels, steps):
    """Nearest level, then mean of each cell, ``steps`` times; an empty cell keeps its level."""
    return _lloyd(x, levels, steps)


def _frozen_cells(x, levels, steps):
    return _lloyd(x, levels, steps, refresh=False)


def _medians(x, levels, steps):
    return _lloyd(x, levels, steps, center=np.median)


def _empty_to_zero(x, levels, steps):
    return _lloyd(x, levels, steps, guard=False)


def _one_step_more(x, levels, steps):
    return _lloyd(x, levels, steps + 1)


def _to_power(x, rule):
    size = np.abs(np.asarray(x, float))
    safe = np.where(size > 0, size, 1.0)
    return np.where(size > 0, np.sign(x) * 2.0 ** rule(safe), 0.0)


def power(x):
    """The power of two nearest to each value, with its sign; zero stays zero."""

    def rule(size):
        e = np.floor(np.log2(size))
        return e + (size > 1.5 * 2.0**e)

    return _to_power(x, rule)


def _round_the_log(x):
    return _to_power(x, lambda size: np.rint(np.log2(size)))


def _floor_the_log(x):
    return _to_power(x, lambda size: np.floor(np.log2(size)))


def _ceil_the_log(x):
    return _to_power(x, lambda size: np.ceil(np.log2(size)))


def _sign_lost(x):
    return np.abs(power(x))


def stored(n, bits):
    """Bytes of n packed codes and a table of 2**bits float32 levels."""
    return -(-n * bits // 8) + 4 * 2**bits


def _table_forgotten(n, bits):
    return -(-n * bits // 8)


def _not_packed(n, bits):
    return n + 4 * 2**bits


def _one_byte_a_level(n, bits):
    return -(-n * bits // 8) + 2**bits


def _a_level_per_bit(n, bits):
    return -(-n * bits // 8) + 4 * bits


def _in_bits(n, bits):
    return n * bits + 32 * 2**bits


def blocks(w, levels, size):
    """Each block of ``size`` values divided by its largest magnitude, rounded, multiplied back."""
    b = w.reshape(-1, size)
    peak = np.abs(b).max(axis=1, keepdims=True)
    return (levels[nearest(b / peak, levels)] * peak).reshape(w.shape)


def _unscaled(w, levels, size):
    return levels[nearest(w, levels)]


def _not_multiplied_back(w, levels, size):
    b = w.reshape(-1, size)
    return levels[nearest(b / np.abs(b).max(axis=1, keepdims=True), levels)].reshape(w.shape)


def _one_peak(w, levels, size):
    return blocks(w, levels, w.size)


def _peak_without_sign(w, levels, size):
    b = w.reshape(-1, size)
    peak = b.max(axis=1, keepdims=True)
    return (levels[nearest(b / peak, levels)] * peak).reshape(w.shape)


def _standard_deviation(w, levels, size):
    b = w.reshape(-1, size)
    width = b.std(axis=1, keepdims=True)
    return (levels[nearest(b / width, levels)] * width).reshape(w.shape)


SIXTEEN = np.sort(
    np.concatenate([[-1, 0, 1], -np.geomspace(0.09, 0.7, 6), np.geomspace(0.08, 0.72, 7)])
)
EXERCISES = (
    Exercise(
        "07-nearest",
        nearest,
        ((BELL, UNEVEN), (TAILS, QUARTET)),
        (
            (
                _next_above,
                "np.searchsorted on the levels finds the next level above, not the nearest. "
                "Search among the midpoints between levels.",
            ),
            (
                _next_below,
                "that is the level below each value, a floor. "
                "The border between two levels is their midpoint.",
            ),
            (
                _even_step,
                "right only for evenly spaced levels: you divide by one step. "
                "Here each gap has its own midpoint.",
            ),
            (_the_level, "these are the levels; asked for is the code, the index of the level."),
        ),
    ),
    Exercise(
        "07-lloyd",
        lloyd,
        ((BELL, QUARTET, 5), (TAILS, UNEVEN, 8), (BELL, np.array([-1.0, 1.0, 40.0, 50.0]), 3)),
        (
            (
                _frozen_cells,
                "the cells stay those of the starting levels: after the first step nothing "
                "moves. The midpoints must be computed again in every step.",
            ),
            (
                _medians,
                "you take medians. They make the absolute error least; "
                "the squared error is least at the mean.",
            ),
            (
                _empty_to_zero,
                "right but for a level that no value is nearest to: it jumps to 0. "
                "Leave it where it is.",
            ),
            (_one_step_more, "one step too many."),
        ),
        tolerance=1e-9,
    ),
    Exercise(
        "07-power",
        power,
        ((np.array([0.18, -0.18, 0.2, 0.74, 0.76, -5.9, 6.1, 0.0, 1.0]),), (TAILS,)),
        (
            (
                _round_the_log,
                "you round the logarithm, so 0.18 becomes 0.25. Asked for is the nearest "
                "power, 0.125: the border lies at 1.5 times a power, not at sqrt(2).",
            ),
            (_floor_the_log, "you floor the logarithm: 0.2 becomes 0.125, but 0.25 is nearer."),
            (
                _ceil_the_log,
                "you take the next power above: 0.18 becomes 0.25, but 0.125 is nearer.",
            ),
            (_sign_lost, "the magnitudes are right, the signs are lost."),
        ),
        tolerance=1e-12,
    ),
    Exercise(
        "07-bytes",
        stored,
        ((2048, 4), (32, 4), (256, 8), (1001, 3)),
        (
            (
                _table_forgotten,
                "you count the codes only. "
                "Without the table of 2**bits levels nobody can read them.",
            ),
            (_not_packed, "a whole byte per code. Below 8 bits the codes are packed."),
            (_one_byte_a_level, "a level is a float32: 4 bytes, not 1."),
            (_a_level_per_bit, "b bits name 2**b levels, not b."),
            (_in_bits, "that is the number of bits; 8 of them make a byte."),
        ),
    ),
    Exercise(
        "07-blocks",
        blocks,
        ((BELL[:384], SIXTEEN, 64), (TAILS[:96] * 0.02, SIXTEEN, 32)),
        (
            (
                _unscaled,
                "the levels end at -1 and 1, but the values do not: everything larger "
                "saturates. Divide each block by its largest magnitude first.",
            ),
            (
                _not_multiplied_back,
                "the values come back between -1 and 1: "
                "multiply each block by its largest magnitude again.",
            ),
            (_one_peak, "one scale for all blocks. Each block has a largest magnitude of its own."),
            (
                _peak_without_sign,
                "the largest value is not the largest magnitude: "
                "a block whose peak is negative saturates. Take the absolute value.",
            ),
            (
                _standard_deviation,
                "divided by the standard deviation the block does not end at 1: "
                "its large values saturate. Divide by the largest magnitude.",
            ),
        ),
        tolerance=1e-9,
    ),
)
