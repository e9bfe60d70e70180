"""Chapters 13 and 17 on candles, sizes and seeds that they have not seen, and their doors.

Most runs execute the cells of a chapter in this process, with settings put in after its setup.
Two more go through a kernel and a replay of the recorded candles, button included.
"""

import ast
import json
import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from replay import Replay, read_csv
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from test_nn_doors import Linear, Sequential, module

import quantlab as ql
from quantlab.market.candles import Source
from quantlab.nn import QuantizedModel

CHAPTERS = Path(__file__).parent.parent / "chapters"
LIVE = CHAPTERS / "17-live-bybit-model.ipynb"
DATA = CHAPTERS / "13-market-data.ipynb"
CHEAP = {"SEEDS": range(2), "PIECES": {200: 3, 4_000: 2}}
SYMBOLS = "BTCUSDT", "ETHUSDT"
INTERVALS = "5", "15", "60"
SIZES = (32, 16), (8,), (24, 16, 8)
STEP = 300_000


def recorded(folder: Path, symbol: str) -> ql.Candles:
    rows = read_csv(folder / "market" / f"bybit_linear_{symbol}_5m_2025.csv")
    table = np.array([row[:6] for row in rows], float).T
    return ql.Candles(*table, table[4] * table[5], symbol, "linear", "5", Source("replay", "csv"))


def resampled(candles: ql.Candles, interval: str) -> ql.Candles:
    """5-minute candles joined to longer ones; the ends that do not fill one are left out."""
    size = int(interval) // 5
    first = int(-candles.start[0] // STEP % size)
    n = (len(candles) - first) // size
    part = {
        name: getattr(candles, name)[first : first + n * size].reshape(n, size)
        for name in ("start", "open", "high", "low", "close", "volume", "turnover")
    }
    return replace(
        candles,
        start=part["start"][:, 0],
        open=part["open"][:, 0],
        high=part["high"].max(axis=1),
        low=part["low"].min(axis=1),
        close=part["close"][:, -1],
        volume=part["volume"].sum(axis=1),
        turnover=part["turnover"].sum(axis=1),
        interval=interval,
    )


def run(path: Path, monkeypatch, **settings) -> dict:
    """Names of a chapter after its last cell, its settings replaced after the setup cell.

    Figures are not drawn into the page: what a cell computes is what may fail.
    """
    monkeypatch.syspath_prepend(str(path.parent))
    names: dict = {"__name__": path.stem}
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    with mpl.rc_context():
        mpl.use("Agg")
        for cell in code:
            tree = ast.parse(cell.source)
            shown = ast.Expression(tree.body.pop().value) if _ends_in_value(tree) else None
            try:
                exec(compile(tree, cell.id, "exec"), names)
                if shown:
                    repr(eval(compile(shown, cell.id, "eval"), names))
            except Exception as error:
                raise AssertionError(f"cell {cell.id}: {type(error).__name__}: {error}") from error
            if cell is code[0]:
                names.update(settings)
        plt.close("all")
    return names


def _ends_in_value(tree: ast.Module) -> bool:
    return bool(tree.body) and isinstance(tree.body[-1], ast.Expr)


def check_live(names: dict, candles: ql.Candles) -> None:
    """A run of chapter 17 measured what it says, on these candles, and asserted no fact."""
    summary = names["summary"]
    assert summary["source"] == candles.source.kind and not names["facts"]
    assert len(summary["claims"]) == 10
    numbers = [*summary["model"], *summary["direction"]]
    numbers += [v for b in range(1, 9) for v in summary["ptq"][b]]
    assert np.isfinite(numbers).all()
    assert summary["agreement"][8] > 95  # rounding noise, whatever the market
    assert names["live"].spec["source"]["words"] == candles.describe()
    assert names["coins"].spec["answers"] == ("down", "up")


@pytest.mark.parametrize("number", range(12))
def test_live_model_on_a_dozen_end_points(recordings, monkeypatch, number):
    candles = recorded(recordings, SYMBOLS[number % 2])
    end = round(np.linspace(12_000, len(candles), 12)[number])
    candles = resampled(candles[:end], INTERVALS[number // 2 % 3])[-3_000:]
    monkeypatch.setattr(ql, "load_candles", lambda *a, **k: candles)
    sizes = SIZES[number // 4]
    names = run(LIVE, monkeypatch, SIZES=sizes, SEEDS=range(2), INTERVAL=candles.interval)
    check_live(names, candles)


@pytest.mark.parametrize("seed", range(100, 110))
def test_live_model_on_other_simulated_candles(monkeypatch, seed):
    interval, sizes = INTERVALS[seed % 3], SIZES[seed // 3 % 3]
    candles = ql.synthetic_candles(2_500 + 200 * (seed % 10), seed, interval)
    monkeypatch.setattr(ql, "load_candles", lambda *a, **k: candles)
    seeds = [seed, seed + 1]
    names = run(LIVE, monkeypatch, SIZES=sizes, SEEDS=seeds, INTERVAL=interval, SIMULATOR=seed)
    check_live(names, candles)


def check_data(names: dict, candles: ql.Candles) -> None:
    """A run of chapter 13 asserted no fact, and measured every setting of its explorer."""
    assert not names["facts"] and names["candles"] is candles
    assert len(names["grid"]) == 4 * 2 * 8
    assert np.isfinite([row["change"] for row in names["grid"]]).all()


@pytest.mark.parametrize("number", range(12))
def test_market_data_on_a_dozen_end_points(recordings, monkeypatch, number):
    candles = recorded(recordings, SYMBOLS[number % 2])
    end = round(np.linspace(12_000, len(candles), 12)[number])
    candles = resampled(candles[:end], INTERVALS[number // 2 % 3])[-3_000:]
    names = run(DATA, monkeypatch, candles=candles, INTERVAL=candles.interval, **CHEAP)
    check_data(names, candles)


@pytest.mark.parametrize("seed", range(100, 110))
def test_market_data_on_other_simulated_candles(monkeypatch, seed):
    interval = INTERVALS[seed % 3]
    candles = ql.synthetic_candles(2_500 + 500 * (seed % 10), seed, interval)
    settings = {"candles": candles, "SEED": seed, "INTERVAL": interval, **CHEAP}
    check_data(run(DATA, monkeypatch, **settings), candles)


# Appended for the test only: what the notebook measured, and what its button would do.
ASK = """
import json
print("SUMMARY" + json.dumps(summary, default=float))
heard, before = [], (live.spec["source"]["words"], live.candles)
live.send = lambda message, buffers=None: heard.append(message)
live._hear(live, {"type": "refresh"}, [])
same = live.spec["source"]["words"] == before[0], live.candles == before[1]
ql.load_candles = lambda *a, **k: 1 / 0
live._hear(live, {"type": "refresh"}, [])
print("PRESSED" + json.dumps([heard, *same, live.candles == before[1]]))
"""


def executed(symbol: str, url: str, settings: str) -> tuple[dict, list]:
    """(summary, what the button did) of a run in a kernel; nothing is written."""
    notebook = nbformat.read(LIVE, as_version=4)
    setup = next(i for i, c in enumerate(notebook.cells) if c.cell_type == "code")
    notebook.cells.insert(setup + 1, nbformat.v4.new_code_cell(settings))
    notebook.cells.append(nbformat.v4.new_code_cell(ASK))
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(CHAPTERS)}},
    )
    environment = {**os.environ, "QUANTLAB_BYBIT_URL": url, "QUANTLAB_SYMBOL": symbol}
    client.execute(env=environment)
    said = "".join(o.text for o in notebook.cells[-1].outputs if o.output_type == "stream")
    found = {line[:7]: json.loads(line[7:]) for line in said.splitlines()}
    return found["SUMMARY"], found["PRESSED"]


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_live_model_through_a_kernel_and_a_replay(recordings, symbol):
    rows = read_csv(recordings / "market" / f"bybit_linear_{symbol}_5m_2025.csv")
    with Replay({symbol: rows[-30_100:]}) as server:
        got, pressed = executed(symbol, server.url, "ROWS, SEEDS = 30_000, range(3)")

    assert got["source"] == "replay" and got["symbol"] == symbol
    assert 60 < got["model"][0] < 70
    assert got["over"]["logistic regression"][1] > 4  # the same features, one straight cut
    assert got["over"]["rule"][1] > 3
    assert abs(got["ptq"]["8"][0]) < 0.3 and got["agreement"]["8"] > 99.5
    assert abs(got["ptq"]["4"][0]) < 0.7 and got["agreement"]["4"] > 96
    assert got["ptq"]["2"][0] < -1 and got["ptq"]["1"][2] < -2
    assert got["w8a8"][0] > 99 and abs(got["w8a8"][1]) < 0.5
    assert abs(got["trained"][0]) < 0.8
    assert abs(got["carried"][0]) < 1.5  # the simulator's model on this market
    assert 48 < got["direction"][1] < got["direction"][2] < 53
    assert got["direction_over_rule"][1] < 0  # the direction's own rule is as good
    assert got["direction_flips"] > 3
    heard, *kept = pressed  # measured again; then an error is shown, and nothing is lost
    kinds = [m["type"] for m in heard]
    assert kinds == ["progress"] * 3 + ["done", "progress", "error"] and all(kept)
    assert "ZeroDivisionError" in heard[-1]["text"]


def doors() -> list[str]:
    """The code blocks of the section on the reader's own candles and models."""
    cells = nbformat.read(LIVE, as_version=4).cells
    text = next(c.source for c in cells if c.source.startswith("## Your own candles"))
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


@pytest.mark.parametrize("number", range(5), ids=["csv", "frame", "sklearn", "torch", "onnx"])
def test_doors_as_printed(tmp_path, monkeypatch, capsys, number):
    printed = doors()[number]
    assert len(doors()) == 5 and len(printed.splitlines()) == 3
    candles = ql.synthetic_candles(4_000, seed=3)
    frame = candles.to_frame()
    frame.to_csv(tmp_path / "BTCUSDT-5m.csv")
    monkeypatch.chdir(tmp_path)
    names = {"ql": ql, "frame": frame, "data": ql.prepare(candles)}
    names["classifier"] = MLPClassifier((8,), max_iter=5, random_state=0)
    names["net"] = Sequential(Linear(4, 8), module("ReLU"), Linear(8, 1))
    if number == 4:
        names["candles"] = candles
        ql.export_onnx(ql.TradingModel((4, 8, 1)), tmp_path / "model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        exec(printed, names)
    if number == 4:
        assert "8 bits: " in capsys.readouterr().out
        return
    if number < 2:
        assert len(names["models"]) == 5
        assert np.array_equal(names["candles"].close, candles.close)
    else:
        assert names["model"].sizes == (4, 8, 1)
    assert number != 3 or QuantizedModel.load(tmp_path / "model.npz").sizes == (4, 8, 1)
