"""Exercises of chapter 14, a live Bybit model."""

from __future__ import annotations

import numpy as np

from . import Exercise


def flips(full, coarse, y):
    """Agreement (%), and the accuracy (%) of the first logits where the decisions differ."""
    flipped = (full > 0) != (coarse > 0)
    return 100 - 100 * flipped.mean(), 100 * ((full > 0) == y)[flipped].mean()


def _cut_at_half(full, coarse, y):
    return flips(full - 0.5, coarse - 0.5, y)


def _equal_logits(full, coarse, y):
    return 100 * np.mean(np.isclose(full, coarse, rtol=0.1)), flips(full, coarse, y)[1]


def _both_right(full, coarse, y):
    return 100 * np.mean(((full > 0) == y) & ((coarse > 0) == y)), flips(full, coarse, y)[1]


def _coarse_on_flips(full, coarse, y):
    same, was_right = flips(full, coarse, y)
    return same, 100 - was_right


def _right_on_all(full, coarse, y):
    return flips(full, coarse, y)[0], 100 * np.mean((full > 0) == y)


def _share_of_flips(full, coarse, y):
    same, was_right = flips(full, coarse, y)
    return 100 - same, was_right


def accuracy_with_threshold(train_logits, train_y, test_logits, test_y):
    """Test accuracy (%) with the training logit as threshold that is best on training rows."""
    tries = np.sort(train_logits)
    best = tries[np.argmax([np.mean((train_logits > t) == train_y) for t in tries])]
    return 100 * np.mean((test_logits > best) == test_y)


def _chosen_on_test(train_logits, train_y, test_logits, test_y):
    return accuracy_with_threshold(test_logits, test_y, test_logits, test_y)


def _chosen_on_both(train_logits, train_y, test_logits, test_y):
    logits, y = np.concatenate([train_logits, test_logits]), np.concatenate([train_y, test_y])
    return accuracy_with_threshold(logits, y, test_logits, test_y)


def _old_threshold(train_logits, train_y, test_logits, test_y):
    return 100 * np.mean((test_logits > 0) == test_y)


def _training_accuracy(train_logits, train_y, test_logits, test_y):
    return accuracy_with_threshold(train_logits, train_y, train_logits, train_y)


def _same_share(train_logits, train_y, test_logits, test_y):
    cut = np.quantile(train_logits, 1 - np.mean(train_y))
    return 100 * np.mean((test_logits > cut) == test_y)


def interval(a, b, day, drawn):
    """Percentiles 2.5 and 97.5 of the difference (points) within each draw of days."""
    gain, size = np.bincount(day, a - b), np.bincount(day)
    d = 100 * gain[drawn].sum(axis=1) / size[drawn].sum(axis=1)
    return tuple(np.percentile(d, [2.5, 97.5]))


def _unpaired(a, b, day, drawn):
    zero = np.zeros(len(a))
    (low_a, high_a), (low_b, high_b) = (interval(v, zero, day, drawn) for v in (a, b))
    return low_a - high_b, high_a - low_b


def _end_by_end(a, b, day, drawn):
    zero = np.zeros(len(a))
    (low_a, high_a), (low_b, high_b) = (interval(v, zero, day, drawn) for v in (a, b))
    return low_a - low_b, high_a - high_b


def _days_count_alike(a, b, day, drawn):
    daily = np.bincount(day, a - b) / np.bincount(day)
    return tuple(np.percentile(100 * daily[drawn].mean(axis=1), [2.5, 97.5]))


def _two_orders(a, b, day, drawn):
    return interval(b, a, day, drawn)


def _as_shares(a, b, day, drawn):
    low, high = interval(a, b, day, drawn)
    return low / 100, high / 100


def _logits(seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    full = rng.normal(0.2, 1, 400)
    return full, full + rng.normal(0.1, 0.5, 400), rng.random(400) < 1 / (1 + np.exp(-2 * full))


def _two_parts(seed: int) -> tuple:
    """Training and test logits with one shift; the best threshold differs a little."""
    rng = np.random.default_rng(seed)
    parts = []
    for n in (300, 150):
        z = rng.normal(0, 1, n)
        parts += [z + 0.8, rng.random(n) < 1 / (1 + np.exp(-2 * z))]
    return tuple(parts)


def _decisions(seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(20), rng.integers(5, 60, 20))
    hard = rng.normal(0.7, 0.1, 20)[day]  # a hard day is hard for both
    b = (rng.random(len(day)) < hard).astype(float)
    a = np.where(rng.random(len(day)) < 0.1, rng.random(len(day)) < hard + 0.2, b).astype(float)
    return a, b, day, rng.integers(0, 20, (500, 20))


EXERCISES = (
    Exercise(
        "14-flips",
        flips,
        (_logits(1), _logits(2)),
        (
            (
                _cut_at_half,
                "you cut at 0.5. These are logits, not probabilities: the logit of one half is 0.",
            ),
            (
                _equal_logits,
                "you ask whether the logits are close. Agreement compares decisions: "
                "a large change on one side of zero flips nothing.",
            ),
            (
                _both_right,
                "you count the rows where both are right. Two models that make the same "
                "mistake agree as well, and no label is needed to see it.",
            ),
            (
                _coarse_on_flips,
                "the second number is that of the quantized model. On a flipped row "
                "exactly one of the two is right; p_f belongs to float32.",
            ),
            (
                _right_on_all,
                "the second number is the accuracy on all rows. "
                "Take the rows where the decisions differ.",
            ),
            (_share_of_flips, "the first number is the share that flipped; agreement is the rest."),
        ),
        tolerance=1e-9,
    ),
    Exercise(
        "14-threshold",
        accuracy_with_threshold,
        (_two_parts(3), _two_parts(4)),
        (
            (
                _chosen_on_test,
                "the threshold is chosen on the test rows, so it profits from their "
                "luck. Choose it on training rows.",
            ),
            (
                _chosen_on_both,
                "test rows still take part in the choice. Look at the training rows only.",
            ),
            (_old_threshold, "the threshold is still 0. After quantization the logits have moved."),
            (
                _training_accuracy,
                "well chosen, but judged on the training rows. "
                "Return the accuracy on the test rows.",
            ),
            (
                _same_share,
                "you match the share of yes. "
                "Choose the threshold with the most training rows right.",
            ),
        ),
        tolerance=1e-9,
    ),
    Exercise(
        "14-paired",
        interval,
        (_decisions(5), _decisions(6)),
        (
            (
                _unpaired,
                "that interval treats the two models as if each had its own days. "
                "Take a - b before you draw.",
            ),
            (
                _end_by_end,
                "limit minus limit: the draw that is low for a is not the one that is "
                "low for b. Take the difference within each draw.",
            ),
            (
                _days_count_alike,
                "you average the daily averages, so a day of five rows counts as "
                "much as one of fifty. Divide the sums by the rows drawn.",
            ),
            (_two_orders, "the sign is turned around: a minus b."),
            (_as_shares, "these are shares; percentage points are 100 times as large."),
        ),
        tolerance=1e-9,
    ),
)
