"""The live model's three sources of candles in node: files, simulator, Bybit in virtual time."""

import json
import shutil
import subprocess
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from quantlab.market import Candles, synthetic_candles
from quantlab.market.times import moment

MODULE = Path(__file__).parent.parent / "quantlab" / "teach" / "live_sources.js"
NOW = 1_800_000_000_000


@pytest.fixture(scope="session")
def node():
    program = shutil.which("node")
    if program is None:
        pytest.skip("no node: the JavaScript of the live model is not run")
    return program


def run(node, tmp_path, script, given=None):
    """What `script` returns, with the module's names and `given` at hand."""
    module = tmp_path / "test.mjs"
    tail = f"""
import fs from 'node:fs';
import {{ watch, world }} from '{Path(__file__).with_name("live_market.mjs").as_uri()}';
const given = JSON.parse(fs.readFileSync(0, 'utf8'));
const answer = await (async () => {{ {script} }})();
console.log(JSON.stringify(answer));
"""
    module.write_text(MODULE.read_text("utf-8") + tail, "utf-8")
    done = subprocess.run(
        [node, str(module)], input=json.dumps(given), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Files


def table(n=40, seed=0, interval="5", gap=False, breaks=False):
    """Columns of text: start in ms and six numbers, oldest first."""
    candles = synthetic_candles(n + 5, seed=seed, interval=interval)
    rows = [list(row) for row in candles.rows()]
    del rows[n // 2 : n // 2 + (3 if gap else 0)]
    rows = rows[:n]
    if breaks:
        for row in rows[3::7]:
            row[1] = (row[2] + row[3]) / 2
    return [[str(row[0]), *(repr(v) for v in row[1:])] for row in rows]


def iso(ms, form):
    return datetime.fromtimestamp(int(ms) / 1000, UTC).strftime(form)


TIMES = [
    lambda t: t,
    lambda t: str(int(t) // 1000),
    lambda t: f"{int(t) // 1000}.0",
    lambda t: t + "000",
    lambda t: t + "000000",
    lambda t: f"{int(t):_}",
    lambda t: f" +{t} ",
    lambda t: iso(t, "%Y-%m-%d %H:%M:%S+00:00"),
    lambda t: iso(t, "%Y-%m-%dT%H:%MZ"),
    lambda t: iso(t, "%Y%m%dT%H%M"),
    lambda t: iso(str(int(t) + 19_800_000), "%Y-%m-%d %H:%M:%S.000+05:30"),
]
HEADERS = [
    None,
    "start_ms,open,high,low,close,volume,turnover",
    "timestamp,open,high,low,close,volume,turnover",
    "date,open,high,low,close,volume,turnover",
    "Open Time,Open Price,High,Low,Close,Base Volume,Quote Volume",
    "unix,date,o,h,l,c,vol,quote_asset_volume",
]


def written(rng):
    """A good CSV file in one of many layouts."""
    pick = lambda choices: choices[rng.integers(len(choices))]  # noqa: E731
    rows = table(
        int(rng.integers(2, 60)), int(rng.integers(100)),
        pick(["5", "1", "60", "D", "W"]), rng.random() < 0.3, rng.random() < 0.3,
    )  # fmt: skip
    header, time = pick(HEADERS), pick(TIMES)
    rows = [[time(row[0]), *row[1:]] for row in rows]
    if header and header.startswith("unix"):
        rows = [["x", *row] for row in rows]  # a time goes by its first name: date before unix
    elif rng.random() < 0.3 and (header is None or "olume,turnover" in header):
        rows = [row[:-1] for row in rows]
        header = header and header.removesuffix(",turnover")
    elif rng.random() < 0.3:
        for row in rows[::3]:
            row[-1] = pick(["", "None", "<NA>", "nan"])
    if rng.random() < 0.3:
        rows = rows[::-1]
    if rng.random() < 0.2:
        rows.append(list(rows[0]))
    if rng.random() < 0.2:
        rows = [[f'"{cell}"' for cell in row] for row in rows]
    lines = [*([header] if header else []), *(",".join(row) for row in rows)]
    text = pick(["\n", "\r\n", "\r"]).join(lines) + pick(["", "\n", "\n\n"])
    return pick(["", "\ufeff"]) + (
        text.replace(",", pick([";", "\t"])) if rng.random() < 0.3 else text
    )


BAD = [
    "", " ", "x", "nan", "inf", "-1", "0", "1e999", "1_0", "0x10", "1,5", "--1", "1e", ".", "-0",
    "NaN", "<b>1</b>", "1735689600", "1735689600001", "99999", "2025-13-01", "2025-02-30 00:00",
    "2025-01-01T24:00", "1e300", "1735689600000.5", "Infinity", "12 000", "None",
]  # fmt: skip


def spoiled(rng):
    """A file with something done to it; it may still be fine."""
    text = written(rng)
    lines = text.split("\n")
    for _ in range(int(rng.integers(1, 3))):
        i = int(rng.integers(len(lines)))
        cells = lines[i].split(",")
        j, k = int(rng.integers(len(cells))), int(rng.integers(len(lines)))
        kind = rng.integers(7)
        if kind <= 2:
            cells[j] = str(rng.choice(BAD))
        elif kind == 3:
            cells = cells[: int(rng.integers(0, len(cells) + 1))]
        elif kind == 4:
            cells.append("7")
        elif kind == 5:
            other = lines[k].split(",")
            cells[j] = other[min(j, len(other) - 1)]
        else:
            lines[k] = lines[i]
            continue
        lines[i] = ",".join(cells)
    return "\n".join(lines)


def python_reads(path):
    """(interval, rows, breaks) as the package reads a file, or None if it refuses."""
    try:
        candles = Candles.from_csv(path, now=NOW, allow_breaks=True)
    except ValueError:
        return None
    if not len(candles):
        return None  # nothing is closed: nothing to show
    return {
        "interval": candles.interval,
        "symbol": candles.symbol,
        "rows": [list(row) for row in candles.rows()],
        "gaps": [list(gap) for gap in candles.gaps],
        "breaks": len(candles.breaks),
    }


READ = """
return given.files.map(([name, text]) => {
  try { const { rows, interval, symbol, gaps, breaks } = readTable(text, name, given.now);
    return { interval, symbol, rows, gaps, breaks }; }
  catch (error) { if (error.code !== 'file') throw error; return { refused: error.message }; }
});
"""


def compare(node, tmp_path, texts):
    names = [f"{i}-{n}" for i, n in enumerate(["BTCUSDT-5m.csv", "ETH_USDT.csv", "my.csv"] * 999)]
    files, python = [], []
    for name, text in zip(names, texts, strict=False):
        path = tmp_path / name
        path.write_bytes(text.encode())
        files.append([name, text])
        python.append(python_reads(path))
    page = run(node, tmp_path, READ, {"files": files, "now": NOW})
    for text, ours, theirs in zip(texts, python, page, strict=True):
        refused = theirs.pop("refused", None)
        assert (ours is None) == (refused is not None), (refused, text)
        if ours is not None:
            floats = [[*row[:1], *map(float, row[1:])] for row in theirs.pop("rows")]
            pairs = zip(ours.pop("rows"), floats, strict=True)
            assert [pair for pair in pairs if pair[0] != pair[1]] == [], text[:600]
            assert ours == theirs, text[:600]
    return python, page


def test_random_files_are_read_as_python_reads_them(node, tmp_path):
    """The same accepted, bit for bit, and the same refused."""
    rng = np.random.default_rng(17)
    python, _ = compare(node, tmp_path, [written(rng) for _ in range(300)])
    assert sum(p is None for p in python) < 30  # a layout may be too short to have an interval
    assert any(p["gaps"] for p in python if p) and any(p["breaks"] for p in python if p)
    python, _ = compare(node, tmp_path, [spoiled(rng) for _ in range(900)])
    refused = sum(p is None for p in python)
    assert 300 < refused < 850, refused


def test_times_are_read_as_python_reads_them(node, tmp_path):
    days = ["2025-01-01", "20250101", "2000-02-29", "1900-02-29", "0085-01-01", "9999-12-31"]
    hours = ["", "T00", " 00:00", "T2359", "x12:00:59", "T12:00:60", "T24:00", "T1200:00"]
    hours += ["T12:00:00.0009999", "T12:00:00,25", "T12:00:00.1234567", "T12:0"]
    zones = ["", "Z", "z", "+00:00", "+05:30", "-0530", "-23:59:59.999999", "+24:00", "+1"]
    texts = [d + h + (z if h else "") for d in days for h in hours for z in zones]
    texts += "1735689600 1735689600.0005 1735689600.0015 1735689600000.9 1735689600000999".split()
    texts += "1735689600000999999 000000000 0.00000000 +1735689600000 17356896e5 1e12 nan".split()
    texts += "-infinity 99999999 9999999999 10000000000 9.999e18 1e19 2025/01/01 1_".split()
    texts += ["1970-01-01T00:30+01:00", "1970-01-01T01:30+01:00", "1969-12-31T23:30-01:00", "0"]

    def python(text):
        try:
            return moment(text)
        except ValueError:
            return None

    script = """
    const read = (t) => { const v = feedMoment(t); return typeof v === 'string' ? null : v; };
    return given.map(read);"""
    assert run(node, tmp_path, script, texts) == [python(text) for text in texts]


GOOD = "1735689600000,100,102,99,101,5\n1735689900000,101,103,100,102,6\n"
REFUSED = [
    ("", "has no rows"),
    ("a b c\n1 2 3\n", "line 1 has 1 cell; expected at least 6"),
    (GOOD + "1735690200000,102,103\n", "line 3 has 3 cells; expected 6, as line 1 has"),
    ("time,open,high,low,volume,x\n" + GOOD, "no column for close in its header; expected start"),
    (GOOD.replace(",6\n", ",six\n"), 'volume in line 2 is "six"; expected a number'),
    (GOOD.replace("1735689900000", "today"), 'time in line 2 is "today", which is no ISO date'),
    (GOOD.replace("103", "100.5"), "line 2 (2025-01-01 00:05 UTC: open 101, high 100.5"),
    (GOOD.replace(",99", ",100.5"), "the low is above open or close; expected a low of"),
    (GOOD.replace(",5\n", ",-5\n"), "volume or turnover is negative; expected zero or more"),
    (GOOD.replace("102,99", "nan,99"), "a value is not a finite number"),
    (GOOD.replace(",99", ",0"), "a price is not positive"),
    (GOOD + GOOD.replace(",6", ",7"), "line 4 (2025-01-01 00:05 UTC"),
    (GOOD.splitlines()[0], "of its 1 time is 0 min; expected one of 1 3 5"),
    (GOOD.replace("1735689", "1936689"), "is closed yet; expected times in the past"),
    (
        GOOD.replace("1735689900000", "1735689660001"),
        "distance of its 2 times is 1.00002 min; expected",
    ),
]


@pytest.mark.parametrize(("text", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_a_refused_file_says_where_what_came_and_what_was_expected(node, tmp_path, text, says):
    script = """
    const heard = [];
    fromFile(given.text, 'BTC.csv', {}, { now: () => given.now }).start((e) => heard.push(e));
    return heard;"""
    (event,) = run(node, tmp_path, script, {"text": text, "now": NOW})
    assert event["kind"] == "status" and event["level"] == "fault" and event["final"]
    assert event["code"] == "file" and event["text"].startswith("BTC.csv: ")
    assert says in event["text"], event["text"]
    path = tmp_path / "BTC.csv"
    path.write_text(text)
    assert python_reads(path) is None


def test_a_file_too_large_or_not_in_utf8_is_refused_unread(node, tmp_path):
    script = """
    const texts = [];
    const say = (e) => texts.push(e.text);
    fromFile('1'.repeat(20000001), 'a.csv').start(say);
    fromFile(new Uint8Array(20000001).buffer, 'b.csv').start(say);
    fromFile(new Uint8Array([0xff, 0xfe, 0x31]).buffer, 'c.csv').start(say);
    fromFile(new TextEncoder().encode(given).buffer, 'd_BTCUSDT.csv').start(
      (e) => texts.push(e.text ?? e));
    return texts;"""
    large, bytes_, coded, candles, good = run(node, tmp_path, script, GOOD)
    assert "20 MB; expected at most 20" in large and "20 MB" in bytes_
    assert "no text in UTF-8" in coded
    assert candles["symbol"] == "BTCUSDT" and len(candles["rows"]) == 2
    assert candles["source"] == {
        "kind": "file",
        "name": "d_BTCUSDT.csv",
        "note": "turnover of 2 rows estimated from volume and close",
    }
    assert "nothing was sent anywhere" in good


# The simulator


def columns(candles):
    names = ("open", "high", "low", "close", "volume")
    return {name: np.float32(getattr(candles, name)).tolist() for name in names}


def spec(candles, **options):
    return {"first": int(candles.start[0]), "columns": columns(candles), **options}


def test_the_simulator_plays_pythons_candles_grows_them_and_goes_on(node, tmp_path):
    candles = synthetic_candles(330, seed=7)
    script = """
    const w = world(0), heard = [];
    let ms = 1000;
    const stop = simulated({ ...given, pace: () => ms }, w.env).start((e) => heard.push(e));
    await w.pass(31500);
    const slow = heard.length;
    ms = Infinity; await w.pass(5000);
    const paused = heard.length - slow;
    ms = 50; await w.pass(5000);
    stop();
    const waiting = w.waiting(), before = heard.length;
    await w.pass(5000);
    return { heard, slow, paused, waiting, after: heard.length - before };"""
    done = run(node, tmp_path, script, spec(candles, history=300))
    first, said = done["heard"][:2]
    want = [list(row[:6]) for row in candles.rows()]
    assert [row[:6] for row in first["rows"]] == want[:300], "not bit for bit"
    assert first["source"]["kind"] == "synthetic" and said["text"].endswith("no network")
    closed = [e["row"] for e in done["heard"] if e["kind"] == "candle"]
    assert [row[:5] for row in closed[:30]] == [row[:5] for row in want[300:]]
    assert len(closed) > 31 + 90 and done["paused"] <= 1 and done["waiting"] == done["after"] == 0
    codes = [e.get("code") for e in done["heard"]]
    assert codes.count("generated") == 1
    starts = [row[0] for row in first["rows"] + closed]
    assert set(np.diff(starts)) == {300_000}
    joined = first["rows"] + closed
    assert all(b[1] == a[4] for a, b in pairwise(joined))
    for event, following in pairwise(done["heard"]):
        if event["kind"] == "open":  # it grows into the candle that closes
            assert 0 < event["closesIn"] < 1000
            after = following.get("row")
            assert after is None or (
                event["row"][:2] == after[:2]
                and event["row"][2] <= after[2]
                and event["row"][3] >= after[3]
                and event["row"][5] < after[5]
            )


def law(rows):
    """Figures that tell one market from another: moves, ranges, memory, day, volume."""
    start, open_, high, low, close, volume = np.array(rows, float).T[:6]
    move, span = np.log(close / open_), np.log((high - low + 0.1) / open_)
    hour = start // 3_600_000 % 24
    day = span[(hour > 12) & (hour < 17)].mean() - span[(hour > 3) & (hour < 10)].mean()
    echo = [np.corrcoef(span[k:], span[:-k])[0, 1] for k in (1, 12, 288)]
    tail = np.quantile(np.abs(move), 0.99) / np.quantile(np.abs(move), 0.5)
    turn = np.corrcoef(move[1:], move[:-1])[0, 1]
    linked = np.corrcoef(np.log(volume + 1), span)[0, 1]
    typical = [np.median(span), np.std(span), np.median(np.log(volume + 1))]
    return np.array([*typical, tail, *echo, turn, linked, day])


def test_candles_drawn_in_the_page_follow_the_simulators_law(node, tmp_path):
    script = """
    return given.map((spec) => {
      const { open, high, low, close, volume } = spec.columns;
      const made = open.map((o, i) =>
        [spec.first + i * 300000, o, high[i], low[i], close[i], volume[i], NaN]);
      const market = feedMarket(made, 300000, spec.seed, 10);
      return Array.from({ length: 20000 }, () => market.next().value.slice(0, 6));
    });"""
    seeds = range(200, 208)
    page = run(node, tmp_path, script, [spec(synthetic_candles(400, s), seed=s) for s in seeds])
    ours = np.array([law(rows) for rows in page])
    theirs = np.array(
        [law(synthetic_candles(20_000, 100 + s, liquidation=False).rows()) for s in seeds]
    )
    spread = theirs.std(axis=0, ddof=1)
    apart = np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / spread
    assert (apart < 1.5).all(), apart.round(2)
    for rows in page:
        t = np.array([row[0] for row in rows], np.int64)
        Candles(t, *np.array([row[1:] for row in rows]).T, np.ones(len(t)), "S", "linear", "5",
                synthetic_candles(1).source)  # fmt: skip
    assert page[0] == run(node, tmp_path, script, [spec(synthetic_candles(400, 200), seed=200)])[0]


# Bybit, in virtual time: five-minute candles, a market that answers REST and streams

STEP, T0 = 300_000, 1_735_689_600_000


@pytest.fixture
def live(node, tmp_path):
    """What a listener heard in some minutes: live(options, minutes, more)."""

    def watched(options="{}", minutes=30, more="", n=900):
        candles = synthetic_candles(n, seed=5, liquidation=False)
        script = f"""
        const T0 = {T0}, STEP = {STEP};{WORDS}        const more = async (w, x, stop) => {{{more}}};
        return watch(bybit, given.rows, {options}, {minutes}, more);"""
        heard = run(node, tmp_path, script, {"rows": [list(r) for r in candles.rows()]})
        assert heard["wrong"] is None, heard["wrong"]
        assert heard["before"] == 0, "asked before the click"
        return heard

    return watched


def fresh(heard, lag=15_000):
    """Every candle that has closed is there, none doubled, none left out."""
    closed = (heard["now"] - T0 - lag) // STEP - 1
    assert heard["last"] >= T0 + closed * STEP, (heard["codes"], heard["last"], heard["now"])
    assert set(np.diff(heard["starts"])) == {STEP}
    return True


def test_history_then_stream(live):
    heard = live(minutes=60)
    assert heard["source"] == ["bybit", "api.bybit.com"]
    assert fresh(heard, 3000) and heard["live"] == 12 and heard["histories"] == 1
    assert heard["codes"] == ["asking", "ok", "streaming"] and heard["opens"] > 1000
    first = heard["asked"][0]
    assert {k: first[k] for k in ("category", "symbol", "interval", "limit")} == {
        "category": "linear", "symbol": "BTCUSDT", "interval": "5", "limit": 301,
    }  # fmt: skip
    assert len(heard["asked"]) == 2, "one page, and one look between history and stream"
    assert json.loads(heard["sent"][0]) == {"op": "subscribe", "args": ["kline.5.BTCUSDT"]}
    assert heard["sent"].count('{"op":"ping"}') == 179, "a ping every 20 s"
    assert heard["n"] == 300 + 12


def test_history_pages_backward(live):
    heard = live("{ market: { rows: 1500 }, begin: T0 + 1700 * STEP }", 1, n=1800)
    assert heard["n"] == 1500 and [q["limit"] for q in heard["asked"][:2]] == [1000, 501]
    assert heard["asked"][1]["end"] == heard["starts"][501] - 1  # the newest of 1,000 is open
    assert fresh(heard)


STARTS = {  # the first answers -> the codes heard, how often was asked, and what the reader is told
    "geo-block": ("{ status: 403, body: BLOCKED }", 1, "does not serve this country"),
    "forbidden": ("{ status: 403, body: '<html>Bad request.</html>' }", 1, "HTTP 403"),
    "banned": ("{ status: 403, body: '403, access too frequent' }", 1, "wait 10 minutes"),
    "symbol": ("{ status: 200, body: SAYS(10001, 'symbol invalid') }", 1, "10001 symbol invalid"),
    "rate-limit": ("{ status: 200, body: SAYS(10006, 'Too many visits') }", 7, "too many requests"),
    "server": ("{ status: 502, body: '<html>Bad gateway</html>' }", 7, "HTTP 502"),
    "timeout": ("'hang'", 7, "did not answer within 10 s"),
    "offline": ("'reject'", 14, "No connection to api.bybit.com"),
    "malformed": (
        "{ status: 200, body: '<html>please log in</html>' }",
        2,
        "no answer of a market",
    ),
}
WORDS = """
    const BLOCKED = '<HTML><H1>403 ERROR</H1>configured to block access from your country</HTML>';
    const SAYS = (retCode, retMsg) => ({ retCode, retMsg, result: null, time: 1735809000000 });
"""


@pytest.mark.parametrize("code", STARTS)
def test_a_fault_at_the_start_has_a_name_is_tried_as_often_as_it_passes_and_ends(live, code):
    fault, asked, says = STARTS[code]
    heard = live(f"{{ always: {fault} }}", 20)
    assert set(heard["codes"]) == {"asking", code} and len(heard["asked"]) == asked
    end = heard["said"][-1]
    assert end["final"] and end["level"] == "fault" and says in end["text"], end
    assert "What is on screen stays" in end["text"]
    assert heard["waiting"] == heard["histories"] == heard["sockets"] == 0, "something still runs"
    waits = [e["retryInSeconds"] for e in heard["said"] if "retryInSeconds" in e]
    assert len(waits) == heard["codes"].count(code) - 1
    if asked >= 7:
        assert len(waits) == 6 and waits == sorted(waits) and waits[-1] > 20, waits


@pytest.mark.parametrize("code", STARTS)
def test_a_fault_that_passes_is_got_over(live, code):
    fault, asked, _ = STARTS[code]
    faults = ", ".join([fault] * (2 if code == "offline" else 1))  # a refused look asks twice
    heard = live(f"{{ faults: [{faults}] }}", 20)
    if asked == 1:
        assert heard["said"][-1]["final"]
    else:
        assert fresh(heard) and heard["codes"] == ["asking", code, "ok", "streaming"]


def test_a_refused_page_is_told_from_a_missing_network(live):
    heard = live("{ faults: ['reject', 'opaque'] }", 5)
    assert heard["codes"] == ["asking", "cross-origin"] and heard["said"][-1]["final"]
    assert [q.get("mode") for q in heard["asked"]] == [None, "no-cors"]
    heard = live("{ always: 'reject', env: { onLine: () => false } }", 5)
    assert "This computer is offline" in heard["said"][-1]["text"] and len(heard["asked"]) == 7


def test_a_told_wait_is_kept(live):
    limit = "{ status: 429, body: '', headers: { 'Retry-After': '30' } }"
    heard = live(f"{{ faults: [{limit}] }}", 5)
    assert heard["said"][1]["retryInSeconds"] == 30
    assert 30_000 <= heard["asked"][1]["at"] < 31_000


SPOILED = {
    "five columns": "list[3] = list[3].slice(0, 5)",
    "a number": "list[3][1] = 17",
    "not a number": "list[3][2] = 'NaN'",
    "low above": "list[3][3] = String(1e9)",
    "negative volume": "list[3][5] = '-1'",
    "a hole in the close": "list[3][4] = list[3][2]; list[3][2] = String(+list[3][2] + 9)",
    "twice": "list.splice(3, 0, list[3])",
    "markup": "list[3][1] = '<img src=x onerror=alert(1)>'",
    "other symbol": "body.result.symbol = '<b>OTHER</b>'",
    "null": "body.result = null",
    "no list": "body.result.list = {}",
}


@pytest.mark.parametrize("what", SPOILED)
def test_malformed_rows_are_asked_for_once_more_and_then_refused(live, what):
    spoil = f"{{ spoil: (list, body) => {{ {SPOILED[what]} }} }}"
    heard = live(f"{{ always: {spoil} }}", 5)
    assert heard["codes"] == ["asking", "malformed", "malformed"] and heard["histories"] == 0
    assert heard["said"][-1]["final"] and heard["waiting"] == 0
    assert fresh(live(f"{{ faults: [{spoil}] }}", 5))


def test_missing_candles_in_the_history_are_said(live):
    heard = live("{ always: { spoil: (list) => list.splice(20, 3) } }", 0.2)
    assert heard["codes"][:2] == ["asking", "gap"]
    assert "3 candles missing in 1 place, the first from" in heard["said"][1]["text"]


@pytest.mark.parametrize(("skew", "says"), [(-400_000, "7 min slow"), (5_400_000, "90 min fast")])
def test_a_wrong_clock_is_said_and_does_not_close_candles_early(live, skew, says):
    heard = live(f"{{ skew: {skew} }}", 20)
    assert says in heard["said"][1]["text"] and heard["codes"].count("clock") == 1
    assert fresh(heard) and heard["histories"] == 1


def test_an_answer_without_time_says_so(live):
    heard = live("{ faults: [{ spoil: (list, body) => { delete body.time; } }] }", 5)
    assert "carried no time" in heard["said"][1]["text"] and fresh(heard)


def test_a_sleep_is_refilled(live):
    heard = live("{}", 10, "await w.pass(600000); w.sleep(3600000);")
    assert heard["codes"][3:] == ["slept", "streaming"] and heard["histories"] == 1
    assert "60 min" in heard["said"][3]["text"] and fresh(heard) and heard["live"] == 2 + 12 + 2
    assert heard["late"] == 11, "nobody decided about them in time; about the first somebody did"
    assert live("{}", 30)["late"] == live("{ later: 'refused' }", 30)["late"] == 0
    assert heard["sockets"] == 2


def test_a_long_sleep_loads_the_history_anew(live):
    heard = live(
        "{ market: { rows: 50 } }", 10, "await w.pass(60000); w.sleep(1100 * STEP);", n=1700
    )
    assert heard["histories"] == 2 and fresh(heard)


def test_a_stream_cut_in_mid_candle_comes_back(live):
    heard = live("{ connections: ['cut'] }", 20)
    assert heard["codes"][3:] == ["stream-cut", "streaming"] and heard["sockets"] == 2
    assert "during the candle of 2025-01-02 09:20 UTC" in heard["said"][3]["text"]
    assert fresh(heard) and heard["said"][3]["retryInSeconds"] == 1


def test_a_silent_stream_is_noticed(live):
    heard = live("{ connections: ['mute'] }", 20)
    assert heard["codes"][2:] == ["stream-silent", "streaming"] and fresh(heard)


@pytest.mark.parametrize("kind", ["refused", "short", "mute"])
def test_where_the_stream_fails_rest_is_asked(live, kind):
    heard = live(f"{{ later: '{kind}' }}", 60)
    assert heard["codes"][-1] == "polling" and heard["sockets"] == 7, heard["codes"]
    assert fresh(heard) and heard["opens"] > 100
    waits = [e["retryInSeconds"] for e in heard["said"] if "retryInSeconds" in e]
    assert waits == [1, 2, 4, 8, 16, 32]
    gaps = np.diff([q["at"] for q in heard["asked"]])[-100:]
    assert gaps.min() > 1000 and gaps.mean() > 7000, "polling is slow"


def test_a_refused_topic_goes_to_rest_at_once(live):
    heard = live("{ later: 'unsubscribed' }", 20)
    assert heard["codes"][2:] == ["polling"] and fresh(heard)
    assert "refused kline.5.BTCUSDT (error:handler not found)" in heard["said"][2]["text"]
    none = live("{ env: { WebSocket: undefined } }", 20)
    assert none["codes"][2:] == ["polling"] and fresh(none)


STREAMS = {  # what the stream does with a row -> the codes heard
    "never confirmed": ("s.candle(r, false)", []),
    "confirmed early": ("s.candle(r, true)", ["early"]),
    "twice": ("s.candle(r, c); if (c) s.candle(r, c)", []),
    "twice, differently": (
        "s.candle(r, c); if (c) s.candle(r.map((v, k) => (k === 5 ? v + 1 : v)), c)", ["conflict"],
    ),
    "every third missing": ("if (!c || r[0] / STEP % 3) s.candle(r, c)", []),
    "a wrong close, then a cut": (
        "s.candle(c && !x.spoiled ? r.map((v, k) => (k === 5 ? v + 1 : v)) : r, c);"
        "if (c && !x.spoiled) { x.spoiled = true; s.end(); }",
        ["corrected"],
    ),
    "an open off the close": ("s.candle(r.map((v, k) => (k === 1 ? r[3] : v)), c)", []),
    "no JSON": ("s.candle(r, c); if (c) s.say({ raw: '<html>' })", ["malformed"]),
    "no numbers": ("s.candle(r, c); if (c) s.candle(r, c, { open: '<b>' })", ["malformed"]),
    "no data": ("s.candle(r, c); if (c) s.say({ topic: s.topic, ts: x.now() })", ["malformed"]),
    "a stray topic": ("s.candle(r, c); s.say({ topic: 'kline.1.BTCUSDT', data: [{}] })", []),
    "null": ("s.candle(r, c); if (c) s.say(null ?? { raw: 'null' })", []),
}  # fmt: skip


@pytest.mark.parametrize("what", STREAMS)
def test_whatever_the_stream_says_no_wrong_candle_is_taken(live, what):
    act, codes = STREAMS[what]
    heard = live(f"{{ later: (s, r, c, x) => {{ {act} }} }}", 20)
    rest = [c for c in heard["codes"] if c not in ("asking", "ok", "streaming", "stream-cut")]
    assert list(dict.fromkeys(rest)) == codes, heard["codes"]
    assert fresh(heard)


def test_garbage_without_end_gives_the_stream_up(live):
    heard = live("{ later: (s) => s.say({ raw: '}' }) }", 20)
    assert heard["codes"][-1] == "polling" and heard["sockets"] == 7 and fresh(heard)


def test_faults_while_it_runs_end_with_the_last_good_state(live):
    heard = live(
        "{ later: 'refused' }",
        30,
        "await w.pass(300000); x.faults.push(...Array(99).fill('hang'));",
    )
    end = heard["said"][-1]
    assert end["code"] == "timeout" and end["final"] and heard["waiting"] == 0
    assert heard["n"] == 301 and heard["histories"] == 1
    heard = live("{ later: 'refused' }", 30, "await w.pass(300000); x.faults.push('hang', 'hang');")
    assert fresh(heard) and not any(e.get("final") for e in heard["said"])


def test_stop_ends_everything_at_once(live):
    for when in (0, 20, 130, 200, 300_000):
        heard = live("{}", 30, f"await w.pass({when}); stop();")
        assert heard["waiting"] <= 1 and heard["live"] <= 1
        assert all(q["at"] <= when for q in heard["asked"])


@pytest.mark.parametrize("market", ["{ symbol: '' }", "{ symbol: '../x' }", "{ interval: '7' }"])
def test_what_no_market_is_called_is_never_asked_for(live, market):
    heard = live(f"{{ market: {market} }}", 1)
    assert heard["codes"] == ["symbol"] and heard["said"][0]["final"] and not heard["asked"]


RECORDED = {  # recorded answers of the exchange, as far as their names tell -> the code
    "err_10001": "symbol", "err_10006": "rate-limit", "err_10016": "server", "err_5004": "server",
    "err_403_access": "banned", "err_403_geo": "geo-block", "err_403_cloudfront": "forbidden",
    "err_7001": "symbol", "bad_truncated": "malformed",
}  # fmt: skip


def test_recorded_answers_have_their_names(node, tmp_path, recordings):
    files = {
        path.name: path.read_text()
        for path in sorted((recordings / "fixtures").iterdir())
        if path.name.startswith((*RECORDED, "page_"))
    }
    script = """
    return Object.entries(given).map(([name, text]) => {
      let body = null;
      try { body = JSON.parse(text); } catch { /* no JSON */ }
      const fault = feedRefused('h', name.includes('403') ? 403 : 200, text, body, null);
      if (fault) return [name, fault.code, fault.message];
      const market = { symbol: body.result.symbol, category: 'linear', interval: '5', host: 'h' };
      const rows = feedRows(body, market), last = rows.at(-1)[0] + 300000;
      return [name, 'rows', rows.length, last > body.time, rows.map((r) => r[0])];
    });"""
    answers = run(node, tmp_path, script, files)
    assert len(answers) >= 15
    for name, code, *more in answers:
        if name.startswith("page_"):
            n, still_open, starts = more
            assert code == "rows" and n == int(name.split("limit")[1].split("_")[0])
            assert still_open and set(np.diff(starts)) == {STEP}
        else:
            assert code == next(c for start, c in RECORDED.items() if name.startswith(start)), name
            assert "<" not in more[0] and len(more[0]) < 300


def test_a_recorded_year_is_read_as_python_reads_it(node, tmp_path, recordings):
    path = recordings / "market" / "bybit_linear_BTCUSDT_5m_2025.csv"
    script = """
    const { rows, interval, symbol, notes } = readTable(given, 'linear_BTCUSDT_5m.csv', 2e12);
    const sums = [0, 1, 2, 3, 4, 5, 6].map((k) => rows.reduce((s, r) => s + r[k], 0));
    const some = rows.filter((_, i) => i % 997 === 0);
    return { n: rows.length, interval, symbol, notes, sums, some };"""
    got = run(node, tmp_path, script, path.read_text())
    candles = Candles.from_csv(path)
    assert (got["n"], got["interval"], got["symbol"]) == (len(candles), "5", "BTCUSDT")
    assert got["some"] == [list(row) for row in candles.rows()[::997]]
    assert got["notes"] == ["turnover of 105,120 rows estimated from volume and close"]
    sums = [getattr(candles, name).sum() for name in ("start", "open", "high", "low", "close")]
    np.testing.assert_allclose(got["sums"][:5], np.float64(sums), rtol=1e-10)
