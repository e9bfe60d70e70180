"""Figures that fit every screen: dark on a dark page, and drawn anew for a phone.

Matplotlib writes each color as a number. Here it becomes a variable with a twin for a dark ground,
which the browser picks by the `color-scheme` of the page around the picture.
`quantlab.teach.figures` puts a second, narrow drawing into the metadata of the first; it becomes a
file of its own, shown on screens narrower than BREAK.
"""

import base64
import re
from pathlib import Path

from matplotlib.colors import hsv_to_rgb, rgb_to_hsv, to_hex, to_rgb
from sphinx.application import Sphinx

GROUND = "#121212"  # of a dark page
LEAST = 4.5  # contrast of a dark twin with that ground
BREAK = 600  # px
COLOR = re.compile(r"#[0-9a-f]{6}\b", re.I)
NARROW = re.compile(r'<metadata id="narrow">([A-Za-z0-9+/=\s]*)</metadata>\s*')
IMAGE = re.compile(r'<img[^>]*\bsrc="([^"]*_images/([^"/]+)\.svg)"[^>]*>')


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2, 0 to 1."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(color)]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def dark_twin(color: str) -> str:
    """The color's part on a dark ground: gray mirrored, hues lightened until they can be read."""
    hue, saturation, value = rgb_to_hsv(to_rgb(color))
    if saturation < 0.08:  # white is the ground, light gray a faint line, black the text
        low = to_rgb(GROUND)
        return to_hex([v + (0.93 - v) * (1 - value) for v in low])
    twin, step = to_hex(to_rgb(color)), 0
    while contrast(twin, GROUND) < LEAST and step < 50:
        step += 1
        share = step / 50
        twin = to_hex(
            hsv_to_rgb((hue, saturation * (1 - 0.7 * share), value + (1 - value) * share))
        )
    return twin


def adapt(svg: str) -> str:
    """The drawing with its colors as variables, light and dark."""
    colors = sorted({"#000000", *(c.lower() for c in COLOR.findall(svg))})
    body = COLOR.sub(lambda m: f"var(--c{m[0][1:].lower()})", svg)
    light, dark = (" ".join(f"--c{c[1:]}: {twin(c)};" for c in colors) for twin in (str, dark_twin))
    style = (
        f"<style>:root {{ {light} fill: var(--c000000); }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}</style>"
    )
    return re.sub(r"(<svg\b[^>]*>)", lambda m: m[1] + style, body, count=1)


def figures(app: Sphinx, exception: Exception | None) -> None:
    """Rewrite the figures of the built book, and the pages that show a narrow one."""
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    narrow = set()
    for path in (out / "_images").glob("*.svg"):
        svg = path.read_text("utf-8")
        if "matplotlib" not in svg[:1500].lower() or "<style>:root" in svg:
            continue
        if found := NARROW.search(svg):
            twin = base64.b64decode(found[1]).decode()
            path.with_name(f"{path.stem}-narrow.svg").write_text(adapt(twin), "utf-8")
            narrow.add(path.stem)
            svg = NARROW.sub("", svg)
        path.write_text(adapt(svg), "utf-8")

    def picture(match: re.Match) -> str:
        if match[2] not in narrow:
            return match[0]
        source = match[1].replace(".svg", "-narrow.svg")
        return (
            f'<picture><source media="(max-width: {BREAK}px)" srcset="{source}">'
            f"{match[0]}</picture>"
        )

    for page in out.rglob("*.html"):
        text = page.read_text("utf-8")
        if (new := IMAGE.sub(picture, text)) != text:
            page.write_text(new, "utf-8")


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", figures, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
