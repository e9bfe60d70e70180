"""Exercises of chapter 2, uniform quantization."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

F32 = np.float32
TIES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5], dtype=F32)
WIDE = np.array([-1e9, -40.0, -0.26, 0.0, 0.26, 40.0, 1e9], dtype=F32)
RETURNS = np.random.default_rng(2).standard_t(4, 1000).astype(F32)
CODE_CASES = (
    (TIES, F32(1.0), 0, -128, 127),
    (TIES, F32(1.0), 3, -128, 127),
    (WIDE, F32(0.25), 10, 0, 255),
    (RETURNS, F32(0.05), -7, -128, 127),
)


@exercise("02-codes", *CODE_CASES)
def codes(x, scale, zero_point, qmin, qmax):
    """Round, add the zero point, clamp, cast: in this order."""
    shifted = np.rint(x / scale) + zero_point
    return np.clip(shifted, qmin, qmax).astype(np.int16)


@mistake("02-codes")
def _floor(x, scale, zero_point, qmin, qmax):
    """you floor. Floor moves every value down by half a step on average, and costs one whole bit;
    the rule rounds to the nearest code.
    """
    return np.clip(np.floor(x / scale) + zero_point, qmin, qmax)


@mistake("02-codes")
def half_up(x, scale, zero_point, qmin, qmax):
    """all codes are right but some ties: you round halves up. Which way does np.rint round 2.5?"""
    return np.clip(np.floor(x / scale + F32(0.5)) + zero_point, qmin, qmax)


@mistake("02-codes")
def half_away(x, scale, zero_point, qmin, qmax):
    """all codes are right but some ties: you round halves away from zero. The rule rounds halves to
    the even neighbor.
    """
    r = x / scale
    return np.clip(np.sign(r) * np.floor(np.abs(r) + F32(0.5)) + zero_point, qmin, qmax)


@mistake("02-codes")
def zero_point_inside(x, scale, zero_point, qmin, qmax):
    """right but at ties with an odd zero point: you add the zero point before rounding. Round
    first, then add.
    """
    return np.clip(np.rint(x / scale + zero_point), qmin, qmax)


@mistake("02-codes")
def truncate(x, scale, zero_point, qmin, qmax):
    """you cut the fraction off. An integer cast does that too; the rule rounds to the nearest
    code.
    """
    return np.clip(np.trunc(x / scale) + zero_point, qmin, qmax)


@mistake("02-codes")
def no_clamp(x, scale, zero_point, qmin, qmax):
    """the codes leave the range [qmin, qmax]. Clamp after adding the zero point."""
    return np.rint(x / scale) + zero_point


@mistake("02-codes")
def no_zero_point(x, scale, zero_point, qmin, qmax):
    """you forgot the zero point."""
    return np.clip(np.rint(x / scale), qmin, qmax)


@mistake("02-codes")
def clamp_first(x, scale, zero_point, qmin, qmax):
    """you clamp before adding the zero point, so codes leave [qmin, qmax]."""
    return np.clip(np.rint(x / scale), qmin, qmax) + zero_point


@mistake("02-codes")
def wrapped(x, scale, zero_point, qmin, qmax):
    """you cast to int8 without a clamp, so codes beyond -128 to 127 wrap around. Clamp first."""
    return (np.rint(x / scale) + zero_point).astype(np.int8)


@mistake("02-codes")
def wrapped_unsigned(x, scale, zero_point, qmin, qmax):
    """you cast to uint8 without a clamp, so codes beyond 0 to 255 wrap around. Clamp first."""
    return (np.rint(x / scale) + zero_point).astype(np.uint8)


@mistake("02-codes")
def cast_without_clamp(x, scale, zero_point, qmin, qmax):
    """you cast without a clamp: codes leave [qmin, qmax], and the largest wrap around."""
    return (np.rint(x / scale) + zero_point).astype(np.int16)


@mistake("02-codes")
def wide_cast_without_clamp(x, scale, zero_point, qmin, qmax):
    """you cast and do not clamp: codes leave [qmin, qmax], and 4e9 does not even fit into int32."""
    return (np.rint(x / scale) + zero_point).astype(np.int32)


@mistake("02-codes")
def clamped_after_int8(x, scale, zero_point, qmin, qmax):
    """you clamp after the cast to int8, when codes beyond -128 to 127 have wrapped around."""
    return np.clip(wrapped(x, scale, zero_point, qmin, qmax).astype(int), qmin, qmax)


@mistake("02-codes")
def clamped_after_cast(x, scale, zero_point, qmin, qmax):
    """you clamp after the cast, when values beyond the range of the type are lost already."""
    return np.clip(cast_without_clamp(x, scale, zero_point, qmin, qmax), qmin, qmax)


@mistake("02-codes")
def too_narrow(x, scale, zero_point, qmin, qmax):
    """clamped well, then cast to int8, which ends at 127: unsigned codes reach 255."""
    return codes(x, scale, zero_point, qmin, qmax).astype(np.int8)


@mistake("02-codes")
def cast_to_unsigned(x, scale, zero_point, qmin, qmax):
    """clamped well, then cast to an unsigned type: negative codes wrap around to large ones."""
    return codes(x, scale, zero_point, qmin, qmax).astype(np.uint8)


RANGES = (
    (np.array([-1.0, 3.0], F32), 8),
    (np.array([100.0, 101.0], F32), 8),
    (np.array([-7.0, -6.5], F32), 8),
    (RETURNS, 4),
    (np.abs(RETURNS), 6),
)


@exercise("02-parameters", *RANGES)
def parameters(x, bits):
    """The range is extended to contain 0, then cut into 2**bits - 1 steps."""
    low = np.minimum(x.min(), np.float32(0))
    high = np.maximum(x.max(), np.float32(0))
    scale = (high - low) / np.float32(2**bits - 1)
    zero_point = np.clip(np.rint(-low / scale), 0, 2**bits - 1)
    return scale, int(zero_point)


@mistake("02-parameters")
def zero_outside(x, bits):
    """your range does not contain 0 for data such as [100, 101], so Z is no code at all. Extend the
    range to 0 first.
    """
    scale = (x.max() - x.min()) / F32(2**bits - 1)
    return scale, np.rint(-x.min() / scale)


@mistake("02-parameters")
def zero_outside_clamped(x, bits):
    """you clamp Z, but the scale still ignores 0: [100, 101] now saturates. Extend the range to 0
    first.
    """
    scale, zero_point = zero_outside(x, bits)
    return scale, np.clip(zero_point, 0, 2**bits - 1)


@mistake("02-parameters")
def steps_as_codes(x, bits):
    """you divide by 2**bits. There are 2**bits codes, and one step fewer between them."""
    low, high = np.minimum(x.min(), F32(0)), np.maximum(x.max(), F32(0))
    scale = (high - low) / F32(2**bits)
    return scale, np.clip(np.rint(-low / scale), 0, 2**bits - 1)


@mistake("02-parameters")
def fractional_zero_point(x, bits):
    """Z is a code, so it must be a whole number: round it. Otherwise 0.0 has no exact code."""
    low, high = np.minimum(x.min(), F32(0)), np.maximum(x.max(), F32(0))
    scale = (high - low) / F32(2**bits - 1)
    return scale, -low / scale


SIGNALS = (
    (RETURNS, np.rint(RETURNS)),
    (RETURNS * F32(1e-3), np.rint(RETURNS * F32(1e5)) * F32(1e-8)),
    (RETURNS * F32(1e-12), np.rint(RETURNS * F32(1e5)) * F32(1e-17)),
    (TIES, TIES),
)


@exercise("02-snr", *SIGNALS, atol=1e-3)
def snr(x, y):
    """Signal power over noise power; infinite only for identical arrays."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    noise = np.sum((x - y) ** 2)
    return np.inf if noise == 0.0 else 10 * np.log10(np.sum(x**2) / noise)


@mistake("02-snr")
def threshold(x, y, least=1e-10):
    """an absolute threshold calls small signals perfect: at 16 bits a return of 1e-3 has noise
    below it. Only identical arrays have infinite SNR.
    """
    noise = np.mean((x.astype(float) - y) ** 2)
    return np.inf if noise < least else snr(x, y)


@mistake("02-snr")
def smaller_threshold(x, y):
    """a smaller threshold is a threshold still: with x in other units its noise lies below it too.
    Only identical arrays have infinite SNR.
    """
    return threshold(x, y, 1e-25)


@mistake("02-snr")
def natural_logarithm(x, y):
    """np.log is the natural logarithm; decibels want np.log10."""
    return snr(x, y) * np.log(10)


@mistake("02-snr")
def amplitude(x, y):
    """20 log10 is for a ratio of amplitudes; x**2 is already a power: 10 log10."""
    return 2 * snr(x, y)


@mistake("02-snr")
def upside_down(x, y):
    """signal over noise, not noise over signal: the sign is wrong."""
    return -snr(x, y)


def volumes(rng):
    """Volumes: never negative, a third of them zero: (the first 400, the next 2,000)."""
    series = rng.gamma(2.0, rng.uniform(1, 50), 2400) * (rng.random(2400) > 0.3)
    return series[:400].astype(F32), series[400:].astype(F32)


def snr_on_grid(answer, unseen):
    """SNR in dB of the unseen values on codes 0 to 63 with this scale and zero point."""
    if not (np.size(answer) == 2 and np.isfinite(np.asarray(answer, float)).all()):
        raise ValueError(f"expected (scale, zero point), yours is {answer!r}")
    scale, zero_point = (float(v) for v in answer)
    if scale <= 0 or not 0 <= zero_point <= 63 or zero_point % 1:
        raise ValueError(
            f"expected a scale above 0 and a whole zero point from 0 to 63, so that zero is exact; "
            f"yours are {scale:g} and {zero_point:g}"
        )
    x = unseen.astype(float)
    codes = np.clip(np.rint(x / scale) + zero_point, 0, 63)
    noise = x - scale * (codes - zero_point)
    return 10 * np.log10(np.sum(x**2) / np.sum(noise**2))


def symmetric_grid(x):
    """The middle code stands for zero."""
    return np.abs(x).max() / 31, 32


@transfer(
    "02-transfer", draw=volumes, measure=snr_on_grid, plain=symmetric_grid, target=29.5, unit="dB"
)
def all_codes_above_zero(x):
    """Volumes are never negative: code 0 is zero, with room above."""
    return 1.05 * x.max() / 63, 0
