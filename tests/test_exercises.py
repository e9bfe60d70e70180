"""Every reference is right in any form, every mistake is known as itself, hints say why."""

import ast
import inspect
import json
import re
from pathlib import Path

import exercises as ex
import numpy as np
import pytest

CHAPTERS = Path(__file__).parent.parent / "chapters"
ALL = [e for chapter in ex.chapters() for e in ex.of(chapter)]
CHECKS = [e for e in ALL if isinstance(e, ex.Exercise)]
TRANSFERS = [e for e in ALL if isinstance(e, ex.Transfer)]
MISTAKES = [(e, i) for e in CHECKS for i in range(len(e.mistakes))]


def each(function):
    """Apply ``function`` to each result of an answer."""
    return lambda answer: (
        tuple(map(function, answer)) if isinstance(answer, tuple) else function(answer)
    )


def narrow(result):
    """The result in float32; integers stay what they are."""
    result = np.asarray(result)
    return result.astype(np.float32) if result.dtype.kind == "f" else result


FORMS = {
    "float32": each(narrow),
    "float64": each(lambda r: np.asarray(r, float) if np.asarray(r).dtype != "u8" else r),
    "lists": each(lambda r: np.asarray(r).tolist()),
    "tuples": each(lambda r: tuple(r) if np.ndim(r) else r),
    "arrays of one": each(lambda r: r if np.ndim(r) else np.array([r])),
    "objects": each(lambda r: np.asarray(r, object)),
    "a list of results": lambda answer: list(answer) if isinstance(answer, tuple) else answer,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", CHECKS, ids=lambda e: e.key)
def test_reference_is_right_in_every_form(task, form):
    report = ex.check(task.key, lambda *case: FORMS[form](task.reference(*case)))
    assert report.status == "right", report
    assert re.search(r"right, (exact|approximate.*); all [\d,]+ numbers agree", report.message)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("task", CHECKS, ids=lambda e: e.key)
def test_reference_is_right_when_it_computes_in_other_floats(task, dtype):
    def cast(a):
        return a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a

    report = ex.check(task.key, lambda *case: task.reference(*map(cast, case)))
    assert report.status == "right", report


@pytest.mark.parametrize(
    ("task", "i"), MISTAKES, ids=[f"{e.key}-{e.mistakes[i][0].__name__}" for e, i in MISTAKES]
)
def test_mistake_gets_its_own_hint(task, i):
    wrong, hint = task.mistakes[i]
    with np.errstate(all="ignore"):
        for form in (lambda a: a, FORMS["lists"], FORMS["float64"]):
            report = ex.check(task.key, lambda *case: form(wrong(*case)))  # noqa: B023
            assert report.status == "wrong"
            assert hint in report.message


@pytest.mark.parametrize("task", ALL, ids=lambda e: e.key)
def test_unfilled_is_not_attempted(task):
    ask = ex.check if isinstance(task, ex.Exercise) else ex.score
    for nothing in (None, ..., (..., ...)):
        report = ask(task.key, lambda *a: nothing)  # noqa: B023
        assert (report.status, repr(report)) == ("not attempted", f"{task.key}: not attempted yet.")


@pytest.mark.parametrize("task", CHECKS, ids=lambda e: e.key)
def test_hints_differ(task):
    hints = [hint for _, hint in task.mistakes]
    assert len(set(hints)) == len(hints) >= 2
    assert all(hint.endswith(".") or hint.endswith("?") for hint in hints)


@pytest.mark.parametrize("task", ALL, ids=lambda e: e.key)
def test_solution_can_be_read_alone_in_the_page(task):
    shown = ex.solution(task.key)._repr_markdown_().splitlines()
    assert shown[0] == "```python" and shown[1].startswith("def ") and shown[-1] == "```"
    assert max(map(len, shown)) < 80
    names = {n.id for n in ast.walk(ast.parse("\n".join(shown[1:-1]))) if isinstance(n, ast.Name)}
    elsewhere = names & set(vars(inspect.getmodule(task.reference))) - {"np", "math", "ql"}
    assert not elsewhere, "the page shows a solution that uses names which it does not show"


def test_notebooks_ask_for_each_exercise_and_its_solution():
    for chapter in ex.chapters():
        text = next(CHAPTERS.glob(f"{chapter}-*.ipynb")).read_text("utf8")
        asked = set(re.findall(r'exercises\.(?:check|score)\(\\"([\w-]+)', text))
        shown = set(re.findall(r'exercises\.solution\(\\"([\w-]+)', text))
        assert asked == shown == {e.key for e in ex.of(chapter)}


# Right answers written in other ways than the reference.


@pytest.mark.parametrize(
    ("key", "attempt"),
    [
        ("06-snr-for", lambda p: 20 * np.log10(1 / np.tan(np.pi * p))),
        ("06-snr-for", lambda p: 10 * np.log10(np.tan(np.pi * p) ** -2.0)),
        ("06-snr-for", lambda p: 20 * np.log10(np.cos(np.pi * p) / np.sin(np.pi * p))),
        ("06-snr-for", lambda p: np.float32(-20 * np.log10(np.tan(np.float32(np.pi * p))))),
        ("02-snr", lambda x, y: 20 * np.log10(np.linalg.norm(x) / np.linalg.norm(x - y))),
        ("06-snr", lambda x, y: -10 * np.log10(((x - y) ** 2).mean() / (x**2).mean())),
        ("03-percentile", lambda x, p: np.quantile(np.abs(x), p / 100)),
        ("01-flips", lambda a, b: 100 * np.count_nonzero((a > 0) ^ (b > 0)) / len(a)),
        ("01-read", lambda n, mb, gb: [n * mb / gb]),
        ("03-int4", lambda x, a: [a / 7, np.rint(np.clip(x / (a / 7), -7, 7)).tolist()]),
        ("08-binarize", lambda w: [2 * (w >= 0) - 1.0, np.mean(abs(w), axis=1).tolist()]),
        ("01-bytes", lambda r, c, b: (r * c * b + 7) // 8 + r * 4.0),
        ("01-bytes", lambda r, c, b: np.ceil(r * c * b / 8).astype(int) + 4 * r),
        (
            "01-speedup",
            lambda b, c: (
                sorted(b[1:] / c[1:])[len(b[1:]) // 2]
                if len(b) % 2 == 0
                else np.quantile(b[1:] / c[1:], 0.5)
            ),
        ),
        ("02-codes", lambda x, s, z, a, b: np.minimum(np.maximum(np.round(x / s) + z, a), b)),
        (
            "02-codes",
            lambda x, s, z, a, b: [int(min(max(round(float(v)) + z, a), b)) for v in x / s],
        ),
        (
            "02-parameters",
            lambda x, b: {
                "scale": max(x.max(), 0) / (2**b - 1) - min(x.min(), 0) / (2**b - 1),
                "zero": round(min(x.min(), 0) / (min(x.min(), 0) - max(x.max(), 0)) * (2**b - 1)),
            },
        ),
        (
            "03-noise",
            lambda x, a, b: np.array(
                [(a / (2 ** (b - 1) - 1)) ** 2 / 12, np.mean((x - np.clip(x, -a, a)) ** 2)]
            ),
        ),
        ("03-percentile", lambda x, p: np.percentile(abs(x), [p])),
        ("03-observer", lambda pieces: np.abs(pieces).max()),
        ("03-observer", lambda pieces: float(max(abs(v) for piece in pieces for v in piece))),
        (
            "03-histogram",
            lambda pieces, bins: [
                np.histogram(pieces, bins, (0, edge := 2.0 ** np.ceil(np.log2(pieces.max()))))[0],
                edge,
            ],
        ),
        (
            "04-gain",
            lambda a, b, n: (
                20
                * np.log10(
                    max(abs(a), abs(b))
                    * (2**n - 1)
                    / ((2 ** (n - 1) - 1) * (max(b, 0) - min(a, 0)))
                )
            ),
        ),
        (
            "04-symmetric",
            lambda x, b: (
                abs(x).max() / (2 ** (b - 1) - 1),
                np.round(x / (abs(x).max() / (2 ** (b - 1) - 1))),
            ),
        ),
        ("04-fold", lambda w, p, q: (-p * (w.astype(int) - q)).sum(0)),
        (
            "05-channel",
            lambda w, b: [(s := abs(r).max() / (2 ** (b - 1) - 1)) * np.rint(r / s) for r in w],
        ),
        (
            "05-groups",
            lambda w, b, n: np.hstack(
                [ex.solution("05-channel")(w[:, j : j + n], b) for j in range(0, w.shape[1], n)]
            ),
        ),
        ("05-bytes", lambda o, i, b, s: (o * i * b + 7) // 8 + o * i // s * 4),
        (
            "05-equalize",
            lambda x, w, a: (x / (s := abs(x).max(0) ** a * abs(w).max(0) ** (a - 1)), w * s),
        ),
        (
            "06-flips",
            lambda a, b, p: 100 * np.mean((1 / (1 + np.exp(-a)) > p) != (1 / (1 + np.exp(-b)) > p)),
        ),
        ("06-dither", lambda x, s, u: np.round((x + u * s) / s) * s - u * s),
        ("07-nearest", lambda x, levels: abs(x[:, None] - levels).argmin(axis=1)),
        (
            "07-power",
            lambda x: [
                0.0
                if v == 0
                else min((np.copysign(2.0**e, v) for e in range(-30, 9)), key=lambda q: abs(q - v))
                for v in x
            ],
        ),
        ("07-bytes", lambda n, b: np.ceil(n * b / 8) + 2 ** (b + 2)),
        (
            "07-blocks",
            lambda w, levels, n: np.concatenate(
                [
                    levels[abs(r[:, None] / abs(r).max() - levels).argmin(1)] * abs(r).max()
                    for r in w.reshape(-1, n)
                ]
            ).reshape(w.shape),
        ),
        (
            "08-pack",
            lambda x: [
                [
                    sum(int(v >= 0) << i for i, v in enumerate(r[j : j + 64]))
                    for j in range(0, len(r), 64)
                ]
                for r in x
            ],
        ),
        (
            "08-product",
            lambda a, b, k: [[k - 2 * int(np.bitwise_count(u ^ v).sum()) for v in b] for u in a],
        ),
        ("08-bytes", lambda o, k: o * ((k + 63) // 64 * 8 + 4)),
        ("13-closed", lambda s, step, now: sorted(int(t) for t in s if t + step <= now)),
        ("13-median", lambda x, n: np.median(np.lib.stride_tricks.sliding_window_view(x, n), 1)),
        ("13-scaler", lambda x, n: ((x.T - x[:n].mean(0)[:, None]) / x[:n].std(0)[:, None]).T),
        (
            "13-gaps",
            lambda t, c, s: [
                (b - a) / a
                for a, b, u, v in zip(c[:-1], c[1:], t[:-1], t[1:], strict=True)
                if v - u == s
            ],
        ),
        (
            "17-tell",
            lambda h, k, n: (
                (1.96 / (h - k)) ** 2 * n**2 * np.var([1] * h + [-1] * k + [0] * (n - h - k))
            ),
        ),
        (
            "17-paired",
            lambda a, b, day, drawn: np.quantile(
                [
                    100 * sum((a - b)[day == d].sum() for d in r) / sum((day == d).sum() for d in r)
                    for r in drawn
                ],
                [0.025, 0.975],
            ),
        ),
    ],
)
def test_other_right_forms_pass(key, attempt):
    with np.errstate(divide="ignore"):
        report = ex.check(key, attempt)
    assert report.status == "right", report


# What a hint says of an answer that is no known mistake.


@pytest.mark.parametrize(
    ("key", "attempt", "said"),
    [
        (
            "02-codes",
            lambda x, *a: ex.solution("02-codes")(x, *a) + 1,
            r"the shape is right and 7 of 7 numbers differ: at index \(0,\) the result should "
            r"be -2, yours is -1; the largest difference is 1\.",
        ),
        ("02-codes", lambda x, *a: np.zeros((2, 2)), r"should have shape \(7,\), yours has \(2"),
        ("02-codes", lambda x, *a: x / "2", "raised .*Error.* in its line 1"),
        ("02-codes", lambda x: x, "raised TypeError: .*positional argument"),
        ("02-codes", lambda *a: [[1], [2, 3]], "rows differ in length"),
        ("02-codes", lambda *a: "codes", "the result is str, not numbers"),
        ("02-parameters", lambda x, bits: 1.0, "2 results are wanted, yours returns 1"),
        ("02-parameters", lambda x, bits: (None, 1), "result 1 of 2 is NoneType, not numbers"),
        ("02-snr", lambda x, y: np.nan, "yours is nan"),
        ("06-snr-for", lambda p: 6 - 0 * p, r"in case 1, \(0.01,\), the result should be 30.05"),
        ("13-scaler", lambda x, n: ex.solution("13-scaler")(x, n) * np.nan, "not finite"),
        ("13-scaler", lambda x, n: ex.solution("13-scaler")(x, n).T, "it is transposed"),
    ],
)
def test_unknown_wrong_answers_are_described(key, attempt, said):
    report = ex.check(key, attempt)
    assert report.status == "wrong"
    assert re.search(said, report.message), report


def test_codes_are_exact_and_floats_are_not():
    right = ex.solution("03-int4")
    assert ex.check("03-int4", lambda x, a: (right(x, a)[0] * 1.000001, right(x, a)[1])).status == (
        "right"
    )
    report = ex.check("03-int4", lambda x, a: (right(x, a)[0], right(x, a)[1] + 1e-6))
    assert report.status == "wrong" and "result 2 of 2" in report.message


@pytest.mark.parametrize("threshold", [1e-10, 1e-12, 1e-18, 1e-24, 1e-30])
def test_snr_with_a_threshold_is_refused(threshold):
    def attempt(x, y):
        x, y = x.astype(float), y.astype(float)
        noise = np.mean((x - y) ** 2)
        return np.inf if noise < threshold else 10 * np.log10(np.mean(x**2) / noise)

    assert "threshold" in ex.check("02-snr", attempt).message


def test_an_answer_cannot_spoil_its_input():
    def spoils(x, *a):
        x[:] = 0
        return x

    assert ex.check("02-codes", spoils).status == "wrong"
    assert ex.check("02-codes", ex.solution("02-codes")).status == "right"


def test_pandas_is_understood():
    pd = pytest.importorskip("pandas", reason="no pandas: answers in its containers are not tried")
    report = ex.check("13-scaler", lambda x, n: pd.DataFrame(ex.solution("13-scaler")(x, n)))
    assert report.status == "right", report
    report = ex.check("13-median", lambda x, n: pd.Series(x).rolling(n).median().dropna())
    assert report.status == "right", report


def test_unknown_keys_name_what_exists():
    with pytest.raises(ValueError, match="02-codes"):
        ex.check("02-nothing", len)
    with pytest.raises(ValueError, match="no chapter '99'"):
        ex.of("99")
    with pytest.raises(ValueError, match="03-transfer"):
        ex.score("03-noise", len)


# Transfer exercises


@pytest.mark.parametrize("task", TRANSFERS, ids=lambda e: e.key)
def test_target_is_reached_by_the_reference_and_not_by_the_plain_method(task):
    assert ex.score(task.key, task.reference).status == "right"
    plain = ex.score(task.key, task.plain)
    assert plain.status == "wrong" and f"{task.target:g}" in plain.message
    assert ex.score(task.key, task.reference).message == ex.score(task.key, task.reference).message


@pytest.mark.parametrize("task", TRANSFERS, ids=lambda e: e.key)
def test_the_page_says_what_a_good_answer_reaches(task):
    path = next(CHAPTERS.glob(f"{task.key[:2]}-*.ipynb"))
    texts = ["".join(c["source"]) for c in json.loads(path.read_text("utf8"))["cells"]]
    asked = next(i for i, text in enumerate(texts) if f'exercises.score("{task.key}"' in text)
    assert re.search(rf"\b{task.target:g}\b", texts[asked - 1]), texts[asked - 1]


@pytest.mark.parametrize("task", TRANSFERS, ids=lambda e: e.key)
def test_only_seen_rows_reach_the_reader(task):
    given = []

    def attempt(*seen):
        given.append(seen)
        return task.reference(*seen)

    ex.score(task.key, attempt)
    practice = ex.rows(task.key)
    practice = practice if isinstance(practice, tuple) else (practice,)
    assert len(given) == 8
    for seen in given:
        assert [np.shape(a) for a in seen] == [np.shape(a) for a in practice]
        assert not all(np.array_equal(a, b) for a, b in zip(seen, practice, strict=True))


def test_an_unusable_answer_is_refused_with_the_reason():
    for clip in (np.nan, -1.0, 0.0, "wide", [1.0, 2.0]):
        report = ex.score("03-transfer", lambda x: clip)  # noqa: B023
        assert report.status == "wrong" and "one positive number" in report.message
