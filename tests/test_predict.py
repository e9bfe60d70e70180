"""Predictions refuse bad input; the book's builder gates what follows and shares modules."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from docutils import nodes

from quantlab.teach import Predict

EXTENSION = Path(__file__).parent.parent / "book/_ext/explorer_still.py"


@pytest.fixture(scope="module")
def extension():
    spec = importlib.util.spec_from_file_location("explorer_still", EXTENSION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"answer": 1}, "either choices=..., or span=(low, high)"),
        ({"answer": "a", "choices": ["a", "b"], "x": [1, 2]}, "either choices"),
        ({"answer": "c", "choices": ["a", "b"]}, "answer is 'c'; expected one of ['a', 'b']"),
        ({"answer": "a", "choices": ["a"]}, "two or more different texts"),
        ({"answer": "a", "choices": ["a", "a"]}, "two or more different texts"),
        ({"answer": 1, "span": (2, 2)}, "span is (2, 2)"),
        ({"answer": 1, "span": (0, 2), "log": True}, "low < high above 0"),
        ({"answer": -1, "span": (1, 2), "log": True}, "needs values above 0"),
        ({"answer": np.nan, "span": (1, 2)}, "1 NaN value"),
        ({"answer": [1, 2], "span": (1, 2)}, "expected one number"),
        ({"answer": [1, 2], "span": (1, 2), "x": [1, 2, 3]}, "for 3 places"),
        ({"answer": [np.nan] * 2, "span": (1, 2), "x": [1, 2]}, "at least one of them"),
        ({"answer": 1, "span": (1, 2), "name": "A b"}, "lower-case words and hyphens"),
    ],
)
def test_predict_refuses(options, words):
    with pytest.raises(ValueError, match="Predict") as caught:
        Predict("Why?", **options)
    assert words in str(caught.value)


def test_a_span_holds_the_answer_and_a_gap_stays_one():
    p = Predict("Draw.", [np.nan, 70.0, -3], x=np.array([2, 3, 4]), span=(0, 50))
    assert p.spec["span"] == [-3.0, 70.0]
    assert p.spec["answer"] == [None, 70.0, -3.0] and p.spec["x"] == [2, 3, 4]
    assert json.dumps(p.spec)


def test_still_shows_the_question():
    for p in (
        Predict("How much?", 3, span=(1, 100), log=True),
        Predict("Which?", "a", choices=["a", "b"]),
        Predict("Draw.", [1, 2], x=["a", "b"], span=(0, 5)),
    ):
        assert p.figure().axes[0].get_title(loc="left") == p.spec["question"]
        assert "image/png" in p._repr_mimebundle_()[0]


def cell(text):
    bundle = nodes.container(nb_element="mime_bundle")
    for mime in ("application/vnd.jupyter.widget-view+json", "image/png", "text/plain"):
        bundle += nodes.container(mime_type=mime)
    bundle[1] += nodes.image(uri="still.png")
    bundle[2] += nodes.literal_block(text, text)
    return nodes.container("", nodes.container("", bundle), nb_element="cell_code")


def test_a_prediction_gates_up_to_the_next_heading(extension):
    words = [nodes.paragraph("", t) for t in ("before", "after", "later", "last", "below")]
    first, second = cell("Predict(one: What?)"), cell("Predict(two: And?)")
    below = nodes.section("", words[4])
    section = nodes.section("", words[0], first, words[1], words[2], second, words[3], below)
    document = SimpleNamespace(findall=section.findall)
    extension.ExplorerStill.run(SimpleNamespace(document=document))
    gates = [n for n in section.findall(nodes.container) if "ql-gated" in n["classes"]]
    assert [g["classes"] for g in gates] == [
        ["ql-gated", "ql-after-one"],
        ["ql-gated", "ql-after-two"],
    ]
    assert section.children == [words[0], first, gates[0], below]
    assert gates[0].children == [words[1], words[2], second, gates[1]]
    assert gates[1].children == [words[3]]
    stills = [i["alt"] for i in first.findall(nodes.image) if i.get("alt")]
    assert stills[0] == "Predict(one: What?)"


def test_modules_travel_once_a_page(extension):
    model = {"_esm": f"let a = '</script>';\n{extension.SEAM}c", "_css": "b", "bits": 3}
    other = model | {"_esm": "c"}
    state = {"1": {"state": dict(model)}, "2": {"state": other}, "3": {"state": {"x": 1}}}
    files = {"ipywidgets_state": (None, {"type": "x", "body": json.dumps({"state": state})})}
    app = SimpleNamespace(env=SimpleNamespace(nb_metadata={"page": {"js_files": files}}))
    for _ in range(2):  # a second call changes nothing
        extension.share_modules(app, "page")
    extension.share_modules(app, "page without a notebook")
    _, options = files["ipywidgets_state"]
    assert "</script" not in options["body"] and options["type"] == "x"
    embedded = json.loads(options["body"])
    assert embedded["texts"] == ["let a = '</script>';\n", "c", "b"]
    assert set(embedded["state"]) == {"1", "2"}
    assert embedded["state"]["1"]["state"] == {"_esm": [0, 1], "_css": [2], "bits": 3}
    assert embedded["state"]["2"]["state"] == {"_esm": [1], "_css": [2], "bits": 3}
    assert extension.SEAM in Predict._esm, "the package marks its seams as the builder expects"
