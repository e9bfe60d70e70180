"""The live model, alone on a page: its controls, its log; phone, dark, less motion.

Its sources and their faults are in test_live_market.py.
"""

import pytest
from harness import CONTRAST, SMALL, SWEEP, WANDER, WIDE, visit, write_page
from test_grabbing import THEME

import quantlab as ql
from quantlab.teach import LiveModel

TEXT = "(name) => document.querySelector(name)?.textContent ?? ''"
ROWS = "() => document.querySelectorAll('.ql-written tbody tr').length"
PRESSED = """() => [...document.querySelectorAll('.ql-source button[aria-pressed=true]')]
  .map((b) => b.textContent)"""
DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name, { type: "text/csv" }));
  document.querySelector('.ql').dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def made():
    candles = ql.synthetic_candles(6000, seed=7)
    data = ql.prepare(candles)
    model = ql.train_seeds(data, seeds=(0,), epochs=5)[0]
    aware = ql.quantization_aware_train(model, data.train.x, data.train.y, 2, epochs=1)
    return {"rounded": model, "trained on 2 bits": aware}, data, candles


@pytest.fixture(scope="module")
def address(made, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("live") / "live.html", LiveModel(*made, rows=300))


def text(page, name):
    return page.evaluate(TEXT, name)


def pause(page):
    page.click("button:text('pause')")


def test_every_control_changes_the_picture_and_says_so(browser, address):
    with visit(browser, address) as (page, problems):
        pause(page)
        ql = page.query_selector(".ql")
        for index in range(len(ql.query_selector_all("input, select"))):
            result = page.evaluate(SWEEP, [ql, index])
            assert result["pictures"] > 1 and result["said"] > 1, (index, result)
            assert result["same"] <= result["values"] / 2, (index, result)
            assert not result["broken"] and not result["silent"], (index, result)
        page.wait_for_timeout(1500)  # the sweep fills in, frame by frame
        assert page.evaluate(WANDER, ql) == {"broken": 0, "back": True}
        assert not problems, "\n".join(problems)


def test_it_moves_by_itself_pauses_and_keeps_a_log(browser, address):
    with visit(browser, address) as (page, problems):
        assert text(page, ".ql-feed").startswith("Simulated market")
        assert page.evaluate(ROWS) == 1  # what is written before the first candle closes
        assert "written, not closed" in text(page, ".ql-written")
        page.wait_for_function(f"() => ({ROWS})() > 2", timeout=8000)
        head = text(page, ".ql-written p")
        assert "decisions at this setting" in head or "decision" in head
        pause(page)
        page.wait_for_timeout(400)
        before = text(page, ".ql-written")
        page.wait_for_timeout(1500)
        assert text(page, ".ql-written") == before
        slider = page.query_selector(".ql input")
        slider.focus()
        page.keyboard.press("Home")
        assert "No candle has closed yet at this setting" in text(page, ".ql-written")
        assert "(W1A8)" in text(page, ".ql-written tr:has(td)")
        page.click("button:text('play')")
        page.wait_for_function(
            "() => document.querySelector('.ql-written p').textContent.includes('at this setting:')"
        )
        assert not problems, "\n".join(problems)


def test_a_violent_candle_shows_which_grid_is_cut(browser, address):
    with visit(browser, address) as (page, problems):
        pause(page)
        board = ".ql-board:has(.ql-ruler-body)"
        calm, log = text(page, board), text(page, ".ql-written")
        page.click("button:text('a violent candle')")
        assert "cut" in text(page, board) and text(page, board) != calm
        assert "After a candle that falls" in text(page, ".ql-panels")
        assert text(page, ".ql-written") == log, "an invented candle is in the log"
        page.click("button:text('a violent candle')")
        assert text(page, board) == calm
        assert not problems, "\n".join(problems)


def test_nothing_is_asked_before_the_button_that_says_whom(browser, address):
    with visit(browser, address) as (page, problems):
        page.click("button:text('live Bybit')")
        said = text(page, ".ql-ask")
        assert "api.bybit.com" in said and "stream.bybit.com" in said
        page.click("button:text('do not ask')")
        page.wait_for_timeout(300)
        assert not text(page, ".ql-ask") and not problems, "\n".join(problems)
        page.click("button:text('live Bybit')")
        page.click("button:text('ask for ETHUSDT')")
        page.wait_for_function(
            "() => document.querySelector('.ql-feed.ql-fault, .ql-feed.ql-warn')"
        )
        asked = [p for p in problems if p.startswith("external request: https://api.bybit.com/")]
        assert asked and "ETHUSDT" in "".join(asked)
        assert text(page, ".ql-feed").startswith("Live Bybit:")
        assert page.evaluate(PRESSED) == ["simulated"], "another source than the one drawn is named"
        assert "SYNTH" in text(page, ".ql-board"), "the last good picture is gone"


def test_words_of_a_file_are_never_markup(browser, address):
    with visit(browser, address) as (page, problems):
        page.evaluate(DROP, ["<img src=x onerror=alert(1)>.csv", "<b>no</b>,<i>candles</i>\n1,2"])
        page.wait_for_function("() => document.querySelector('.ql-feed.ql-fault')")
        assert not page.query_selector(".ql img, .ql-feed i")
        assert not problems, "\n".join(problems)


def test_on_a_phone_in_the_dark(browser, address):
    with visit(browser, address, width=390, dark=True, touch=True) as (page, problems):
        page.evaluate(THEME, True)
        for press in (None, "live Bybit", "a violent candle"):
            if press:
                page.click(f"button:text('{press}')")
            wide = page.evaluate(WIDE)
            assert wide["page"] <= wide["limit"] and not wide["out"], wide
            assert not page.evaluate(SMALL)
            seen = page.evaluate(CONTRAST, page.query_selector(".ql"))
            assert seen["dark"] and seen["worst"] >= 4.5, seen
        assert not problems, "\n".join(problems)


@pytest.mark.parametrize("press", [None, "live Bybit", "a violent candle"])
def test_axe_finds_nothing_serious(browser, address, press):
    access = pytest.importorskip("test_access", reason="no axe-core: objects are not audited")
    with visit(browser, address, width=740) as (page, problems):
        pause(page)
        if press:
            page.click(f"button:text('{press}')")
        page.evaluate(access.RULES)
        assert not page.evaluate(access.RUN)
        assert not problems, "\n".join(problems)


def test_less_motion_and_one_announcement_a_candle(browser, address):
    with visit(browser, address) as (page, problems):
        page.emulate_media(reduced_motion="reduce")
        page.reload()
        page.wait_for_function("() => document.querySelector('.ql-board rect')")
        page.evaluate("""() => {
          window.said = []; window.drawn = 0;
          new MutationObserver(() => said.push(1)).observe(
            document.querySelector('.ql-live'), { childList: true });
          new MutationObserver(() => drawn++).observe(
            document.querySelector('.ql-board g'), { childList: true });
        }""")
        start = page.evaluate(ROWS)
        page.wait_for_function(f"() => ({ROWS})() > {start + 1}", timeout=9000)
        closed = page.evaluate(ROWS) - start
        assert page.evaluate("said.length") <= closed + 1
        assert page.evaluate("drawn") <= closed + 1, "candles grow for those who asked for calm"
        assert not problems, "\n".join(problems)
