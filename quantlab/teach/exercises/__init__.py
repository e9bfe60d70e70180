"""Exercise checks: exact where the answer is exact, and a hint that names the mistake.

Each chapter's module here holds its exercises: a solution, the cases to try it on, and the
mistakes that readers make, written as functions.
An answer that equals a mistake on every case gets that mistake's hint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np


@dataclass(frozen=True)
class Exercise:
    """One exercise: ``solution`` and ``mistakes`` take the arguments of each tuple in ``cases``.

    ``tolerance`` is the relative difference that still counts as right (0.0: exact).
    """

    key: str
    solution: Callable
    cases: tuple[tuple, ...]
    mistakes: tuple[tuple[Callable, str], ...]
    tolerance: float = 0.0


@dataclass(frozen=True)
class Report:
    """What a check found; shows its message as the cell's output."""

    status: str  # "not attempted" | "right" | "wrong"
    message: str

    def __repr__(self) -> str:
        return self.message


def exercises(chapter: str) -> tuple[Exercise, ...]:
    """All exercises of a chapter, given as two digits ("02"). Taught in chapter 2.

    >>> [e.key for e in exercises("02")][0]
    '02-codes'
    """
    try:
        return import_module(f"{__name__}.ch{chapter}").EXERCISES
    except ModuleNotFoundError as missing:
        raise ValueError(f"exercises: there is no chapter {chapter!r} with exercises") from missing


def check(key: str, attempt: Callable) -> Report:
    """Try ``attempt`` on every case of exercise ``key`` and say what it got right or wrong.

    Returns a :class:`Report` whose text names the mistake it recognizes.
    Raises ValueError for an unknown key. Taught in chapter 2.

    >>> check("02-codes", lambda x, scale, zero_point, qmin, qmax: None)
    02-codes: not attempted yet.
    """
    known = {e.key: e for e in exercises(key.split("-")[0])}
    if key not in known:
        raise ValueError(f"check: no exercise {key!r}; this chapter has {', '.join(known)}")
    exercise = known[key]
    answers = []
    for number, case in enumerate(exercise.cases, 1):
        try:
            answer = attempt(*_copies(case))
        except Exception as error:  # the reader's code may raise anything: show it, with the case
            return Report(
                "wrong",
                f"{key}: your function raised {type(error).__name__} on case {number}: {error}",
            )
        if answer is None or answer is Ellipsis:
            return Report("not attempted", f"{key}: not attempted yet.")
        answers.append(_parts(answer))
    expected = [_parts(exercise.solution(*_copies(case))) for case in exercise.cases]
    if _same(answers, expected, exercise.tolerance):
        how = "exact" if exercise.tolerance == 0.0 else "right within rounding"
        count = sum(part.size for parts in expected for part in parts)
        return Report(
            "right",
            f"{key}: {how}; all {count:,} numbers of {len(expected)} "
            f"case{'s' if len(expected) > 1 else ''} agree.",
        )
    for mistake, hint in exercise.mistakes:
        wrong = [_parts(mistake(*_copies(case))) for case in exercise.cases]
        if _same(answers, wrong, exercise.tolerance):
            return Report("wrong", f"{key}: {hint}")
    return Report("wrong", f"{key}: {_difference(answers, expected)}")


def _copies(case: tuple) -> tuple:
    """The arguments, arrays copied: an answer that writes into its input spoils nothing."""
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in case)


def _parts(answer) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(part) for part in (answer if isinstance(answer, tuple) else (answer,)))


def _same(answers, expected, tolerance: float) -> bool:
    pairs = [
        (a, e)
        for left, right in zip(answers, expected, strict=True)
        for a, e in zip(left, right, strict=False)
    ]
    if any(len(left) != len(right) for left, right in zip(answers, expected, strict=True)):
        return False
    if any(
        a.shape != e.shape or (not np.issubdtype(a.dtype, np.number) and a.dtype != bool)
        for a, e in pairs
    ):
        return False
    if tolerance == 0.0:
        return all(np.array_equal(a, e) for a, e in pairs)
    return all(np.allclose(a, e, rtol=tolerance, atol=0.0) for a, e in pairs)


def _difference(answers, expected) -> str:
    """Say in one sentence how the first differing case differs: number, shape, by how much."""
    for number, (got, want) in enumerate(zip(answers, expected, strict=True), 1):
        if len(got) != len(want):
            return f"case {number} wants {len(want)} results, yours returns {len(got)}."
        for a, e in zip(got, want, strict=True):
            if a.shape != e.shape:
                return f"case {number} wants shape {e.shape}, yours has {a.shape}."
            if not (np.issubdtype(a.dtype, np.number) or a.dtype == bool):
                return f"case {number} wants numbers, yours are of type {a.dtype}."
            gap = np.abs(np.asarray(a, dtype=float) - np.asarray(e, dtype=float))
            wrong = ~(gap == 0.0)  # NaN counts as wrong
            if wrong.any():
                first = tuple(int(i) for i in np.argwhere(wrong)[0])
                where = f" (first at index {first})" if e.ndim else ""
                unclear = np.isnan(gap).any()
                size = "; some are not numbers" if unclear else f", by at most {gap.max():.3g}"
                return (
                    f"shapes agree; in case {number}, {wrong.sum():,} of {e.size:,} numbers "
                    f"differ{where}{size}."
                )
    return "the numbers agree only within rounding; an exact answer is expected."
