"""Bits per layer: which layer suffers, and the best split of a byte budget."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from quantlab.nn.model import TradingModel
from quantlab.nn.sweeps import sweep
from quantlab.nn.table import Table

WIDTHS = (2, 3, 4, 6, 8)


def sensitivity(
    models: TradingModel | Sequence[TradingModel],
    x: np.ndarray,
    y: np.ndarray,
    *,
    bits: Sequence[int] = WIDTHS,
    **options: Any,
) -> Table:
    """Quantize one layer at a time, the others left in float32, and measure the whole model.

    Columns: layer, bits, then those of `sweep`, whose options are taken (days, calibration with
    activation_bits, scheme, ...). Source: Dong et al. 2019 (arXiv 1905.03696) asks the same by
    Hessians; here it is measured. Taught in chapter 10.

    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> t = sensitivity(TradingModel((2, 8, 1), seed=1), x, x[:, 0] > 0, bits=[2, 8])
    >>> t["layer"].tolist(), bool((t.where(bits=8)["snr_db"] > t.where(bits=2)["snr_db"]).all())
    ([0, 0, 1, 1], True)
    """
    first = models if isinstance(models, TradingModel) else models[0]
    layers = range(len(first.layers))
    single = [(i, b) for i in layers for b in bits]
    found = sweep(
        models,
        x,
        y,
        bits=[tuple(b if j == i else None for j in layers) for i, b in single],
        **options,
    )
    columns = {"layer": [i for i, _ in single], "bits": [b for _, b in single]}
    return Table(
        columns | {k: v for k, v in found.columns.items() if k != "bits"},
        ["layer", *found.settings],
    )


def mixed_precision(
    models: TradingModel | Sequence[TradingModel],
    x: np.ndarray,
    y: np.ndarray,
    *,
    bits: Sequence[int] = WIDTHS,
    exhaustive: int = 1000,
    **options: Any,
) -> Table:
    """Return the Pareto front of bits per layer: for each size in bytes the highest SNR.

    Rows as in `sweep`, smallest first, with bits a tuple per layer; every row is measured. If all
    combinations of `bits` over the layers number at most `exhaustive`, all are measured and the
    front is exact. Otherwise the noise that each layer adds alone is taken to add up, the front
    of that model is found by dynamic programming, and its members are measured.
    Source: the additive model as in Wang et al. 2019 (arXiv 1811.08886) and HAWQ
    (arXiv 1911.03852). Taught in chapter 10.

    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> front = mixed_precision(TradingModel((2, 8, 1), seed=1), x, x[:, 0] > 0, bits=[2, 4, 8])
    >>> front["bits"][-1], bool((np.diff(front["snr_db"]) > 0).all())
    ((8, 8), True)
    """
    first = models if isinstance(models, TradingModel) else models[0]
    layers = len(first.layers)
    if len(bits) ** layers <= exhaustive:
        candidates = list(product(bits, repeat=layers))
    else:
        alone = sensitivity(
            models, x, y, bits=bits, **{k: v for k, v in options.items() if k != "days"}
        )
        candidates = _additive_front(alone, first.nbytes, exhaustive)
    measured = sweep(models, x, y, bits=candidates, **options)
    keep = _front(measured["bytes"], -measured["snr_db"])
    rows = measured.rows
    return Table.from_rows([rows[i] for i in keep], measured.settings)


def within(front: Table, budget: int) -> dict[str, Any]:
    """Return the row of a front with the highest SNR that fits `budget` bytes.

    Its "bits" is what `post_training_quantize(weight_bits=...)` takes.
    Raises ValueError if nothing fits. Taught in chapter 10.
    """
    rows = [row for row in front if row["bytes"] <= budget]
    if not rows:
        raise ValueError(
            f"within: budget is {budget} bytes; the smallest model of the front takes "
            f"{front['bytes'].min()}"
        )
    return max(rows, key=lambda row: row["snr_db"])


def _front(size: np.ndarray, cost: np.ndarray) -> list[int]:
    """Indices of the points that no other beats in both, by growing size."""
    keep, least = [], np.inf
    for i in np.lexsort((cost, size)):
        if cost[i] < least:
            keep.append(int(i))
            least = cost[i]
    return keep


def _additive_front(alone: Table, total: int, most: int) -> list[tuple[int, ...]]:
    """Bits per layer on the front of summed bytes and noise, layer by layer."""
    points = [(0, 0.0, ())]  # bytes saved (negative), noise / signal, bits so far
    for layer in sorted(set(alone.columns["layer"])):
        own = [
            (row["bytes"] - total, 10 ** (-row["snr_db"] / 10), row["bits"])
            for row in alone.where(layer=layer)
        ]
        points = [(s + t, n + e, (*b, c)) for s, n, b in points for t, e, c in own]
        keep = _front(*(np.array([p[k] for p in points]) for k in (0, 1)))
        if len(keep) > most:
            keep = [keep[i] for i in np.linspace(0, len(keep) - 1, most).astype(int)]
        points = [points[i] for i in keep]
    return [b for _, _, b in points]
