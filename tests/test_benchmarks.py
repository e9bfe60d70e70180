"""The benchmark runs: its rows are complete, its answers are checked; no time is asserted."""

import importlib.util
import json
from pathlib import Path

import pytest

from quantlab import kernels
from quantlab.kernels.paths import PATHS

HERE = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench", HERE / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_run_has_a_row_for_each_contender(bench, capsys):
    bench.LIMITS.update(FP32=1, XNOR=1)  # what `limits` measures in the first seconds of a run
    bench.elementwise(1000, 1)
    bench.product(3, 64, 1)
    bench.binary(2, 128)
    bench.explain()
    said = capsys.readouterr().out
    found = {(r["what"], r["name"]) for r in bench.ROWS}
    peer = [] if bench.onnxruntime is None or kernels.path() != "avx512" else ["onnxruntime"]
    for what in ("quantize", "dequantize", "INT8 product"):
        assert {(what, name) for name in ["quantlab", *peer]} <= found and what in said
    assert ("INT8 product", "quantlab, not packed") in found
    assert {("one-pass measure", "NumPy"), ("binary product", "NumPy FP32")} <= found
    for row in bench.ROWS:
        assert row["minimum"] <= row["median"] and row["fails"] in row["goal"]
        assert bool(row["reason"]) == bool(row["fails"])
    assert bench.table().count("\n| ") == len(bench.ROWS) + 1


def test_a_goal_is_judged_by_what_it_asks(bench):
    assert bench.judged(None) == {"goal": "", "fails": ""}
    assert bench.judged({"a": True, "b": False, "c": False}) == {"goal": "a, b, c", "fails": "b, c"}
    assert bench.fastest(10**6, 1.2) == {"1.3x the fastest peer": False}
    assert bench.fastest(10**4, 1.2) == {"not slower than a peer": True}


def test_the_committed_run_is_complete():
    """Whatever machine it comes from: the pages and the table read only what stands in it."""
    run = json.loads((HERE / "latest.json").read_text("utf8"))
    assert run["path"] in PATHS and run["machine"] and run["peers"]
    assert {"read", "copy"} <= set(run["limits"])
    table = (HERE / "latest.md").read_text("utf8")
    for row in run["rows"]:
        assert f"| {row['what']} | {row['size']} | {row['name']} |" in table
        assert 0 < row["minimum"] <= row["median"]
    shapes = {r["size"] for r in run["rows"] if r["what"] == "INT8 product"}
    assert shapes == {f"{m} x {k} x {k}" for m in (1, 32, 256, 2048) for k in (64, 256, 1024, 4096)}
