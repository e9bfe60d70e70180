"""A tidy table: one row per setting, columns by name. Small, so that pandas stays optional."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


class Table:
    """Columns of one length; the first `settings` say what was set, the others what came out.

    `table["bits"]` is a column (NumPy array), iteration gives a dict per row, `where(bits=4)` the
    rows that match, `+` stacks tables, `to_frame()` is a pandas DataFrame, and
    `GridExplorer.from_table` takes it as it is. Taught in chapter 10.

    >>> t = Table({"bits": [2, 4], "snr_db": [7.0, 18.0]}, settings=["bits"])
    >>> t["snr_db"].tolist(), t.where(bits=4).rows
    ([7.0, 18.0], [{'bits': 4, 'snr_db': 18.0}])
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], settings: Sequence[str] = ()) -> None:
        self.columns = {name: list(values) for name, values in columns.items()}
        self.settings = list(settings)
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1 or not set(self.settings) <= set(lengths):
            raise ValueError(
                f"Table: columns have lengths {lengths}, settings are {self.settings}; expected "
                "one length, and settings among the columns"
            )

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]], settings: Sequence[str] = ()) -> Table:
        """A table from dicts with the same keys."""
        names = rows[0] if rows else ()
        return cls({name: [row[name] for row in rows] for name in names}, settings)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict per row."""
        parts = zip(*self.columns.values(), strict=True)
        return [dict(zip(self.columns, part, strict=True)) for part in parts]

    @property
    def varying(self) -> list[str]:
        """The settings with more than one value: the dimensions of an explorer."""
        return [s for s in self.settings if len(set(self.columns[s])) > 1]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise ValueError(f"Table: no column {name!r}; it has {', '.join(self.columns)}")
        values = self.columns[name]
        if _numbers(values) or all(isinstance(v, str) for v in values):
            return np.array(values)
        column = np.empty(len(values), object)  # None, tuples and mixtures stay as they are
        column[:] = values
        return column

    def where(self, **equal: Any) -> Table:
        """Return the rows in which every named column has the given value."""
        for name in equal:
            self[name]
        rows = [row for row in self if all(row[name] == v for name, v in equal.items())]
        names = self.columns
        return Table({name: [row[name] for row in rows] for name in names}, self.settings)

    def with_settings(self, **values: Any) -> Table:
        """Return the table with further settings in front, the same in every row."""
        added = {name: [value] * len(self) for name, value in values.items()}
        return Table(added | self.columns, [*values, *self.settings])

    def __add__(self, other: Table) -> Table:
        if list(self.columns) != list(other.columns):
            raise ValueError(
                f"Table: columns {list(self.columns)} and {list(other.columns)} differ; "
                "stack tables of the same columns"
            )
        return Table({k: [*v, *other.columns[k]] for k, v in self.columns.items()}, self.settings)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame (pandas must be installed)."""
        import pandas

        return pandas.DataFrame(self.columns)

    def __repr__(self) -> str:
        cells = [list(self.columns), *([_show(v) for v in row.values()] for row in self)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
            for line in cells
        )


def _numbers(values: list) -> bool:
    return all(isinstance(v, (int, float, np.number)) for v in values)


def _show(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
