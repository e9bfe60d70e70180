"""The benchmark helper counts what it claims to count, whatever the machine does meanwhile."""

import numpy as np
import pytest

from quantlab.teach import timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the timed functions move."""
    now = [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])

    def taking(seconds, first=None):
        calls = []

        def call():
            calls.append(now[0])
            now[0] += first if first is not None and len(calls) == 1 else seconds

        call.calls = calls
        return call

    return taking


def test_ratio_median_minimum(clock):
    result = timing.compare({"slow": clock(0.4), "fast": clock(0.1)}, rounds=3)
    assert result.median("slow") == pytest.approx(0.4)
    assert result.minimum("fast") == pytest.approx(0.1)
    assert result.speedup("fast") == pytest.approx(4) and result.speedup("slow") == 1
    assert result.rows()[1] == ["fast", "100 ms", "100 ms", "4"]


def test_baseline_can_be_named(clock):
    result = timing.compare({"fast": clock(0.1), "slow": clock(0.4)}, "slow", rounds=2)
    assert result.speedup("fast") == pytest.approx(4)


def test_compilation_stays_outside(clock):
    result = timing.compare({"jitted": clock(0.01, first=5.0)}, rounds=4)
    assert result.seconds["jitted"] == pytest.approx(np.full(4, 0.01))


def test_short_calls_are_repeated_and_rounds_interleave(clock):
    a, b = clock(1e-4), clock(0.5)
    result = timing.compare({"a": a, "b": b}, rounds=2, at_least=1e-3)
    assert result.median("a") == pytest.approx(1e-4)
    assert len(b.calls) == 4 and 20 <= len(a.calls) - 2 <= 22
    assert a.calls[-1] > b.calls[2]  # a's second round comes after b's first


def test_a_drifting_machine_does_not_bend_the_ratio():
    drift = np.array([1.0, 5.0, 1.0, 9.0, 2.0])
    result = timing.Comparison({"a": 0.4 * drift, "b": 0.1 * drift}, "a")
    assert result.speedup("b") == pytest.approx(4)


@pytest.mark.parametrize(("rounds", "rank"), [(1, 1), (6, 1), (9, 2), (15, 4), (21, 6), (31, 10)])
def test_interval_of_the_ratio_has_the_ranks_of_the_sign_test(rounds, rank):
    """Tables of the distribution-free interval of a median, two-sided 5 % (Conover, table A3)."""
    ratios = np.random.default_rng(rounds).permutation(np.arange(1.0, rounds + 1))
    result = timing.Comparison({"a": ratios, "b": np.ones(rounds)}, "a")
    assert result.interval("b") == (rank, rounds + 1 - rank)


@pytest.mark.parametrize("arguments", [({},), ({"a": int}, "b"), ({"a": int}, None, 0)])
def test_bad_arguments_say_what_came(arguments):
    calls, baseline, rounds = (*arguments, None, 3)[:3] if len(arguments) < 3 else arguments
    with pytest.raises(ValueError, match="expected a baseline"):
        timing.compare(calls, baseline, rounds=rounds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1.0, "1 s"),
        (0.9999, "1 s"),
        (61.0, "61 s"),
        (1e-3, "1 ms"),
        (999.6e-6, "1 ms"),
        (12.34e-6, "12 µs"),
        (5e-9, "5 ns"),
        (1.23e-10, "0.12 ns"),
    ],
)
def test_show_seconds(seconds, text):
    assert timing.show_seconds(seconds) == text


def test_machine_is_one_line():
    line = timing.machine()
    assert "\n" not in line and line.count(" · ") == 4 and np.__version__ in line
