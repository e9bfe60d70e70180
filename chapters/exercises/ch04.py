"""Exercises of chapter 4, symmetric and asymmetric."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

F32 = np.float32
RNG = np.random.default_rng(4)
WEIGHTS = RNG.normal(0.05, 1.0, 600).astype(F32)
RISE = np.array([-1.0, -0.4, 0.0, 0.7, 2.0], F32)  # the largest magnitude is positive

RANGES = (
    (-1.0, 1.0, 8),
    (0.0, 14.0, 8),
    (-0.5, 3.0, 4),
    (-7.0, 1.0, 3),
    (2.0, 5.0, 8),
    (-6.0, -1.5, 2),
)


@exercise("04-gain", *RANGES, atol=1e-3)
def gain(low, high, bits):
    """The ratio of the two steps, in decibels."""
    symmetric_step = max(abs(low), abs(high)) / (2 ** (bits - 1) - 1)
    asymmetric_step = (max(high, 0.0) - min(low, 0.0)) / (2**bits - 1)
    return 20 * np.log10(symmetric_step / asymmetric_step)


@mistake("04-gain")
def power_not_amplitude(low, high, bits):
    """that is half of it: the noise goes with the square of the step, so a ratio of steps takes 20
    log10.
    """
    return gain(low, high, bits) / 2


@mistake("04-gain")
def without_zero(low, high, bits):
    """right for ranges that contain 0. The asymmetric range is extended to 0 before the step is
    computed: try [2, 5].
    """
    symmetric_step = max(abs(low), abs(high)) / (2 ** (bits - 1) - 1)
    return 20 * np.log10(symmetric_step * (2**bits - 1) / (high - low))


@mistake("04-gain")
def both_full(low, high, bits):
    """you compare the ranges only. The symmetric grid has one code less, which shows most at 2
    bits: count the steps of both grids.
    """
    return 20 * np.log10(2 * max(abs(low), abs(high)) / (max(high, 0.0) - min(low, 0.0)))


@mistake("04-gain")
def loss(low, high, bits):
    """the size is right and the sign is not: a gain is positive when the asymmetric step is the
    shorter one.
    """
    return -gain(low, high, bits)


CODE_CASES = ((-RISE, 8), (RISE, 8), (WEIGHTS, 8), (WEIGHTS, 4), (WEIGHTS, 2))


@exercise("04-symmetric", *CODE_CASES)
def symmetric(x, bits):
    """The narrow range: as many codes below zero as above."""
    qmax = 2 ** (bits - 1) - 1
    scale = np.abs(x).max() / np.float32(qmax)
    return scale, np.clip(np.rint(x / scale), -qmax, qmax).astype(int)


def _rounded(x, scale, bits):
    return scale, np.clip(np.rint(x / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@mistake("04-symmetric")
def alpha_over_128(x, bits):
    """with alpha / 128 the value +alpha wants code 128, is clamped to 127 and is wrong by a whole
    step. Nothing goes wrong when -alpha is the end.
    """
    return _rounded(x, np.abs(x).max() / F32(2 ** (bits - 1)), bits)


@mistake("04-symmetric")
def full_range(x, bits):
    """that is the full range, alpha / 127.5 with codes down to -128. It is a convention in use, but
    the exercise asks for the narrow one.
    """
    return _rounded(x, np.abs(x).max() / F32((2**bits - 1) / 2), bits)


@mistake("04-symmetric")
def largest_value(x, bits):
    """you take the largest value instead of the largest magnitude: a fall larger than every rise is
    clamped.
    """
    qmax = 2 ** (bits - 1) - 1
    scale = x.max() / F32(qmax)
    return scale, np.clip(np.rint(x / scale), -qmax, qmax)


@mistake("04-symmetric")
def half_the_codes(x, bits):
    """the step is too short by half: 2**b - 1 steps cover both sides, alpha covers one. Values
    beyond alpha / 2 are clamped.
    """
    qmax = 2 ** (bits - 1) - 1
    scale = np.abs(x).max() / F32(2**bits - 1)
    return scale, np.clip(np.rint(x / scale), -qmax, qmax)


@mistake("04-symmetric")
def truncated(x, bits):
    """the scale is right; a cast cuts the fraction off. Round to the nearest code."""
    scale = symmetric(x, bits)[0]
    return scale, (x / scale).astype(int)


W = RNG.integers(-128, 128, (40, 6)).astype(np.int8)
FOLDS = ((W, -128, 0), (W, 11, 0), (W, -128, 7), (W[:3], 100, -90), (W, 0, 7))


@exercise("04-fold", *FOLDS)
def fold(w, x_zero, w_zero):
    """Minus the column term, plus the constant K Zx Zw."""
    columns = w.sum(axis=0, dtype=np.int32)
    return -x_zero * columns + len(w) * x_zero * w_zero


@mistake("04-fold")
def no_constant(w, x_zero, w_zero):
    """right whenever the weights are symmetric. Otherwise every output is off by the constant K Zx
    Zw: the fourth term is missing.
    """
    return -x_zero * w.sum(axis=0, dtype=np.int32)


@mistake("04-fold")
def constant_subtracted(w, x_zero, w_zero):
    """minus times minus: the constant K Zx Zw is added."""
    return -x_zero * w.sum(axis=0, dtype=np.int32) - len(w) * x_zero * w_zero


@mistake("04-fold")
def outputs_for_inputs(w, x_zero, w_zero):
    """the constant counts the K inputs that are summed, not the N outputs: which axis of w is K?"""
    return -x_zero * w.sum(axis=0, dtype=np.int32) + w.shape[1] * x_zero * w_zero


@mistake("04-fold")
def column_added(w, x_zero, w_zero):
    """the column term is subtracted: look at its sign in the expansion."""
    return x_zero * w.sum(axis=0, dtype=np.int32) + len(w) * x_zero * w_zero


@mistake("04-fold")
def wrapped(w, x_zero, w_zero):
    """the column sums wrap around: 40 codes of int8 do not sum within int8. Sum in int32."""
    return -x_zero * w.sum(axis=0, dtype=np.int8).astype(np.int32) + len(w) * x_zero * w_zero


LAYERS, ALLOWED = 6, 2


def six_layers(rng: np.random.Generator):
    """Weights from centered to lopsided, some with an outlier; inputs out of a ReLU."""
    w = rng.normal(0, 1, (LAYERS, 64, 64)).clip(-3, 3)
    w = np.where(w < 0, w * rng.uniform(0, 1, (LAYERS, 1, 1)), w)
    w[rng.choice(LAYERS, 2, replace=False), 0, 0] = -3.0  # lopsided, but for one weight
    w *= rng.choice([-1, 1], (LAYERS, 1, 1))
    x = np.maximum(rng.normal(0, 1, (LAYERS, 600, 64)), 0).astype(F32)
    w = w.astype(F32)
    return (w, x[:, :300]), (w, x[:, 300:])


def _four_bits(w, zero_point: bool):
    """The weights on one min-max grid of 4 bits, symmetric or with a zero point."""
    if not zero_point:
        step = np.abs(w).max() / 7
        return np.rint(w / step) * step
    low, high = min(w.min(), 0.0), max(w.max(), 0.0)
    step = (high - low) / 15
    z = np.rint(-low / step)
    return step * (np.clip(np.rint(w / step) + z, 0, 15) - z)


def snr_of_layers(answer, unseen):
    """Mean over the layers of the SNR of their outputs."""
    chosen = np.asarray(answer)
    if chosen.shape != (LAYERS,) or not np.isin(chosen, (0, 1)).all():
        raise ValueError(f"the answer is {answer!r}: expected six True or False")
    if chosen.sum() > ALLOWED:
        raise ValueError(f"{chosen.sum()} layers have a zero point: two may")
    points = []
    for w, x, yes in zip(*unseen, chosen, strict=True):
        exact = x @ w.T
        error = x @ _four_bits(w, yes).T - exact
        points.append(10 * np.log10(np.sum(exact**2) / np.sum(error**2)))
    return float(np.mean(points))


def none_at_all(weights, inputs):
    """Symmetric everywhere, the rule of the textbook."""
    return [False] * LAYERS


@transfer(
    "04-transfer", draw=six_layers, measure=snr_of_layers, plain=none_at_all, target=21.4, unit="dB"
)
def most_lopsided(weights, inputs):
    """By (4.2) a smaller ratio of the sides gains more."""
    below, above = -weights.min(axis=(1, 2)), weights.max(axis=(1, 2))
    ratio = np.minimum(below, above) / np.maximum(below, above)
    chosen = np.zeros(6, bool)
    chosen[np.argsort(ratio)[:2]] = True
    return chosen
