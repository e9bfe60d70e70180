"""Every thing to grab, alone on a page: by mouse, by touch, by keys; light, dark, phone, print."""

import numpy as np
import pytest
from harness import CONTRAST, WIDE, visit, write_page

from quantlab.market import synthetic_candles
from quantlab.teach import objects

DRAWING = """ql => [...ql.querySelectorAll('.ql-board, .ql-stats, .ql-card')]
  .map((e) => e.innerHTML).join('')"""
# Words of the drawing under the hint, in the first look.
HINT_ON_WORDS = """(ql) => {
  const hint = ql.querySelector('.ql-hint span').getBoundingClientRect();
  return [...ql.querySelectorAll('.ql-board text')].filter((t) => {
    const r = t.getBoundingClientRect();
    return r.left < hint.right && r.right > hint.left
      && r.top < hint.bottom - 1 && r.bottom > hint.top + 1;
  }).map((t) => t.textContent);
}"""
# The colors of the book's theme, light or dark, on a page of its own.
THEME = """(dark) => {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const colors = dark ? ["#14181e", "#ced6dd", "#9ca4af", "#29313d"]
    : ["#fff", "#323232", "#48566b", "#f5f5f5"];
  ["background", "text-base", "text-muted", "surface"].forEach((name, i) =>
    document.documentElement.style.setProperty(`--pst-color-${name}`, colors[i]));
  document.body.style.background = colors[0];
}"""


def series(n=1500):
    return 0.1 * np.random.default_rng(3).standard_t(4, size=n)


def decision():
    x = np.random.default_rng(4).normal(size=(400, 3))
    return objects.Decision(
        x[:, 0],
        {b: x[:, 0] + x[:, 1] / 2**b for b in (1, 2, 4, 8)},
        features=x,
        names=("return", "range / rolling median", "volume / moving average"),
        targets=x[:, 0] + x[:, 2] > 0,
        gains=x[:, 2],
        fee=0.1,
    )


OBJECTS = {
    "ruler": lambda: objects.Ruler(series()),
    "ruler, asymmetric": lambda: objects.Ruler(series() + 0.3, scheme="asymmetric", bits=4),
    "clip": lambda: objects.Clip(series()),
    "decision": decision,
    "candle": lambda: objects.Candle(synthetic_candles(6000, seed=7)),
    "bits": lambda: objects.Bits(series(12), series(24)[12:]),
    "accumulator": lambda: objects.Accumulator(np.abs(series(24)), series(24)),
    "roofline": lambda: objects.Roofline({"FP32": (32, 90), "INT8": (8, 400)}, 20, batch=8),
    "latent": lambda: objects.Latent(0.3, value=0.8),
    "matrix": lambda: objects.Matrix([[0.5, 1.2], [0.1, 0.9]], [[0.3, -0.9], [1.4, 0.2]]),
}
every = pytest.mark.parametrize("name", OBJECTS)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The address of a page with one object, written once."""
    folder, pages = tmp_path_factory.mktemp("objects"), {}

    def page(name):
        if name not in pages:
            pages[name] = write_page(folder / f"{len(pages)}.html", OBJECTS[name]())
        return pages[name]

    return page


def look(ql):
    picture = ql.evaluate(DRAWING)
    assert not [bad for bad in ("NaN", "undefined", "Infinity") if bad in picture]
    return picture


def grips(ql):
    found = [h for h in ql.query_selector_all(".ql-handle") if h.is_visible()]
    assert found
    return found


def number(grip, name="now"):
    return float(grip.get_attribute(f"aria-value{name}"))


def center(grip):
    grip.scroll_into_view_if_needed()
    box = grip.query_selector(".ql-knob").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@every
def test_by_keys_and_mouse(browser, written, name):
    with visit(browser, written(name)) as (page, problems):
        ql = page.query_selector(".ql")
        start_again = page.query_selector("button:text('back to start')")
        for grip in grips(ql):
            label, start = grip.get_attribute("aria-label"), number(grip)
            grip.focus()
            seen = {look(ql)}
            for key in ("Home", "ArrowRight", "PageUp", "End", "ArrowLeft"):
                before = number(grip)
                page.keyboard.press(key)
                seen.add(look(ql))
                if key in ("ArrowRight", "PageUp"):
                    assert number(grip) > before, f"{label}: {key}"
                assert number(grip, "min") - 1e-9 <= number(grip) <= number(grip, "max") + 1e-9
                assert grip.get_attribute("aria-valuetext"), label
            assert len(seen) >= 4, f"{label}: dead by keyboard"
            assert page.evaluate("document.activeElement.getAttribute('aria-label')") == label
            start_again.click()
            assert number(grip) == pytest.approx(start), label
            values, vertical = set(), grip.get_attribute("aria-orientation") == "vertical"
            free = "ql-xy" in grip.get_attribute("class")  # moves both ways
            x, y = center(grip)
            page.mouse.move(x, y)
            page.mouse.down()
            for step in (-30, -15, 15, 30):
                page.mouse.move(x + step * (free or not vertical), y + step * vertical)
                values.add((number(grip), look(ql)))
            page.mouse.up()
            assert len(values) >= 3, f"{label}: dead by mouse"
            start_again.click()
        assert ql.query_selector(".ql-hint.ql-done")
        assert not problems, "\n".join(problems)


@every
def test_every_control_draws(browser, written, name):
    """Each button, each option and each end of a slider draws numbers and says something."""
    with visit(browser, written(name)) as (page, problems):
        ql = page.query_selector(".ql")
        assert ql.query_selector(".ql-status").text_content().strip()
        for i, slider in enumerate(ql.query_selector_all("input[type=range]")):
            pictures = set()
            for key in ("Home", "End"):
                slider.focus()
                page.keyboard.press(key)
                page.wait_for_timeout(300)  # a glide ends
                pictures.add(look(ql) + ql.query_selector(".ql-status").text_content())
            assert len(pictures) == 2, f"slider {i} is dead"
            assert slider.get_attribute("aria-valuetext")
        for select in ql.query_selector_all("select"):
            pictures = set()
            for option in select.query_selector_all("option"):
                select.select_option(value=option.get_attribute("value"))
                pictures.add(look(ql))
            assert len(pictures) > 1
        for i in range(len(ql.query_selector_all("button"))):
            button = ql.query_selector_all("button")[i]
            if button.is_enabled():
                button.click()
                page.wait_for_timeout(300)
                look(ql)
        assert not problems, "\n".join(problems)


@every
def test_by_touch_on_a_phone(browser, written, name):
    """A finger drags every handle and the page does not scroll under it; nothing sticks out."""
    with visit(browser, written(name), width=390, touch=True) as (page, problems):
        ql, finger = page.query_selector(".ql"), page.context.new_cdp_session(page)
        page.evaluate("document.body.style.paddingBottom = '900px'")  # there is where to scroll
        wide = page.evaluate(WIDE)
        assert wide["page"] <= wide["limit"] and not wide["out"], wide
        board = ql.query_selector(".ql-board").bounding_box()
        assert board["y"] + min(board["height"], 330) <= 844, (
            "the drawing is not in the first screen"
        )
        hint = page.evaluate(HINT_ON_WORDS, ql)
        assert not hint, f"the hint covers {hint}"
        for button in ql.query_selector_all(":scope > .ql-buttons, .ql-controls > .ql-buttons"):
            assert button.bounding_box()["y"] > board["y"], "buttons push the drawing down"
        for button in ql.query_selector_all("button, select, input"):
            if button.is_visible():
                assert button.bounding_box()["height"] >= 43.5, button.text_content()
        for grip in grips(ql):
            label, vertical = (
                grip.get_attribute("aria-label"),
                grip.get_attribute("aria-orientation") == "vertical",
            )
            x, y = center(grip)
            hit = grip.query_selector(".ql-hit").bounding_box()
            assert hit["width"] >= 43 and hit["height"] >= 43, label
            before, scrolled = look(ql), page.evaluate("scrollY")
            points = [{"x": x, "y": y}]
            finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points})
            for step in (-10, -20, -30):
                points = [{"x": x + (0 if vertical else step), "y": y + step}]
                finger.send(
                    "Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points}
                )
            finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            page.wait_for_timeout(100)
            assert look(ql) != before, f"{label}: dead by touch"
            assert page.evaluate("scrollY") == scrolled, f"{label}: the page moved too"
            page.query_selector("button:text('back to start')").click()
        assert not problems, "\n".join(problems)


@every
def test_readable_small_and_printable(browser, written, name):
    with visit(browser, written(name), width=740) as (page, problems):
        ql = page.query_selector(".ql")
        assert ql.bounding_box()["height"] <= 500, "the object does not fit the first screen"
        hint = page.evaluate(HINT_ON_WORDS, ql)
        assert not hint, f"the hint covers {hint}"
        for dark in (False, True):
            page.evaluate(THEME, dark)
            seen = page.evaluate(CONTRAST, ql)
            assert seen["dark"] == dark and seen["worst"] >= 4.5, seen
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 560, "height": 800})
        board = ql.query_selector(".ql-board").bounding_box()
        assert board["width"] <= 560 and board["height"] > 80
        assert not ql.query_selector(".ql-hint").is_visible()
        assert not problems, "\n".join(problems)


@every
def test_axe_finds_nothing_serious(browser, written, name):
    access = pytest.importorskip("test_access", reason="no axe-core: objects are not audited")
    with visit(browser, written(name), width=740) as (page, problems):
        page.evaluate(access.RULES)
        assert not page.evaluate(access.RUN)
        assert not problems, "\n".join(problems)


@every
def test_what_follows_stands_still_once_the_room_is_known(browser, written, name):
    """The room that a readout once took stays its own: a second walk moves nothing."""
    with visit(browser, written(name), width=740) as (page, problems):
        ql = page.query_selector(".ql")
        heights = [[], []]
        for walk in heights:
            for grip in grips(ql):
                grip.focus()
                for key in ("Home", "PageUp", "PageUp", "End"):
                    page.keyboard.press(key)
                    page.evaluate("new Promise(requestAnimationFrame)")  # the room is measured
                    walk.append(round(ql.bounding_box()["height"]))
        assert heights[0] == sorted(heights[0]), heights[0]
        assert len({*heights[1], heights[0][-1]}) == 1, heights
        assert not problems, "\n".join(problems)


def test_the_card_wraps_long_names_and_answers(browser, tmp_path):
    x = np.random.default_rng(4).normal(size=(40, 1))
    names, answers = (
        ("realized_volatility_over_rolling_median",),
        ("stay out of it", "buy the next one"),
    )
    wide = objects.Decision(x[:, 0], {2: x[:, 0]}, features=x, names=names, answers=answers)
    for width in (740, 390):
        with visit(browser, write_page(tmp_path / "card.html", wide), width=width) as (page, _):
            card = page.query_selector(".ql-card")
            assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
            right = card.evaluate("e => e.getBoundingClientRect().right")
            cells = card.query_selector_all("th, td")
            assert (
                max(
                    c.evaluate("e => e.getBoundingClientRect().left + e.scrollWidth") for c in cells
                )
                <= right
            )


def test_the_worst_value_is_found_and_scored(browser, written):
    with visit(browser, written("ruler")) as (page, problems):
        ql = page.query_selector(".ql")
        page.click("text=challenge: find the worst value")
        dot = next(g for g in grips(ql) if g.get_attribute("aria-label").startswith("the value"))
        assert not ql.query_selector(".ql-stop.ql-error"), "the loss shows before the guess"
        dot.focus()
        page.keyboard.press("ArrowRight")
        assert "of the worst there is" in ql.query_selector(".ql-status").text_content()
        for _ in range(250):
            if "Found" in ql.query_selector(".ql-status").text_content():
                break
            page.keyboard.press("ArrowRight")
        assert "halfway between two marks" in ql.query_selector(".ql-status").text_content()
        assert not problems, "\n".join(problems)


@every
def test_what_the_hand_did_stands_in_the_address(browser, written, name):
    with visit(browser, written(name)) as (page, problems):
        ql = page.query_selector(".ql")
        for grip in grips(ql)[:3]:
            grip.focus()
            page.keyboard.press("End")
            page.keyboard.press("ArrowLeft")
        page.wait_for_function("location.hash.startsWith('#ql1=')")
        page.wait_for_timeout(400)
        shared, seen = page.url, look(ql)
    with visit(browser, shared) as (page, more):
        assert look(page.query_selector(".ql")) == seen
        assert not problems + more


def test_an_address_may_not_break_an_object(browser, written):
    """What does not fit is passed over, what fits is taken."""
    good = written("decision") + "#ql1=bits:2,picked:3.7,threshold:0.25"
    bad = written("decision") + "#ql1=bits:7,picked:99999,threshold:1e9,fee:-4"
    for list_ in ("bits", "matrix"):
        with visit(browser, written(list_)) as (page, _):
            whole = look(page.query_selector(".ql"))
        nonsense = written(list_) + "#ql1=b.0:7,b.99:1,a.x:1,values.0:1e9,values.1:x,values.99:0"
        with visit(browser, nonsense) as (page, problems):
            assert look(page.query_selector(".ql")) == whole and not problems
    for address, words in ((good, "logit at 2 bits"), (bad, "logit at 1 bit")):
        with visit(browser, address) as (page, problems):
            assert words in look(page.query_selector(".ql"))
            assert not problems, "\n".join(problems)
