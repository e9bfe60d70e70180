"""Exercises of chapter 1, why quantize."""

from __future__ import annotations

import math

import numpy as np

from . import exercise, mistake, transfer

LAYERS = ((32, 4, 8), (16, 32, 4), (1, 16, 1), (3, 3, 3), (5, 7, 2), (4096, 4096, 8))


@exercise("01-bytes", *LAYERS)
def stored_bytes(rows, columns, bits):
    """Packed codes, rounded up once, and a float32 scale for each row."""
    return math.ceil(rows * columns * bits / 8) + 4 * rows


@mistake("01-bytes")
def no_scales(rows, columns, bits):
    """you count the codes only. Each row brings a float32 scale: 4 bytes."""
    return math.ceil(rows * columns * bits / 8)


@mistake("01-bytes")
def one_scale(rows, columns, bits):
    """you count one scale for the whole matrix; there is one for each row."""
    return math.ceil(rows * columns * bits / 8) + 4


@mistake("01-bytes")
def cut_off(rows, columns, bits):
    """27 bits do not fit into 3 bytes: round up, not down."""
    return rows * columns * bits // 8 + 4 * rows


@mistake("01-bytes")
def padded_rows(rows, columns, bits):
    """you start every row in a fresh byte. The codes run on as one stream, rounded up once."""
    return rows * math.ceil(columns * bits / 8) + 4 * rows


@mistake("01-bytes")
def bits_for_bytes(rows, columns, bits):
    """these are bits; 8 of them make a byte."""
    return rows * columns * bits + 4 * rows


READS = ((10, 50.0, 25.0), (1, 12.5, 10.0), (4, 0.5, 200.0))


@exercise("01-read", *READS)
def read_milliseconds(models, megabytes, bandwidth):
    """Bytes over bytes a second, with decimal prefixes on both sides."""
    return 1e3 * models * megabytes * 1e6 / (bandwidth * 1e9)


@mistake("01-read")
def mixed_prefixes(models, megabytes, bandwidth):
    """you mix prefixes: 2**20 for mega above the line, 10**9 for giga below. That is 5 % off."""
    return 1e3 * models * megabytes * 2**20 / (bandwidth * 1e9)


@mistake("01-read")
def one_model(models, megabytes, bandwidth):
    """you read one model; all of them vote on each decision."""
    return 1e3 * megabytes * 1e6 / (bandwidth * 1e9)


@mistake("01-read")
def seconds(models, megabytes, bandwidth):
    """these are seconds; milliseconds are wanted."""
    return models * megabytes * 1e6 / (bandwidth * 1e9)


@mistake("01-read")
def gigabits(models, megabytes, bandwidth):
    """bandwidth is in gigabytes here, not gigabits: drop the 8."""
    return 8e3 * models * megabytes * 1e6 / (bandwidth * 1e9)


_RNG = np.random.default_rng(1)
_LOGITS = _RNG.standard_normal(2000).astype(np.float32)
_NOISY = _LOGITS + _RNG.normal(0, 0.1, 2000).astype(np.float32)
_TINY = np.array([1e-9, -1e-9, 1e-9, 0.0, 0.0, 0.0, 0.0, 2.0, -2.0], np.float32)
_MOVED = np.array([-1e-9, -2e-9, 0.5, 1e-9, 0.5, 0.5, -1.0, 1.0, -1.0], np.float32)
PAIRS = ((_LOGITS, _NOISY), (_TINY, _MOVED), (_LOGITS, _LOGITS), (_LOGITS, -_LOGITS))


@exercise("01-flips", *PAIRS)
def flips(before, after):
    """Percent of the rows whose decision, logit > 0, changed."""
    return 100 * np.mean((before > 0) != (after > 0))


def _probability(logits):
    return 1 / (1 + np.exp(-logits))


@mistake("01-flips")
def rounded_to_percent(before, after):
    """you count probabilities that moved by a percent. A flip is a decision that changed: compare
    logit > 0.
    """
    return 100 * np.mean(_probability(before).round(2) != _probability(after).round(2))


@mistake("01-flips")
def rounded_to_one(before, after):
    """nearly right: a probability rounded in float32 is exactly 0.5 for a tiny positive logit, and
    rounds to 0. Compare the logits.
    """
    return 100 * np.mean(np.rint(_probability(before)) != np.rint(_probability(after)))


@mistake("01-flips")
def opposite_signs(before, after):
    """right but at a logit of exactly 0, where the product of the signs is 0: that row decides no,
    and it can flip.
    """
    return 100 * np.mean(before * after < 0)


@mistake("01-flips")
def zero_is_yes(before, after):
    """a logit of exactly 0 decides no: > 0, not >= 0."""
    return 100 * np.mean((before >= 0) != (after >= 0))


@mistake("01-flips")
def net(before, after):
    """yes-to-no and no-to-yes cancel in your count. Compare row by row."""
    return 100 * abs(np.mean(before > 0) - np.mean(after > 0))


@mistake("01-flips")
def share(before, after):
    """this is the share; percent is wanted."""
    return np.mean((before > 0) != (after > 0))


_DRIFT = np.array([1.0, 1.1, 3.0, 0.9, 1.0, 6.0, 1.0])
TIMES = (
    (np.r_[0.5, 0.04 * _DRIFT], np.r_[5.0, 0.01 * _DRIFT]),
    (np.array([9.0, 2.0, 2.2, 8.0, 2.1]), np.array([7.0, 4.0, 4.5, 4.0, 15.0])),
    (_RNG.uniform(1, 2, 16), _RNG.uniform(2, 3, 16)),
)


@exercise("01-speedup", *TIMES)
def speedup(baseline, candidate):
    """Median over the rounds after the first of the ratio within a round."""
    return np.median(baseline[1:] / candidate[1:])


@mistake("01-speedup")
def means(baseline, candidate):
    """the first round holds the compilation, and a mean keeps every disturbance. Drop the first
    round and take a median.
    """
    return baseline.mean() / candidate.mean()


@mistake("01-speedup")
def first_counted(baseline, candidate):
    """you take a median, but the first round, with its compilation, is in it."""
    return np.median(baseline / candidate)


@mistake("01-speedup")
def upside_down(baseline, candidate):
    """upside down: 4 times faster is baseline over candidate."""
    return np.median(candidate[1:] / baseline[1:])


@mistake("01-speedup")
def medians_apart(baseline, candidate):
    """you take the medians apart. The two times of one round share the machine's state: divide
    within a round first.
    """
    return np.median(baseline[1:]) / np.median(candidate[1:])


def shifted_twin(rng: np.random.Generator):
    """Logits of a model, and those of its twin: shrunk, shifted, noisy, on a coarse grid."""
    before = rng.normal(rng.uniform(-0.3, 0.3), 1, 2500)
    shift = rng.choice([-1, 1]) * rng.uniform(0.3, 0.8)
    noisy = rng.uniform(0.5, 0.9) * before + shift + 0.15 * rng.standard_t(4, 2500)
    step = rng.uniform(0.05, 0.15)
    after = step * np.rint(noisy / step)
    before, after = before.astype(np.float32), after.astype(np.float32)
    return (before[:500], after[:500]), (before[500:], after[500:])


def percent_agreed(threshold, unseen):
    """Percent of the unseen rows on which twin and model decide the same."""
    number = np.asarray(threshold, float)
    if number.shape != () or not np.isfinite(number):
        raise ValueError(f"the threshold is {threshold!r}: expected one finite number")
    before, after = unseen
    return 100 * float(np.mean((before > 0) == (after > number)))


def zero(before, after):
    """The threshold of the float model."""
    return 0.0


@transfer(
    "01-transfer", draw=shifted_twin, measure=percent_agreed, plain=zero, target=90.0, unit="%"
)
def most_agreement(before, after):
    """Try every value between two logits; keep the one that agrees most."""
    levels = np.unique(after)
    tries = (levels[1:] + levels[:-1]) / 2
    agreed = [np.mean((before > 0) == (after > t)) for t in tries]
    return tries[np.argmax(agreed)]
