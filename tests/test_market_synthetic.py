"""The simulator shows the stylized facts of 5-minute candles."""

import numpy as np
import pytest
from scipy.stats import kurtosis

from quantlab.market import baseline_rules, candle_features, chronological_split, synthetic_candles
from quantlab.market.times import INTERVALS

N = 60_000


@pytest.fixture(scope="module", params=[7, 8, 9])
def candles(request):
    return synthetic_candles(N, seed=request.param)


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def autocorrelation(x, lag):
    return correlation(x[:-lag], x[lag:])


def log_range(candles):
    return np.log(np.maximum(candles.high - candles.low, 0.1) / candles.open)


def test_seeded():
    a = synthetic_candles(100_000, seed=5)
    b, c = synthetic_candles(100_000, seed=5), synthetic_candles(100_000, seed=6)
    assert (a.close == b.close).all() and (a.volume == b.volume).all()
    assert (a.close != c.close).mean() > 0.9


def test_rows_are_candles_on_a_tick_grid(candles):
    assert (candles.open[1:] == candles.close[:-1]).all() and candles.gaps == []
    for price in (candles.open, candles.high, candles.low, candles.close):
        assert (np.round(price, 1) == price).all()
    assert candles.source.kind == "synthetic" and "seed" in candles.describe()


def test_fat_tails(candles):
    returns = candles.returns
    assert 10 < kurtosis(returns) < 600  # a Gaussian has 0; recorded years have 40 to 150
    inner = np.sort(returns)[N // 1000 : -N // 1000]
    assert 3 < kurtosis(inner) < 9  # not the work of the one liquidation
    assert 0.05 < 100 * np.abs(returns).mean() < 0.15


def test_volatility_clusters_and_returns_do_not(candles):
    size = np.minimum(np.abs(candles.returns), np.quantile(np.abs(candles.returns), 0.999))
    decay = [autocorrelation(size, lag) for lag in (1, 12, 48, 144)]
    assert decay[0] > 0.2 and decay[1] > 0.15 and sorted(decay, reverse=True) == decay
    assert -0.1 < autocorrelation(candles.returns, 1) < 0.02
    assert abs(autocorrelation(candles.returns, 2)) < 0.06


def test_a_day_has_a_season_and_a_week_an_end(candles):
    spread = log_range(candles)
    hour = candles.start // 3_600_000 % 24
    weekday = (candles.start // 86_400_000 + 3) % 7
    means = np.array([spread[hour == h].mean() for h in range(24)])
    assert 13 <= means.argmax() <= 16 and 4 <= means.argmin() <= 9
    assert 0.5 < means.max() - means.min() < 1.0
    assert spread[weekday >= 5].mean() < spread[weekday < 5].mean() - 0.1


def test_volume_follows_volatility(candles):
    assert 0.7 < correlation(np.log(candles.volume + 0.001), log_range(candles)) < 0.9
    assert autocorrelation(np.log(candles.volume + 0.001), 12) > 0.3


@pytest.mark.parametrize("n", [5000, 20_000, 30_000])
@pytest.mark.parametrize("seed", [7, 8])
def test_one_liquidation_inside_the_training_part(n, seed):
    candles = synthetic_candles(n, seed=seed)
    size = (candles.high - candles.low) / candles.open
    place = int(np.argmax(size))
    assert place == int(0.3 * n) and 0.08 <= size[place] <= 0.10
    assert candles.returns[place] < -0.04
    assert size[np.arange(n) != place].max() < 0.07
    features = candle_features(candles)
    train, _, _ = chronological_split(features)
    assert candles.start[place] in features.start[train]
    assert features.x[train][:, 1].max() > 30


def test_small_samples_are_calm():
    assert ((c := synthetic_candles(2000)).high / c.low).max() < 1.05
    assert len(synthetic_candles(1)) == 1


def test_targets_are_as_hard_as_on_recorded_candles(candles):
    """Recorded 2025, BTC and ETH: majority 50.5, rule 67 to 69, hour 70 to 72, direction 52."""
    rules = baseline_rules(candle_features(candles))
    assert 0.495 < rules["range"]["majority"] < 0.52
    assert 0.645 < rules["range"]["rule"] < 0.695
    assert rules["range"]["rule"] + 0.01 < rules["range"]["hour"] < 0.73
    assert 0.505 < rules["direction"]["rule"] < 0.53


def test_other_intervals_and_bad_arguments():
    day = synthetic_candles(50, interval="D")
    assert (np.diff(day.start) == 86_400_000).all()
    assert synthetic_candles(5, start="2024-06-01").describe().count("2024-06-01") == 2
    for options, says in (
        ({"n": 0}, "n is 0; expected 1"),
        ({"n": "5"}, "n is '5'"),
        ({"n": 5.5}, r"n is 5\.5"),
        ({"n": True}, "n is True"),
        ({"n": 5, "interval": "M"}, "interval is M"),
        ({"n": 5, "interval": "7"}, "interval: got '7'"),
        ({"n": 5, "start": "soon"}, "start is 'soon'"),
    ):
        with pytest.raises(ValueError, match=says):
            synthetic_candles(**options)


@pytest.mark.parametrize("interval", INTERVALS[:-1])
def test_every_interval_is_simulated(interval):
    candles = synthetic_candles(6000, seed=3, interval=interval)
    assert candles.gaps == [] and candles.interval == interval
    assert "liquidation candle at row 1,800 (" in candles.source.note
    assert (candles.high[1800] - candles.low[1800]) / candles.open[1800] == pytest.approx(
        0.09, abs=0.01
    )


def test_the_planted_candle_is_disclosed_and_can_be_left_out():
    planted = synthetic_candles(6000, seed=4)
    calm = synthetic_candles(6000, seed=4, liquidation=False)
    note = "one planted liquidation candle at row 1,800 (2025-01-07 06:00 UTC)"
    assert planted.describe().endswith(note) and note in planted[-5:].describe()
    assert "planted" not in calm.describe() + synthetic_candles(4999, seed=4).describe()
    assert (planted.close[:1800] == calm.close[:1800]).all()  # the same market but for it
    assert (calm.high / calm.low).max() < 1.07 < planted.high[1800] / planted.low[1800]
