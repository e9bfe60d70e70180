"""The fault table of the live model's market, each row in Chromium against a replay on loopback.

Time runs 30 times as fast in the page and in the replay; only a missing answer is waited for in
real seconds.
"""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from harness import ROOT, serve
from replay import Replay

from quantlab.market import synthetic_candles

SPEED = 30
MINUTE = 60_000
HISTORY = 100
PAGE = """<!doctype html><meta charset="utf-8"><title>bench</title><p id="said"></p>
<script type="module">
import { bybit, fromFile } from "./live_sources.js";
const begin = performance.now(), heard = (window.heard = []);
let jump = 0;
window.sleep = (ms) => { jump += ms; }; // the timers stand still meanwhile
const env = (speed, time) => ({
  now: () => time + jump + (performance.now() - begin) * speed,
  setTimeout: (f, ms) => setTimeout(f, ms === 10000 ? ms : ms / speed), // no answer: real seconds
});
const hear = (e) => {
  heard.push(e);
  if (e.kind === "status") document.getElementById("said").textContent = e.text;
};
window.go = (market, speed, time) => {
  window.stop = bybit(market, env(speed, time - (performance.now() - begin) * speed)).start(hear);
};
window.drop = (text, name) => { fromFile(text, name).start(hear); };
window.codes = () => heard.filter((e) => e.kind === "status").map((e) => e.code);
window.rows = () => heard.reduce(
  (all, e) => (e.kind === "candles" ? e.rows : e.kind === "candle" ? [...all, e.row] : all), []);
window.lived = () => heard.filter((e) => e.kind === "candle").length;
window.ready = true;
</script>"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Address of a page that holds nothing but the sources."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copy(ROOT / "quantlab" / "teach" / "live_sources.js", folder)
    (folder / "page.html").write_text(PAGE, "utf-8")
    with serve(folder) as address:
        yield f"{address}/page.html"


@contextmanager
def market(browser, bench, market=None, skew=0, cors=True, **faults):
    """A page that asks a replay, from the click on: (page, server)."""
    candles = synthetic_candles(2000, seed=3, interval="1", symbol="BTCUSDT", liquidation=False)
    rows = {"BTCUSDT": candles.rows()}
    now = int(candles.start[300]) + MINUTE // 3
    context = browser.new_context()
    with Replay(rows, interval="1", now=now, speed=SPEED, slow=12, **faults) as server:
        server.cors = cors
        stream = server.stream
        page = context.new_page()
        page.goto(bench)
        page.wait_for_function("window.ready")
        asked = {"interval": "1", "rows": HISTORY, "rest": server.url, "stream": stream}
        assert not server.requests, "the page asked before the click"
        time = server.now + skew
        page.evaluate("([m, s, t]) => go(m, s, t)", [asked | (market or {}), SPEED, time])
        try:
            yield page, server
        finally:
            page.evaluate("stop()")
            assert page.query_selector("#said").inner_html().count("<") == 0
            assert not page.query_selector_all("img, b, h1, script:not([type])")
            context.close()


def codes(page):
    return list(dict.fromkeys(page.evaluate("codes()")))


def said(page, code):
    return [e for e in page.evaluate("heard") if e.get("code") == code]


def check(page, server, live=2):
    """The candles that closed are the market's, none wrong, none left out, and more come."""
    page.wait_for_function(f"window.lived() >= {live}", timeout=40_000)
    rows = page.evaluate("rows()")
    truth = {int(row[0]): [float(v) for v in row[:6]] for row in server.books["BTCUSDT"]}
    assert [row[:6] for row in rows] == [truth[row[0]] for row in rows]
    assert set(np.diff([row[0] for row in rows])) == {MINUTE}
    assert rows[-1][0] + MINUTE <= server.now


def test_history_stream_and_stop(browser, bench):
    with market(browser, bench) as (page, server):
        check(page, server, live=3)
        assert [c for c in codes(page) if c != "clock"] == ["asking", "ok", "streaming"]
        first = page.evaluate("heard.find((e) => e.kind === 'candles')")
        assert len(first["rows"]) == HISTORY and first["source"]["kind"] == "replay"
        assert first["source"]["name"] == server.url[7:]
        grown = page.evaluate("heard.filter((e) => e.kind === 'open')")
        assert len(grown) > 10 and all(0 < e["closesIn"] <= MINUTE for e in grown)
        page.evaluate("stop()")
        count = page.evaluate("heard.length")
        page.wait_for_timeout(500)
        assert page.evaluate("heard.length") == count and not server.subscribers


FINAL = {  # what the host does -> the last code, what the reader is told
    "403-html": ("geo-block", "does not serve this country"),
    "403-json": ("geo-block", "does not serve this country"),
    "unreadable": ("cross-origin", "a country block can look the same"),
    "403-frequent": ("banned", "wait 10 minutes without any call"),
    "403-bad-request": ("forbidden", "try another network"),
    "10018": ("banned", "10018 Exceeded the IP Rate Limit"),
    "10001": ("symbol", "10001 params error: symbol invalid; check symbol and interval"),
    "10006": ("rate-limit", "10006 Too many visits"),
    "429": ("rate-limit", "HTTP 429"),
    "5xx": ("server", "HTTP 502"),
    "10016": ("server", "10016 System error"),
    "drop": ("offline", "No connection to 127.0.0.1"),
    "html": ("malformed", "a login page or a proxy may have answered"),
    "truncated": ("malformed", "expected JSON with a retCode"),
    "five": ("malformed", "not seven strings"),
    "markup": ("malformed", "not a finite number"),
    "null": ("malformed", "no list of rows"),
    "echo": ("malformed", 'symbol "OTHER"; expected BTCUSDT'),
}


@pytest.mark.parametrize("fault", FINAL)
def test_the_host_refuses(browser, bench, fault):
    code, words = FINAL[fault]
    with market(browser, bench, always=fault) as (page, server):
        page.wait_for_function("heard.some((e) => e.final)", timeout=40_000)
        end = said(page, code)[-1]
        assert end["final"] and end["level"] == "fault" and words in end["text"], end
        assert end["text"].endswith("What is on screen stays.")
        assert set(codes(page)) <= {"asking", "clock", code}, codes(page)
        asked = len(server.requests)
        page.wait_for_timeout(300)
        assert len(server.requests) == asked, "it asks on after its end"
    passing = code in ("rate-limit", "server", "offline")
    assert (asked >= 7) if passing else (asked <= 2), asked


PASSING = ["10006", "429-told", "5xx", "drop", "truncated", "markup"]


@pytest.mark.parametrize("fault", PASSING)
def test_one_bad_answer_is_got_over(browser, bench, fault):
    faults = [fault, fault] if fault == "drop" else [fault]  # the blind look meets it too
    with market(browser, bench, faults=faults) as (page, server):
        check(page, server)
        told = [e for e in page.evaluate("heard") if "retryInSeconds" in e]
        assert len(told) == 1 and not said(page, "polling")
        assert fault != "429-told" or told[0]["retryInSeconds"] == 20


def test_no_answer(browser, bench):
    with market(browser, bench, faults=["slow"]) as (page, server):
        check(page, server)
        assert "did not answer within 10 s" in said(page, "timeout")[0]["text"]


def test_a_refusal_of_other_origins_is_told_from_a_missing_network(browser, bench):
    with market(browser, bench, cors=False) as (page, server):
        page.wait_for_function("heard.some((e) => e.final)")
        (end,) = said(page, "cross-origin")
        assert "forbids this page to read it" in end["text"] and len(server.requests) == 2
    with market(browser, bench) as (page, server):
        check(page, server)
        page.context.set_offline(True)  # in mid-run: the stream is cut, REST is gone
        page.wait_for_function("heard.some((e) => e.final)", timeout=60_000)
        end = page.evaluate("heard.at(-1)")
        assert end["code"] == "offline" and "This computer is offline" in end["text"]
        assert len(page.evaluate("rows()")) >= HISTORY + 2, "the last good state stays"


def test_a_wrong_symbol(browser, bench):
    with market(browser, bench, {"symbol": "nosuch"}) as (page, server):
        page.wait_for_function("heard.some((e) => e.final)")
        (end,) = said(page, "symbol")
        assert "10001 params error: symbol invalid" in end["text"]
        assert server.requests[0]["symbol"] == "NOSUCH" and len(server.requests) == 1


@pytest.mark.parametrize(("skew", "says"), [(-3_600_000, "60 min slow"), (480_000, "8 min fast")])
def test_a_wrong_clock(browser, bench, skew, says):
    with market(browser, bench, skew=skew) as (page, server):
        check(page, server)
        told = said(page, "clock")[0]["text"]
        assert told == f"This computer's clock is {says}; the exchange's clock is used"


def test_a_tab_asleep_for_an_hour(browser, bench):
    with market(browser, bench) as (page, server):
        check(page, server, live=1)
        before = page.evaluate("rows().at(-1)[0]")
        server.leap(60 * MINUTE)
        page.evaluate("sleep(3600000)")
        page.wait_for_function(f"rows().at(-1)[0] >= {before + 60 * MINUTE}", timeout=40_000)
        check(page, server, live=61)
        assert "slept for 60 min" in said(page, "slept")[0]["text"]
        assert page.evaluate("heard.filter((e) => e.kind === 'candles').length") == 1


STREAM = {  # what the first connection does -> a code that must be heard
    "cut": "stream-cut",
    "reject": "stream-cut",
    "mute": "stream-silent",
    "refuse": "polling",
    "no-json": "malformed",
    "markup": "malformed",
    "early": "early",
    "unconfirmed": None,
    "twice": None,
    "differently": "conflict",
    "missing": None,
}


@pytest.mark.parametrize("fault", STREAM)
def test_a_bad_stream_spoils_no_candle(browser, bench, fault):
    with market(browser, bench, streams=[fault]) as (page, server):
        check(page, server, live=4)
        code = STREAM[fault]
        heard = [c for c in codes(page) if c not in ("asking", "clock", "ok", "streaming")]
        assert heard == ([code] if code else []), codes(page)
        if fault == "cut":
            assert "in" in said(page, code)[0]["text"] and said(page, code)[0]["retryInSeconds"] > 0


@pytest.mark.parametrize("fault", ["reject", "cut"])
def test_where_the_stream_fails_for_good_rest_is_asked(browser, bench, fault):
    with market(browser, bench, stream_always=fault) as (page, server):
        page.wait_for_function("codes().includes('polling')", timeout=40_000)
        check(page, server, live=page.evaluate("lived()") + 2)
        assert "is asked every 10 s instead" in said(page, "polling")[0]["text"]


def test_a_gap_of_the_market_is_said(browser, bench):
    with market(browser, bench, faults=["gap"]) as (page, _):
        page.wait_for_function("codes().includes('gap')")
        assert "3 candles missing in 1 place" in said(page, "gap")[0]["text"]


def test_a_dropped_file_is_read_in_the_page(browser, bench, tmp_path):
    page = browser.new_context().new_page()
    page.goto(bench)
    page.wait_for_function("window.ready")
    sent = []
    page.on("request", lambda r: sent.append(r.url))
    rows = synthetic_candles(5000, seed=1).rows()
    text = "date,open,high,low,close,volume\n" + "\n".join(
        ",".join(map(str, row[:6])) for row in rows
    )
    page.evaluate("([t, n]) => drop(t, n)", [text, "ETH_USDT-5m.csv"])
    assert [row[:6] for row in page.evaluate("rows()")] == [list(row[:6]) for row in rows]
    page.evaluate("([t, n]) => drop(t, n)", ["<img src=x onerror=alert(1)>\n" * 3, "<b>.csv"])
    (end,) = [e for e in page.evaluate("heard") if e.get("final")]
    assert "line 1 has 1 cell; expected at least 6" in end["text"]
    assert not page.query_selector_all("img, b") and not sent
    page.context.close()
