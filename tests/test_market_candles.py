"""Candles are checked when made; the cache holds closed candles and nothing damaged."""

import json

import numpy as np
import pytest

from quantlab.market import CacheError, CandleError, Candles, Source, load_cache, save_cache
from quantlab.market.candles import aligned, cache_path, floor_start, following
from quantlab.market.synthetic import synthetic_candles

T0 = 1_735_689_600_000  # 2025-01-01, a Wednesday


def make(interval="5", start=None, **changes):
    start = T0 + 300_000 * np.arange(5) if start is None else start
    close = np.array([101.0, 102.0, 100.0, 103.0, 104.0])
    open_ = np.array([100.0, 101.0, 102.0, 100.0, 103.0])
    columns = dict(
        start=start, open=open_, high=np.maximum(open_, close) + 1,
        low=np.minimum(open_, close) - 1, close=close, volume=np.ones(5), turnover=np.ones(5),
    )  # fmt: skip
    columns.update(changes)
    meta = dict(symbol="X", category="linear", interval=interval, source=Source("replay", "test"))
    return Candles(**columns, **meta)


def changed(name, row, value):
    column = getattr(make(), name).copy()
    column[row] = value
    return {name: column}


def test_container():
    candles = make()
    assert len(candles) == 5 and len(candles[1:3]) == 2 and candles.gaps == []
    assert candles.start.dtype == np.int64 and not candles.close.flags.writeable
    assert candles.span == (T0, T0 + 1_500_000)
    assert candles.returns[0] == pytest.approx(0.01)
    assert candles.describe() == (
        "replay · test · X linear · 2025-01-01 00:00 to 2025-01-01 00:25 UTC · "
        "5 candles of 5 min · 0 gaps"
    )
    assert "<strong>replay</strong>" in candles._repr_html_()
    assert len(candles[:0]) == 0 and candles[:0].span == (0, 0) and candles[:0].gaps == []
    for wrong in (3, slice(None, None, 2)):
        with pytest.raises(ValueError, match="slice"):
            candles[wrong]


@pytest.mark.parametrize(
    ("changes", "says"),
    [(changed("close", 2, np.nan), "NaN"), (changed("volume", 1, np.inf), "NaN or inf"),
     (changed("low", 0, 0.0), "not positive"), (changed("volume", 0, -1.0), "negative"),
     (changed("low", 3, 101.0), "low above"), (changed("high", 3, 102.0), "high below"),
     (changed("start", 2, T0 + 600_001), "grid"), (changed("start", 2, T0), "not after"),
     (changed("open", 2, 101.5), "close before"), ({"volume": np.ones(4)}, "equally long")],
)  # fmt: skip
def test_rows_that_cannot_be_candles(changes, says):
    with pytest.raises(CandleError, match=says):
        make(**changes)


def test_a_gap_is_reported_and_frees_the_open():
    start = T0 + 300_000 * np.array([0, 1, 4, 5, 6])
    candles = make(start=start, **changed("open", 2, 101.5))
    assert candles.gaps == [(T0 + 600_000, T0 + 1_200_000)]


def test_source_kinds():
    with pytest.raises(ValueError, match="live, cache, replay or synthetic"):
        Source("guess", "x")


def test_calendar_intervals():
    days = 86_400_000
    months = np.array(["2025-01-01", "2025-02-01", "2025-03-01"], "M8[ms]").astype(np.int64)
    assert following(months, "M").tolist() == [*months[1:].tolist(), int(months[2]) + 31 * days]
    assert aligned(months, "M").all() and not aligned(months + days, "M").any()
    monday = np.int64(T0 - 2 * days)
    assert aligned(monday, "W") and not aligned(monday + days, "W")
    assert floor_start(T0 + 5, "W") == monday and floor_start(T0 + 3 * days, "M") == T0
    assert floor_start(T0 + 299_999, "5") == T0 and floor_start(T0 + 5, "D") == T0


@pytest.fixture
def candles():
    return synthetic_candles(300, seed=1)


def now(candles):
    return candles.span[1]


def test_cache_round_trip_and_merge(candles, tmp_path):
    path = cache_path(candles, tmp_path)
    save_cache(candles[:200], path, now(candles))
    save_cache(candles[150:], path, now(candles))
    back = load_cache(path)
    assert back.start.tolist() == candles.start.tolist()
    assert back.close.tolist() == candles.close.tolist()
    assert back.source.kind == "cache" and back.source.host == candles.source.host
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing half-written is left
    with np.load(path) as stored:
        meta = json.loads(str(stored["meta"]))
    assert meta["rows"] == 300 and meta["span"] == list(candles.span) and len(meta["sha256"]) == 64


def test_cache_refuses_an_open_candle(candles, tmp_path):
    with pytest.raises(CacheError, match="open until"):
        save_cache(candles, tmp_path / "c.npz", now(candles) - 1)
    assert not list(tmp_path.iterdir())


def test_cache_refuses_rows_that_disagree(candles, tmp_path):
    path = tmp_path / "c.npz"
    save_cache(candles, path, now(candles))
    with pytest.raises(CacheError, match="disagrees"):
        save_cache(synthetic_candles(300, seed=2), path, now(candles))
    assert load_cache(path).close.tolist() == candles.close.tolist()


def rewrite(path, meta=None, **columns):
    """Store again with changes; the checksum is made to fit, as a careless program would."""
    from quantlab.market.candles import COLUMNS, _digest

    with np.load(path) as stored:
        old = json.loads(str(stored["meta"]))
        kept = {name: columns.get(name, stored[name]) for name in COLUMNS}
    old = {**old, "sha256": _digest(kept), **(meta or {})}
    np.savez_compressed(path, meta=np.array(json.dumps(old)), **kept)


def poison(candles):
    """The last rows as another program stored them: each one while it was still open."""
    close = candles.close.copy()
    close[-5:-1] += 10.0
    return {"close": close, "high": np.maximum(candles.high, close)}


def test_damaged_and_poisoned_caches_are_refused(candles, tmp_path):
    path = tmp_path / "c.npz"
    spoil = {
        "not a zip": lambda: path.write_bytes(b"{}"),
        "truncated": lambda: path.write_bytes(path.read_bytes()[:2000]),
        "sha256": lambda: rewrite(path, {"sha256": "0" * 64}),
        "row count": lambda: rewrite(path, {"rows": 299}),
        "was still open": lambda: rewrite(path, {"saved": now(candles) - 1}),
        "close before": lambda: rewrite(path, **poison(candles)),
        "grid": lambda: rewrite(path, start=candles.start + 1),
    }
    for reason, damage in spoil.items():
        path.unlink(missing_ok=True)
        save_cache(candles, path, now(candles))
        damage()
        with pytest.raises(CacheError, match="delete the file") as caught:
            load_cache(path)
        if " " in reason and reason != "not a zip":
            assert reason in str(caught.value)
        with pytest.raises(CacheError):  # nor is it silently overwritten
            save_cache(candles, path, now(candles))
    with pytest.raises(FileNotFoundError):
        load_cache(tmp_path / "other.npz")


def test_recorded_poisoned_cache_is_refused(recordings):
    text = (recordings / "fixtures" / "poisoned_cache_BTCUSDT_5m.csv").read_text().splitlines()
    rows = [line.split(",") for line in text[1:]]
    start = np.array([row[0][:19] for row in rows], "M8[ms]").astype(np.int64)
    numbers = np.array([row[1:] for row in rows], float).T
    meta = ("BTCUSDT", "linear", "5", Source("cache", "another program"))
    with pytest.raises(CandleError, match="first row 7 "):
        Candles(start, *numbers, numbers[4], *meta)
    assert len(Candles(start[:7], *numbers[:, :7], numbers[4, :7], *meta)) == 7
