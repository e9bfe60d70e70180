"""From candles to trained models in two calls: the scaled parts, the rules to beat, the seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from quantlab import _checks
from quantlab.market.candles import Candles
from quantlab.market.features import (
    Features,
    FeatureScaler,
    candle_features,
    chronological_split,
    simple_rules,
)
from quantlab.nn.model import TradingModel


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one stretch of time: scaled inputs ``x`` (n, k) float32, answers ``y`` (n,) bool,
    ``day`` (n,) int64 for intervals, ``next_return`` (n,) float64, and ``rows``, the slice of
    the features that it is.
    """

    rows: slice
    x: np.ndarray
    y: np.ndarray
    day: np.ndarray
    next_return: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class PreparedData:
    """What `prepare` returns: raw features, their scaler, and three parts in the order of time.

    ``latest`` (1, k) float32 are the scaled features of the candle that just closed, for a
    decision now; (0, k) if its window crosses a gap.
    Taught in chapter 13.
    """

    features: Features
    target: str
    scaler: FeatureScaler
    train: Part
    validation: Part
    test: Part
    latest: np.ndarray

    @cached_property
    def baselines(self) -> dict[str, np.ndarray]:
        """Decisions (n,) bool on the test part of ``majority``, ``rule``, ``hour rule`` and
        ``logistic regression``, all fitted on the training part.
        """
        rules = simple_rules(self.features, self.target, self.train.rows)
        linear = train_seeds(self, sizes=(), seeds=(0,))[0]
        decided = {name: rule[self.test.rows] for name, rule in rules.items()}
        return decided | {"logistic regression": linear.predict(self.test.x) == 1}

    @cached_property
    def best_rule(self) -> str:
        """Name of the simple rule that is right most often on the validation part."""
        rules = simple_rules(self.features, self.target, self.train.rows)
        right = {
            name: rule[self.validation.rows] == self.validation.y for name, rule in rules.items()
        }
        return max(right, key=lambda name: right[name].mean())


def prepare(
    candles: Candles,
    target: str = "usual",
    scaling: str = "log-zscore",
    *,
    window: int | None = None,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    embargo: int | None = None,
) -> PreparedData:
    """Features of the candles in three parts that do not overlap, scaled by the first.

    target: "usual", "range" or "direction" (`candle_features`). Only for "usual" is a line through
    the features not enough: above and below the median are both unusual. scaling: a method of
    `FeatureScaler`, fitted on the training rows; window: candles, one day unless given;
    embargo: rows left out between the parts, one window unless given, so that no part has
    seen a candle of another.

    Raises ValueError for an unknown target or scaling, and if a part would be empty.
    Taught in chapter 13.

    >>> from quantlab.market import synthetic_candles
    >>> data = prepare(synthetic_candles(4000, seed=7), target="range")
    >>> [len(part) for part in (data.train, data.validation, data.test)], data.latest.shape
    ([2227, 455, 454], (1, 4))
    >>> sorted(data.baselines)
    ['hour rule', 'logistic regression', 'majority', 'rule']
    """
    features = candle_features(candles, window)
    y = features.target(target)
    embargo = features.window if embargo is None else embargo
    parts = chronological_split(features, fractions, embargo)
    scaler = FeatureScaler(scaling).fit(features.x[parts[0]])
    x = scaler.transform(features.x)
    train, validation, test = (
        Part(rows, x[rows], y[rows], features.day[rows], features.next_return[rows])
        for rows in parts
    )
    latest = scaler.transform(features.latest) if len(features.latest) else features.latest
    return PreparedData(features, target, scaler, train, validation, test, latest)


def train_seeds(
    data: PreparedData,
    sizes: Sequence[int] = (32, 16),
    seeds: Iterable[int] = range(5),
    init: str = "glorot",
    **options: Any,
) -> list[TradingModel]:
    """One model for each seed, trained on the training part, stopped early by the validation part.

    sizes: widths of the hidden layers, () for logistic regression; init as `TradingModel`;
    options as `TradingModel.fit`.

    Raises ValueError if there is no seed, and as `TradingModel`.
    Taught in chapter 17.

    >>> from quantlab.market import synthetic_candles
    >>> train_seeds(prepare(synthetic_candles(2000, seed=7)), sizes=(8,), seeds=(3, 4), epochs=2)
    [TradingModel((4, 8, 1), seed=3), TradingModel((4, 8, 1), seed=4)]
    """
    if np.ndim(sizes) != 1 or not np.iterable(seeds):
        raise ValueError(
            f"train_seeds: sizes are {sizes!r}, seeds are {seeds!r}; expected widths of the hidden "
            "layers, such as (32, 16), and several seeds, such as range(5)"
        )
    held_out = (data.validation.x, data.validation.y)
    widths = (data.train.x.shape[1], *sizes, 1)
    models = [TradingModel(widths, seed, init) for seed in seeds]
    if not models:
        raise ValueError("train_seeds: seeds are empty; give one or more, such as range(5)")
    return [m.fit(data.train.x, data.train.y, validation=held_out, **options) for m in models]


def seed_logits(models: Sequence[Any], x: np.ndarray) -> np.ndarray:
    """Logits of all models on the rows x (n, k), as (seeds, n): what intervals over seeds take.

    Taught in chapter 17.

    >>> seed_logits([TradingModel((2, 1), seed=s) for s in range(3)], np.ones((5, 2))).shape
    (3, 5)
    """
    return np.stack([model.predict_logits(x) for model in models])


def profit(
    position: np.ndarray, next_return: np.ndarray, fee: float
) -> tuple[np.ndarray, np.ndarray]:
    """P&L of holding each position over the candle after it, and the turnover: (profit, turnover).

    Shapes: position (n,) or (seeds, n), in units of capital: 1 long, 0 out, -1 short, taken when
    candle i closes and held until the next one does; next_return (n,), or one row for each row of
    position, its (close - open) / open.
    A trade is a change of position and pays `fee` times what changed hands: staying pays
    nothing, a turn from long to short pays twice. The first position is bought, the last is
    sold.

    Raises ValueError for other shapes, NaN, or a negative fee.
    Taught in chapter 17.

    >>> gained, turnover = profit([1, 1, -1], [0.01, 0.02, -0.01], fee=0.001)
    >>> turnover.tolist(), gained.round(4).tolist()
    ([1.0, 0.0, 3.0], [0.009, 0.02, 0.007])
    """
    position = _checks.real_array(position, "profit", "position").astype(np.float64)
    next_return = _checks.real_array(next_return, "profit", "next_return").astype(np.float64)
    fee = _checks.number(fee, "profit", "fee")
    fits = next_return.shape in (position.shape, position.shape[-1:])
    if position.ndim not in (1, 2) or not fits or fee < 0:
        raise ValueError(
            f"profit: position has shape {position.shape}, next_return {next_return.shape}, fee is "
            f"{fee}; expected (n,) or (seeds, n), one return for each row, a fee of 0 or more"
        )
    turnover = np.abs(np.diff(position, axis=-1, prepend=0.0))
    turnover[..., -1] += np.abs(position[..., -1])
    return position * next_return - fee * turnover, turnover
