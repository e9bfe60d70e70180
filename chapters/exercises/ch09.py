"""Exercises of chapter 9, integer matmul."""

from __future__ import annotations

import math

import numpy as np

from . import exercise, mistake, transfer

RNG = np.random.default_rng(9)

WIDTHS = (
    (1, 8, 8),
    (2, 8, 8),
    (32, 8, 8),
    (66_311, 8, 8),
    (66_312, 8, 8),
    (257, 8, 8),
    (300, 4, 4),
    (9, 8, 2),
)


@exercise("09-width", *WIDTHS)
def width(k, input_bits, weight_bits):
    """K times the largest product, and one bit for the sign."""
    largest = (2**input_bits - 1) * (2 ** (weight_bits - 1) - 1)
    return (k * largest).bit_length() + 1


@mistake("09-width")
def no_sign(k, input_bits, weight_bits):
    """that is the width of the magnitude. Sums go both ways: one bit more for the sign."""
    return width(k, input_bits, weight_bits) - 1


@mistake("09-width")
def bits_added(k, input_bits, weight_bits):
    """the rule of thumb, bits of both codes plus log2 of K, is safe but often one bit too wide:
    symmetric weights leave out the lowest code, and K need not be a power of two.
    """
    return input_bits + weight_bits + math.ceil(math.log2(k))


@mistake("09-width")
def signed_inputs(k, input_bits, weight_bits):
    """with its zero point removed an input reaches 2**bits - 1, not half of that: the zero point
    may stand at an end of the codes.
    """
    largest = (2 ** (input_bits - 1) - 1) * (2 ** (weight_bits - 1) - 1)
    return (k * largest).bit_length() + 1


@mistake("09-width")
def lowest_weight(k, input_bits, weight_bits):
    """the weights are symmetric, so their largest code is 2**(bits - 1) - 1: -128 is left out."""
    return (k * (2**input_bits - 1) * 2 ** (weight_bits - 1)).bit_length() + 1


@exercise("09-multiplier", (0.75,), (0.0037,), (1 - 2.0**-33,), (2.0**-20,), (3.0,), (1 / 3,))
def multiplier(real):
    """The fraction of the float in 31 bits; it may round up to 2**31."""
    fraction, exponent = math.frexp(real)  # real = fraction * 2**exponent
    m, shift = round(fraction * 2**31), 31 - exponent
    return (m // 2, shift - 1) if m == 2**31 else (m, shift)


@mistake("09-multiplier")
def no_carry(real):
    """right except where the fraction rounds up to 1: then m is 2**31, which has 32 bits. Halve it
    and shift by one less.
    """
    fraction, exponent = math.frexp(real)
    return round(fraction * 2**31), 31 - exponent


@mistake("09-multiplier")
def cut_off(real):
    """the cast cuts the fraction off: round to the nearest integer, and m is twice as exact."""
    fraction, exponent = math.frexp(real)
    return int(fraction * 2**31), 31 - exponent


@mistake("09-multiplier")
def one_shift(real):
    """one shift for all factors: small ones lose most of their bits. Bring each into [1/2, 1)
    first.
    """
    return round(real * 2**31), 31


@mistake("09-multiplier")
def a_bit_more(real):
    """m reaches 2**32 here and does not fit into a signed 32-bit register: 31 bits, not 32."""
    fraction, exponent = math.frexp(real)
    return round(fraction * 2**32), 32 - exponent


@mistake("09-multiplier")
def wrong_way(real):
    """a larger factor needs a smaller shift: real = m * 2**-shift, so subtract the exponent."""
    m, shift = multiplier(real)
    return m, 62 - shift


@mistake("09-multiplier")
def from_float32(real):
    """the factor went through float32 and lost 7 of its 31 bits."""
    return multiplier(float(np.float32(real)))


FREE, HALF = (1_610_612_736, 39), (1 << 30, 33)  # 0.0029..., and exactly 1/8: every 8th is a tie
SUMS = RNG.integers(-60_000, 60_000, 500, dtype=np.int32)
NEAR = np.arange(-400, 400, dtype=np.int32)
REQUANTIZED = (
    (SUMS, *FREE, 11, -128, 127),
    (SUMS, *FREE, 0, 0, 255),
    (NEAR, *HALF, 3, -128, 127),
    (NEAR, *HALF, -4, -16, 15),
    (np.int32([-(2**31), -1, 0, 1, 2**31 - 1]), 2**31 - 1, 55, 7, -128, 127),
)


@exercise("09-requantize", *REQUANTIZED)
def codes_of(acc, m, shift, zero_point, qmin, qmax):
    """64 bits, half a unit, the shift, the zero point, the clamp."""
    half = 1 << (shift - 1)
    rounded = (acc.astype(np.int64) * m + half) >> shift
    return np.clip(rounded + zero_point, qmin, qmax)


def _product(acc, m, shift):
    return acc.astype(np.int64) * m, np.int64(1) << (shift - 1)


@mistake("09-requantize")
def floored(acc, m, shift, zero_point, qmin, qmax):
    """the shift alone rounds down: every code is half a step too low on average. Add half a unit
    before it.
    """
    return np.clip((_product(acc, m, shift)[0] >> shift) + zero_point, qmin, qmax)


@mistake("09-requantize")
def in_32_bits(acc, m, shift, zero_point, qmin, qmax):
    """the product wrapped: int32 times 31 bits has up to 62. Cast to int64 before you multiply."""
    product = (acc.astype(np.int64) * m).astype(np.int32).astype(np.int64)
    return np.clip(((product + (1 << (shift - 1))) >> shift) + zero_point, qmin, qmax)


@mistake("09-requantize")
def no_clamp(acc, m, shift, zero_point, qmin, qmax):
    """right inside the range. Beyond it the code must be clamped, before any cast."""
    product, half = _product(acc, m, shift)
    return ((product + half) >> shift) + zero_point


@mistake("09-requantize")
def clamp_first(acc, m, shift, zero_point, qmin, qmax):
    """you clamp before the zero point is added: the codes then leave the range by it."""
    product, half = _product(acc, m, shift)
    return np.clip((product + half) >> shift, qmin, qmax) + zero_point


@mistake("09-requantize")
def ties_to_even(acc, m, shift, zero_point, qmin, qmax):
    """right except at exact ties: np.rint sends them to the even code, adding half a unit and
    shifting sends them up.
    """
    return np.clip(np.rint(acc * (m * 2.0**-shift)) + zero_point, qmin, qmax)


@mistake("09-requantize")
def zero_point_inside(acc, m, shift, zero_point, qmin, qmax):
    """right except at exact ties: with the zero point inside the rounding, rint sends a tie to
    another side when the zero point is odd.
    """
    return np.clip(np.rint(acc * (m * 2.0**-shift) + zero_point), qmin, qmax)


@mistake("09-requantize")
def toward_zero(acc, m, shift, zero_point, qmin, qmax):
    """negative sums come out one too high: a division that truncates rounds toward zero, the shift
    rounds down.
    """
    product, half = _product(acc, m, shift)
    return np.clip(np.trunc((product + half) / 2.0**shift) + zero_point, qmin, qmax)


HIDDEN = (
    (SUMS, *FREE, 0, 255),
    (SUMS, *FREE, -128, 127),
    (SUMS, *FREE, 17, 255),
    (NEAR, *HALF, -128, 127),
)


@exercise("09-relu", *HIDDEN)
def hidden_codes(acc, m, shift, zero_point, qmax):
    """The code of zero is Z, so the ReLU is a clamp at Z."""
    rounded = (acc.astype(np.int64) * m + (1 << (shift - 1))) >> shift
    return np.clip(rounded + zero_point, zero_point, qmax)


@mistake("09-relu")
def clamp_at_zero(acc, m, shift, zero_point, qmax):
    """right while the zero point is 0, as in every test with unsigned ReLU codes. In general the
    real number 0 has the code Z: clamp there.
    """
    product, half = _product(acc, m, shift)
    return np.clip(((product + half) >> shift) + zero_point, 0, qmax)


@mistake("09-relu")
def no_relu(acc, m, shift, zero_point, qmax):
    """that is the requantization alone; negative values must become the code of zero."""
    product, half = _product(acc, m, shift)
    return np.minimum(((product + half) >> shift) + zero_point, qmax)


@mistake("09-relu")
def zero_point_twice(acc, m, shift, zero_point, qmax):
    """the clamp at the zero point comes after the zero point is added, not before."""
    product, half = _product(acc, m, shift)
    return np.minimum(np.maximum((product + half) >> shift, zero_point) + zero_point, qmax)


CHANNELS = 8


def sums_of_a_layer(rng):
    """Accumulators of 8 outputs with tails and widths of their own: (seen, unseen)."""
    spread = 10 ** rng.uniform(3.0, 4.5, CHANNELS)
    acc = np.rint(spread * rng.standard_t(4, (12_000, CHANNELS))).astype(np.int64)
    acc = np.clip(acc, -(2**31), 2**31 - 1).astype(np.int32)
    return acc[:2000], acc[2000:]


def snr_of_codes(answer, acc):
    """Mean SNR in dB of the outputs, coded in 4 bits by each output's integer and shift."""
    parts = [np.asarray(part) for part in answer] if np.size(answer) == 2 * CHANNELS else []
    if not parts or any(p.shape != (CHANNELS,) or (p != np.floor(p)).any() for p in parts):
        raise ValueError(f"an answer is (m, shift), {CHANNELS} integers each")
    m, shift = (p.astype(np.int64) for p in parts)
    if (m < 1).any() or (m > 255).any() or (shift < 1).any() or (shift > 40).any():
        raise ValueError(
            f"m runs from {m.min()} to {m.max()}, shift from {shift.min()} to {shift.max()}; "
            "this chip takes m from 1 to 255 and shift from 1 to 40"
        )
    codes = np.clip((acc * m + (np.int64(1) << (shift - 1))) >> shift, -7, 7)
    noise = acc - codes * (2.0**shift / m)
    return np.mean(10 * np.log10((acc.astype(float) ** 2).sum(axis=0) / (noise**2).sum(axis=0)))


def _integers(real):
    """The nearest m * 2**-shift with m in 128 to 255, for each factor."""
    fraction, exponent = np.frexp(real)
    m, shift = np.rint(fraction * 256).astype(int), 8 - exponent
    return np.where(m == 256, 128, m), np.where(m == 256, shift - 1, shift)


def reach_the_largest(acc):
    return _integers(7 / np.abs(acc.astype(float)).max(axis=0))


@transfer(
    "09-transfer",
    draw=sums_of_a_layer,
    measure=snr_of_codes,
    plain=reach_the_largest,
    target=12.0,
    unit="dB",
)
def least_noise(acc):
    """The best of many clips for each output, its factor in 8 bits."""
    a = np.abs(acc.astype(float))
    steps = a.max(axis=0) / 7 * np.linspace(0.05, 1, 60)[:, None]
    back = [s * np.clip(np.rint(a / s), 0, 7) for s in steps]
    noise = [((a - values) ** 2).sum(axis=0) for values in back]
    step = steps[np.argmin(noise, axis=0), np.arange(a.shape[1])]
    fraction, exponent = np.frexp(1 / step)
    return np.minimum(np.rint(256 * fraction), 255).astype(int), 8 - exponent
