"""The kline client against a loopback replay with scripted faults."""

import functools
import json
import math
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from replay import FAULTS, Replay, read_csv

import quantlab.market as market
from quantlab.market import bybit
from quantlab.market.times import INTERVALS, floor_start, following

STEP = 300_000
T0 = 1_735_689_600_000  # 2025-01-01


def book(n=2500, skip=()):
    """Rows in Bybit's shape, by hand: a price that walks in cents."""
    close = 1000 + np.cumsum(np.random.default_rng(0).integers(-9, 10, n))
    open_ = np.concatenate([[1000], close[:-1]])
    rows = [
        [T0 + i * STEP, o / 10, (max(o, c) + 3) / 10, (min(o, c) - 2) / 10, c / 10, i % 7 + 0.5]
        for i, (o, c) in enumerate(zip(open_.tolist(), close.tolist(), strict=True))
    ]
    return [row for i, row in enumerate(rows) if i not in skip]


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No pacing memory, no ban, no cache and no variable from elsewhere."""
    monkeypatch.setattr(bybit, "_last_call", -np.inf)
    monkeypatch.setattr(bybit, "_banned_until", {})
    monkeypatch.setattr(bybit, "_markets", set())
    monkeypatch.setenv("QUANTLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("QUANTLAB_BYBIT_URL", raising=False)
    monkeypatch.delenv("QUANTLAB_OFFLINE", raising=False)


@pytest.fixture
def waits():
    return []


@pytest.fixture
def fetch(waits):
    """fetch_klines that notes its waits instead of sleeping."""
    return functools.partial(market.fetch_klines, sleep=waits.append, timeout=(5, 0.7))


def serve(faults=(), rows=None, **options):
    return Replay({"BTCUSDT": book() if rows is None else rows}, faults=faults, **options)


def starts(rows):
    return [row[0] for row in rows]


def test_default_call_is_one_request_and_names_its_source(fetch):
    with serve() as server:
        candles = fetch(base_url=server.url)
    assert server.requests == [
        {"category": "linear", "symbol": "BTCUSDT", "interval": "5", "limit": "200"}
    ]
    assert candles.start.tolist() == starts(book())[-200:]
    assert candles.source.kind == "replay" and candles.source.host == server.url[7:]
    assert "200 candles of 5 min" in candles.describe() and server.url[7:] in candles.describe()


def test_open_candle_is_dropped_by_the_time_of_the_answer(fetch):
    rows = book()
    half = rows[-1][0] + STEP // 2
    with serve(now=half) as server:
        closed, everything = fetch(base_url=server.url), fetch(base_url=server.url, drop_open=False)
    assert closed.start.tolist() == starts(rows)[-200:-1]
    assert everything.start[-1] == rows[-1][0] and "still open" in everything.source.note
    assert everything.close[-1] != rows[-1][4]  # its close is only the last trade
    with serve(now=rows[-1][0] + STEP) as server:  # the moment of closing counts as closed
        assert fetch(base_url=server.url).start[-1] == rows[-1][0]
    with serve(now=rows[-1][0] + STEP - 1) as server:
        assert fetch(base_url=server.url).start[-1] == rows[-2][0]


def test_answer_without_time_uses_the_header_or_the_local_clock_and_says_so(fetch):
    half = book()[-1][0] + STEP // 2
    with serve(["no-time", "no-clock"], now=half) as server:
        candles = fetch(base_url=server.url)
        assert len(candles) == 199 and "judged by its Date header" in candles.source.note
        candles = fetch(base_url=server.url)
    assert len(candles) == 200 and "this computer's clock" in candles.source.note


@pytest.mark.parametrize("limit", [1000, 1001, 2000, 2500, 9999])
def test_pages_backward(fetch, limit):
    with serve() as server:
        candles = fetch(base_url=server.url, limit=limit)
    assert candles.start.tolist() == starts(book())[-limit:]
    for query in server.requests[1:]:
        assert (int(query["end"]) + 1 - T0) % STEP == 0  # end = oldest - 1


def test_start_end_and_both(fetch):
    rows = book()
    with serve() as server:
        call = functools.partial(fetch, base_url=server.url)
        a, b = rows[100][0], rows[1900][0]
        assert call(start=a, limit=3).start.tolist() == starts(rows)[100:103]
        assert call(start=a, limit=1500).start.tolist() == starts(rows)[100:1600]
        assert call(end=b, limit=3).start.tolist() == starts(rows)[1898:1901]
        assert call(start=a, end=b, limit=3).start.tolist() == starts(rows)[1898:1901]
        assert call(start=a, end=b, limit=None).start.tolist() == starts(rows)[100:1901]
        assert call(start=a, limit=None).start.tolist() == starts(rows)[100:]
        # an unaligned start means the candle that contains it
        assert call(start=a + 7, limit=2).start.tolist() == starts(rows)[100:102]
        assert len(call(start=rows[-1][0] + 10 * STEP)) == 0


def test_rows_before_start_are_left_out(fetch):
    start = book()[1000][0]
    with serve(["older"]) as server:
        candles = fetch(base_url=server.url, start=start, limit=50)
    assert candles.start[0] == start and len(candles) == 50


def test_gaps_are_reported_and_not_filled(fetch):
    rows = book(skip=(2400, 2401))
    with serve(rows=rows) as server:
        candles = fetch(base_url=server.url, limit=1200)
        assert candles.gaps == [(T0 + 2400 * STEP, T0 + 2402 * STEP)]
        assert "1 gap" in candles.describe()
    with serve(["gap"]) as server:
        assert len(fetch(base_url=server.url).gaps) == 1


@pytest.mark.parametrize("fault", ["10000", "10006", "10006-header", "10016", "5004", "5xx", "429",
                                   "slow", "drop"])  # fmt: skip
def test_what_passes_is_retried_four_times(fetch, waits, fault):
    with serve([fault] * 4, slow=1.2) as server:
        assert len(fetch(base_url=server.url)) == 200
    assert len(server.requests) == 5
    assert sum(wait > 0.2 for wait in waits) == 4 and all(0 <= wait <= 10 for wait in waits)
    kind = market.NetworkError if fault in ("slow", "drop") else market.ApiError
    with serve([fault] * 5, slow=1.2) as server, pytest.raises(kind):
        fetch(base_url=server.url)
    assert len(server.requests) == 5


def test_waits_grow_without_a_header_and_obey_one(fetch, waits):
    with serve(["10006"] * 4) as server:
        fetch(base_url=server.url)
    slow = [wait for wait in waits if wait > 0.2]
    assert slow[0] >= 0.5 and slow[3] >= 4.0
    waits.clear()
    with serve(["10006-header"]) as server:
        fetch(base_url=server.url)
    assert any(0.3 < wait <= 0.7 for wait in waits)


def test_headers_are_optional_and_may_be_nonsense():
    assert bybit._told_wait({}) is None and bybit._told_wait({"Retry-After": "soon"}) is None
    assert bybit._told_wait({"Retry-After": "3"}) == 3.0


@pytest.mark.parametrize(("told", "slept"), [(1e6, 10.0), (-1e6, 0.0)])
def test_any_wait_is_clamped_to_ten_seconds(fetch, waits, monkeypatch, told, slept):
    monkeypatch.setattr(bybit, "_told_wait", lambda headers: told)
    with serve(["10006"]) as server:
        assert len(fetch(base_url=server.url)) == 200
    assert slept in waits and max(waits) <= 10


def test_calls_are_at_least_a_tenth_of_a_second_apart(fetch, waits, monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: 1000.0, time=time.time)  # calls that take no time
    monkeypatch.setattr(bybit, "time", clock)
    monkeypatch.setattr(bybit, "_last_call", -math.inf)
    with serve() as server:
        fetch(base_url=server.url, limit=2500, timeout=(5, 5))
    assert len(server.requests) == 3 and waits == [0.1, 0.1]


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [("403-json", "GeoBlockedError", "country"), ("403-html", "GeoBlockedError", "country"),
     ("403-frequent", "IPBannedError", "10 minutes"), ("10018", "IPBannedError", "10 minutes"),
     ("403-bad-request", "ForbiddenError", "another network"),
     ("10001", "ApiError", "check symbol"), ("7001", "ApiError", "7001")],
)  # fmt: skip
def test_what_does_not_pass_is_named_at_once(fetch, fault, kind, says):
    with serve([fault]) as server, pytest.raises(getattr(market, kind), match=says):
        fetch(base_url=server.url)
    assert len(server.requests) == 1


def test_a_ban_stops_every_call_for_ten_minutes(fetch, monkeypatch):
    with serve(["403-frequent"]) as server:
        with pytest.raises(market.IPBannedError):
            fetch(base_url=server.url)
        with pytest.raises(market.IPBannedError):
            fetch(base_url=server.url)
        assert len(server.requests) == 1
        now = time.monotonic()
        monkeypatch.setattr(bybit.time, "monotonic", lambda: now + 601)
        assert len(fetch(base_url=server.url)) == 200


@pytest.mark.parametrize("fault", ["truncated", "null", "five", "html", "echo"])
def test_a_bad_body_gets_one_retry_then_a_name(fetch, fault):
    with serve([fault]) as server:
        assert len(fetch(base_url=server.url)) == 200
    with serve(always=fault) as server, pytest.raises(market.BadPayloadError) as caught:
        fetch(base_url=server.url)
    assert len(server.requests) == 2
    assert ("html" if fault == "html" else '"retCode": 0') in str(caught.value)


def test_duplicate_pages_must_agree(fetch):
    with serve([None, "duplicate-page"]) as server:
        assert len(fetch(base_url=server.url, limit=2500)) == 2500
    with serve([None, "conflict"]) as server:
        with pytest.raises(market.BadPayloadError, match="disagree"):
            fetch(base_url=server.url, limit=2500)
    with serve([None], always="duplicate-page") as server:
        with pytest.raises(market.BadPayloadError, match="again"):
            fetch(base_url=server.url, limit=2500)


def broken(column, value, row=2495):
    rows = book()
    rows[row][column] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "says"),
    [(broken(3, 9999.0), "low above"), (broken(2, 0.5), "high below"), (broken(4, 77.7), "."),
     (broken(5, "nan"), "finite"), (broken(5, "-1"), "negative"), (broken(5, "x"), "finite"),
     (broken(1, 0.1), "."), (broken(0, T0 + 2495 * STEP + 1), "grid"),
     (broken(0, "abc", row=0)[:1], "not a time"), (book()[-5:] + book()[-1:], "monotone")],
)  # fmt: skip
def test_rows_that_cannot_be_candles_are_refused(fetch, rows, says):
    with StaticServer(rows) as url, pytest.raises(market.BadPayloadError, match=says):
        fetch(base_url=url)


class StaticServer:
    """One body for every request, whatever it asks for: rows (oldest first) or a text."""

    def __init__(self, body, status=200):
        if not isinstance(body, str):
            rows = [[*map(str, row), "1.0"][:7] for row in reversed(body)]
            result = {"symbol": "BTCUSDT", "category": "linear", "list": rows}
            body = json.dumps({"retCode": 0, "result": result, "time": 4_000_000_000_000})

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self):
        Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{self.httpd.server_address[1]}"

    def __exit__(self, *_):
        self.httpd.shutdown()
        self.httpd.server_close()


def test_arguments_that_cannot_be_meant(fetch):
    for options in (
        {"interval": "7"}, {"category": "option"}, {"limit": 0}, {"limit": None},
        {"start": T0, "end": T0 - STEP}, {"base_url": "api.bybit.com"},
        {"base_url": "https://api-testnet.bybit.com"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"fetch_klines|interval"):
            fetch(**options)


def test_refused_connection_is_a_network_error(fetch):
    with pytest.raises(market.NetworkError, match="no answer"):
        fetch(base_url="http://127.0.0.1:9")


def test_every_fault_of_the_replay_ends_in_candles_or_a_named_error(fetch):
    for fault in FAULTS:
        bybit._banned_until.clear()
        with serve(always=fault, slow=0.3) as server:
            try:
                assert len(fetch(base_url=server.url)) > 0, fault
            except market.BybitError as error:
                assert len(str(error)) > 20, fault


def test_load_candles_takes_the_replay(monkeypatch, capsys):
    with serve() as server:
        monkeypatch.setenv("QUANTLAB_BYBIT_URL", server.url)
        monkeypatch.setenv("QUANTLAB_OFFLINE", "1")  # a URL goes first
        candles = market.load_candles(n=1500, sleep=lambda s: None)
        assert len(candles) == 1500 and candles.source.kind == "replay"
        few = market.load_candles(n=9000, sleep=lambda s: None)
    assert len(few) == 2500 and "asked for 9,000" in few.source.note
    assert "fall-back" not in capsys.readouterr().out


def test_load_candles_offline_says_synthetic(monkeypatch, capsys):
    monkeypatch.setenv("QUANTLAB_OFFLINE", "1")
    candles = market.load_candles(n=500)
    assert candles.source.kind == "synthetic" and len(candles) == 500
    assert "QUANTLAB_OFFLINE" in candles.source.note
    assert "fall-back to synthetic" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["403-json", "403-frequent", "null", "5xx"])
def test_load_candles_falls_back_loudly(capsys, tmp_path, fault):
    options = {"n": 600, "sleep": lambda s: None}
    with serve() as server:
        good = market.fetch_klines(limit=800, base_url=server.url, cache=True)
        server.always = fault
        cached = market.load_candles(base_url=server.url, **options)
        assert "fall-back to the cache" in capsys.readouterr().out
        assert cached.source.kind == "cache" and cached.start.tolist() == good.start.tolist()[-600:]
        bybit._banned_until.clear()
        (path,) = tmp_path.glob("*.npz")
        path.write_bytes(b"damaged")
        with pytest.raises(market.BybitError):  # never invented prices after the market's
            market.load_candles(base_url=server.url, **options)
        bybit._banned_until.clear()
        bybit._markets.clear()
        synthetic = market.load_candles(base_url=server.url, **options)
        out = capsys.readouterr().out
    assert synthetic.source.kind == "synthetic" and len(synthetic) == 600
    assert "fall-back to synthetic" in out and "refused" in out
    assert server.url[7:] in synthetic.source.note


def test_load_candles_does_not_hide_a_wrong_symbol():
    with serve() as server, pytest.raises(market.ApiError, match="symbol invalid"):
        market.load_candles("NOPE", base_url=server.url, sleep=lambda s: None)


def fixture_cases():
    ok = {
        "ok_linear_1_5rows_last_open_no_time": ("BTCUSDT", "1", "linear", 5),
        "ok_linear_60_2rows_last_open": ("BTCUSDT", "60", "linear", 1),
        "ok_linear_D_start_end_limit3": ("BTCUSDT", "D", "linear", 3),
        "ok_spot_1_unaligned_start_returns_containing_candle": ("BTCUSDT", "1", "spot", 2),
        "ok_spot_60_5rows_closed": ("BTCUSDT", "60", "spot", 5),
        "ok_docs_kline_inverse_60_3rows": ("BTCUSD", "60", "inverse", 3),
        "ok_empty_list": ("BTCUSDT", "5", "linear", 0),
        "page_linear_BTCUSDT_5_limit200_last_open": ("BTCUSDT", "5", "linear", 199),
        "page_linear_ETHUSDT_5_limit1000_last_open": ("ETHUSDT", "5", "linear", 999),
    }
    return ok.items()


@pytest.mark.parametrize(("name", "case"), fixture_cases())
def test_recorded_answers(fetch, recordings, name, case):
    symbol, interval, category, rows = case
    text = (recordings / "fixtures" / f"{name}.json").read_text()
    with StaticServer(text) as url:
        candles = fetch(symbol, interval, 1000, category, base_url=url)
    assert len(candles) == rows and candles.gaps == []


def test_recorded_errors(fetch, recordings):
    folder = recordings / "fixtures"
    names = {"bad_": "BadPayloadError", "err_10": "ApiError", "err_5004": "ApiError",
             "err_7001": "ApiError", "err_403_geo": "GeoBlockedError",
             "err_403_access": "IPBannedError", "err_403_cloudfront_bad": "ForbiddenError",
             "ok_index": "BadPayloadError", "ok_docs_server_time": "BadPayloadError",
             "ok_docs_recent_trade": "BadPayloadError"}  # fmt: skip
    for prefix, kind in names.items():
        for path in sorted(folder.glob(f"{prefix}*")):
            bybit._banned_until.clear()
            status = 403 if "_403_" in path.name else 200
            with StaticServer(path.read_text(), status) as url:
                with pytest.raises(getattr(market, kind)):
                    fetch(base_url=url)


def test_every_recorded_body_ends_in_closed_candles_or_a_named_error(fetch, recordings):
    bodies = [
        p for p in (recordings / "fixtures").iterdir() if p.suffix in (".json", ".html", ".txt")
    ]
    assert len(bodies) > 25
    for path in bodies:
        bybit._banned_until.clear()
        text = path.read_text()
        page = re.match(r"page_linear_([A-Z]+)_5_limit(\d+)", path.name)
        symbol = page[1] if page else "BTCUSDT"
        with StaticServer(text, 403 if "_403_" in path.name else 200) as url:
            try:
                candles = fetch(symbol, limit=1000, base_url=url)
            except market.BybitError as error:
                assert not page and len(str(error)) < 450, path.name
            else:
                want = [int(page[2]) - 1] if page else range(6)  # row 0 of a page is open
                assert len(candles) in want, path.name
                assert not page or candles.span[1] <= json.loads(text)["time"], path.name


def test_recorded_open_candles_are_not_final(fetch, recordings):
    folder = recordings / "fixtures"
    pairs = json.loads((folder / "open_candle_partial_vs_final.json").read_text())
    text = (folder / "page_linear_BTCUSDT_5_limit200_last_open.json").read_text()
    with StaticServer(text) as url:
        candles = fetch(base_url=url)
    seen = [p for p in pairs if p["symbol"] == "BTCUSDT" and p["start_ms"] > candles.start[-1]]
    assert seen and all(p["partial_ohlcv"] != p["final_ohlcv"] for p in pairs)


def test_recorded_year_through_the_replay(fetch, recordings):
    path = recordings / "market" / "bybit_linear_BTCUSDT_5m_2025.csv"
    rows = read_csv(path)[-3000:]
    with Replay({"BTCUSDT": rows}) as server:
        candles = fetch(base_url=server.url, limit=2500)
    assert candles.close.tolist() == [float(row[4]) for row in rows[-2500:]]
    assert np.allclose(candles.turnover, candles.volume * candles.close)


def span(a, b, rows=None):
    return starts(book() if rows is None else rows)[a:b]


TIMES = [
    T0, T0 / 1000, T0 // 1000, T0 * 1000, T0 * 10**6, float(T0), str(T0), str(T0 // 1000),
    "2025-01-01", "2025-01-01 00:00", "2025-01-01T01:00:00+01:00", "20250101", date(2025, 1, 1),
    datetime(2025, 1, 1), datetime(2025, 1, 1, tzinfo=UTC), np.datetime64("2025-01-01"),
    np.datetime64(T0, "ms"), np.int64(T0), np.float64(T0),
]  # fmt: skip


@pytest.mark.parametrize("start", TIMES, ids=repr)
def test_a_time_in_any_form_is_the_same_moment(fetch, start):
    assert market.moment(start) == T0
    if not isinstance(start, int):
        with serve() as server:
            assert fetch(base_url=server.url, start=start, limit=3).start.tolist() == span(0, 3)


@pytest.mark.parametrize(
    ("start", "says"),
    [("soon", "no ISO date"), ("", "no ISO date"), (True, "a bool"), (12345, "unit is unclear"),
     (-T0, "unit is unclear"), (np.float32(T0), "a float32"), ([T0], "a list"),
     (math.nan, "unit is unclear"), (math.inf, "unit is unclear"), (b"2025", "a bytes"),
     (np.datetime64("NaT"), "no moment"), (np.datetime64("12000-01-01"), "1970 to 9999"),
     (date(1969, 12, 31), "1970 to 9999"), (10**30, "unit is unclear")],
)  # fmt: skip
def test_a_time_that_is_unclear_is_refused_before_any_call(fetch, start, says):
    for name in ("start", "end"):
        with serve() as server, pytest.raises(ValueError, match=rf"{name} is .*{says}"):
            fetch(base_url=server.url, **{name: start})
        assert server.requests == []


def test_pandas_times():
    pd = pytest.importorskip("pandas")
    assert market.moment(pd.Timestamp("2025-01-01 01:00", tz="Europe/Berlin")) == T0
    with pytest.raises(ValueError, match="no moment"):
        market.moment(pd.NaT)


@pytest.mark.parametrize("limit", ["200", 1.5, True, 0, -1, math.nan, 10**9])
def test_a_limit_is_a_whole_number(fetch, limit):
    with pytest.raises(ValueError, match=r"limit is .*expected"):
        fetch(limit=limit)
    with pytest.raises(ValueError, match=r"n is .*expected"):
        market.load_candles(n=limit)


@pytest.mark.parametrize("symbol", ["BTC/USDT", "<b>BTC</b>", "", "BTC USDT", None, "../x"])
def test_a_symbol_that_no_market_has(fetch, symbol):
    with pytest.raises(ValueError, match="writes it like BTCUSDT"):
        fetch(symbol)


@pytest.mark.parametrize("limit", [10, 1000, 1001, 1500, 2500, 9999, None])
@pytest.mark.parametrize("begin", [T0 - 2000 * STEP, 0, T0, T0 + 7 * STEP])
def test_start_and_limit_give_the_oldest_rows_before_a_listing_and_across_gaps(fetch, limit, begin):
    rows = book(skip={*range(5, 900), *range(1000, 2300)})
    with serve(rows=rows) as server:
        got = fetch(base_url=server.url, start=begin, limit=limit)
    assert got.start.tolist() == [t for t in starts(rows) if t >= begin][:limit]
    assert len(server.requests) <= 4


class OlderInGaps(Replay):
    """In a gap, ``start`` alone brings rows older than it, and nothing else."""

    def rows(self, query):
        found = super().rows(query)
        if "end" not in query and "start" in query:
            begin = int(query["start"])
            if found and int(found[-1][0]) > begin + 200 * STEP:
                return super().rows({**query, "start": T0, "limit": "3"})
        return found


@pytest.mark.parametrize("limit", [5, 900, 1200, None])
def test_rows_behind_a_gap_are_found_where_start_alone_brings_older_ones(fetch, limit):
    rows = book(skip=range(10, 1100))
    with OlderInGaps({"BTCUSDT": rows}) as server:
        got = fetch(base_url=server.url, start=rows[4][0], limit=limit)
    assert got.start.tolist() == starts(rows)[4:][:limit]


@pytest.mark.parametrize("days", [-1, 1, 400])
def test_a_wrong_clock_of_this_computer_changes_nothing(fetch, monkeypatch, days):
    rows, real = book(), time.time
    now = rows[-1][0] + STEP // 2
    shifted = SimpleNamespace(monotonic=time.monotonic, time=lambda: now / 1000 + 86_400 * days)
    monkeypatch.setattr(bybit, "time", shifted)
    assert real is time.time
    with serve(now=now) as server:
        call = functools.partial(fetch, base_url=server.url)
        assert call(start=T0, limit=None).start.tolist() == starts(rows)[:-1]
        assert call(start=rows[-300][0], limit=2000).start.tolist() == starts(rows)[-300:-1]
        assert call(limit=1500).start.tolist() == starts(rows)[-1500:-1]
        server.always = "no-time"  # its Date header tells the time as well
        assert call(start=T0, limit=None).start.tolist() == starts(rows)[:-1]


@pytest.mark.parametrize("told", [0, None, "soon", -5, math.nan, [], True])
def test_a_useless_time_of_the_answer_counts_as_none(fetch, told):
    half = book()[-1][0] + STEP // 2
    with serve(now=half) as server:
        envelope = server.envelope
        server.envelope = lambda *a, **k: {**envelope(*a, **k), "time": told}
        candles = fetch(base_url=server.url)
    assert len(candles) == 199 and "no time" in candles.source.note


@pytest.mark.parametrize("unit", [1000, 0.001, 1e-6])
def test_a_time_of_the_answer_in_another_unit(fetch, unit):
    half = book()[-1][0] + STEP // 2
    with serve(now=half) as server:
        envelope = server.envelope
        server.envelope = lambda *a, **k: {**envelope(*a, **k), "time": int(half / unit)}
        candles = fetch(base_url=server.url)
    assert len(candles) == 199 and candles.source.note == ""


@pytest.mark.parametrize(
    ("headers", "wait"),
    [({"Retry-After": "nan"}, None), ({"Retry-After": "-3"}, -3.0),
     ({"Retry-After": "inf"}, math.inf),
     ({"Retry-After": "Wed, 01 Jan 2025 00:00:07 GMT"}, 7.0), ({"Retry-After": ""}, None),
     ({"X-Bapi-Limit-Reset-Timestamp": "x", "Retry-After": "2"}, 2.0),
     ({"X-Bapi-Limit-Reset-Timestamp": str(T0 + 500)}, 0.5),
     ({"X-Bapi-Limit-Reset-Timestamp": "nan"}, None)],
)  # fmt: skip
def test_headers_that_tell_a_wait(fetch, waits, monkeypatch, headers, wait):
    clock = SimpleNamespace(monotonic=time.monotonic, time=lambda: T0 / 1000)
    monkeypatch.setattr(bybit, "time", clock)
    assert bybit._told_wait(headers) == pytest.approx(wait)
    with serve() as server:
        answer = server.routes["/v5/market/kline"]
        replies = [(429, headers, "slow down")]
        server.routes["/v5/market/kline"] = lambda q: replies.pop() if replies else answer(q)
        assert len(fetch(base_url=server.url)) == 200
    slept = [0.5] if wait is None else [min(max(wait, 0), 10)]
    assert any(slept[0] <= w <= slept[0] + 0.5 for w in waits) and max(waits) <= 10


@pytest.mark.parametrize("body", [
    "[" * 100_000, '{"retCode": false, "result": {"list": []}}', "null", "[]", "", "\x00",
    '{"retCode": 0, "result": {"list": [["99999999999999999999", "1","1","1","1","1","1"]]}}',
    '{"retCode": 0, "result": {"list": [["1e400", "1","1","1","1","1","1"]]}}',
    '{"retCode": 0, "result": {"list": {"0": 1}}}', '{"retCode": 0, "result": []}',
])  # fmt: skip
def test_a_body_that_nobody_expects_gets_the_named_error(fetch, body):
    with StaticServer(body) as url, pytest.raises(market.BadPayloadError) as caught:
        fetch(base_url=url)
    assert len(str(caught.value)) < 400


def test_error_texts_are_short_and_say_what_to_do(fetch):
    advice = r"check|try|wait|use|run|asked|begins|the connection"
    for fault in FAULTS:
        bybit._banned_until.clear()
        with serve(always=fault, slow=0.8, rows=book(1200)) as server:
            try:
                fetch(base_url=server.url)
            except market.BybitError as error:
                assert len(str(error)) < 330 and re.search(advice, str(error)), fault


@pytest.fixture
def live(monkeypatch):
    """A replay that counts as the exchange itself, so that load_candles keeps its candles."""
    monkeypatch.setattr(bybit, "_is_bybit", lambda host: True)
    with serve(now=book()[2300][0]) as server:
        yield server


def load(server, n, **options):
    return market.load_candles(n=n, base_url=server.url, sleep=lambda s: None, **options)


def test_the_cache_is_topped_up(live):
    assert len(load(live, 2200)) == 2200 and len(live.requests) == 3
    live.now += 2 * STEP
    live.requests.clear()
    candles = load(live, 2200)
    assert candles.start.tolist() == span(102, 2302) and len(live.requests) == 1
    assert candles.source.kind == "live" and "from the cache" in candles.source.note
    fetch = functools.partial(market.fetch_klines, base_url=live.url, cache=True)
    live.requests.clear()
    whole = fetch(start=T0, limit=None)  # the cache holds the later part only
    assert whole.start.tolist() == span(0, 2302)
    live.requests.clear()
    past = fetch(end=book()[2000][0], limit=1500)
    assert live.requests == [] and past.source.kind == "cache"
    assert past.start.tolist() == span(501, 2001)


def test_a_gap_of_the_cache_is_asked_for(live):
    fetch = functools.partial(market.fetch_klines, base_url=live.url, cache=True)
    fetch(start=book()[100][0], limit=200)
    fetch(start=book()[900][0], limit=300)
    assert fetch(start=book()[50][0], limit=1500).start.tolist() == span(50, 1550)
    assert fetch(end=book()[1300][0], limit=1250).start.tolist() == span(51, 1301)


def test_a_cache_that_disagrees_is_said_and_not_used(live, capsys):
    load(live, 500)
    for row in live.books["BTCUSDT"]:
        row[5] = "7.25"
    candles = load(live, 500)
    assert set(candles.volume) == {7.25} and "cache not used" in capsys.readouterr().out
    with pytest.raises(market.CacheError, match="delete it"):
        market.fetch_klines(base_url=live.url, cache=True)


def test_a_cache_of_another_market_is_refused(live, tmp_path):
    load(live, 500)
    (path,) = tmp_path.glob("*.npz")
    path.rename(str(path).replace("BTCUSDT", "ETHUSDT"))
    live.books["ETHUSDT"], live.starts["ETHUSDT"] = live.books["BTCUSDT"], live.starts["BTCUSDT"]
    with pytest.raises(market.CacheError, match="holds BTCUSDT"):
        market.fetch_klines("ETHUSDT", base_url=live.url, cache=True)


def test_candles_are_not_lost_when_the_cache_cannot_be_written(live, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    candles = load(live, 300, cache=tmp_path / "file" / "cache")
    assert len(candles) == 300 and "cache not written" in candles.source.note

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    candles = load(live, 300)
    assert len(candles) == 300 and "No space left" in candles.source.note
    assert [p.name for p in tmp_path.iterdir()] == ["file"]  # no half-written part is left


def test_a_session_that_has_seen_the_market_gets_no_invented_prices(live, tmp_path):
    assert load(live, 300, cache=False).source.kind == "live"
    live.always = "5xx"
    with pytest.raises(market.ApiError) as caught:
        load(live, 300, cache=False)
    assert "no fall-back to the simulator" in caught.value.__notes__[0]


def test_threads_share_the_pace_and_agree(monkeypatch):
    clock = SimpleNamespace(now=1000.0, time=time.time)  # it moves only while a thread waits
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(bybit, "time", clock)
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        clock.now += seconds

    with serve() as server, ThreadPoolExecutor(4) as pool:
        call = functools.partial(market.fetch_klines, base_url=server.url, limit=1500, sleep=sleep)
        results = list(pool.map(lambda _: call(), range(4)))
    assert all(r.start.tolist() == span(1000, 2500) for r in results)
    assert len(server.requests) == 8 and sum(waits) == pytest.approx(7 * bybit.PACE)


@pytest.mark.parametrize("interval", INTERVALS)
def test_every_interval_through_the_replay(fetch, interval):
    rows, t = [], int(floor_start(T0, interval))
    for _ in range(30):
        rows.append([t, 5.0, 5.0, 5.0, 5.0, 1.0])
        t = int(following(t, interval))
    with Replay({"BTCUSDT": rows}, interval=interval, now=t - 1) as server:
        candles = fetch(interval=interval, base_url=server.url)
        assert candles.interval == interval and candles.gaps == [] and len(candles) == 29
        middle = fetch(interval=interval, base_url=server.url, start=rows[3][0] + 1, limit=4)
    assert middle.start.tolist() == starts(rows)[3:7]


@pytest.mark.parametrize("options", [[], ["--symbol", "BTCUSDT"]])
def test_the_documented_replay_serves_a_csv(fetch, tmp_path, options):
    path = tmp_path / "candles.csv"
    rows = ["timestamp,open,high,low,close,volume", *(",".join(map(str, r)) for r in book(300))]
    path.write_text("\n".join(rows))
    command = [sys.executable, "-m", "quantlab.market.replay", path, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert "300 candles of 5 min" in process.stdout.readline()
        name, url = process.stdout.readline().strip().split("=")
        candles = fetch(base_url=url)
        process.terminate()
    assert name == "QUANTLAB_BYBIT_URL" and candles.close.tolist() == [
        r[4] for r in book(300)[100:]
    ]


def test_the_replay_streams_what_it_answers(fetch):
    """Ping, a topic that does not exist, snapshots of the open candle, and the closed one once."""
    from websockets.sync.client import connect

    rows = book(60)
    with serve(rows=rows, now=rows[40][0] + STEP // 2) as server, connect(server.stream) as socket:

        def hear():
            return json.loads(socket.recv(timeout=10))

        def ask(op, *args):
            socket.send(json.dumps({"op": op, "args": args}))
            return hear()

        assert ask("ping")["ret_msg"] == "pong"
        for topic in ("kline.1.BTCUSDT", "kline.5.NONE", "tickers.BTCUSDT"):
            refused = ask("subscribe", topic)
            assert refused["success"] is False and "handler not found" in refused["ret_msg"]
        assert ask("subscribe", "kline.5.BTCUSDT")["success"] is True
        message = hear()
        (candle,) = message["data"]
        assert message["topic"] == "kline.5.BTCUSDT" and message["ts"] == server.now
        assert candle["start"] == rows[40][0] and candle["end"] == rows[41][0] - 1
        assert candle["confirm"] is False and candle["close"] == candle["high"]
        server.now += 3 * STEP
        heard = [hear()["data"][0] for _ in range(4)]
        assert [c["confirm"] for c in heard] == [True, True, True, False]
        candles = fetch(base_url=server.url, limit=4)
        names = ("start", "open", "high", "low", "close", "volume", "turnover")
        for row, c in zip(candles.rows(), heard, strict=False):
            assert list(row) == [float(c[name]) for name in names]
    assert not server.subscribers


def test_the_time_of_a_replay_passes():
    rows = book(60)
    with serve(rows=rows, now=rows[40][0], speed=100_000) as server:
        until = time.monotonic() + 20
        while server.now < rows[45][0] and time.monotonic() < until:
            time.sleep(0.01)
    assert server.now >= rows[45][0]


@pytest.mark.parametrize("cors", [True, False])
def test_pages_of_other_origins_may_read_the_replay(cors):
    with serve() as server:
        server.cors = cors
        answer = requests.get(f"{server.url}/v5/market/kline?symbol=BTCUSDT&interval=5", timeout=9)
    assert ("Access-Control-Allow-Origin" in answer.headers) is cors
