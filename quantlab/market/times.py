"""Moments, int64 milliseconds since 1970 UTC, and intervals, by Bybit's names of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn

import numpy as np

INTERVALS = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M")
MINUTE, DAY, WEEK = 60_000, 86_400_000, 604_800_000
MONDAY = 4 * DAY  # 1970-01-05 was a Monday; weekly candles start there
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
LAST = 253_402_300_800_000  # the year 10000


def moment(value: Any, function: str = "moment", name: str = "time") -> int:
    """Milliseconds since 1970 UTC of a time in any usual form.

    Strings are ISO dates or digits; times without a zone are UTC. Numbers tell their unit by
    their size: from September 2001 to 2286 seconds have 10 digits before the point, milliseconds
    13, microseconds 16, nanoseconds 19. Zero is 1970.

    Raises ``ValueError`` for anything else, float32 included: it is up to 66 s off.

    Taught in chapter 13.

    >>> moment(1_735_689_600) == moment(1_735_689_600_000) == moment("2025-01-01T01:00+01:00")
    True
    """

    def refuse(why: str) -> NoReturn:
        raise ValueError(
            f"{function}: {name} is {value!r:.60}, {why}; give milliseconds since 1970 "
            '(13 digits), a string like "2025-01-31 12:00" (UTC), or a datetime'
        )

    given = value
    if isinstance(given, str):
        text = given.strip()
        for read in (
            (datetime.fromisoformat,) if len(text) <= 8 else (int, float, datetime.fromisoformat)
        ):
            try:
                given = read(text)
                break
            except ValueError:
                continue
        else:
            refuse("which is no ISO date")
    if isinstance(given, (date, np.datetime64)):
        if given != given:
            refuse("which is no moment")
        if isinstance(given, datetime):
            aware = given if given.tzinfo else given.replace(tzinfo=UTC)
            ms = (aware - EPOCH) // MILLISECOND
        else:
            ms = int(np.datetime64(given, "ms").astype(np.int64))
        return ms if 0 <= ms < LAST else refuse("outside the years 1970 to 9999")
    whole = isinstance(given, (int, np.integer)) and not isinstance(given, bool)
    if not whole and not isinstance(given, float):  # np.float64 is a float, np.float32 is not
        refuse(f"a {type(value).__name__}")
    if given == 0:
        return 0
    for digits, per_ms in ((10, 0.001), (13, 1), (16, 1_000), (19, 1_000_000)):
        if 10 ** (digits - 1) <= given < 10**digits:
            return round(given * 1000) if digits == 10 else int(given // per_ms)
    refuse("whose unit is unclear: it has neither 10, 13, 16 nor 19 digits")


def moments(column: Any, function: str) -> np.ndarray:
    """``moment`` of each element, (n,) int64; arrays of datetime64 in one step."""
    column = np.asarray(column)
    if column.dtype.kind == "M" and not np.isnat(column).any():
        return column.astype("M8[ms]").astype(np.int64)
    values = column.tolist() if column.dtype.kind in "iuU" else column
    return np.array([moment(v, function, f"time of row {i}") for i, v in enumerate(values)], int)


def check_interval(interval: str | int) -> str:
    """Return ``interval`` as Bybit's name of it, or say which names exist."""
    if str(interval) not in INTERVALS:
        known = " ".join(INTERVALS)
        raise ValueError(f"interval: got {interval!r}; choose one of {known} (minutes, D, W, M)")
    return str(interval)


def infer_interval(start: np.ndarray, function: str) -> str:
    """The interval whose candles start at these times (n,), sorted: their smallest distance."""
    step = min((step for step in np.diff(start).tolist() if step > 0), default=0)
    for interval in INTERVALS[:-1]:
        if step == following(0, interval):
            return interval
    if step >= 28 * DAY and aligned(start, "M").all():
        return "M"
    what = f"{len(start)} starts whose smallest distance is {step / MINUTE:g} min"
    advice = f"give interval, one of {' '.join(INTERVALS)}, or resample"
    raise ValueError(f"{function}: cannot tell the interval from {what}; {advice}")


def following(start: np.ndarray | int, interval: str) -> np.ndarray:
    """Start of the next candle, in ms, for each start (also the moment a candle closes)."""
    start = np.asarray(start, np.int64)
    if interval == "M":
        months = start.astype("M8[ms]").astype("M8[M]") + 1
        return months.astype("M8[ms]").astype(np.int64)
    return start + (DAY if interval == "D" else WEEK if interval == "W" else int(interval) * MINUTE)


def floor_start(ms: np.ndarray | int, interval: str) -> np.ndarray:
    """Start of the candle that contains each moment (UTC; weeks on Monday, months on the 1st)."""
    ms = np.asarray(ms, np.int64)
    if interval == "M":
        return ms.astype("M8[ms]").astype("M8[M]").astype("M8[ms]").astype(np.int64)
    return ms - (ms - (MONDAY if interval == "W" else 0)) % following(0, interval)


def aligned(start: np.ndarray, interval: str) -> np.ndarray:
    """True where a start lies on the interval's grid."""
    return floor_start(start, interval) == start


def utc(ms: int) -> str:
    """``2025-01-01 00:00`` for a time in ms."""
    return str(np.datetime64(int(ms), "ms").astype("M8[m]")).replace("T", " ")
