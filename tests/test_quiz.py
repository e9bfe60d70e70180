"""The recall quiz: every choice explains itself, and a careless quiz is refused."""

import json
from pathlib import Path

import pytest

from quantlab.teach import Quiz

ONE = {"question": "What is `2**3` < 9?", "choices": [("`8`", True, "Yes."), ("6", False, "No.")]}
CHAPTERS = sorted((Path(__file__).parent.parent / "chapters").glob("*.ipynb"))


def test_html_explains_each_choice_and_escapes():
    html = Quiz([ONE, ONE])._repr_html_()
    assert html.count("<details") == html.count("<b>") == 4
    assert "<code>2**3</code> &lt; 9" in html
    names = [part.split("'")[1] for part in html.split("name=")[1:]]
    assert names[0] == names[1] != names[2] == names[3]


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([], "no questions"),
        ([{"question": "x"}], "expected 'question' and 'choices'"),
        ([{**ONE, "choices": [("a", False, "b"), ("c", False, "d")]}], "one of them right"),
        ([{**ONE, "choices": [("a", True, "b"), ("c", False, " ")]}], "'c' of question 1"),
    ],
)
def test_careless_quizzes_are_refused(questions, message):
    with pytest.raises(ValueError, match=message):
        Quiz(questions)


def test_open_backtick_is_refused():
    with pytest.raises(ValueError, match="backtick"):
        Quiz([{**ONE, "question": "`a"}])._repr_html_()


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapter_quizzes_have_six_to_ten_questions(path):
    cells = json.loads(path.read_text("utf8"))["cells"]
    quizzes = [s for c in cells if "Quiz(" in (s := "".join(c["source"]))]
    for source in quizzes:
        assert 6 <= source.count('"question":') <= 10
