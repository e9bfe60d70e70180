"""Tables of candles from elsewhere, CSV files and DataFrames, brought into the order of ours."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantlab.market.times import check_interval, infer_interval, moments

if TYPE_CHECKING:
    import pandas

COLUMNS = ("start", "open", "high", "low", "close", "volume", "turnover")
NAMES = {  # lower case, letters only, no "price"; the first name found counts
    "start": "start startms starttime timestamp opentime time datetime date ts unix".split(),
    "open": ["open", "o"],
    "high": ["high", "h"],
    "low": ["low", "l"],
    "close": ["close", "c"],
    "volume": "volume basevolume vol v".split(),
    "turnover": "turnover quotevolume quoteassetvolume volumequote".split(),
}


class CandleError(ValueError):
    """Rows that cannot be candles: the message names the row and what is wrong with it."""


def symbol_in(name: str) -> str | None:
    """``bybit_linear_BTCUSDT_5m.csv`` or ``BTC_USDT-5m.csv`` -> ``BTCUSDT``, else None."""
    found = re.search(r"(?<![A-Z0-9])([A-Z0-9]{2,})[_-]?(USDT|USDC|USD)(?![A-Z0-9])", name)
    return found and "".join(found.groups())


def read_csv(path: str | Path) -> tuple[list | None, list]:
    """Names (None without a header) and columns of text of a CSV file, commas or semicolons."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CandleError(f"Candles.from_csv: {path} is no text in UTF-8 ({error})") from None
    first = text.split("\n", 1)[0]
    cells = csv.reader(text.splitlines(), delimiter=max(",;\t", key=first.count))
    rows = [row for row in cells if "".join(row).strip()]
    odd = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if not rows:
        raise CandleError(f"Candles.from_csv: {path} has no rows; give one line a candle")
    if odd is not None:
        cells = f"row {odd} of {path} has {len(rows[odd])} cells, the first one {len(rows[0])}"
        raise CandleError(f"Candles.from_csv: {cells}; mend the file")
    names = rows.pop(0) if not re.fullmatch(r"[-+.\d]+", rows[0][-2:][0].strip()) else None
    return names, list(zip(*rows, strict=True)) or [()] * len(names)


def read_frame(frame: pandas.DataFrame) -> tuple[list | None, list]:
    """Names (None if they are only numbers) and columns of a DataFrame, its index among them."""
    if not hasattr(frame, "iloc"):
        got = type(frame).__name__
        raise CandleError(f"Candles.from_frame: got a {got}, expected a pandas DataFrame")
    named = not all(isinstance(name, (int, np.integer)) for name in frame.columns)
    if frame.index.name is not None or frame.index.inferred_type.startswith("datetime"):
        frame, named = frame.rename_axis(frame.index.name or "start").reset_index(), True
    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    columns = [c.dt.tz_convert(None) if getattr(c.dtype, "tz", None) else c for c in columns]
    return list(frame.columns) if named else None, [column.to_numpy() for column in columns]


def arrange(
    names: list | None, columns: Sequence, function: str, interval: str | int | None, category: str
) -> tuple[dict[str, np.ndarray], str, list[str]]:
    """Our columns, oldest first, the interval, and notes on what was changed."""
    found = _recognize(names, columns, function)
    start = moments(found.pop("start"), function)
    table = {name: _numbers(column, name, function) for name, column in found.items()}
    notes = []
    missing = np.isnan(table.setdefault("turnover", np.full(len(start), np.nan)))
    if missing.any():
        estimate = table["volume"] * table["close"]
        if category == "inverse":  # counted in coins, as its volume is in dollars
            estimate = table["volume"] / table["close"]
        table["turnover"] = np.where(missing, estimate, table["turnover"])
        notes.append(f"turnover of {missing.sum():,} rows estimated from volume and close")
    order = np.argsort(start, kind="stable")
    table = {"start": start[order]} | {name: column[order] for name, column in table.items()}
    repeated = np.zeros(len(start), bool)
    repeated[1:] = np.all([np.diff(column) == 0 for column in table.values()], axis=0)
    if repeated.any():
        notes.append(f"{repeated.sum():,} repeated rows dropped")
    table = {name: column[~repeated] for name, column in table.items()}
    if interval is None:
        return table, infer_interval(table["start"], function), notes
    return table, check_interval(interval), notes


def _recognize(names: list | None, columns: Sequence, function: str) -> dict[str, Any]:
    """The columns by our names; without names they stand in our order, turnover last or absent."""
    if names is None:
        if len(columns) not in (6, 7):
            came = f"{len(columns)} columns without names"
            raise CandleError(f"{function}: {came}; expected 6 or 7: {', '.join(COLUMNS)}")
        return dict(zip(COLUMNS, columns, strict=False))
    plain = [re.sub(r"price|[^a-z]", "", str(name).lower()) for name in names]
    places = {ours: [plain.index(a) for a in known if a in plain] for ours, known in NAMES.items()}
    found = {ours: columns[place[0]] for ours, place in places.items() if place}
    lacking = [name for name in COLUMNS[:-1] if name not in found]
    if lacking:
        among = f"no column for {', '.join(lacking)} among {', '.join(map(str, names))}"
        raise CandleError(f"{function}: {among}; rename them (a time: start, timestamp or date)")
    return found


def _numbers(column: Sequence, name: str, function: str) -> np.ndarray:
    """A column as float64; empty cells of turnover are NaN, anything else names its row."""
    try:
        return np.array(column, np.float64)
    except (TypeError, ValueError):
        pass
    values = np.full(len(column), np.nan)
    for i, cell in enumerate(column):
        try:
            values[i] = float(cell)
        except (TypeError, ValueError):
            if name != "turnover" or str(cell).strip() not in ("", "None", "<NA>"):
                what = f"{name} of row {i} is {cell!r:.40}"
                raise CandleError(f"{function}: {what}; expected a number") from None
    return values
