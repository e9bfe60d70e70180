"""Every built page as a reader meets it: no network, every control moved, light, dark, phone."""

import json
import re
from pathlib import Path
from statistics import median

import pytest
from harness import CONTRAST, SEEN, SMALL, SWEEP, WANDER, WIDE, drag_by_touch, visit

ROOT = Path(__file__).resolve().parents[2]
QUIZ = r'Quiz\(\s*r?"""(.*?)"""'


def addresses(book, site, path):
    return {"http": f"{site}/{path}", "file": (book / path).resolve().as_uri()}


VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]'


def explorers(page):
    """What was drawn, one for each view that the page holds; predictions are views too."""
    views, drawn = page.query_selector_all(VIEW), page.query_selector_all(".ql")
    assert len(drawn) >= len(views), f"{page.url}: {len(views)} views, {len(drawn)} drawn"
    return page.query_selector_all(".ql:not(.ql-predict)")


def unfold(page):
    """Show everything that predictions gate, as a reader in a hurry does."""
    for skip in page.query_selector_all(".ql-predict .ql-show"):
        if skip.is_visible():
            skip.press("Enter")  # a click would hide the focus ring of what follows


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_page_opens_and_every_control_moves_by_script(browser, book, site, times, path, scheme):
    with visit(browser, addresses(book, site, path)[scheme]) as (page, problems):
        steps: list[float] = []
        for number, ql in enumerate(explorers(page)):
            where = f"{path}, explorer {number}"
            assert ql.query_selector(".ql-status").text_content().strip(), f"{where}: says nothing"
            for index in range(len(ql.query_selector_all("input, select"))):
                result = page.evaluate(SWEEP, [ql, index])
                assert result["pictures"] > 1, f"{where}: control {index} is dead: {result}"
                assert result["same"] <= result["values"] / 2, f"{where}: {index} {result}"
                assert result["said"] > 1, f"{where}: control {index} is not announced"
                assert not result["broken"], f"{where}: control {index} draws no number"
                assert not result["silent"], f"{where}: control {index} has no words"
                steps += result["times"]
            walk = page.evaluate(WANDER, ql)
            assert walk == {"broken": 0, "back": True}, where
        drawn = "performance.getEntriesByName('explorer-drawn')[0]?.startTime"
        if explorers(page):
            times[f"{scheme}: {path}"] = {
                "first plot": round(page.evaluate(drawn)),
                "step": round(median(steps), 1),
                "slowest step": round(max(steps), 1),
            }
        assert not problems, "\n".join(problems)


def test_every_control_moves_by_keyboard_and_mouse(browser, book, site, path):
    with visit(browser, addresses(book, site, path)["http"]) as (page, problems):
        unfold(page)
        for number, ql in enumerate(explorers(page)):
            for control in ql.query_selector_all("input:enabled"):
                by_keyboard(page, ql, control, f"{path}, explorer {number}")
            for control in ql.query_selector_all("select"):
                by_selection(page, ql, control)
        for ql in explorers(page):  # afterwards: a mouse hides the focus ring of what follows
            for control in ql.query_selector_all("input:enabled"):
                by_mouse(page, ql, control)
        assert not problems, "\n".join(problems)


def by_keyboard(page, ql, slider, where):
    """Home, then an arrow for every step to the end, then Home and End."""
    span = [float(slider.get_attribute(k)) for k in ("min", "max", "step")]
    steps = round((span[1] - span[0]) / span[2])
    slider.focus()
    outline = slider.evaluate("e => getComputedStyle(e).outlineStyle")
    assert outline != "none", f"{where}: focus cannot be seen"
    page.keyboard.press("Home")
    assert float(slider.input_value()) == span[0], where
    pictures = {page.evaluate(SEEN, ql)}
    for step in range(1, steps + 1):
        page.keyboard.press("ArrowRight")
        assert float(slider.input_value()) == pytest.approx(span[0] + step * span[2]), where
        if steps <= 20 or step % 10 == 0:
            pictures.add(page.evaluate(SEEN, ql))
    assert len(pictures) > 1, f"{where}: dead by keyboard"
    assert float(slider.input_value()) == pytest.approx(span[1])
    page.keyboard.press("Home")
    page.keyboard.press("End")
    assert float(slider.input_value()) == pytest.approx(span[1])


def by_mouse(page, ql, slider):
    """Dragged from one end to the other; the picture follows."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 9, middle)
    page.mouse.down()
    before = page.evaluate(SEEN, ql)
    page.mouse.move(box["x"] + 2, middle, steps=12)
    page.mouse.up()
    assert float(slider.input_value()) == float(slider.get_attribute("min"))
    assert page.evaluate(SEEN, ql) != before


def by_selection(page, ql, select):
    """Every option chosen in turn by keyboard."""
    options = select.query_selector_all("option")
    select.focus()
    select.select_option(index=0)
    pictures = {page.evaluate(SEEN, ql)}
    for _ in options[1:]:
        page.keyboard.press("ArrowDown")
        pictures.add(page.evaluate(SEEN, ql))
    assert select.input_value() == options[-1].get_attribute("value")
    assert len(pictures) > 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_readable_in_light_and_dark(browser, book, site, path, dark):
    with visit(browser, addresses(book, site, path)["http"], dark=dark) as (page, problems):
        unfold(page)
        for ql in explorers(page):
            seen = page.evaluate(CONTRAST, ql)
            assert seen["dark"] == dark, f"{path}: the ground is not {'dark' * dark or 'light'}"
            assert seen["worst"] >= 4.5, f"{path}: contrast {seen['worst']:.1f}"
        assert not problems, "\n".join(problems)


def test_fits_a_phone_and_a_finger(browser, book, site, path):
    address = addresses(book, site, path)["http"]
    with visit(browser, address, width=390, touch=True) as (page, problems):
        unfold(page)
        wide = page.evaluate(WIDE)
        assert wide["page"] <= wide["limit"], f"{path}: {wide}"
        assert not wide["out"], f"{path}: {wide}"
        assert not page.evaluate(SMALL), path
        for ql in explorers(page):
            for slider in ql.query_selector_all("input[type=range]:enabled"):
                slider.press("End")
                before = page.evaluate(SEEN, ql)
                drag_by_touch(page, slider)
                assert slider.input_value() != slider.get_attribute("max"), f"{path}: touch is dead"
                assert page.evaluate(SEEN, ql) != before, path
        assert not problems, "\n".join(problems)


def test_still_picture_without_javascript(browser, book, path):
    address = (book / path).resolve().as_uri()
    with visit(browser, address, script=False) as (page, _):
        views = page.query_selector_all('script[type="application/vnd.jupyter.widget-view+json"]')
        stills = page.query_selector_all("noscript img")
        assert len(stills) >= len(views), f"{path}: {len(views)} explorers, {len(stills)} stills"
        for still in stills:
            assert still.get_attribute("alt")
            still.scroll_into_view_if_needed()
            box = still.bounding_box()
            assert box and box["width"] > 100 and box["height"] > 60
            assert still.evaluate("e => e.complete && e.naturalWidth") > 100


def quiz_questions(path) -> int:
    """How many questions the page's notebook asks."""
    source = (ROOT / path).with_suffix(".ipynb")
    cells = json.loads(source.read_text("utf8"))["cells"] if source.exists() else []
    text = "\n".join("".join(c["source"]) for c in cells)
    return sum(len(re.findall(r"^\? ", quiz, re.M)) for quiz in re.findall(QUIZ, text, re.S))


def test_every_quiz_choice_explains_itself(browser, book, site, path):
    with visit(browser, addresses(book, site, path)["http"]) as (page, problems):
        questions = page.query_selector_all(".ql-quiz li")
        assert len(questions) == quiz_questions(path)
        for question in questions:
            choices = question.query_selector_all("details")
            for choice in choices:
                choice.query_selector("summary").press("Enter")
                reason = choice.query_selector("p")
                assert reason.is_visible() and len(reason.text_content()) > len("Right. "), path
                still_open = [c for c in choices if c.evaluate("e => e.open")]
                assert len(still_open) == 1, f"{path}: a second choice stays open"
        assert not problems, "\n".join(problems)
