"""Client for Bybit's public klines: checked, paced, and clear about what went wrong.

Everything here follows ``GET /v5/market/kline``: rows of seven strings, newest first, the newest
row usually still open. Nothing in a row says so; only the ``time`` of the answer tells.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from quantlab.market.candles import (
    DAY,
    CandleError,
    Candles,
    Source,
    cache_path,
    check_interval,
    floor_start,
    following,
    load_cache,
    save_cache,
)
from quantlab.market.synthetic import synthetic_candles

HOST = "https://api.bybit.com"
TIMEOUT = (3.05, 10.0)  # seconds to connect, seconds to wait for bytes
RETRIES, PACE, LONGEST_WAIT, PAGE = 4, 0.1, 10.0, 1000
PASSING_CODES = (10000, 10006, 10016, 5004)  # server timeout, too many visits, server errors
BAN_CODES = (10009, 10018)  # the same IP limit, said with a retCode
BAN_SECONDS = 600.0

_last_call = -math.inf
_banned_until: dict[str, float] = {}


class BybitError(RuntimeError):
    """Base of everything that can go wrong between here and the exchange."""


class NetworkError(BybitError):
    """No answer: timeout, refused or broken connection."""


class ApiError(BybitError):
    """An answer that reports an error; ``code`` is its retCode or HTTP status.

    Some errors pass: these are retried after ``wait`` seconds, or with growing pauses.
    """

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
            raise ValueError(
                f"fetch_klines: base_url is {base_url!r}; it must look like {HOST} or "
                "http://127.0.0.1:8000"
            )
        if "testnet" in self.host:
            raise ValueError(f"fetch_klines: prices on {self.host} are invented; use {HOST}")
        self.session = requests.Session()
        self.session.headers["User-Agent"] = "quantlab (teaching)"
        if urlsplit(self.base).hostname in ("127.0.0.1", "localhost", "::1"):
            self.session.trust_env = False  # a proxy of the environment cannot reach a loopback

    def page(self, query: dict) -> tuple[list[list[str]], int | None]:
        """Rows of one answer, newest first, and its time in ms (None when it carries none)."""
        import tenacity

        bad = 0

        def worth_it(state: tenacity.RetryCallState) -> bool:
            nonlocal bad
            error = state.outcome.exception()
            if isinstance(error, BadPayloadError):
                bad += 1
                return bad == 1
            return isinstance(error, NetworkError) or getattr(error, "passes", False)

        def wait(state: tenacity.RetryCallState) -> float:
            told = getattr(state.outcome.exception(), "wait", None)
            if told is None:  # 0.5, 1, 2, 4 seconds, and up to half a second of jitter
                told = 0.5 * 2 ** (state.attempt_number - 1) + random.uniform(0, 0.5)
            return min(max(told, 0.0), LONGEST_WAIT)

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(1 + RETRIES),
            retry=worth_it,
            wait=wait,
            sleep=self.sleep,
            reraise=True,
        )
        return retrying(self._once, query)

    def _once(self, query: dict) -> tuple[list[list[str]], int | None]:
        import requests

        global _last_call
        left = _banned_until.get(self.host, -math.inf) - time.monotonic()
        if left > 0:
            _ban(self.host, left)
        pause = min(max(PACE - (time.monotonic() - _last_call), 0.0), LONGEST_WAIT)
        if pause:
            self.sleep(pause)
        try:
            answer = self.session.get(
                f"{self.base}/v5/market/kline", params=query, timeout=self.timeout
            )
        except requests.RequestException as error:
            raise NetworkError(
                f"fetch_klines: no answer from {self.host} ({type(error).__name__}: {error}); "
                "check the connection, or use synthetic_candles"
            ) from error
        finally:
            _last_call = time.monotonic()
        body = _read_envelope(answer, self.host)
        rows = _read_rows(body, query, answer.text)
        try:
            return rows, int(body["time"])
        except (KeyError, TypeError, ValueError):
            return rows, None


def _is_bybit(host: str) -> bool:
    """True for api.bybit.com, its twin api.bytick.com and the regional hosts."""
    return "bybit" in host or "bytick" in host


def _ban(host: str, seconds: float = BAN_SECONDS) -> None:
    """Stop all calls to the host for that long, and say so."""
    _banned_until[host] = time.monotonic() + seconds
    raise IPBannedError(
        f"fetch_klines: {host} banned this address for too many requests; wait "
        f"{math.ceil(seconds / 60)} minutes without any call, then fetch less often"
    )


def _told_wait(headers: dict) -> float | None:
    """Seconds until the limit resets if a header tells, else None: the headers are optional."""
    try:
        if "X-Bapi-Limit-Reset-Timestamp" in headers:
            return float(headers["X-Bapi-Limit-Reset-Timestamp"]) / 1000 - time.time()
        return float(headers["Retry-After"])
    except (KeyError, ValueError):
        return None


def _read_envelope(answer, host: str) -> dict:
    """Check status and retCode of a requests.Response; return the JSON object."""
    text, status = answer.text, answer.status_code
    head = text[:200].strip()
    if status == 403:
        if "too frequent" in text.lower():
            _ban(host)
        if "your country" in text.lower():
            raise GeoBlockedError(
                f"fetch_klines: {host} does not serve this country (United States, Mainland "
                "China, many cloud machines); run on your own computer where Bybit is available, "
                f"or use synthetic_candles. It said: {head}"
            )
        raise ForbiddenError(
            f"fetch_klines: {host} refused the request (HTTP 403); a proxy or firewall may have "
            f"changed it, so try another network. It said: {head}"
        )
    if status == 429 or status >= 500:
        said = f"fetch_klines: {host} answered HTTP {status}: {head}"
        raise ApiError(said, status, True, _told_wait(answer.headers))
    try:
        body = json.loads(text)
    except ValueError as error:
        raise BadPayloadError(
            f"fetch_klines: {host} sent no JSON (HTTP {status}): {head}"
        ) from error
    code = body.get("retCode") if isinstance(body, dict) else None
    if not isinstance(code, int):
        raise BadPayloadError(f"fetch_klines: {host} sent no retCode (HTTP {status}): {head}")
    if code in BAN_CODES:
        _ban(host)
    if code != 0 or status != 200:
        said = f"fetch_klines: {host} says {code} {body.get('retMsg')} (HTTP {status})"
        if code in PASSING_CODES:
            raise ApiError(said, code, True, _told_wait(answer.headers))
        hint = "; check symbol, category and interval" if code == 10001 else ""
        raise ApiError(said + hint, code)
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
        if not row[0].isdecimal():
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
    start: int | None = None,
    end: int | None = None,
    cache: bool | str | Path | None = None,
    drop_open: bool = True,
    timeout: tuple[float, float] = TIMEOUT,
    sleep: Callable[[float], None] = time.sleep,
) -> Candles:
    """Candles from Bybit's public endpoint, oldest first, closed ones only.

    ``limit`` counts rows asked for, the open one included: 200 usually give 199 closed candles.
    Above 1000 the client pages backward, 1000 rows a call; ``None`` with ``start`` takes all.
    ``start`` and ``end`` in ms, both inclusive; ``start`` alone gives the oldest ``limit`` rows
    from there. ``base_url``, or the variable QUANTLAB_BYBIT_URL, points at another host.
    ``cache=True`` adds the closed candles to the reader's cache, a path to one in that folder.
    Gaps stay gaps: see ``Candles.gaps``.

    Raises ``ValueError`` for arguments that cannot be meant; ``BybitError`` and its subclasses
    ``NetworkError``, ``ApiError``, ``GeoBlockedError``, ``IPBannedError``, ``ForbiddenError`` and
    ``BadPayloadError``; ``CacheError`` if the cache is corrupt.

    Source: Bybit, v5 API, "Get Kline". Taught in chapter 13.
    """
    interval, symbol = check_interval(interval), symbol.upper()
    if category not in ("spot", "linear", "inverse"):
        raise ValueError(f"fetch_klines: category is {category!r}; choose spot, linear or inverse")
    if limit is None and start is None:
        raise ValueError("fetch_klines: limit=None takes everything from start; give start")
    if limit is not None and limit < 1:
        raise ValueError(f"fetch_klines: limit is {limit}; ask for at least 1 row")
    if start is not None:
        start = int(floor_start(start, interval))  # the candle that contains it counts
    if start is not None and end is not None and end < start:
        raise ValueError(f"fetch_klines: end {end} lies before start {start}")
    client = _Client(base_url or os.environ.get("QUANTLAB_BYBIT_URL") or HOST, timeout, sleep)
    query = {"category": category, "symbol": symbol, "interval": interval}
    rows, closed_before, notes = _collect(client, query, limit, start, end)

    starts = np.array(sorted(rows), np.int64)
    is_open = following(starts, interval) > closed_before
    if drop_open:
        starts = starts[~is_open]
    elif is_open.any():
        notes.append("the last candle is still open")
    table = np.array([[float(v) for v in rows[t][1:]] for t in starts.tolist()]).reshape(-1, 6)
    source = Source("live" if _is_bybit(client.host) else "replay", client.host, "; ".join(notes))
    try:
        candles = Candles(starts, *table.T, symbol, category, interval, source)
    except CandleError as error:
        raise BadPayloadError(f"fetch_klines: {client.host} sent bad rows: {error}") from error
    if cache:
        closed = candles[: int((following(starts, interval) <= closed_before).sum())]
        save_cache(closed, cache_path(closed, None if cache is True else cache), closed_before)
    return candles


def _collect(
    client: _Client, query: dict, limit: int | None, start: int | None, end: int | None
) -> tuple[dict[int, list[str]], int, list[str]]:
    """Pages of rows by start; the server's time (rows that close later are open); notes."""
    rows: dict[int, list[str]] = {}
    clock, notes = 0, []
    limit = math.inf if limit is None else limit
    if start is not None and end is None and limit > PAGE:
        # start alone means the oldest rows: bound the span, then page backward inside it
        step = 31 * DAY if query["interval"] == "M" else int(following(0, query["interval"]))
        end = int(time.time() * 1000) if limit == math.inf else start + int(limit) * step - 1
    cursor, asked, stalled = end, 0, False
    while asked < limit:
        size = int(min(PAGE, limit - asked))
        window = {"start": start, "end": cursor}
        page, now = client.page(
            {**query, "limit": size, **{k: v for k, v in window.items() if v is not None}}
        )
        if now is None:
            now = int(time.time() * 1000)
            notes = ["the answer carried no time: open candle judged by this computer's clock"]
        clock = clock or now  # the first answer holds the newest rows: its time decides
        fresh = _merge(rows, page, start, end)
        asked += size
        if limit <= PAGE or not page or (start is not None and min(rows, default=start) <= start):
            break
        if not fresh and stalled:
            raise BadPayloadError(f"fetch_klines: {client.host} sent the same page again and again")
        if not fresh:
            if len(page) < size:
                break  # fewer rows than asked and none new: the listing begins here
            asked -= size
        stalled = not fresh
        cursor = min(rows) - 1
    newest_first = sorted(rows, reverse=start is None or end is not None)
    kept = newest_first if limit == math.inf else newest_first[: int(limit)]
    return {t: rows[t] for t in kept}, clock, notes


def _merge(
    rows: dict[int, list[str]], page: list[list[str]], start: int | None, end: int | None
) -> int:
    """Add the rows of a page that lie inside start and end; duplicates must agree."""
    before = len(rows)
    for row in page:
        t = int(row[0])
        if (start is not None and t < start) or (end is not None and t > end):
            continue  # in a listing gap, rows older than start can come back
        known = rows.setdefault(t, row)
        if known is not row and [float(v) for v in known] != [float(v) for v in row]:
            raise BadPayloadError(
                f"fetch_klines: two answers disagree about the candle {t}: {known} and {row}"
            )
    return len(rows) - before


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
    prints a line that begins with "fall-back" and repeats it in ``source.note``.

    Raises ``ValueError`` for bad arguments, ``ApiError`` if the exchange does not know the symbol.

    Taught in chapter 14.
    """
    interval, cache_dir = check_interval(interval), None if cache is True else cache
    url = base_url or os.environ.get("QUANTLAB_BYBIT_URL")
    if not url and os.environ.get("QUANTLAB_OFFLINE", "") not in ("", "0"):
        return _synthetic(symbol, n, interval, category, seed, "QUANTLAB_OFFLINE is set")
    host = urlsplit(url or HOST).netloc
    try:
        candles = fetch_klines(symbol, interval, n + 1, category, url, **options)[-n:]
        if not len(candles):
            raise BadPayloadError(f"load_candles: {host} has no candles of {symbol}")
    except BybitError as error:
        if getattr(error, "code", None) == 10001:
            raise
        why = f"{host} failed ({type(error).__name__}: {error})"
    else:
        if cache and candles.source.kind == "live":
            try:
                save_cache(candles, cache_path(candles, cache_dir), int(candles.closes_at[-1]))
            except (CandleError, OSError) as error:
                print(f"cache not written: {error}")
        if len(candles) < n:
            return _noted(candles, f"asked for {n:,} candles, the host has {len(candles):,}")
        return candles
    if cache:
        path = cache_path((host, category, symbol.upper(), interval), cache_dir)
        try:
            return _noted(load_cache(path)[-n:], f"fall-back to the cache: {why}", say=True)
        except FileNotFoundError:
            why += "; no cache"
        except CandleError as error:
            why += f"; {error}"
    return _synthetic(symbol, n, interval, category, seed, why)


def _noted(candles: Candles, note: str, say: bool = False) -> Candles:
    if say:
        print(note)
    old = candles.source
    joined = "; ".join(part for part in (old.note, note) if part)
    return replace(candles, source=Source(old.kind, old.host, joined))


def _synthetic(symbol: str, n: int, interval: str, category: str, seed: int, why: str) -> Candles:
    candles = synthetic_candles(n, seed=seed, interval=interval)
    return _noted(candles, f"fall-back to synthetic candles, not {symbol}: {why}", say=True)
