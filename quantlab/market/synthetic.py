"""A seeded simulator of 5-minute candles."""

from __future__ import annotations

import numpy as np

from quantlab.market.candles import Candles, Source, check_interval, following

TICK = 10  # ticks per unit of price: prices lie on a grid of 0.1


def synthetic_candles(
    n: int,
    seed: int = 7,
    interval: str = "5",
    start: str = "2025-01-01",
    symbol: str = "SYNTH",
) -> Candles:
    """n seeded candles (first version)."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    interval = check_interval(interval)
    step = int(following(np.int64(0), interval))
    first = int(np.datetime64(start, "ms").astype(np.int64)) // step * step
    starts = first + step * np.arange(n, dtype=np.int64)

    def ar(phi: float, sigma: float) -> np.ndarray:
        shock = rng.standard_normal(n) * sigma * np.sqrt(1 - phi * phi)
        shock[0] /= np.sqrt(1 - phi * phi)
        return lfilter([1.0], [1.0, -phi], shock)

    hour = (starts % 86_400_000) / 3_600_000
    season = 0.3 * np.cos(2 * np.pi * (hour - 15) / 24) + 0.1 * np.cos(4 * np.pi * (hour - 14) / 24)
    log_vol = season + ar(0.9995, 0.35) + ar(0.98, 0.35) + ar(0.8, 0.15)
    log_vol += 0.25 * rng.standard_normal(n)
    if n >= 5000:
        log_vol[int(0.3 * n)] = np.log(0.045 / 0.0009)
    sigma = 0.0009 * np.exp(log_vol)
    shock = rng.standard_normal(n)
    shock[1:] -= 0.05 * shock[:-1]
    move = sigma * shock
    level = np.cumsum(np.concatenate([[np.log(60_000 * TICK)], move]))
    up = (move + np.sqrt(move**2 - 2 * sigma**2 * np.log(rng.random(n)))) / 2
    down = (move - np.sqrt(move**2 - 2 * sigma**2 * np.log(rng.random(n)))) / 2
    ticks = np.maximum(np.rint(np.exp(level)), 2)
    open_, close = ticks[:-1], ticks[1:]
    high = np.maximum(np.rint(np.exp(level[:-1] + up)), np.maximum(open_, close))
    low = np.minimum(np.rint(np.exp(level[:-1] + down)), np.minimum(open_, close))
    volume = np.round(100 * np.exp(1.3 * log_vol + 0.4 * rng.standard_normal(n)), 3)
    prices = [p / TICK for p in (open_, high, np.maximum(low, 1), close)]
    return Candles(
        starts, *prices, volume, volume * prices[3], symbol, "linear", interval,
        Source("synthetic", f"simulator seed {seed}"),
    )
