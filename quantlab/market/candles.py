"""Candles: a checked container, its source, and a cache on disk for closed candles."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import numpy as np

COLUMNS = ("start", "open", "high", "low", "close", "volume", "turnover")
INTERVALS = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M")
MINUTE, DAY, WEEK = 60_000, 86_400_000, 604_800_000
MONDAY = 4 * DAY  # 1970-01-05 was a Monday; weekly candles start there


class CandleError(ValueError):
    """Rows that cannot be candles: the message names the row and what is wrong with it."""


class CacheError(CandleError):
    """A cache file that is corrupt or holds what no closed candles can look like."""


def check_interval(interval: str | int) -> str:
    """Return ``interval`` as Bybit's name of it, or say which names exist."""
    name = str(interval)
    if name not in INTERVALS:
        raise ValueError(
            f"interval: got {interval!r}; choose one of {' '.join(INTERVALS)} (minutes, day, week, "
            "month)"
        )
    return name


def following(start: np.ndarray, interval: str) -> np.ndarray:
    """Start of the next candle, in ms, for each start (also the moment a candle closes)."""
    start = np.asarray(start, np.int64)
    if interval == "M":
        months = start.astype("M8[ms]").astype("M8[M]") + 1
        return months.astype("M8[ms]").astype(np.int64)
    return start + (DAY if interval == "D" else WEEK if interval == "W" else int(interval) * MINUTE)


def aligned(start: np.ndarray, interval: str) -> np.ndarray:
    """True where a start lies on the interval's grid (UTC; weeks on Monday, months on the 1st)."""
    start = np.asarray(start, np.int64)
    if interval == "M":
        return start.astype("M8[ms]").astype("M8[M]").astype("M8[ms]").astype(np.int64) == start
    step = following(np.int64(0), interval)
    return (start - (MONDAY if interval == "W" else 0)) % step == 0


def utc(ms: int) -> str:
    """``2025-01-01 00:00`` for a time in ms."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC).strftime("%Y-%m-%d %H:%M")


@dataclass(frozen=True)
class Source:
    """Where candles come from: ``live``, ``cache``, ``replay`` or ``synthetic``, host and note."""

    kind: str
    host: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("live", "cache", "replay", "synthetic"):
            raise ValueError(
                f"Source: kind is {self.kind!r}; it must be live, cache, replay or synthetic"
            )


@dataclass(frozen=True, eq=False, repr=False)
class Candles:
    """Candles of one symbol and interval, oldest first, checked when they are made.

    Shapes: ``start`` (n,) int64 ms UTC; ``open``, ``high``, ``low``, ``close``, ``volume``,
    ``turnover`` (n,) float64. float32 cannot hold a millisecond timestamp: it would be off by up
    to 66 s.
    A missing candle is a gap: it is reported, never filled.

    Raises ``CandleError`` for unequal lengths, values that are not finite, prices that are not
    positive, starts off the grid or not increasing, a low above or a high below the body, and an
    open that differs from the close of the candle directly before it.

    Source: Bybit, v5 API, "Get Kline". Taught in chapter 13.

    >>> from quantlab.market import synthetic_candles
    >>> candles = synthetic_candles(1000, seed=7)
    >>> len(candles), len(candles[-200:]), len(candles.gaps)
    (1000, 200, 0)
    """

    start: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    turnover: np.ndarray
    symbol: str
    category: str
    interval: str
    source: Source

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", check_interval(self.interval))
        for name in COLUMNS:
            kind = np.int64 if name == "start" else np.float64
            column = np.array(getattr(self, name), dtype=kind)
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        self._check()

    def _check(self) -> None:
        columns = {name: getattr(self, name) for name in COLUMNS}
        shapes = {name: column.shape for name, column in columns.items()}
        if self.start.ndim != 1 or len(set(shapes.values())) != 1:
            raise CandleError(f"Candles: columns must be 1-D and equally long, got {shapes}")

        def refuse(bad: np.ndarray, what: str) -> None:
            if bad.any():
                i = int(np.argmax(bad))
                raise CandleError(
                    f"Candles: {what} in {int(bad.sum())} of {len(self)} rows of {self.symbol}, "
                    f"first row {i} ({utc(self.start[i])} UTC: open {self.open[i]:g}, high "
                    f"{self.high[i]:g}, low {self.low[i]:g}, close {self.close[i]:g})"
                )

        refuse(~np.isfinite(np.stack([columns[c] for c in COLUMNS[1:]])).all(axis=0), "NaN or inf")
        refuse(np.minimum(np.minimum(self.open, self.close), self.low) <= 0, "price not positive")
        refuse((self.volume < 0) | (self.turnover < 0), "negative volume or turnover")
        refuse(self.low > np.minimum(self.open, self.close), "low above open or close")
        refuse(self.high < np.maximum(self.open, self.close), "high below open or close")
        refuse(~aligned(self.start, self.interval), f"start off the {self.interval}-grid")
        later = np.ones(len(self), bool)
        later[1:] = np.diff(self.start) > 0
        refuse(~later, "start not after the row before")
        broken = np.zeros(len(self), bool)
        if len(self) > 1:
            joined = following(self.start[:-1], self.interval) == self.start[1:]
            broken[1:] = joined & (self.open[1:] != self.close[:-1])
        refuse(broken, "open differs from the close before (a missing, open or corrupt candle)")

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: slice) -> Candles:
        if not isinstance(rows, slice) or (rows.step or 1) != 1:
            raise ValueError(f"Candles: index with a slice like candles[-200:], not {rows}")
        return replace(self, **{name: getattr(self, name)[rows] for name in COLUMNS})

    @property
    def closes_at(self) -> np.ndarray:
        """Moment each candle closes, (n,) int64 ms."""
        return following(self.start, self.interval)

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """Missing stretches: (start of the first missing candle, start of the next present)."""
        if len(self) < 2:
            return []
        expected = self.closes_at[:-1]
        holes = np.flatnonzero(expected != self.start[1:])
        return [(int(expected[i]), int(self.start[i + 1])) for i in holes]

    @property
    def span(self) -> tuple[int, int]:
        """(first start, last close) in ms; (0, 0) without rows."""
        return (int(self.start[0]), int(self.closes_at[-1])) if len(self) else (0, 0)

    @property
    def returns(self) -> np.ndarray:
        """(close - open) / open of each candle, (n,) float64."""
        return (self.close - self.open) / self.open

    def describe(self) -> str:
        """One line for the screen: source, host, symbol, span, rows, gaps, note."""
        units = {"D": "1 day", "W": "1 week", "M": "1 month"}
        unit = units.get(self.interval, f"{self.interval} min")
        first, last = self.span
        span = f"{utc(first)} to {utc(last)} UTC" if len(self) else "no span"
        parts = [self.source.kind, self.source.host, f"{self.symbol} {self.category}", span]
        holes = len(self.gaps)
        parts += [f"{len(self):,} candles of {unit}", f"{holes} gap{'s' * (holes != 1)}"]
        return " · ".join(parts + ([self.source.note] if self.source.note else []))

    def __repr__(self) -> str:
        return f"<Candles {self.describe()}>"

    def _repr_html_(self) -> str:
        kind, rest = self.describe().split(" · ", 1)
        return f"<p class='ql-source'><strong>{escape(kind)}</strong> · {escape(rest)}</p>"


def floor_start(ms: int, interval: str) -> int:
    """Start of the candle that contains the moment ``ms``."""
    if interval == "M":
        return int(np.int64(ms).astype("M8[ms]").astype("M8[M]").astype("M8[ms]").astype(np.int64))
    offset = MONDAY if interval == "W" else 0
    return int(ms - (ms - offset) % following(np.int64(0), interval))


def cache_path(
    candles: Candles | tuple[str, str, str, str], folder: str | Path | None = None
) -> Path:
    """File for these candles, or for (host, category, symbol, interval).

    The folder is ``folder``, else the variable QUANTLAB_CACHE, else the user's cache folder.
    """
    from platformdirs import user_cache_dir

    if isinstance(candles, Candles):
        candles = (candles.source.host, candles.category, candles.symbol, candles.interval)
    name = "_".join(candles).replace(":", "_").replace("/", "_")
    folder = folder or os.environ.get("QUANTLAB_CACHE") or user_cache_dir("quantlab")
    return Path(folder).expanduser() / f"{name}.npz"


def _digest(columns: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(columns[name].tobytes() for name in COLUMNS)).hexdigest()


def save_cache(candles: Candles, path: str | Path, now: int) -> None:
    """Add closed candles to a cache file: rows and metadata in one ``.npz``, renamed into place.

    ``now`` is the exchange's time in ms; a candle that closes later is open and refused. Rows
    that are already there must agree.

    Raises ``CacheError`` if a candle is open, the two disagree, or the file is corrupt.
    """
    path = Path(path)
    if not len(candles):
        return
    if candles.span[1] > now:
        raise CacheError(f"save_cache: the last candle is open until {utc(candles.span[1])} UTC")
    columns = {name: getattr(candles, name) for name in COLUMNS}
    if path.exists():
        columns = _join(load_cache(path), candles, path)
    host = candles.source.host
    merged = Candles(
        **columns,
        symbol=candles.symbol,
        category=candles.category,
        interval=candles.interval,
        source=Source("cache", host),
    )
    meta = {
        "host": host,
        "category": candles.category,
        "symbol": candles.symbol,
        "interval": candles.interval,
        "span": merged.span,
        "rows": len(merged),
        "saved": int(now),
        "sha256": _digest(columns),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        part.write(buffer.getvalue())
    os.replace(part.name, path)


def _join(old: Candles, new: Candles, path: Path) -> dict[str, np.ndarray]:
    """Columns of both, by start; rows that both hold must be equal."""
    _, a, b = np.intersect1d(old.start, new.start, assume_unique=True, return_indices=True)
    for name in COLUMNS:
        if (getattr(old, name)[a] != getattr(new, name)[b]).any():
            raise CacheError(f"save_cache: {path} disagrees with the new rows in {name}; delete it")
    both = {name: np.concatenate([getattr(old, name), getattr(new, name)]) for name in COLUMNS}
    _, order = np.unique(both["start"], return_index=True)
    return {name: column[order] for name, column in both.items()}


def load_cache(path: str | Path) -> Candles:
    """Candles of a cache file, after its metadata, its checksum and every row were checked.

    Raises ``FileNotFoundError`` without a file; ``CacheError`` if anything does not fit.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"load_cache: no cache at {path}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            columns = {name: stored[name] for name in COLUMNS}
        if meta["sha256"] != _digest(columns):
            raise ValueError("its sha256 does not fit its rows")
        saved = datetime.fromtimestamp(meta["saved"] / 1000, UTC)
        source = Source("cache", meta["host"], f"saved {saved:%Y-%m-%d %H:%M} UTC")
        candles = Candles(
            **columns,
            symbol=meta["symbol"],
            category=meta["category"],
            interval=meta["interval"],
            source=source,
        )
        if meta["rows"] != len(candles) or list(candles.span) != meta["span"]:
            raise ValueError("its row count or span does not fit its rows")
        if candles.span[1] > meta["saved"]:
            raise ValueError("it holds a candle that was still open")
    except Exception as error:  # whatever a damaged file can raise, the reader gets one name
        raise CacheError(f"load_cache: refused {path} ({error}); delete the file") from error
    return candles
