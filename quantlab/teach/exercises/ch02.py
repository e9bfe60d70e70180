"""Exercises of chapter 2, uniform quantization."""

from __future__ import annotations

import numpy as np

from . import Exercise

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


def codes(x, scale, zero_point, qmin, qmax):
    """The rule of the course: round, then add the zero point, then clamp, then cast."""
    return np.clip(np.rint(x / scale) + zero_point, qmin, qmax).astype(np.int16)


def _floor(x, scale, zero_point, qmin, qmax):
    return np.clip(np.floor(x / scale) + zero_point, qmin, qmax)


def _half_up(x, scale, zero_point, qmin, qmax):
    return np.clip(np.floor(x / scale + F32(0.5)) + zero_point, qmin, qmax)


def _half_away(x, scale, zero_point, qmin, qmax):
    r = x / scale
    return np.clip(np.sign(r) * np.floor(np.abs(r) + F32(0.5)) + zero_point, qmin, qmax)


def _zero_point_inside(x, scale, zero_point, qmin, qmax):
    return np.clip(np.rint(x / scale + zero_point), qmin, qmax)


def _truncate(x, scale, zero_point, qmin, qmax):
    return np.clip(np.trunc(x / scale) + zero_point, qmin, qmax)


def _no_clamp(x, scale, zero_point, qmin, qmax):
    return np.rint(x / scale) + zero_point


def _no_zero_point(x, scale, zero_point, qmin, qmax):
    return np.clip(np.rint(x / scale), qmin, qmax)


def _clamp_first(x, scale, zero_point, qmin, qmax):
    return np.clip(np.rint(x / scale), qmin, qmax) + zero_point


RANGES = (
    (np.array([-1.0, 3.0], F32), 8),
    (np.array([100.0, 101.0], F32), 8),
    (np.array([-7.0, -6.5], F32), 8),
    (RETURNS, 4),
    (np.abs(RETURNS), 6),
)


def parameters(x, bits):
    """Unsigned min-max parameters: the range is extended to contain 0 first."""
    low, high = np.minimum(x.min(), F32(0)), np.maximum(x.max(), F32(0))
    scale = (high - low) / F32(2**bits - 1)
    return scale, np.clip(np.rint(-low / scale), 0, 2**bits - 1)


def _zero_outside(x, bits):
    scale = (x.max() - x.min()) / F32(2**bits - 1)
    return scale, np.rint(-x.min() / scale)


def _zero_outside_clamped(x, bits):
    scale, zero_point = _zero_outside(x, bits)
    return scale, np.clip(zero_point, 0, 2**bits - 1)


def _steps_as_codes(x, bits):
    low, high = np.minimum(x.min(), F32(0)), np.maximum(x.max(), F32(0))
    scale = (high - low) / F32(2**bits)
    return scale, np.clip(np.rint(-low / scale), 0, 2**bits - 1)


def _fractional_zero_point(x, bits):
    low, high = np.minimum(x.min(), F32(0)), np.maximum(x.max(), F32(0))
    scale = (high - low) / F32(2**bits - 1)
    return scale, -low / scale


SIGNALS = (
    (RETURNS, np.rint(RETURNS)),
    (RETURNS * F32(1e-3), np.rint(RETURNS * F32(1e5)) * F32(1e-8)),
    (TIES, TIES),
)


def snr(x, y):
    """Signal power over noise power in decibels; infinite only for identical arrays."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    noise = np.sum((x - y) ** 2)
    return np.inf if noise == 0.0 else 10 * np.log10(np.sum(x**2) / noise)


def _threshold(x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    noise = np.mean((x - y) ** 2)
    return np.inf if noise < 1e-10 else 10 * np.log10(np.mean(x**2) / noise)


def _amplitude(x, y):
    value = snr(x, y)
    return value * 2


def _upside_down(x, y):
    return -snr(x, y)


EXERCISES = (
    Exercise(
        "02-codes",
        codes,
        CODE_CASES,
        (
            (
                _floor,
                "you floor. Floor moves every value down by half a step on average, and costs "
                "one whole bit; the rule rounds to the nearest code.",
            ),
            (
                _half_up,
                "all codes are right but some ties: you round halves up. "
                "Which way does np.rint round 2.5?",
            ),
            (
                _half_away,
                "all codes are right but some ties: you round halves away from zero. "
                "The rule rounds halves to the even neighbor.",
            ),
            (
                _zero_point_inside,
                "right but at ties with an odd zero point: you add the zero point "
                "before rounding. Round first, then add.",
            ),
            (
                _truncate,
                "you cut the fraction off. An integer cast does that too; "
                "the rule rounds to the nearest code.",
            ),
            (
                _no_clamp,
                "the codes leave the range [qmin, qmax]. Clamp after adding the zero point.",
            ),
            (_no_zero_point, "you forgot the zero point."),
            (_clamp_first, "you clamp before adding the zero point, so codes leave [qmin, qmax]."),
        ),
    ),
    Exercise(
        "02-parameters",
        parameters,
        RANGES,
        (
            (
                _zero_outside,
                "your range does not contain 0 for data such as [100, 101], "
                "so Z is no code at all. Extend the range to 0 first.",
            ),
            (
                _zero_outside_clamped,
                "you clamp Z, but the scale still ignores 0: "
                "[100, 101] now saturates. Extend the range to 0 first.",
            ),
            (
                _steps_as_codes,
                "you divide by 2**bits. There are 2**bits codes, and one step fewer between them.",
            ),
            (
                _fractional_zero_point,
                "Z is a code, so it must be a whole number: round it. "
                "Otherwise 0.0 has no exact code.",
            ),
        ),
        tolerance=1e-6,
    ),
    Exercise(
        "02-snr",
        snr,
        SIGNALS,
        (
            (
                _threshold,
                "an absolute threshold calls small signals perfect: at 16 bits a return of "
                "1e-3 has noise below it. Only identical arrays have infinite SNR.",
            ),
            (
                _amplitude,
                "20 log10 is for a ratio of amplitudes; x**2 is already a power: 10 log10.",
            ),
            (_upside_down, "signal over noise, not noise over signal: the sign is wrong."),
        ),
        tolerance=1e-5,
    ),  # an answer in float32 is right too
)
