"""Exercises of chapter 6, when an error is too big."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

RNG = np.random.default_rng(6)
FLIP_CASES = ((0.01,), (0.0001,), (0.25,), (0.0317,))


@exercise("06-snr-for", *FLIP_CASES, atol=1e-3)
def snr_for(p):
    """The arctan law turned around."""
    return -20 * np.log10(np.tan(np.pi * p))


@mistake("06-snr-for")
def power(p):
    """half of the right answer: the tangent is a ratio of amplitudes, so 20 log10."""
    return -10 * np.log10(np.tan(np.pi * p))


@mistake("06-snr-for")
def percent(p):
    """p comes as a share of 1, not in percent: 0.01 is one decision in a hundred."""
    return -20 * np.log10(np.tan(np.pi * p / 100))


@mistake("06-snr-for")
def one_wedge(p):
    """there are two wedges of angle theta on the full circle of 2 pi, so p = theta / pi."""
    return -20 * np.log10(np.tan(2 * np.pi * p))


@mistake("06-snr-for")
def small_angle(p):
    """right for rare flips only: you took the angle for its tangent. At p = 0.25 the noise is as
    strong as the signal, 0 dB.
    """
    return -20 * np.log10(np.pi * p)


@mistake("06-snr-for")
def sign(p):
    """the size is right, the sign is not: rarer flips need a higher SNR."""
    return -snr_for(p)


CALM, WILD = RNG.standard_normal((2, 400))
ROWS = np.stack([0.01 * CALM, WILD])
SNR_CASES = (
    (ROWS, np.rint(ROWS / 0.02) * 0.02),
    (ROWS, np.floor(ROWS / 0.01) * 0.01),
    (ROWS, np.stack([1.001 * ROWS[0], np.rint(ROWS[1])])),
    (ROWS * 1e-3, np.rint(ROWS * 1e5) * 1e-8),
    (3 + ROWS, 3 + np.rint(ROWS / 0.02) * 0.02 + 0.01),
)


@exercise("06-snr", *SNR_CASES, atol=1e-3)
def snr(x, y):
    """One ratio of sums: all signal power over all noise power, in dB."""
    return 10 * np.log10(np.sum(x**2) / np.sum((y - x) ** 2))


@mistake("06-snr")
def mean_of_ratios(x, y):
    """a mean of ratios: the row with the best ratio decides. The SNR of the array is one ratio of
    two sums.
    """
    ratios = np.sum(x**2, axis=1) / np.sum((y - x) ** 2, axis=1)
    return 10 * np.log10(np.mean(ratios))


@mistake("06-snr")
def mean_of_decibels(x, y):
    """a mean of decibels weighs a calm row like a wild one. Sum the powers first, then take one
    logarithm.
    """
    ratios = np.sum(x**2, axis=1) / np.sum((y - x) ** 2, axis=1)
    return np.mean(10 * np.log10(ratios))


@mistake("06-snr")
def noise_variance(x, y):
    """the variance of the error leaves out its mean: floor would look as good as rounding. Noise
    power is the mean of the square.
    """
    return 10 * np.log10(np.mean(x**2) / np.var(y - x))


@mistake("06-snr")
def both_variances(x, y):
    """you subtract both means: the bias of the error has vanished. Use the mean of the squares."""
    return 10 * np.log10(np.var(x) / np.var(y - x))


@mistake("06-snr")
def per_row(x, y):
    """that is one SNR for each row. The exercise wants one number."""
    return 10 * np.log10(np.sum(x**2, axis=1) / np.sum((y - x) ** 2, axis=1))


@mistake("06-snr")
def amplitudes(x, y):
    """x**2 is a power already: 10 log10."""
    return 2 * snr(x, y)


LOGITS = RNG.normal(0.0, 1.5, 3000)
NOISY = LOGITS + RNG.normal(0.0, 0.05, LOGITS.size)
DECISIONS = ((LOGITS, NOISY, 0.5), (LOGITS, NOISY, 0.8), (LOGITS, LOGITS + 0.01, 0.3))


def _share(a, b):
    return 100.0 * np.mean(a != b)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


@exercise("06-flips", *DECISIONS)
def flips(a, b, p):
    """Compare the logits with the logit of p."""
    threshold = np.log(p / (1 - p))
    return 100 * np.mean((a > threshold) != (b > threshold))


@mistake("06-flips")
def rounded_probabilities(a, b, p):
    """you decide on rounded probabilities: all that fall on the threshold become a no. Decide on
    the logits, at log(p / (1 - p)).
    """
    return _share(np.round(_sigmoid(a), 2) > p, np.round(_sigmoid(b), 2) > p)


@mistake("06-flips")
def probabilities_differ(a, b, p):
    """you count probabilities that moved. Count decisions that changed sides of the threshold."""
    return _share(np.round(_sigmoid(a), 2), np.round(_sigmoid(b), 2))


@mistake("06-flips")
def logit_above_p(a, b, p):
    """p is a probability, the logits are not: a probability of p lies at the logit log(p / (1 -
    p)).
    """
    return _share(a > p, b > p)


@mistake("06-flips")
def always_half(a, b, p):
    """right for p = 0.5 only: the threshold moves with p."""
    return _share(a > 0, b > 0)


@mistake("06-flips")
def difference_of_counts(a, b, p):
    """flips in opposite directions cancel in your count. Compare row by row."""
    t = np.log(p / (1 - p))
    return 100.0 * abs(np.mean(a > t) - np.mean(b > t))


@mistake("06-flips")
def share(a, b, p):
    """this is the share; percent is wanted."""
    return flips(a, b, p) / 100


X = RNG.standard_normal(2000)
U = RNG.uniform(-0.5, 0.5, X.size)
DITHERS = ((X, 0.25, U), (np.full(200, 0.3), 1.0, U[:200]), (X, 2.0, U))


@exercise("06-dither", *DITHERS)
def dither(x, step, u):
    """Add u steps, round, and take the same u steps away again."""
    return step * (np.rint(x / step + u) - u)


@mistake("06-dither")
def not_subtracted(x, step, u):
    """the dither is still in the values: that is stochastic rounding, with twice the noise on
    average. Take the same u away after rounding.
    """
    return step * np.rint(x / step + u)


@mistake("06-dither")
def subtracted_in_units_of_x(x, step, u):
    """right when the step is 1. The dither was u steps: take away step * u."""
    return step * np.rint(x / step + u) - u


@mistake("06-dither")
def added_twice(x, step, u):
    """the sign: what was added before rounding is subtracted after it."""
    return step * (np.rint(x / step + u) + u)


@mistake("06-dither")
def no_dither(x, step, u):
    """that is plain rounding; u is not used."""
    return step * np.rint(x / step)


def close_calls(rng):
    """Float and quantized logits of 1,000 rows and a threshold; the 30,000 rows after them.

    Few logits lie near the threshold, and errors are smaller there, as in a real model.
    """
    n = 31_000
    z = rng.choice([-1, 1], n) * rng.uniform(0.5, 1.2)
    z += rng.uniform(0.7, 1.2) * rng.standard_normal(n)
    t = float(rng.uniform(-0.6, 0.6))
    scatter = rng.uniform(0.03, 0.06) * (1 + np.abs(z - t))
    z_hat = z + scatter * rng.standard_normal(n)
    return (z[:1000], z_hat[:1000], t), (z[1000:], z_hat[1000:], t)


def closeness(percent, unseen):
    """How close a forecast of the flips comes, in percent: 100 is the number itself."""
    if not (np.size(percent) == 1 and np.isfinite(np.asarray(percent, float)).all()):
        raise ValueError(f"a share of flips is one finite number, yours is {percent!r}")
    z, z_hat, t = unseen
    flips = 100 * np.mean((z > t) != (z_hat > t))
    return max(0.0, 100 - 100 * abs(float(np.squeeze(percent)) - flips) / flips)


def counted(z, z_hat, t):
    """The flips among the rows that were seen."""
    return 100 * np.mean((z > t) != (z_hat > t))


@transfer(
    "06-transfer", draw=close_calls, measure=closeness, plain=counted, target=85, unit="% close"
)
def strip_law(z, z_hat, t):
    """The density at t times the mean error there, from 100 rows."""
    away = np.abs(z - t)
    near = np.argsort(away)[:100]
    density = len(near) / len(z) / (2 * away[near].max())
    return 100 * density * np.abs(z_hat - z)[near].mean()
