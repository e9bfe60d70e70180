"""Exercises of chapter 3, calibration."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

F32 = np.float32
RNG = np.random.default_rng(3)
RETURNS = RNG.standard_t(4, 2000).astype(F32)
CRASH = np.concatenate([RETURNS[:400], F32([-30.0, -22.0, -18.0])])
DAYS = (RNG.standard_t(3, (6, 50)) * np.array([[1], [1], [4], [1], [9], [0.5]])).astype(F32)
DAYS[4, 7] = -np.abs(DAYS).max() - 1  # the largest magnitude is a fall, in a day in the middle

NOISES = ((RETURNS, 2.0, 4), (RETURNS, 6.0, 8), (CRASH, 10.0, 2), (-CRASH, 3.0, 3))


@exercise("03-noise", *NOISES)
def noise(x, alpha, bits):
    """Granular and overload noise, as powers."""
    step = alpha / (2 ** (bits - 1) - 1)
    beyond = np.maximum(np.abs(x) - alpha, 0)
    return step**2 / 12, np.mean(beyond**2)


@mistake("03-noise")
def all_codes(x, alpha, bits):
    """the overload is right. Your granular part counts 2**b steps from -alpha to alpha; this grid
    has 2**b - 2, which is half as many at 2 bits.
    """
    return alpha**2 / (3 * 4**bits), noise(x, alpha, bits)[1]


@mistake("03-noise")
def step_not_squared(x, alpha, bits):
    """the overload is right; granular noise is the step squared over 12."""
    return alpha / (2 ** (bits - 1) - 1) / 12, noise(x, alpha, bits)[1]


@mistake("03-noise")
def overshoot_not_squared(x, alpha, bits):
    """the granular part is right; noise is a mean square, so square what lies beyond the clip."""
    return noise(x, alpha, bits)[0], np.mean(np.maximum(np.abs(x) - alpha, 0))


@mistake("03-noise")
def clipped_only(x, alpha, bits):
    """the granular part is right. You average over the clipped values only; the noise is the mean
    over all of them.
    """
    beyond = np.abs(x)[np.abs(x) > alpha] - alpha
    return noise(x, alpha, bits)[0], np.mean(beyond**2)


@mistake("03-noise")
def rises_only(x, alpha, bits):
    """the granular part is right. You count what is clipped above and forget the falls below
    -alpha.
    """
    return noise(x, alpha, bits)[0], np.mean(np.maximum(x - alpha, 0) ** 2)


FOURS = ((RETURNS, F32(3.0)), (CRASH, F32(12.0)), (F32([-1, -0.4, 0, 0.3, 0.07, 1]), F32(1.0)))


@exercise("03-int4", *FOURS)
def int4(x, alpha):
    """Scale and codes of one grid: alpha / 7, codes -7 to 7."""
    scale = alpha / np.float32(7)
    return scale, np.clip(np.rint(x / scale), -7, 7).astype(np.int8)


@mistake("03-int4")
def int8_scale(x, alpha):
    """the codes are right, and the scale is that of INT8: every value comes back 18 times too
    small. Codes and scale belong to one grid.
    """
    return alpha / F32(127), int4(x, alpha)[1]


@mistake("03-int4")
def int8_steps(x, alpha):
    """steps of INT8 with the codes of INT4: everything beyond 7/127 of alpha is clamped. The scale
    is alpha / 7.
    """
    scale = alpha / F32(127)
    return scale, np.clip(np.rint(x / scale), -7, 7)


@mistake("03-int4")
def rounded_twice(x, alpha):
    """the scale is right; some codes are off by one, because you round to INT8 first and then
    again. Round x once.
    """
    eight = np.clip(np.rint(x / (alpha / F32(127))), -127, 127)
    return alpha / F32(7), np.clip(np.rint(eight * F32(7 / 127)), -7, 7)


@mistake("03-int4")
def top_bits(x, alpha):
    """keeping the top four bits of an INT8 code floors it, and floor costs a bit: round x / scale
    instead.
    """
    eight = np.clip(np.rint(x / (alpha / F32(127))), -127, 127)
    return F32(16) * alpha / F32(127), np.clip(np.floor(eight / 16), -7, 7)


@mistake("03-int4")
def truncated(x, alpha):
    """the scale is right. A cast cuts the fraction off: round to the nearest code."""
    return alpha / F32(7), np.clip(x / (alpha / F32(7)), -7, 7).astype(int)


@mistake("03-int4")
def down_to_minus_eight(x, alpha):
    """four bits hold a code -8, but this grid is symmetric: it ends at -7 as it ends at 7."""
    return alpha / F32(7), np.clip(np.rint(x / (alpha / F32(7))), -8, 7)


@mistake("03-int4")
def no_clamp(x, alpha):
    """the clamp is missing: codes leave -7 to 7."""
    return alpha / F32(7), np.rint(x / (alpha / F32(7)))


CLIPS = ((RETURNS, 99.9), (CRASH, 99.0), (-CRASH, 99.0), (RETURNS, 95.0))


@exercise("03-percentile", *CLIPS)
def percentile(x, p):
    """The percentile of the magnitudes: both tails count."""
    return np.percentile(np.abs(x.astype(float)), p)


@mistake("03-percentile")
def right_tail(x, p):
    """one-sided: you look at the rises only. A crash in the falls goes unseen; a symmetric grid
    wants the percentile of abs(x).
    """
    return np.percentile(x.astype(float), p)


@mistake("03-percentile")
def wider_end(x, p):
    """close: you take each tail at p and keep the wider one, so up to twice as many values are
    clipped as asked. Take the percentile of abs(x).
    """
    low, high = np.percentile(x.astype(float), [100 - p, p])
    return max(-low, high)


@mistake("03-percentile")
def share_for_percent(x, p):
    """np.percentile takes percent: 99.9, not 0.999."""
    return np.percentile(np.abs(x.astype(float)), p / 100)


@mistake("03-percentile")
def share_of_peak(x, p):
    """that is a share of the largest value. A percentile counts values, however large they are."""
    return np.abs(x.astype(float)).max() * p / 100


STREAMS = ((DAYS,), (-DAYS,), (DAYS[:2],), (np.abs(DAYS[::-1]),))


@exercise("03-observer", *STREAMS)
def observer(pieces):
    """The largest magnitude so far is kept, never averaged."""
    alpha = np.float32(0)
    for piece in pieces:
        alpha = max(alpha, np.abs(piece).max())
    return alpha


@mistake("03-observer")
def average(pieces):
    """you average the maxima. The range must reach the largest value of all days, and an average
    never does.
    """
    return np.mean([np.abs(piece).max() for piece in pieces])


@mistake("03-observer")
def moving(pieces):
    """a moving average forgets the wild day after a few calm ones. Keep the largest value
    instead.
    """
    alpha = np.abs(pieces[0]).max()
    for piece in pieces[1:]:
        alpha = F32(0.9) * alpha + F32(0.1) * np.abs(piece).max()
    return alpha


@mistake("03-observer")
def last(pieces):
    """you keep only the last piece."""
    return np.abs(pieces[-1]).max()


@mistake("03-observer")
def largest_rise(pieces):
    """you keep the largest value, not the largest magnitude: here the largest move is a fall."""
    return max(piece.max() for piece in pieces)


COUNTS = ((np.abs(DAYS), 64), (np.abs(DAYS[[1, 4]]), 16), (np.abs(DAYS[[5, 0, 2, 4]]), 256))


def _edge(piece):
    return 2.0 ** np.frexp(np.abs(piece).max())[1]  # a power of two above every value


@exercise("03-histogram", *COUNTS)
def histogram(pieces, bins):
    """If a piece does not fit, bins merge in pairs and the range doubles."""
    edge = 2.0 ** np.frexp(pieces[0].max())[1]
    counts = np.zeros(bins, int)
    for piece in pieces:
        while piece.max() >= edge:
            merged = counts.reshape(-1, 2).sum(axis=1)
            counts = np.concatenate([merged, np.zeros(bins // 2, int)])
            edge *= 2
        counts += np.histogram(piece, bins, (0, edge))[0]
    return counts, edge


@mistake("03-histogram")
def dropped(pieces, bins):
    """np.histogram drops what lies outside its range, silently: the counts do not sum to the number
    of values. Widen the range first.
    """
    edge = _edge(pieces[0])
    return sum(np.histogram(piece, bins, (0, edge))[0] for piece in pieces), edge


@mistake("03-histogram")
def into_the_last_bin(pieces, bins):
    """you put everything beyond the range into the last bin. All values are counted, but the tail
    is gone: widen the range.
    """
    edge = _edge(pieces[0])
    return sum(np.histogram(np.minimum(p, edge), bins, (0, edge))[0] for p in pieces), edge


@mistake("03-histogram")
def not_merged(pieces, bins):
    """the range grows but the old counts stay in their bins, which are now twice as wide: merge
    them in pairs.
    """
    counts, edge = np.zeros(bins, np.int64), _edge(pieces[0])
    for piece in pieces:
        edge = max(edge, _edge(piece))
        counts += np.histogram(piece, bins, (0, edge))[0]
    return counts, edge


@mistake("03-histogram")
def begins_again(pieces, bins):
    """you start from zero whenever the range grows, and lose all days before."""
    counts, edge = np.zeros(bins, np.int64), _edge(pieces[0])
    for piece in pieces:
        if piece.max() >= edge:
            counts, edge = np.zeros(bins, np.int64), _edge(piece)
        counts += np.histogram(piece, bins, (0, edge))[0]
    return counts, edge


def fat_tails(rng):
    """Student t with 3 degrees of freedom, in days of their own width: (seen, unseen)."""
    width = np.exp(rng.normal(0, 0.3, 120)).repeat(200)
    series = (0.1 * width * rng.standard_t(3, width.size)).astype(F32)
    return series[:4000], series[4000:]


def snr_of_clip(clip, unseen):
    """SNR in dB of the unseen values on the 4-bit grid that ends at ``clip``."""
    if not (np.size(clip) == 1 and np.asarray(clip).dtype.kind in "iuf" and 0 < clip < np.inf):
        raise ValueError(f"a clip is one positive number, yours is {clip!r}")
    scale = float(np.squeeze(clip)) / 7
    x = unseen.astype(float)
    noise = x - np.clip(np.rint(x / scale), -7, 7) * scale
    return 10 * np.log10(np.mean(x**2) / np.mean(noise**2))


def min_max(x):
    return np.abs(x).max()


@transfer("03-transfer", draw=fat_tails, measure=snr_of_clip, plain=min_max, target=9.5, unit="dB")
def best_of_many(x):
    """Try clips below the largest magnitude; keep the one with least noise."""
    x = x.astype(float)
    tries = np.abs(x).max() * np.linspace(0.05, 1, 60)
    steps = tries[:, None] / 7
    back = np.clip(np.rint(x / steps), -7, 7) * steps
    return tries[np.mean((x - back) ** 2, axis=1).argmin()]
