"""Draw the README's picture: the built landing page, as a reader sees it first.

Needs the built book, Playwright and Chromium; writes .github/landing.png.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "_build" / "html" / "book" / "index.html"
PICTURE = ROOT / ".github" / "landing.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    """Open the page as on a small laptop, wait until the explorer is drawn, take the picture."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        print(f"screenshot: none of {', '.join(BROWSERS)} is installed", file=sys.stderr)
        return 1
    if not PAGE.is_file():
        print("screenshot: no built page; run make book first", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 760}, color_scheme="light")
        page.goto(PAGE.as_uri())
        page.locator("input[type=range]").first.wait_for()
        page.wait_for_timeout(500)  # fonts and the first drawing
        page.screenshot(path=PICTURE)
        browser.close()
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1000:.0f} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
