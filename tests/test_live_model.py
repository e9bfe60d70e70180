"""The live model: what the browser computes is what the package computes, on any candles."""

from itertools import pairwise

import numpy as np
import pytest
from replay import read_csv
from test_objects import node, run  # noqa: F401

import quantlab as ql
from quantlab.market.candles import Source
from quantlab.nn.evaluate import block_interval
from quantlab.teach.live_model import FLOAT, RANGES, LiveModel

SETTINGS = [
    {"bits": bits, "activations": a, "scheme": scheme, "granularity": per, "range": reach}
    for bits, a, scheme, per, reach in [
        (8, FLOAT, "symmetric", "channel", "min-max"),
        (4, FLOAT, "asymmetric", "tensor", "min-max"),
        (3, FLOAT, "symmetric", "group", "min-max"),
        (2, FLOAT, "symmetric", "channel", "min-max"),
        (1, FLOAT, "symmetric", "channel", "min-max"),
        (1, FLOAT, "asymmetric", "group", "min-max"),
        (16, 16, "symmetric", "channel", "min-max"),
        (8, 8, "symmetric", "channel", "percentile"),
        (8, 8, "asymmetric", "tensor", "min-max"),
        (4, 4, "symmetric", "group", "percentile"),
        (3, 2, "asymmetric", "channel", "percentile"),
        (12, 9, "symmetric", "tensor", "percentile"),
    ]
]


@pytest.fixture(scope="module")
def trained():
    candles = ql.synthetic_candles(6000, seed=7)
    data = ql.prepare(candles)
    return candles, data, ql.train_seeds(data, seeds=(0,), epochs=8)[0]


@pytest.fixture(scope="module")
def widget(trained):
    candles, data, model = trained
    aware = ql.quantization_aware_train(model, data.train.x, data.train.y, 2, epochs=1)
    return LiveModel({"as trained": model, "trained on 2 bits": aware}, data, candles, rows=600)


def without(candles, rows):
    """The same candles with some missing."""
    keep = ~np.isin(np.arange(len(candles)), rows)
    columns = {n: getattr(candles, n)[keep] for n in ("start", "open", "high", "low", "close")}
    more = {n: getattr(candles, n)[keep] for n in ("volume", "turnover")}
    labels = candles.symbol, candles.category, candles.interval, Source("file", "test")
    return ql.Candles(*columns.values(), *more.values(), *labels)


def many(recordings):
    """Recorded and random candles, some with gaps, of three intervals."""
    yield ql.synthetic_candles(1500, seed=11)
    yield ql.synthetic_candles(400, seed=12, interval="60")
    yield without(ql.synthetic_candles(1500, seed=13), [400, 401, 402, 900])
    flat = ql.synthetic_candles(700, seed=14)
    yield without(flat, [300])
    for symbol in ("BTCUSDT", "ETHUSDT"):
        rows = read_csv(recordings / "market" / f"bybit_linear_{symbol}_5m_2025.csv")[-1600:]
        table = np.array([row[:6] for row in rows], float).T
        yield ql.Candles(
            *table, table[4] * table[5], symbol, "linear", "5", Source("replay", "csv")
        )


FEATURES = """
  const rows = c.rows, out = [];
  rows.forEach((_, i) => {
    const row = featureRow(rows, i, c.frame), next = rows[i + 1];
    if (!row) return;
    const follows = next && next[0] - rows[i][0] === c.frame.step;
    out.push({ start: rows[i][0], x: [...row.x], scaled: [...scaleRow(row.x, c.scaler)],
      rules: ruleDecisions(c.rules, row.x),
      truth: follows
        ? ["usual", "range", "direction"].map((t) => cameTrue(t, next, row.median)) : null });
  });
  return out;"""


def test_features_answers_and_rules_are_the_packages(node, tmp_path, recordings, trained):  # noqa: F811
    candles, data, model = trained
    every = list(many(recordings))
    widget = LiveModel(model, data, candles)
    spec = widget.spec
    names = ("start", "open", "high", "low", "close", "volume")
    cases = []
    for candles in every:
        window = ql.candle_features(candles).window
        frame = spec["frame"] | {"window": window, "short": max(window // 24, 3)}
        step = int(np.diff(candles.start).min())
        rows = np.stack([getattr(candles, n) for n in names], 1).tolist()
        cases.append(
            {
                "rows": rows,
                "frame": frame | {"step": step},
                "scaler": spec["entries"][0]["scaler"],
                "rules": spec["rules"],
            }
        )
    threshold = cases[0]["rules"]["threshold"]
    for candles, got in zip(every, run(node, tmp_path, widget, FEATURES, cases), strict=True):
        features = ql.candle_features(candles)
        wanted = dict(zip(features.start.tolist(), range(len(features)), strict=True))
        scored = [row for row in got if row["start"] in wanted]
        assert len(scored) == len(features)
        assert all(row["truth"] is None for row in got if row["start"] not in wanted)
        x = np.float32([row["x"] for row in scored])
        np.testing.assert_array_equal(x, features.x)
        scaled = np.float32([row["scaled"] for row in scored])
        np.testing.assert_array_equal(scaled, data.scaler.transform(features.x))
        truth = np.array([row["truth"] for row in scored]).T
        for k, target in enumerate(("usual", "range", "direction")):
            np.testing.assert_array_equal(truth[k], features.target(target))
        rule, score = ql.market.features.rule_and_score("usual", features.x)
        assert [row["rules"]["rule"] for row in scored] == rule.tolist()
        assert [row["rules"]["hour rule"] for row in scored] == (score > threshold).tolist()
        last = got[-1]["x"] if got[-1]["truth"] is None else None
        assert last is None or np.array_equal(np.float32(last), features.latest[0])


MODEL = """
  const model = c.models[c.entry], built = onGrids(model, c), x = floatsOf(c.x);
  const { logits, given, beyond } = forward(built.layers, x);
  return { bytes: built.bytes, logits: [...logits], beyond,
    codes: built.layers.map((l) => (l.codes ? [...l.codes] : null)),
    inputs: built.layers.map((l, k) => [...putInputs(given[k], l.grid).x]) };"""


def unpack(widget):
    """The models as live_model.js cuts them from the buffer, as JSON."""
    data, at, found = np.frombuffer(widget.data, np.float32), 0, []
    sizes = list(widget.spec["sizes"])
    for entry in widget.spec["entries"]:
        layers = []
        for n_in, n_out in pairwise(sizes):
            weight, bias = data[at : at + n_in * n_out], data[at + n_in * n_out :][:n_out]
            at += n_in * n_out + n_out
            layers.append([weight.tolist(), bias.tolist(), n_in, n_out])
        if entry["own"]:
            at += sum((a + 1) * b for a, b in pairwise(sizes))
        found.append((layers, entry["grids"]))
    return found


def in_float64(layers, x):
    """Logits as the browser sums them: each product sum exact, rounded to float32 once."""
    inputs = []
    for k, layer in enumerate(layers):
        x = layer.on_grid(x)
        inputs.append(x)
        z = (x.astype(np.float64) @ layer.values.astype(np.float64).T).astype(np.float32)
        z += layer.bias
        x = np.maximum(z, 0) if k < len(layers) - 1 else z
    return x[:, 0], inputs


@pytest.mark.parametrize("name", ["as trained", "trained on 2 bits"])
def test_codes_and_logits_are_the_packages(node, tmp_path, trained, widget, name, record_property):  # noqa: F811
    _, data, _ = trained
    rng = np.random.default_rng(0)
    x = np.concatenate([data.test.x[-700:], 3 * rng.standard_normal((300, 4)).astype(np.float32)])
    entry = list(widget._entries).index(name)
    layers, grids = unpack(widget)[entry]
    prologue = """
      const put = ([w, b, inputs, outputs]) => ({ weight: Float32Array.from(w),
        bias: Float32Array.from(b), inputs, outputs });
      c.models = [{ layers: c.layers.map(put), grids: c.grids }]; c.entry = 0;"""
    cases = [s | {"layers": layers, "grids": grids, "x": x} for s in SETTINGS]
    answers = run(node, tmp_path, widget, prologue + MODEL, cases)
    worst = 0.0
    for setting, got in zip(SETTINGS, answers, strict=True):
        for trait, value in (setting | {"weights": name}).items():
            setattr(widget, trait, value)
        coarse = widget.quantized()
        assert got["bytes"] == coarse.nbytes, setting
        for codes, layer in zip(got["codes"], coarse.layers, strict=True):
            assert codes == layer.weight.codes.ravel().tolist(), setting
        logits, inputs = in_float64(coarse.layers, x)
        for mine, theirs in zip(got["inputs"], inputs, strict=True):
            np.testing.assert_array_equal(np.float32(mine), theirs.ravel(), str(setting))
        np.testing.assert_array_equal(np.float32(got["logits"]), logits, str(setting))
        plain = coarse.predict_logits(x)  # float32 sums in another order
        if setting["activations"] == FLOAT:
            apart = np.abs(plain - logits).max() / np.abs(plain).max()
            assert apart < 2e-6, setting
            worst = max(worst, apart)
        else:  # a hidden value that lies on the edge of two codes may take either
            assert np.mean(np.abs(plain - logits) > 1e-5 * np.abs(plain).max()) < 0.03, setting
        assert np.mean((plain > 0) != (logits > 0)) < 0.003, setting
        np.testing.assert_allclose(
            max(got["beyond"]), coarse.logits_and_saturation(x)[1], atol=2e-3, err_msg=str(setting)
        )
    record_property("largest difference to float32 sums, of the largest logit", float(worst))


VALUE = """
  const truth = c.truth, got = compareLogits(c.exact, c.coarse, truth, c.rule);
  return { ...got, tell: candlesToTell(got), left: got.left };"""


def test_measures_are_the_packages(node, tmp_path, widget):  # noqa: F811
    rng = np.random.default_rng(1)
    n = 4800
    exact = rng.normal(0.3, 1, n).astype(np.float32).astype(float)
    coarse = (exact + rng.normal(0, 0.3, n)).astype(np.float32).astype(float)
    truth = rng.random(n) < 1 / (1 + np.exp(-2 * exact))
    rule = rng.random(n) < np.where(truth, 0.6, 0.4)
    case = {"exact": exact, "coarse": coarse, "truth": truth, "rule": rule}
    (got,) = run(node, tmp_path, widget, VALUE, [{k: v.tolist() for k, v in case.items()}])
    assert got["snr"] == pytest.approx(ql.snr_db(exact, coarse))
    assert got["agreement"] == pytest.approx(ql.nn.agreement(exact, coarse))
    right, was = (coarse > 0) == truth, (exact > 0) == truth
    assert got["helped"] - got["hurt"] == right.sum() - was.sum()
    assert got["helped"] + got["hurt"] == ((coarse > 0) != (exact > 0)).sum()
    blocks = np.arange(n) // 48
    for key, (value, low, high) in {
        "accuracy": block_interval(right, blocks),
        "change": ql.nn.paired_interval(right, was, blocks),
        "edge": ql.nn.paired_interval(was, (rule == truth).astype(float), blocks),
    }.items():
        assert got[key][0] == pytest.approx(value)
        width = high - low
        assert got[key][1] == pytest.approx(low, abs=0.12 * width)
        assert got[key][2] == pytest.approx(high, abs=0.12 * width)
    edge = 100 * (was.mean() - (rule == truth).mean())
    assert got["left"] == pytest.approx(100 * (1 + got["change"][0] / edge))
    half = (got["change"][2] - got["change"][1]) / 2
    assert got["tell"] == pytest.approx(n * (half / got["change"][0]) ** 2, abs=1)


PATH = """
  const put = ([w, b, inputs, outputs]) => ({ weight: Float32Array.from(w),
    bias: Float32Array.from(b), inputs, outputs });
  const model = { layers: c.layers.map(put), grids: c.grids };
  const exact = onGrids(model, { bits: FLOAT });
  return pathOf(exact, exact, onGrids(model, c).layers, Float32Array.from(c.row));"""


def test_the_parts_of_a_flip_add_up_and_name_the_layer(node, tmp_path, widget, trained):  # noqa: F811
    _, data, model = trained
    layers, grids = unpack(widget)[0]
    settings = {"weights": "as trained", "activations": FLOAT, "scheme": "symmetric"}
    for trait, value in (settings | {"granularity": "channel", "bits": 2}).items():
        setattr(widget, trait, value)
    coarse = widget.quantized()
    x = data.test.x[-40:]
    cases = [{"layers": layers, "grids": grids, "row": r.tolist(), "bits": 2} for r in x]
    steps = [model.layers]
    steps += [[*coarse.layers[:k], *model.layers[k:]] for k in (1, 2, 3)]
    walked = np.stack([in_float64(s, x)[0] for s in steps]).astype(float)  # (4, rows)
    flips = 0
    for k, got in enumerate(run(node, tmp_path, widget, PATH, cases)):
        moves = np.diff(walked[:, k])
        assert [p["move"] for p in got["parts"]] == pytest.approx(moves.tolist())
        assert got["start"] + sum(p["move"] for p in got["parts"]) == pytest.approx(got["end"])
        assert got["flipped"] == ((walked[0, k] > 0) != (walked[-1, k] > 0))
        toward = moves if walked[-1, k] > walked[0, k] else -moves
        assert got["culprit"] == f"layer {np.argmax(toward) + 1}"
        flips += got["flipped"]
    assert flips, "2 bits flip nothing in 40 rows: the test sees no flip"


def test_refuses_and_reports(trained):
    candles, data, model = trained
    with pytest.raises(ValueError, match="need 338"):
        LiveModel(model, data, candles[:300])
    with pytest.raises(ValueError, match="one logit"):
        LiveModel(ql.TradingModel((4, 3)), data, candles)
    with pytest.raises(ValueError, match="expected a TradingModel"):
        LiveModel({"mine": 3}, data, candles)
    with pytest.raises(ValueError, match="activations is 18"):
        LiveModel(model, data, candles, activations=18)
    with pytest.raises(ValueError, match="panels is 'clock'"):
        LiveModel(model, data, candles, panels=("clock",))
    told = LiveModel(model, data, candles, rows=300).report().splitlines()
    assert len(told) == 8 and told[2].startswith("8 bits: ") and "next " in told[-1]
    assert set(RANGES) == {"min-max", "percentile"}


def test_a_refresh_tells_its_progress_and_loses_nothing(trained):
    candles, data, model = trained

    def anew():
        yield 0.5, "halfway"
        return model, data, ql.synthetic_candles(given["n"], seed=9)

    given, heard = {"n": 2000}, []
    live = LiveModel(model, data, candles, rows=300, refresh=anew)
    live.send = lambda message, buffers=None: heard.append(message)
    before = live.candles
    live._hear(live, {"type": "refresh"}, [])
    assert heard == [{"type": "progress", "share": 0.5, "text": "halfway"}, {"type": "done"}]
    kept = live.candles
    assert kept != before and len(live.inputs()) == 300
    given["n"] = 200  # too few: what stands stays, in the page and here
    live._hear(live, {"type": "refresh"}, [])
    assert heard[-1]["type"] == "error" and "need 338" in heard[-1]["text"]
    assert live.candles == kept and len(live.inputs()) == 300
