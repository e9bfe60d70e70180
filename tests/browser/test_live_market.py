"""The live model in Chromium: three sources, named, never switched silently; its faults; its log.

The market is a replay on loopback whose clock the test moves in half minutes.
"""

from contextlib import contextmanager

import numpy as np
import pytest
from harness import visit, write_page
from replay import Replay

import quantlab as ql
from quantlab.teach.live_model import LiveModel

STEP = 300_000
FEED = ".ql-feed"


@pytest.fixture(scope="module")
def trained():
    candles = ql.synthetic_candles(4000, seed=7)
    data = ql.prepare(candles)
    return candles, data, ql.train_seeds(data, seeds=(0,), epochs=6)[0]


@pytest.fixture(scope="module")
def market():
    return ql.synthetic_candles(2600, seed=8, symbol="BTCUSDT", liquidation=False)


@pytest.fixture
def opened(browser, trained, market, tmp_path):
    """A page with the live model, and the replay that plays the market: (page, server)."""

    @contextmanager
    def go(width=1000, problems_allowed=(), rows=None, **faults):
        candles, data, model = trained
        now = int(market.start[2000]) + 40_000
        with Replay({"BTCUSDT": rows or market.rows()}, now=now, **faults) as server:
            widget = LiveModel(model, data, candles, rows=400, symbols=("BTCUSDT", "NOSUCH"))
            widget.spec = widget.spec | {"hosts": {"rest": server.url, "stream": server.stream}}
            address = write_page(tmp_path / "live.html", "<h1>bench</h1>", widget)
            with visit(browser, address, width=width) as (page, problems):
                yield page, server
                told = [p for p in problems if not any(a in p for a in problems_allowed)]
                assert not told, told

    return go


def click(page, text):
    page.get_by_role("button", name=text).first.click()


def feed(page):
    return page.text_content(FEED)


def wait_for(page, words, where=FEED):
    page.wait_for_function(
        "([s, w]) => document.querySelector(s).textContent.includes(w)", arg=[where, words]
    )


def pressed(page):
    return page.evaluate(
        "[...document.querySelectorAll('.ql-source [aria-pressed=true]')].map((b) => b.textContent)"
    )


def ask(page, symbol="BTCUSDT"):
    click(page, "live Bybit")
    click(page, f"ask for {symbol}")


def drawn(page):
    return page.evaluate("document.querySelector('.ql-board').innerHTML")


def test_nothing_is_asked_before_the_click_and_the_click_says_whom(opened):
    with opened() as (page, server):
        sent = []
        page.on("request", lambda r: sent.append(r.url))
        page.wait_for_timeout(1500)
        assert "Simulated market" in feed(page) and "no network" in feed(page)
        before = drawn(page)
        page.wait_for_function(
            "(b) => document.querySelector('.ql-board').innerHTML !== b", arg=before
        )
        click(page, "live Bybit")
        assert server.url in page.text_content(".ql-ask") and server.stream in page.text_content(
            ".ql-ask"
        )
        click(page, "do not ask")
        assert not page.text_content(".ql-ask") and not server.requests and not sent
        assert pressed(page) == ["simulated"]


def test_live_from_the_click_to_scored_decisions(opened):
    with opened() as (page, server):
        ask(page)
        wait_for(page, "Streaming BTCUSDT")
        assert "Replay of a market" in feed(page) and pressed(page) == ["live Bybit …"]
        wait_for(page, "written, not closed", ".ql-written")
        assert "BTCUSDT" in page.text_content(".ql-board")
        for candle in range(1, 4):
            for _ in range(10):
                server.now += 30_000
                page.wait_for_timeout(30)
            wait_for(page, f"Since you came, {candle} decision", ".ql-written")
        rows = page.eval_on_selector_all(".ql-written tbody tr", "l => l.map((r) => r.textContent)")
        assert len(rows) == 4 and "written, not closed" in rows[0]
        assert all(any(w in r for w in ("both right", "both wrong", "the flip")) for r in rows[1:])
        wait_for(page, "closes in 4 min", ".ql-wait")
        click(page, "simulated")
        wait_for(page, "Simulated market")
        assert pressed(page) == ["simulated"]
        page.wait_for_timeout(200)
        assert not server.subscribers, "the stream stays open behind the simulator"


FAULTS = [
    ({"always": "403-html"}, "does not serve this country", ("403",)),
    ({"always": "unreadable"}, "a cross-origin refusal", ("403", "CORS", "failed", "ERR_FAILED")),
    ({"always": "403-frequent"}, "wait 10 minutes", ("403",)),
    ({"always": "five"}, "not seven strings", ()),
    ({"always": "markup"}, "not a finite number", ()),
]


@pytest.mark.parametrize(("faults", "says", "allowed"), FAULTS, ids=[f[1] for f in FAULTS])
def test_a_fault_says_what_it_is_and_the_picture_stays(opened, faults, says, allowed):
    with opened(problems_allowed=allowed, **faults) as (page, server):
        ask(page)
        page.wait_for_selector(f"{FEED} button")
        assert says in feed(page) and "Drawn is still: simulated market" in feed(page), feed(page)
        picture = drawn(page)
        page.wait_for_timeout(1200)
        assert drawn(page) == picture and "SYNTH" in picture, "the last good state stays, still"
        assert pressed(page) == ["simulated"]
        assert not page.query_selector_all(".ql img, .ql h1, .ql script")
        server.always = None
        click(page, "try again")
        wait_for(page, "Streaming BTCUSDT")


def test_a_symbol_that_does_not_exist_and_back(opened):
    with opened() as (page, server):
        ask(page, "NOSUCH")
        page.wait_for_selector(f"{FEED} button")
        assert "10001" in feed(page) and len(server.requests) == 1
        click(page, "back to the simulator")
        wait_for(page, "no network")
        picture = drawn(page)
        page.wait_for_function(
            "(b) => document.querySelector('.ql-board').innerHTML !== b", arg=picture
        )


def test_a_market_that_is_too_young_does_not_mix_with_what_is_drawn(opened, market):
    with opened(rows=market.rows()[1900:]) as (page, server):
        ask(page)
        page.wait_for_selector(f"{FEED} button")
        assert "looks back on 288" in feed(page), feed(page)
        picture = drawn(page)
        for _ in range(11):
            server.now += 30_000
            page.wait_for_timeout(30)
        assert drawn(page) == picture and not server.subscribers


def test_after_a_sleep_only_what_was_written_in_time_is_scored(opened):
    # The page's seconds may outrun a real answer: it is given up and asked for again.
    with opened(problems_allowed=("ERR_ABORTED",)) as (page, server):
        page.clock.install()
        page.reload()

        def pass_until(words, where=FEED):
            for _ in range(200):
                page.clock.run_for(200)
                if words in page.text_content(where):
                    return
                page.wait_for_timeout(20)
            raise AssertionError((words, page.text_content(where)))

        ask(page)
        pass_until("Streaming BTCUSDT")
        server.leap(12 * STEP)
        page.clock.fast_forward(12 * STEP)  # as if a lid had been closed: each timer fires once
        pass_until("Streaming BTCUSDT")
        hour = (server.now // STEP * STEP // 60_000) % 1440
        due = f"{hour // 60:02d}:{hour % 60:02d}"
        pass_until(f"{due}", ".ql-written")  # the candle that is open now is the one decided about
        assert "Since you came, 1 decision at" in page.text_content(".ql-written")
        assert len(page.query_selector_all(".ql-written tbody tr")) == 2


CSV = "date,open,high,low,close,volume\n"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("mine.csv", CSV + "<img src=x onerror=alert(1)>,1,1,1,1,1\n", "time in line 2 is"),
        ("<b>.csv", "hello", "<b>.csv: line 1 has 1 cell; expected at least 6"),
        ("few.csv", CSV + "2025-01-01,1,1,1,1,1\n2025-01-02,1,1,1,1,1\n", "looks back on 24"),
    ],
)
def test_a_bad_file_says_where_and_changes_nothing(opened, name, text, says):
    with opened() as (page, _):
        with page.expect_file_chooser() as chooser:
            click(page, "your file")
        chooser.value.set_files({"name": name, "mimeType": "text/csv", "buffer": text.encode()})
        page.wait_for_selector(f"{FEED} button")
        assert "Your file" in feed(page) and says in feed(page), feed(page)
        assert "SYNTH" in drawn(page) and pressed(page) == ["simulated"]
        assert not page.query_selector_all(".ql img, .ql-feed b b")


def test_a_dropped_file_is_drawn_and_sends_nothing(opened, market):
    columns = (market.start // 1000, market.open, market.high, market.low, market.close)
    text = CSV + "\n".join(
        ",".join(map(repr, np.array(r).tolist())) for r in zip(*columns, market.volume, strict=True)
    )
    with opened() as (page, server):
        sent = []
        page.on("request", lambda r: sent.append(r.url))
        page.evaluate(
            """(text) => {
              const data = new DataTransfer();
              data.items.add(new File([text], 'ETH_USDT-5m.csv', { type: 'text/csv' }));
              document.querySelector('.ql').dispatchEvent(
                new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
            }""",
            text,
        )
        wait_for(page, "Your file: 2,600 candles of ETH_USDT-5m.csv")
        assert "ETHUSDT" in drawn(page) and pressed(page) == ["your file …"]
        assert not sent and not server.requests
        picture = drawn(page)
        page.wait_for_timeout(1200)
        assert drawn(page) == picture, "the simulator goes on behind the file"


def test_a_file_too_large_is_refused_before_it_is_read(opened):
    with opened() as (page, _):
        page.evaluate(
            """() => {
              const data = new DataTransfer(), file = new File(['1'], 'big.csv');
              Object.defineProperty(File.prototype, 'size', { get: () => 3e9 });
              File.prototype.arrayBuffer = () => { throw new Error('it is read'); };
              data.items.add(file);
              document.querySelector('.ql').dispatchEvent(
                new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
            }"""
        )
        page.wait_for_selector(f"{FEED} button")
        assert "it has 3000 MB; expected at most 20" in feed(page)


def test_a_page_left_open_keeps_its_pace(opened):
    """The record forgets its oldest decisions, and the figures go on."""
    with opened() as (page, _):
        page.clock.install()
        page.reload()
        page.clock.run_for(500)
        for _ in range(3):
            click(page, "a second")
        seen = []
        for _ in range(6):
            page.clock.run_for(20_000)
            seen.append(
                int(page.text_content(".ql-tell").split(" of ")[1].split(" ")[0].replace(",", ""))
            )
        assert max(seen) <= 2000 and seen[1] > seen[0] and min(seen[3:]) >= 900, seen
        scored = page.text_content(".ql-written p")
        assert int(scored.split("came, ")[1].split(" ")[0].replace(",", "")) > 2000, (
            "the log counts on"
        )
