"""A seeded simulator of 5-minute candles with the stylized facts of a liquid perpetual.

A log volatility h[t] drives everything: an intraday season, calmer weekends, three mean-reverting
components (days, hours, minutes), and noise. Given h[t], the move inside a candle is a Brownian
path: its close is Gaussian, and its high and low follow exactly from the law of the maximum of a
Brownian bridge. Volume follows h[t] and the range that came out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quantlab._checks import integer
from quantlab.market.candles import Candles, Source
from quantlab.market.times import DAY, check_interval, floor_start, following, moment, utc

TICKS = 10  # per unit of price: prices lie on a grid of 0.1
FIRST_PRICE, TYPICAL_VOLUME = 60_000, 150
LEVEL = 0.00093  # standard deviation of a 5-minute move when h is 0
HOURS = (0, 6, 12, 14.5, 20, 24)  # UTC; the peak is the opening of the stock exchanges in New York
SEASON = (0.1, -0.28, -0.12, 0.48, 0.05, 0.1)
WEEKEND = -0.35
COMPONENTS = ((6.0, 0.38, 0.0), (0.18, 0.4, 0.5), (0.012, 0.2, 0.5))  # memory in days, std, skew
NOISE = 0.27
REVERSAL = 0.05  # a move gives back this share of the one before: direction is nearly a coin
LIQUIDATION = 0.3  # place of the liquidation candle in the sample, always in the training part
SHORTEST_WITH_LIQUIDATION = 5000


def synthetic_candles(
    n: int,
    seed: int = 7,
    interval: str | int = "5",
    start: Any = "2025-01-01",
    symbol: str = "SYNTH",
    liquidation: bool = True,
) -> Candles:
    """n simulated candles: fat tails, clustered volatility, a daily season, volume that follows.

    Each open is the close before; prices lie on a grid of 0.1. The constants are tuned to
    5-minute candles; other intervals scale the moves with the square root of time. No row of any
    market is in here.

    ``interval`` is one of Bybit's names up to a week; ``start`` is any time that ``moment`` reads,
    and the candle that contains it is the first. ``liquidation=True`` plants one candle with a
    range of 8 to 10 % and its aftershocks into samples of 5,000 or more, 30 % of the way in, and
    ``describe()`` names its row; False leaves it out.

    Raises ``ValueError`` if n < 1, or for months, whose length varies.

    Source: Cont (2001), "Empirical properties of asset returns", for the facts. Taught in
    chapter 13.

    >>> candles = synthetic_candles(20_000, seed=7)
    >>> bool((candles.open[1:] == candles.close[:-1]).all())
    True
    >>> int(np.argmax(candles.high / candles.low))
    6000
    >>> candles.source.note
    'one planted liquidation candle at row 6,000 (2025-01-21 20:00 UTC)'
    """
    interval = check_interval(interval)
    n = integer(n, "synthetic_candles", "n", 1, 10**8)
    if interval == "M":
        raise ValueError("synthetic_candles: interval is M; months vary in length, take at most W")
    rng = np.random.default_rng(seed)
    step = int(following(np.int64(0), interval))
    first = int(floor_start(moment(start, "synthetic_candles", "start"), interval))
    starts = first + step * np.arange(n, dtype=np.int64)

    planted = int(LIQUIDATION * n) if liquidation and n >= SHORTEST_WITH_LIQUIDATION else None
    h = log_volatility(starts, rng, planted)
    sigma = LEVEL * np.sqrt(step / 300_000) * np.exp(h)
    shock = rng.standard_normal(n)
    shock[1:] -= REVERSAL * shock[:-1]
    up_draw, down_draw = rng.random(n), rng.random(n)
    volume_noise = 0.3 * rng.standard_normal(n) + mean_reverting(n, 6, 0.45, 0.0, rng)
    note = ""
    if planted is not None:
        k = planted  # falls 8 %, closes 4.4 % down, whatever the seed
        sigma[k], shock[k], up_draw[k], down_draw[k] = 0.04, -1.1, 0.9, 0.0137
        h[k], volume_noise[k] = 3.5, 0.0
        note = f"one planted liquidation candle at row {k:,} ({utc(starts[k])} UTC)"

    move = sigma * shock
    up = (move + np.sqrt(move**2 - 2 * sigma**2 * np.log(up_draw))) / 2
    down = (move - np.sqrt(move**2 - 2 * sigma**2 * np.log(down_draw))) / 2
    level = np.log(FIRST_PRICE * TICKS) + np.concatenate([[0.0], np.cumsum(move)])
    ticks = np.maximum(np.rint(np.exp(level)), 2)
    open_, close = ticks[:-1], ticks[1:]
    high = np.maximum(np.rint(np.exp(level[:-1] + up)), np.maximum(open_, close))
    low = np.minimum(np.rint(np.exp(level[:-1] + down)), np.minimum(open_, close))
    surprise = np.log((up - down) / sigma / 1.6)  # 1.6: mean range of a Brownian path
    volume = np.round(TYPICAL_VOLUME * np.exp(1.1 * h + 0.6 * surprise + volume_noise), 3)
    return Candles(
        starts, open_ / TICKS, high / TICKS, np.maximum(low, 1) / TICKS, close / TICKS,
        volume, np.round(volume * close / TICKS, 4), symbol, "linear", interval,
        Source("synthetic", f"simulator seed {seed}", note),
    )  # fmt: skip


def log_volatility(starts: np.ndarray, rng: np.random.Generator, planted: int | None) -> np.ndarray:
    """h (n,): season, weekend, mean-reverting components, noise, aftershocks of row planted."""
    n = len(starts)
    per_day = DAY / (starts[1] - starts[0]) if n > 1 else 288
    h = np.interp(starts % DAY / 3_600_000, HOURS, SEASON)
    h += WEEKEND * ((starts // DAY + 3) % 7 >= 5)  # day 0 of the epoch was a Thursday
    for days, std, skew in COMPONENTS:
        h += mean_reverting(n, days * per_day, std, skew, rng)
    h += NOISE * rng.standard_normal(n)
    if planted is not None:
        after = np.arange(n - planted)
        h[planted:] += 3.5 * np.exp(-after / 5) + 0.7 * np.exp(-after / 100)
    return h


def mean_reverting(
    n: int, memory: float, std: float, skew: float, rng: np.random.Generator
) -> np.ndarray:
    """Stationary AR(1) (n,) that forgets within ``memory`` steps; skew mixes in upward bursts."""
    from scipy.signal import lfilter

    phi = np.exp(-1 / memory)
    shock = np.sqrt(1 - skew**2) * rng.standard_normal(n) + skew * (rng.exponential(size=n) - 1)
    begin = phi * std * rng.standard_normal(1)
    return lfilter([1.0], [1.0, -phi], shock * std * np.sqrt(1 - phi**2), zi=begin)[0]
