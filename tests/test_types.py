"""What a type checker sees: the package is clean, and public names are no Any."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import quantlab as ql

ROOT = Path(__file__).resolve().parent.parent


def test_mypy(tmp_path):
    command = [sys.executable, "-m", "mypy", "--cache-dir", tmp_path, "--warn-unused-ignores"]
    sources = ["quantlab", "tests/public_use.py"]
    done = subprocess.run([*command, *sources], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr


CALLED = {n: getattr(ql, n) for n in ql.__all__ if callable(getattr(ql, n))}
CALLED = {n: f if inspect.isfunction(f) else f.__init__ for n, f in CALLED.items()}


@pytest.mark.parametrize("name", [n for n, f in CALLED.items() if inspect.isfunction(f)])
def test_public_signatures_are_typed(name):
    parameters = inspect.signature(CALLED[name]).parameters.values()
    named = [
        p
        for p in parameters
        if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    assert all(p.annotation is not p.empty for p in named)


@pytest.mark.parametrize("room", [ql, ql.nn, ql.market, ql.teach], ids=lambda r: r.__name__)
def test_stub_names_exist(room: Any):
    """The lazy loader reads its names from the stub: all of them load, none is private."""
    assert room.__all__ and all(hasattr(room, name) for name in room.__all__)
    assert not [name for name in room.__all__ if name.startswith("_")]
