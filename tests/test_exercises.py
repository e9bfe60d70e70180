"""Each check accepts its solution, recognizes each listed mistake, and says so differently."""

import re
from pathlib import Path

import numpy as np
import pytest

from quantlab.teach import exercises as ex

FOLDER = Path(ex.__file__).parent
CHAPTERS = sorted(path.stem[2:] for path in FOLDER.glob("ch*.py"))
ALL = [e for chapter in CHAPTERS for e in ex.exercises(chapter)]
MISTAKES = [(e, i) for e in ALL for i in range(len(e.mistakes))]


def test_chapters_found():
    assert "02" in CHAPTERS and len(ALL) == len({e.key for e in ALL})


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.key)
def test_solution_is_right(exercise):
    report = ex.check(exercise.key, exercise.solution)
    assert report.status == "right", report
    assert re.search(r"all [\d,]+ numbers", repr(report))


@pytest.mark.parametrize(
    ("exercise", "i"), MISTAKES, ids=[f"{e.key}-{e.mistakes[i][0].__name__}" for e, i in MISTAKES]
)
def test_mistake_gets_its_own_hint(exercise, i):
    wrong, hint = exercise.mistakes[i]
    report = ex.check(exercise.key, wrong)
    assert report.status == "wrong"
    assert hint in report.message


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.key)
def test_hints_differ_and_placeholder_is_not_attempted(exercise):
    hints = [hint for _, hint in exercise.mistakes]
    assert len(set(hints)) == len(hints) >= 2
    assert ex.check(exercise.key, lambda *a: None).status == "not attempted"
    assert ex.check(exercise.key, lambda *a: ...).message.endswith("not attempted yet.")


def test_unlisted_wrong_answers_are_described():
    solution = ex.exercises("02")[0].solution
    off_by_one = ex.check("02-codes", lambda x, *a: solution(x, *a) + 1)
    said = "in case 1, 7 of 7 numbers differ (first at index (0,)), by at most 1."
    assert said in str(off_by_one)
    shape = ex.check("02-codes", lambda x, *a: np.zeros((2, 2)))
    assert "wants shape (7,), yours has (2, 2)" in shape.message
    count = ex.check("02-parameters", lambda x, bits: 1.0)
    assert "wants 2 results, yours returns 1" in count.message
    raised = ex.check("02-codes", lambda x, *a: x / "2")
    assert raised.status == "wrong" and "raised" in raised.message
    nan = ex.check("02-snr", lambda x, y: np.nan)
    assert nan.status == "wrong"


def test_an_answer_cannot_spoil_its_input():
    def spoils(x, *a):
        x[:] = 0
        return x

    assert ex.check("02-codes", spoils).status == "wrong"
    assert ex.check("02-codes", ex.exercises("02")[0].solution).status == "right"


def test_unknown_keys_name_what_exists():
    with pytest.raises(ValueError, match="02-codes"):
        ex.check("02-nothing", len)
    with pytest.raises(ValueError, match="no chapter '99'"):
        ex.exercises("99")
