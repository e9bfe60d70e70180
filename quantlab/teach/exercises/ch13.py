"""Exercises of chapter 13, market data."""

from __future__ import annotations

import numpy as np

from . import Exercise

STEP = 300_000
NEWEST_FIRST = 1_735_689_600_000 + STEP * np.arange(5, -1, -1)
LAST_CLOSE = int(NEWEST_FIRST[0]) + STEP
PAGES = tuple((NEWEST_FIRST, STEP, LAST_CLOSE + late) for late in (-170_000, 0, 9 * STEP))


def closed(starts, interval, time):
    """Starts of the closed candles, oldest first: open exactly when start + interval > time."""
    return starts[starts + interval <= time][::-1]


def _newest_blindly(starts, interval, time):
    return starts[1:][::-1]


def _last_of_list(starts, interval, time):
    return starts[:-1][::-1]


def _keeps_open(starts, interval, time):
    return starts[starts <= time][::-1]


def _strict(starts, interval, time):
    return starts[starts + interval < time][::-1]


def _not_turned(starts, interval, time):
    return starts[starts + interval <= time]


SPREADS = tuple(
    (np.random.default_rng(seed).lognormal(size=n).round(2), window)
    for seed, n, window in ((1, 12, 4), (2, 60, 12), (3, 40, 5))
)


def median(x, window):
    """Median of the window that ends with each value, from the first full window on."""
    return np.array([np.median(x[t - window + 1 : t + 1]) for t in range(window - 1, len(x))])


def _next_included(x, window):
    return np.array([np.median(x[t - window + 2 : t + 2]) for t in range(window - 1, len(x))])


def _centered(x, window):
    before = window // 2
    return np.array(
        [np.median(x[max(t - before, 0) : t - before + window]) for t in range(window - 1, len(x))]
    )


def _mean(x, window):
    return np.array([np.mean(x[t - window + 1 : t + 1]) for t in range(window - 1, len(x))])


def _one_short(x, window):
    return np.array([np.median(x[t - window + 1 : t]) for t in range(window - 1, len(x))])


TABLE = np.random.default_rng(4).lognormal(size=(50, 3))
TABLE[40:] *= 3  # the test rows come from a wilder time
ROWS = ((TABLE, 30), (TABLE[:, :1], 40), (TABLE**2, 20))


def standardized(x, train):
    """z-scores of all rows, with mean and deviation of the first ``train`` rows."""
    return (x - x[:train].mean(axis=0)) / x[:train].std(axis=0)


def _all_rows(x, train):
    return standardized(x, len(x))


def _each_part(x, train):
    return np.concatenate([standardized(part, len(part)) for part in (x[:train], x[train:])])


def _one_mean(x, train):
    return (x - x[:train].mean()) / x[:train].std()


MISSING = NEWEST_FIRST[::-1][[0, 1, 2, 4, 5]]
SERIES = (
    (MISSING, np.array([100.0, 101.0, 102.0, 90.0, 91.0]), STEP),
    (STEP * np.array([0, 1, 5, 6, 7, 9]), np.array([10.0, 11.0, 13.0, 12.0, 12.0, 15.0]), STEP),
    (STEP * np.arange(4), np.array([5.0, 6.0, 6.0, 3.0]), STEP),
)


def returns(start, close, step):
    """Close to close, only where no candle is missing in between."""
    return (close[1:] / close[:-1] - 1)[np.diff(start) == step]


def _filled(start, close, step):
    grid = np.arange(start[0], start[-1] + step, step)
    kept = close[np.searchsorted(start, grid, side="right") - 1]
    return kept[1:] / kept[:-1] - 1


def _jump(start, close, step):
    return close[1:] / close[:-1] - 1


def _interpolated(start, close, step):
    line = np.interp(np.arange(start[0], start[-1] + step, step), start, close)
    return line[1:] / line[:-1] - 1


EXERCISES = (
    Exercise(
        "13-closed",
        closed,
        PAGES,
        (
            (
                _newest_blindly,
                "you drop the newest row whatever the time says. In a page that ends "
                "in the past it is closed, and one good candle is lost per page.",
            ),
            (
                _last_of_list,
                "rows come newest first: you drop the oldest row and keep the open one.",
            ),
            (_keeps_open, "the open candle is still in. It has begun; has it closed?"),
            (_strict, "a candle that closes exactly at `time` is closed: <=, not <."),
            (_not_turned, "the right rows, newest first. A model wants time to run forward."),
        ),
    ),
    Exercise(
        "13-median",
        median,
        SPREADS,
        (
            (_next_included, "your window holds the next candle. At time t that is the future."),
            (_centered, "your window is centered on the candle, so half of it is the future."),
            (_mean, "that is the mean. One wild candle moves it for a whole window."),
            (_one_short, "your window stops before the candle itself, and is one value short."),
        ),
        tolerance=1e-12,
    ),
    Exercise(
        "13-scaler",
        standardized,
        ROWS,
        (
            (
                _all_rows,
                "mean and deviation come from all rows: the training rows now know how "
                "wild the test rows will be.",
            ),
            (
                _each_part,
                "the test rows are scaled by themselves. Live there is one row, and a "
                "model must see it in the units of its training.",
            ),
            (_one_mean, "one mean for all columns. Each feature has its own."),
        ),
        tolerance=1e-9,
    ),
    Exercise(
        "13-gaps",
        returns,
        SERIES,
        (
            (
                _filled,
                "you fill the gap with the previous close: calm candles that nobody traded, "
                "then a jump that took longer than one candle.",
            ),
            (_jump, "a return across the gap counts as one candle's return."),
            (_interpolated, "a straight line through the gap uses the price after it: look-ahead."),
        ),
        tolerance=1e-9,
    ),
)
