"""Fixtures for the browser tests: one Chromium, one server, one place for the times."""

import json
import os
from pathlib import Path

import pytest
from harness import ARGUMENTS, book_folder, find_chromium, page_names, serve


def pytest_generate_tests(metafunc):
    if "path" in metafunc.fixturenames:
        metafunc.parametrize("path", page_names())


@pytest.fixture(scope="session")
def browser():
    """Chromium, headless; without one the test is skipped."""
    program = find_chromium()
    if program is None:
        pytest.skip("no chromium: built pages are not opened (install it or set CHROMIUM)")
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pages are not opened")
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def book(request) -> Path:
    """The folder that QUANTLAB_BOOK names; without one the book of this repository, built first."""
    if os.environ.get("QUANTLAB_BOOK"):
        return book_folder()
    return request.getfixturevalue("built_book")


@pytest.fixture(scope="session")
def site(book):
    """The built book on loopback."""
    with serve(book) as address:
        yield address


@pytest.fixture(scope="session")
def times(book):
    """What was timed, {page: {what: milliseconds}}; written beside the book, never asserted."""
    kept: dict[str, dict] = {}
    yield kept
    if kept:
        (book.parent / "browser-times.json").write_text(json.dumps(kept, indent=1), "utf-8")
        worst = {k: max(t[k] for t in kept.values()) for k in ("first plot", "step")}
        print(
            f"\nfirst plot within {worst['first plot']} ms of opening a page, "
            f"a step redraws in {worst['step']} ms (median of the slowest page)"
        )
