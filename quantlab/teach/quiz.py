"""Recall questions whose every choice explains itself: plain HTML, no kernel and no script."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from itertools import count

_serial = count(1)
_STYLE = """<style>
.ql-quiz ol { padding-left: 1.4em; }
.ql-quiz li > p { margin: .9em 0 .3em; font-weight: 600; }
.ql-quiz details { margin: .25em 0; border: 0; padding: 0; background: none; box-shadow: none; }
.ql-quiz summary { cursor: pointer; padding: .2em .5em; border-radius: 5px; }
.ql-quiz summary:hover { background: color-mix(in srgb, currentColor 8%, transparent); }
.ql-quiz details > p { margin: .2em 0 .6em 1.6em; padding-left: .8em; border-left: 3px dotted; }
.ql-quiz details.ql-right > p { border-left-style: solid; }
</style>"""


@dataclass
class Choice:
    """One answer: its text, whether it is right, and why."""

    text: str
    right: bool
    why: str = ""


@dataclass
class Question:
    """A question and its choices."""

    text: str
    choices: list[Choice] = field(default_factory=list)


class Quiz:
    """A list of questions; opening a choice says whether it is right, and why.

    text: one thing after another, each begun by a mark at the start of a line and a space:
    ``?`` a question, ``+`` a right choice, ``-`` a wrong one, ``:`` the reason of the choice
    above it. Any other line continues the one before. Text between backticks is code.
    Raises ValueError, with the line, for a question without a right choice or a choice
    without a reason. Taught in chapter 2.

    >>> Quiz('''
    ... ? How many codes have 3 bits?
    ... - 6
    ... : That is 2 times 3; each bit doubles the count.
    ... + 8
    ... : 2 to the power of 3.
    ... ''')
    Quiz(1 question)
    """

    def __init__(self, text: str) -> None:
        self.questions = _parsed(text)

    def __repr__(self) -> str:
        n = len(self.questions)
        return f"Quiz({n} question{'s' * (n > 1)})"

    def _repr_html_(self) -> str:
        items = "".join(_question(item) for item in self.questions)
        return f"{_STYLE}<div class='ql-quiz'><ol>{items}</ol></div>"


def _parsed(text: str) -> list[Question]:
    """The questions of a text; ValueError with the number of the line that breaks the form."""
    if not isinstance(text, str):
        raise ValueError(f"Quiz: a text is expected, not {type(text).__name__}; see help(Quiz)")
    pieces = []  # [line number, mark, text]
    for number, line in enumerate(text.splitlines(), 1):
        mark, words = line[:1], line[1:].strip()
        if mark and mark in "?+-:" and line[1:2] in ("", " "):
            pieces.append([number, mark, words])
        elif line.strip():
            if not pieces:
                raise ValueError(f"Quiz: line {number} comes before the first question: {line!r}")
            pieces[-1][2] += f" {line.strip()}"
    questions = []
    for number, mark, words in pieces:
        choices = questions[-1].choices if questions else []
        if not words:
            raise ValueError(f"Quiz: nothing follows the {mark!r} in line {number}")
        if words.count("`") % 2:
            raise ValueError(f"Quiz: a backtick is not closed in line {number}: {words!r}")
        if mark == "?":
            questions.append(Question(words))
        elif not questions:
            raise ValueError(f"Quiz: line {number} begins with {mark!r}, before any question")
        elif mark != ":":
            choices.append(Choice(words, mark == "+"))
        elif not choices or choices[-1].why:
            raise ValueError(f"Quiz: the reason in line {number} does not follow a choice")
        else:
            choices[-1].why = words
    if not questions:
        raise ValueError("Quiz: no questions came; begin each with '? '")
    for number, question in enumerate(questions, 1):
        if len(question.choices) < 2 or not any(c.right for c in question.choices):
            raise ValueError(
                f"Quiz: question {number} needs two or more choices, one of them right: "
                f"{question.text!r}"
            )
        for choice in question.choices:
            if not choice.why:
                raise ValueError(
                    f"Quiz: the choice {choice.text!r} of question {number} has no reason; "
                    "give it one in a line that begins with ': '"
                )
    return questions


def _question(item: Question) -> str:
    group = f"ql-quiz-{next(_serial)}"  # one open choice at a time
    choices = "".join(
        f"<details name='{group}' class='{'ql-right' if c.right else 'ql-wrong'}'>"
        f"<summary>{_inline(c.text)}</summary>"
        f"<p><b>{'Right.' if c.right else 'No.'}</b> {_inline(c.why)}</p></details>"
        for c in item.choices
    )
    return f"<li><p>{_inline(item.text)}</p>{choices}</li>"


def _inline(text: str) -> str:
    """Escaped text; what stands between backticks becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))
