"""What can be mended after rounding, with rows and without training: biases, ranges, codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from quantlab import _checks
from quantlab.nn.layers import QuantizedLinearLayer, check_rows
from quantlab.nn.model import TradingModel
from quantlab.nn.ptq import QuantizedModel
from quantlab.tensor import QuantizedTensor, quantize


def equalize_layers(model: TradingModel, rounds: int = 20) -> TradingModel:
    """Return a model that answers the same, bit for bit, with ranges of like size between layers.

    A positive factor passes a ReLU: a row of one layer is divided by it, the column of the next
    layer multiplied. The factors even out the largest weight of both; they are powers of two, so
    float32 loses nothing. `rounds` passes over the layers. Raises ValueError for another kind of
    model or rounds below 1. Source: Nagel et al. 2019 (arXiv 1906.04721), section 4.1.
    Taught in chapter 10.

    >>> pairs = [([[8.0], [0.5]], [1.0, 1.0]), ([[0.25, 4.0]], [0.0])]
    >>> equal = equalize_layers(TradingModel.from_arrays(pairs))
    >>> equal.layers[0].weight.ravel().tolist(), equal.layers[1].weight.tolist()
    ([2.0, 2.0], [[1.0, 1.0]])
    """
    me = "equalize_layers"
    if not isinstance(model, TradingModel):
        raise ValueError(f"{me}: model is a {type(model).__name__}; expected a TradingModel")
    equal = model.copy()
    for _ in range(_checks.integer(rounds, me, "rounds", 1, 10**6)):
        for first, second in pairwise(equal.layers):
            out, into = np.abs(first.weight).max(axis=1), np.abs(second.weight).max(axis=0)
            ratio = np.where((out > 0) & (into > 0), out / np.where(into > 0, into, 1), 1)
            factor = np.exp2(np.rint(np.log2(ratio) / 2)).astype(np.float32)
            first.weight /= factor[:, None]
            first.bias /= factor
            second.weight *= factor
    return equal


def correct_bias(quantized: QuantizedModel, calibration: np.ndarray) -> QuantizedModel:
    """Return the model with biases that take the mean error of every output away.

    calibration: rows (n, n_0), no labels. Layer by layer, so that each bias sees the errors of the
    layers before it; codes and grids stay. Raises ValueError for rows that do not fit and a model
    without its float reference. Source: Nagel et al. 2019 (arXiv 1906.04721), section 4.2.
    Taught in chapter 10.

    >>> from quantlab.nn import post_training_quantize
    >>> model, x = TradingModel((2, 8, 1), seed=1), np.random.default_rng(0).random((200, 2))
    >>> mended = correct_bias(post_training_quantize(model, x, weight_bits=3), x)
    >>> round(float((mended.predict_logits(x) - model.predict_logits(x)).mean()), 5) == 0
    True
    """

    def shifted(layer: Any, _original: Any, x: np.ndarray, aim: np.ndarray) -> Any:
        error = (layer._apply(x) - aim).mean(axis=0, dtype=np.float64)
        return replace(layer, bias=(layer.bias - error).astype(np.float32))

    return _layer_by_layer("correct_bias", quantized, calibration, shifted)


def choose_rounding(
    quantized: QuantizedModel, calibration: np.ndarray, damping: float = 0.01
) -> QuantizedModel:
    """Return the model with codes chosen for what its layers put out, on the same grids.

    Each layer aims at the output of the float layer, given the inputs that the quantized layers
    before it deliver. Columns are rounded one after another, and the columns still free, last of
    all the bias, move by least squares to make up for each. calibration: rows (n, n_0), no labels;
    some hundred or more. damping, a share of the mean input power, holds weights where the rows
    say little. Layers that are not on an integer grid stay as they are.
    Raises ValueError as `correct_bias`, and for a damping that is not above 0.
    Source: Frantar et al. 2023 (arXiv 2210.17323), equations (2) and (3).
    Taught in chapter 10.

    >>> from quantlab.nn import post_training_quantize
    >>> rng = np.random.default_rng(0)
    >>> model, x = TradingModel((2, 16, 1), seed=1), rng.standard_normal((500, 2))
    >>> nearest = post_training_quantize(model, x, weight_bits=2)
    >>> exact, chosen = model.predict_logits(x), choose_rounding(nearest, x)
    >>> noise = [((m.predict_logits(x) - exact) ** 2).mean() for m in (nearest, chosen)]
    >>> bool(noise[1] < noise[0] / 3), chosen.nbytes == nearest.nbytes
    (True, True)
    """
    me = "choose_rounding"
    damping = _checks.number(damping, me, "damping")
    if damping <= 0:
        raise ValueError(f"{me}: damping is {damping}; expected a number above 0, such as 0.01")

    def rounded(layer: Any, original: Any, x: np.ndarray, aim: np.ndarray) -> Any:
        if not isinstance(layer, QuantizedLinearLayer):
            return layer
        free = np.column_stack([original.weight, original.bias]).astype(np.float64)  # (out, in + 1)
        a = np.column_stack([layer.on_grid(x), np.ones(len(x))]).astype(np.float64)  # (n, in + 1)
        gram = a.T @ a / len(a)
        inputs = np.arange(len(gram) - 1)
        gram[inputs, inputs] += damping * (gram[inputs, inputs].mean() or 1.0)
        free += np.linalg.solve(gram, a.T @ (aim - a @ free.T) / len(a)).T
        upper = np.linalg.cholesky(np.linalg.inv(gram)).T
        p, codes = layer.weight.params, layer.weight.codes.copy()
        scale, zero_point = p.broadcast(codes.shape)
        for j in inputs:
            grid = replace(
                p, scale=scale[:, j], zero_point=zero_point[:, j], axis=0, block_size=None
            )
            column = quantize(free[:, j], grid)
            codes[:, j] = column.codes
            error = (free[:, j] - column.dequantize()) / upper[j, j]
            free[:, j:] -= np.outer(error, upper[j, j:])
        return replace(layer, weight=QuantizedTensor(codes, p), bias=free[:, -1].astype(np.float32))

    return _layer_by_layer(me, quantized, calibration, rounded)


def _layer_by_layer(
    where: str, quantized: QuantizedModel, calibration: np.ndarray, mend: Callable
) -> QuantizedModel:
    """mend(layer, float layer, inputs it will get, float output) for every layer in turn."""
    if not isinstance(quantized, QuantizedModel) or quantized.reference is None:
        raise ValueError(
            f"{where}: quantized is a {type(quantized).__name__} without a float reference; "
            "expected what post_training_quantize returns"
        )
    reference = quantized.reference
    x = check_rows(f"{where}: calibration", calibration, quantized.sizes[0])
    aims = reference._forward(x, where)[1]
    layers: list[Any] = []
    for layer, original, aim in zip(quantized.layers, reference.layers, aims, strict=True):
        layers.append(mend(layer, original, x, aim))
        x = quantized._between(layers[-1]._apply(x))
    return QuantizedModel(layers, reference.copy())
