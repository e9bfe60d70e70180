"""A trained model as one compiled function for one sample, its weights frozen inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from quantlab import kernels
from quantlab.integer import check_room, largest_code, pack_weights
from quantlab.nn.layers import BinaryLinearLayer, LinearLayer, QuantizedLinearLayer
from quantlab.tensor import quantize

# Weights, and inputs of a layer, up to which a network becomes one function: it is written out
# register by register, and LLVM's time grows faster than its length
FUSED, WIDEST = 2**18, 1024


def compile_layers(layers: Sequence[Any]) -> Callable[[np.ndarray], Any]:
    """Return predict(x): logits of one sample, x float32 (n_in,); a float, or float32 (k,).

    The weights are copied and frozen: later changes of the model are not seen. Layers may be of
    any kind and mixed: float32, 8-bit and 4-bit weights with inputs on a static unsigned grid,
    binary, and weights only (which run in float32). `predict.rows(x)` takes (n, n_in) and returns
    what `predict_logits` does, (n,) or (n, k); `predict.nbytes` is the size of the frozen weights.
    With vector instructions a network of up to FUSED weights and WIDEST inputs a layer, without
    blocks or signs, becomes one function, which takes about a second to compile. Others run layer
    by layer, their weights packed. Raises ValueError for dynamic grids, weights with a zero
    point, and layers so wide that an int32 accumulator could overflow; predict does for values
    that are not finite.
    """
    for layer in layers:
        _check(layer)
    if not _fits(layers):
        return _one_by_one(list(layers))
    from quantlab.kernels.vector.network import network

    predict, predict_rows = network([_frozen(layer) for layer in layers])

    def rows(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        many = predict_rows(x) if len(x) != 1 else predict_rows(np.repeat(x, 2, axis=0))[:1]
        return many[:, 0] if many.shape[1] == 1 else many

    predict.rows, predict.nbytes = rows, predict.weights.nbytes
    return predict


def _fits(layers: Sequence[Any]) -> bool:
    """Whether a network becomes one function: vector instructions, few and plain weights."""
    return (
        kernels.path() in ("avx2", "avx512")
        and sum(layer.shape[0] * layer.shape[1] for layer in layers) <= FUSED
        and max(max(layer.shape) for layer in layers) <= WIDEST
        and not any(isinstance(layer, BinaryLinearLayer) or _blocked(layer) for layer in layers)
    )


def _integers(layer: Any) -> bool:
    return isinstance(layer, QuantizedLinearLayer) and layer.activation is not None


def _blocked(layer: Any) -> bool:
    return _integers(layer) and layer.weight.params.block_size is not None


def _check(layer: Any) -> None:
    if not _integers(layer):
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
        problem = (
            f"its scales lie along axis {p.axis}; expected one per output (axis 0) or "
            "blocks of its inputs (axis 1)"
        )
    if problem:
        raise ValueError(f"compile: a layer of shape {layer.shape} cannot be compiled: {problem}")
    k = p.block_size or layer.shape[1]
    check_room(grid, largest_code(p), k, f"compile: a layer of shape {layer.shape}")


def _frozen(layer: Any) -> Any:
    from quantlab.kernels.vector.network import Layer

    if not _integers(layer):
        weight = layer.weight if isinstance(layer, LinearLayer) else layer._values
        return Layer(weight, layer.bias)
    grid, codes = layer.activation, layer.weight.codes.astype(np.int8)
    ends = float(grid.scale), int(grid.zero_point), grid.qmax
    return Layer(codes, layer.bias, ends, grid.scale * layer.weight.params.scale)


def _step(layer: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The layer as a function of rows, its weights copied and packed."""
    if not _integers(layer):
        return deepcopy(layer).forward
    packed, grid, bias = pack_weights(layer.weight.T), layer.activation, layer.bias.copy()
    return lambda x: packed.product(quantize(x, grid)) + bias


def _one_by_one(layers: list[Any]) -> Callable[[np.ndarray], Any]:
    (outputs, _), width = layers[-1].shape, layers[0].shape[1]
    *steps, last = [_step(layer) for layer in layers]

    def rows(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        if x.shape[0] == 0:  # no sample, no logits; the layers refuse empty arrays
            return np.empty(0 if outputs == 1 else (0, outputs), np.float32)
        for step in steps:
            x = np.maximum(step(x), 0)
        return last(x)[:, 0] if outputs == 1 else last(x)

    def predict(x: np.ndarray) -> Any:
        if x.shape != (width,) or x.dtype != np.float32:
            raise ValueError(f"compiled model: x is not float32 of shape ({width},)")
        logits = rows(x[None])[0]
        return float(logits) if outputs == 1 else logits

    predict.rows, predict.nbytes = rows, sum(layer.nbytes for layer in layers)
    return predict
