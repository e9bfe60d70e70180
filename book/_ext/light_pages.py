"""A page loads what it uses: MathJax where there is a formula, and the icons that some page shows.

The theme ships Font Awesome twice, as a script of 1.5 MB that draws icons after the page and as
fonts with the rules of 2,000 icons. The fonts do the same: the script goes, and of the fonts and
the style sheets those parts stay that a page or a script names. MathJax comes in one file with a
menu that the book switches off, a third of its size, or in parts: the parts do.
"""

import re
from collections.abc import Callable
from pathlib import Path

from docutils import nodes
from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

SCRIPT = re.compile(r'\s*<script defer src="[^"]*fontawesome\.js[^"]*"></script>')
# Scripts that wait for the whole page anyway: they need not hold up its first picture.
PATIENT = "doctools|sphinx_highlight|clipboard.min|copybutton|togglebutton|sphinx-book-theme"
BLOCKING = re.compile(rf'<script (src="[^"]*/(?:{PATIENT})\.js[^"]*">)')
NAME = re.compile(r"\bfa-[a-z][a-z0-9-]*")
RULE = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"[^"]*"\}')
PLAIN = re.compile(r"(?<=[{}])(\.[\w-]+(?:,\.[\w-]+)*)\{[^{}]*\}")  # rules of single classes
LATER = ("bs-", "tooltip", "popover", "modal", "offcanvas", "collaps", "dropdown", "show", "fade")
WOFF2 = re.compile(r'url\([^)]*\.woff2\) format\("woff2"\),')  # needs a compressor to write


# What a page needs only if its text matches: part of a file name -> pattern.
NEEDED_BY = {
    "sphinx-design": r'class="[^"]*\bsd-',
    "design-tabs": r'class="[^"]*\bsd-tab',
    "clipboard": "<pre",
    "copybutton": "<pre",
    "togglebutton": r'class="[^"]*\b(?:toggle|dropdown)\b',
}
SEARCH = re.compile(
    r'\s*<script[^>]* src="[^"]*(?:searchtools|language_data|searchindex)\.js[^>]*></script>'
)


def lighten(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Take scripts and styles off a page that has nothing for them."""
    body, unused = context.get("body", ""), []
    formulas = (nodes.math, nodes.math_block)
    if doctree is None or not any(any(doctree.findall(kind)) for kind in formulas):
        unused += ["mathjax", "MathJax"]
    unused += [name for name, pattern in NEEDED_BY.items() if not re.search(pattern, body)]
    for key in ("script_files", "css_files"):
        context[key] = [f for f in context[key] if not any(name in whole(f) for name in unused)]


def whole(asset) -> str:
    """File name and attributes of a script or a style sheet."""
    return f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', '')}"


def in_use(texts: list[str]) -> Callable[[str], str]:
    """Return a function that drops what no page and no script names from a style sheet."""
    icons = {name for text in texts for name in NAME.findall(text)}
    words = {word for text in texts for word in re.findall(r"[\w-]+", text)}

    def icon(match: re.Match) -> str:
        return match[0] if icons.intersection(NAME.findall(match[1])) else ""

    def plain(match: re.Match) -> str:
        names = re.findall(r"[\w-]+", match[1])
        return match[0] if any(n in words or n.startswith(LATER) for n in names) else ""

    return lambda text: WOFF2.sub("", PLAIN.sub(plain, RULE.sub(icon, text)))


def keep_what_is_used(app: Sphinx, exception: Exception | None) -> None:
    """Drop the script of all icons; keep the rules and glyphs that some page shows."""
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    pages = {p: p.read_text("utf-8") for p in out.rglob("*.html") if static not in p.parents}
    scripts = [p.read_text("utf-8") for p in static.rglob("*.js") if "mathjax" not in p.parts]
    scripts = [s for s in scripts if len(s) < 1_000_000]  # the script of all icons is one
    for page, text in pages.items():
        text = SCRIPT.sub("", text)
        if page.name != "search.html":  # it alone reads the index of all words, and at once
            text = BLOCKING.sub(r"<script defer \1", SEARCH.sub("", text))
        page.write_text(text, "utf-8")
    cut, points = in_use([*pages.values(), *scripts]), set()
    for sheet in static.rglob("*.css"):
        text = cut(sheet.read_text("utf-8"))
        points |= {int(code, 16) for code in re.findall(r"\\([ef][0-9a-f]{3})\b", text)}
        sheet.write_text(text, "utf-8")
    for path in (static / "vendor" / "fontawesome").rglob("*.ttf"):
        font, cutter = TTFont(path), subset.Subsetter(subset.Options(layout_features=[]))
        cutter.populate(unicodes=points)
        cutter.subset(font)
        font.save(path)
    unused = [static / "scripts" / "fontawesome.js", *static.rglob("*.map")]
    for path in (*unused, *static.rglob("*.woff2")):
        path.unlink()


def setup(app: Sphinx) -> dict:
    app.config.mathjax_path = "mathjax/startup.js"  # loads the parts that _config.yml names
    app.connect("html-page-context", lighten, priority=900)
    app.connect("build-finished", keep_what_is_used, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
