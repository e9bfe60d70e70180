"""Recall questions whose every choice explains itself: plain HTML, no kernel and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class Quiz:
    """A list of questions; opening a choice says whether it is right, and why.

    questions: dicts {"question": text, "choices": [(text, right, why), ...]} with two or more
    choices, at least one of them right, and a reason for each. Text between backticks is code.
    Raises ValueError for a question without a right choice or a choice without a reason.
    Taught in chapter 2.

    >>> Quiz([{"question": "How many codes have 3 bits?", "choices": [
    ...     ("6", False, "That is 2 times 3; each bit doubles the count."),
    ...     ("8", True, "2 to the power of 3.")]}])
    Quiz(1 question)
    """

    def __init__(self, questions: Sequence[Mapping]) -> None:
        if not questions:
            raise ValueError("Quiz: no questions came; give a list of dicts")
        for number, item in enumerate(questions, 1):
            if set(item) != {"question", "choices"}:
                raise ValueError(
                    f"Quiz: question {number} has the keys {sorted(item)}; "
                    "expected 'question' and 'choices'"
                )
            choices = item["choices"]
            if len(choices) < 2 or not any(right for _, right, _ in choices):
                raise ValueError(
                    f"Quiz: question {number} needs two or more choices, one of them right"
                )
            for text, _, why in choices:
                if not why.strip():
                    raise ValueError(
                        f"Quiz: the choice {text!r} of question {number} has no reason"
                    )
        self.questions = list(questions)

    def __repr__(self) -> str:
        n = len(self.questions)
        return f"Quiz({n} question{'s' * (n > 1)})"

    def _repr_html_(self) -> str:
        items = "".join(_question(item) for item in self.questions)
        return f"{_STYLE}<div class='ql-quiz'><ol>{items}</ol></div>"


def _question(item: Mapping) -> str:
    group = f"ql-quiz-{next(_serial)}"  # one open choice at a time
    choices = "".join(
        f"<details name='{group}' class='{'ql-right' if right else 'ql-wrong'}'>"
        f"<summary>{_inline(text)}</summary>"
        f"<p><b>{'Right.' if right else 'No.'}</b> {_inline(why)}</p></details>"
        for text, right, why in item["choices"]
    )
    return f"<li><p>{_inline(item['question'])}</p>{choices}</li>"


def _inline(text: str) -> str:
    """Escaped text; what stands between backticks becomes code."""
    parts = escape(text).split("`")
    if len(parts) % 2 == 0:
        raise ValueError(f"Quiz: a backtick is not closed in {text!r}")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))
