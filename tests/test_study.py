"""From candles to models: parts that do not overlap, the rules to beat, seeds, trades."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from replay import read_csv

import quantlab as ql
from quantlab.market import Candles, FeatureScaler, Source, candle_features
from quantlab.market.candles import COLUMNS
from quantlab.nn import agreement, paired_interval


@pytest.fixture(scope="module")
def candles():
    return ql.synthetic_candles(6000, seed=7)


@pytest.fixture(scope="module")
def data(candles):
    return ql.prepare(candles, "range")


def test_parts_are_the_chapters_own_steps(candles, data):
    features = candle_features(candles)
    train, validation, test = ql.chronological_split(features, embargo=288)
    x = FeatureScaler("log-zscore").fit(features.x[train]).transform(features.x)
    for part, rows in zip(
        (data.train, data.validation, data.test), (train, validation, test), strict=True
    ):
        assert part.rows == rows and len(part) == rows.stop - rows.start
        np.testing.assert_array_equal(part.x, x[rows])
        np.testing.assert_array_equal(part.y, features.range_target[rows])
        np.testing.assert_array_equal(part.day, features.day[rows])
        np.testing.assert_array_equal(part.next_return, features.next_return[rows])


def test_no_part_sees_a_candle_of_another(data):
    """Windows of the later part begin after the last target of the earlier one."""
    for earlier, later in ((data.train, data.validation), (data.validation, data.test)):
        last_target = earlier.rows.stop - 1 + 1  # rows are consecutive candles here
        first_seen = later.rows.start - (data.features.window - 1)
        assert first_seen > last_target


def test_the_latest_candle_is_scaled_like_the_others(candles):
    whole, cut = ql.prepare(candles), ql.prepare(candles[:-1])
    raw = cut.features.latest
    np.testing.assert_array_equal(raw, whole.features.x[-1:])
    np.testing.assert_array_equal(cut.latest, cut.scaler.transform(raw))
    (model,) = ql.train_seeds(cut, sizes=(4,), seeds=[0], epochs=1)
    assert model.predict(cut.latest).shape == (1,)
    kept = np.delete(np.arange(6000), 5990)
    holed = replace(candles, **{name: getattr(candles, name)[kept] for name in COLUMNS})
    assert ql.prepare(holed).latest.shape == (0, 4)


def test_baselines_fit_on_training_rows(data):
    assert list(data.baselines) == ["majority", "rule", "hour rule", "logistic regression"]
    right = {name: 100 * (d == data.test.y).mean() for name, d in data.baselines.items()}
    assert all(d.shape == (len(data.test),) and d.dtype == bool for d in data.baselines.values())
    assert right["majority"] < 56 < right["rule"] < right["hour rule"] + 3
    assert abs(right["logistic regression"] - right["hour rule"]) < 4
    assert data.best_rule in ("rule", "hour rule")
    hidden = replace(data, test=replace(data.test, y=~data.test.y))
    for name, decided in hidden.baselines.items():
        np.testing.assert_array_equal(decided, data.baselines[name])


def test_prepared_data_cannot_be_changed_by_accident(data):
    for name in ("train", "target", "scaler"):
        with pytest.raises(FrozenInstanceError):
            setattr(data, name, None)


@pytest.mark.parametrize("target", ["range", "usual", "direction"])
@pytest.mark.parametrize("scaling", FeatureScaler.METHODS)
def test_targets_and_scalings(candles, target, scaling):
    data = ql.prepare(candles[:2000], target, scaling)
    np.testing.assert_array_equal(data.test.y, data.features.target(target)[data.test.rows])
    assert set(data.baselines) == {"majority", "rule", "hour rule", "logistic regression"}


@pytest.mark.parametrize("interval", ["1", "15", "60", "240", "D"])
def test_any_interval(interval):
    data = ql.prepare(ql.synthetic_candles(20_000, seed=2, interval=interval), target="range")
    (model,) = ql.train_seeds(data, sizes=(8,), seeds=[1], epochs=5)
    right = model.predict(data.test.x) == data.test.y
    mean, low, high = paired_interval(
        right, data.baselines["majority"] == data.test.y, data.test.day
    )
    assert low <= mean <= high and mean > 5


def test_few_rows_end_in_advice(candles):
    with pytest.raises(ValueError, match="use more rows or a smaller embargo"):
        ql.prepare(candles[:1000])
    with pytest.raises(ValueError, match="200 candles came; a window of 288"):
        ql.prepare(candles[:200])
    small = ql.prepare(candles[:200], window=24)
    assert len(small.train) == 106 and len(small.test) == 11
    ql.train_seeds(small, sizes=(3,), seeds=[0], epochs=2)
    with pytest.raises(ValueError, match="expected one of range, usual, direction"):
        ql.prepare(candles, "volume")
    with pytest.raises(ValueError, match="method is 'log'"):
        ql.prepare(candles, scaling="log")


def test_seeds_are_models_of_their_own(data):
    models = ql.train_seeds(data, sizes=(8, 4), seeds=range(3), epochs=3)
    assert [m.seed for m in models] == [0, 1, 2] and models[0].sizes == (4, 8, 4, 1)
    logits = ql.seed_logits(models, data.test.x)
    assert logits.shape == (3, len(data.test)) and (logits[0] != logits[1]).any()
    alone = ql.TradingModel((4, 8, 4, 1), seed=1, init="glorot").fit(
        data.train.x, data.train.y, validation=(data.validation.x, data.validation.y), epochs=3
    )
    np.testing.assert_array_equal(alone.predict_logits(data.test.x), logits[1])
    for wrong in ({"seeds": 5}, {"sizes": 32}, {"seeds": []}, {"seeds": [-1]}, {"sizes": (0,)}):
        with pytest.raises(ValueError, match=r"expected|empty"):
            ql.train_seeds(data, **wrong)


def test_a_trade_is_charged_when_the_position_changes():
    returns = np.array([0.01, -0.02, 0.03, 0.01])
    gained, turnover = ql.profit(np.ones(4), returns, fee=0.001)
    np.testing.assert_allclose(turnover, [1, 0, 0, 1])  # bought once, sold at the end
    np.testing.assert_allclose(gained.sum(), returns.sum() - 0.002)
    gained, turnover = ql.profit([1, -1, -1, 0], returns, fee=0.001)
    np.testing.assert_allclose(turnover, [1, 2, 0, 1])  # a turn changes hands twice
    np.testing.assert_allclose(gained, [0.009, 0.018, -0.03, -0.001])
    both, _ = ql.profit([[1, 1, 1, 1], [1, -1, -1, 0]], returns, fee=0.001)
    np.testing.assert_allclose(both[1], gained)
    assert not ql.profit(np.zeros(4), returns, fee=0.1)[0].any()
    for position, fee in ((np.ones(3), 0.1), (np.ones(4), -1), (np.ones(4), np.nan),
                          (np.full(4, np.nan), 0.1)):  # fmt: skip
        with pytest.raises(ValueError, match="profit: "):
            ql.profit(position, returns, fee)


def test_a_small_first_layer_rounds_better_at_no_cost():
    """Two bits take half of what they take from He's weights, and the float model is as good."""
    data = ql.prepare(ql.synthetic_candles(20_000, seed=7), "range")
    right, snr = {}, {}
    for init in ("he", "glorot"):
        models = ql.train_seeds(data, init=init)
        coarse = [ql.post_training_quantize(m, None, 2, None) for m in models]
        exact, rounded = (ql.seed_logits(family, data.test.x) for family in (models, coarse))
        right[init] = [100 * ((z > 0) == data.test.y).mean() for z in (exact, rounded)]
        snr[init] = np.mean([ql.snr_db(a, b) for a, b in zip(exact, rounded, strict=True)])
    assert abs(right["he"][0] - right["glorot"][0]) < 0.5
    assert right["glorot"][0] - right["glorot"][1] < 0.5 * (right["he"][0] - right["he"][1])
    assert snr["glorot"] > snr["he"] + 3


def test_one_candle_stretches_the_grid_of_the_inputs_and_a_clip_mends_it():
    """8-bit inputs cost more than 8-bit weights: the return of one candle is 20 sigma away."""
    candles = ql.synthetic_candles(20_000, seed=7)
    agree = {}
    for scaling in ("log-zscore", "log-clip"):
        data = ql.prepare(candles, "range", scaling)
        assert (np.abs(data.train.x).max() > 15) == (scaling == "log-zscore")
        (model,) = ql.train_seeds(data, seeds=[0])
        exact = model.predict_logits(data.test.x)
        for bits in (8, 4):
            coarse = ql.post_training_quantize(model, data.train.x, bits, bits)
            agree[scaling, bits] = agreement(exact, coarse.predict_logits(data.test.x))
    assert agree["log-clip", 8] > 99 > agree["log-zscore", 8]
    assert agree["log-clip", 4] > 90 > 80 > agree["log-zscore", 4]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_recorded_candles_have_the_same_baselines(recordings, symbol):
    """On the last 20,000 candles of 2025 the network beats the rules, not logistic regression."""
    rows = read_csv(recordings / "market" / f"bybit_linear_{symbol}_5m_2025.csv")[-20_000:]
    table = np.array([row[:6] for row in rows], float).T
    source = Source("replay", "csv")
    candles = Candles(*table, table[4] * table[5], symbol, "linear", "5", source)
    data = ql.prepare(candles, "range")
    right = {name: d == data.test.y for name, d in data.baselines.items()}
    logits = ql.seed_logits(ql.train_seeds(data, seeds=range(3)), data.test.x)
    ours = (logits > 0) == data.test.y
    _, low, _ = paired_interval(ours, right["rule"], data.test.day)
    assert low > 1
    mean, low, high = paired_interval(ours, right["logistic regression"], data.test.day)
    assert abs(mean) < 1 and high - low < 3


def earned(candles):
    """Model minus logistic regression and minus the best simple rule, (mean, low, high) each."""
    data = ql.prepare(candles)
    logits = ql.seed_logits(ql.train_seeds(data, seeds=range(3)), data.test.x)
    ours, baselines = (logits > 0) == data.test.y, data.baselines
    return [
        paired_interval(ours, baselines[name] == data.test.y, data.test.day)
        for name in ("logistic regression", data.best_rule)
    ]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_the_network_earns_its_keep_on_recorded_candles(recordings, symbol):
    rows = read_csv(recordings / "market" / f"bybit_linear_{symbol}_5m_2025.csv")[-40_000:]
    table = np.array([row[:6] for row in rows], float).T
    source = Source("replay", "csv")
    over_line, over_rule = earned(
        Candles(*table, table[4] * table[5], symbol, "linear", "5", source)
    )
    assert over_line[1] > 3 and over_rule[1] > 0


def test_the_network_earns_its_keep_on_simulated_candles():
    over_line, over_rule = earned(ql.synthetic_candles(40_000, seed=8))
    assert over_line[1] > 3 and over_rule[1] > 0
