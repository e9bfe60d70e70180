"""One sweep for all: any grid of settings over trained models, measured into one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

from quantlab.error import snr_db
from quantlab.nn.evaluate import agreement, block_interval, decisions, paired_interval
from quantlab.nn.layers import check_rows
from quantlab.nn.model import TradingModel, check_labels
from quantlab.nn.ptq import Observer, post_training_quantize, static_grids
from quantlab.nn.table import Table
from quantlab.scheme import QuantizationScheme

CHUNK = 48  # settings in one task of joblib
SETTINGS = ("bits", "activation_bits", "scheme", "granularity", "method")


def sweep(
    models: TradingModel | Sequence[TradingModel],
    x: np.ndarray,
    y: np.ndarray,
    *,
    bits: Any = 8,
    activation_bits: Any = None,
    scheme: Any = "symmetric",
    granularity: Any = "channel",
    method: Any = "minmax",
    days: np.ndarray | None = None,
    calibration: Any = None,
    dynamic: bool = False,
    activation_method: str = "minmax",
    n_jobs: int | None = None,
    progress: Callable[..., Iterable] | None = None,
) -> Table:
    """Quantize trained models at every combination of settings and measure each on (x, y).

    models: one, or one per training seed, of the same sizes. x (n, n_0), y (n,) labels, days (n,)
    labels of blocks for the intervals (None: no intervals, NaN). Each of the five settings is one
    value or a list of values: bits 1-16, None (float32) or a tuple with one per layer;
    activation_bits 1-16 or None; scheme "symmetric", "asymmetric"; granularity "tensor",
    "channel", or a number of inputs that share a scale; method as in `choose_params`. The rest is
    for `post_training_quantize`; calibration is needed where activations are quantized. In the
    table None reads "float32".

    Columns, means over the models: snr_db of the logits, agreement and accuracy in percent,
    change of accuracy in points against the same models in float32, each of the last two with
    the ends of its 95 % interval over days and seeds (_low, _high); worst_seed, the change of
    the model that loses most; bytes of one model; saturation (largest of a layer, 0 to 1).

    With joblib installed, n_jobs=2 uses two processes, and inside
    `joblib.parallel_config(backend="dask")` the same call runs on a cluster. `progress` wraps the
    finished tasks, as tqdm does: progress(tasks, total=...).
    Raises ValueError for names, labels and shapes that do not fit, and what quantizing raises.
    Taught in chapter 10.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((400, 2))
    >>> model, y = TradingModel((2, 8, 1), seed=1), x[:, 0] > 0
    >>> table = sweep(model, x, y, bits=[8, 4], scheme=["symmetric", "asymmetric"])
    >>> len(table), table.where(bits=8)["bytes"].tolist()
    (4, [96, 105])
    """
    me = "sweep"
    models = [models] if isinstance(models, TradingModel) else list(models)
    if not models or not all(isinstance(m, TradingModel) for m in models):
        raise ValueError(f"{me}: models is {models}; expected one or more TradingModels")
    sizes = models[0].sizes
    if any(m.sizes != sizes for m in models):
        raise ValueError(f"{me}: models have sizes {[m.sizes for m in models]}; expected the same")
    x = check_rows(f"{me}: x", x, sizes[0])
    y = check_labels(me, y, len(x), sizes[-1])
    if hasattr(calibration, "__next__"):
        calibration = list(calibration)  # pieces that every model and setting reads again
    if len(models) > 1 and isinstance(calibration, list) and isinstance(calibration[0], Observer):
        raise ValueError(f"{me}: observers belong to one model; give calibration rows or pieces")
    axes = [_listed(v) for v in (bits, activation_bits, scheme, granularity, method)]
    settings = list(product(*axes))
    calls = [
        _arguments(*setting) | {"activation_method": activation_method, "dynamic": dynamic}
        for setting in settings
    ]
    if not calls:
        raise ValueError(f"{me}: a setting is an empty list; expected one value or more")
    exact = [m.predict_logits(x) for m in models]
    # settings of one width of the inputs follow each other: a task calibrates them once
    order = sorted(range(len(calls)), key=lambda i: calls[i]["activation_bits"] or 0)
    place = np.argsort(order)
    chunks = [[calls[i] for i in order[k : k + CHUNK]] for k in range(0, len(calls), CHUNK)]
    tasks = [
        (model, chunk, x, z, calibration)
        for model, z in zip(models, exact, strict=True)
        for chunk in chunks
    ]
    done = _run(tasks, n_jobs)
    done = done if progress is None else progress(done, total=len(tasks))
    parts = [found for chunk in done for found in chunk]  # model by model, in that order
    right = np.stack([decisions(z) == y for z in exact])  # (models, n)
    rows = []
    for i, setting in enumerate(settings):
        of_models = parts[place[i] :: len(settings)]
        numbers = np.mean([found[:3] for found in of_models], axis=0)
        mine = np.stack([found[4] for found in of_models]) == y
        rows.append(
            {k: "float32" if v is None else v for k, v in zip(SETTINGS, setting, strict=True)}
            | dict(zip(("snr_db", "agreement", "saturation"), map(float, numbers), strict=True))
            | _with_intervals(mine, right, days)
            | {"bytes": of_models[0][3]}
        )
    return Table.from_rows(rows, SETTINGS)


def _listed(value: Any) -> list:
    """One value as a list of one; a tuple is one value, bits per layer."""
    several = isinstance(value, (list, range, np.ndarray))
    return [v.item() if isinstance(v, np.generic) else v for v in (value if several else [value])]


def _arguments(bits: Any, activation_bits: Any, scheme: str, granularity: Any, method: str) -> dict:
    """Return the keywords of `post_training_quantize` for one setting."""
    if scheme not in ("symmetric", "asymmetric"):
        raise ValueError(f"sweep: scheme is {scheme!r}; expected 'symmetric' or 'asymmetric'")
    group = granularity if isinstance(granularity, int) else None
    if group is None and granularity not in ("tensor", "channel"):
        raise ValueError(
            f"sweep: granularity is {granularity!r}; expected 'tensor', 'channel' or the number "
            "of inputs that share a scale"
        )
    kind = "TENSOR" if granularity == "tensor" else "CHANNEL"
    return {
        "weight_bits": bits,
        "activation_bits": activation_bits,
        "scheme": QuantizationScheme[f"{scheme.upper()}_PER_{kind}"],
        "method": method,
        "block_size": group,
    }


def _run(tasks: list[tuple], n_jobs: int | None) -> Iterable:
    """Results of the tasks in their order: by joblib if it is installed, else one by one."""
    try:
        import joblib
    except ImportError:
        if n_jobs not in (None, 1):
            raise ValueError(
                f"sweep: n_jobs is {n_jobs}, which needs joblib (pip install joblib); or leave it"
            ) from None
        return (_measured(*task) for task in tasks)
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    return parallel(joblib.delayed(_measured)(*task) for task in tasks)


def _measured(
    model: TradingModel, calls: list[dict], x: np.ndarray, exact: np.ndarray, calibration: Any
) -> list[tuple]:
    """(SNR, agreement, saturation, bytes, decisions) of one model at some settings."""
    found, grids = [], {}
    for call in calls:
        bits = call["activation_bits"]
        if bits not in grids:
            grids[bits] = calibration
            if bits is not None and not call["dynamic"]:
                grids[bits] = static_grids(model, calibration, bits, call["activation_method"])
        quantized = post_training_quantize(model, grids[bits], **call)
        logits, saturation = quantized.logits_and_saturation(x)
        measures = snr_db(exact, logits), agreement(exact, logits), saturation
        found.append((*measures, quantized.nbytes, decisions(logits)))
    return found


def _with_intervals(mine: np.ndarray, exact: np.ndarray, days: np.ndarray | None) -> dict:
    """Accuracy and its change, (models, n) each, with the ends of their intervals."""
    by_seed = 100 * (mine.mean(axis=1) - exact.mean(axis=1))
    if days is None:
        level, change = (100 * mine.mean(), np.nan, np.nan), (by_seed.mean(), np.nan, np.nan)
    else:
        level, change = block_interval(mine, days), paired_interval(mine, exact, days)
    ends = ("", "_low", "_high")
    return (
        {f"accuracy{end}": float(v) for end, v in zip(ends, level, strict=True)}
        | {f"change{end}": float(v) for end, v in zip(ends, change, strict=True)}
        | {"worst_seed": float(by_seed.min())}
    )
