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
from fontTools.ttLib import TTFont

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
            assert not re.match(r"\d\d-", path.name), f"{path.name}: nothing to explore"
            continue
        kind = re.escape("application/vnd.jupyter.widget-state+json")
        state = re.search(rf'<script type="{kind}">(.*?)</script>', text, flags=re.S)
        assert json.loads(state[1])["state"], path.name
        assert len(re.findall(r"<noscript>\s*<img", text)) >= views, path.name


def test_page_says_what_it_is_to_whoever_links_it(built_book, pages):
    for path in pages:
        if (
            path.name in ("index.html", "genindex.html", "search.html")
            and path.parent == built_book
        ):
            continue
        text = path.read_text("utf8")
        said = dict(re.findall(r'<meta property="og:(\w+)" content="([^"]*)"', text))
        assert {"title", "description", "image"} <= set(said), path.name
        picture = built_book / "_images" / said["image"].split("/_images/")[1]
        assert picture.is_file() and len(said["description"]) > 40, path.name


def test_page_loads_what_it_uses(built_book, pages):
    for path, page in pages.items():
        text = path.read_text("utf8")
        formula = re.search(r'class="(math|.*\bmath\b)[^"]*"', text) is not None
        assert any("mathjax" in load for load in page.loads) == formula, path.name
        assert not any("fontawesome.js" in load for load in page.loads), path.name
        indexed = any("searchindex" in load for load in page.loads)
        assert indexed == (path.name == "search.html"), path.name
        blocking = re.findall(r'<script src="[^"]*/([\w.-]+)\.js', text)
        assert indexed or set(blocking) <= {"documentation_options", "quantlab-static"}, blocking


def test_icons_in_use_have_their_glyphs(built_book, pages):
    rules = (built_book / "_static/styles/pydata-sphinx-theme.css").read_text("utf8")
    used = {name for path in pages for name in re.findall(r"\bfa-[a-z-]+", path.read_text("utf8"))}
    icons = {"fa-rocket", "fa-github", "fa-download", "fa-bars", "fa-list"} & used
    assert icons, "the pages show icons"
    points = {
        int(re.search(rf'\.{icon}:before[^{{]*{{content:"\\(\w+)"', rules)[1], 16) for icon in icons
    }
    glyphs = set()
    for font in (built_book / "_static/vendor").rglob("*.ttf"):
        glyphs |= set(TTFont(font).getBestCmap())
        assert font.stat().st_size < 20_000, font.name
    assert points <= glyphs


def test_figures_are_dark_on_dark_and_drawn_anew_for_phones(built_book, pages):
    drawings = [p for p in (built_book / "_images").glob("*.svg") if "-narrow" not in p.name]
    assert drawings
    for path in drawings:
        svg = path.read_text("utf8")
        assert "prefers-color-scheme: dark" in svg, path.name
        assert not re.search(r'style="[^"]*#[0-9a-f]{6}', svg), f"{path.name}: a color without twin"
        assert path.with_name(f"{path.stem}-narrow.svg").is_file(), path.name
    for path in pages:
        for image in re.findall(r"<img[^>]*_images/(\w+)\.svg", path.read_text("utf8")):
            assert f'srcset="../_images/{image}-narrow.svg"' in path.read_text("utf8"), path.name
