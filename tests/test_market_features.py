"""Features without look-ahead, chronological split, scalers, baselines."""

import time
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
    synthetic_candles,
)
from quantlab.market.candles import COLUMNS
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
            spread[t - 11 : t + 1].mean() / median,
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
    with pytest.raises(ValueError, match="288"):
        candle_features(candles[:288])
    with pytest.raises(ValueError, match="12 or more"):
        candle_features(candles, 11)


def test_a_year_takes_less_than_two_seconds():
    year = synthetic_candles(105_120)
    begin = time.perf_counter()
    candle_features(year)
    assert time.perf_counter() - begin < 2  # 0.4 s alone; tests share the machine


def test_chronological_split():
    train, validation, test = chronological_split(1000, embargo=10)
    assert (train, validation, test) == (slice(0, 600), slice(610, 800), slice(810, 1000))
    assert chronological_split(10, (0.5, 0.2, 0.2)) == (slice(0, 5), slice(5, 7), slice(7, 9))
    for wrong in ((0.6, 0.2), (0.6, 0.3, 0.2), (1.0, -0.1, 0.1)):
        with pytest.raises(ValueError, match="fractions"):
            chronological_split(1000, wrong)
    with pytest.raises(ValueError, match="empty"):
        chronological_split(100, embargo=20)


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
    x = np.array([[1.0, 0.0, 5.0], [-1.0, 2.0, 5.0], [0.5, 8.0, 5.0]])
    for method in FeatureScaler.METHODS:
        scaled = FeatureScaler(method).fit(x).transform(x)
        assert np.isfinite(scaled).all() and (scaled[:, 2] == 0).all()
    scaler = FeatureScaler("log-zscore").fit(x)
    assert scaler.transform(x)[0, 1] == scaler.transform(x)[1, 1]  # 0 takes the smallest positive
    with pytest.raises(ValueError, match="3"):
        scaler.transform(x[:, :2])
    with pytest.raises(ValueError, match="finite"):
        scaler.fit(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="fit"):
        FeatureScaler("zscore").transform(x)
    with pytest.raises(ValueError, match="log-zscore"):
        FeatureScaler("robust")


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
