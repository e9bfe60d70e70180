"""Things to grab: their arithmetic is the package's, their traits start where they should."""

import base64
import json
import shutil
import subprocess

import numpy as np
import pytest

import quantlab as ql
from quantlab.teach import objects

S = ql.QuantizationScheme


def series(n=400):
    return np.float32(0.1 * np.random.default_rng(3).standard_t(3, size=n))


EXAMPLES = {"Ruler": lambda **k: objects.Ruler(**{"data": series()} | k)}


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
