"""Four strategies in a few lines each, to ask of all of them what rounding does to their money.

Time is the last axis: prices (n,) of one market, or (markets, n). What stands at index i is known
when candle i closes, and is held over the candle after it. A format is "FP32", "FP16" or "INT8"
with any number from 1 to 16. `rounded` says where the format applies: to the "raw" numbers as
they come, prices or covariances, or to the "signal" made of them, distances, differences or
correlations. Grids, hedges and scales are fitted on the first `train` candles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from quantlab import _checks
from quantlab.calibration import choose_params
from quantlab.market.candles import Candles
from quantlab.market.synthetic import mean_reverting
from quantlab.market.times import DAY
from quantlab.scheme import QuantizationScheme
from quantlab.tensor import fake_quantize

ROUNDED = ("raw", "signal")
HEADROOM = 4.0  # a grid for prices reaches four times the highest price of the training candles
HEDGE, GAP, GAP_DAYS = 1.25, 0.0025, 0.5  # planted pair: log a = HEDGE log b + gap, its std, memory
DRIFT, DRIFT_DAYS = 0.01, 4.0  # planted trend: std of the daily drift, its memory
ENTER, LEAVE = 2.0, 0.5  # the pair: standard deviations at which it opens and closes
FAST, SLOW = 1.0, 6.0  # the trend: memories of the two averages, in days
LOT, LEAN = 0.1, 1.0  # market making: limit's share in a trade, ranges a full inventory leans
FLOW, REACH = 0.25, 0.0008  # uninformed orders a candle and side, and how far they pay


def in_format(x: np.ndarray, form: str, seen: np.ndarray, signed: bool = True) -> np.ndarray:
    """Values x, any shape, as a number format keeps them: float64, of the shape of x.

    form: "FP32", "FP16", or "INT1" to "INT16": a grid over the smallest and largest value of
    `seen`, symmetric if signed, from zero up if not. Raises ValueError for another format, and
    for FP16 if x reaches beyond 65,504.
    Taught in chapter 14.

    >>> in_format(np.array([0.3, -1.0]), "INT3", np.array([-1.0, 1.0])).round(3).tolist()
    [0.333, -1.0]
    """
    x = _checks.real_array(x, "in_format").astype(np.float32)
    if form == "FP32":
        return x.astype(np.float64)
    if form == "FP16":
        if np.abs(x).max() > 65_504:
            raise ValueError(f"in_format: x reaches {np.abs(x).max():g}, FP16 ends at 65504; scale")
        return x.astype(np.float16).astype(np.float64)
    kind, bits = str(form)[:3], str(form)[3:]
    if kind != "INT" or not bits.isdigit() or not 1 <= int(bits) <= 16:
        raise ValueError(f"in_format: format is {form!r}; expected FP32, FP16, or INT1 to INT16")
    scheme = QuantizationScheme[f"{'' if signed else 'A'}SYMMETRIC_PER_TENSOR"]
    params = choose_params(np.ravel(seen), scheme, int(bits), signed=signed)
    return fake_quantize(x, params).astype(np.float64)


def planted_market(candles: Candles, seed: int = 0, assets: int = 16) -> dict[str, np.ndarray]:
    """Close prices built around any candles, with what each strategy lives on planted.

    "trend" (n,): the candles plus a drift that turns every few days. "pair" (2, n): the candles,
    and a second asset from which they are HEDGE times away, up to a gap that closes in half a day.
    "assets" (assets, n): the candles as the common factor, four sectors, noise of its own for
    each; the volatilities lie a factor of 8 apart.
    Taught in chapter 14.

    >>> from quantlab.market import synthetic_candles
    >>> market = planted_market(synthetic_candles(500, interval="60"), assets=6)
    >>> {name: prices.shape for name, prices in market.items()}
    {'trend': (500,), 'pair': (2, 500), 'assets': (6, 500)}
    """
    assets = _checks.integer(assets, "planted_market", "assets", 2, 500)
    n, rng = len(candles), np.random.default_rng([seed, 14])
    day = per_day(candles)
    base = np.log(candles.close / candles.close[0])
    drift = mean_reverting(n, DRIFT_DAYS * day, DRIFT / day, 0.0, rng)
    gap = mean_reverting(n, GAP_DAYS * day, GAP, 0.0, rng)
    typical = np.log(candles.high / candles.low) / 1.6  # 1.6: mean range of a Brownian path
    noise = typical * rng.standard_normal((4 + assets, n))
    common = np.diff(base, prepend=0.0) * rng.uniform(0.6, 1.4, (assets, 1))
    own = 0.6 * noise[np.arange(assets) % 4] + 0.6 * noise[4:]
    moves = (common + own) * rng.permutation(np.geomspace(0.35, 2.8, assets))[:, None]
    return {
        "trend": np.exp(base + np.cumsum(drift)),
        "pair": np.exp([base, (base - gap) / HEDGE]),
        "assets": np.exp(np.cumsum(moves, axis=1)),
    }


def per_day(candles: Candles) -> int:
    """Candles in a day, at least 1."""
    return max(int(DAY // np.median(np.diff(candles.start))), 1)


def looks_ahead(decide: Callable[..., Any], *series: np.ndarray, tries: int = 16) -> bool:
    """Whether decide(*series) changes before some moment when only the time after it does.

    For each of `tries` moments, spread over the last half, every series (..., n) is multiplied
    from there on by a jump and a random walk; what was decided before must not move by a bit.
    decide returns one array (..., n): better a signal than a position, which can stay where it
    is by chance. True proves a look-ahead, False means that none was found.
    Taught in chapter 14.

    >>> price = np.exp(np.random.default_rng(0).standard_normal(50).cumsum() / 100)
    >>> tomorrow = lambda p: np.sign(np.roll(p, -1) - p)
    >>> looks_ahead(np.sign, price), looks_ahead(tomorrow, price)
    (False, True)
    """
    rng, before = np.random.default_rng(0), np.asarray(decide(*series))
    n = before.shape[-1]
    for cut in np.linspace(n // 2, n - 1, tries, dtype=int):
        changed = [np.array(x, np.float64) for x in series]
        for x in changed:
            walk = 0.1 * rng.standard_normal(x[..., cut:].shape).cumsum(axis=-1)
            x[..., cut:] *= np.exp(walk + rng.choice([-1.0, 1.0], (*x.shape[:-1], 1)))
        after = np.asarray(decide(*changed))
        if not np.array_equal(before[..., :cut], after[..., :cut]):
            return True
    return False


def _place(rounded: str, function: str) -> bool:
    return _checks.choice(rounded, function, "rounded", ROUNDED) == "raw"


def _prices(price: np.ndarray, form: str, train: int) -> np.ndarray:
    """Prices in units of the first, on a grid that leaves them room to rise."""
    price = price / price[..., :1]
    ends = np.array([0.0, HEADROOM * price[..., :train].max()])
    return in_format(price, form, ends, signed=False)


def _log(price: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(price, 1e-6))  # a coarse grid can round a price to zero


def trend_signal(
    price: np.ndarray, day: int, train: int, form: str = "FP32", rounded: str = "signal"
) -> np.ndarray:
    """Fast minus slow exponential average of the log price (..., n): its sign is the position.

    Raises ValueError as `in_format`, or for another `rounded`. Taught in chapter 14.
    """
    from scipy.signal import lfilter

    early = _place(rounded, "trend_signal")
    log = _log(_prices(price, form, train)) if early else _log(price / price[..., :1])
    fast, slow = (
        lfilter([1 - a], [1.0, -a], log, axis=-1)
        for a in (np.exp(-1 / (days * day)) for days in (FAST, SLOW))
    )
    signal = fast - slow
    return signal if early else in_format(signal, form, signal[..., :train])


def pair_signal(
    a: np.ndarray, b: np.ndarray, train: int, form: str = "FP32", rounded: str = "signal"
) -> tuple[np.ndarray, np.ndarray]:
    """(z, hedge): how many standard deviations (..., n) log a stands above hedge (...) log b.

    Hedge, mean and deviation are fitted on the training candles of the float prices.
    Raises ValueError as `in_format`, or for another `rounded`. Taught in chapter 14.
    """
    early = _place(rounded, "pair_signal")
    x, y = _log(b / b[..., :1]), _log(a / a[..., :1])
    xs, ys = (v[..., :train] - v[..., :train].mean(axis=-1, keepdims=True) for v in (x, y))
    hedge = (xs * ys).sum(axis=-1, keepdims=True) / (xs**2).sum(axis=-1, keepdims=True)
    seen = (y - hedge * x)[..., :train]
    mean, deviation = seen.mean(axis=-1, keepdims=True), seen.std(axis=-1, keepdims=True)
    if early:
        x, y = (_log(_prices(p, form, train)) for p in (b, a))
    z = (y - hedge * x - mean) / deviation
    return (z if early else in_format(z, form, z[..., :train])), hedge[..., 0]


def pair_position(z: np.ndarray, enter: float = ENTER, leave: float = LEAVE) -> np.ndarray:
    """Short (-1) from z >= enter, long (+1) from z <= -enter, out once abs(z) <= leave; (..., n).

    Taught in chapter 14.

    >>> pair_position(np.array([0.0, 2.1, 1.0, 0.4, -2.5, -1.0])).tolist()
    [0.0, -1.0, -1.0, 0.0, 1.0, 1.0]
    """
    event = np.where(np.abs(z) >= enter, -np.sign(z), 0.0)
    change = (np.abs(z) >= enter) | (np.abs(z) <= leave)
    last = np.maximum.accumulate(np.where(change, np.arange(z.shape[-1]), 0), axis=-1)
    return np.take_along_axis(event, last, axis=-1)


def covariances(returns: np.ndarray, window: int, every: int) -> tuple[np.ndarray, np.ndarray]:
    """(ends, matrices): covariance (m, k, k) of the `window` returns that end with index ends (m,).

    returns (k, n). Raises ValueError if fewer than `window` came. Taught in chapter 14.
    """
    if returns.ndim != 2 or not 2 <= window <= returns.shape[1]:
        raise ValueError(
            f"covariances: returns have shape {returns.shape}, window is {window}; expected "
            "(assets, n) and a window from 2 to n"
        )
    ends = np.arange(window - 1, returns.shape[1], every)
    return ends, np.stack([np.cov(returns[:, e - window + 1 : e + 1]) for e in ends])


def round_matrices(matrices: np.ndarray, form: str, rounded: str = "signal") -> np.ndarray:
    """Covariances (m, k, k) with each matrix on its own grid.

    rounded "raw": the entries as they are. "signal": the correlations, while the k standard
    deviations stay in float. Raises ValueError as `in_format`. Taught in chapter 14.
    """
    deviation = np.ones(matrices.shape[:2])
    if not _place(rounded, "round_matrices"):
        deviation = np.sqrt(np.diagonal(matrices, axis1=1, axis2=2))
    outer = deviation[:, :, None] * deviation[:, None, :]
    each = [in_format(m, form, m) for m in matrices / outer]
    return np.stack(each) * outer


def minimum_variance(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weights (m, k), valid (m,)): weights that add to 1 with the least variance, in turn.

    A matrix that is not positive definite has no minimum: the weights before it stay, equal
    weights at first, and `valid` is False. Source: Markowitz 1952. Taught in chapter 14.

    >>> weights, valid = minimum_variance(np.array([np.diag([1.0, 3.0]), np.diag([1.0, 0.0])]))
    >>> weights.tolist(), valid.tolist()
    ([[0.75, 0.25], [0.75, 0.25]], [True, False])
    """
    m, k = matrices.shape[:2]
    weights, valid, last = np.empty((m, k)), np.zeros(m, bool), np.full(k, 1 / k)
    for i, matrix in enumerate(matrices):
        try:
            np.linalg.cholesky(matrix)
            solved = np.linalg.solve(matrix, np.ones(k))
            valid[i], last = True, solved / solved.sum()
        except np.linalg.LinAlgError:
            pass
        weights[i] = last
    return weights, valid


def spread_forecast(candles: Candles) -> np.ndarray:
    """The next candle's range as the mean of the last hour's, (n,), a share of the price.

    An hour is a 24th of a day of candles, at least 3 of them. Taught in chapter 14.
    """
    from scipy.ndimage import uniform_filter1d

    window = max(per_day(candles) // 24, 3)
    spread = (candles.high - candles.low) / candles.close
    return uniform_filter1d(spread, window, origin=(window - 1) // 2, mode="nearest")


def make_market(
    markets: list[Candles],
    orders: np.ndarray,
    train: int,
    fee: float,
    form: str = "FP32",
    rounded: str = "signal",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quote both sides of each close from candle `train` on; (profit, turnover, inventory).

    Each is (markets, n - 1), and zero before. The quotes stand fee + REACH plus half of the
    forecast range away from the close, and lean by LEAN of it against the inventory, which stays
    within 1. A quote trades a LOT if the next candle crosses it, or if an uninformed order pays
    it: orders (markets, 2, n), uniform on [0, 1), is below FLOW exp(-distance / REACH). rounded
    "raw": the two quoted prices go through the format; "signal": their distances from the close.
    Raises ValueError as `in_format`, or if markets differ in length.
    Source: Avellaneda and Stoikov 2008, for orders and leaning quotes. Taught in chapter 14.
    """
    lengths = sorted({len(c) for c in markets})
    if len(lengths) != 1 or np.shape(orders) != (len(markets), 2, lengths[0]):
        raise ValueError(
            f"make_market: {len(markets)} markets of {lengths} candles, orders of shape "
            f"{np.shape(orders)}; expected one length and (markets, 2, n)"
        )
    early = _place(rounded, "make_market")
    mid, high, low = (np.stack([getattr(c, k) for c in markets]) for k in ("close", "high", "low"))
    mid, high, low = (p / mid[:, :1] for p in (mid, high, low))
    spread = np.stack([spread_forecast(c) for c in markets])
    width = fee + REACH + spread / 2
    seen = HEADROOM * mid if early else width + LEAN * spread
    top = seen[:, :train].max(axis=1)
    quote = _quoter(form, top)
    move = np.diff(mid, axis=1) / mid[:, :-1]
    profit, turnover, held = (np.zeros(move.shape) for _ in range(3))
    inventory = np.zeros(len(markets))
    for t in range(train - 1, move.shape[1]):
        lean, now = LEAN * spread[:, t] * inventory, mid[:, t]
        away = [np.maximum(width[:, t] + lean, 0), np.maximum(width[:, t] - lean, 0)]
        if early:
            prices = quote(now * (1 - away[0])), quote(now * (1 + away[1]))
            away = [np.maximum(1 - prices[0] / now, 0), np.maximum(prices[1] / now - 1, 0)]
        else:
            away = [quote(a) for a in away]
        crossed = low[:, t + 1] < now * (1 - away[0]), high[:, t + 1] > now * (1 + away[1])
        paid = [orders[:, i, t] < FLOW * np.exp(-a / REACH) for i, a in enumerate(away)]
        bought = LOT * ((crossed[0] | paid[0]) & (inventory < 1 - LOT / 2))
        sold = LOT * ((crossed[1] | paid[1]) & (inventory > LOT / 2 - 1))
        inventory = inventory + bought - sold
        turnover[:, t], held[:, t] = bought + sold, inventory
        profit[:, t] = bought * away[0] + sold * away[1] - fee * (bought + sold)
        profit[:, t] += inventory * move[:, t]
    return profit, turnover, held


def _quoter(form: str, top: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """`in_format` on a grid from 0 to `top` of each market, without its checks: a loop calls it."""
    in_format(top, form, top, signed=False)
    if not form.startswith("INT"):
        return lambda x: x.astype(np.float16 if form == "FP16" else np.float32).astype(float)
    most = 2 ** int(form[3:]) - 1
    step = (top / most).astype(np.float32).astype(float)
    return lambda x: np.clip(np.rint(x / step), 0, most) * step
