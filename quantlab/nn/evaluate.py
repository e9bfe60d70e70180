"""Measures of decisions, all in percent, with intervals over days and over training seeds.

Candles of one day resemble each other, so rows are not independent draws: the intervals
resample whole blocks (days). A model trained from another seed is another model: given one row
of the array per seed, the intervals resample the seeds too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

DRAWS = 2000  # bootstrap samples behind an interval


def decisions(logits: np.ndarray) -> np.ndarray:
    """Return the decision per row, (n,) int64: logit > 0 for (n,), argmax for (n, k).

    >>> decisions(np.array([-0.1, 0.0, 2.0])).tolist()
    [0, 0, 1]
    """
    logits = np.asarray(logits)
    if logits.ndim not in (1, 2) or logits.size == 0:
        raise ValueError(
            f"decisions: logits have shape {logits.shape}; expected (n,) or (n, k) with n > 0"
        )
    return (logits > 0).astype(np.int64) if logits.ndim == 1 else np.argmax(logits, axis=1)


def accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """Return the share of right decisions in percent.

    Shapes: logits (n,) or (n, k), y (n,). Raises ValueError if the rows differ.
    Taught in chapter 17.

    >>> accuracy(np.array([1.0, -1.0, 3.0, 2.0]), np.array([1, 0, 0, 1]))
    75.0
    """
    decided, y = decisions(logits), np.asarray(y)
    if decided.shape != y.shape:
        raise ValueError(
            f"accuracy: {len(decided)} rows of logits for y of shape {y.shape}; "
            "expected one label per row"
        )
    return 100.0 * float(np.mean(decided == y))


def agreement(logits_a: np.ndarray, logits_b: np.ndarray) -> float:
    """Return the share of rows, in percent, on which two models decide the same.

    Raises ValueError if the rows differ. Taught in chapter 17.

    >>> agreement(np.array([1.0, -1.0, 3.0, 2.0]), np.array([0.1, 0.1, 5.0, 9.0]))
    75.0
    """
    a, b = decisions(logits_a), decisions(logits_b)
    if a.shape != b.shape:
        raise ValueError(f"agreement: {len(a)} rows against {len(b)}; expected the same rows")
    return 100.0 * float(np.mean(a == b))


def block_interval(
    correct: np.ndarray, blocks: np.ndarray, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Return (mean, low, high) of `correct` in percent, by a bootstrap over blocks and seeds.

    correct (n,), or (seeds, n) with one row per trained model: True/False, or shares between 0
    and 1. blocks (n,) integer labels such as day numbers. Given (seeds, n), every bootstrap
    sample draws days and models: the interval is about a model trained anew and met on new days.
    Raises ValueError if the shapes differ or there are fewer than 2 blocks.
    Source: Efron and Tibshirani 1993, percentile interval; blocks as in Kunsch 1989; two factors
    at once as in Owen 2007 (arXiv 0712.1111). Taught in chapter 17.

    >>> block_interval([1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 2, 2])[0]
    50.0
    """
    return _interval("block_interval", [correct], blocks, lambda a: a, confidence, seed)


def paired_interval(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    blocks: np.ndarray,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return (a - b, low, high) in percentage points, both sides drawn with the same days.

    Pairing removes what a hard day does to both sides: the interval of the difference is
    much narrower than the difference of the intervals. Two arrays (seeds, n) are paired by
    seed too, as a model and its quantized twin are; a rule or one model is (n,).
    Shapes, Raises and Source as `block_interval`. Taught in chapter 17.

    >>> paired_interval([1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 1])
    (0.0, 0.0, 0.0)
    """
    sides = [correct_a, correct_b]
    return _interval("paired_interval", sides, blocks, np.subtract, confidence, seed)


def edge_lost(
    coarse: np.ndarray,
    exact: np.ndarray,
    rule: np.ndarray,
    blocks: np.ndarray,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return (share, low, high): percent of the model's edge over a rule that rounding takes.

    The edge is what the exact model decides right beyond the best simple rule; a loss of one
    accuracy point is a trifle or everything, measured by it. 100 means no better than the rule.
    The share is infinite where the exact model has no edge to lose.
    Shapes, Raises and Source as `paired_interval`. Taught in chapter 17.

    >>> edge_lost([1, 0, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 1])[0]
    50.0
    """

    def share(coarse: np.ndarray, exact: np.ndarray, rule: np.ndarray) -> np.ndarray:
        edge = exact - rule
        return np.where(edge > 0, 100 * (exact - coarse) / np.where(edge > 0, edge, 1), np.inf)

    return _interval("edge_lost", [coarse, exact, rule], blocks, share, confidence, seed)


def _interval(
    where: str,
    sides: list[np.ndarray],
    blocks: np.ndarray,
    statistic: Callable[..., np.ndarray],
    confidence: float,
    seed: int,
) -> tuple[float, float, float]:
    """Estimate and interval of statistic(accuracy of each side in percent)."""
    tables = [_table(where, side) for side in sides]
    blocks = np.asarray(blocks)
    seeds, rows = max(len(table) for table in tables), tables[0].shape[1]
    for table in tables:
        if table.shape[1] != rows or len(table) not in (1, seeds):
            raise ValueError(
                f"{where}: got {' against '.join(f'{t.shape[1]} rows' for t in tables)} of "
                f"{', '.join(str(len(t)) for t in tables)} models; expected the same rows, and "
                "the same seeds on every side that has several"
            )
    if blocks.shape != (rows,):
        raise ValueError(
            f"{where}: blocks have shape {blocks.shape} for {rows} rows; expected one label per row"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"{where}: confidence is {confidence}; expected 0 < confidence < 1")
    labels, which, counts = np.unique(blocks, return_inverse=True, return_counts=True)
    if len(labels) < 2:
        raise ValueError(
            f"{where}: all {rows} rows lie in one block; an interval over days needs 2 or more"
        )
    sums = [np.stack([np.bincount(which, weights=row) for row in table]) for table in tables]

    def percent(sums: np.ndarray, models: np.ndarray, days: np.ndarray) -> np.ndarray:
        """Accuracy when each model and day counts as often as it was drawn."""
        models = models if len(sums) > 1 else np.ones((len(days), 1))
        right = ((models @ sums) * days).sum(axis=1)
        return 100 * right / (models.sum(axis=1) * (days @ counts))

    def measure(models: np.ndarray, days: np.ndarray) -> np.ndarray:
        return statistic(*(percent(part, models, days) for part in sums))

    days, models = _drawn(seed, len(labels), seeds)
    (estimate,) = measure(np.ones((1, seeds)), np.ones((1, len(labels))))
    draws = measure(models, days)
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    # an infinite share must not be averaged with a finite one: take draws, do not interpolate
    low, high = np.quantile(draws, tails, method="nearest")
    return float(estimate), float(low), float(high)


@lru_cache(maxsize=8)
def _drawn(seed: int, *sizes: int) -> list[np.ndarray]:
    """How often each of n is drawn in n draws, (DRAWS, n) for every n; a sweep asks it often."""
    rng = np.random.default_rng(seed)
    return [rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) for n in sizes]


def _table(where: str, correct: np.ndarray) -> np.ndarray:
    """`correct` as float64 (seeds, n)."""
    correct = np.asarray(correct, dtype=np.float64)
    right = correct.ndim in (1, 2) and correct.size and ((correct >= 0) & (correct <= 1)).all()
    if not right:
        raise ValueError(
            f"{where}: correct has shape {correct.shape}; expected (n,) or (seeds, n) of "
            "True/False, or shares between 0 and 1"
        )
    return np.atleast_2d(correct)
