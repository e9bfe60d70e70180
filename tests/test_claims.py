"""The ledger: every claim has its measurement, and a record never ends a reader's run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from quantlab.teach import claims

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "book" / "claims.json"
GOOD = {
    **{"claim": "bound", "what": "largest error", "figure": 0.5, "low": 0.4, "high": 0.5},
    **{"verdict": "holds", "why": "It does.", "unit": "steps", "source": "a ramp"},
}


def recording_code(chapter: str) -> str:
    path = ROOT / "chapters" / f"{chapter}.ipynb"
    if not path.is_file():
        return ""
    cells = json.loads(path.read_text("utf8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_every_claim_has_its_measurement(name):
    measured = json.loads(RECORDED.read_text("utf8")).get(name)
    code = recording_code(claims.CLAIMS[name]["chapter"])
    written = "record(" in code and f'"{name}"' in code
    assert written, f"{claims.CLAIMS[name]['chapter']} does not record {name}"
    assert measured, f"book/claims.json lacks {name}: run make claims"
    assert np.isfinite([measured["figure"], measured["low"], measured["high"]]).all()
    assert re.fullmatch("holds|fails|undecided|holds when .*", measured["verdict"])
    assert all(measured[key] for key in ("what", "why", "source", "machine", "date"))


def test_chapters_record_only_claims_of_the_list():
    for path in (ROOT / "chapters").glob("*.ipynb"):
        for name in re.findall(r'\brecord\(\s*"([\w-]+)"', recording_code(path.stem)):
            assert claims.CLAIMS[name]["chapter"] == path.stem, f"{path.name} records {name}"


def test_a_record_is_kept_whole_and_read_before_the_recorded_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QUANTLAB_CLAIMS", str(tmp_path / "deep" / "claims"))
    elsewhere = tmp_path / "recorded.json"
    elsewhere.write_text(json.dumps({"bound": {"figure": 9}, "fp16": {"figure": 1}}))
    claims.record(**GOOD)
    claims.record(**GOOD | {"figure": np.float32(0.45), "by": {"INT4": np.float32([1, 0, 2])}})
    assert "0.45 [0.40, 0.50] steps; holds. It does." in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "deep" / "claims").iterdir()] == ["bound.json"]
    rows = {row["id"]: row for row in claims.ledger(elsewhere)}
    kept = rows["bound"]["measured"]
    assert rows["bound"]["run"] == "here" and kept["figure"] == pytest.approx(0.45)
    assert kept["by"] == {"INT4": [1, 0, 2]}
    assert {"NumPy", "kernels", "cores"} <= set(kept["machine"].split())
    assert rows["fp16"]["run"] == "recorded" and rows["fp16"]["measured"]["figure"] == 1
    assert rows["edge"]["run"] is None and rows["edge"]["measured"] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_figure_that_does_not_exist_is_said_and_not_kept(bad, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QUANTLAB_CLAIMS", str(tmp_path))
    claims.record(**GOOD | {"figure": bad})
    assert "nothing is kept" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_run_outside_a_checkout_or_without_the_right_to_write_goes_on(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("QUANTLAB_CLAIMS")
    monkeypatch.chdir(tmp_path)
    claims.record(**GOOD)
    assert claims.folder() is None and not list(tmp_path.iterdir())
    assert not [row for row in claims.ledger() if row["measured"]]
    (tmp_path / "_toc.yml").touch()
    assert claims.folder() == tmp_path / "_build" / "claims"
    (tmp_path / "_build").write_text("a file where the folder should be")
    claims.record(**GOOD)
    assert "Not kept: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"claim": "int9"}, "no claim 'int9'; expected one of bound, "),
        ({"verdict": "mostly"}, "verdict is 'mostly'"),
        ({"verdict": "holds when "}, "verdict is 'holds when '"),
        ({"why": "It does. It did."}, "expected one sentence"),
        ({"why": "it does"}, "expected one sentence"),
        ({"low": 2.0}, r"low is 2.0, high is 0.5; expected low <= high"),
    ],
)
def test_a_record_that_cannot_be_right_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        claims.record(**GOOD | change)


@pytest.mark.parametrize(
    ("three", "shown"),
    [
        ((39.16, 38.7, 39.9), "39.2 [38.7, 39.9] dB"),
        ((4, 4, 4), "4 dB"),
        ((12345, 11000, 13000), "12,345 [11,000, 13,000] dB"),
        ((-0.001, -0.05, 0.05), "0.00 [-0.05, 0.05] dB"),
        ((65504, 65504, 65504), "65,504 dB"),
    ],
)
def test_a_figure_has_the_digits_that_its_interval_supports(three, shown):
    entry = dict(zip(("figure", "low", "high"), three, strict=True))
    assert claims.show(entry | {"unit": "dB"}) == shown
