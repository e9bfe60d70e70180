"""The ledger: chapters record what they measured about a claim, the last one reads it."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quantlab import kernels
from quantlab.teach.timing import machine

CLAIMS: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("claims.json").read_text("utf-8")
)


def folder() -> Path | None:
    """Where records are kept: the variable QUANTLAB_CLAIMS, else _build/claims of the checkout
    around the working directory; None outside of one. Taught in chapter 16.
    """
    if named := os.environ.get("QUANTLAB_CLAIMS"):
        return Path(named)
    here = Path.cwd()
    roots = (p for p in (here, *here.parents) if (p / "_toc.yml").is_file())
    return next((root / "_build" / "claims" for root in roots), None)


def record(
    claim: str,
    what: str,
    figure: float,
    low: float,
    high: float,
    verdict: str,
    why: str,
    *,
    unit: str = "",
    source: str,
    by: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Print what this run measured about a claim, and keep it as JSON in `folder()`.

    claim: an id of ``CLAIMS``; what: words for the figure; low, high: its interval, or its range
    over cases (equal for a count). verdict: "holds", "fails", "undecided" or "holds when ...";
    why: one sentence; unit: of all three numbers; source: candles.describe(), or what was drawn.
    by: the same figure at other settings, {name: (figure, low, high)}, for whoever reads on.
    Machine, versions and date are added. A figure that is not finite is not kept, and a folder
    that cannot be written ends no chapter: both are printed.

    Raises ValueError for an unknown claim, another verdict, a `why` of several sentences, or
    low > high. Taught in chapter 16.

    >>> record("bound", "largest error", 0.5, 0.48, 0.5, "holds", "No value lies outside.",
    ...        unit="steps", source="a ramp")
    Ledger, bound: largest error 0.50 [0.48, 0.50] steps; holds. No value lies outside.
    """
    if claim not in CLAIMS:
        raise ValueError(f"record: no claim {claim!r}; expected one of {', '.join(CLAIMS)}")
    if not re.fullmatch(r"holds|fails|undecided|holds when .*[^.]", verdict):
        raise ValueError(
            f"record: verdict is {verdict!r}; expected holds, fails, undecided or holds when ..."
        )
    if not why.endswith(".") or ". " in why:
        raise ValueError(f"record: why is {why!r}; expected one sentence with its full stop")
    figure, low, high = float(figure), float(low), float(high)
    if low > high:
        raise ValueError(f"record: low is {low}, high is {high}; expected low <= high")
    entry = {
        **{"id": claim, "what": what, "figure": figure, "low": low, "high": high, "unit": unit},
        **{"verdict": verdict, "why": why, "source": source},
        "machine": f"{machine()} · kernels {kernels.path()}",
        "by": {name: [float(v) for v in three] for name, three in (by or {}).items()},
        "date": datetime.now(UTC).isoformat(" ", "minutes")[:16],
    }
    if not all(map(math.isfinite, (figure, low, high))):
        print(f"Ledger, {claim}: {what} is {figure} [{low}, {high}] in this run; nothing is kept.")
        return
    print(f"Ledger, {claim}: {what} {show(entry)}; {verdict}. {why}")
    if (place := folder()) is None:
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        part = place / f"{claim}.{os.getpid()}.part"
        part.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", "utf-8")
        part.replace(place / f"{claim}.json")  # whoever reads sees all of it or the one before
    except OSError as error:
        print(f"Not kept: {error}")


def show(entry: dict[str, Any]) -> str:
    """Figure, interval and unit of a record, with the digits that the interval supports.

    Taught in chapter 16.

    >>> show({"figure": -0.0123, "low": -0.0612, "high": 0.003, "unit": "points"})
    '-0.01 [-0.06, 0.00] points'
    """
    three = [entry[name] for name in ("figure", "low", "high")]
    width = max(three) - min(three)
    digits = max(-math.floor(math.log10(width / 2)), int(abs(three[0]) < 10)) if width else None
    if digits is None or digits > 6:
        shown = f"{three[0]:,.0f}" if abs(three[0]) >= 1000 else f"{three[0]:.3g}"
    else:
        figure, low, high = (f"{round(v, digits) + 0.0:,.{digits}f}" for v in three)
        shown = f"{figure} [{low}, {high}]"
    return f"{shown} {entry['unit']}".strip()


def ledger(recorded: str | Path | None = None) -> list[dict[str, Any]]:
    """A row for each claim: id, claim, chapter, and its record under ``measured``.

    What `folder()` holds comes first (``run`` is "here"), then what the file `recorded` does
    ("recorded"); a claim that nobody measured has None for both.
    Taught in chapter 16.

    >>> len(ledger()), ledger()[0]["claim"]
    (31, 'Rounding moves a value by at most half a step.')
    """
    runs = {"recorded": {}, "here": {}}
    if recorded is not None and Path(recorded).is_file():
        runs["recorded"] = json.loads(Path(recorded).read_text("utf-8"))
    if (place := folder()) is not None:
        found = (json.loads(path.read_text("utf-8")) for path in sorted(place.glob("*.json")))
        runs["here"] = {entry["id"]: entry for entry in found}
    rows = []
    for name, about in CLAIMS.items():
        run = next((r for r in ("here", "recorded") if name in runs[r]), None)
        rows.append({"id": name, **about, "run": run, "measured": run and runs[run][name]})
    return rows
