"""A browser with the network closed, and what it may do to a page of the book.

Works on any folder of built pages; nothing here knows a chapter.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_chromium() -> str | None:
    """A Chromium on this machine: the variable CHROMIUM, then the usual names."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


def book_folder() -> Path:
    """Where the built pages are: the variable QUANTLAB_BOOK, else _build/html."""
    return Path(os.environ.get("QUANTLAB_BOOK") or ROOT / "_build" / "html")


def page_names() -> list[str]:
    """Every page of the book, as paths below its folder, known before the book is built."""
    if os.environ.get("QUANTLAB_BOOK"):
        folder = book_folder()
        pages = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.html"))
        return [
            p for p in pages if not p.startswith("_static/") and p != "index.html"
        ]  # it forwards
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    entries = [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]
    return ["genindex.html", "search.html", *(f"{e}.html" for e in entries)]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The folder on loopback; gives the address without a final slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def visit(
    browser,
    address: str,
    *,
    width: int = 1200,
    dark: bool = False,
    script: bool = True,
    touch=False,
):
    """An opened page and the list of what went wrong on it so far: (page, problems)."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        java_script_enabled=script,
        color_scheme="dark" if dark else "light",
        has_touch=touch,
    )
    problems: list[str] = []

    def gate(route) -> None:
        url = urlsplit(route.request.url)
        if url.scheme in ("file", "data", "blob") or url.hostname in ("127.0.0.1", "localhost"):
            route.continue_()
        else:
            problems.append(f"external request: {route.request.url}")
            route.abort()

    def missing(response) -> None:
        if response.status >= 400:
            problems.append(f"{response.status}: {response.url}")

    context.route("**/*", gate)
    page = context.new_page()
    page.on(
        "console",
        lambda m: m.type in ("error", "warning") and problems.append(f"console {m.type}: {m.text}"),
    )
    page.on("pageerror", lambda e: problems.append(f"script error: {e}"))
    page.on("response", missing)
    page.on("requestfailed", lambda r: problems.append(f"failed: {r.url} {r.failure}"))
    try:
        page.goto(address, wait_until="load")
        if script:
            page.wait_for_function(DRAWN)
        yield page, problems
    finally:
        context.close()


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>bench</title>
<script>{script}</script>
<script type="application/vnd.jupyter.widget-state+json">{state}</script>
<style>body {{ max-width: 700px; margin: 20px auto; padding: 0 8px }}</style>
</head><body>{body}</body></html>"""
VIEW = '<div><script type="application/vnd.jupyter.widget-view+json">{}</script></div>'


def write_page(path: Path, *parts) -> str:
    """A page of its own from widgets and pieces of HTML, as the book embeds them; its address."""
    from ipywidgets.embed import dependency_state, embed_data

    widgets = [p for p in parts if not isinstance(p, str)]
    data = embed_data(views=widgets, state=dependency_state(widgets, drop_defaults=False))
    views = iter(data["view_specs"])
    body = [p if isinstance(p, str) else VIEW.format(json.dumps(next(views))) for p in parts]
    script = (ROOT / "book/_static/quantlab-static.js").read_text("utf-8")
    state = json.dumps(data["manager_state"]).replace("</", "<\\/")
    path.write_text(PAGE.format(script=script, state=state, body="\n".join(body)), "utf-8")
    return path.resolve().as_uri()


def drag_by_touch(page, slider, start: float = 0.97, end: float = 0.03) -> None:
    """A finger put on a slider and drawn along it, as shares of its length."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    finger = page.context.new_cdp_session(page)

    def put(kind: str, share: float) -> None:
        spot = {"x": box["x"] + share * box["width"], "y": box["y"] + box["height"] / 2}
        points = [] if kind == "touchEnd" else [spot]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    put("touchStart", start)
    for i in range(1, 11):
        put("touchMove", start + (end - start) * i / 10)
    put("touchEnd", end)


# Buttons, sliders and lists that are smaller than a fingertip.
SMALL = """() => [...document.querySelectorAll(
    '.ql button, .ql select, .ql input:not([type=radio])')]
  .filter((e) => e.checkVisibility())
  .map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
  .filter(([, r]) => r.height < 44 || r.width < 44)
  .map(([what, r]) => `${what} ${r.width} x ${r.height}`)"""


# Every explorer of the page has drawn its panels (or there is none).
DRAWN = """() => {
  const views = document.querySelectorAll(
    'script[type="application/vnd.jupyter.widget-view+json"]').length;
  const all = [...document.querySelectorAll('.ql')];
  const drawn = '.ql-panel svg > *, .ql-choices, .ql-guide dl';
  return all.length >= views && all.every((q) => q.querySelector(drawn));
}"""

# What a reader sees of one explorer, apart from its controls: the drawings and the numbers.
SEEN = """(ql) => [...ql.querySelectorAll('.ql-panel svg')].map((s) => s.innerHTML).join('')
  .replace(/ql-clip-\\d+/g, '') + ql.querySelector('.ql-stats').textContent"""

# One control through all its values by script; returns what changed on the way.
SWEEP = f"""([ql, index]) => {{
  const seen = {SEEN}, control = ql.querySelectorAll('input, select')[index];
  const first = control.value, values = control.tagName === 'SELECT'
    ? [...control.options].map((o) => o.value)
    : Array.from({{ length: Math.round((control.max - control.min) / control.step) + 1 }},
        (_, i) => +control.min + i * control.step);
  const put = (v) => {{
    control.value = v;
    control.dispatchEvent(new Event(control.tagName === 'SELECT' ? 'change' : 'input',
      {{ bubbles: true }}));
  }};
  const pictures = [], said = [], words = [], times = [];
  for (const v of values) {{
    const start = performance.now();
    put(v);
    times.push(performance.now() - start);
    pictures.push(seen(ql));
    said.push(ql.querySelector('.ql-status').textContent);
    words.push(control.getAttribute('aria-valuetext') ?? 'text');
  }}
  put(first);
  return {{ values: values.length, pictures: new Set(pictures).size, said: new Set(said).size,
    same: pictures.filter((p, i) => i && p === pictures[i - 1]).length,
    silent: words.filter((w) => !w).length, times,
    broken: pictures.some((p) => /NaN|undefined|Infinity/.test(p)) }};
}}"""

# The drawing at random settings of all controls at once: for errors, not for looks.
WANDER = f"""(ql) => {{
  const seen = {SEEN}; let state = 7, broken = 0;
  const random = (n) => (state = (state * 16807) % 2147483647) % n;
  const start = [...ql.querySelectorAll('button')].find((b) => b.textContent === 'back to start');
  start.click(); // which curves are gray depends on what moved last
  const first = seen(ql);
  for (let i = 0; i < 60; i++) for (const c of ql.querySelectorAll('input, select')) {{
    if (c.disabled) continue;
    c.value = c.tagName === 'SELECT' ? c.options[random(c.options.length)].value
      : +c.min + random(Math.round((c.max - c.min) / c.step) + 1) * c.step;
    c.dispatchEvent(new Event(c.tagName === 'SELECT' ? 'change' : 'input', {{ bubbles: true }}));
    if (/NaN|undefined|Infinity/.test(seen(ql))) broken++;
  }}
  start.click();
  return {{ broken, back: seen(ql) === first }};
}}"""

# Text against what is painted behind it, by the contrast ratio of WCAG 2.
CONTRAST = """(ql) => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (css) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  let behind = ql;
  while (behind && rgba(getComputedStyle(behind).backgroundColor)[3] < 255) {
    behind = behind.parentElement;
  }
  const ground = light(rgba(behind ? getComputedStyle(behind).backgroundColor : 'white'));
  const worst = [...ql.querySelectorAll('label, output, p, text, span, b, td, th')]
    .filter((e) => e.textContent.trim())
    .map((e) => light(rgba(getComputedStyle(e)[e.tagName === 'text' ? 'fill' : 'color'])))
    .map((l) => (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05));
  return { worst: Math.min(...worst), dark: ground < 0.2 };
}"""

# What sticks out of a narrow page.
WIDE = """() => {
  const limit = document.documentElement.clientWidth, out = [];
  for (const e of document.querySelectorAll('.ql, .ql *')) {
    const r = e.getBoundingClientRect();
    const scrolls = e.closest('.ql-stats') && e.closest('.ql-grid');
    if (r.width && !scrolls && (r.right > limit + 1 || r.left < -1)) {
      out.push(`${e.tagName}.${e.getAttribute('class')}`);
    }
  }
  return { page: document.documentElement.scrollWidth, limit, out: out.slice(0, 5) };
}"""
