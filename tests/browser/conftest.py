"""Fixtures for the browser tests: one Chromium, one server, one place for the times."""

import json
from pathlib import Path

import pytest
from harness import ARGUMENTS, book_folder, built_pages, find_chromium, serve


def pytest_generate_tests(metafunc):
    if "path" in metafunc.fixturenames:
        pages = built_pages() or [None]
        metafunc.parametrize("path", pages, ids=[p or "no built book" for p in pages])


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
def book() -> Path:
    """The folder of the built book; without it the test is skipped."""
    if not built_pages():
        pytest.skip(f"no built book in {book_folder()}: run `make book` first")
    return book_folder()


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
        print(f"\nfirst plot within {worst['first plot']} ms of opening a page, "
              f"a step redraws in {worst['step']} ms (median of the slowest page)")
