"""Accuracy, agreement and the block bootstrap."""

import numpy as np
import pytest

from quantlab.nn import accuracy, agreement, block_interval, decisions, edge_lost, paired_interval


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


def test_seeds_widen_the_interval_and_copies_of_one_model_do_not():
    rng = np.random.default_rng(6)
    days = np.repeat(np.arange(50), 40)
    skill = np.array([0.55, 0.6, 0.65, 0.7, 0.75])[:, None]
    models = rng.random((5, 2000)) < skill
    mean, low, high = block_interval(models, days)
    assert mean == pytest.approx(100 * models.mean())
    _, narrow_low, narrow_high = block_interval(models.mean(axis=0), days)
    assert high - low > 2 * (narrow_high - narrow_low)
    copies = np.repeat(models[:1], 5, axis=0)
    assert block_interval(copies, days) == block_interval(models[0], days)
    assert paired_interval(models, models, days) == (0.0, 0.0, 0.0)


def test_interval_over_both_has_the_variance_of_both():
    """Only seeds differ, by 5 points of std: the interval is that of the mean of 20 of them."""
    rng = np.random.default_rng(7)
    levels = np.clip(rng.normal(0.6, 0.05, 20), 0, 1)
    _, low, high = block_interval(np.repeat(levels[:, None], 300, axis=1), np.arange(300) // 10)
    expected = 100 * levels.std() / np.sqrt(20)
    assert (high - low) / (2 * 1.96) == pytest.approx(expected, rel=0.1)


def test_a_rule_without_seeds_stands_beside_models_with_them():
    rng = np.random.default_rng(8)
    days, rule = np.repeat(np.arange(30), 20), rng.random(600) < 0.5
    models = rng.random((4, 600)) < 0.7
    difference, low, high = paired_interval(models, rule, days)
    assert difference == pytest.approx(100 * (models.mean() - rule.mean()))
    assert low < difference < high
    assert paired_interval(rule, models, days)[0] == pytest.approx(-difference)


def test_share_of_the_edge():
    rng = np.random.default_rng(9)
    days = np.repeat(np.arange(80), 50)
    rule = rng.random(4000) < 0.6
    exact = rule | (rng.random((3, 4000)) < 0.25)  # right on a quarter of the rule's mistakes
    coarse = np.where(rng.random((3, 4000)) < 0.5, exact, rule)
    share, low, high = edge_lost(coarse, exact, rule, days)
    assert low < 50 < high and low < share < high and high - low < 20
    assert edge_lost(exact, exact, rule, days) == (0.0, 0.0, 0.0)
    assert edge_lost(np.tile(rule, (3, 1)), exact, rule, days)[0] == pytest.approx(100)
    assert edge_lost(rule, rule, rule, days) == (np.inf, np.inf, np.inf)  # no edge to lose


BLOCKS = np.array([0, 0, 1, 1])
MESSAGES = [
    (lambda: block_interval([1, 0, 1, 0], np.zeros(4, int)), "needs 2 or more"),
    (lambda: block_interval([1, 0, 1, 0], BLOCKS[:3]), "one label per row"),
    (lambda: block_interval([1, 0, 2, 0], BLOCKS), "True/False, or shares"),
    (lambda: block_interval([], []), "True/False, or shares"),
    (lambda: block_interval([1, 0, 1, 0], BLOCKS, confidence=95), "0 < confidence < 1"),
    (lambda: block_interval(np.zeros((2, 2, 2)), BLOCKS), r"\(n,\) or \(seeds, n\)"),
    (lambda: block_interval([1, np.nan, 1, 0], BLOCKS), "True/False, or shares"),
    (lambda: paired_interval([1, 0, 1, 0], [1, 0], BLOCKS), "4 rows against 2"),
    (lambda: paired_interval(np.ones((2, 4)), np.ones((3, 4)), BLOCKS), "of 2, 3 models"),
    (lambda: edge_lost([1, 0, 1, 0], [1, 0, 1, 0], [1, 0], BLOCKS), "against 2 rows"),
    (lambda: accuracy(np.zeros(3), np.zeros(4)), "one label per row"),
    (lambda: agreement(np.zeros(3), np.zeros(4)), "the same rows"),
    (lambda: decisions(np.zeros(0)), "n > 0"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
