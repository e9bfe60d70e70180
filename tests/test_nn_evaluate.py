"""Accuracy, agreement and the block bootstrap."""

import numpy as np
import pytest

from quantlab.nn import accuracy, agreement, block_interval, decisions, paired_interval


def test_accuracy_and_agreement_are_percent():
    logits, y = np.array([2.0, -1.0, 0.5, -3.0]), np.array([True, False, False, False])
    assert accuracy(logits, y) == 75.0
    assert agreement(logits, -logits) == 0.0
    assert agreement(logits, logits * 9) == 100.0
    classes = np.array([[0.0, 1.0, 0.5], [3.0, 2.0, 1.0]])
    assert decisions(classes).tolist() == [1, 0]
    assert accuracy(classes, np.array([1, 2])) == 50.0


def test_identical_predictions_differ_by_nothing():
    rng = np.random.default_rng(0)
    correct = rng.random(500) < 0.7
    assert paired_interval(correct, correct, np.arange(500) // 50) == (0.0, 0.0, 0.0)


def test_estimate_is_the_row_mean_and_the_sign_is_a_minus_b():
    a, b = np.array([1, 1, 1, 0, 1, 1]), np.array([1, 0, 1, 0, 0, 1])
    blocks = np.array([0, 0, 0, 0, 1, 1])  # unequal blocks: still the mean over rows
    difference, low, high = paired_interval(a, b, blocks)
    assert difference == pytest.approx(100 / 3) and low <= difference <= high
    assert block_interval(a, blocks)[0] == pytest.approx(100 * 5 / 6)


def test_pairing_is_narrower_than_two_intervals():
    rng = np.random.default_rng(1)
    days = np.repeat(np.arange(60), 100)
    hard = rng.normal(0.7, 0.1, 60)[days]
    a = rng.random(6000) < hard
    b = a ^ (rng.random(6000) < 0.02)
    _, low, high = paired_interval(a, b, days)
    _, low_a, high_a = block_interval(a, days)
    assert (high - low) < 0.5 * (high_a - low_a)


def test_shares_of_several_models_are_welcome():
    rng = np.random.default_rng(5)
    days, models = np.arange(400) // 20, rng.random((5, 400)) < 0.7
    mean, low, high = block_interval(models.mean(axis=0), days)
    assert mean == pytest.approx(100 * models.mean()) and low < mean < high


def test_same_seed_same_interval_and_wider_with_confidence():
    rng = np.random.default_rng(2)
    correct, days = rng.random(1000) < 0.6, np.arange(1000) // 40
    assert block_interval(correct, days, seed=3) == block_interval(correct, days, seed=3)
    _, low, high = block_interval(correct, days, confidence=0.8)
    _, wide_low, wide_high = block_interval(correct, days, confidence=0.99)
    assert wide_low < low < high < wide_high


def test_coverage_on_correlated_days_is_near_nominal():
    rng = np.random.default_rng(4)
    days, hits, runs = np.repeat(np.arange(40), 30), 0, 200
    for run in range(runs):
        day_rate = np.clip(rng.normal(0.65, 0.1, 40), 0, 1)
        correct = rng.random(1200) < day_rate[days]
        _, low, high = block_interval(correct, days, seed=run)
        hits += low <= 65.0 <= high
    assert 0.88 <= hits / runs <= 0.99  # 95 % nominal; 40 days make it a little narrow


BLOCKS = np.array([0, 0, 1, 1])
MESSAGES = [
    (lambda: block_interval([1, 0, 1, 0], np.zeros(4, int)), "needs 2 or more"),
    (lambda: block_interval([1, 0, 1, 0], BLOCKS[:3]), "one label per row"),
    (lambda: block_interval([1, 0, 2, 0], BLOCKS), "True/False, or shares"),
    (lambda: block_interval([], []), "True/False, or shares"),
    (lambda: block_interval([1, 0, 1, 0], BLOCKS, confidence=95), "0 < confidence < 1"),
    (lambda: paired_interval([1, 0, 1, 0], [1, 0], BLOCKS), "4 rows against 2"),
    (lambda: accuracy(np.zeros(3), np.zeros(4)), "one label per row"),
    (lambda: agreement(np.zeros(3), np.zeros(4)), "the same rows"),
    (lambda: decisions(np.zeros(0)), "n > 0"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
