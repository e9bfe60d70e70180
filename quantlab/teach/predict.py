"""Predict, then reveal: a question whose answer unfolds after the reader has guessed."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets as tr
from matplotlib.figure import Figure

from quantlab import _checks
from quantlab.teach.figures import COLORS
from quantlab.teach.widgets import _axes, _Explorer, _module


class Predict(_Explorer):
    """Asks for a guess; then shows the measured answer beside it and unfolds what follows.

    On a page everything from this cell to the next heading stays folded until the reader has
    guessed or pressed "show me": put the explorer and "What to notice" there. A Markdown block
    ``:::{div} ql-after-NAME`` elsewhere waits for the prediction of that `name` too. Without
    JavaScript, in print and in JupyterLab nothing is folded.

    One of three forms, by what is given. A choice: choices, a list of texts or a dict {text: what
    to say to a reader who picked it}; answer is one of them (pick it from what the run measured).
    A number: span=(low, high), the axis to tap; answer a number. A curve: x, its places (numbers
    or texts), and span, the axis to draw on; answer one number for each place, NaN if not measured.
    unit of the answer; label and xlabel name the axes; log=True for a logarithmic span; because:
    one sentence shown with the answer; name: for ql-after-NAME and GridExplorer(guess=NAME), made
    from the question if not given. A span that lacks the answer is widened to hold it. `guess`
    holds what the reader did: {}, {"value": ...} or {"skipped": True}.
    Raises ValueError for an answer that does not fit its form. Taught in chapter 1.

    >>> Predict("How many codes have 3 bits?", "8", choices={"6": "3 times 2?", "8": "", "9": ""})
    Predict(how-many-codes-have-3-bits: How many codes have 3 bits?)
    >>> Predict("SNR at 4 bits?", 18.2, span=(0, 50), unit="dB", name="snr").spec["span"]
    [0.0, 50.0]
    """

    _esm = _module("explorer_parts.js", "predict.js")
    guess = tr.Dict().tag(sync=True)

    def __init__(
        self,
        question: str,
        answer: Any,
        *,
        choices: Sequence[str] | Mapping[str, str] | None = None,
        span: Sequence[float] | None = None,
        x: Sequence | None = None,
        unit: str = "",
        label: str = "",
        xlabel: str = "",
        log: bool = False,
        because: str = "",
        name: str = "",
    ) -> None:
        if (choices is None) == (span is None) or (choices is not None and x is not None):
            raise ValueError(
                "Predict: expected either choices=..., or span=(low, high), with x=... for a curve"
            )
        spec = {"question": question, "unit": unit, "because": because, "xlabel": xlabel}
        spec |= {"label": label, "name": name or _slug(question), "log": bool(log)}
        if _slug(spec["name"]) != spec["name"]:
            raise ValueError(f"Predict: name is {name!r}; expected lower-case words and hyphens")
        if choices is not None:
            spec |= _choice(choices, answer)
        else:
            spec |= _drawn(span, x, answer, log)
        super().__init__(spec=spec)

    def __repr__(self) -> str:
        return f"Predict({self.spec['name']}: {self.spec['question']})"

    def figure(self) -> Figure:
        """The still: the question's axes or choices with the measured answer."""
        s, orange = self.spec, COLORS["quantized"]
        figure, (ax,) = _axes(2.6 if s["form"] == "curve" else 1.6)
        question = "\n".join(textwrap.wrap(s["question"], 90))
        ax.set_title(question, fontsize=9, loc="left")
        if s["form"] == "choice":
            ax.set_axis_off()
            for i, (text, _) in enumerate(s["choices"]):
                right = text == s["answer"]
                where = {"x": 0.02, "y": 1 - (i + 1) / (len(s["choices"]) + 1)}
                ax.text(s=f"{'●' if right else '○'}  {text}", fontsize=9, va="center", **where)
            return figure
        axis = f"{s['label']} ({s['unit']})".replace(" ()", "").strip()
        if s["form"] == "number":
            ax.plot([s["answer"]], [0], "o", color=orange, clip_on=False)
            ax.set(yticks=[], ylim=(-1, 1), xlim=s["span"], xlabel=axis)
            if s["log"]:
                ax.set_xscale("log")
            return figure
        values = [math.nan if v is None else v for v in s["answer"]]
        ax.plot(range(len(values)), values, "o-", color=orange, markersize=4)
        ax.set_xticks(range(len(values)), [str(v) for v in s["x"]])
        ax.set(ylim=s["span"], ylabel=axis, xlabel=s["xlabel"], yscale=("linear", "log")[s["log"]])
        return figure


def _slug(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:48].strip("-")


def _choice(choices: Sequence[str] | Mapping[str, str], answer: Any) -> dict:
    pairs = choices.items() if isinstance(choices, Mapping) else ((c, "") for c in choices)
    pairs = [[str(text), str(said)] for text, said in pairs]
    texts = [text for text, _ in pairs]
    if len(set(texts)) < 2 or len(set(texts)) < len(texts):
        raise ValueError(f"Predict: choices is {texts}; expected two or more different texts")
    if answer not in texts:
        raise ValueError(f"Predict: answer is {answer!r}; expected one of {texts}")
    return {"form": "choice", "choices": pairs, "answer": answer}


def _drawn(span: Sequence[float], x: Sequence | None, answer: Any, log: bool) -> dict:
    ends = _checks.real_array(span, "Predict", "span").astype(float)
    if ends.shape != (2,) or ends[0] >= ends[1] or (log and ends[0] <= 0):
        low = " above 0" if log else ""
        raise ValueError(f"Predict: span is {span!r}; expected (low, high), low < high{low}")
    if x is None:
        values = _checks.real_array(answer, "Predict", "answer").astype(float)
        if values.shape != ():
            raise ValueError(f"Predict: answer has shape {values.shape}; expected one number")
    else:
        values = np.asarray(answer, float)
        if values.shape != (len(x),) or len(x) < 2 or not np.isfinite(values).any():
            raise ValueError(
                f"Predict: answer has shape {values.shape} for {len(x)} places; expected "
                "one number for each of two or more places, at least one of them measured"
            )
    known = values[np.isfinite(values)]
    if log and (known <= 0).any():
        raise ValueError(f"Predict: answer reaches {known.min():g}; log=True needs values above 0")
    spec = {"span": [min(ends[0], known.min()), max(ends[1], known.max())]}
    spec["span"] = [float(v) for v in spec["span"]]
    if x is None:
        return spec | {"form": "number", "answer": float(values)}
    answers = [float(v) if math.isfinite(v) else None for v in values]
    places = [v.item() if isinstance(v, np.generic) else v for v in x]
    return spec | {"form": "curve", "x": places, "answer": answers}
