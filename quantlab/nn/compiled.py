"""A trained model as one compiled function for one sample, its weights frozen inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from quantlab import kernels
from quantlab.nn.layers import BinaryLinearLayer, LinearLayer, QuantizedLinearLayer


def compile_layers(layers: Sequence[Any]) -> Callable[[np.ndarray], Any]:
    """Return predict(x): logits of one sample, x float32 (n_in,); a float, or float32 (k,).

    The weights are copied and frozen: later changes of the model are not seen. Layers may be of
    any kind and mixed: float32, 8-bit and packed 4-bit weights with inputs on a static unsigned
    grid, binary, and weights only (which run in float32). `predict.rows(x)` takes (n, n_in) and
    runs sample after sample; `predict.nbytes` is the size of the frozen weights. Compiling takes
    about a second. On the paths numba and reference predict runs the layers one by one.
    Raises ValueError for dynamic grids and weights with a zero point.
    """
    for layer in layers:
        _check(layer)
    if kernels.path() not in ("avx2", "avx512"):
        return _one_by_one(list(layers))
    from quantlab.kernels import inference

    weights = inference._Weights()
    plan = [_plan(inference, layer, layer is layers[-1], weights) for layer in layers]
    predict, predict_rows, frozen = inference.network(plan, weights)
    predict.rows = lambda x: predict_rows(np.ascontiguousarray(x, np.float32))
    predict.weights, predict.nbytes = frozen, frozen.nbytes
    return predict


def _check(layer: Any) -> None:
    if not isinstance(layer, QuantizedLinearLayer) or layer.activation is None:
        return
    grid, p = layer.activation, layer.weight.params
    problem = None
    if layer.dynamic:
        problem = "its grid is measured anew on every batch (dynamic=True); calibrate a static one"
    elif grid.signed or grid.bits > 8:
        problem = f"its inputs have {grid.bits} bits, signed={grid.signed}; expected unsigned <= 8"
    elif p.zero_point.any():
        problem = "its weights have a zero point; use a symmetric scheme"
    elif p.bits > 8 or layer.weight.codes.max() > 127:
        problem = f"its weights have {p.bits} bits; expected codes that fit int8"
    elif p.axis is not None and p.axis % 2 != (0 if p.block_size is None else 1):
        problem = (f"its scales lie along axis {p.axis}; expected one per output (axis 0) or "
                   "blocks of its inputs (axis 1)")
    if problem:
        raise ValueError(f"compile: a layer of shape {layer.shape} cannot be compiled: {problem}")


def _plan(inference: Any, layer: Any, last: bool, weights: Any) -> Any:
    if isinstance(layer, BinaryLinearLayer):
        return inference.BinaryLayer(layer.weight.words, layer.weight.alpha, layer._offset,
                                     layer.center, weights)
    if isinstance(layer, LinearLayer) or layer.activation is None:
        weight = layer.weight if isinstance(layer, LinearLayer) else layer._values
        if last and inference.FewOutputs.fits(weight):
            return inference.FewOutputs(weight, None, layer.bias, None, weights)
        return inference.FloatLayer(weight, layer.bias, weights)
    grid, p = layer.activation, layer.weight.params
    codes = np.ascontiguousarray(layer.weight.codes).astype(np.int8)
    step = grid.scale * p.scale  # (), (out,) or (out, groups)
    groups = 1 if p.block_size is None else step.shape[1]
    step = np.broadcast_to(step.reshape(-1, groups), (codes.shape[0], groups))
    bits = 4 if codes.min() >= -8 and codes.max() <= 7 else 8
    where = float(grid.scale), int(grid.zero_point), grid.qmax
    if last and groups == 1 and inference.FewOutputs.fits(codes, where):
        return inference.FewOutputs(codes, step[:, 0], layer.bias, where, weights)
    return inference.IntegerLayer(codes, step, layer.bias, where, bits, weights)


def _one_by_one(layers: list[Any]) -> Callable[[np.ndarray], Any]:
    width = layers[0].shape[1]

    def rows(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        for layer in layers:
            integer = (isinstance(layer, QuantizedLinearLayer) and layer.activation is not None
                       and layer.weight.params.block_size is None)
            x = layer.integer_forward(x) if integer else layer.forward(x)
            x = np.maximum(x, 0) if layer is not layers[-1] else x
        return x

    def predict(x: np.ndarray) -> Any:
        if x.shape != (width,) or x.dtype != np.float32:
            raise ValueError(f"compiled model: x is not float32 of shape ({width},)")
        logits = rows(x[None])[0]
        return float(logits[0]) if logits.size == 1 else logits

    predict.rows, predict.nbytes = rows, sum(layer.nbytes for layer in layers)
    return predict
