"""From candles to model inputs: features, targets, chronological split, scalers, baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantlab.market.candles import DAY, Candles

NAMES = (
    "return",
    "range / rolling median",
    "volume / moving average",
    "mean range of 12 / rolling median",
)
SHORT = 12  # candles in the short mean of the range: one hour of 5-minute candles


def rolling_mean(x: np.ndarray, window: int) -> np.ndarray:
    """Mean of each full window, (n - window + 1,); entry i covers x[i : i + window]."""
    return np.lib.stride_tricks.sliding_window_view(x, window).mean(axis=1)


def rolling_median(x: np.ndarray, window: int) -> np.ndarray:
    """Median of each full window, (n - window + 1,); entry i covers x[i : i + window]."""
    windows = np.lib.stride_tricks.sliding_window_view(x, window)
    blocks = range(0, len(windows), 4096)  # a block is copied for sorting: bound the memory
    return np.concatenate([np.median(windows[i : i + 4096], axis=1) for i in blocks])


@dataclass(frozen=True, eq=False)
class Features:
    """Model inputs and targets: row i belongs to the candle that starts at ``start[i]``.

    ``x`` (m, 4) float32, raw; ``names`` of its columns; ``start`` (m,) int64 ms; ``range_target``
    and ``direction_target`` (m,) bool, about the next candle; ``day`` (m,) int64, the UTC day of
    the candle, as a label for block statistics; ``dropped``: rows left out because their window
    or their target crosses a gap (or nothing was traded in the whole window).
    """

    x: np.ndarray
    names: tuple[str, ...]
    start: np.ndarray
    range_target: np.ndarray
    direction_target: np.ndarray
    day: np.ndarray
    dropped: int

    def __len__(self) -> int:
        return len(self.x)


def candle_features(candles: Candles, window: int = 288) -> Features:
    """Four features of each candle and two questions about the next one.

    Features: return (close - open) / open; range / its rolling median; volume / its moving
    average; mean range of the last 12 candles / the rolling median. Windows hold ``window``
    candles and end with the candle itself, so nothing looks ahead. Targets: is the next candle's
    range above the median known now; does the next candle close above its open.

    Raises: ``ValueError`` if window < 12 or fewer than window + 1 candles came.

    Taught in chapter 13.

    >>> from quantlab.market import synthetic_candles
    >>> features = candle_features(synthetic_candles(1000, seed=7))
    >>> features.x.shape, features.dropped
    ((712, 4), 0)
    """
    n = len(candles)
    if window < SHORT:
        raise ValueError(f"candle_features: window is {window}; it must be {SHORT} or more")
    if n < window + 1:
        raise ValueError(
            f"candle_features: {n} candles came; a window of {window} and a target need "
            f"{window + 1} or more"
        )
    spread = candles.high - candles.low
    last = np.arange(window - 1, n - 1)  # candles with a full window behind and one candle ahead
    median = rolling_median(spread, window)[:-1]
    mean_volume = rolling_mean(candles.volume, window)[:-1]
    short = rolling_mean(spread, SHORT)[last - SHORT + 1]

    holes = np.zeros(n, np.int64)
    holes[1:] = candles.closes_at[:-1] != candles.start[1:]
    holes = np.cumsum(holes)
    keep = (holes[last + 1] == holes[last - window + 1]) & (median > 0) & (mean_volume > 0)
    rows, median, mean_volume, short = last[keep], median[keep], mean_volume[keep], short[keep]

    columns = (
        candles.returns[rows],
        spread[rows] / median,
        candles.volume[rows] / mean_volume,
        short / median,
    )
    return Features(
        x=np.stack(columns, axis=1).astype(np.float32),
        names=NAMES,
        start=candles.start[rows],
        range_target=spread[rows + 1] > median,
        direction_target=candles.close[rows + 1] > candles.open[rows + 1],
        day=candles.start[rows] // DAY,
        dropped=len(last) - len(rows),
    )


def chronological_split(
    n: int | Features, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2), embargo: int = 0
) -> tuple[slice, slice, slice]:
    """Slices for training, validation and test, in the order of time.

    ``embargo`` rows are left out after training and after validation, so that no window of a
    later part reaches into an earlier one.

    Raises: ``ValueError`` for fractions that are not positive or add to more than 1, or if a part
    would be empty.

    Taught in chapter 13.

    >>> chronological_split(1000)
    (slice(0, 600, None), slice(600, 800, None), slice(800, 1000, None))
    """
    n = len(n) if hasattr(n, "__len__") else int(n)
    if len(fractions) != 3 or min(fractions) <= 0 or sum(fractions) > 1 + 1e-9:
        raise ValueError(
            f"chronological_split: fractions are {fractions}; give three positive ones that add "
            "to at most 1"
        )
    ends = [round(n * f) for f in np.cumsum(fractions)]
    parts = (
        slice(0, ends[0]),
        slice(ends[0] + embargo, ends[1]),
        slice(ends[1] + embargo, ends[2]),
    )
    if embargo < 0 or any(part.stop <= part.start for part in parts):
        raise ValueError(
            f"chronological_split: {n} rows with fractions {fractions} and embargo {embargo} "
            "leave a part empty; use more rows or a smaller embargo"
        )
    return parts


class FeatureScaler:
    """Maps raw features to the model's input range; fitted on training rows only.

    ``minmax``: smallest to -1, largest to 1. ``percentile``: clipped to the 0.1 and 99.9
    percentiles, then the same. ``zscore``: mean 0, standard deviation 1. ``log-zscore``:
    logarithm of the columns that are never negative (ranges, volumes), then ``zscore``; a zero
    takes the smallest positive training value. A constant column becomes 0.

    Taught in chapter 13.

    >>> x = np.array([[-1.0, 1.0], [0.0, 10.0], [1.0, 100.0]])
    >>> FeatureScaler("minmax").fit(x).transform(x)[:, 1].astype(float).round(2).tolist()
    [-1.0, -0.82, 1.0]
    >>> FeatureScaler("log-zscore").fit(x).transform(x)[:, 1].astype(float).round(2).tolist()
    [-1.22, 0.0, 1.22]
    """

    METHODS = ("minmax", "percentile", "zscore", "log-zscore")

    def __init__(self, method: str = "log-zscore") -> None:
        if method not in self.METHODS:
            raise ValueError(
                f"FeatureScaler: method is {method!r}; choose one of {', '.join(self.METHODS)}"
            )
        self.method = method

    def _matrix(self, x: np.ndarray, where: str) -> np.ndarray:
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or len(x) == 0 or not np.isfinite(x).all():
            raise ValueError(
                f"FeatureScaler.{where}: x has shape {x.shape}; it must be (rows, features), not "
                "empty, all finite"
            )
        return x

    def fit(self, x: np.ndarray) -> FeatureScaler:
        """Learn offset and width of each column from x (rows, features)."""
        x = self._matrix(x, "fit")
        self.lower, self.upper = np.full(x.shape[1], -np.inf), np.full(x.shape[1], np.inf)
        self.logged = np.zeros(x.shape[1], bool)
        if self.method == "percentile":
            self.lower, self.upper = np.percentile(x, (0.1, 99.9), axis=0)
        if self.method == "log-zscore":
            self.logged = (x >= 0).all(axis=0) & (x > 0).any(axis=0)
            smallest = np.where(x > 0, x, np.inf).min(axis=0)
            self.lower = np.where(self.logged, smallest, -np.inf)
        x = self._prepare(x)
        if self.method in ("minmax", "percentile"):
            low, high = x.min(axis=0), x.max(axis=0)
            self.offset, width = (high + low) / 2, (high - low) / 2
        else:
            self.offset, width = x.mean(axis=0), x.std(axis=0)
        self.width = np.where(width > 0, width, 1.0)
        return self

    def _prepare(self, x: np.ndarray) -> np.ndarray:
        x = np.clip(x, self.lower, self.upper)
        x[:, self.logged] = np.log(x[:, self.logged])
        return x

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Scaled features, (rows, features) float32; later rows may lie outside [-1, 1]."""
        if not hasattr(self, "width"):
            raise ValueError("FeatureScaler.transform: call fit on the training rows first")
        x = self._matrix(x, "transform")
        if x.shape[1] != len(self.width):
            raise ValueError(
                f"FeatureScaler.transform: x has {x.shape[1]} columns; fit saw {len(self.width)}"
            )
        return ((self._prepare(x) - self.offset) / self.width).astype(np.float32)


def baseline_rules(
    features: Features, train: slice = slice(None), test: slice = slice(None)
) -> dict[str, dict[str, float]]:
    """Accuracy (0..1) on the test rows of what needs no model.

    ``majority``: always the more frequent class of the training rows. ``rule``, one line: the next
    range is above the median if this one is; the next candle goes against this one. ``hour``, for
    the range: above if the mean of the last 12 ranges is, a rule that is harder to beat.

    Taught in chapter 13.

    >>> from quantlab.market import synthetic_candles
    >>> rules = baseline_rules(candle_features(synthetic_candles(5000, seed=7)))
    >>> sorted(rules["range"]), 0.6 < rules["range"]["rule"] < rules["range"]["hour"] < 0.8
    (['hour', 'majority', 'rule'], True)
    """
    moved, spread, _, hour = features.x.T
    rules = {
        "range": (features.range_target, {"rule": spread > 1, "hour": hour > 1}),
        "direction": (features.direction_target, {"rule": moved < 0}),
    }
    answer = {}
    for name, (target, guesses) in rules.items():
        usual = target[train].mean() > 0.5
        answer[name] = {"majority": float((target[test] == usual).mean())}
        for rule, guess in guesses.items():
            answer[name][rule] = float((target[test] == guess[test]).mean())
    return answer
