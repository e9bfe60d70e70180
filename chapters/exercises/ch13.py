"""Exercises of chapter 13, market data."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

STEP = 300_000
NEWEST_FIRST = 1_735_689_600_000 + STEP * np.arange(5, -1, -1)
LAST_CLOSE = int(NEWEST_FIRST[0]) + STEP
PAGES = tuple((NEWEST_FIRST, STEP, LAST_CLOSE + late) for late in (-170_000, 0, 9 * STEP))


@exercise("13-closed", *PAGES)
def closed(starts, interval, time):
    """Closed is what ended by now, whichever row it is; oldest first."""
    return starts[starts + interval <= time][::-1]


@mistake("13-closed")
def newest_blindly(starts, interval, time):
    """you drop the newest row whatever the time says. In a page that ends in the past it is closed,
    and one good candle is lost per page.
    """
    return starts[1:][::-1]


@mistake("13-closed")
def last_of_list(starts, interval, time):
    """rows come newest first: you drop the oldest row and keep the open one."""
    return starts[:-1][::-1]


@mistake("13-closed")
def keeps_open(starts, interval, time):
    """the open candle is still in. It has begun; has it closed?"""
    return starts[starts <= time][::-1]


@mistake("13-closed")
def strict(starts, interval, time):
    """a candle that closes exactly at `time` is closed: <=, not <."""
    return starts[starts + interval < time][::-1]


@mistake("13-closed")
def not_turned(starts, interval, time):
    """the right rows, newest first. A model wants time to run forward."""
    return starts[starts + interval <= time]


SPREADS = tuple(
    (np.random.default_rng(seed).lognormal(size=n).round(2), window)
    for seed, n, window in ((1, 12, 4), (2, 60, 12), (3, 40, 5))
)


@exercise("13-median", *SPREADS)
def median(x, window):
    """Each window ends with the value itself."""
    ends = range(window - 1, len(x))
    return np.array([np.median(x[t - window + 1 : t + 1]) for t in ends])


@mistake("13-median")
def next_included(x, window):
    """your window holds the next candle. At time t that is the future."""
    return np.array([np.median(x[t - window + 2 : t + 2]) for t in range(window - 1, len(x))])


@mistake("13-median")
def centered(x, window):
    """your window is centered on the candle, so half of it is the future."""
    before = window // 2
    return np.array(
        [np.median(x[max(t - before, 0) : t - before + window]) for t in range(window - 1, len(x))]
    )


@mistake("13-median")
def _mean(x, window):
    """that is the mean. One wild candle moves it for a whole window."""
    return np.array([np.mean(x[t - window + 1 : t + 1]) for t in range(window - 1, len(x))])


@mistake("13-median")
def one_short(x, window):
    """your window stops before the candle itself, and is one value short."""
    return np.array([np.median(x[t - window + 1 : t]) for t in range(window - 1, len(x))])


TABLE = np.random.default_rng(4).lognormal(size=(50, 3))
TABLE[40:] *= 3  # the test rows come from a wilder time
ROWS = ((TABLE, 30), (TABLE[:, :1], 40), (TABLE**2, 20))


@exercise("13-scaler", *ROWS)
def standardized(x, train):
    """Mean and deviation of the first ``train`` rows, applied to all."""
    return (x - x[:train].mean(axis=0)) / x[:train].std(axis=0)


@mistake("13-scaler")
def all_rows(x, train):
    """mean and deviation come from all rows: the training rows now know how wild the test rows will
    be.
    """
    return standardized(x, len(x))


@mistake("13-scaler")
def each_part(x, train):
    """the test rows are scaled by themselves. Live there is one row, and a model must see it in the
    units of its training.
    """
    return np.concatenate([standardized(part, len(part)) for part in (x[:train], x[train:])])


@mistake("13-scaler")
def one_mean(x, train):
    """one mean for all columns. Each feature has its own."""
    return (x - x[:train].mean()) / x[:train].std()


MISSING = NEWEST_FIRST[::-1][[0, 1, 2, 4, 5]]
SERIES = (
    (MISSING, np.array([100.0, 101.0, 102.0, 90.0, 91.0]), STEP),
    (STEP * np.array([0, 1, 5, 6, 7, 9]), np.array([10.0, 11.0, 13.0, 12.0, 12.0, 15.0]), STEP),
    (STEP * np.arange(4), np.array([5.0, 6.0, 6.0, 3.0]), STEP),
)


@exercise("13-gaps", *SERIES)
def returns(start, close, step):
    """Close to close, only where no candle is missing in between."""
    return (close[1:] / close[:-1] - 1)[np.diff(start) == step]


@mistake("13-gaps")
def filled(start, close, step):
    """you fill the gap with the previous close: calm candles that nobody traded, then a jump that
    took longer than one candle.
    """
    grid = np.arange(start[0], start[-1] + step, step)
    kept = close[np.searchsorted(start, grid, side="right") - 1]
    return kept[1:] / kept[:-1] - 1


@mistake("13-gaps")
def jump(start, close, step):
    """a return across the gap counts as one candle's return."""
    return close[1:] / close[:-1] - 1


@mistake("13-gaps")
def logarithms(start, close, step):
    """the right rows, as logarithms: asked for is close over close, minus 1."""
    return np.log1p(returns(start, close, step))


@mistake("13-gaps")
def interpolated(start, close, step):
    """a straight line through the gap uses the price after it: look-ahead."""
    line = np.interp(np.arange(start[0], start[-1] + step, step), start, close)
    return line[1:] / line[:-1] - 1


def ranges(rng):
    """Ranges relative to their median, calm and wild days, one candle far out: (seen, unseen)."""
    day = np.exp(rng.normal(0, 0.3, 60)).repeat(100)
    x = day * rng.lognormal(0, 0.6, day.size)
    x[rng.integers(2000)] = 90 * rng.uniform(0.8, 1.2)
    return x[:2000], x[2000:]


def bits_of_codes(borders, unseen):
    """Entropy in bits of the codes that the unseen ranges get."""
    borders = np.asarray(borders, float)
    if borders.shape != (15,) or not (np.diff(borders) > 0).all():
        raise ValueError(f"expected 15 increasing borders, yours have shape {borders.shape}")
    share = np.bincount(np.searchsorted(borders, unseen), minlength=16) / len(unseen)
    share = share[share > 0]
    return -np.sum(share * np.log2(share))


def min_max_borders(x):
    return x.min() + (x.max() - x.min()) * np.arange(1, 16) / 16


@transfer(
    "13-transfer",
    draw=ranges,
    measure=bits_of_codes,
    plain=min_max_borders,
    target=3.5,
    unit="bits",
)
def equal_shares(x):
    """As many of the seen ranges between any two borders."""
    return np.quantile(x, np.arange(1, 16) / 16)
