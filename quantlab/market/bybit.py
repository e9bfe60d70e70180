"""Client for Bybit's public klines: checked, paced, and clear about what went wrong.

Everything here follows ``GET /v5/market/kline``: rows of seven strings, newest first, the newest
row usually still open. Nothing in a row says so; only the ``time`` of the answer tells.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from quantlab._checks import choice, integer
from quantlab.market.candles import (
    CacheError,
    CandleError,
    Candles,
    Source,
    cache_path,
    load_cache,
    save_cache,
)
from quantlab.market.synthetic import synthetic_candles
from quantlab.market.times import LAST, check_interval, floor_start, following, moment, utc

HOST = "https://api.bybit.com"
TIMEOUT = (3.05, 10.0)  # seconds to connect, seconds to wait for bytes
RETRIES, PACE, LONGEST_WAIT, PAGE = 4, 0.1, 10.0, 1000
PASSING_CODES = (10000, 10006, 10016, 5004)  # server timeout, too many visits, server errors
BAN_CODES = (10009, 10018)  # the same IP limit, said with a retCode
BAN_SECONDS = 600.0

_pacing = threading.Lock()
_last_call = -math.inf
_banned_until: dict[str, float] = {}
_markets: set[str] = set()  # hosts whose candles load_candles has shown in this session


class BybitError(RuntimeError):
    """Base of everything that can go wrong between here and the exchange.

    Some errors pass: these are retried after ``wait`` seconds, or with growing pauses.
    """

    passes: bool = False
    wait: float | None = None


class NetworkError(BybitError):
    """No answer: timeout, refused or broken connection."""

    passes = True


class ApiError(BybitError):
    """An answer that reports an error; ``code`` is its retCode or HTTP status."""

    def __init__(
        self, message: str, code: int, passes: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.passes, self.wait = code, passes, wait


class GeoBlockedError(BybitError):
    """HTTP 403 because the address lies in a country that Bybit does not serve."""


class IPBannedError(BybitError):
    """HTTP 403 after too many requests from this address; it lasts ten minutes."""


class ForbiddenError(BybitError):
    """HTTP 403 for another reason, such as a proxy that changes the request."""


class BadPayloadError(BybitError, ValueError):
    """An answer that is not what the documentation promises, or whose rows cannot be candles."""


class _Client:
    """One host, one session: paces the calls, retries what passes, names what does not."""

    def __init__(self, base_url: str, timeout: tuple[float, float], sleep: Callable) -> None:
        import requests

        self.base, self.timeout, self.sleep = base_url.rstrip("/"), timeout, sleep
        self.host = urlsplit(self.base).netloc
        if urlsplit(self.base).scheme not in ("http", "https") or not self.host:
            raise ValueError(f"fetch_klines: base_url is {base_url!r}; expected one like {HOST}")
        if "testnet" in self.host:
            raise ValueError(f"fetch_klines: prices on {self.host} are invented; use {HOST}")
        self.notes: list[str] = []
        self.told = 0  # the exchange's latest time, ms
        self.session = requests.Session()
        self.session.headers["User-Agent"] = "quantlab (teaching)"
        if urlsplit(self.base).hostname in ("127.0.0.1", "localhost", "::1"):
            self.session.trust_env = False  # a proxy of the environment cannot reach a loopback

    def page(self, query: dict) -> tuple[list[list[str]], int]:
        """Rows of one answer, newest first, and the time in ms at which they were served."""
        import tenacity

        growing = tenacity.wait_exponential(0.5, LONGEST_WAIT) + tenacity.wait_random(0, 0.5)
        second_chance = iter([True])  # a bad body is asked for once more

        def worth_it(error: BaseException) -> bool:
            if isinstance(error, BadPayloadError):
                return next(second_chance, False)
            return isinstance(error, BybitError) and error.passes

        def wait(state: tenacity.RetryCallState) -> float:
            told = state.outcome.exception().wait
            return min(max(growing(state) if told is None else told, 0.0), LONGEST_WAIT)

        stop, retry = (
            tenacity.stop_after_attempt(1 + RETRIES),
            tenacity.retry_if_exception(worth_it),
        )
        retrying = tenacity.Retrying(self.sleep, stop, wait, retry, reraise=True)
        return retrying(self._once, query)

    def _once(self, query: dict) -> tuple[list[list[str]], int]:
        import requests

        global _last_call
        left = _banned_until.get(self.host, -math.inf) - time.monotonic()
        if left > 0:
            _ban(self.host, left)
        with _pacing:  # one thread after the other
            pause = min(max(PACE - (time.monotonic() - _last_call), 0.0), LONGEST_WAIT)
            if pause:
                self.sleep(pause)
            _last_call = time.monotonic()
        try:
            answer = self.session.get(
                f"{self.base}/v5/market/kline", params=query, timeout=self.timeout
            )
        except requests.RequestException as error:
            said = f"fetch_klines: no answer from {self.host} ({type(error).__name__})"
            raise NetworkError(f"{said}; check the connection, or use synthetic_candles") from error
        finally:
            _last_call = time.monotonic()
        answer.encoding = "utf-8"
        body = _read_envelope(answer, self.host)
        rows = _read_rows(body, query, answer.text)
        clocks = (
            ("", lambda: moment(body["time"] or None)),
            ("its Date header", lambda: _seconds(answer.headers["Date"]) * 1000),
            ("this computer's clock", lambda: time.time() * 1000),
        )
        judge, clock = next((j, t) for j, read in clocks if (t := _reading(read)) is not None)
        if judge:
            self.notes.append(f"the answer carried no time: open candle judged by {judge}")
        clock = max(int(clock), *(int(row[0]) for row in rows), 0)  # no row is of the future
        self.told = max(self.told, clock)
        return rows, clock


def _reading(read: Callable[[], float]) -> float | None:
    """What an optional header or field says, None if it is absent or no number."""
    try:
        value = float(read())
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return None if math.isnan(value) else value


def _seconds(date: str) -> float:
    """Unix time of a date as HTTP headers write it."""
    return parsedate_to_datetime(date).timestamp()


def _is_bybit(host: str) -> bool:
    """True for api.bybit.com, its twin api.bytick.com and the regional hosts."""
    return "bybit" in host or "bytick" in host


def _ban(host: str, seconds: float = BAN_SECONDS) -> None:
    """Stop all calls to the host for that long, and say so."""
    _banned_until[host] = time.monotonic() + seconds
    wait = f"wait {math.ceil(seconds / 60)} minutes without any call, then fetch less often"
    raise IPBannedError(f"fetch_klines: {host} banned this address for too many requests; {wait}")


def _told_wait(headers: dict) -> float | None:
    """Seconds until the limit resets if a header tells, else None: the headers are optional."""
    now = time.time()
    readings = (
        lambda: moment(headers["X-Bapi-Limit-Reset-Timestamp"]) / 1000 - now,
        lambda: headers["Retry-After"],
        lambda: _seconds(headers["Retry-After"]) - now,
    )
    return next((wait for wait in map(_reading, readings) if wait is not None), None)


def _read_envelope(answer, host: str) -> dict:
    """Check status and retCode of a requests.Response; return the JSON object."""
    text, status = answer.text, answer.status_code
    head = text[:200].strip()
    said = " ".join(re.sub(r"<[^>]*>?", " ", head).split())
    if status == 403:
        if "too frequent" in text.lower():
            _ban(host)
        if "your country" in text.lower():
            raise GeoBlockedError(
                f"fetch_klines: {host} does not serve this country (United States, Mainland China, "
                "many cloud machines); run on a computer where it does, or use synthetic_candles"
            )
        said = f"fetch_klines: {host} refused the request (HTTP 403: {said})"
        raise ForbiddenError(f"{said}; a proxy may have changed it, so try another network")
    if status == 429 or status >= 500:
        said = f"fetch_klines: {host} answered HTTP {status} ({said}); try again in a minute"
        raise ApiError(said, status, True, _told_wait(answer.headers))
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        said = f"fetch_klines: {host} sent no JSON (HTTP {status}); a proxy may have answered"
        raise BadPayloadError(f"{said}. It begins {head}") from error
    code = body.get("retCode") if isinstance(body, dict) else None
    if type(code) is not int:
        raise BadPayloadError(f"fetch_klines: {host} sent no retCode (HTTP {status}): {head}")
    if code in BAN_CODES:
        _ban(host)
    if code != 0 or status != 200:
        said = f"fetch_klines: {host} says {code} {body.get('retMsg')} (HTTP {status})"
        if code in PASSING_CODES:
            said += "; try again in a minute"
            raise ApiError(said, code, True, _told_wait(answer.headers))
        raise ApiError(f"{said}; check symbol, category, interval and times", code)
    return body


def _read_rows(body: dict, query: dict, text: str) -> list[list[str]]:
    """Check shape, echo and order of the rows of one answer, still as strings."""

    def refuse(what: str) -> None:
        raise BadPayloadError(f"fetch_klines: {what}; the answer begins {text[:200].strip()}")

    result = body.get("result")
    rows = result.get("list") if isinstance(result, dict) else None
    if not isinstance(rows, list):
        refuse("the answer holds no list of rows")
    for key in ("symbol", "category"):
        if result.get(key) not in (None, query[key]):
            refuse(f"asked for {key} {query[key]}, got {result[key]}")
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 7 or not all(isinstance(v, str) for v in row):
            refuse(f"row {i} is not seven strings")
        if not row[0].isdecimal() or len(row[0]) > 15 or int(row[0]) >= LAST:
            refuse(f"row {i} starts with {row[0]!r}, not a time in ms")
    try:
        finite = all(math.isfinite(float(value)) for row in rows for value in row)
    except ValueError:
        finite = False
    if not finite:
        refuse("a value is not a finite number")
    steps = np.diff(np.array([int(row[0]) for row in rows], np.int64))
    if not ((steps < 0).all() or (steps > 0).all()):
        refuse("starts are not strictly monotone")
    return rows


def fetch_klines(
    symbol: str = "BTCUSDT",
    interval: str | int = "5",
    limit: int | None = 200,
    category: str = "linear",
    base_url: str | None = None,
    *,
    start: Any = None,
    end: Any = None,
    cache: bool | str | Path | None = None,
    drop_open: bool = True,
    timeout: tuple[float, float] = TIMEOUT,
    sleep: Callable[[float], None] = time.sleep,
) -> Candles:
    """Candles from Bybit's public endpoint, oldest first, closed ones only.

    ``limit`` counts rows asked for, the open one included: 200 usually give 199 closed candles.
    Above 1000 the client pages, 1000 rows a call; ``None`` with ``start`` takes all. ``start`` and
    ``end``, both inclusive, are milliseconds or any time that ``moment`` reads; ``start`` alone
    gives the oldest ``limit`` rows from there, else the newest come. What is open the exchange's
    clock says. ``base_url``, or the variable QUANTLAB_BYBIT_URL, points at another host.
    ``cache=True`` takes closed candles from the reader's cache and adds new ones, a path uses that
    folder. Gaps stay gaps: see ``Candles.gaps``.

    Raises ``ValueError`` for arguments that cannot be meant; ``BybitError`` and its subclasses
    ``NetworkError``, ``ApiError``, ``GeoBlockedError``, ``IPBannedError``, ``ForbiddenError`` and
    ``BadPayloadError``; ``CacheError`` if the cache is corrupt.

    Source: Bybit, v5 API, "Get Kline". Taught in chapter 13.
    """
    me, interval = "fetch_klines", check_interval(interval)
    if not isinstance(symbol, str) or not re.fullmatch(r"[\w-]+", symbol):
        raise ValueError(f"{me}: symbol is {symbol!r:.60}; Bybit writes it like BTCUSDT")
    choice(category, me, "category", ("spot", "linear", "inverse"))
    if limit is not None:
        limit = integer(limit, me, "limit", 1, 10**8)
    elif start is None:
        raise ValueError(f"{me}: limit=None takes everything from start; give start")
    if start is not None:  # the candle that contains it counts
        start = int(floor_start(moment(start, me, "start"), interval))
    if end is not None:
        end = moment(end, me, "end")
        if start is not None and end < start:
            raise ValueError(f"{me}: end {utc(end)} lies before start {utc(start)} (UTC)")
    client = _Client(base_url or os.environ.get("QUANTLAB_BYBIT_URL") or HOST, timeout, sleep)
    query = {"category": category, "symbol": symbol.upper(), "interval": interval}
    market = (client.host, category, symbol.upper(), interval)
    path, stored = _stored(market, cache) if cache else (None, None)
    rows, clock = _collect(client, query, limit, start, end, stored)

    starts = np.array(sorted(rows), np.int64)
    closed = following(starts, interval) <= clock
    if drop_open:
        starts = starts[closed]
    elif not closed.all():
        client.notes.append("the last candle is still open")
    if not rows and start is not None and start > clock:
        client.notes.append(f"start lies after the exchange's clock, {utc(clock)} UTC")
    table = np.array([rows[t] for t in starts.tolist()]).reshape(-1, 6)
    notes = "; ".join(dict.fromkeys(client.notes))
    kind = "live" if _is_bybit(client.host) else "replay"
    source = Source(kind if client.told else "cache", client.host, notes)
    try:
        candles = Candles(starts, *table.T, symbol.upper(), category, interval, source)
    except CandleError as error:
        raise BadPayloadError(f"fetch_klines: {client.host} sent bad rows: {error}") from error
    if path:
        try:
            save_cache(candles[: int(closed.sum())], path, clock)
        except OSError as error:
            return _noted(candles, f"cache not written ({error})")
    return candles


def _stored(market: tuple[str, ...], cache: bool | str | Path) -> tuple[Path, Candles | None]:
    """File of this market in the cache, and its candles if there are any."""
    path = cache_path(market, None if cache is True else cache)
    try:
        stored = load_cache(path)
    except OSError:
        return path, None
    if (stored.source.host, stored.category, stored.symbol, stored.interval) != market:
        raise CacheError(f"load_cache: {path} holds {stored.symbol}; delete the file")
    return path, stored


def _collect(
    client: _Client,
    query: dict,
    limit: int | None,
    start: int | None,
    end: int | None,
    stored: Candles | None,
) -> tuple[dict[int, list[float]], int]:
    """Rows by start, and the exchange's clock when the newest was served (ms)."""
    rows: dict[int, list[float]] = {}
    clock = 0  # when the newest row was served
    most = math.inf if limit is None else limit
    forward = start is not None and end is None

    def ask(low: int | None, high: int | None, wanted: float) -> tuple[int, int, int]:
        """Rows from the cache or of one page: (how many new, how many served, how many asked)."""
        nonlocal clock
        held = _run(stored, low, high, wanted) if stored else {}
        if held:
            rows.update(held)
            clock = max(clock, int(following(max(held), query["interval"])))
            client.notes.append("closed candles in part from the cache")
            return len(held), len(held), 0
        size = int(min(PAGE, wanted))
        window = {"limit": size, "start": low, "end": high}
        page, now = client.page(query | {k: v for k, v in window.items() if v is not None})
        newest, before = max(rows, default=-1), len(rows)
        for row in page:
            t, values = int(row[0]), [float(v) for v in row[1:]]
            if (start is not None and t < start) or (end is not None and t > end):
                continue  # in a listing gap, rows older than start can come back
            if rows.setdefault(t, values) != values:
                what = f"two answers disagree about the candle of {utc(t)} UTC"
                raise BadPayloadError(f"fetch_klines: {what}; try again")
        if max(rows, default=-1) > newest or not clock:
            clock = now
        return len(rows) - before, len(page), size

    cursor = start
    if forward:  # the oldest rows: each answer begins where the one before ended
        while len(rows) < most and (not client.told or cursor < client.told):
            if not ask(cursor, None, most - len(rows))[0]:
                break
            cursor = int(following(max(rows), query["interval"]))
        if len(rows) >= most or cursor >= client.told > 0:
            return rows, clock
        most = math.inf  # there may be rows behind a gap: page back to it from now
    bottom, high, stalled = cursor, client.told if forward else end, False
    while len(rows) < most:
        fresh, served, asked = ask(bottom, high, most - len(rows))
        inside = [t for t in rows if bottom is None or t >= bottom]
        if not inside or (not fresh and served < asked):
            break  # the listing begins here
        if min(inside) == bottom or (asked and most <= PAGE):
            break
        if not fresh and stalled:
            raise BadPayloadError(f"fetch_klines: {client.host} sent one page again; try later")
        stalled = not fresh
        high = min(inside) - 1
    if forward and limit is not None:
        rows = {t: rows[t] for t in sorted(rows)[:limit]}
    return rows, clock


def _run(stored: Candles, low: int | None, high: int | None, most: float) -> dict[int, list[float]]:
    """Stored rows without a gap: down from ``high``, or without it up from ``low``."""
    at = low if high is None else int(floor_start(high, stored.interval))
    i = len(stored) if at is None else int(np.searchsorted(stored.start, at))
    if i == len(stored) or stored.start[i] != at:
        return {}
    breaks = 1 + np.flatnonzero(stored.closes_at[:-1] != stored.start[1:])
    first, stop = max(breaks[breaks <= i], default=0), i + 1
    if high is None:
        first, stop = i, min(i + most, min(breaks[breaks > i], default=len(stored)))
    elif low is not None:
        first = max(first, int(np.searchsorted(stored.start, low)))
    piece = stored[int(max(first, stop - most)) : int(stop)]
    return {t: values for t, *values in piece.rows()}


def load_candles(
    symbol: str = "BTCUSDT",
    n: int = 20_000,
    interval: str | int = "5",
    *,
    category: str = "linear",
    seed: int = 7,
    base_url: str | None = None,
    cache: bool | str | Path = True,
    **options,
) -> Candles:
    """The last n closed candles from the best source at hand, which it names on the screen.

    ``base_url`` or QUANTLAB_BYBIT_URL first, else Bybit itself; if that fails the cache; then the
    simulator. QUANTLAB_OFFLINE=1 (without a URL) goes to the simulator at once. A fall-back
    prints why, then a line that begins with "fall-back", which ``source.note`` repeats. After
    candles of the market, no call of the same session gives simulated ones for an error.

    Raises ``ValueError`` for bad arguments, ``ApiError`` if the exchange does not know the symbol,
    ``BybitError`` where the simulator would follow the market.

    Taught in chapter 17.
    """
    interval, n = check_interval(interval), integer(n, "load_candles", "n", 1, 10**8 - 1)
    url = base_url or os.environ.get("QUANTLAB_BYBIT_URL")
    if not url and os.environ.get("QUANTLAB_OFFLINE", "") not in ("", "0"):
        return _synthetic(symbol, n, interval, seed, "QUANTLAB_OFFLINE is set")
    host = urlsplit(url or HOST).netloc
    keep = cache if _is_bybit(host) else None
    fetch = partial(fetch_klines, symbol, interval, n + 1, category, url, **options)
    try:
        try:
            candles = fetch(cache=keep)[-n:]
        except CacheError as error:
            print(f"cache not used: {error}")
            candles = fetch()[-n:]
        if not len(candles):
            raise BadPayloadError(f"load_candles: {host} has no candles of {symbol}")
    except BybitError as error:
        if getattr(error, "code", None) == 10001:
            raise
        failure, why = error, f"{host} failed ({type(error).__name__})"
    else:
        _markets.add(host)
        if len(candles) < n:
            return _noted(candles, f"asked for {n:,} candles, the host has {len(candles):,}")
        return candles
    print(failure)
    try:
        market = (host, category, symbol.upper(), interval)
        _, stored = _stored(market, cache) if cache else (None, None)
    except CacheError as error:
        print(error)
        stored = None
    if stored:
        _markets.add(host)
        return _noted(stored[-n:], f"fall-back to the cache: {why}", say=True)
    if _markets:  # a session that has shown the market never goes on with invented prices
        what = "load_candles: no fall-back to the simulator after candles of the market"
        failure.add_note(f"{what}; try again later, or call synthetic_candles")
        raise failure
    return _synthetic(symbol, n, interval, seed, why)


def _noted(candles: Candles, note: str, say: bool = False) -> Candles:
    if say:
        print(note)
    old = candles.source
    joined = "; ".join(part for part in (old.note, note) if part)
    return replace(candles, source=Source(old.kind, old.host, joined))


def _synthetic(symbol: str, n: int, interval: str, seed: int, why: str) -> Candles:
    candles = synthetic_candles(n, seed=seed, interval=interval)
    return _noted(candles, f"fall-back to synthetic candles, not {symbol}: {why}", say=True)
