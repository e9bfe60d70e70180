"""Chapter 14 on recorded candles through a replay: the facts of the capstone, for two symbols."""

import json
import os
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from replay import Replay, read_csv

CHAPTER = Path(__file__).parent.parent / "chapters" / "14-live-bybit-model.ipynb"
# Appended for the test only: what the notebook measured, and what its button would do.
ASK = """
import json
print("SUMMARY" + json.dumps(summary, default=float))
"""
PRESS = """
heard = []
explorer.send = lambda message, buffers=None: heard.append(message["type"])
before = explorer.spec["note"], explorer.values
explorer._hear(explorer, {"type": "refresh"}, [])
print("PRESSED" + json.dumps([heard, explorer.spec["note"] == before[0],
                              len(explorer.values) == len(before[1])]))
"""


def executed(symbol: str, url: str, press: bool = False) -> list[str]:
    """Lines that the appended cells printed after a run of the chapter; nothing is written."""
    notebook = nbformat.read(CHAPTER, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(ASK + PRESS * press))
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(CHAPTER.parent)}},
    )
    environment = {**os.environ, "QUANTLAB_BYBIT_URL": url, "QUANTLAB_SYMBOL": symbol}
    client.execute(env=environment)
    printed = [o.text for o in notebook.cells[-1].outputs if o.output_type == "stream"]
    return "".join(printed).splitlines()


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_capstone_on_recorded_candles(recordings, symbol, record_property):
    rows = read_csv(recordings / "market" / f"bybit_linear_{symbol}_5m_2025.csv")
    began = time.monotonic()
    with Replay({symbol: rows[-50_400:]}) as server:
        lines = executed(symbol, server.url, press=symbol == "BTCUSDT")
    seconds = round(time.monotonic() - began)
    record_property("seconds", seconds)
    print(f"chapter 14 on {symbol}: {seconds} s")
    got = json.loads(next(line for line in lines if line.startswith("SUMMARY"))[7:])

    assert got["source"] == "replay" and got["symbol"] == symbol
    assert 47 < got["majority"] < 53
    assert 66 < got["rule"] < 73
    assert 70 < got["model"][0] < 78
    assert got["over_rule"][1] > 0  # above the rule, whatever the days
    assert abs(got["ptq"]["8"][0]) < 0.3
    assert abs(got["ptq"]["4"][0]) < 0.7
    assert got["ptq"]["2"][2] < -2 and got["ptq"]["1"][2] < -2
    assert got["agreement"]["8"] > 99.5 > 99 > got["agreement"]["4"] > 97
    assert got["minmax"]["4"][2] < -3  # the scaling, not the width, costs the points
    assert got["new_threshold"]["4"][0] > -1.5
    assert all(abs(change[0]) < 0.5 for change in got["qat"].values())
    assert abs(got["one_bit_asymmetric"][0] - 50) < 7
    assert 48 < got["direction"][1] < got["direction"][2] < 53
    assert 10 < got["direction_flips"] < 40 and got["gross"] < 0.1
    if symbol == "BTCUSDT":  # the refresh button measures the same replay again
        pressed = next(line for line in lines if line.startswith("PRESSED"))
        assert json.loads(pressed[7:]) == [["done"], True, True]
