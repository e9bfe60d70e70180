"""Exercises of chapter 12, precision levels."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

_RNG = np.random.default_rng(12)
_WIDE = (_RNG.standard_normal(300) * 10.0 ** _RNG.integers(-4, 5, 300)).clip(-6e4, 6e4)
NUMBERS = (
    (np.array([0.1, 1.0, 3.14159, -1000.3, 40000.7]),),
    (_WIDE,),
    (np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 2049.0, 2051.0]),),
)


@exercise("12-fp16", *NUMBERS)
def to_fp16(x):
    """The step is 2 ** (exponent - 10): it doubles at each power of two."""
    step = 2.0 ** (np.floor(np.log2(np.abs(x))) - 10)
    return np.rint(x / step) * step


@mistake("12-fp16")
def one_step(x):
    """you use one step for all: that is a fixed-point grid. Each number has its own exponent."""
    step = 2.0 ** (np.floor(np.log2(np.abs(x).max())) - 10)
    return np.rint(x / step) * step


@mistake("12-fp16")
def truncated(x):
    """you cut where the rule rounds: that doubles the largest error."""
    step = 2.0 ** (np.floor(np.log2(np.abs(x))) - 10)
    return np.trunc(x / step) * step


@mistake("12-fp16")
def eleven_stored(x):
    """one bit too many: 11 significant bits are the leading 1 and 10 more."""
    step = 2.0 ** (np.floor(np.log2(np.abs(x))) - 11)
    return np.rint(x / step) * step


@mistake("12-fp16")
def bfloat(x):
    """these are bfloat16's 8 significant bits; FP16 has 11."""
    step = 2.0 ** (np.floor(np.log2(np.abs(x))) - 7)
    return np.rint(x / step) * step


LAYERS = ((1024, 1, 32, 100.0, 20.0), (1024, 256, 8, 400.0, 20.0), (64, 16, 4, 200.0, 8.0))


@exercise("12-bound", *LAYERS)
def least_microseconds(n, m, bits, peak, bandwidth):
    """Bus and arithmetic work at the same time: the longer one binds."""
    bus = (n * n * bits / 8 + 8 * m * n) / (bandwidth * 1e9)
    arithmetic = 2 * n * n * m / (peak * 1e9)
    return 1e6 * max(bus, arithmetic)


@mistake("12-bound")
def added(n, m, bits, peak, bandwidth):
    """you add the two. A processor loads the next weights while it multiplies: take the longer."""
    bus = (n * n * bits / 8 + 8 * m * n) / (bandwidth * 1e9)
    return 1e6 * (bus + 2 * n * n * m / (peak * 1e9))


@mistake("12-bound")
def half_the_work(n, m, bits, peak, bandwidth):
    """a multiplication and an addition are two operations."""
    bus = (n * n * bits / 8 + 8 * m * n) / (bandwidth * 1e9)
    return 1e6 * max(bus, n * n * m / (peak * 1e9))


@mistake("12-bound")
def weights_only(n, m, bits, peak, bandwidth):
    """the rows travel too: n inputs and n outputs of four bytes for each row."""
    bus = n * n * bits / 8 / (bandwidth * 1e9)
    return 1e6 * max(bus, 2 * n * n * m / (peak * 1e9))


@mistake("12-bound")
def bits_for_bytes(n, m, bits, peak, bandwidth):
    """the bandwidth is in bytes, the weights are counted in bits: divide by 8."""
    bus = (n * n * bits + 8 * m * n) / (bandwidth * 1e9)
    return 1e6 * max(bus, 2 * n * n * m / (peak * 1e9))


def _calls(seed: int) -> np.ndarray:
    """Seconds of single calls, (rounds, calls): steady, with a rare stall."""
    rng = np.random.default_rng(seed)
    return 1e-6 * (1 + 0.05 * rng.random((40, 500)) + 90 * (rng.random((40, 500)) < 0.004))


@exercise("12-tail", (_calls(1),), (_calls(2),), (_calls(3)[:, :100],))
def tail(seconds):
    """The percentile of the single calls, all rounds together."""
    return np.percentile(seconds, 99.9)


@mistake("12-tail")
def of_means(seconds):
    """a mean of 500 calls hides the stall of one. Take the percentile of the single calls."""
    return np.percentile(seconds.mean(axis=1), 99.9)


@mistake("12-tail")
def three_sigma(seconds):
    """mean plus three deviations is a rule for bell curves; latencies have a long tail."""
    return seconds.mean() + 3 * seconds.std()


@mistake("12-tail")
def mean_of_tails(seconds):
    """a percentile in each round, then the mean: 500 calls hold no thousandth worth a mean."""
    return np.percentile(seconds, 99.9, axis=1).mean()


@mistake("12-tail")
def worst(seconds):
    """this is the worst call; one call in a thousand may be slower than p99.9."""
    return seconds.max()


COSTS = ((1.0, 1e-4, 25.0, 2.5e-5), (2.0, 3e-4, 60.0, 1e-5), (1.0, 1e-5, 9.0, 2e-5))


@exercise("12-even", *COSTS)
def break_even(fixed, slope, fixed_coded, slope_coded):
    """Where both take equally long; never where the slope is no smaller."""
    if slope_coded >= slope:
        return np.inf
    return np.sqrt((fixed_coded - fixed) / (slope - slope_coded))


@mistake("12-even")
def no_root(fixed, slope, fixed_coded, slope_coded):
    """this is the number of weights; the width is its square root."""
    if slope_coded >= slope:
        return np.inf
    return (fixed_coded - fixed) / (slope - slope_coded)


@mistake("12-even")
def never_infinite(fixed, slope, fixed_coded, slope_coded):
    """where the smaller code costs more for each weight, it never breaks even: infinity."""
    return np.sqrt(abs((fixed_coded - fixed) / (slope - slope_coded)))


@mistake("12-even")
def only_fixed(fixed, slope, fixed_coded, slope_coded):
    """you let float32 pay for its weights and the codes pay nothing for theirs."""
    if slope_coded >= slope:
        return np.inf
    return np.sqrt((fixed_coded - fixed) / slope)


def machine(rng: np.random.Generator):
    """Disturbed times (rounds, widths) of float32 and INT8, and the undisturbed ones elsewhere."""
    fixed, coded = rng.uniform(0.5, 3), rng.uniform(10, 60)
    slope = rng.uniform(0.5, 3) * 1e-4
    fewer = slope / rng.uniform(2.5, 6)
    power = rng.uniform(1.9, 2.1)
    widths = np.array([16, 64, 256, 1024, 4096])
    most = np.geomspace(16, 4096, 60)

    def times(n):
        return np.stack([fixed + slope * n**power, coded + fewer * n**power])

    noise = rng.lognormal(0, 0.05, (2, 9, 5))
    stalls = np.where(rng.random((2, 9, 5)) < 0.25, rng.uniform(2, 20, (2, 9, 5)), 1)
    seen = times(widths)[:, None] * noise * stalls
    return (widths, seen[0], seen[1]), (most, times(most))


def percent_of_best(width, unseen):
    """Mean over the widths of the best time over the time of the choice, in percent."""
    number = np.asarray(width, float)
    if number.shape != () or not number > 0:
        raise ValueError(f"the width is {width!r}: expected one positive number")
    n, (floats, coded) = unseen
    return 100 * float(np.mean(np.minimum(floats, coded) / np.where(n < number, floats, coded)))


def always_coded(widths, floats, coded):
    """INT8 for every layer."""
    return 1.0


@transfer(
    "12-transfer", draw=machine, measure=percent_of_best, plain=always_coded, target=97.0, unit="%"
)
def cross(widths, floats, coded):
    """Quiet rounds, lines between logarithms, and where they cross."""
    n = np.geomspace(16, 4096, 400)

    def curve(times):
        quiet = np.percentile(times, 25, axis=0)
        return np.interp(np.log(n), np.log(widths), np.log(quiet))

    sooner = curve(coded) < curve(floats)
    return n[np.argmax(sooner)] if sooner.any() else 1e9
