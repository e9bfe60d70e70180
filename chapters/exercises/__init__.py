"""The book's exercises: what is asked, the plausible wrong answers, and the one comparison.

A notebook beside this folder imports it by name and asks three things of it::

    import exercises

    exercises.check("05-channel", my_channels)  # right, or which mistake it is
    exercises.solution("05-channel")            # the reference: shows its source, can be called
    exercises.score("03-transfer", my_clip)     # a method of your own, on rows it has not seen

Each chapter has a module here. A mistake stands with its hint, a solution stands once::

    @exercise("05-channel", (square, 8), (square, 4))
    def channels(w, bits): ...

    @mistake("05-channel")
    def one_scale(w, bits):
        '''one scale for the whole matrix: the small rows lose their bits.'''
        ...

The arguments after the key are the cases that an answer is tried on, one tuple each.
Write a solution so that it can be read alone (NumPy is ``np``), in lines of the page's width.
Return integers where integers are asked for: they are compared exactly, floats within 1e-5.
An answer that equals a mistake on every case gets its hint, so add a case that tells them apart.
For exercises on unseen data, see :func:`transfer`.
"""

from __future__ import annotations

import inspect
import linecache
import textwrap
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Report:
    """What a check found; a cell that ends with it shows the message."""

    status: str  # "not attempted" | "right" | "wrong"
    message: str

    def __repr__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Solution:
    """The reference of an exercise: shows its source as the output of a cell, and can be called."""

    function: Callable

    def __call__(self, *args):
        return self.function(*args)

    def __repr__(self) -> str:
        source = textwrap.dedent(inspect.getsource(self.function))
        return source[source.index("def ") :].rstrip()

    def _repr_markdown_(self) -> str:
        return f"```python\n{self!r}\n```"


@dataclass(frozen=True)
class Exercise:
    """One exercise: its reference, the cases to try an answer on, the mistakes with their hints."""

    key: str
    reference: Callable
    cases: tuple[tuple, ...]
    atol: float
    mistakes: list[tuple[Callable, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Transfer:
    """One exercise on unseen data; see :func:`transfer`."""

    key: str
    reference: Callable
    draw: Callable
    measure: Callable
    plain: Callable
    target: float
    unit: str
    count: int

    def series(self, number: int) -> tuple[tuple, object]:
        """Seen rows as a tuple of arguments, and unseen rows, of one series."""
        seen, unseen = self.draw(np.random.default_rng([number, *self.key.encode()]))
        return seen if isinstance(seen, tuple) else (seen,), unseen


@cache
def _reached(task: Transfer, method: Callable) -> float:
    """What a method of ours reaches on unseen rows, over all series."""
    pairs = map(task.series, range(task.count))
    return float(np.mean([task.measure(method(*seen), unseen) for seen, unseen in pairs]))


_known: dict[str, Exercise | Transfer] = {}


def exercise(key: str, *cases: tuple, atol: float = 0.0) -> Callable:
    """Mark the function below as the reference of exercise ``key``, tried on each of ``cases``.

    Floats may differ by 1e-5 of the largest number of the result, and by ``atol``: give one
    where a result may be 0 among others that are not, as in decibels.
    """

    def register(reference: Callable) -> Callable:
        _known[key] = Exercise(key, reference, cases, atol)
        return reference

    return register


def mistake(key: str) -> Callable:
    """Mark the function below as a plausible wrong answer to ``key``; its docstring is the hint."""

    def register(wrong: Callable) -> Callable:
        _known[key].mistakes.append((wrong, " ".join(wrong.__doc__.split())))
        return wrong

    return register


def transfer(
    key: str,
    *,
    draw: Callable,
    measure: Callable,
    plain: Callable,
    target: float,
    unit: str,
    count: int = 8,
) -> Callable:
    """Mark the function below as a good answer to ``key``: a method, judged on unseen rows.

    draw: ``draw(rng)`` makes one series and returns ``(seen, unseen)``; each may be a tuple of
        arrays. Every score draws ``count`` series, from seeds that no chapter uses.
    measure: ``measure(answer, unseen)`` returns a number, larger is better; it raises ValueError
        with the reason for an answer that it cannot use.
    plain: the method that must be beaten; its name stands in the report.
    target: what the mean over the series has to reach, in ``unit``; a test holds that the
        reference reaches it and that ``plain`` does not.

    The answer is a function of the seen rows alone (``answer(seen)``, or ``answer(*seen)`` for
    a tuple). Unseen rows never leave :func:`score`, so nobody reads them by accident.
    Ask for it in a chapter like this::

        **5. Carry it over.** Choose ... on the rows you see. The score is ... on others.

        practice = exercises.rows("03-transfer")  # one series to try things on, the seen part

        def my_clip(x):
            return ...  # your code: any method

        exercises.score("03-transfer", my_clip)
    """

    def register(reference: Callable) -> Callable:
        _known[key] = Transfer(key, reference, draw, measure, plain, target, unit, count)
        return reference

    return register


def chapters() -> list[str]:
    """Chapters with exercises, as two digits.

    >>> chapters()[:2]
    ['01', '02']
    """
    return sorted(path.stem[2:] for path in Path(__file__).parent.glob("ch*.py"))


def of(chapter: str) -> list[Exercise | Transfer]:
    """All exercises of a chapter, given as two digits; ValueError if it has none.

    >>> [e.key for e in of("02")]
    ['02-codes', '02-parameters', '02-snr', '02-transfer']
    """
    if chapter not in chapters():
        raise ValueError(f"exercises: no chapter {chapter!r} here, only {', '.join(chapters())}")
    import_module(f"{__name__}.ch{chapter}")
    return [e for key, e in _known.items() if key.startswith(f"{chapter}-")]


def _find(key: str, kind: type, verb: str):
    found = {e.key: e for e in of(str(key).split("-")[0]) if isinstance(e, kind)}
    if key not in found:
        raise ValueError(f"{verb}: no exercise {key!r}; this chapter has {', '.join(found)}")
    return found[key]


def solution(key: str) -> Solution:
    """The reference of an exercise; as the last value of a cell it shows its source.

    >>> solution("01-bytes")(32, 4, 8)
    256
    """
    return Solution(_find(key, Exercise | Transfer, "solution").reference)


def check(key: str, attempt: Callable) -> Report:
    """Try ``attempt`` on every case of exercise ``key`` and say what it got right or wrong.

    The report names the mistake if it is a known one, else the first case that differs.
    A function that returns None or ``...`` is not attempted yet. ValueError for an unknown key.

    >>> check("01-bytes", lambda rows, columns, bits: ...)
    01-bytes: not attempted yet.
    >>> check("01-bytes", lambda rows, columns, bits: rows * columns * bits)
    01-bytes: in case 1, (32, 4, 8), the result should be 256, yours is 1,024.
    """
    task = _find(key, Exercise, "check")
    answers = []
    for number, case in enumerate(task.cases, 1):
        try:
            answer = attempt(*_copies(case))
        except Exception as error:  # the reader's code may raise anything: show it, with its line
            return Report("wrong", f"{key}: {_raised(attempt, error)}, in case {number}.")
        if _untouched(answer):
            return Report("not attempted", f"{key}: not attempted yet.")
        answers.append(answer)
    expected = [task.reference(*_copies(case)) for case in task.cases]
    verdict = _compare(task, answers, expected)
    if verdict.status == "right":
        return verdict
    with np.errstate(all="ignore"):
        for wrong, hint in task.mistakes:
            results = [wrong(*_copies(case)) for case in task.cases]
            if _compare(task, answers, results).status == "right":
                return Report("wrong", f"{key}: {hint}")
    return verdict


def rows(key: str):
    """The rows that a transfer exercise shows: one series to try a method on.

    >>> rows("03-transfer").shape
    (4000,)
    """
    seen, _ = _find(key, Transfer, "rows").series(-1 % 2**32)
    return seen if len(seen) > 1 else seen[0]


def score(key: str, attempt: Callable) -> Report:
    """Judge a method on rows that it has not seen, over eight series, against the target.

    >>> score("03-transfer", lambda x: ...)
    03-transfer: not attempted yet.
    """
    task = _find(key, Transfer, "score")
    points = []
    for seen, unseen in map(task.series, range(task.count)):
        try:
            answer = attempt(*_copies(seen))
        except Exception as error:  # as in check
            return Report("wrong", f"{key}: {_raised(attempt, error)}.")
        if _untouched(answer):
            return Report("not attempted", f"{key}: not attempted yet.")
        try:
            points.append(float(task.measure(answer, unseen)))
        except ValueError as error:
            return Report("wrong", f"{key}: {error}.")
    reached = bool(np.mean(points) >= task.target)
    return Report(
        "right" if reached else "wrong",
        f"{key}: {np.mean(points):.1f} {task.unit} on rows that your function has not seen "
        f"({task.count} series, {min(points):.1f} to {max(points):.1f}). "
        f"The target, {task.target:g} {task.unit}, is {'reached' if reached else 'not reached'}; "
        f"{task.plain.__name__} gets {_reached(task, task.plain):.1f}, "
        f"the solution {_reached(task, task.reference):.1f}.",
    )


def _untouched(answer) -> bool:
    """Tell whether nothing was filled in: None or ``...``, alone or in every place."""
    if isinstance(answer, (tuple, list)) and answer:
        return all(part is None or part is Ellipsis for part in answer)
    return answer is None or answer is Ellipsis


def _copies(case: tuple) -> tuple:
    """The arguments, arrays copied: an answer that writes into its input spoils nothing."""
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in case)


def _raised(attempt: Callable, error: Exception) -> str:
    """One sentence on an exception: its type, the line of the reader's code, its text."""
    code = getattr(attempt, "__code__", None)
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if code and frame.filename == code.co_filename and frame.lineno >= code.co_firstlineno
    ]
    where = ""
    if own:
        line = linecache.getline(own[-1].filename, own[-1].lineno).strip()
        number = own[-1].lineno - code.co_firstlineno + 1
        where = f" in its line {number}" + (f", `{line}`" if line else "")
    text = str(error).splitlines()[0] if str(error) else "no message"
    return f"your function raised {type(error).__name__}{where}: {text}"


def _array(part) -> np.ndarray:
    """Any container of numbers as an array; ValueError with the reason if it is none."""
    try:
        array = np.asarray(part)
    except ValueError:
        raise ValueError("is a list whose rows differ in length") from None
    if array.dtype == object:
        array = np.asarray(array.tolist())  # numbers that came as objects
    if array.dtype.kind not in "biufc":
        kind = type(part).__name__ if array.ndim == 0 else f"an array of {array.dtype}"
        raise ValueError(f"is {kind}, not numbers")
    return array


def _parts(answer, count: int) -> tuple:
    """The results of one call as a tuple, whatever container holds ``count`` of them."""
    if count == 1:
        return answer if isinstance(answer, tuple) and len(answer) == 1 else (answer,)
    try:
        return tuple(answer.values() if isinstance(answer, dict) else answer)
    except TypeError:  # a single number
        return (answer,)


def _compare(task: Exercise, answers: Sequence, expected: Sequence) -> Report:
    """The one comparison: integers exactly, floats within 1e-5, any dtype and container."""
    numbers, largest = 0, 0.0
    for case, (answer, result) in enumerate(zip(answers, expected, strict=True), 1):
        wanted = result if isinstance(result, tuple) else (result,)
        came = _parts(answer, len(wanted))
        plain = all(np.isscalar(a) for a in task.cases[case - 1])
        where = f"in case {case}, {task.cases[case - 1]}," if plain else f"in case {case}"
        if len(came) != len(wanted):
            said = f"{len(wanted)} results are wanted, yours returns {len(came)}"
            return Report("wrong", f"{task.key}: {where} {said}.")
        for place, (got, want) in enumerate(zip(came, map(np.asarray, wanted), strict=True), 1):
            which = f"result {place} of {len(wanted)}" if len(wanted) > 1 else "the result"
            said, gap = _difference(got, want, task.atol, which)
            if said:
                return Report("wrong", f"{task.key}: {where} {said}.")
            numbers, largest = numbers + want.size, max(largest, gap)
    how = f"approximate, largest difference {largest:.1g}" if largest else "exact"
    return Report("right", f"{task.key}: right, {how}; all {numbers:,} numbers agree.")


def _difference(got, want: np.ndarray, atol: float, which: str) -> tuple[str, float]:
    """What is wrong with one result ('' if nothing is), and the largest difference."""
    try:
        got = _array(got)
    except ValueError as error:
        return f"{which} {error}", 0.0
    if got.size == want.size == 1:
        got = got.reshape(want.shape)  # [x] for x
    if got.shape != want.shape:
        turned = ": it is transposed" if got.T.shape == want.shape else ""
        return f"{which} should have shape {want.shape}, yours has {got.shape}{turned}", 0.0
    if got.dtype.kind in "biu" and want.dtype.kind in "biu":
        wrong = got != want  # 64 bits do not fit into a float
        gap = np.where(wrong, np.abs(got.astype(float) - want.astype(float)), 0.0)
    else:
        allowed = 0.0
        if want.dtype.kind == "f":
            allowed = atol + 1e-5 * np.abs(want[np.isfinite(want)]).max(initial=0.0)
        with np.errstate(invalid="ignore"):
            gap = np.where(got == want, 0.0, np.abs(got - want.astype(float)))
        wrong = ~(gap <= allowed)  # NaN is wrong
    if not wrong.any():
        return "", float(gap.max())
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    values = f"{which} should be {_shown(want[first])}, yours is {_shown(got[first])}"
    if want.ndim == 0:
        return values, 0.0
    largest = f"the largest difference is {gap[wrong].max():.3g}"
    if not np.isfinite(got).all():
        largest = f"{(~np.isfinite(got)).sum():,} of yours are not finite"
    return (
        f"the shape is right and {wrong.sum():,} of {want.size:,} numbers differ: "
        f"at index {first} {values}; {largest}"
    ), 0.0


def _shown(number) -> str:
    return f"{number:,}" if np.asarray(number).dtype.kind in "iu" else f"{number:.7g}"
