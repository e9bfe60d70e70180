"""The general explorers under the hand: still axes, named values, pins, presets, the address."""

import numpy as np
import pytest
from harness import SMALL, drag_by_touch, visit, write_page

from quantlab.teach import ArrayExplorer, GridExplorer, Predict

BITS = [2, 3, 4, 6, 8, 12]
WAYS = [f"way {i}" for i in range(9)]
AXES = """(ql) => [...ql.querySelectorAll('svg')].map((s) =>
  [...s.querySelectorAll('text:not(.ql-note, .ql-aside)')].map((t) => t.textContent).join('|'))"""
TOPS = "(ql) => [...ql.querySelectorAll('.ql-panel, .ql-stats')].map((e) => e.offsetTop).join()"


@pytest.fixture
def address(tmp_path):
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(4, 32)) * np.array([[0.01], [0.1], [1], [10]])
    snr = np.add.outer(6.0 * np.array(BITS), np.arange(9.0))
    array = ArrayExplorer(
        spread,
        unit="%",
        controls=("bits", "scheme", "clip", "granularity"),
        panels=("channels", "trace", "staircase", "values", "snr"),
        presets={"INT8": {"bits": 8, "scheme": "asymmetric"}, "few": {"bits": 2}},
    )
    grid = GridExplorer(
        {"bits": BITS, "way": WAYS},
        {
            "SNR": {"values": snr, "low": snr - 1, "high": snr + 1, "unit": "dB"},
            "size": {"values": np.repeat(np.array(BITS)[:, None], 9, 1), "unit": "bytes"},
        },
        x="bits",
        presets={"best": {"bits": 12, "way": "way 8"}},
        guess="snr",
    )
    guess = Predict("Draw.", 6.0 * np.array(BITS), x=BITS, span=(0, 90), name="snr")
    return write_page(tmp_path / "page.html", array, guess, grid)


def parts(page):
    return page.query_selector(".ql-array"), page.query_selector(".ql-grid")


@pytest.mark.parametrize("width", [1200, 390])
def test_axes_and_panels_stand_still_while_a_slider_moves(browser, address, width):
    with visit(browser, address, width=width) as (page, problems):
        for ql in parts(page):
            for slider in ql.query_selector_all("input[type=range]"):
                slider.press("Home")
                first, tops = page.evaluate(AXES, ql), page.evaluate(TOPS, ql)
                for _ in range(15):
                    slider.press("ArrowRight")
                    assert page.evaluate(AXES, ql) == first
                    assert page.evaluate(TOPS, ql) == tops
        assert not problems, problems


def test_a_table_is_a_tab_stop_exactly_while_it_scrolls(browser, address):
    with visit(browser, address) as (page, _):
        stats = parts(page)[1].query_selector(".ql-stats")
        for width in (600, 90, 600):
            stats.evaluate("(e, width) => { e.style.width = `${width}px`; }", width)
            page.wait_for_timeout(150)
            scrolls = stats.evaluate("e => e.scrollWidth > e.clientWidth")
            assert scrolls == (width == 90)
            assert (stats.get_attribute("tabindex") == "0") == scrolls


def test_a_number_has_the_digits_that_its_interval_supports(browser, tmp_path):
    change = {"values": [-0.1518, 2.3456], "low": [-0.616, 2.3411], "high": [0.331, 2.3501]}
    grid = GridExplorer({"bits": [2, 4]}, {"change": change}, x="bits")
    with visit(browser, write_page(tmp_path / "page.html", grid)) as (page, problems):
        seen = page.query_selector(".ql-grid .ql-stats").text_content()
        assert "−0.2" in seen and "−0.6 to 0.3" in seen and "−0.15" not in seen, seen
        page.query_selector(".ql-grid input[type=range]").press("End")
        seen = page.query_selector(".ql-grid .ql-stats").text_content()
        assert "2.346" in seen and "2.341 to 2.35" in seen, seen
        assert not problems, problems


def test_it_starts_where_something_is_to_be_seen(browser, address):
    with visit(browser, address) as (page, _):
        assert parts(page)[0].query_selector("input").input_value() == "3"


def test_five_gray_curves_each_with_a_name(browser, address):
    with visit(browser, address) as (page, _):
        grid = parts(page)[1]
        names = [t.text_content() for t in grid.query_selector_all(".ql-aside")]
        assert len(grid.query_selector_all("svg .ql-ghost")) == len(names) == 5
        assert set(names) <= set(WAYS) - {"way 0"}
        tops = sorted(t.bounding_box()["y"] for t in grid.query_selector_all(".ql-aside"))
        assert min(np.diff(tops)) >= 11, "names lie on each other"


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "touch"])
def test_a_curve_under_the_hand_says_its_name_and_value(browser, address, touch):
    with visit(browser, address, touch=touch) as (page, problems):
        for ql, words in zip(parts(page), ("dB", "way"), strict=True):
            dot = ql.query_selector(".ql-panel svg .ql-dot, .ql-panel svg circle")
            dot.scroll_into_view_if_needed()
            box = dot.bounding_box()
            spot = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.touchscreen.tap(*spot) if touch else page.mouse.move(*spot)
            tip = ql.query_selector(".ql-tip").text_content()
            assert words in tip and any(c.isdigit() for c in tip), tip
        assert not problems, problems


def test_a_pinned_setting_stays_beside_the_next(browser, address):
    with visit(browser, address) as (page, problems):
        for ql in parts(page):
            button = ql.query_selector("text=pin this setting")
            button.press("Enter")
            slider = ql.query_selector("input[type=range]")
            slider.press("End")
            assert ql.query_selector("svg .ql-pinned") and ql.query_selector(".ql-key.ql-pinned")
            assert "inned" in ql.query_selector(".ql-status").text_content()
            assert ql.query_selector(".ql-stats i:not(:empty), .ql-stats th:has-text('pinned')")
            assert button.get_attribute("aria-pressed") == "true"
            button.press("Enter")
            assert not ql.query_selector(".ql-pinned")
        assert not problems, problems


def test_a_preset_moves_every_control_and_says_so(browser, address):
    with visit(browser, address) as (page, _):
        array, grid = parts(page)
        array.query_selector("text=INT8").click()
        assert array.query_selector("input").input_value() == "8"
        assert array.query_selector("select").input_value() == "asymmetric"
        assert array.query_selector("text=INT8").get_attribute("aria-pressed") == "true"
        assert array.query_selector("text=few").get_attribute("aria-pressed") == "false"
        grid.query_selector("text=best").click()
        assert "12\u00a0bits, way 8" in grid.query_selector(".ql-status").text_content()


def test_the_state_stands_in_the_address(browser, address):
    with visit(browser, address) as (page, problems):
        array, grid = parts(page)
        entries = page.evaluate("history.length")
        array.query_selector("input").press("End")
        grid.query_selector("input").press("End")
        grid.query_selector("text=pin this setting").click()
        page.wait_for_function("location.hash.includes('pinned') && location.hash.includes('ql1')")
        shared = page.url
        assert page.evaluate("history.length") == entries, "a slider filled the history"
        said = [ql.query_selector(".ql-status").text_content() for ql in parts(page)]
        for ql in parts(page):
            ql.query_selector("text=back to start").click()
        page.wait_for_function("location.hash === ''")
        assert not problems, problems
    with visit(browser, shared) as (page, problems):
        assert [q.query_selector(".ql-status").text_content() for q in parts(page)] == said
        page.evaluate("location.hash = '#elsewhere'")
        page.go_back()
        page.wait_for_function("location.hash.startsWith('#ql')")
        assert [q.query_selector(".ql-status").text_content() for q in parts(page)] == said
        assert not problems, problems
    nonsense = (
        "#ql1=bits:99,scheme:log,clip:x,granularity:7&ql3=point.bits:77,measure:no,pinned.a:1"
    )
    with visit(browser, address + nonsense) as (page, problems):
        assert parts(page)[0].query_selector("input").input_value() == "3"
        assert not problems, problems


def test_a_reader_is_told_once_the_hand_rests(browser, address):
    with visit(browser, address) as (page, _):
        heard = "[...document.querySelectorAll('.ql-live')].map((e) => e.textContent).join('')"
        page.evaluate(
            "() => { window.told = 0; for (const e of document.querySelectorAll('.ql-live'))"
            " new MutationObserver(() => window.told++).observe(e, { childList: true }); }"
        )
        page.wait_for_timeout(700)
        assert page.evaluate(heard) == "", "a page that opens does not talk"
        slider = parts(page)[0].query_selector("input")
        for _ in range(6):
            slider.press("ArrowRight")
        page.wait_for_function(f"{heard}.includes('9\u00a0bits')")
        assert page.evaluate("window.told") == 1
        slider.press("ArrowLeft")
        slider.press("ArrowRight")
        page.wait_for_timeout(700)
        assert page.evaluate("window.told") == 1, "nothing new was told again"


def test_the_guess_is_drawn_with_the_measured_curve(browser, address):
    with visit(browser, address) as (page, problems):
        grid = parts(page)[1]
        assert not grid.query_selector(".ql-guess")
        page.query_selector(".ql-grip").click()
        page.query_selector(".ql-main").click()
        assert len(grid.query_selector_all(".ql-dot.ql-guess")) == len(BITS)
        assert not problems, problems


def test_a_finger_finds_and_moves_every_control(browser, address):
    with visit(browser, address, width=390, touch=True) as (page, problems):
        assert not page.evaluate(SMALL)
        for slider in page.query_selector_all("input[type=range]"):
            slider.press("End")
            drag_by_touch(page, slider)
            assert slider.input_value() == slider.get_attribute("min")
        assert not problems, problems


def test_paper_holds_explorers_whole(browser, address):
    with visit(browser, address, dark=True) as (page, _):
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.set_viewport_size({"width": 600, "height": 800})
        page.emulate_media(media="print")
        for svg in page.query_selector_all(".ql svg"):
            box, outer = svg.bounding_box(), svg.evaluate("e => e.closest('.ql').clientWidth")
            assert svg.get_attribute("viewBox") and box["width"] <= outer
        color = "getComputedStyle(document.querySelector('.ql')).color"
        assert page.evaluate(color) == "rgb(36, 41, 47)"
