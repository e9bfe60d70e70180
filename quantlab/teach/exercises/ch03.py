"""Exercises of chapter 3, calibration."""

from __future__ import annotations

import numpy as np

from . import Exercise

F32 = np.float32
RNG = np.random.default_rng(3)
RETURNS = RNG.standard_t(4, 2000).astype(F32)
CRASH = np.concatenate([RETURNS[:400], F32([-30.0, -22.0, -18.0])])
DAYS = (RNG.standard_t(3, (6, 50)) * np.array([[1], [1], [4], [1], [9], [0.5]])).astype(F32)
DAYS[4, 7] = -np.abs(DAYS).max() - 1  # the largest magnitude is a fall, in a day in the middle

NOISES = ((RETURNS, 2.0, 4), (RETURNS, 6.0, 8), (CRASH, 10.0, 2), (-CRASH, 3.0, 3))


def noise(x, alpha, bits):
    """Step squared over 12, and the mean square by which values lie beyond the clip."""
    step = alpha / (2 ** (bits - 1) - 1)
    return step**2 / 12, np.mean(np.maximum(np.abs(x) - alpha, 0) ** 2)


def _all_codes(x, alpha, bits):
    return alpha**2 / (3 * 4**bits), noise(x, alpha, bits)[1]


def _step_not_squared(x, alpha, bits):
    return alpha / (2 ** (bits - 1) - 1) / 12, noise(x, alpha, bits)[1]


def _overshoot_not_squared(x, alpha, bits):
    return noise(x, alpha, bits)[0], np.mean(np.maximum(np.abs(x) - alpha, 0))


def _clipped_only(x, alpha, bits):
    beyond = np.abs(x)[np.abs(x) > alpha] - alpha
    return noise(x, alpha, bits)[0], np.mean(beyond**2)


def _rises_only(x, alpha, bits):
    return noise(x, alpha, bits)[0], np.mean(np.maximum(x - alpha, 0) ** 2)


FOURS = ((RETURNS, F32(3.0)), (CRASH, F32(12.0)), (F32([-1, -0.4, 0, 0.3, 0.07, 1]), F32(1.0)))


def int4(x, alpha):
    """Scale and codes of the same grid: alpha / 7, codes -7 to 7."""
    scale = alpha / F32(7)
    return scale, np.clip(np.rint(x / scale), -7, 7)


def _int8_scale(x, alpha):
    return alpha / F32(127), int4(x, alpha)[1]


def _int8_steps(x, alpha):
    scale = alpha / F32(127)
    return scale, np.clip(np.rint(x / scale), -7, 7)


def _rounded_twice(x, alpha):
    eight = np.clip(np.rint(x / (alpha / F32(127))), -127, 127)
    return alpha / F32(7), np.clip(np.rint(eight * F32(7 / 127)), -7, 7)


def _top_bits(x, alpha):
    eight = np.clip(np.rint(x / (alpha / F32(127))), -127, 127)
    return F32(16) * alpha / F32(127), np.clip(np.floor(eight / 16), -7, 7)


CLIPS = ((RETURNS, 99.9), (CRASH, 99.0), (-CRASH, 99.0), (RETURNS, 95.0))


def percentile(x, p):
    """The percentile of the magnitudes: both tails count."""
    return np.percentile(np.abs(x.astype(float)), p)


def _right_tail(x, p):
    return np.percentile(x.astype(float), p)


def _wider_end(x, p):
    low, high = np.percentile(x.astype(float), [100 - p, p])
    return max(-low, high)


def _share_for_percent(x, p):
    return np.percentile(np.abs(x.astype(float)), p / 100)


def _share_of_peak(x, p):
    return np.abs(x.astype(float)).max() * p / 100


STREAMS = ((DAYS,), (-DAYS,), (DAYS[:2],), (np.abs(DAYS[::-1]),))


def observer(pieces):
    """The largest magnitude so far is kept, never averaged."""
    alpha = F32(0)
    for piece in pieces:
        alpha = max(alpha, np.abs(piece).max())
    return alpha


def _average(pieces):
    return np.mean([np.abs(piece).max() for piece in pieces])


def _moving(pieces):
    alpha = np.abs(pieces[0]).max()
    for piece in pieces[1:]:
        alpha = F32(0.9) * alpha + F32(0.1) * np.abs(piece).max()
    return alpha


def _last(pieces):
    return np.abs(pieces[-1]).max()


def _largest_rise(pieces):
    return max(piece.max() for piece in pieces)


COUNTS = ((np.abs(DAYS), 64), (np.abs(DAYS[[1, 4]]), 16), (np.abs(DAYS[[5, 0, 2, 4]]), 256))


def _edge(piece):
    return 2.0 ** np.frexp(np.abs(piece).max())[1]  # a power of two above every value


def histogram(pieces, bins):
    """The range doubles until the piece fits; each time two old bins become one."""
    counts, edge = np.zeros(bins, np.int64), _edge(pieces[0])
    for piece in pieces:
        while piece.max() >= edge:
            counts = np.concatenate([counts.reshape(-1, 2).sum(axis=1), np.zeros(bins // 2, int)])
            edge *= 2
        counts += np.histogram(piece, bins, (0, edge))[0]
    return counts, edge


def _dropped(pieces, bins):
    edge = _edge(pieces[0])
    return sum(np.histogram(piece, bins, (0, edge))[0] for piece in pieces), edge


def _into_the_last_bin(pieces, bins):
    edge = _edge(pieces[0])
    return sum(np.histogram(np.minimum(p, edge), bins, (0, edge))[0] for p in pieces), edge


def _not_merged(pieces, bins):
    counts, edge = np.zeros(bins, np.int64), _edge(pieces[0])
    for piece in pieces:
        edge = max(edge, _edge(piece))
        counts += np.histogram(piece, bins, (0, edge))[0]
    return counts, edge


def _begins_again(pieces, bins):
    counts, edge = np.zeros(bins, np.int64), _edge(pieces[0])
    for piece in pieces:
        if piece.max() >= edge:
            counts, edge = np.zeros(bins, np.int64), _edge(piece)
        counts += np.histogram(piece, bins, (0, edge))[0]
    return counts, edge


EXERCISES = (
    Exercise(
        "03-noise",
        noise,
        NOISES,
        (
            (
                _all_codes,
                "the overload is right. Your granular part counts 2**b steps from -alpha to "
                "alpha; this grid has 2**b - 2, which is half as many at 2 bits.",
            ),
            (
                _step_not_squared,
                "the overload is right; granular noise is the step squared over 12.",
            ),
            (
                _overshoot_not_squared,
                "the granular part is right; noise is a mean square, so square "
                "what lies beyond the clip.",
            ),
            (
                _clipped_only,
                "the granular part is right. You average over the clipped values only; "
                "the noise is the mean over all of them.",
            ),
            (
                _rises_only,
                "the granular part is right. You count what is clipped above and forget the "
                "falls below -alpha.",
            ),
        ),
        tolerance=1e-5,
    ),
    Exercise(
        "03-int4",
        int4,
        FOURS,
        (
            (
                _int8_scale,
                "the codes are right, and the scale is that of INT8: every value comes back "
                "18 times too small. Codes and scale belong to one grid.",
            ),
            (
                _int8_steps,
                "steps of INT8 with the codes of INT4: everything beyond 7/127 of alpha is "
                "clamped. The scale is alpha / 7.",
            ),
            (
                _rounded_twice,
                "the scale is right; some codes are off by one, because you round to INT8 "
                "first and then again. Round x once.",
            ),
            (
                _top_bits,
                "keeping the top four bits of an INT8 code floors it, and floor costs a bit: "
                "round x / scale instead.",
            ),
        ),
        tolerance=1e-6,
    ),
    Exercise(
        "03-percentile",
        percentile,
        CLIPS,
        (
            (
                _right_tail,
                "one-sided: you look at the rises only. A crash in the falls goes unseen; "
                "a symmetric grid wants the percentile of abs(x).",
            ),
            (
                _wider_end,
                "close: you take each tail at p and keep the wider one, so up to twice as "
                "many values are clipped as asked. Take the percentile of abs(x).",
            ),
            (_share_for_percent, "np.percentile takes percent: 99.9, not 0.999."),
            (
                _share_of_peak,
                "that is a share of the largest value. A percentile counts values, "
                "however large they are.",
            ),
        ),
        tolerance=1e-9,
    ),
    Exercise(
        "03-observer",
        observer,
        STREAMS,
        (
            (
                _average,
                "you average the maxima. The range must reach the largest value of all days, "
                "and an average never does.",
            ),
            (
                _moving,
                "a moving average forgets the wild day after a few calm ones. "
                "Keep the largest value instead.",
            ),
            (_last, "you keep only the last piece."),
            (
                _largest_rise,
                "you keep the largest value, not the largest magnitude: "
                "here the largest move is a fall.",
            ),
        ),
    ),
    Exercise(
        "03-histogram",
        histogram,
        COUNTS,
        (
            (
                _dropped,
                "np.histogram drops what lies outside its range, silently: the counts do not "
                "sum to the number of values. Widen the range first.",
            ),
            (
                _into_the_last_bin,
                "you put everything beyond the range into the last bin. All values "
                "are counted, but the tail is gone: widen the range.",
            ),
            (
                _not_merged,
                "the range grows but the old counts stay in their bins, which are now twice "
                "as wide: merge them in pairs.",
            ),
            (
                _begins_again,
                "you start from zero whenever the range grows, and lose all days before.",
            ),
        ),
    ),
)
