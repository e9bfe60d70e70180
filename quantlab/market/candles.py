"""Candles: a checked container, its source, and a cache on disk for closed candles."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
import time
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantlab._checks import choice
from quantlab.market.tables import COLUMNS, CandleError, arrange, read_csv, read_frame, symbol_in
from quantlab.market.times import (
    DAY,
    LAST,
    aligned,
    check_interval,
    floor_start,
    following,
    moment,
    moments,
    utc,
)

if TYPE_CHECKING:
    import pandas

__all__ = ["DAY", "CacheError", "CandleError", "Candles", "Source", "aligned", "floor_start"]

KINDS = ("live", "cache", "replay", "synthetic", "file", "frame")


class CacheError(CandleError):
    """A cache file that is corrupt or holds what no closed candles can look like."""


@dataclass(frozen=True)
class Source:
    """Where candles come from: one of ``KINDS``, the host or file, and a note."""

    kind: str
    host: str
    note: str = ""

    def __post_init__(self) -> None:
        choice(self.kind, "Source", "kind", KINDS)


@dataclass(frozen=True, eq=False, repr=False)
class Candles:
    """Candles of one symbol and interval, oldest first, checked when they are made.

    Shapes: ``start`` (n,) int64 ms UTC; ``open``, ``high``, ``low``, ``close``, ``volume``,
    ``turnover`` (n,) float64. float32 cannot hold a millisecond timestamp: it would be off by up
    to 66 s.
    A missing candle is a gap: it is reported, never filled.

    Raises ``CandleError`` for unequal lengths, values that are not finite, prices that are not
    positive, starts off the grid or not increasing, a low above or a high below the body, and an
    open that differs from the close of the candle directly before it, unless ``allow_breaks``.

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
    allow_breaks: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", check_interval(self.interval))
        for name in COLUMNS:
            column = _column(getattr(self, name), name)
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        self._check()

    @classmethod
    def from_frame(cls, frame: pandas.DataFrame, interval: str | int | None = None, **options):
        """Candles from a pandas DataFrame with the columns of Bybit, freqtrade or ccxt.

        Times are a column or the index, in any form that ``moment`` reads; columns without names
        stand in the order start, open, high, low, close, volume[, turnover]. Rows may come newest
        first; repeated rows that agree are dropped. What was changed stands in ``source.note``.

        ``interval`` is one of Bybit's names; None takes the smallest distance of two starts. The
        options are ``symbol``; ``category``; ``source``, a text that ``describe`` shows as the
        origin; ``now``, the time at which the rows were recorded, by default this computer's:
        candles that close later are open and dropped (nothing in a row says so);
        ``allow_gaps=False`` to refuse missing candles; and ``allow_breaks=True`` to keep opens
        that differ from the close before, as most exchanges but Bybit have them: ``describe``
        counts them.

        Raises ``CandleError`` if columns are missing or a row cannot be a candle; ``ValueError``
        for a time that is unclear.

        Taught in chapter 13.
        """
        return cls._from_table(read_frame(frame), interval, "frame", "from_frame", **options)

    @classmethod
    def from_csv(
        cls, path: str | Path, interval: str | int | None = None, **options: Any
    ) -> Candles:
        """Candles from a CSV file, with or without a header; needs no pandas.

        Columns, times and options as in ``from_frame``; ``source`` is the file's name unless
        given, ``symbol`` is read from it (``BTCUSDT-5m.csv``).

        Taught in chapter 13.
        """
        options.setdefault("source", Path(path).name)
        options.setdefault("symbol", symbol_in(Path(path).name) or "DATA")
        return cls._from_table(read_csv(path), interval, "file", "from_csv", **options)

    @classmethod
    def _from_table(
        cls,
        table: tuple[list | None, list],
        interval: str | int | None,
        kind: str,
        door: str,
        *,
        symbol: str = "DATA",
        category: str = "linear",
        source: str = "DataFrame",
        now: Any = None,
        allow_gaps: bool = True,
        allow_breaks: bool = False,
    ) -> Candles:
        function = f"Candles.{door}"
        now = int(time.time() * 1000) if now is None else moment(now, function, "now")
        columns, interval, notes = arrange(*table, function, interval, category)
        candles = cls(
            *columns.values(), symbol, category, interval, Source(kind, source), allow_breaks
        )
        closed = int((candles.closes_at <= now).sum())
        if closed < len(candles):
            notes.append(f"{len(candles) - closed} rows dropped that close after {utc(now)} UTC")
        if candles.gaps and not allow_gaps:
            lost = f"{len(candles.gaps)} places with missing candles, the first from"
            first = utc(candles.gaps[0][0])
            raise CandleError(f"{function}: {lost} {first} UTC; fill them, or pass allow_gaps=True")
        return replace(candles[:closed], source=Source(kind, source, "; ".join(notes)))

    def to_frame(self) -> pandas.DataFrame:
        """A pandas DataFrame of the six columns, indexed by the start in UTC."""
        import pandas

        index = pandas.DatetimeIndex(self.start.astype("M8[ms]"), tz="UTC", name="start")
        return pandas.DataFrame({name: getattr(self, name) for name in COLUMNS[1:]}, index)

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

        start = self.start
        refuse((start < 0) | (start >= LAST), "start outside the years 1970 to 9999")
        refuse(~np.isfinite(np.stack([columns[c] for c in COLUMNS[1:]])).all(axis=0), "NaN or inf")
        refuse(np.minimum(np.minimum(self.open, self.close), self.low) <= 0, "price not positive")
        refuse((self.volume < 0) | (self.turnover < 0), "negative volume or turnover")
        refuse(self.low > np.minimum(self.open, self.close), "low above open or close")
        refuse(self.high < np.maximum(self.open, self.close), "high below open or close")
        refuse(~aligned(start, self.interval), f"start off the {self.interval}-grid")
        refuse(np.diff(start, prepend=-1) <= 0, "start not after the row before")
        if not self.allow_breaks:
            why = "a missing, open or corrupt candle; a market has such breaks: allow_breaks=True"
            broken = np.isin(np.arange(len(self)), self.breaks)
            refuse(broken, f"open differs from the close before ({why})")

    def rows(self) -> list[tuple]:
        """One tuple for each candle, in the order of the columns: start first, turnover last."""
        return list(zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True))

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
        expected, found = self.closes_at[:-1], self.start[1:]
        holes = expected != found
        return list(zip(expected[holes].tolist(), found[holes].tolist(), strict=True))

    @property
    def breaks(self) -> np.ndarray:
        """Rows (k,) whose open differs from the close of the candle directly before."""
        joined = self.closes_at[:-1] == self.start[1:]
        return 1 + np.flatnonzero(joined & (self.open[1:] != self.close[:-1]))

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
        holes, breaks = len(self.gaps), len(self.breaks)
        parts = (
            self.source.kind, self.source.host, f"{self.symbol} {self.category}", span,
            f"{len(self):,} candles of {unit}", f"{holes} gap{'s' * (holes != 1)}",
            f"{breaks:,} opens off the close before" if breaks else "", self.source.note,
        )  # fmt: skip
        return " · ".join(filter(None, parts))

    def __repr__(self) -> str:
        return f"<Candles {self.describe()}>"

    def _repr_html_(self) -> str:
        kind, rest = self.describe().split(" · ", 1)
        return f"<p class='ql-source'><strong>{escape(kind)}</strong> · {escape(rest)}</p>"


def _column(values: Any, name: str) -> np.ndarray:
    """A column of Candles as a new array: int64 ms or float64."""
    if np.ma.is_masked(values):
        raise CandleError(f"Candles: {name} has masked values; drop those rows")
    try:
        if name == "start" and np.asarray(values).dtype.kind not in "iu":
            return moments(values, "Candles")
        return np.array(values, np.int64 if name == "start" else np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise CandleError(f"Candles: {name} is not a column of numbers ({error})") from None


def cache_path(
    candles: Candles | tuple[str, str, str, str], folder: str | Path | None = None
) -> Path:
    """File for these candles, or for (host, category, symbol, interval).

    The folder is ``folder``, else the variable QUANTLAB_CACHE, else the user's cache folder.
    """
    from platformdirs import user_cache_dir

    market = _identity(candles).values() if isinstance(candles, Candles) else candles
    name = re.sub(r"[^\w.-]", "_", "_".join(market))
    folder = folder or os.environ.get("QUANTLAB_CACHE") or user_cache_dir("quantlab")
    return Path(folder).expanduser() / f"{name}.npz"


def _digest(columns: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(columns[name].tobytes() for name in COLUMNS)).hexdigest()


def save_cache(candles: Candles, path: str | Path, now: int) -> None:
    """Add closed candles to a cache file: rows and metadata in one ``.npz``, renamed into place.

    ``now`` is the exchange's time in ms; a candle that closes later is open and refused. Rows
    that are already there must agree.

    Raises ``CacheError`` if a candle is open, the two disagree or are of different markets, or
    the file is corrupt; ``OSError`` if it cannot be written: the old file stays.
    """
    path = Path(path)
    if not len(candles):
        return
    if candles.span[1] > now:
        raise CacheError(f"save_cache: the last candle is open until {utc(candles.span[1])} UTC")
    if path.exists():
        old = load_cache(path)
        theirs, ours = _identity(old), _identity(candles)
        if theirs != ours:
            held, given = " ".join(theirs.values()), " ".join(ours.values())
            raise CacheError(f"save_cache: {path} holds {held}, not {given}; use another file")
        candles = replace(candles, **_join(old, candles, path))
    columns = {name: getattr(candles, name) for name in COLUMNS}
    meta = _identity(candles) | {
        "allow_breaks": candles.allow_breaks,
        "span": candles.span,
        "rows": len(candles),
        "saved": int(now),
        "sha256": _digest(columns),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(".part", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(buffer.getvalue())
        os.replace(part, path)
    except OSError:
        os.unlink(part)
        raise


def _identity(candles: Candles) -> dict[str, str]:
    kind = {name: getattr(candles, name) for name in ("category", "symbol", "interval")}
    return {"host": candles.source.host} | kind


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
        source = Source("cache", meta["host"], f"saved {utc(meta['saved'])} UTC")
        names = (meta[key] for key in ("symbol", "category", "interval"))
        breaks = meta.get("allow_breaks", False)
        candles = Candles(*columns.values(), *names, source, breaks)
        if meta["rows"] != len(candles) or list(candles.span) != meta["span"]:
            raise ValueError("its row count or span does not fit its rows")
        if candles.span[1] > meta["saved"]:
            raise ValueError("it holds a candle that was still open")
    except Exception as error:  # whatever a damaged file can raise, the reader gets one name
        raise CacheError(f"load_cache: refused {path} ({error}); delete the file") from error
    return candles
