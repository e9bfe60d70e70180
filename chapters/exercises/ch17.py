"""Exercises of chapter 17, a live Bybit model."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer


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


@exercise("17-tell", (12, 15, 1000), (80, 95, 1000), (3, 40, 5000))
def candles_to_tell(helped, hurt, n):
    """The change is +1, 0 or -1 a candle: its mean against its error."""
    flips, change = (helped + hurt) / n, (helped - hurt) / n
    return 1.96**2 * (flips - change**2) / change**2


@mistake("17-tell")
def two_accuracies(helped, hurt, n):
    """you take the two accuracies for independent draws. They share all candles on which the
    models agree; only flips make the difference vary.
    """
    change = (helped - hurt) / n
    return 1.96**2 * (2 * 0.5 * 0.5) / change**2


@mistake("17-tell")
def no_square(helped, hurt, n):
    """the standard error falls with the root of the candles, so the ratio has to be squared."""
    flips, change = (helped + hurt) / n, (helped - hurt) / n
    return 1.96 * (flips - change**2) ** 0.5 / abs(change)


@mistake("17-tell")
def one_error(helped, hurt, n):
    """that is one standard error. 1.96 of them make an interval of 95 %."""
    return candles_to_tell(helped, hurt, n) / 1.96**2


@mistake("17-tell")
def more_candles(helped, hurt, n):
    """you counted from now on. The question is for all candles, the n seen among them."""
    return candles_to_tell(helped, hurt, n) - n


@mistake("17-tell")
def only_the_difference(helped, hurt, n):
    """the variance of a flip that helps and one that hurts does not cancel: both add to it."""
    change = abs(helped - hurt) / n
    return 1.96**2 * (change - change**2) / change**2


@exercise("17-threshold", _two_parts(3), _two_parts(4))
def accuracy_with_threshold(train_logits, train_y, test_logits, test_y):
    """The threshold is chosen on training rows, and judged on test rows."""
    tries = np.sort(train_logits)
    hits = [np.mean((train_logits > t) == train_y) for t in tries]
    best = tries[np.argmax(hits)]
    return 100 * np.mean((test_logits > best) == test_y)


@mistake("17-threshold")
def chosen_on_test(train_logits, train_y, test_logits, test_y):
    """the threshold is chosen on the test rows, so it profits from their luck. Choose it on
    training rows.
    """
    return accuracy_with_threshold(test_logits, test_y, test_logits, test_y)


@mistake("17-threshold")
def chosen_on_both(train_logits, train_y, test_logits, test_y):
    """test rows still take part in the choice. Look at the training rows only."""
    logits, y = np.concatenate([train_logits, test_logits]), np.concatenate([train_y, test_y])
    return accuracy_with_threshold(logits, y, test_logits, test_y)


@mistake("17-threshold")
def old_threshold(train_logits, train_y, test_logits, test_y):
    """the threshold is still 0. After quantization the logits have moved."""
    return 100 * np.mean((test_logits > 0) == test_y)


@mistake("17-threshold")
def training_accuracy(train_logits, train_y, test_logits, test_y):
    """well chosen, but judged on the training rows. Return the accuracy on the test rows."""
    return accuracy_with_threshold(train_logits, train_y, train_logits, train_y)


@mistake("17-threshold")
def same_share(train_logits, train_y, test_logits, test_y):
    """you match the share of yes. Choose the threshold with the most training rows right."""
    cut = np.quantile(train_logits, 1 - np.mean(train_y))
    return 100 * np.mean((test_logits > cut) == test_y)


@exercise("17-paired", _decisions(5), _decisions(6))
def interval(a, b, day, drawn):
    """The difference is taken within each draw of days."""
    gain, size = np.bincount(day, a - b), np.bincount(day)
    d = 100 * gain[drawn].sum(axis=1) / size[drawn].sum(axis=1)
    return tuple(np.percentile(d, [2.5, 97.5]))


@mistake("17-paired")
def unpaired(a, b, day, drawn):
    """that interval treats the two models as if each had its own days. Take a - b before you
    draw.
    """
    zero = np.zeros(len(a))
    (low_a, high_a), (low_b, high_b) = (interval(v, zero, day, drawn) for v in (a, b))
    return low_a - high_b, high_a - low_b


@mistake("17-paired")
def end_by_end(a, b, day, drawn):
    """limit minus limit: the draw that is low for a is not the one that is low for b. Take the
    difference within each draw.
    """
    zero = np.zeros(len(a))
    (low_a, high_a), (low_b, high_b) = (interval(v, zero, day, drawn) for v in (a, b))
    return low_a - low_b, high_a - high_b


@mistake("17-paired")
def days_count_alike(a, b, day, drawn):
    """you average the daily averages, so a day of five rows counts as much as one of fifty. Divide
    the sums by the rows drawn.
    """
    daily = np.bincount(day, a - b) / np.bincount(day)
    return tuple(np.percentile(100 * daily[drawn].mean(axis=1), [2.5, 97.5]))


@mistake("17-paired")
def two_orders(a, b, day, drawn):
    """the sign is turned around: a minus b."""
    return interval(b, a, day, drawn)


@mistake("17-paired")
def as_shares(a, b, day, drawn):
    """these are shares; percentage points are 100 times as large."""
    low, high = interval(a, b, day, drawn)
    return low / 100, high / 100


def squeezed_layer(rng):
    """A layer, and inputs that min-max has squeezed toward -1: (seen, unseen)."""
    w = rng.normal(0, 0.5, (16, 4)).astype(np.float32)
    b = rng.normal(0, 0.3, 16).astype(np.float32)
    x = (-1 + 0.1 * rng.lognormal(0, 0.6, (4000, 4))).astype(np.float32)
    return (w, b, x[:500]), (w, b, x[500:])


def snr_of_layer(answer, unseen):
    """SNR in dB of the unseen outputs, against what differs between the rows."""
    w, b, x = unseen
    parts = tuple(answer) if isinstance(answer, (tuple, list)) else (answer,)
    if len(parts) != 3:
        raise ValueError(f"three results are wanted, (codes, scale, bias); yours has {len(parts)}")
    try:
        codes, scale, bias = (np.asarray(part, float) for part in parts)
        codes, scale, bias = codes.reshape(w.shape), scale.reshape(len(b)), bias.reshape(len(b))
    except (TypeError, ValueError):
        raise ValueError("expected codes (16, 4), scale (16,), bias (16,)") from None
    whole = np.isin(codes, np.arange(-7, 8)).all()
    if not (whole and np.isfinite(scale).all() and np.isfinite(bias).all()):
        raise ValueError("codes are the integers -7 to 7; scale and bias are finite numbers")
    exact = x.astype(float) @ w.T + b
    noise = x @ (codes * scale[:, None]).T + bias - exact
    return 10 * np.log10(exact.var(axis=0).sum() / np.mean(noise**2, axis=0).sum())


def plain_rounding(w, b, x):
    scale = np.abs(w).max(axis=1) / 7
    return np.rint(w / scale[:, None]), scale, b


@transfer(
    "17-transfer",
    draw=squeezed_layer,
    measure=snr_of_layer,
    plain=plain_rounding,
    target=15.0,
    unit="dB",
)
def mended(w, b, x):
    """Round to 4 bits; take the mean error over the rows x out of the bias."""
    scale = np.abs(w).max(axis=1) / 7
    codes = np.rint(w / scale[:, None])
    error = (x @ (codes * scale[:, None] - w).T).mean(axis=0)
    return codes, scale, b - error
