"""The explorers: their arithmetic equals the package's bit for bit, and they refuse bad input."""

import base64
import json
import shutil
import subprocess

import numpy as np
import pytest

import quantlab as ql
from quantlab.teach import ArrayExplorer, GridExplorer
from quantlab.teach import widgets as w

SCHEMES = ("symmetric", "asymmetric")
CLIPS = (100.0, 99.9, 99.0, 97.3, 90.0)
RUNNER = """
import fs from 'node:fs';
const cases = JSON.parse(fs.readFileSync(0, 'utf8'));
const answer = cases.map(({ data, length, bits, scheme, clip }) => {
  const bytes = Buffer.from(data, 'base64');
  const copy = new Uint8Array(bytes).buffer;
  const r = quantizeGroups(group(new Float32Array(copy), length), bits, scheme, clip);
  const pack = (a) => Buffer.from(a.buffer).toString('base64');
  return {
    values: pack(r.values), codes: pack(r.codes),
    scale: pack(Float32Array.from(r.params, (p) => p.scale)),
    zero: r.params.map((p) => p.zero), bytes: r.bytes, mse: r.mse, maxError: r.maxError,
    snr: String(r.snr), clipped: r.clipped,
    laws: lawSnr(group(new Float32Array(copy), length), r.params, bits),
    alpha: (r.params[0].high - r.params[0].low) / 2,
  };
});
console.log(JSON.stringify(answer));
"""


@pytest.fixture(scope="module")
def node():
    path = shutil.which("node")
    if path is None:
        pytest.skip("no node: the explorers' JavaScript is not run")
    return path


def run(node, tmp_path, cases):
    """Every case through the text that the widget carries, in one node process."""
    module = tmp_path / "module.mjs"
    module.write_text(w._module("explorer_parts.js", "explorer_arithmetic.js") + RUNNER, "utf-8")
    sent = [
        {**c, "data": base64.b64encode(np.float32(c["data"]).tobytes()).decode()} for c in cases
    ]
    done = subprocess.run(
        [node, str(module)], input=json.dumps(sent), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unpack(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def awkward():
    """Arrays (rows, columns) that trip naive quantizers."""
    rng = np.random.default_rng(5)
    shape = (4, 64)
    outlier = rng.normal(size=shape)
    outlier[2, 7] = 1e4
    steps = np.arange(-128, 128).reshape(shape)
    return {
        "student": 0.1 * rng.standard_t(3, size=shape),
        "channels 1000x apart": rng.normal(size=shape) * np.array([[1e-3], [1e-2], [1], [3]]),
        "constant": np.full(shape, 3.7),
        "zeros": np.zeros(shape),
        "mostly zeros": np.where(np.arange(256).reshape(shape) % 61 == 3, outlier, 0),
        "one row of zeros": np.vstack([np.zeros(64), rng.normal(size=(3, 64))]),
        "one outlier": outlier,
        "all positive": rng.exponential(size=shape) + 100,
        "all negative": -rng.exponential(size=shape) - 1,
        "ties": np.append(steps[:-1].ravel(), steps[-1] * 0 + 127.0)[:256].reshape(shape) / 2,
        "relu": np.maximum(rng.normal(size=shape), 0),
        "tiny": rng.normal(size=shape) * 1e-38,
        "below float32": np.full(shape, 1e-45),
        "huge": rng.uniform(-1, 1, size=shape) * 1.6e38,
        "negative zero": np.copysign(np.zeros(shape), -1) + np.eye(4, 64),
    }


def python_side(data, length, bits, scheme, clip):
    columns = data.shape[1]
    kind, grid = "TENSOR", {}
    if length == columns:
        kind = "CHANNEL"
    elif length != data.size:
        grid = {"axis": 1, "block_size": length}
    if clip < 100:
        grid |= {"method": "percentile", "percentile": clip}
    scheme = ql.QuantizationScheme[f"{scheme.upper()}_PER_{kind}"]
    return ql.choose_params(data, scheme, bits, **grid)


def test_browser_equals_python_bit_for_bit(node, tmp_path):
    data = {name: np.float32(a) for name, a in awkward().items()}
    cases, names = [], []
    for name, a in data.items():
        for bits in range(1, 17):
            for scheme in SCHEMES:
                for clip in CLIPS:
                    for length in (a.size, a.shape[1], 16):
                        cases.append(
                            {
                                "data": a,
                                "length": length,
                                "bits": bits,
                                "scheme": scheme,
                                "clip": clip,
                            }
                        )
                        names.append(name)
    for name, case, got in zip(names, cases, run(node, tmp_path, cases), strict=True):
        x = case["data"]
        params = python_side(x, case["length"], case["bits"], case["scheme"], case["clip"])
        q = ql.quantize(x, params)
        label = f"{name}: { {k: v for k, v in case.items() if k != 'data'} }"
        expected = ql.fake_quantize(x, params).ravel()
        scale = unpack(got["scale"], np.float32)
        np.testing.assert_array_equal(scale, params.scale.ravel(), label)
        np.testing.assert_array_equal(got["zero"], params.zero_point.ravel(), label)
        np.testing.assert_array_equal(unpack(got["codes"], np.int32), q.codes.ravel(), label)
        values = unpack(got["values"], np.float32)
        np.testing.assert_array_equal(
            values.view(np.int32) & 0x7FFFFFFF, expected.view(np.int32) & 0x7FFFFFFF, label
        )
        np.testing.assert_array_equal(values, expected, label)  # signs, but for that of zero
        assert got["bytes"] == q.nbytes, label
        if not params.is_binary:
            share = got["clipped"] / x.size
            assert share == pytest.approx(ql.saturation_rate(x, params)), label
        if name not in ("tiny", "below float32", "huge"):  # squares leave float64's comfort
            assert got["mse"] == pytest.approx(ql.mse(x, expected.reshape(x.shape))), label
            assert got["maxError"] == pytest.approx(ql.max_error(x.ravel(), expected)), label
            snr = float(got["snr"].replace("Infinity", "inf"))
            assert snr == pytest.approx(ql.snr_db(x.ravel(), expected)), label


def test_long_arrays_and_means(node, tmp_path):
    """Beyond numpy's summation buffer, where the order of a mean starts to matter."""
    rng = np.random.default_rng(9)
    cases = [
        {
            "data": np.float32(rng.standard_t(3, size=(1, n))),
            "length": n,
            "bits": bits,
            "scheme": scheme,
            "clip": clip,
        }
        for n in (1, 2, 7, 9, 127, 129, 1000, 2000, 8193, 20_001)
        for bits in (1, 4)
        for scheme in SCHEMES
        for clip in (100.0, 99.7)
    ]
    for case, got in zip(cases, run(node, tmp_path, cases), strict=True):
        params = python_side(
            case["data"], case["length"], case["bits"], case["scheme"], case["clip"]
        )
        assert unpack(got["scale"], np.float32)[0] == params.scale.ravel()[0]
        expected = ql.fake_quantize(case["data"], params).ravel()
        np.testing.assert_array_equal(unpack(got["values"], np.float32), expected)


def test_law_is_the_packages_law(node, tmp_path):
    x = np.float32(np.random.default_rng(2).normal(size=(1, 500)))
    cases = [
        {"data": x, "length": 500, "bits": b, "scheme": "symmetric", "clip": 100.0}
        for b in range(2, 17)
    ]
    rms = np.sqrt(np.mean(x.astype(np.float64) ** 2))
    for case, got in zip(cases, run(node, tmp_path, cases), strict=True):
        law = ql.predicted_snr_db(case["bits"], got["alpha"] / rms)
        assert got["laws"] == pytest.approx(law, abs=1e-9)


def series(n=300):
    return np.random.default_rng(0).normal(size=n)


def grid(**changes):
    values = np.arange(6.0).reshape(3, 2)
    m = {"SNR": {"values": values, "low": values - 1, "high": values + 1, "unit": "dB"}}
    given = {"dims": {"bits": [2, 4, 8], "scheme": ["a", "b"]}, "measures": m, "x": "bits"}
    return GridExplorer(**(given | changes))


def test_ids_of_two_modules_on_a_page_differ(node, tmp_path):
    # a page carries a copy of the shared parts in every module: a clip path of one must not cut
    # what another draws
    for name in ("a.mjs", "b.mjs"):
        (tmp_path / name).write_text((w._HERE / "explorer_parts.js").read_text("utf-8"), "utf-8")
    script = """
import * as a from "./a.mjs";
import * as b from "./b.mjs";
const axes = { x: [0, 1], y: [0, 1], xlabel: "", ylabel: "" };
const ids = [a, b, a, b].map((module) => {
  const group = { children: [{}, {}] };
  module.canvas(group)(new module.Plot(300, 200, axes));
  return /id="(ql-clip-\\d+)"/.exec(group.innerHTML)[1];
});
console.log(new Set(ids).size);
"""
    (tmp_path / "main.mjs").write_text(script, "utf-8")
    done = subprocess.run(
        [node, str(tmp_path / "main.mjs")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "4", done.stderr


@pytest.mark.parametrize("explorer", [lambda: ArrayExplorer(series()), grid])
def test_what_travels(explorer):
    """A small still, a representation without an address, a module that fits a page."""
    e = explorer()
    data, _ = e._repr_mimebundle_()
    still = base64.b64decode(data["image/png"])
    assert still.startswith(b"\x89PNG") and len(still) < 60_000
    assert data["text/plain"] == repr(e) == repr(explorer()) and "0x" not in repr(e)
    assert "application/vnd.jupyter.widget-view+json" in data
    assert len(e._esm.encode()) < 48_000  # its files travel once a page
    assert "import " not in e._esm.split("\n")[0] and e._esm.count("export default") == 1


def test_params_are_those_of_the_package():
    a = np.random.default_rng(3).normal(size=(4, 64))
    e = ArrayExplorer(a, bits=4, scheme="asymmetric", clip=99.0, granularity=16)
    assert e.params().scale.shape == (4, 4)
    e.granularity, e.clip = "channel", 100.0
    assert e.params().scale.shape == (4,)
    e.bits = 1
    assert "1 bits" not in repr(e)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": [1.0, np.nan]}, "1 NaN value"),
        ({"data": np.zeros((2, 2, 2))}, "expected (n,) or (channels, n)"),
        ({"data": {"a": [1.0], "b": [1.0, 2.0]}}, "expected one shape"),
        ({"data": {}}, "expected one shape"),
        ({"data": np.zeros(200_000)}, "at most 100,000"),
        ({"bits": 0}, "bits is 0; expected 1 to 16"),
        ({"bits": 17}, "bits is 17"),
        ({"bits": 4.0}, "expected an integer"),
        ({"scheme": "log"}, "scheme is 'log'; expected one of 'symmetric', 'asymmetric'"),
        ({"clip": 50}, "clip is 50"),
        ({"granularity": "channel"}, "granularity is 'channel'"),
        ({"granularity": 7}, "granularity is '7'"),
        ({"panels": ("pie",)}, "panels is 'pie'"),
        ({"panels": "trace"}, "expected a tuple of names"),
        ({"panels": ("channels",)}, "needs data of shape (channels, n)"),
        ({"controls": ("zoom",)}, "controls is 'zoom'"),
        ({"groups": (7,)}, "groups of 7 do not divide the 300"),
        ({"groups": (0,)}, "group size is 0"),
    ],
)
def test_array_explorer_refuses(options, words):
    given = {"data": series()} | options
    with pytest.raises(ValueError, match="ArrayExplorer") as caught:
        ArrayExplorer(**given)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dims": {}}, "dims is {}"),
        ({"dims": {"bits": []}}, "at least one value"),
        ({"measures": {}}, "measures is empty"),
        ({"measures": {"a": {"low": [1]}}}, "expected values"),
        ({"measures": {"a": {"values": np.zeros((2, 3))}}}, "dims bits, scheme need (3, 2)"),
        ({"x": "width"}, "x is 'width'; expected one of 'bits', 'scheme'"),
        ({"start": {"bits": 5}}, "start['bits'] is 5; expected one of 2, 4, 8"),
        ({"start": {"depth": 5}}, "'depth'"),
        ({"references": {"size": [("rule", 1)]}}, "references is 'size'"),
    ],
)
def test_grid_explorer_refuses(options, words):
    with pytest.raises(ValueError, match="GridExplorer") as caught:
        grid(**options)
    assert words in str(caught.value)


def test_refresh_replaces_the_measurements_and_keeps_the_old_ones_on_error():
    new = ({"bits": [1, 2]}, {"SNR": {"values": [1.0, 5.0]}}, "measured again")
    g, sent = (
        grid(
            dims={"bits": [2, 4, 8]}, measures={"SNR": {"values": [1.0, 2, 3]}}, refresh=lambda: new
        ),
        [],
    )
    g.send = lambda message, buffers=None: sent.append(message)
    g._hear(g, {"type": "hello"}, [])
    g._hear(g, {"type": "refresh"}, [])
    assert [m["type"] for m in sent] == ["alive", "done"]
    assert g.spec["note"] == "measured again" and g.spec["dims"][0]["values"] == [1, 2]
    g._refresh = lambda: 1 / 0
    g._hear(g, {"type": "refresh"}, [])
    assert sent[-1] == {"type": "error", "text": "ZeroDivisionError: division by zero"}
    assert g.spec["note"] == "measured again"


TABLE = [
    {"bits": b, "scheme": s, "snr": 6.0 * b, "low": 5.0 * b, "seconds": 0.1 * b, "who": "me"}
    for b in (8, 2, 4)
    for s in ("b", "a")
    if (b, s) != (4, "a")
]


def test_a_tidy_table_becomes_a_grid():
    shown = {"snr": {"name": "SNR", "unit": "dB", "low": "low"}}
    columns = {k: [row[k] for row in TABLE] for k in TABLE[0]}
    for table in (TABLE, columns):
        g = GridExplorer.from_table(table, shown, x="bits", start={"bits": 4})
        assert [(d["name"], d["values"]) for d in g.spec["dims"]] == [
            ("bits", [2, 4, 8]),  # numbers in order, texts as they came; "who" has one value
            ("scheme", ["b", "a"]),
        ]
        values, low = g._arrays.reshape(2, 3, 2)
        np.testing.assert_array_equal(values, [[12, 12], [24, np.nan], [48, 48]])
        np.testing.assert_array_equal(low, [[10, 10], [20, np.nan], [40, 40]])
        assert g.spec["measures"][0]["unit"] == "dB" and repr(g).endswith("at bits 4, scheme b)")
    g = GridExplorer.from_table(TABLE, ["seconds"], x="bits", dims=["scheme", "bits"])
    assert [d["name"] for d in g.spec["dims"]] == ["scheme", "bits"]


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (TABLE, {"x": "width"}, "column is 'width'"),
        (TABLE, {"measures": ["SNR"]}, "column is 'SNR'"),
        (TABLE, {"dims": ["bits"]}, "bits=8 has several rows"),
        ([], {}, "columns of no rows"),
        ({"bits": [1, 2], "snr": [1]}, {}, "columns of [1, 2] rows"),
    ],
)
def test_a_table_that_is_no_grid_is_refused(table, options, words):
    given = {"measures": ["snr"], "x": "bits"} | options
    with pytest.raises(ValueError, match="GridExplorer") as caught:
        GridExplorer.from_table(table, **given)
    assert words in str(caught.value)


def test_presets_are_checked():
    assert grid(presets={"few": {"bits": 2}}).spec["presets"] == {"few": {"bits": 0}}
    with pytest.raises(ValueError, match="presets"):
        grid(presets={"few": {"bits": 3}})
