"""From candles to model inputs: features, targets, chronological split, scalers, simple rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantlab import _checks
from quantlab.market.candles import DAY, Candles, following

TARGETS = ("range", "usual", "direction")
USUAL = 1.6  # a usual range lies within this factor of the median: about half of all candles
PER_DAY, SHORTEST_SHORT = 24, 3  # the short window: an hour of a day, or three candles


def rolling_mean(x: np.ndarray, window: int) -> np.ndarray:
    """Mean of each full window, (n - window + 1,); entry i covers x[i : i + window]."""
    return np.lib.stride_tricks.sliding_window_view(x, window).mean(axis=1)


def rolling_median(x: np.ndarray, window: int) -> np.ndarray:
    """Median of each full window, (n - window + 1,); entry i covers x[i : i + window]."""
    from scipy.ndimage import rank_filter  # a quarter of a second that only candles should cost

    full = slice(window // 2, window // 2 + len(x) - window + 1)  # windows without a border
    lower, upper = (rank_filter(x, rank, window)[full] for rank in ((window - 1) // 2, window // 2))
    return (lower + upper) / 2  # an even window has two middle values


def default_window(interval: str) -> int:
    """One day of candles, at least 24 of them: 288 at 5 minutes, 24 at 60 minutes, 24 days at D."""
    step = int(following(np.int64(0), interval))
    return max(DAY // step, 24)


@dataclass(frozen=True, eq=False)
class Features:
    """Model inputs and targets: row i belongs to the candle that starts at ``start[i]``.

    ``x`` (m, 4) float32, raw; ``names`` of its columns; ``start`` (m,) int64 ms; about the next
    candle: ``range_target``, ``usual_target``, ``direction_target`` (m,) bool and ``next_return``
    (m,) float64, its (close - open) / open; ``day`` (m,) int64, the UTC day of the candle, as a
    label for block statistics; ``dropped``: rows left out because their window or their target
    crosses a gap (or nothing was traded in the whole window); ``window``: candles in it.

    The candle that closed last has features and no target yet. It stands apart in ``latest``
    (1, 4), for a decision now; (0, 4) if its window crosses a gap. So nothing trains on it.
    """

    x: np.ndarray
    names: tuple[str, ...]
    start: np.ndarray
    range_target: np.ndarray
    usual_target: np.ndarray
    direction_target: np.ndarray
    next_return: np.ndarray
    day: np.ndarray
    dropped: int
    window: int
    latest: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def target(self, name: str) -> np.ndarray:
        """The target of that name, (m,) bool: ``range``, ``usual`` or ``direction``."""
        return getattr(self, f"{_checks.choice(name, 'Features.target', 'target', TARGETS)}_target")


def candle_features(candles: Candles, window: int | None = None) -> Features:
    """Four features of each candle and three questions about the next one.

    Features: return (close - open) / open; range / its rolling median; volume / its moving
    average; short mean of the range / the rolling median. Windows hold ``window`` candles, one
    day of them unless given (at least 24), the short one a 24th of that (at least 3): a day and
    an hour at 5 minutes. They end with the candle itself, so nothing looks ahead.

    Targets: is the next candle's range above the median known now; is it usual, within a factor
    of 1.6 of that median; does the next candle close above its open.

    Raises ``ValueError`` if window < 12 or fewer than window candles came.

    Taught in chapter 13.

    >>> from quantlab.market import synthetic_candles
    >>> features = candle_features(synthetic_candles(1000, seed=7))
    >>> features.x.shape, features.latest.shape, features.dropped
    ((712, 4), (1, 4), 0)
    """
    n = len(candles)
    if window is None:
        window = default_window(candles.interval)
    window = _checks.integer(window, "candle_features", "window", 12, 10**9)
    short = max(window // PER_DAY, SHORTEST_SHORT)
    if n < window:
        needs = f"a window of {window} needs {window} or more, and one more for a target"
        raise ValueError(f"candle_features: {n} candles came; {needs}")
    spread = candles.high - candles.low
    last = np.arange(window - 1, n)  # candles with a full window behind
    median = rolling_median(spread, window)
    mean_volume = rolling_mean(candles.volume, window)
    mean_range = rolling_mean(spread, short)[window - short :]

    holes = np.zeros(n, np.int64)
    holes[1:] = candles.closes_at[:-1] != candles.start[1:]
    holes = np.cumsum(holes)
    known = (holes[last] == holes[last - window + 1]) & (median > 0) & (mean_volume > 0)
    keep = known & (holes[np.minimum(last + 1, n - 1)] == holes[last]) & (last < n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # windows that are left out
        columns = (
            candles.returns[last],
            spread[last] / median,
            candles.volume[last] / mean_volume,
            mean_range / median,
        )
    x = np.stack(columns, axis=1).astype(np.float32)
    rows, median = last[keep], median[keep]
    ahead = spread[rows + 1]
    return Features(
        x=x[keep],
        names=(
            "return",
            "range / rolling median",
            "volume / moving average",
            f"mean range of {short} / rolling median",
        ),
        start=candles.start[rows],
        range_target=ahead > median,
        usual_target=(ahead > median / USUAL) & (ahead < median * USUAL),
        direction_target=candles.close[rows + 1] > candles.open[rows + 1],
        next_return=candles.returns[rows + 1],
        day=candles.start[rows] // DAY,
        dropped=n - window - len(rows),
        window=window,
        latest=x[-1:][known[-1:]],
    )


def chronological_split(
    n: int | Features, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2), embargo: int = 0
) -> tuple[slice, slice, slice]:
    """Slices for training, validation and test, in the order of time.

    ``embargo`` rows are left out after training and after validation, so that no window of a
    later part reaches into an earlier one.

    Raises ``ValueError`` for a number of rows or an embargo that is not an integer, fractions
    that are not positive or add to more than 1, or if a part would be empty.

    Taught in chapter 13.

    >>> chronological_split(1000)
    (slice(0, 600, None), slice(600, 800, None), slice(800, 1000, None))
    """
    where = "chronological_split"
    rows = len(n) if isinstance(n, (Features, np.ndarray)) else n
    rows = _checks.integer(rows, where, "n (a number of rows, or Features)", 0, 2**62)
    embargo = _checks.integer(embargo, where, "embargo", 0, 2**62)
    try:
        ends = [round(rows * f) for f in np.cumsum(fractions)]
        good = len(ends) == 3 and min(fractions) > 0 and sum(fractions) <= 1 + 1e-9
    except (TypeError, ValueError):
        good = False
    if not good:
        expected = "give three positive ones that add to at most 1"
        raise ValueError(f"{where}: fractions are {fractions}; {expected}")
    begins = (0, ends[0] + embargo, ends[1] + embargo)
    if any(end <= begin for begin, end in zip(begins, ends, strict=True)):
        came = f"{rows} rows with fractions {fractions} and embargo {embargo}"
        raise ValueError(f"{where}: {came} leave a part empty; use more rows or a smaller embargo")
    return tuple(map(slice, begins, ends))


class FeatureScaler:
    """Maps raw features to the model's input range; fitted on training rows only.

    ``minmax``: smallest to -1, largest to 1. ``percentile``: clipped to the 0.1 and 99.9
    percentiles, then the same. ``zscore``: mean 0, standard deviation 1. ``log-zscore``:
    logarithm of the columns that are never negative (ranges, volumes), then ``zscore``; a zero
    takes the smallest positive training value. ``log-clip``: the same, after a clip to the 0.1 and
    99.9 percentiles: no single candle stretches the grid of the inputs. A constant column
    becomes 0.

    Raises ``ValueError`` for x that is not a finite matrix of the width that ``fit`` saw, or
    values so huge that their spread or their scaled value is not a finite float32.

    Taught in chapter 13.

    >>> x = np.array([[-1.0, 1.0], [0.0, 10.0], [1.0, 100.0]])
    >>> FeatureScaler("minmax").fit(x).transform(x)[:, 1].astype(float).round(2).tolist()
    [-1.0, -0.82, 1.0]
    >>> FeatureScaler("log-zscore").fit(x).transform(x)[:, 1].astype(float).round(2).tolist()
    [-1.22, 0.0, 1.22]
    """

    METHODS = ("minmax", "percentile", "zscore", "log-zscore", "log-clip")

    def __init__(self, method: str = "log-zscore") -> None:
        self.method = _checks.choice(method, "FeatureScaler", "method", self.METHODS)

    def _matrix(self, x: np.ndarray, where: str) -> np.ndarray:
        x = _checks.real_array(x, f"FeatureScaler.{where}").astype(np.float64)
        if x.ndim != 2:
            expected = "expected (rows, features)"
            raise ValueError(f"FeatureScaler.{where}: x has shape {x.shape}; {expected}")
        return x

    def fit(self, x: np.ndarray) -> FeatureScaler:
        """Learn offset and width of each column from x (rows, features)."""
        x = self._matrix(x, "fit")
        self.lower, self.upper = np.full(x.shape[1], -np.inf), np.full(x.shape[1], np.inf)
        self.logged = np.zeros(x.shape[1], bool)
        if self.method in ("percentile", "log-clip"):
            self.lower, self.upper = np.percentile(x, (0.1, 99.9), axis=0)
        if self.method in ("log-zscore", "log-clip"):
            self.logged = (x >= 0).all(axis=0) & (x > 0).any(axis=0)
            smallest = np.where(x > 0, x, np.inf).min(axis=0)
            self.lower = np.where(self.logged, np.maximum(self.lower, smallest), self.lower)
        x = self._prepare(x)
        low, high = x.min(axis=0), x.max(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.method in ("minmax", "percentile"):
                self.offset, width = high / 2 + low / 2, high / 2 - low / 2
            else:
                self.offset, width = x.mean(axis=0), x.std(axis=0)
            # the mean of equal values is off by a rounding: a constant is known by its ends
            constant = high - low <= 1e-12 * np.maximum(np.abs(high), np.abs(low))
            constant |= width == 0  # a spread below 1e-162 has no square in float64
        self.offset, self.width = np.where(constant, low, self.offset), np.where(constant, 1, width)
        if not (np.isfinite(self.offset) & np.isfinite(self.width)).all():
            much = f"x reaches {np.abs(x).max():.3g}, too much for a {self.method} in float64"
            raise ValueError(f"FeatureScaler.fit: {much}; rescale the column")
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
            got = f"x has {x.shape[1]} columns"
            raise ValueError(f"FeatureScaler.transform: {got}; fit saw {len(self.width)}")
        with np.errstate(over="ignore"):
            scaled = (self._prepare(x) - self.offset) / self.width
        return _checks.float32_array(scaled, "FeatureScaler.transform", "scaled x")


def fit_threshold(score: np.ndarray, y: np.ndarray) -> float:
    """The threshold for which ``score > threshold`` is right most often; shapes (n,), (n,) bool.

    Every cut between two neighbors is tried, in one pass over the sorted scores.

    >>> fit_threshold(np.array([0.1, 0.4, 0.3, 0.9]), np.array([False, True, False, True]))
    0.35
    """
    order = np.argsort(score, kind="stable")
    score, y = np.asarray(score, np.float64)[order], np.asarray(y, bool)[order]
    hits = np.concatenate([[0], np.cumsum(~y)]) + (y.sum() - np.concatenate([[0], np.cumsum(y)]))
    ends = np.concatenate([[-np.inf], score, [np.inf]])
    hits[1:-1][score[1:] == score[:-1]] = -1  # equal scores cannot be told apart
    best = int(np.argmax(hits))
    low, high = ends[best], ends[best + 1]
    return float((low + high) / 2) if np.isfinite(low) and np.isfinite(high) else float(low + high)


def simple_rules(
    features: Features, target: str, train: slice = slice(None)
) -> dict[str, np.ndarray]:
    """Decisions of what needs no model, each (m,) bool, over all rows of the features.

    ``majority``: always the more frequent class of the training rows. ``rule``, one line, nothing
    fitted: the next range is above the median, or usual, if this one is; the next candle goes
    against this one. ``hour rule``: the mean of the last hour instead of the last candle, with
    the threshold that is right most often on the training rows (for the direction, the return).

    Raises ``ValueError`` for an unknown target or no training rows.

    Taught in chapter 13.

    >>> from quantlab.market import synthetic_candles
    >>> features = candle_features(synthetic_candles(5000, seed=7))
    >>> {name: round(float((d == features.range_target).mean()), 2)
    ...  for name, d in simple_rules(features, "range").items()}
    {'majority': 0.5, 'rule': 0.67, 'hour rule': 0.71}
    """
    y = features.target(target)
    if not len(y[train]):
        raise ValueError("simple_rules: no training rows; give a slice that holds some")
    rule, score = rule_and_score(target, features.x)
    return {
        "majority": np.full(len(y), y[train].mean() > 0.5),
        "rule": rule,
        "hour rule": score > fit_threshold(score[train], y[train]),
    }


def rule_and_score(target: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What one candle says about the next, (m,) bool, and what the hour rule cuts, (m,) float64."""
    moved, spread, _, hour = x.astype(np.float64).T
    with np.errstate(divide="ignore"):  # a candle without a range is far from usual
        return {
            "range": (spread > 1, hour),
            "usual": (np.abs(np.log(spread)) < np.log(USUAL), -np.abs(np.log(hour))),
            "direction": (moved < 0, -moved),
        }[target]


def baseline_rules(
    features: Features, train: slice = slice(None), test: slice = slice(None)
) -> dict[str, dict[str, float]]:
    """Accuracy (0..1) of the simple rules on the test rows, for range and direction.

    ``majority`` and ``rule`` as in `simple_rules`; ``hour``, for the range, without a fitted
    threshold: above if the mean of the last hour is.

    Taught in chapter 13.

    >>> from quantlab.market import synthetic_candles
    >>> rules = baseline_rules(candle_features(synthetic_candles(5000, seed=7)))
    >>> sorted(rules["range"]), 0.6 < rules["range"]["rule"] < rules["range"]["hour"] < 0.8
    (['hour', 'majority', 'rule'], True)
    """
    answer: dict[str, dict[str, float]] = {}
    for name in ("range", "direction"):
        y, rules = features.target(name)[test], simple_rules(features, name, train)
        answer[name] = {rule: float((rules[rule][test] == y).mean()) for rule in rules}
        del answer[name]["hour rule"]
    hour = features.x[test, 3] > 1
    answer["range"]["hour"] = float((hour == features.range_target[test]).mean())
    return answer
