"""Strategies in every format: no look-ahead, costs, no gap without rounding, seeds."""

from dataclasses import replace

import numpy as np
import pytest
from replay import read_csv

import quantlab as ql
from quantlab import strategies as st
from quantlab.market import Candles, Source

HOURS, TRAIN = 24 * 60, 24 * 20
FORMS = ("FP32", "FP16", "INT12", "INT8", "INT4", "INT2", "INT1")


@pytest.fixture(scope="module")
def candles():
    return ql.synthetic_candles(HOURS, seed=3, interval="60", liquidation=False)


@pytest.fixture(scope="module")
def market(candles):
    return st.planted_market(candles, seed=3)


def orders(markets, n, seed=0):
    return np.random.default_rng(seed).random((markets, 2, n))


# Formats


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 12, 16])
def test_an_integer_format_is_the_grid_of_the_rows_seen(bits):
    x = np.linspace(-3, 3, 101, dtype=np.float32)
    seen = x[20:]
    params = ql.choose_params(seen, ql.QuantizationScheme.SYMMETRIC_PER_TENSOR, bits)
    np.testing.assert_array_equal(
        st.in_format(x, f"INT{bits}", seen), ql.fake_quantize(x, params).astype(float)
    )
    grid = st.in_format(x, f"INT{bits}", seen, signed=False)
    low, high = ql.fake_quantize(seen, params).min(), seen.max()
    assert len(np.unique(grid)) <= 2**bits and low < 0 and abs(grid.max() - high) < 0.5


def test_float_formats_are_casts():
    x = np.array([1 / 3, -60_001.0, 7e-8])
    np.testing.assert_array_equal(st.in_format(x, "FP32", x), x.astype(np.float32).astype(float))
    np.testing.assert_array_equal(st.in_format(x, "FP16", x), x.astype(np.float16).astype(float))
    with pytest.raises(ValueError, match="reaches 93530, FP16 ends at 65504"):
        st.in_format(np.array([93_530.0]), "FP16", x)
    for wrong in ("INT0", "INT17", "int8", "FP64", "", "INTx", 8, None):
        with pytest.raises(ValueError, match="expected FP32, FP16, or INT1 to INT16"):
            st.in_format(x, wrong, x)
    with pytest.raises(ValueError, match="NaN"):
        st.in_format(np.array([np.nan]), "INT8", x)


@pytest.mark.parametrize("form", [f for f in FORMS if f != "INT1"])
def test_the_quotes_of_the_loop_are_in_that_format(form):
    top = np.array([0.7, 2.0])
    x = np.random.default_rng(1).uniform(0, 2.2, (50, 2))
    quote = st._quoter(form, top)
    for j in range(2):
        whole = st.in_format(x[:, j], form, np.array([0, top[j]]), signed=False)
        np.testing.assert_allclose(np.stack([quote(row) for row in x])[:, j], whole, rtol=1e-6)


# No look-ahead


def trend(price, form="INT4", rounded="signal"):
    return np.sign(st.trend_signal(price, 24, TRAIN, form, rounded))


def pair(a, b, form="INT4", rounded="signal"):
    z, hedge = st.pair_signal(a, b, TRAIN, form, rounded)
    return st.pair_position(z) * hedge


def portfolio(assets, form="INT8", rounded="signal"):
    """Weights by hour, (assets, n), none before the first window is full."""
    returns = assets[:, 1:] / assets[:, :-1] - 1
    ends, matrices = st.covariances(returns, 240, 24)
    weights, _ = st.minimum_variance(st.round_matrices(matrices, form, rounded))
    held = np.zeros_like(assets)
    for end, w in zip(ends, weights, strict=True):
        held[:, end + 1 :] = w[:, None]
    return held


@pytest.mark.parametrize("rounded", st.ROUNDED)
@pytest.mark.parametrize("form", ["FP32", "FP16", "INT8", "INT2"])
def test_no_strategy_looks_ahead(market, form, rounded):
    assert not st.looks_ahead(lambda p: trend(p, form, rounded), market["trend"])
    assert not st.looks_ahead(lambda a, b: pair(a, b, form, rounded), *market["pair"])
    assert not st.looks_ahead(lambda p: portfolio(p, form, rounded), market["assets"])


def market_maker(candles, form, rounded):
    def inventory(close, high, low):
        c = replace(candles, close=close, open=close, high=high, low=low)
        return st.make_market([c], orders(1, HOURS), TRAIN, 0.0002, form, rounded)[2][0]

    return inventory


@pytest.mark.parametrize("rounded", st.ROUNDED)
def test_the_market_maker_does_not_look_ahead(candles, rounded, monkeypatch):
    """Its inventory after candle t holds the trades of candle t, hence the cut one earlier."""
    monkeypatch.setattr(Candles, "__post_init__", lambda self: None)  # candles that are no candles
    series = candles.close, candles.high, candles.low
    decide = market_maker(candles, "INT4", rounded)

    def known(*series):
        return np.pad(decide(*series), (1, 0))

    assert not st.looks_ahead(known, *series)
    forecast = st.spread_forecast  # planted: the range three candles ahead
    monkeypatch.setattr(st, "spread_forecast", lambda c: np.roll(forecast(c), -3))
    assert st.looks_ahead(known, *series, tries=60)


def test_planted_look_aheads_are_caught(market):
    price, (a, b) = market["trend"], market["pair"]

    def next_close(p):
        return st.trend_signal(np.append(p[1:], p[-1]), 24, TRAIN, "INT8")

    def whole_grid(p):  # the grid is fitted on all rows
        signal = st.trend_signal(p, 24, TRAIN)
        return np.sign(st.in_format(signal, "INT4", signal))

    def whole_hedge(a, b):
        z, hedge = st.pair_signal(a, b, a.shape[-1])
        return st.pair_position(z) * hedge

    def centered(p):  # the window ends twelve hours after the hour that it decides
        return np.roll(portfolio(p), -12, axis=1)

    assert st.looks_ahead(next_close, price)
    assert st.looks_ahead(whole_grid, price)
    assert st.looks_ahead(whole_hedge, a, b)
    assert st.looks_ahead(centered, market["assets"])


def test_the_forecast_of_the_range_ends_with_the_candle_itself(candles):
    spread = (candles.high - candles.low) / candles.close
    forecast = st.spread_forecast(candles)
    by_hand = [spread[t - 2 : t + 1].mean() for t in range(2, HOURS)]
    np.testing.assert_allclose(forecast[2:], by_hand, rtol=1e-9)
    five = ql.synthetic_candles(600, seed=1)
    spread = (five.high - five.low) / five.close
    np.testing.assert_allclose(st.spread_forecast(five)[100], spread[89:101].mean(), rtol=1e-9)


# No rounding, no gap; costs; seeds


def test_float32_is_float64_where_it_decides(market, candles):
    """The formats share one path: FP32 decides as float64 does, 16 bits nearly so."""
    price, (a, b) = market["trend"], market["pair"]
    for rounded in st.ROUNDED:
        same = trend(price, "FP32", rounded) == trend(price, "INT16", rounded)
        assert same.mean() > 0.99
        np.testing.assert_array_equal(pair(a, b, "FP32", rounded), pair(a, b, "FP32", "signal"))
        np.testing.assert_allclose(
            portfolio(market["assets"], "FP32", rounded),
            portfolio(market["assets"], "INT16", "signal"),
            atol=2e-3,
        )
    free = [st.make_market([candles], orders(1, HOURS), TRAIN, 0.0, "FP32", r) for r in st.ROUNDED]
    np.testing.assert_allclose(free[0][0], free[1][0], atol=1e-6)


def test_one_bit_keeps_the_sign_and_two_bits_do_not(market):
    price = market["trend"]
    signal = st.trend_signal(price, 24, TRAIN)
    np.testing.assert_array_equal(trend(price, "INT1"), np.where(signal >= 0, 1, -1))
    assert (trend(price, "INT2") == 0).mean() > 0.2  # the grid has a zero
    # which is a deadband of half a step, and nothing else
    dead = np.abs(signal) <= np.abs(signal[:TRAIN]).max() / 2
    np.testing.assert_array_equal(trend(price, "INT2") == 0, dead)


def test_a_coarse_grid_moves_the_threshold_of_the_pair(market):
    """Four bits on the signal are the float rule with other thresholds, not a noisy one."""
    z, _ = st.pair_signal(*market["pair"], TRAIN)
    coarse, _ = st.pair_signal(*market["pair"], TRAIN, "INT4")
    step = np.abs(z[:TRAIN]).max() / 7
    enter = (np.ceil(st.ENTER / step) - 0.5) * step
    leave = (np.floor(st.LEAVE / step) + 0.5) * step
    moved = st.pair_position(z, enter, leave)
    assert (moved == st.pair_position(coarse)).mean() > 0.999
    assert enter != pytest.approx(st.ENTER)


def test_costs_are_charged_when_the_position_changes(market, candles):
    price = market["trend"]
    position, move = trend(price)[:-1], price[1:] / price[:-1] - 1
    free, turnover = ql.profit(position, move, 0.0)
    paid, _ = ql.profit(position, move, 0.001)
    changed = np.flatnonzero(turnover)
    np.testing.assert_allclose(free - paid, 0.001 * turnover)
    assert set(changed[1:-1]) == set(np.flatnonzero(np.diff(position)[:-1]) + 1) - {changed[0]}
    both, _ = ql.profit(np.stack([position, -position]), np.stack([move, 2 * move]), 0.001)
    np.testing.assert_allclose(both[0], paid)
    np.testing.assert_allclose(both[1], -2 * position * move - 0.001 * turnover)
    made = [st.make_market([candles], orders(1, HOURS), TRAIN, fee) for fee in (0.0, 0.0002)]
    (profit, turnover, inventory) = made[1]
    assert np.abs(inventory).max() <= 1 + 1e-9
    np.testing.assert_allclose(turnover >= np.abs(np.diff(inventory, prepend=0.0)) - 1e-12, True)
    # by hand: what a trade earns against the close, less the fee, and the inventory's move
    move = np.diff(candles.close) / candles.close[:-1]
    idle = turnover[0] == 0
    np.testing.assert_allclose(profit[0][idle], (inventory[0] * move)[idle])
    assert idle.any() and not idle.all()


def test_seeds_repeat_and_differ(candles):
    again = [st.planted_market(candles, seed=s) for s in (3, 3, 4)]
    for name in again[0]:
        np.testing.assert_array_equal(again[0][name], again[1][name])
        assert (again[0][name] != again[2][name]).any()
    one, same, other = (
        st.make_market([candles], orders(1, HOURS, seed), TRAIN, 0.0002)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_markets_side_by_side_are_markets_alone(candles):
    other = ql.synthetic_candles(HOURS, seed=4, interval="60", liquidation=False)
    draws = orders(2, HOURS)
    for form, rounded in (("FP32", "raw"), ("INT4", "signal"), ("FP16", "raw")):
        both = st.make_market([candles, other], draws, TRAIN, 0.0002, form, rounded)
        for i, c in enumerate((candles, other)):
            alone = st.make_market([c], draws[i : i + 1], TRAIN, 0.0002, form, rounded)
            for together, single in zip(both, alone, strict=True):
                np.testing.assert_allclose(together[i], single[0], atol=1e-12)
    with pytest.raises(ValueError, match="expected one length"):
        st.make_market([candles, other[:-1]], draws, TRAIN, 0.0002)
    with pytest.raises(ValueError, match="expected one length"):
        st.make_market([candles], draws, TRAIN, 0.0002)


# What is planted


def test_what_is_planted_is_there(market):
    """The gap closes, the volatilities lie a factor of 8 apart, the drift is there."""
    a, b = np.log(market["pair"])
    gap = a - st.HEDGE * b
    lag = 12  # half a day
    rho = np.corrcoef(gap[:-lag], gap[lag:])[0, 1]
    assert 0.2 < rho < 0.5 and abs(gap.std() / st.GAP - 1) < 0.2
    _, hedge = st.pair_signal(*market["pair"], TRAIN)
    assert abs(hedge - st.HEDGE) < 0.05
    moves = np.diff(np.log(market["assets"]), axis=1).std(axis=1)
    assert 5 < moves.max() / moves.min() < 12
    assert np.corrcoef(np.diff(np.log(market["assets"])))[0, 1:].mean() > 0.2


# Matrices


def test_a_rounded_covariance_stops_being_positive_definite(market):
    returns = np.diff(np.log(market["assets"]), axis=1)
    _, matrices = st.covariances(returns, 240, 24)
    np.testing.assert_allclose(matrices[0], np.cov(returns[:, :240]))
    valid = {
        (form, rounded): st.minimum_variance(st.round_matrices(matrices, form, rounded))[1].mean()
        for form in ("FP32", "INT12", "INT8", "INT3")
        for rounded in st.ROUNDED
    }
    assert valid["FP32", "raw"] == valid["INT12", "signal"] == valid["INT8", "signal"] == 1
    assert valid["INT8", "raw"] < 0.5 and valid["INT3", "signal"] < 0.5
    coarse = st.round_matrices(matrices, "INT8", "signal")
    np.testing.assert_allclose(
        np.diagonal(coarse, axis1=1, axis2=2), np.diagonal(matrices, axis1=1, axis2=2), rtol=1e-5
    )


def test_minimum_variance_is_least(market):
    returns = np.diff(np.log(market["assets"]), axis=1)
    _, matrices = st.covariances(returns, 240, 240)
    weights, valid = st.minimum_variance(matrices)
    assert valid.all() and np.allclose(weights.sum(axis=1), 1)
    least = np.einsum("mi,mij,mj->m", weights, matrices, weights)
    rng = np.random.default_rng(0)
    for _ in range(20):
        step = 0.05 * rng.standard_normal(weights.shape)
        other = weights + step - step.mean(axis=1, keepdims=True)
        assert (np.einsum("mi,mij,mj->m", other, matrices, other) > least).all()
    broken = np.stack([np.ones((3, 3)), np.eye(3)])
    weights, valid = st.minimum_variance(broken)
    np.testing.assert_allclose(weights, 1 / 3)
    assert valid.tolist() == [False, True]


def test_bad_input_is_named(market, candles):
    with pytest.raises(ValueError, match=r"window is 9999; expected \(assets, n\) and a window"):
        st.covariances(market["assets"], 9999, 24)
    for call in (
        lambda: trend(market["trend"], "INT4", "prices"),
        lambda: pair(*market["pair"], "INT4", "both"),
        lambda: st.round_matrices(np.eye(2)[None], "INT4", None),
        lambda: st.make_market([candles], orders(1, HOURS), TRAIN, 0.0, "INT4", "x"),
    ):
        with pytest.raises(ValueError, match="expected one of raw, signal"):
            call()
    with pytest.raises(ValueError, match="assets is 1"):
        st.planted_market(candles, assets=1)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_recorded_candles_run(recordings, symbol):
    """Any candles take the planted effects, and make a market, in every format."""
    rows = read_csv(recordings / "market" / f"bybit_linear_{symbol}_5m_2025.csv")[:1500]
    table = np.array([row[:6] for row in rows], float).T
    candles = Candles(*table, table[4] * table[5], symbol, "linear", "5", Source("replay", "csv"))
    market = st.planted_market(candles)
    assert all(np.isfinite(prices).all() for prices in market.values())
    free = st.make_market([candles], orders(1, 1500), 500, 0.0002)[0].sum()
    for form in FORMS:
        made = st.make_market([candles], orders(1, 1500), 500, 0.0002, form)[0]
        assert np.isfinite(made).all() and (form == "FP32") == (made.sum() == free)
