"""Candles are checked when made; the cache holds closed candles and nothing damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest

from quantlab.market import CacheError, CandleError, Candles, Source, load_cache, save_cache
from quantlab.market.candles import COLUMNS, cache_path
from quantlab.market.synthetic import synthetic_candles
from quantlab.market.times import INTERVALS, aligned, floor_start, following

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
    with pytest.raises(ValueError, match="live, cache, replay, synthetic, file, frame"):
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
    other = synthetic_candles(300, seed=2)
    with pytest.raises(CacheError, match="seed 1 linear SYNTH 5, not simulator seed 2"):
        save_cache(other, path, now(candles))
    with pytest.raises(CacheError, match="disagrees"):
        save_cache(replace(other, source=candles.source), path, now(candles))
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


def table(n=40):
    """Rows as an exchange sends them, oldest first, and the candles they are."""
    candles = synthetic_candles(n, seed=1)
    columns = [getattr(candles, name).tolist() for name in COLUMNS]
    return [list(row) for row in zip(*columns, strict=True)], candles


HEADERS = {
    "bybit": [
        "startTime",
        "openPrice",
        "highPrice",
        "lowPrice",
        "closePrice",
        "volume",
        "turnover",
    ],
    "ours": list(COLUMNS),
    "freqtrade": ["date", "open", "high", "low", "close", "volume"],
    "ccxt": ["timestamp", "open", "high", "low", "close", "volume"],
    "without names, 7": None,
    "without names, 6": None,
}
CLOCKS = {
    "ms": lambda t: t,
    "s": lambda t: t // 1000,
    "float s": lambda t: t / 1000,
    "iso": lambda t: str(np.datetime64(t, "ms")),
    "iso with zone": lambda t: str(np.datetime64(t, "ms")).replace("T", " ") + "+00:00",
}


def write(path, rows, header, mark=","):
    lines = [header] * (header is not None) + rows
    path.write_text("\n".join(mark.join(map(str, row)) for row in lines) + "\n", "utf-8-sig")
    return path


@pytest.mark.parametrize("layout", HEADERS)
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_csv_of_any_layout_gives_the_same_candles(tmp_path, layout, clock):
    rows, candles = table()
    width = 6 if layout in ("freqtrade", "ccxt", "without names, 6") else 7
    rows = [[CLOCKS[clock](row[0]), *row[1:width]] for row in rows]
    path = tmp_path / "ETH_USDT-5m.csv"
    for order, mark in ((1, ","), (-1, ";")):
        got = Candles.from_csv(write(path, rows[::order], HEADERS[layout], mark))
        assert got.start.tolist() == candles.start.tolist() and got.interval == "5"
        assert got.close.tolist() == candles.close.tolist()
        assert got.source.kind == "file" and got.source.host == path.name
        assert got.symbol == "ETHUSDT" and ("turnover of 40 rows" in got.source.note) == (
            width == 6
        )
        assert np.allclose(got.turnover, candles.turnover, rtol=1e-6)


@pytest.mark.parametrize("layout", HEADERS)
def test_a_frame_of_any_layout_gives_the_same_candles(layout):
    pd = pytest.importorskip("pandas")
    rows, candles = table()
    header = HEADERS[layout]
    width = 6 if layout in ("freqtrade", "ccxt", "without names, 6") else 7
    frame = pd.DataFrame([row[:width] for row in rows], columns=header)
    times = pd.to_datetime(frame.iloc[:, 0], unit="ms")
    frames = [frame, frame[::-1], frame.astype(str) if header else frame]
    if header:
        name = header[0]
        zoned = times.dt.tz_localize("UTC").dt.tz_convert("America/New_York")
        frames += [
            frame.assign(**{name: times}), frame.assign(**{name: zoned}),
            frame.set_index(name), frame.drop(columns=name).set_axis(pd.DatetimeIndex(zoned)),
        ]  # fmt: skip
    for given in frames:
        got = Candles.from_frame(given, symbol="SYNTH")
        assert got.start.tolist() == candles.start.tolist() and got.interval == "5"
        assert got.close.tolist() == candles.close.tolist() and got.source.kind == "frame"


@pytest.mark.parametrize("interval", INTERVALS)
def test_to_frame_and_back(interval):
    pytest.importorskip("pandas")
    start, t = [], int(floor_start(T0, interval))
    for _ in range(5):
        start.append(t)
        t = int(following(t, interval))
    candles = make(interval, start=start)
    frame = candles.to_frame()
    assert list(frame.columns) == list(COLUMNS[1:]) and str(frame.index.tz) == "UTC"
    back = Candles.from_frame(frame, now=candles.span[1])
    assert back.interval == candles.interval
    for name in COLUMNS:
        assert getattr(back, name).tolist() == getattr(candles, name).tolist()


def test_what_a_door_changes_it_says(tmp_path):
    rows, _ = table()
    path = tmp_path / "mine.csv"
    got = Candles.from_csv(write(path, rows + rows[3:5], COLUMNS))
    assert len(got) == 40 and "2 repeated rows dropped" in got.describe()
    assert got.symbol == "DATA" and "file · mine.csv" in got.describe()
    got = Candles.from_csv(path, now=rows[-1][0] + 5, symbol="X", source="a friend")
    assert (
        len(got) == 39 and "1 rows dropped that close after 2025-01-01 03:15 UTC" in got.describe()
    )
    assert "file · a friend · X" in got.describe()
    write(path, rows[:10] + rows[12:], COLUMNS)
    assert Candles.from_csv(path).gaps == [(rows[10][0], rows[12][0])]
    with pytest.raises(CandleError, match=r"1 places with missing candles.*2025-01-01 00:50"):
        Candles.from_csv(path, allow_gaps=False)
    rows[7][1] = rows[7][3]
    write(path, rows, COLUMNS)
    with pytest.raises(CandleError, match=r"allow_breaks=True.* first row 7 "):
        Candles.from_csv(path)
    broken = Candles.from_csv(path, allow_breaks=True)
    assert broken.breaks.tolist() == [7] and "1 opens off the close before" in broken.describe()
    assert len(broken[2:9]) == 7 and broken[2:9].breaks.tolist() == [5]
    save_cache(broken, tmp_path / "c.npz", broken.span[1])
    assert load_cache(tmp_path / "c.npz").breaks.tolist() == [7]
    assert Candles.from_csv(write(path, [], COLUMNS), 5).gaps == []


def test_what_no_door_opens_to(tmp_path):
    rows, _ = table()
    path = tmp_path / "mine.csv"
    bad = [list(row) for row in rows]
    bad[4][4] = "n/a"
    late = [[row[0], *row[1:5], row[5] + 1, row[6]] for row in rows[3:5]]
    for given, header, says in (
        ([], None, "no rows"), (rows, ["t", *COLUMNS[1:]], "no column for start among t, open"),
        ([row[:5] for row in rows], None, "5 columns without names; expected 6 or 7"),
        (bad, COLUMNS, r"close of row 4 is 'n/a'; expected a number"),
        ([*rows, [1]], COLUMNS, "row 41 .* 1 cells, the first one 7"),
        (rows + late, COLUMNS, "start not after the row before"),
        (rows[:1], COLUMNS, "cannot tell the interval"), (rows[::2], COLUMNS, "distance is 10 min"),
        ([["soon", *row[1:]] for row in rows], COLUMNS, "time of row 0 is 'soon'"),
        ([[row[0], *row[1:5], "", ""] for row in rows], COLUMNS, "volume of row 0 is ''"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            Candles.from_csv(write(path, given, header))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CandleError, match="no text in UTF-8"):
        Candles.from_csv(path)
    with pytest.raises(FileNotFoundError):
        Candles.from_csv(tmp_path / "none.csv")
    for frame in ({"open": [1.0]}, None, rows):
        with pytest.raises(CandleError, match="expected a pandas DataFrame"):
            Candles.from_frame(frame)


def test_turnover_of_an_inverse_contract_counts_coins(tmp_path):
    rows, candles = table()
    path = write(tmp_path / "x.csv", [row[:6] for row in rows], None)
    got = Candles.from_csv(path, category="inverse")
    assert np.allclose(got.turnover, candles.volume / candles.close)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"start": np.array([np.nan] * 5)}, "time of row 0"), ({"close": ["a"] * 5}, "not a column"),
     ({"close": np.ma.masked_greater(np.full(5, 103.0), 1)}, "masked"),
     ({"start": T0 * 1000 + 300_000_000 * np.arange(5)}, "1970 to 9999"),
     ({"start": -T0 + 300_000 * np.arange(5)}, "1970 to 9999"), ({"start": [None] * 5}, "row 0")],
)  # fmt: skip
def test_columns_that_numpy_would_bend(changes, says):
    with pytest.raises(ValueError, match=says):
        make(**changes)


def test_markup_and_other_scripts_in_a_symbol(tmp_path):
    candles = replace(make(), symbol="<b>币安</b>/../x", source=Source("file", "<i>"))
    assert "<b>" not in candles._repr_html_() and "<i>" not in candles._repr_html_()
    path = cache_path(candles, tmp_path)
    assert path.parent == tmp_path and not set('<>:/\\|?*"') & set(path.name)
    save_cache(candles, path, now(candles))
    assert load_cache(path).symbol == candles.symbol
