"""Advice that the reader steers: each line is looked up among answers that a chapter measured."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import traitlets as tr
from matplotlib.figure import Figure

from quantlab.teach.widgets import _axes, _Explorer, _module, _one_of

_MOST_ANSWERS = 5_000


class Guide(_Explorer):
    """A few controls, and lines of text that answer for the controls that they depend on.

    controls: {name: list of texts}. lines: {name: (names of controls, answer)}; answer is called
    once for each combination of their texts and returns a text, or (text, chapter) with the file
    name of the chapter that holds the evidence, which is linked. sliders: the controls that are
    dragged; the others are lists to choose from. start: {name: text} (first ones otherwise).
    Trait point follows the hand: {name: index}.
    Raises ValueError for names that do not fit, answers that are no texts, and too many of them.
    Taught in chapter 16.

    >>> Guide({"bits": ["4", "8"]}, {"levels": (["bits"], lambda b: f"{2 ** int(b)}")})
    Guide(levels by bits (2); at bits 4)
    """

    _esm = _module("explorer_parts.js", "guide.js")
    point = tr.Dict().tag(sync=True)

    def __init__(
        self,
        controls: Mapping[str, Sequence[str]],
        lines: Mapping[str, tuple[Sequence[str], Callable]],
        *,
        title: str = "Guide",
        sliders: Sequence[str] = (),
        start: Mapping[str, str] | None = None,
        caption: str = "",
    ) -> None:
        me, controls = "Guide", {name: [*map(str, v)] for name, v in controls.items()}
        if not controls or not all(controls.values()) or not lines:
            raise ValueError(f"{me}: controls {controls} and {len(lines)} lines; expected some")
        for name in (*sliders, *(start or {}), *(n for by, _ in lines.values() for n in by)):
            _one_of(me, "a name", name, list(controls))
        point = {
            name: values.index(_one_of(me, f"start[{name!r}]", (start or {}).get(name), values))
            if name in (start or {})
            else 0
            for name, values in controls.items()
        }
        looked_up = []
        for name, (by, answer) in lines.items():
            answers = [answer(*texts) for texts in product(*(controls[n] for n in by))]
            answers = [a if isinstance(a, tuple) else (a, "") for a in answers]
            if not all(len(a) == 2 and all(isinstance(t, str) for t in a) for a in answers):
                raise ValueError(f"{me}: {name} answers {answers[0]}; expected (text, chapter)")
            looked_up.append({"name": name, "by": list(by), "answers": answers})
        if (count := sum(len(line["answers"]) for line in looked_up)) > _MOST_ANSWERS:
            raise ValueError(f"{me}: {count:,} answers; expected at most {_MOST_ANSWERS:,}")
        spec = {"title": title, "controls": controls, "sliders": list(sliders), "start": point}
        super().__init__(spec=spec | {"lines": looked_up, "caption": caption}, point=point)

    def answers(self) -> dict[str, tuple[str, str]]:
        """What stands at the present point: {line: (text, chapter)}."""
        found = {}
        for line in self.spec["lines"]:
            at = 0
            for name in line["by"]:
                at = at * len(self.spec["controls"][name]) + self.point[name]
            found[line["name"]] = tuple(line["answers"][at])
        return found

    def __repr__(self) -> str:
        controls = self.spec["controls"]
        sizes = " x ".join(f"{name} ({len(values)})" for name, values in controls.items())
        here = ", ".join(f"{name} {values[self.point[name]]}" for name, values in controls.items())
        return f"Guide({', '.join(n['name'] for n in self.spec['lines'])} by {sizes}; at {here})"

    def figure(self) -> Figure:
        """The still: the present point and its answers as text."""
        controls = self.spec["controls"]
        here = [f"{name}: {values[self.point[name]]}" for name, values in controls.items()]
        text = [f"{name}: {text}" for name, (text, _) in self.answers().items()]
        wrapped = [part for line in [*here, "", *text] for part in textwrap.wrap(line, 84) or [""]]
        figure, (ax,) = _axes(0.4 + 0.21 * len(wrapped))
        ax.axis("off")
        ax.text(0, 1, "\n".join(wrapped), va="top", fontsize=10, linespacing=1.4)
        return figure
