"""Shared by all tests: no network, no reader's cache, recorded candles, and the no-skip rule."""

import os
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
from sockets import use_sockets

ROOT = Path(__file__).resolve().parent.parent
collect_ignore_glob = ["*conftest.py"]  # doctest would import each of them as a module

# A test talks to loopback or to nobody, and never touches the cache or the records of a reader.
if not os.environ.get("QUANTLAB_BYBIT_URL"):
    os.environ["QUANTLAB_OFFLINE"] = "1"
os.environ["QUANTLAB_CACHE"] = tempfile.mkdtemp(prefix="quantlab-test-cache-")
os.environ["QUANTLAB_CLAIMS"] = tempfile.mkdtemp(prefix="quantlab-test-claims-")
use_sockets()


def recordings_folder() -> Path:
    """Folder that holds ``market/`` and ``fixtures/``; it may not exist."""
    return Path(os.environ.get("QUANTLAB_RECORDINGS") or ROOT.parent / "shared")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder with the recorded candles; without it the test is skipped."""
    folder = recordings_folder()
    if not (folder / "market").is_dir():
        pytest.skip("no recorded candles")
    return folder


@pytest.fixture(scope="session")
def built_book() -> Path:
    """Folder of the built pages, every notebook executed; built only if a source changed."""
    done = subprocess.run(
        [sys.executable, ROOT / "book/_tools/build.py"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        said = f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        pytest.fail(f"the book was not built\n{said}", pytrace=False)
    return ROOT / "_build" / "html"


# Fastest first: what a file name matches first decides; everything else comes before.
STAGES = (
    "test_kernels*",
    "test_*parity*",
    "test_*oracle*",
    "test_market*",
    "*.ipynb",
    "test_book*",
    "test_browser*",
)


def pytest_collection_modifyitems(items):
    """Order: units and properties, parity, oracles, client, notebooks, built book, browser."""

    def stage(item) -> int:
        name = "test_browser" if "browser" in item.path.parts else item.path.name
        return next((i for i, pattern in enumerate(STAGES, 1) if fnmatch(name, pattern)), 0)

    items.sort(key=stage)


def _forbid_skip(report) -> None:
    """With QUANTLAB_NO_SKIP=1 a skipped test has failed."""
    forbidden = os.environ.get("QUANTLAB_NO_SKIP") == "1"
    if forbidden and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, but QUANTLAB_NO_SKIP=1 forbids it: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _forbid_skip(report)
    return report
