"""Every thing to grab, alone on a page: by mouse, by touch, by keys; light, dark, phone, print."""

import json

import numpy as np
import pytest
from harness import CONTRAST, ROOT, WIDE, visit
from ipywidgets.embed import embed_data

from quantlab.teach import objects

PAGE = """<!doctype html><html lang="en" data-theme="{theme}"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{name}</title><style>
:root {{ --pst-color-background: #fff; --pst-color-text-base: #323232;
  --pst-color-text-muted: #48566b; --pst-color-surface: #f5f5f5; }}
html[data-theme="dark"] {{ --pst-color-background: #14181e; --pst-color-text-base: #ced6dd;
  --pst-color-text-muted: #9ca4af; --pst-color-surface: #29313d; }}
body {{ margin: 10px; background: var(--pst-color-background); }}
</style><script>{loader}</script><body>
<script type="application/vnd.jupyter.widget-view+json">{view}</script>
<script type="application/vnd.jupyter.widget-state+json">{state}</script></html>"""
DRAWING = "ql => [...ql.querySelectorAll('.ql-board, .ql-stats')].map((e) => e.innerHTML).join('')"


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
    "clip": lambda: objects.Clip(series()),
    "decision": decision,
    "ruler-asymmetric": lambda: objects.Ruler(series() + 0.3, scheme="asymmetric", bits=4),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of an object, made once: a function of its name and the theme."""
    folder, loader = tmp_path_factory.mktemp("objects"), ROOT / "book/_static/quantlab-static.js"

    def page(name, theme="light"):
        path = folder / f"{name}-{theme}.html"
        if not path.exists():
            data = embed_data(views=[OBJECTS[name]()], drop_defaults=False)
            state = json.dumps({"state": data["manager_state"]["state"]}).replace("</", "<\\/")
            text = PAGE.format(
                theme=theme,
                name=name,
                loader=loader.read_text("utf8"),
                view=json.dumps(data["view_specs"][0]),
                state=state,
            )
            path.write_text(text, "utf8")
        return path.as_uri()

    return page


def look(ql):
    picture = ql.evaluate(DRAWING)
    assert "NaN" not in picture and "undefined" not in picture and "Infinity" not in picture
    return picture


def grips(ql):
    return [h for h in ql.query_selector_all(".ql-handle") if h.is_visible()]


def number(grip, name="now"):
    return float(grip.get_attribute(f"aria-value{name}"))


@pytest.mark.parametrize("name", OBJECTS)
def test_by_keys(browser, written, name):
    with visit(browser, written(name)) as (page, problems):
        ql = page.query_selector(".ql")
        assert grips(ql)
        for grip in grips(ql):
            label, start = grip.get_attribute("aria-label"), number(grip)
            grip.focus()
            seen = {look(ql)}
            for key in ("Home", "ArrowRight", "ArrowUp", "PageUp", "End", "ArrowLeft", "PageDown"):
                before = number(grip)
                page.keyboard.press(key)
                seen.add(look(ql))
                if key in ("ArrowRight", "ArrowUp", "PageUp"):
                    assert number(grip) > before, f"{label}: {key}"
                assert number(grip, "min") - 1e-9 <= number(grip) <= number(grip, "max") + 1e-9
                assert grip.get_attribute("aria-valuetext"), label
            assert len(seen) >= 6, f"{label}: dead by keyboard"
            assert page.evaluate("document.activeElement.getAttribute('aria-label')") == label
            assert number(grip) != start or len(seen) >= 6
            page.query_selector("button:text('back to start')").click()
            assert number(grip) == pytest.approx(start), label
        assert ql.query_selector(".ql-hint.ql-done")
        assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", OBJECTS)
def test_by_mouse(browser, written, name):
    with visit(browser, written(name)) as (page, problems):
        ql = page.query_selector(".ql")
        for grip in grips(ql):
            label, values = grip.get_attribute("aria-label"), {number(grip)}
            x, y = center(grip)
            vertical = grip.get_attribute("aria-orientation") == "vertical"
            page.mouse.move(x, y)
            page.mouse.down()
            seen = {look(ql)}
            for step in (-30, -15, 15, 30, 45):
                page.mouse.move(x + step * (not vertical), y + step * vertical)
                seen.add(look(ql))
                values.add(number(grip))
            page.mouse.up()
            assert len(seen) >= 3 and len(values) >= 3, f"{label}: dead by mouse"
            page.query_selector("button:text('back to start')").click()
        assert not problems, "\n".join(problems)


def center(grip):
    grip.scroll_into_view_if_needed()
    box = grip.query_selector(".ql-knob").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("name", OBJECTS)
def test_by_touch_on_a_phone(browser, written, name):
    """A finger drags every handle and the page does not scroll under it; nothing sticks out."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    try:
        page = context.new_page()
        page.goto(written(name))
        page.wait_for_selector(".ql-board")
        ql, finger = page.query_selector(".ql"), context.new_cdp_session(page)
        wide = page.evaluate(WIDE)
        assert wide["page"] <= wide["limit"] and not wide["out"], wide
        for button in ql.query_selector_all("button, select, input"):
            if button.is_visible():
                assert button.bounding_box()["height"] >= 43.5, button.text_content()
        for grip in grips(ql):
            x, y = center(grip)
            hit = grip.query_selector(".ql-hit").bounding_box()
            assert hit["width"] >= 40 and hit["height"] >= 40
            before, vertical = look(ql), grip.get_attribute("aria-orientation") == "vertical"
            scrolled = page.evaluate("scrollY")
            points = [{"x": x, "y": y}]
            finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points})
            for step in (-8, -16, -24):
                points = [{"x": x + step * (not vertical), "y": y + step * vertical}]
                finger.send(
                    "Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points}
                )
            page.wait_for_timeout(50)
            finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            page.wait_for_timeout(50)
            assert look(ql) != before, f"{grip.get_attribute('aria-label')}: dead by touch"
            assert page.evaluate("scrollY") == scrolled, (
                f"{grip.get_attribute('aria-label')}: the page scrolled under the finger"
            )
            page.query_selector("button:text('back to start')").click()
    finally:
        context.close()


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_readable_and_small(browser, written, name, theme):
    with visit(browser, written(name, theme), width=740) as (page, problems):
        ql = page.query_selector(".ql")
        seen = page.evaluate(CONTRAST, ql)
        assert seen["dark"] == (theme == "dark") and seen["worst"] >= 4.5, seen
        assert ql.bounding_box()["height"] <= 500, "the object does not fit the first screen"
        assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", OBJECTS)
def test_every_control_draws(browser, written, name):
    """Each button, each option and each end of a slider draws numbers and says something."""
    with visit(browser, written(name)) as (page, problems):
        ql = page.query_selector(".ql")
        assert ql.query_selector(".ql-status").text_content().strip()
        for i, slider in enumerate(ql.query_selector_all("input[type=range]")):
            slider.focus()
            page.keyboard.press("Home")
            first = look(ql)
            page.keyboard.press("End")
            assert look(ql) != first, f"slider {i} is dead"
            assert slider.get_attribute("aria-valuetext")
        for select in ql.query_selector_all("select"):
            pictures = set()
            for option in select.query_selector_all("option"):
                select.select_option(value=option.get_attribute("value"))
                pictures.add(look(ql))
            assert len(pictures) > 1
        for i in range(len(ql.query_selector_all("button"))):
            ql.query_selector_all("button")[i].click()
            page.wait_for_timeout(350)  # a glide ends
            look(ql)
        said = ql.query_selector(".ql-status").text_content()
        page.wait_for_timeout(700)
        assert said and ql.query_selector(".ql-status").text_content()
        page.emulate_media(media="print")
        assert not problems, "\n".join(problems)


def test_the_worst_value_is_found_and_scored(browser, written):
    with visit(browser, written("ruler")) as (page, problems):
        ql = page.query_selector(".ql")
        page.click("text=challenge: find the worst value")
        dot = next(g for g in grips(ql) if g.get_attribute("aria-label").startswith("the value"))
        assert not ql.query_selector(".ql-stop.ql-error"), "the loss shows before the guess"
        dot.focus()
        page.keyboard.press("ArrowRight")
        assert "of the worst there is" in ql.query_selector(".ql-say-line").text_content()
        for _ in range(250):
            if "Found" in ql.query_selector(".ql-say-line").text_content():
                break
            page.keyboard.press("ArrowRight")
        assert "halfway between two marks" in ql.query_selector(".ql-say-line").text_content()
        assert not problems, "\n".join(problems)
