"""The guide: what a page looks up is what the chapter said for the same texts."""

import base64
import json
import shutil
import subprocess

import pytest

from quantlab.teach import Guide

CONTROLS = {"strategy": ["a", "b", "c"], "bytes": ["90", "300"], "time": ["1 ms", "1 s"]}


def said(strategy, size):
    return f"{strategy} in {size}", "14-strategies"


def made(**options):
    lines = {
        "bits": (["strategy", "bytes"], said),
        "place": (["time"], lambda t: f"within {t}"),
        "same": ([], lambda: "always"),
    }
    return Guide(CONTROLS, lines, **{"sliders": ["bytes"], "start": {"bytes": "300"}} | options)


def test_answers_are_those_of_the_callables():
    guide = made()
    assert guide.point == {"strategy": 0, "bytes": 1, "time": 0}
    for i, strategy in enumerate(CONTROLS["strategy"]):
        for j, size in enumerate(CONTROLS["bytes"]):
            guide.point = {"strategy": i, "bytes": j, "time": 1}
            assert guide.answers() == {
                "bits": said(strategy, size),
                "place": ("within 1 s", ""),
                "same": ("always", ""),
            }


def test_what_travels():
    data, _ = made()._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == repr(made()) and "at strategy a, bytes 300" in repr(made())
    assert json.loads(json.dumps(made().spec))["lines"][1]["answers"][0] == ["within 1 ms", ""]


def test_the_page_looks_up_the_same_answer(tmp_path):
    if (node := shutil.which("node")) is None:
        pytest.skip("no node: the guide's JavaScript is not run")
    guide = made()
    script = guide._esm.replace("export default", "const view =")
    script += """
const spec = JSON.parse(process.argv[2]), out = [];
for (const strategy of [0, 1, 2]) for (const bytes of [0, 1])
  out.push(spec.lines[0].answers[place(spec.controls, spec.lines[0].by, { strategy, bytes })][0]);
console.log(JSON.stringify(out));
"""
    path = tmp_path / "guide.mjs"
    path.write_text(script, "utf-8")
    command = [node, str(path), json.dumps(guide.spec)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wanted = [said(s, b)[0] for s in CONTROLS["strategy"] for b in CONTROLS["bytes"]]
    assert json.loads(found) == wanted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({}, {"a": ([], str)}), "expected some"),
        (({"a": []}, {"a": ([], str)}), "expected some"),
        ((CONTROLS, {"bits": (["color"], str)}), "a name is 'color'; expected one of 'strategy'"),
        ((CONTROLS, {"bits": (["time"], len)}), "expected"),
        ((CONTROLS, {"bits": (["time"], lambda t: (t, 3))}), "bits answers"),
        (({"n": range(6000)}, {"bits": (["n"], str)}), "6,000 answers; expected at most 5,000"),
    ],
)
def test_what_cannot_be_a_guide_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Guide(*arguments)


def test_a_start_that_is_no_choice_is_refused():
    with pytest.raises(ValueError, match="start\\['bytes'\\] is '5'"):
        made(start={"bytes": "5"})
