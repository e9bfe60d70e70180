"""Benchmarks side by side: interleaved rounds, a ratio to a baseline, the machine named."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from math import comb
from pathlib import Path
from time import perf_counter

import numpy as np


def show_seconds(seconds: float) -> str:
    """Two digits and a unit. Taught in chapter 1.

    >>> show_seconds(3.14159), show_seconds(0.00042), show_seconds(9.96e-10)
    ('3.1 s', '420 µs', '1 ns')
    """
    power = min(max(-int(np.floor(np.log10(float(f"{seconds:.2g}")) / 3)), 0), 3) if seconds else 0
    return f"{float(f'{seconds * 1000.0**power:.2g}'):g} {('s', 'ms', 'µs', 'ns')[power]}"


@dataclass(frozen=True)
class Comparison:
    """Seconds per call of each function and round, and the name to compare with."""

    seconds: dict[str, np.ndarray]
    baseline: str

    def median(self, name: str) -> float:
        """Seconds per call in the middle round: what to expect."""
        return float(np.median(self.seconds[name]))

    def minimum(self, name: str) -> float:
        """Seconds per call in the fastest round: what the machine can do undisturbed."""
        return float(self.seconds[name].min())

    def speedup(self, name: str) -> float:
        """How many times faster than the baseline: the median of the ratios within a round."""
        return float(np.median(self.seconds[self.baseline] / self.seconds[name]))

    def interval(self, name: str) -> tuple[float, float]:
        """Low and high of that median: 95 % or a little more, from six rounds up.

        Order statistics: they suppose nothing of the noise but that the rounds are alike.
        """
        ratios = np.sort(self.seconds[self.baseline] / self.seconds[name])
        n = len(ratios)
        below = np.cumsum([comb(n, k) for k in range(n)]) / 2.0**n  # P(k or fewer below)
        k = max(int((below <= 0.025).sum()) - 1, 0)
        return float(ratios[k]), float(ratios[n - 1 - k])

    def rows(self) -> list[list[str]]:
        """Name, median, minimum and speedup, ready for ``figures.table``."""
        return [
            [
                name,
                show_seconds(self.median(name)),
                show_seconds(self.minimum(name)),
                f"{self.speedup(name):.2g}",
            ]
            for name in self.seconds
        ]


def compare(
    calls: Mapping[str, Callable[[], object]],
    baseline: str | None = None,
    *,
    rounds: int = 15,
    at_least: float = 2e-3,
) -> Comparison:
    """Time functions without arguments against each other, in interleaved rounds.

    Each runs twice outside the count, for compilation and cold caches. A round times each once,
    a fast one repeated until that lasts ``at_least`` seconds. ``baseline``: default the first.
    Raises ValueError if it is unknown. Taught in chapter 1.

    >>> a, b = np.ones(1000), np.ones(200_000)
    >>> compare({"long": b.sum, "short": a.sum}, at_least=1e-4).speedup("short") > 1
    True
    """
    baseline = next(iter(calls), None) if baseline is None else baseline
    if baseline not in calls or rounds < 1:
        raise ValueError(
            f"compare: baseline {baseline!r} with calls {list(calls)} and {rounds} "
            "rounds; expected a baseline among the calls, 1 round or more"
        )
    warm = {name: (_timed(call, 1), _timed(call, 1))[1] for name, call in calls.items()}
    repeats = {name: 1 + int(at_least / max(once, 1e-8)) for name, once in warm.items()}
    seconds = {name: np.empty(rounds) for name in calls}
    for r in range(rounds):
        for name, call in calls.items():
            seconds[name][r] = _timed(call, repeats[name]) / repeats[name]
    return Comparison(seconds, baseline)


def _timed(call: Callable[[], object], repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        call()
    return perf_counter() - start


def machine() -> str:
    """One line that belongs beside every time: CPU, cores, versions. Taught in chapter 1."""
    info = Path("/proc/cpuinfo")  # Linux only; platform knows less
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    numba = f"numba {version('numba')}" if find_spec("numba") else "no numba"
    return (
        f"{(names or [platform.machine()])[0]} · {os.cpu_count()} cores · "
        f"Python {platform.python_version()} · NumPy {np.__version__} · {numba}"
    )
