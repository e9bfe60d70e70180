"""Features without look-ahead, chronological split, scalers, baselines."""

from dataclasses import replace

import numpy as np
import pytest
from replay import Replay, read_csv

from quantlab.market import (
    Candles,
    FeatureScaler,
    Source,
    baseline_rules,
    candle_features,
    chronological_split,
    load_candles,
    simple_rules,
    synthetic_candles,
)
from quantlab.market.candles import COLUMNS
from quantlab.market.features import fit_threshold, rolling_median
from quantlab.nn import TradingModel

N, WINDOW = 400, 48


@pytest.fixture(scope="module")
def candles():
    return synthetic_candles(N, seed=3)


def test_features_by_hand(candles):
    features = candle_features(candles, WINDOW)
    assert features.x.shape == (N - WINDOW, 4) and features.x.dtype == np.float32
    assert features.dropped == 0 and features.start[0] == candles.start[WINDOW - 1]
    spread = candles.high - candles.low
    for i in (0, 17, len(features) - 1):
        t = i + WINDOW - 1
        median = np.median(spread[t - WINDOW + 1 : t + 1])
        row = [
            (candles.close[t] - candles.open[t]) / candles.open[t],
            spread[t] / median,
            candles.volume[t] / candles.volume[t - WINDOW + 1 : t + 1].mean(),
            spread[t - 2 : t + 1].mean() / median,  # 48 // 24, at least 3
        ]
        np.testing.assert_allclose(features.x[i], row, rtol=1e-6)
        assert features.range_target[i] == (spread[t + 1] > median)
        assert features.direction_target[i] == (candles.close[t + 1] > candles.open[t + 1])
        assert features.day[i] == candles.start[t] // 86_400_000


def test_nothing_looks_ahead(candles):
    before = candle_features(candles, WINDOW)
    for cut in (WINDOW, 200, N - 1):
        other = synthetic_candles(N, seed=99)
        # every candle from cut on is replaced; a factor keeps open equal to the close before
        factor = candles.close[cut - 1] / other.open[cut]
        columns = {name: getattr(candles, name).copy() for name in COLUMNS}
        for name in ("open", "high", "low", "close"):
            columns[name][cut:] = getattr(other, name)[cut:] * factor
        columns["open"][cut] = candles.close[cut - 1]
        columns["open"][cut + 1 :] = columns["close"][cut:-1]
        columns["high"] = np.maximum.reduce([columns[c] for c in ("open", "high", "close")])
        columns["low"] = np.minimum.reduce([columns[c] for c in ("open", "low", "close")])
        columns["volume"][cut:] = other.volume[cut:] + 1000
        after = candle_features(replace(candles, **columns), WINDOW)
        known = before.start < candles.start[cut]
        assert known.sum() == cut - WINDOW + 1
        np.testing.assert_array_equal(before.x[known], after.x[known])
        # targets of rows whose next candle is also before the cut stay too
        np.testing.assert_array_equal(
            before.range_target[known][:-1], after.range_target[known][:-1]
        )
        assert (before.x[~known] != after.x[~known]).any() or cut == N - 1


def test_no_window_and_no_target_crosses_a_gap(candles):
    keep = np.ones(N, bool)
    keep[200:203] = False
    columns = {name: getattr(candles, name)[keep] for name in COLUMNS}
    holed = replace(candles, **columns)
    assert len(holed.gaps) == 1
    whole, features = candle_features(candles, WINDOW), candle_features(holed, WINDOW)
    assert features.dropped == WINDOW and len(features) == N - 3 - WINDOW - WINDOW
    clean = (whole.start < candles.start[199]) | (whole.start >= candles.start[203 + WINDOW - 1])
    np.testing.assert_array_equal(features.x, whole.x[clean])
    np.testing.assert_array_equal(features.range_target, whole.range_target[clean])


def test_a_market_without_trades_is_dropped():
    flat = np.full(60, 10.0)
    start = 300_000 * np.arange(60)
    dead = Candles(start, flat, flat, flat, flat, 0 * flat, 0 * flat, "X", "linear", "5",
                   Source("replay", "test"))  # fmt: skip
    features = candle_features(dead, 12)
    assert len(features) == 0 and features.dropped == 48


def test_too_few_candles_or_too_short_a_window(candles):
    with pytest.raises(ValueError, match="287 candles came; a window of 288 needs 288"):
        candle_features(candles[:287])
    for window in (11, 48.0, "48", True):
        with pytest.raises(ValueError, match="window is"):
            candle_features(candles, window)


def test_the_candle_that_just_closed_has_features_and_no_target(candles):
    features = candle_features(candles, WINDOW)
    assert features.latest.shape == (1, 4) and features.start[-1] == candles.start[-2]
    later = candle_features(synthetic_candles(N + 1, seed=3), WINDOW)
    # the simulator draws another path for another length: cut one series instead
    longer = synthetic_candles(N, seed=3)
    earlier = candle_features(longer[:-1], WINDOW)
    np.testing.assert_array_equal(earlier.latest, features.x[-1:])
    assert len(features) == len(earlier) + 1 == len(later) - 1
    exactly = candle_features(candles[:WINDOW], WINDOW)
    assert len(exactly) == 0 and exactly.latest.shape == (1, 4) and exactly.dropped == 0


def test_no_latest_row_when_its_window_crosses_a_gap(candles):
    kept = np.delete(np.arange(N), N - 10)
    holed = replace(candles, **{name: getattr(candles, name)[kept] for name in COLUMNS})
    features = candle_features(holed, WINDOW)
    assert features.latest.shape == (0, 4) and features.dropped == 9


@pytest.mark.parametrize(
    ("interval", "window", "short"),
    [("1", 1440, 60), ("5", 288, 12), ("15", 96, 4), ("60", 24, 3), ("240", 24, 3), ("D", 24, 3)],
)
def test_windows_follow_the_interval(interval, window, short):
    candles = synthetic_candles(1600, interval=interval)
    features = candle_features(candles)
    assert features.window == window and len(features) == 1600 - window
    assert features.names[3] == f"mean range of {short} / rolling median"
    spread = candles.high - candles.low
    expected = spread[-short:].mean() / np.median(spread[-window:])
    np.testing.assert_allclose(features.latest[0, 3], expected, rtol=1e-6)


@pytest.mark.parametrize("window", [1, 2, 3, 12, 13, 288])
def test_rolling_median_is_the_median_of_every_full_window(window):
    x = np.random.default_rng(window).standard_normal(700).round(1)  # with ties
    windows = np.lib.stride_tricks.sliding_window_view(x, window)
    np.testing.assert_array_equal(rolling_median(x, window), np.median(windows, axis=1))
    assert len(rolling_median(x[:window], window)) == 1


def test_targets_speak_of_the_next_candle(candles):
    features = candle_features(candles, WINDOW)
    spread = candles.high - candles.low
    t = np.arange(WINDOW - 1, N - 1)
    ratio = spread[t + 1] / rolling_median(spread, WINDOW)[:-1]
    np.testing.assert_array_equal(features.target("range"), ratio > 1)
    np.testing.assert_array_equal(features.target("usual"), (ratio > 1 / 1.6) & (ratio < 1.6))
    np.testing.assert_array_equal(features.next_return, candles.returns[t + 1])
    np.testing.assert_array_equal(features.target("direction"), features.next_return > 0)
    with pytest.raises(ValueError, match="expected one of range, usual, direction"):
        features.target("spread")


def test_chronological_split():
    train, validation, test = chronological_split(1000, embargo=10)
    assert (train, validation, test) == (slice(0, 600), slice(610, 800), slice(810, 1000))
    assert chronological_split(10, (0.5, 0.2, 0.2)) == (slice(0, 5), slice(5, 7), slice(7, 9))
    for wrong in ((0.6, 0.2), (0.6, 0.3, 0.2), (1.0, -0.1, 0.1)):
        with pytest.raises(ValueError, match="fractions"):
            chronological_split(1000, wrong)
    with pytest.raises(ValueError, match="empty"):
        chronological_split(100, embargo=20)
    for wrong in ("100", 100.0, None, [1, 2], -1):
        with pytest.raises(ValueError, match="n \\(a number of rows, or Features\\)"):
            chronological_split(wrong)
    for embargo in (-1, 2.5, "1"):
        with pytest.raises(ValueError, match="embargo is"):
            chronological_split(1000, embargo=embargo)
    for wrong in (None, "abc", (0.6, "b", 0.2), (np.nan, 0.5, 0.2)):
        with pytest.raises(ValueError, match="three positive"):
            chronological_split(1000, wrong)


@pytest.mark.parametrize("method", FeatureScaler.METHODS)
def test_scalers(method):
    x = candle_features(synthetic_candles(8000)).x
    train = x[:4000]
    before = train.copy()
    scaler = FeatureScaler(method).fit(train)
    scaled = scaler.transform(train)
    assert scaled.dtype == np.float32 and np.isfinite(scaler.transform(x)).all()
    np.testing.assert_array_equal(train, before)
    if method in ("minmax", "percentile"):
        np.testing.assert_allclose(scaled.min(axis=0), -1, atol=1e-6)
        np.testing.assert_allclose(scaled.max(axis=0), 1, atol=1e-6)
    else:
        np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)


def test_scalers_meet_zeros_constants_and_strangers():
    x = np.array([[1.0, 0.0, 0.1], [-1.0, 2.0, 0.1], [0.5, 8.0, 0.1]])
    for method in FeatureScaler.METHODS:
        scaled = FeatureScaler(method).fit(x).transform(x)
        assert np.isfinite(scaled).all() and (scaled[:, 2] == 0).all()
    scaler = FeatureScaler("log-zscore").fit(x)
    assert scaler.transform(x)[0, 1] == scaler.transform(x)[1, 1]  # 0 takes the smallest positive
    with pytest.raises(ValueError, match="3"):
        scaler.transform(x[:, :2])
    with pytest.raises(ValueError, match="9 NaN values"):
        scaler.fit(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        scaler.fit(np.ones(3))
    with pytest.raises(ValueError, match="fit"):
        FeatureScaler("zscore").transform(x)
    with pytest.raises(ValueError, match="log-zscore"):
        FeatureScaler("robust")


@pytest.mark.parametrize("method", FeatureScaler.METHODS)
def test_scalers_meet_one_row_near_constants_and_huge_values(method):
    one = FeatureScaler(method).fit(np.array([[0.1, -3.0, 0.0]]))
    assert (one.transform(np.array([[0.1, -3.0, 0.0]])) == 0).all()
    jitter = np.array([[0.3], [0.1 + 0.2], [0.3]] * 7)  # one constant, computed in two ways
    assert np.abs(FeatureScaler(method).fit(jitter).transform(jitter)).max() < 1e-6
    tiny = FeatureScaler(method).fit(np.array([[1e-300], [2e-300], [4e-300]]))
    assert np.isfinite(tiny.transform(np.array([[3e-300]]))).all()
    if method in ("zscore", "minmax"):  # the others clip, or take logarithms
        with pytest.raises(ValueError, match="scaled x has"):
            tiny.transform(np.array([[1e300]]))
    if method == "zscore":
        with pytest.raises(ValueError, match="rescale the column"):
            FeatureScaler(method).fit(np.array([[-1e308], [1e308], [1e308]]))
    else:
        logs = method.startswith("log")
        wide = np.array([[1.0], [1e308]] if logs else [[-1e308], [1e308], [0.0]])
        assert np.isfinite(FeatureScaler(method).fit(wide).transform(wide)).all()


def test_threshold_is_the_best_of_all_cuts():
    rng = np.random.default_rng(0)
    for _ in range(20):
        score, y = rng.integers(0, 8, 30) / 4, rng.random(30) < 0.4
        cuts = [-np.inf, *(np.unique(score)[:-1] + 0.125), np.inf]
        best = max(((score > cut) == y).sum() for cut in cuts)
        assert ((score > fit_threshold(score, y)) == y).sum() == best
    assert (score > fit_threshold(score, np.ones(30, bool))).all()
    assert not (score > fit_threshold(score, np.zeros(30, bool))).any()
    assert np.isfinite(fit_threshold(np.array([-np.inf, 0.0, 1.0]), np.array([0, 0, 1])))


def test_simple_rules_fit_on_training_rows_only():
    features = candle_features(synthetic_candles(6000, seed=5))
    train = slice(0, 3000)
    for target in ("range", "usual", "direction"):
        rules = simple_rules(features, target, train)
        assert list(rules) == ["majority", "rule", "hour rule"]
        assert all(d.shape == (len(features),) and d.dtype == bool for d in rules.values())
        other = replace(features, **{f"{target}_target": features.target(target).copy()})
        other.target(target)[3000:] ^= True
        for name, decided in simple_rules(other, target, train).items():
            np.testing.assert_array_equal(decided, rules[name])
    y = features.range_target[train]
    fitted = simple_rules(features, "range", train)["hour rule"][train]
    assert (fitted == y).mean() >= ((features.x[train, 3] > 1) == y).mean()
    with pytest.raises(ValueError, match="no training rows"):
        simple_rules(features, "range", slice(0, 0))


def test_one_candle_squeezes_min_max():
    """The outlier of the sample leaves the middle 98 % of the ranges a sliver of [-1, 1]."""
    x = candle_features(synthetic_candles(20_000)).x[:11_827]
    width = {}
    for method in ("minmax", "percentile", "log-zscore"):
        column = FeatureScaler(method).fit(x).transform(x)[:, 1]
        low, high = np.percentile(column, (1, 99))
        width[method] = (high - low) / (column.max() - column.min())
    assert width["minmax"] < 0.1 < 0.3 < width["percentile"]


def learned(candles):
    """Accuracy (%) on the test rows: what needs no model, and a small MLP on scaled features."""
    features = candle_features(candles)
    train, validation, test = chronological_split(features)
    x = FeatureScaler("log-zscore").fit(features.x[train]).transform(features.x)
    y = features.range_target
    model = TradingModel((4, 32, 16, 1), seed=0)
    model.fit(x[train], y[train], validation=(x[validation], y[validation]))
    accuracy = {k: 100 * v for k, v in baseline_rules(features, train, test)["range"].items()}
    accuracy["model"] = 100 * ((model.predict_logits(x[test]) > 0) == y[test]).mean()
    return accuracy


def recorded(recordings, symbol):
    return read_csv(recordings / "market" / f"bybit_linear_{symbol}_5m_2025.csv")


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_recorded_autumn_through_the_replay(recordings, symbol):
    """30,000 candles up to 1 December 2025: a coin, a one-line rule of 66 %, a model of 71 %."""
    now = int(np.datetime64("2025-12-01", "ms").astype(np.int64))
    with Replay({symbol: recorded(recordings, symbol)}, now=now) as server:
        candles = load_candles(symbol, 30_000, base_url=server.url, sleep=lambda s: None)
    assert candles.source.kind == "replay" and candles.span[1] == now and candles.gaps == []
    outlier = candles.start[np.argmax(candles.high / candles.low)]
    assert str(outlier.astype("M8[ms]")).startswith("2025-10-10")
    assert outlier < candles.start[18_000]  # in the training part
    accuracy = learned(candles)
    assert 48 < accuracy["majority"] < 52.5 and 65.5 < accuracy["rule"] < 67.5
    assert accuracy["rule"] + 1 < accuracy["hour"] < accuracy["model"]
    assert 70 < accuracy["model"] < 72.5


def test_simulated_candles_are_as_hard_as_recorded_ones():
    accuracy = learned(synthetic_candles(30_000))
    assert 49 < accuracy["majority"] < 52 and 65.5 < accuracy["rule"] < 68
    assert accuracy["rule"] + 1 < accuracy["hour"] < accuracy["model"]
    assert 70 < accuracy["model"] < 72.5
    for seed in (8, 9):  # regimes differ between samples as they do between recorded months
        accuracy = learned(synthetic_candles(30_000, seed=seed))
        assert 64 < accuracy["rule"] < 73 and 1 < accuracy["model"] - accuracy["rule"] < 8


@pytest.mark.parametrize(("symbol", "rule"), [("BTCUSDT", 69.4), ("ETHUSDT", 67.1)])
def test_recorded_year(recordings, symbol, rule):
    """Over all of 2025 the classes are even, and the rule swings with the regime."""
    table = np.array([row[:6] for row in recorded(recordings, symbol)], float).T
    candles = Candles(*table, table[4] * table[5], symbol, "linear", "5", Source("replay", "csv"))
    assert len(candles) == 105_120 and candles.gaps == []
    features = candle_features(candles)
    rules = baseline_rules(features)
    assert 50 < 100 * rules["range"]["majority"] < 51
    assert 100 * rules["range"]["rule"] == pytest.approx(rule, abs=0.1)
    assert 0.5 < rules["direction"]["rule"] < 0.52
    right = features.range_target == (features.x[:, 1] > 1)
    months = features.start.astype("M8[ms]").astype("M8[M]")
    monthly = [100 * right[months == month].mean() for month in np.unique(months)]
    assert 64 < min(monthly) < 67.5 and 70 < max(monthly) < 73
