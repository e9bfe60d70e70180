"""Predict, then reveal: folded before the guess; the guess stays beside the answer."""

from itertools import pairwise

import numpy as np
import pytest
from harness import visit, write_page

from quantlab.teach import ArrayExplorer, Predict

REST = (
    "<div class='ql-gated ql-after-{}'><h3 id='inside'>Inside</h3><p>What to notice: wombat.</p>"
    "</div>"
)
FORMS = {
    "choice": lambda: Predict(
        "Up or down?", "up", choices={"up": "", "down": "Why not?"}, name="q", because="It rose."
    ),
    "number": lambda: Predict("How much?", 18.0, span=(0, 50), unit="dB", name="q"),
    "ratio": lambda: Predict("How many times?", 40.0, span=(1, 1000), log=True, name="q"),
    "curve": lambda: Predict(
        "Draw it.", [8, 14, 20, 26], x=[2, 3, 4, 5], span=(0, 50), unit="dB", name="q"
    ),
}


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.fixture
def address(form, tmp_path):
    explorer = ArrayExplorer(np.random.default_rng(0).normal(size=64), bits=3)
    gated = REST.format("q").removesuffix("</div>")
    return write_page(tmp_path / "page.html", FORMS[form](), gated, explorer, "</div>")


def folded(page):
    return (
        not page.get_by_text("wombat").is_visible()
        and not page.query_selector(".ql-array").is_visible()
    )


def by_mouse(page, form):
    if form == "choice":
        page.get_by_role("radio", name="down").click()
        return
    box = page.query_selector(".ql-grip").bounding_box()
    x, y = box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 0.5 * box["width"], y + 20, steps=8)
    page.mouse.up()


def by_touch(page, form):
    if form == "choice":
        page.get_by_role("radio", name="down").tap()
        return
    box = page.query_selector(".ql-grip").bounding_box()
    page.touchscreen.tap(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])


def by_keyboard(page, form):
    if form == "choice":
        page.query_selector(".ql-choices input").focus()
        page.keyboard.press("ArrowDown")
        return
    page.query_selector(".ql-grip").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowRight")


def marks(page, form):
    """The guess and the measured answer stand side by side."""
    if form == "choice":
        badges = [b.text_content() for b in page.query_selector_all(".ql-badge")]
        return badges == ["measured", "your guess"]
    drawn = [f".ql-axes svg .ql-dot.ql-{kind}" for kind in ("guess", "quantized")]
    return all(page.query_selector_all(mark) for mark in drawn)


@pytest.mark.parametrize("hand", [by_mouse, by_touch, by_keyboard], ids=lambda h: h.__name__)
def test_a_guess_unfolds_the_answer_and_stays(browser, address, form, hand):
    with visit(browser, address, touch=hand is by_touch) as (page, problems):
        assert folded(page) and page.query_selector(".ql-main").is_disabled()
        assert not page.query_selector_all(".ql-predict .ql-quantized, .ql-measured")
        hand(page, form)
        assert folded(page), "a touch is not yet a decision"
        page.query_selector(".ql-main").press("Enter")
        assert not folded(page) and marks(page, form)
        said = page.query_selector(".ql-predict .ql-status")
        assert "easured" in said.text_content()
        assert said.evaluate("e => e === document.activeElement"), "focus got lost"
        page.wait_for_function("document.querySelector('.ql-live').textContent.includes('easured')")
        page.reload()
        page.wait_for_selector(".ql-array svg > *", state="attached")
        assert not folded(page) and marks(page, form), "the guess is forgotten"
        page.get_by_text("Guess again").click()
        assert folded(page)
        assert not problems, problems


def test_a_logarithmic_axis_has_ticks_that_do_not_touch(browser, tmp_path):
    for number, span in enumerate([(0.5, 50), (1, 1000), (1e-6, 10)]):
        asked = Predict("How many times?", span[1] / 2, span=span, log=True, name="q")
        for width in (740, 390):
            page_ = write_page(tmp_path / f"{number}.html", asked)
            with visit(browser, page_, width=width) as (page, problems):
                texts = page.query_selector_all(".ql-axes svg text:not(.ql-label, .ql-note)")
                boxes = [t.bounding_box() for t in texts]
                assert len(boxes) >= 3 and all(t.text_content() != "0" for t in texts)
                for left, right in pairwise(boxes):
                    assert left["x"] + left["width"] <= right["x"], f"{span} at {width} px"
                assert not problems, problems


def test_show_me_opens_without_a_guess(browser, address, form):
    with visit(browser, address) as (page, problems):
        page.get_by_text("Show me").click()
        assert not folded(page)
        assert not page.query_selector_all(".ql-predict .ql-guess")
        assert page.query_selector_all(".ql-predict .ql-quantized, .ql-predict .ql-measured")
        assert not problems, problems


def test_without_script_and_on_paper_all_is_visible(browser, address):
    with visit(browser, address, script=False) as (page, _):
        assert page.get_by_text("wombat").is_visible()
    with visit(browser, address) as (page, problems):
        page.emulate_media(media="print")
        box = page.query_selector(".ql-array .ql-panel svg").bounding_box()
        assert page.get_by_text("wombat").is_visible() and box["height"] > 60
        assert page.query_selector(".ql-gated").bounding_box()["height"] > 300
        page.wait_for_selector(".ql-predict .ql-measured, .ql-predict .ql-dot.ql-quantized")
        page.emulate_media(media="screen")
        assert folded(page)
        page.wait_for_selector(
            ".ql-predict .ql-measured, .ql-predict .ql-dot.ql-quantized", state="detached"
        )
        assert not problems, problems


def test_a_link_into_the_folded_part_opens_it(browser, address):
    with visit(browser, f"{address}#inside") as (page, problems):
        assert page.get_by_text("wombat").is_visible()
        assert not problems, problems


def test_a_block_that_waits_for_nobody_opens_and_says_so(browser, tmp_path):
    page_ = write_page(tmp_path / "page.html", FORMS["choice"](), REST.format("typo"))
    with visit(browser, page_) as (page, problems):
        page.wait_for_function("document.querySelector('.ql-gated').className.includes('ql-open')")
        assert ["no prediction is named typo" in p for p in problems] == [True]
