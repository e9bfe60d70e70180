"""A trained model as one compiled function for one sample, its weights frozen inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from quantlab import kernels
from quantlab.nn.layers import BinaryLinearLayer, LinearLayer, QuantizedLinearLayer
from quantlab.tensor import quantize

FUSED = 2**18  # weights up to which a network becomes one function, whose length grows with them


def compile_layers(layers: Sequence[Any]) -> Callable[[np.ndarray], Any]:
    """Return predict(x): logits of one sample, x float32 (n_in,); a float, or float32 (k,).

    The weights are copied and frozen: later changes of the model are not seen. Layers may be of
    any kind and mixed: float32, 8-bit and packed 4-bit weights with inputs on a static unsigned
    grid, binary, and weights only (which run in float32). `predict.rows(x)` takes (n, n_in) and
    runs two samples at a time; `predict.nbytes` is the size of the frozen weights. Compiling takes
    about a second. A network of more than FUSED weights is packed, and runs layer by layer
    through the kernels of whole batches; on the paths numba and reference every network does.
    Raises ValueError for dynamic grids and weights with a zero point.
    """
    for layer in layers:
        _check(layer)
    if kernels.path() not in ("avx2", "avx512"):
        return _one_by_one(list(layers))
    if sum(layer.shape[0] * layer.shape[1] for layer in layers) > FUSED:
        return _one_by_one(list(layers), [_packed(layer) for layer in layers])
    from quantlab.kernels import inference

    weights = inference._Weights()
    plan = [_plan(inference, layer, layer is layers[-1], weights) for layer in layers]
    predict, predict_rows = inference.network(plan, weights)

    def rows(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        return predict_rows(x) if len(x) != 1 else predict_rows(np.repeat(x, 2, axis=0))[:1]

    predict.rows, predict.nbytes = rows, predict.weights.nbytes
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
        problem = (
            f"its scales lie along axis {p.axis}; expected one per output (axis 0) or "
            "blocks of its inputs (axis 1)"
        )
    if problem:
        raise ValueError(f"compile: a layer of shape {layer.shape} cannot be compiled: {problem}")


def _plan(inference: Any, layer: Any, last: bool, weights: Any) -> Any:
    if isinstance(layer, BinaryLinearLayer):
        return inference.BinaryLayer(
            layer.weight.words, layer.weight.alpha, layer._offset, layer.center, weights
        )
    if isinstance(layer, LinearLayer) or layer.activation is None:
        weight = layer.weight if isinstance(layer, LinearLayer) else layer._values
        if last and inference.FewOutputs.fits(weight):
            return inference.FewOutputs(weight, None, layer.bias, None, weights)
        return inference.FloatLayer(weight, layer.bias, weights)
    grid, (codes, step) = layer.activation, _step(layer)
    bits = 4 if codes.min() >= -8 and codes.max() <= 7 else 8
    where = float(grid.scale), int(grid.zero_point), grid.qmax
    if last and step.shape[1] == 1 and inference.FewOutputs.fits(codes, where):
        return inference.FewOutputs(codes, step[:, 0], layer.bias, where, weights)
    return inference.IntegerLayer(codes, step, layer.bias, where, bits, weights)


def _step(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Codes as int8, and real value of one step of the accumulator, (out, groups)."""
    p = layer.weight.params
    step = layer.activation.scale * p.scale  # (), (out,) or (out, groups)
    groups = 1 if p.block_size is None else step.shape[1]
    codes = np.ascontiguousarray(layer.weight.codes).astype(np.int8)
    return codes, np.broadcast_to(step.reshape(-1, groups), (codes.shape[0], groups))


def _plain(layer: Any) -> Callable[[np.ndarray], np.ndarray]:
    integer = (
        isinstance(layer, QuantizedLinearLayer)
        and layer.activation is not None
        and layer.weight.params.block_size is None
    )
    return layer.integer_forward if integer else layer.forward


def _packed(layer: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The layer as a function of rows, its weights packed once."""
    if not isinstance(layer, QuantizedLinearLayer) or layer.activation is None:
        return layer.forward
    from quantlab.kernels import gemm, int4

    (codes, step), grid, bias = _step(layer), layer.activation, layer.bias
    zero, (outputs, groups) = int(grid.zero_point), step.shape
    if codes.min() >= -8 and codes.max() <= 7:
        weights = int4.pack(codes, step)
        return lambda x: (
            int4.multiply(
                *int4.pack_inputs(quantize(x, grid).codes, groups), zero, *weights, outputs
            )
            + bias
        )
    if groups > 1:
        return layer.forward
    panels, sums = gemm.pack_panels(codes)
    start, scale = np.int32(-zero) * sums, step[:, 0].copy()

    def forward(x: np.ndarray) -> np.ndarray:
        out = np.empty((x.shape[0], outputs), np.int32)
        sums = gemm.multiply(*gemm.prepare(quantize(x, grid).codes), panels, start, out)
        return sums.astype(np.float32) * scale + bias

    return forward


def _one_by_one(layers: list[Any], steps: list[Any] | None = None) -> Callable[[np.ndarray], Any]:
    width, steps = layers[0].shape[1], steps or [_plain(layer) for layer in layers]

    def rows(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        if x.shape[0] == 0:  # no sample, no logits; the layers refuse empty arrays
            return np.empty((0, layers[-1].shape[0]), np.float32)
        for step in steps[:-1]:
            x = np.maximum(step(x), 0)
        return steps[-1](x)

    def predict(x: np.ndarray) -> Any:
        if x.shape != (width,) or x.dtype != np.float32:
            raise ValueError(f"compiled model: x is not float32 of shape ({width},)")
        logits = rows(x[None])[0]
        return float(logits[0]) if logits.size == 1 else logits

    predict.rows, predict.nbytes = rows, sum(layer.nbytes for layer in layers)
    return predict
