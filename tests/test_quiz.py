"""The recall quiz: every choice explains itself, and a careless quiz is refused."""

import json
import re
from html import unescape
from pathlib import Path

import pytest

from quantlab.teach import Quiz

ONE = """
? What is `2**3` < 9?
  A second line of the question.
+ `8`
: Yes.
- 6, or
-3
: No.
  2 * 3 is.
"""
CHAPTERS = sorted((Path(__file__).parent.parent / "chapters").glob("*.ipynb"))


def test_text_is_read():
    (question,) = Quiz(ONE).questions
    assert question.text == "What is `2**3` < 9? A second line of the question."
    assert [(c.text, c.right, c.why) for c in question.choices] == [
        ("`8`", True, "Yes."),
        ("6, or -3", False, "No. 2 * 3 is."),
    ]


def test_html_explains_each_choice_and_escapes():
    html = Quiz(ONE + ONE)._repr_html_()
    assert html.count("<details") == html.count("<summary>") == html.count("<b>") == 4
    assert "<code>2**3</code> &lt; 9" in html
    names = [part.split("'")[1] for part in html.split("name=")[1:]]
    assert names[0] == names[1] != names[2] == names[3]
    assert "<script" not in html
    assert "&lt;script&gt;" in Quiz(ONE.replace("6", "<script>"))._repr_html_()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no questions"),
        ([{"question": "x"}], "a text is expected, not list"),
        ("x\n? q", "line 1 comes before the first question"),
        ("+ a\n: b", "line 1 begins with '\\+', before any question"),
        ("? q\n: b", "reason in line 2 does not follow a choice"),
        ("? q\n+ a\n: b\n: c", "reason in line 4 does not follow"),
        ("? q\n+ a\n: b", "question 1 needs two or more"),
        ("? q\n- a\n: b\n- c\n: d", "one of them right"),
        ("? q\n+ a\n: b\n- c", "choice 'c' of question 1 has no reason"),
        ("? q\n+ a\n:\n- c\n: d", "nothing follows the ':' in line 3"),
        ("? `a\n+ a\n: b\n- c\n: d", "backtick is not closed in line 1"),
    ],
)
def test_careless_quizzes_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Quiz(text)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapter_has_one_quiz_of_six_to_ten_questions(path):
    cells = json.loads(path.read_text("utf8"))["cells"]
    texts = [
        match[1]
        for cell in cells
        if (match := re.search(r'Quiz\(\s*r?"""(.*?)"""', "".join(cell["source"]), re.S))
    ]
    (text,) = texts
    quiz = Quiz(text)
    assert 6 <= len(quiz.questions) <= 10
    shown = unescape(re.sub("<style>.*?</style>|<[^>]+>", "", quiz._repr_html_(), flags=re.S))
    for question in quiz.questions:
        assert question.text.replace("`", "") in shown
        assert all(c.why.replace("`", "") in shown for c in question.choices)
