"""All that a reader grabs, in JupyterLab with a kernel: drawn there, and heard by Python."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from harness import SEEN

OBJECTS = """t, x = ql.teach, np.random.default_rng(1).normal(size=120)
x0 = np.array([[0.5, 1.2], [0.1, 0.9]])
things = dict(ruler=t.Ruler(x), clip=t.Clip(x), decision=t.Decision(x, {2: x.round(), 8: x}),
    matrix=t.Matrix(x0, x0 - 1), accumulator=t.Accumulator(abs(x), x), bits=t.Bits(x[:6], x[6:12]),
    candle=t.Candle(ql.synthetic_candles(2000)), latent=t.Latent(0.3, value=0.8),
    roofline=t.Roofline({'FP32': (32, 90), 'INT8': (8, 400)}, 20, batch=8),
    predict=t.Predict('How much?', 18.0, span=(0, 50)))
started = {k: {n: v.traits()[n].get(v) for n in v.keys} for k, v in things.items()}
display(*things.values())
d = ql.prepare(candles := ql.synthetic_candles(3000))
live = t.LiveModel(ql.train_seeds(d, (8,), range(1))[0], d, candles, bits=4)
display(live)"""
MOVED = """print('moved:', *(k for k, v in things.items()
    if any(started[k][n] != getattr(v, n) for n in v.keys)))"""

CELLS = [
    "import numpy as np, quantlab as ql\n"
    "e = ql.teach.ArrayExplorer(np.random.default_rng(1).normal(size=500), bits=5)\ne",
    "g = ql.teach.GridExplorer({'bits': [2, 4]}, {'SNR': {'values': [7.0, 18.0]}}, x='bits',\n"
    "    refresh=lambda: ({'bits': [2, 4, 8]}, {'SNR': {'values': [1.0, 2, 3]}}, 'anew'))\ng",
    "print('python saw', e.bits, len(g.spec['dims'][0]['values']))",
    OBJECTS,
    MOVED,
    "print('live at', live.bits, 'bits')",
]


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab of its own on loopback, with one notebook; gives the notebook's address."""
    pytest.importorskip("jupyterlab", reason="no jupyterlab: explorers are not tried with a kernel")
    cells = [
        {
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "id": f"c{i}",
            "source": text,
        }
        for i, text in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "try.ipynb").write_text(json.dumps(notebook), "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ip=127.0.0.1",
        "--IdentityProvider.token=",
        "--LabApp.news_url=",
        f"--ServerApp.root_dir={tmp_path}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    home = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(tmp_path / ".config"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / ".work"),
    }
    log = (tmp_path / "lab.log").open("w")
    process = subprocess.Popen(command, env=home, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            assert process.poll() is None, (tmp_path / "lab.log").read_text()
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=1).read()
                break
            except OSError:
                time.sleep(0.5)
        yield f"{address}/lab/tree/try.ipynb"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def run_again(page, number):
    cell = page.locator(".jp-CodeCell").nth(number)
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")


def test_explorers_are_live_with_a_kernel(browser, lab):
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    page.set_default_timeout(60_000)
    try:
        page.goto(lab)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.wait_for_function("document.body.innerText.includes('| Idle')")  # the kernel is up
        page.get_by_text("Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.wait_for_selector(".ql-array .ql-panel svg > *", state="attached")
        page.wait_for_selector(".ql-grid .ql-extra button", state="attached")  # a kernel answered
        slider = page.locator(".ql-array input[type=range]").first
        slider.scroll_into_view_if_needed()
        before = page.evaluate(SEEN, page.query_selector(".ql-array"))
        slider.focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert slider.input_value() == "8"
        assert slider.evaluate("e => e === document.activeElement"), "JupyterLab took the keys"
        assert page.evaluate(SEEN, page.query_selector(".ql-array")) != before
        button = page.locator(".ql-grid .ql-extra button")
        button.scroll_into_view_if_needed()
        button.click()
        page.wait_for_function("document.querySelector('.ql-grid input').max === '2'")
        assert "anew" in page.locator(".ql-grid .ql-note-line").text_content()
        run_again(page, 2)
        page.wait_for_function("document.body.innerText.includes('python saw 8 3')")
        page.wait_for_selector(".ql-predict .ql-grip svg > *", state="attached")
        kinds = page.evaluate(
            "[...document.querySelectorAll('.ql-grab:not(.ql-livemodel)')]"
            ".map((e) => e.className.split(' ').at(-1))"
        )
        for kind in kinds:
            ql = page.locator(f".{kind}").first
            handle = ql.locator(".ql-handle").first
            handle.scroll_into_view_if_needed()
            before = ql.inner_html()
            handle.focus()
            for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowDown"):
                page.keyboard.press(key)
            assert ql.inner_html() != before, f"{kind} is dead"
            assert handle.evaluate("e => e === document.activeElement"), f"{kind}: keys were taken"
        page.locator(".ql-grip").scroll_into_view_if_needed()
        page.locator(".ql-grip").click()
        page.locator(".ql-predict .ql-main").click()
        page.wait_for_selector(".ql-predict .ql-dot.ql-quantized", state="attached")
        run_again(page, 4)
        page.wait_for_function("document.body.innerText.includes('moved: ruler')")
        moved = page.locator(".jp-OutputArea-output:has-text('moved:')").last.text_content()
        assert len(kinds) == 9 and len(moved.split()) == 11, (kinds, moved)
        page.wait_for_selector(".ql-livemodel svg > *", state="attached")
        slider = page.locator(".ql-livemodel input[type=range]").first
        slider.scroll_into_view_if_needed()
        slider.focus()
        page.keyboard.press("ArrowLeft")
        assert slider.input_value() == "3", "the live model is dead"
        run_again(page, 5)
        page.wait_for_function("document.body.innerText.includes('live at 3 bits')")
    finally:
        if os.environ.get("QUANTLAB_SHOT"):
            page.screenshot(path=os.environ["QUANTLAB_SHOT"])
        page.close()
