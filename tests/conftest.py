"""Shared by all tests: no network, no reader's cache, recorded candles, and the no-skip rule."""

import os
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A test talks to loopback or to nobody, and never touches the cache of whoever runs it.
if not os.environ.get("QUANTLAB_BYBIT_URL"):
    os.environ["QUANTLAB_OFFLINE"] = "1"
os.environ["QUANTLAB_CACHE"] = tempfile.mkdtemp(prefix="quantlab-test-cache-")


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
