"""The built pages: complete, small, nothing asked of another host, no link that leads nowhere."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


class Page(HTMLParser):
    """Anchors, links and loaded files of one page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(path.read_text("utf8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[k] for k in ("id", "name") if given.get(k)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        loaded = given.get("href") if tag == "link" else given.get("src") or given.get("data")
        if loaded and tag in ("link", "script", "img", "iframe", "source", "object", "video"):
            self.loads.append(loaded)


@pytest.fixture(scope="session")
def pages(built_book) -> dict[Path, Page]:
    """Every page of the book, parsed."""
    return {p: Page(p) for p in sorted(built_book.rglob("*.html")) if "_static" not in p.parts}


def test_every_listed_page_is_built(built_book):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    for entry in [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]:
        assert (built_book / f"{entry}.html").is_file()
    assert "url=book/index.html" in (built_book / "index.html").read_text("utf8")


def test_nothing_changed_means_no_build(built_book):
    check = subprocess.run([sys.executable, ROOT / "book/_tools/build.py", "--check"], cwd=ROOT)
    assert check.returncode == 0


def test_pages_are_small(built_book, pages):
    sizes = {p.relative_to(built_book).as_posix(): p.stat().st_size for p in pages}
    assert not {name: size for name, size in sizes.items() if size > 2_000_000}


def test_pages_load_nothing_from_another_host(built_book, pages):
    foreign = {
        (p.name, load)
        for p, page in pages.items()
        for load in page.loads
        if re.match(r"(https?:)?//", load)
    }
    assert not foreign
    for style in (built_book / "_static").rglob("*.css"):
        rules = style.read_text("utf8")
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", rules), style.name


def test_formulas_are_drawn_by_a_local_mathjax(built_book):
    page = (built_book / "book/notation.html").read_text("utf8")
    script = re.search(r'src="([^"]*mathjax/[^"?]*)', page)[1]
    assert (built_book / "book" / script).resolve().is_file()


def test_files_and_links_exist(pages):
    missing = set()
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                missing.add((path.name, link))
            elif parts.fragment and target in pages:
                if unquote(parts.fragment) not in pages[target].ids:
                    missing.add((path.name, link))
    assert not missing


def test_pages_show_no_error_and_no_address(pages):
    for path in pages:
        text = path.read_text("utf8")
        assert "Traceback (most recent call last)" not in text, path.name
        assert not re.search(r"object at 0x[0-9a-f]+|/home/|/Users/", text), path.name
        assert str(ROOT) not in text, path.name


def test_equations_and_figures_carry_the_chapter(pages):
    for path in pages:
        if not (number := re.match(r"(\d\d)-", path.name)):
            continue
        text = path.read_text("utf8")
        shown = re.findall(r'class="eqno">\(([\d.]+)\)', text)
        shown += re.findall(r'class="caption-number">Figure ([\d.]+)', text)
        assert shown and all(s.startswith(f"{int(number[1])}.") for s in shown), path.name


def test_widgets_carry_a_still(pages):
    """Each explorer has a PNG for a reader without JavaScript, and the state that draws it."""
    for path in pages:
        text = path.read_text("utf8")
        views = text.count("application/vnd.jupyter.widget-view+json")
        if not views:
            continue
        kind = re.escape("application/vnd.jupyter.widget-state+json")
        state = re.search(rf'<script type="{kind}">(.*?)</script>', text, flags=re.S)
        assert json.loads(state[1])["state"], path.name
        assert len(re.findall(r"<noscript>\s*<img", text)) >= views, path.name
