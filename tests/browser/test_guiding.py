"""The guide, alone on a page: its list, its slider, its links and its way back."""

import pytest
from harness import visit, write_page

from quantlab.teach import Guide


@pytest.fixture(scope="module")
def page_of_a_guide(tmp_path_factory):
    guide = Guide(
        {"strategy": ["trend", "pair"], "bytes": ["90", "300", "900"]},
        {
            "bits": (["strategy", "bytes"], lambda s, b: (f"{s}, {b} bytes", "14-strategies")),
            "place": (["strategy"], lambda s: f"where {s} runs"),
        },
        sliders=["bytes"],
    )
    return write_page(tmp_path_factory.mktemp("guide") / "guide.html", guide)


def test_every_control_changes_the_lines_that_depend_on_it(browser, page_of_a_guide):
    with visit(browser, page_of_a_guide) as (page, problems):
        lines = lambda: [d.text_content().strip() for d in page.query_selector_all(".ql dd")]  # noqa: E731
        assert lines() == ["trend, 90 bytes chapter 14", "where trend runs"]
        heard = {page.text_content(".ql-status")}
        page.select_option(".ql select", label="pair")
        heard.add(page.text_content(".ql-status"))
        assert lines() == ["pair, 90 bytes chapter 14", "where pair runs"]
        page.focus(".ql input[type=range]")
        page.keyboard.press("End")
        assert lines() == ["pair, 900 bytes chapter 14", "where pair runs"]
        heard.add(page.text_content(".ql-status"))
        assert len(heard) == 3, f"a control is not announced: {heard}"
        assert page.get_attribute(".ql input[type=range]", "aria-valuetext") == "900"
        assert page.query_selector(".ql dd a").get_attribute("href").startswith("14-strategies.")
        page.click("button:text('back to start')")
        assert lines() == ["trend, 90 bytes chapter 14", "where trend runs"]
        assert not problems, "\n".join(problems)
