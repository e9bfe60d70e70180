"""Things to grab: their arithmetic is the package's, their traits start where they should."""

import base64
import json
import shutil
import subprocess

import numpy as np
import pytest

import quantlab as ql
from quantlab.market import synthetic_candles
from quantlab.teach import objects

S = ql.QuantizationScheme


def series(n=400):
    return np.float32(0.1 * np.random.default_rng(3).standard_t(3, size=n))


def rows(**k):
    x = np.random.default_rng(4).normal(size=(60, 3))
    given = {
        "logits": x[:, 0],
        "quantized": {2: np.round(x[:, 0]), 4: np.round(4 * x[:, 0]) / 4},
        "features": x,
        "names": ("a", "b", "c"),
        "targets": x[:, 0] + x[:, 1] > 0,
        "gains": x[:, 1],
        "fee": 0.1,
    }
    return objects.Decision(**(given | k))


def corner(**k):
    rng = np.random.default_rng(5)
    x, w = np.abs(rng.normal(size=(3, 4))), rng.normal(size=(4, 3)) * [0.2, 1, 3]
    return objects.Matrix(**({"x": x, "w": w} | k))


def candle(**k):
    return objects.Candle(**({"candles": synthetic_candles(6000, seed=7)} | k))


def accumulator(**k):
    rng = np.random.default_rng(6)
    x, w = np.maximum(rng.normal(size=24), 0), rng.normal(0.2, 1, size=24)
    return objects.Accumulator(**({"x": x, "w": w} | k))


EXAMPLES = {
    "Accumulator": accumulator,
    "Bits": lambda **k: objects.Bits(**({"a": series(8), "b": series(16)[8:]} | k)),
    "Candle": candle,
    "Matrix": corner,
    "Clip": lambda **k: objects.Clip(**{"data": series()} | k),
    "Decision": rows,
    "Latent": lambda **k: objects.Latent(**({"best": 0.3, "value": -0.7} | k)),
    "Roofline": lambda **k: objects.Roofline(**({"peaks": LIMITS, "bandwidth": 20.0} | k)),
    "Ruler": lambda **k: objects.Ruler(**{"data": series()} | k),
}
LIMITS = {"FP32": (32, 100.0), "FP16": (16, 90.0), "INT8": (8, 400.0), "binary": (1, 2000.0)}


@pytest.fixture(scope="module")
def node():
    path = shutil.which("node")
    if path is None:
        pytest.skip("no node: the objects' JavaScript is not run")
    return path


def run(node, tmp_path, widget, script, cases):
    """`script`, the body of (case) => answer, for every case beside the text of the widget."""
    module = tmp_path / "module.mjs"
    tail = f"""
import fs from 'node:fs';
const floatsOf = (t) => new Float32Array(new Uint8Array(Buffer.from(t, 'base64')).buffer);
const answer = JSON.parse(fs.readFileSync(0, 'utf8')).map((c) => {{ {script} }});
console.log(JSON.stringify(answer));
"""
    module.write_text(widget._esm + tail, "utf-8")
    sent = [{k: _text(v) if isinstance(v, np.ndarray) else v for k, v in c.items()} for c in cases]
    done = subprocess.run(
        [node, str(module)], input=json.dumps(sent), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _text(a):
    return base64.b64encode(np.float32(a).tobytes()).decode()


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_travels(name):
    """A small still, a representation without an address, one module, traits at their start."""
    o = EXAMPLES[name]()
    data, _ = o._repr_mimebundle_()
    still = base64.b64decode(data["image/png"])
    assert still.startswith(b"\x89PNG") and len(still) < 60_000
    assert data["text/plain"] == repr(o) == repr(EXAMPLES[name]()) and "0x" not in repr(o)
    assert len(o._esm.encode()) < 45_000
    assert o._esm.count("export default") == 1 and "\nimport " not in o._esm
    assert {k: getattr(o, k) for k in o.spec["start"]} == o.spec["start"]


REFUSED = [
    ("Accumulator", {"x": np.ones(3)}, "x has 3 values, w 24; expected as many, at most 4,096"),
    ("Accumulator", {"x": np.ones(5000), "w": np.ones(5000)}, "at most 4,096"),
    ("Accumulator", {"w": np.zeros(24)}, "not all zero"),
    ("Accumulator", {"w": [np.nan] * 24}, "w has 24 NaN values"),
    ("Accumulator", {"out": (1, 2)}, "expected (low, high) around 0"),
    ("Accumulator", {"out": 3}, "expected (low, high) around 0"),
    ("Accumulator", {"k": 0}, "k is 0"),
    ("Accumulator", {"bits": 9}, "bits is 9"),
    ("Accumulator", {"width": 64}, "width is 64"),
    ("Accumulator", {"inputs": "largest"}, "inputs is 'largest'"),
    ("Clip", {"data": [np.inf]}, "1 infinite value"),
    ("Clip", {"data": np.zeros(5)}, "not all zero"),
    ("Clip", {"bits": 9}, "bits is 9; expected 2 to 8"),
    ("Clip", {"clip": 0.0}, "clip is 0; expected"),
    ("Clip", {"wrong": 1}, "wrong is 1; expected 1.1 to 20"),
    ("Decision", {"logits": np.zeros((3, 2))}, "expected (n,)"),
    ("Decision", {"logits": np.zeros(6000)}, "at most 5,000"),
    ("Decision", {"quantized": {}}, "quantized is empty"),
    ("Decision", {"quantized": {4: np.zeros(59)}}, "quantized[4] has 59 rows, logits has 60"),
    ("Decision", {"quantized": {"4": np.zeros(60)}}, "bits in quantized is '4'"),
    ("Decision", {"bits": 8}, "bits is 8; expected one of 2, 4"),
    ("Decision", {"names": ("a",)}, "names has 1"),
    ("Decision", {"features": np.full((60, 3), np.nan)}, "features has 180 NaN values"),
    ("Decision", {"targets": np.zeros(3, bool)}, "targets has 3 rows"),
    ("Decision", {"fee": -1}, "fee is -1"),
    ("Decision", {"threshold": 99}, "threshold is 99"),
    ("Latent", {"best": 1.1}, "best is 1.1; expected -1 to 1"),
    ("Latent", {"value": np.nan}, "value is nan; expected -1.6 to 1.6"),
    ("Latent", {"bits": 5}, "bits is 5; expected 1 to 4"),
    ("Latent", {"rate": 0}, "rate is 0"),
    ("Latent", {"clip": np.inf}, "clip is inf"),
    ("Matrix", {"x": np.ones((3, 5))}, "x (3, 5) and w (4, 3); expected (m, k) and (k, n)"),
    ("Matrix", {"x": np.ones((9, 4))}, "m, k, n are 9, 4, 3"),
    ("Matrix", {"w": np.zeros((4, 3))}, "not all zero"),
    ("Matrix", {"w": np.full((4, 3), np.nan)}, "w has 12 NaN values"),
    ("Matrix", {"per": "row"}, "per is 'row'"),
    ("Matrix", {"x": np.ones((2, 3)), "w": np.ones((3, 2)), "per": "group"}, "per is 'group'"),
    ("Matrix", {"weights": "free"}, "weights is 'free'"),
    ("Candle", {"candles": synthetic_candles(100)}, "make 8 of 12 parts; expected 40 to 20,000"),
    ("Bits", {"a": [1.0]}, "a has 1, b 8; expected one length"),
    ("Bits", {"a": np.ones(20), "b": np.ones(20)}, "at most 16"),
    ("Bits", {"b": np.full(8, np.nan)}, "b has 8 NaN values"),
    ("Candle", {"every": 1}, "every is 1; expected 2 to 60"),
    ("Candle", {"show": 500}, "show is 500"),
    ("Candle", {"bits": 1}, "bits is 1"),
    ("Roofline", {"peaks": {}}, "peaks has 0 entries; expected 2 to 6"),
    ("Roofline", {"peaks": {"a": (32, 1), "b": (0, 1)}}, "bits of b is 0"),
    ("Roofline", {"peaks": {"a": (32, 1), "b": (8, np.nan)}}, "peak of b is nan"),
    ("Roofline", {"bandwidth": 0}, "bandwidth is 0"),
    ("Roofline", {"width": 8}, "width is 8; expected 16 to 4096"),
    ("Roofline", {"batch": 2000}, "batch is 2000; expected 1 to 1024"),
    ("Ruler", {"data": [1.0, np.nan]}, "1 NaN value"),
    ("Ruler", {"data": []}, "data is empty"),
    ("Ruler", {"data": np.ones((2, 2))}, "expected (n,)"),
    ("Ruler", {"data": np.zeros(3)}, "not all zero"),
    ("Ruler", {"data": np.ones(200_000)}, "at most 100,000"),
    ("Ruler", {"bits": 1}, "bits is 1; expected 2 to 8"),
    ("Ruler", {"scheme": "log"}, "scheme is 'log'"),
    ("Ruler", {"value": 99}, "value is 99; expected"),
    ("Ruler", {"value": np.nan}, "value is nan; expected"),
    ("Ruler", {"clip": "wide"}, "clip has dtype"),
    ("Ruler", {"clip": 0.0}, "wider than zero"),
]


@pytest.mark.parametrize(("name", "options", "words"), REFUSED)
def test_refuses(name, options, words):
    with pytest.raises(ValueError, match=name) as caught:
        EXAMPLES[name](**options)
    assert words in str(caught.value)


@pytest.mark.parametrize("data", [[0.5], np.full(3, 2.5), -np.arange(1.0, 5), [1e-20, 3e-20]])
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_ruler_takes_what_readers_bring(data, scheme):
    ruler = objects.Ruler(data, scheme=scheme)
    assert np.isfinite(ruler.params().scale)
    ruler._repr_mimebundle_()


RULERS = [
    {"x": series(), "low": -a, "high": b, "bits": bits, "scheme": scheme}
    for a, b in [(0.5, 0.5), (1.3, 1.3), (0.02, 0.02), (0.1, 0.7), (0.0, 0.4), (0.9, 0.0)]
    for bits in range(2, 9)
    for scheme in (("symmetric", "asymmetric") if a == b else ("asymmetric",))
]


def test_ruler_is_the_grid_of_choose_params(node, tmp_path):
    script = """
      const x = floatsOf(c.x), out = putOnGrid(x, c.low, c.high, c.bits, c.scheme);
      const worst = worstValue(c.low, c.high, c.bits, c.scheme, -1, 1);
      return { values: [...out.values], codes: [...out.codes], scale: out.params[0].scale,
        zero: out.params[0].zero, worst };"""
    answers = run(node, tmp_path, EXAMPLES["Ruler"](), script, RULERS)
    fine = np.linspace(-1, 1, 20_001, dtype=np.float32)
    for case, got in zip(RULERS, answers, strict=True):
        kind = S[f"{case['scheme'].upper()}_PER_TENSOR"]
        p = ql.choose_params([case["low"], case["high"]], kind, case["bits"])
        label = str({k: v for k, v in case.items() if k != "x"})
        assert (got["scale"], got["zero"]) == (float(p.scale), int(p.zero_point)), label
        np.testing.assert_array_equal(got["codes"], ql.quantize(case["x"], p).codes, label)
        np.testing.assert_array_equal(np.float32(got["values"]), ql.fake_quantize(case["x"], p))
        found = np.float32([got["worst"]["value"]])
        mine = float(abs(ql.fake_quantize(found, p) - found)[0])
        assert got["worst"]["error"] == pytest.approx(mine, rel=1e-5, abs=1e-9), label
        true = ql.max_error(fine, ql.fake_quantize(fine, p))
        assert true * (1 - 1e-5) <= mine <= true + 1.1e-4, label  # the fine grid misses the tie


def test_clip_splits_the_packages_error(node, tmp_path):
    cases = [
        {"x": series(), "clip": clip, "bits": bits}
        for clip in (0.02, 0.1, 0.3, 1.0, 2.0)
        for bits in range(2, 9)
    ]
    script = "return noises(floatsOf(c.x), c.clip, c.bits);"
    for case, got in zip(
        cases, run(node, tmp_path, EXAMPLES["Clip"](), script, cases), strict=True
    ):
        x = case["x"]
        p = ql.choose_params([case["clip"]], S.SYMMETRIC_PER_TENSOR, case["bits"])
        square = (ql.fake_quantize(x, p).astype(np.float64) - x) ** 2
        beyond = np.abs(x) > np.float32(case["clip"])
        assert got["beyond"] == beyond.sum()
        assert got["scale"] == float(p.scale)
        assert got["granular"] == pytest.approx(square[~beyond].sum())
        assert got["overload"] == pytest.approx(square[beyond].sum())
        assert got["rms"] == pytest.approx(np.sqrt(ql.mse(x, ql.fake_quantize(x, p))))


def test_clip_buttons_are_the_methods_of_choose_params():
    x, clip = series(), EXAMPLES["Clip"](wrong=3.0)
    spoiled = np.append(x, np.float32(3.0 * np.abs(x).max()))
    methods = clip.spec["methods"]
    assert list(methods) == ["min-max", "percentile", "MSE", "ACIQ", "entropy"]
    for (label, alphas), method in zip(
        methods.items(), ("minmax", "percentile", "mse", "aciq", "entropy"), strict=True
    ):
        for sample, row in zip((x, spoiled), alphas, strict=True):
            for bits, alpha in enumerate(row, 2):
                p = ql.choose_params(sample, S.SYMMETRIC_PER_TENSOR, bits, method=method)
                assert alpha == pytest.approx(float(p.scale) * p.qmax, rel=1e-6), label
    ran = {k for k, (clean, wrong) in methods.items() if wrong[2] > 1.5 * clean[2]}
    assert "min-max" in ran and "ACIQ" not in ran


@pytest.mark.parametrize("data", [[0.5], np.full(3, 2.5), np.append(np.zeros(50), 1.0)])
def test_clip_takes_what_readers_bring(data):
    objects.Clip(data)._repr_mimebundle_()


def test_decision_counts_what_python_counts(node, tmp_path):
    o = rows()
    cases = [
        {
            "float": o._float,
            "quantized": q,
            "targets": np.float32(o._float > 0.2),
            "gains": np.float32(np.sin(np.arange(60))),
            "threshold": t,
            "fee": 0.1,
        }
        for q in o._quantized.values()
        for t in (-0.5, 0.0, 0.1, 0.25, float(o._float[7]))
    ]
    script = """
      const [float, quantized] = [c.float, c.quantized].map(floatsOf);
      const [targets, gains] = [c.targets, c.gains].map(floatsOf);
      return compare(float, quantized, c.threshold, { targets, gains, fee: c.fee });"""
    for case, got in zip(cases, run(node, tmp_path, o, script, cases), strict=True):
        t = np.float32(case["threshold"])
        yes = [case["float"] > t, case["quantized"] > t]
        assert got["flips"] == np.flatnonzero(yes[0] != yes[1]).tolist()
        assert got["yes"] == [int(y.sum()) for y in yes]
        assert got["right"] == [int((y == (case["targets"] > 0)).sum()) for y in yes]
        earned = [(case["gains"][y].astype(np.float64) - 0.1).sum() for y in yes]
        assert got["earned"] == pytest.approx(earned)


def test_decision_without_flips_features_or_gains():
    o = objects.Decision([0.5, -0.5], {8: [0.5, -0.5]})
    assert len(o.flips()) == 0 and o.threshold == 0
    o._repr_mimebundle_()
    assert len(rows(bits=2).flips()) > len(rows(bits=4).flips()) > 0


def test_matrix_is_the_packages_integer_product(node, tmp_path):
    made = [
        corner(bits=bits, weights=weights, per=per)
        for bits in range(2, 9)
        for weights in ("asymmetric", "symmetric")
        for per in ("tensor", "channel", "group")
    ]
    cases = [
        {k: getattr(o, k) for k in ("values", "bits", "weights", "per")} | {"spec": dict(o.spec)}
        for o in made
    ]
    script = """
      const r = multiply(c.values, c.spec, c.bits, c.weights, c.per);
      return { cells: r.cells, x: [...r.x.codes], w: [...r.w.codes] };"""
    for o, got in zip(made, run(node, tmp_path, made[0], script, cases), strict=True):
        x, w = o.tensors()
        np.testing.assert_array_equal(got["x"], x.codes.ravel(), repr(o))
        np.testing.assert_array_equal(got["w"], w.codes.T.ravel(), repr(o))
        if o.per == "group":  # one sum for each half of a column
            free = x.codes.astype(int) - x.params.zero_point
            free, codes = (a.reshape(*s) for a, s in ((free, (3, 2, 2)), (w.codes, (2, 2, 3))))
            zero = np.broadcast_to(w.params.zero_point, (2, 3))
            sums = np.einsum("mgk,gkn->mng", free, codes - zero[:, None].astype(int))
            np.testing.assert_array_equal([c["accs"] for c in got["cells"]], sums.reshape(-1, 2))
        else:
            acc = [c["accs"][0] for c in got["cells"]]
            np.testing.assert_array_equal(acc, ql.quantized_matmul(x, w).ravel(), repr(o))
        real = (ql.dequantize(x).astype(np.float64) @ ql.dequantize(w).astype(np.float64)).ravel()
        np.testing.assert_allclose([c["real"] for c in got["cells"]], real, rtol=1e-4, atol=1e-5)
        if o.weights == "symmetric":
            assert all(c["rows"] == 0 == c["both"] for c in got["cells"])


ROWS = [
    {"k": k, "bits": bits, "width": width, "inputs": inputs}
    for k in (1, 7, 24, 25, 1000, 66_311, 66_312, 2**17)
    for bits in (2, 5, 8)
    for width in (8, 16, 17, 32)
    for inputs in ("row", "worst")
]


def test_accumulator_is_the_packages_product_and_requantization(node, tmp_path):
    o = accumulator(out=(-1.5, 9))
    cases = [{"x": o._x, "w": o._w, "out": o.spec["out"]} | row for row in ROWS]
    script = """
      const r = layerRow(floatsOf(c.x), floatsOf(c.w), c.bits, c.out);
      const sum = c.inputs === "worst" ? c.k * worstTerm(c.bits) : r.sum(c.k);
      const kept = wrap(sum, c.width), p = r.out;
      const { code } = requantize(kept, r.fixed, p.zero, p.qmin, p.qmax);
      return { sum, kept, code, need: bitsFor(sum), edge: largestK(c.bits, c.width) };"""
    for row, got in zip(ROWS, run(node, tmp_path, o, script, cases), strict=True):
        for name, value in row.items():
            setattr(o, name, value)
        assert (got["sum"], got["kept"], got["code"]) == (o.sum(), o.kept(), o.code()), repr(o)
        assert f"needs {got['need']} bits" in repr(o)
        worst = (2**o.bits - 1) * (2 ** (o.bits - 1) - 1)
        assert got["edge"] * worst < 2 ** (o.width - 1) <= (got["edge"] + 1) * worst
        if row["k"] == 24 and row["inputs"] == "row" and row["width"] == 32:
            x, w, out = o.tensors()
            assert got["sum"] == ql.quantized_matmul(x, w)[0, 0]
            assert got["code"] == ql.quantized_matmul(x, w, out).codes[0, 0]
        if (row["k"], row["width"], row["bits"], row["inputs"]) == (66_312, 32, 8, "worst"):
            assert got["edge"] == 66_311 and got["kept"] == 66_312 * 255 * 127 - 2**32


def test_the_browsers_multiplier_is_the_packages(node, tmp_path):
    rng = np.random.default_rng(0)
    reals = [0.75, 0.0, 1.0, 2.0**-31, 1e-12, 1 - 2**-33, 2.0**29, 0.5 - 2**-34, 3.7e-5]
    reals += (2.0 ** rng.uniform(-30, 20, 200)).tolist()
    script = "return fixedPoint(c.real);"
    answers = run(node, tmp_path, accumulator(), script, [{"real": r} for r in reals])
    assert [(a["m"], a["shift"]) for a in answers] == list(map(ql.fixed_point_multiplier, reals))
    accs = [-(2**31), -1000, -1, 0, 1, 999, 2**31 - 1]
    cases = [{"acc": acc, "m": a["m"], "shift": a["shift"]} for a in answers[:20] for acc in accs]
    script = "return requantize(c.acc, { m: c.m, shift: c.shift }, 3, -128, 127).code;"
    for case, code in zip(cases, run(node, tmp_path, accumulator(), script, cases), strict=True):
        wanted = ql.requantize([case["acc"]], case["m"], case["shift"], 3, -128, 127)
        assert code == wanted[0], case


def test_candle_codes_are_those_of_the_scaler(node, tmp_path):
    o, cases = candle(), []
    for low in (o.low, 0.95 * o.low, o.spec["limits"]["low"][1]):
        for bits in range(2, 9):
            o.low, o.bits = low, bits
            for method in ("minmax", "log-zscore"):
                cases.append((o.ranges(), method, bits, o.codes(method).astype(int)))
    sent = [{"x": r, "method": m, "bits": b} for r, m, b, _ in cases]
    script = """
      const r = onLevels(floatsOf(c.x), c.method, c.bits);
      return { codes: [...r.codes], levels: r.levels, crowd: crowd(r.codes, 3) };"""
    for (ranges, method, bits, codes), got in zip(
        cases, run(node, tmp_path, o, script, sent), strict=True
    ):
        np.testing.assert_array_equal(got["codes"], codes, f"{method} at {bits} bits")
        others = np.delete(codes, 3)
        assert got["crowd"]["used"] == len(np.unique(others))
        assert got["crowd"]["fullest"] == np.bincount(others + 128).max() / len(others)
        level = np.array(got["levels"])[codes + 2 ** (bits - 1)]
        step = np.diff(np.log(got["levels"]) if method == "log-zscore" else got["levels"]).max()
        off = np.log(level) - np.log(ranges) if method == "log-zscore" else level - ranges
        assert np.abs(off).max() <= 1.01 * step  # the zero point may push an end by half a step


def test_candle_pulled_down_takes_codes_from_the_others_under_minmax_only():
    o = candle()
    used = {}
    for method in ("minmax", "log-zscore"):
        for where, low in zip(("short", "long"), o.spec["limits"]["low"][::-1], strict=True):
            o.low = low
            used[method, where] = len(np.unique(np.delete(o.codes(method), o.spec["worst"])))
    assert used["minmax", "long"] <= used["minmax", "short"] / 2
    assert used["log-zscore", "long"] >= 0.6 * used["log-zscore", "short"]


def test_candle_takes_the_last_candle_as_the_one_that_grows():
    flat = synthetic_candles(480, seed=1)
    o = objects.Candle(flat, every=12, show=40)
    assert o.spec["parts"] == 12 and o.spec["worst"] < 39
    o._repr_mimebundle_()


def test_bits_are_the_packages_xnor_product(node, tmp_path):
    rng = np.random.default_rng(6)
    signs = [rng.choice([-1.0, 0.0, 1.0], size=(2, k)) for k in (1, 3, 8, 16) for _ in range(5)]
    made = [objects.Bits(a, b) for a, b in signs]
    cases = [{"a": o.a, "b": o.b} for o in made]
    answers = run(node, tmp_path, made[0], "return xnor(c.a, c.b);", cases)
    for (a, b), got in zip(signs, answers, strict=True):
        product = ql.xnor_matmul(ql.binarize(a[None]), ql.binarize(b[None]))
        assert got["dot"] == got["sum"] == int(np.ravel(product)[0])


def test_latent_walks_as_the_estimator_of_the_package_does(node, tmp_path):
    starts = [(0.3, -0.7), (-0.45, 1.55), (0.0, 0.5), (0.95, -1.6)]
    made = [
        EXAMPLES["Latent"](best=best, value=value, bits=bits)
        for bits in (1, 2, 3, 4)
        for best, value in starts
    ]
    for o in made[::2]:
        o.mask = 0
    cases = [
        {"w": o.value, "best": o.best, "s": o.params().scale.item(), "bits": o.bits, "mask": o.mask}
        for o in made
    ]
    script = "return walk(c.w, f(c.best), f(c.s), c.bits, f(0.15), c.mask, 48);"
    for o, got in zip(made, run(node, tmp_path, made[0], script, cases), strict=True):
        latent, rounded = o.path()
        np.testing.assert_array_equal(np.float32(got["latent"]), latent)
        np.testing.assert_array_equal(np.float32(got["rounded"]), rounded)


def test_latent_hops_so_that_its_mean_is_the_best_weight():
    for best in (0.3, -0.6, 0.85):
        latent, rounded = EXAMPLES["Latent"](best=best, value=0.1, steps=400).path()
        # the sum of rate * (rounded - best) is the way that the latent weight went
        assert (
            abs(rounded[:-1].mean() - best) < np.abs(latent[-1] - latent[0]) / (0.15 * 400) + 1e-5
        )
        assert len(np.unique(rounded[-100:])) == 2


def test_latent_beyond_the_grid_comes_back_only_without_the_mask():
    o = EXAMPLES["Latent"](value=1.58)
    assert np.ptp(o.path()[0]) == 0
    o.mask = 0
    assert abs(o.path()[0][-1]) < 1


def test_roofline_counts_the_bytes_of_a_layer_and_divides_them_by_the_limits(node, tmp_path):
    made = [EXAMPLES["Roofline"](width=n, batch=m) for n in (16, 300, 4096) for m in (1, 40, 1024)]
    cases = [
        {"n": o.width, "m": o.batch, "bits": bits, "peak": peak, "key": name}
        for o in made
        for name, (bits, peak) in LIMITS.items()
    ]
    script = (
        "const k = needs(c.n, c.m, c.bits, c.peak, 20), e = balance(c.n, c.bits, c.peak, 20);"
        "const at = needs(c.n, Number.isFinite(e) ? e : 1e12, c.bits, c.peak, 20);"
        "return [k.bytes, k.work, k.bus, k.arithmetic, Number.isFinite(e), at.bus, at.arithmetic];"
    )
    got = iter(run(node, tmp_path, made[0], script, cases))
    for o in made:
        ones = np.ones((o.width, o.width), np.float32)
        layer = ql.QuantizedLinearLayer(
            ql.quantize(ones, ql.choose_params(ones, S.SYMMETRIC_PER_CHANNEL)),
            np.zeros(o.width, np.float32),
        )
        rows = 8 * o.batch * o.width  # inputs and outputs, float32
        assert o.needs()["INT8"][0] == layer.nbytes + rows
        assert o.needs()["FP32"][0] == 4 * o.width * (o.width + 1) + rows
        for wanted in o.needs().values():
            *four, crosses, bus, arithmetic = next(got)
            np.testing.assert_allclose(four, wanted, rtol=1e-12)
            if crosses:
                assert abs(bus / arithmetic - 1) < 1e-9
            else:  # rows alone keep the bus busy for longer than the arithmetic
                assert bus >= arithmetic


def test_roofline_waits_for_the_bus_at_one_row_and_for_the_arithmetic_in_a_batch():
    one, many = (EXAMPLES["Roofline"](width=4096, batch=m).needs() for m in (1, 1024))
    assert all(bus > work for _, _, bus, work in one.values())
    assert all(bus < work for _, _, bus, work in many.values())
