"""Measures of decisions, all in percent, with intervals that respect days.

Candles of one day resemble each other, so rows are not independent draws: the intervals
resample whole blocks (days).
"""

from __future__ import annotations

import numpy as np


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

    Shapes: logits (n,) or (n, k), y (n,). Raises: ValueError if the rows differ.
    Taught in chapter 14.

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

    Raises: ValueError if the rows differ. Taught in chapter 14.

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
    """Return (mean, low, high) of `correct` in percent, by a bootstrap over blocks.

    correct (n,) bool, or the share of several models that decide right, 0 to 1;
    blocks (n,) integer labels such as day numbers.
    Raises: ValueError if the shapes differ or there are fewer than 2 blocks.
    Source: Efron and Tibshirani 1993, percentile interval; blocks as in Kunsch 1989.
    Taught in chapter 14.

    >>> block_interval([1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 2, 2])[0]
    50.0
    """
    values = _shares("block_interval", correct)
    return _bootstrap("block_interval", values, blocks, confidence, seed)


def paired_interval(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    blocks: np.ndarray,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return (a - b, low, high) in percentage points, both models drawn with the same days.

    Pairing removes what a hard day does to both models: the interval of the difference is
    much narrower than the difference of the intervals.
    Shapes, Raises and Source as `block_interval`. Taught in chapter 14.

    >>> paired_interval([1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 1])
    (0.0, 0.0, 0.0)
    """
    a = _shares("paired_interval", correct_a)
    b = _shares("paired_interval", correct_b)
    if a.shape != b.shape:
        raise ValueError(f"paired_interval: {len(a)} rows against {len(b)}; expected the same rows")
    return _bootstrap("paired_interval", a - b, blocks, confidence, seed)


def _shares(where: str, correct: np.ndarray) -> np.ndarray:
    correct = np.asarray(correct, dtype=np.float64)
    if correct.ndim != 1 or not correct.size or not ((correct >= 0) & (correct <= 1)).all():
        raise ValueError(
            f"{where}: correct has shape {correct.shape}; expected (n,) of True/False, "
            "or shares between 0 and 1"
        )
    return correct


def _bootstrap(
    where: str, values: np.ndarray, blocks: np.ndarray, confidence: float, seed: int
) -> tuple[float, float, float]:
    from scipy.stats import bootstrap  # half a second that only an interval should cost

    blocks = np.asarray(blocks)
    if blocks.shape != values.shape:
        raise ValueError(
            f"{where}: blocks have shape {blocks.shape} for {len(values)} rows; "
            "expected one label per row"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"{where}: confidence is {confidence}; expected 0 < confidence < 1")
    labels, which = np.unique(blocks, return_inverse=True)
    if len(labels) < 2:
        raise ValueError(
            f"{where}: all {len(values)} rows lie in one block; an interval over days "
            "needs 2 or more"
        )
    sums = np.bincount(which, weights=values)  # (blocks,)
    counts = np.bincount(which).astype(np.float64)

    def percent(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
        return 100.0 * sums.sum(axis=axis) / counts.sum(axis=axis)

    interval = bootstrap(
        (sums, counts),
        percent,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=2000,
        rng=seed,
    ).confidence_interval
    return float(percent(sums, counts)), float(interval.low), float(interval.high)
