"""Post-training quantization: from a trained float model to one that lives on grids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from quantlab.calibration import choose_params
from quantlab.error import saturation_rate, snr_db
from quantlab.nn.base import Model
from quantlab.nn.compiled import compile_layers
from quantlab.nn.layers import LinearLayer, QuantizedLinearLayer, check_rows
from quantlab.nn.model import TradingModel
from quantlab.observers import HistogramObserver, MinMaxObserver
from quantlab.scheme import QuantizationParams, QuantizationScheme
from quantlab.tensor import QuantizedTensor, quantize

Observer = MinMaxObserver | HistogramObserver


def weight_params(
    weight: np.ndarray,
    scheme: QuantizationScheme,
    bits: int,
    method: str = "minmax",
    block_size: int | None = None,
) -> QuantizationParams:
    """Return the grid of one weight matrix (out, in).

    Channels are the outputs (axis 0). Blocks run along the inputs of each output (axis 1);
    a layer with fewer inputs than block_size takes its whole row as one block.
    """
    if block_size is None:
        return choose_params(weight, scheme, bits, method=method, axis=0)
    block = min(block_size, weight.shape[1])
    return choose_params(weight, scheme, bits, method=method, axis=1, block_size=block)


def activation_params(
    x: np.ndarray | Observer | QuantizationParams, bits: int, method: str = "minmax"
) -> QuantizationParams:
    """Return the unsigned, asymmetric, per-tensor grid of a layer's inputs.

    x: the inputs (rows, in), an observer that has seen them, or the grid that was made of them.
    """
    scheme = QuantizationScheme.ASYMMETRIC_PER_TENSOR
    if isinstance(x, QuantizationParams):
        return x
    if isinstance(x, Observer):
        return x.params(scheme, bits, method=method, signed=False)
    return choose_params(x, scheme, bits, method=method, signed=False)


def observe(model: Model, pieces: Iterable[np.ndarray], method: str = "minmax") -> list[Observer]:
    """Return one observer per layer that has seen the inputs of that layer, piece by piece.

    pieces: rows (n_i, n_0) that arrive one after another; they need not fit in memory together.
    "minmax" keeps ranges (exact); other methods keep histograms. Taught in chapter 10.

    >>> x = np.random.default_rng(0).standard_normal((300, 2))
    >>> observers = observe(TradingModel((2, 4, 1)), np.array_split(x, 3))
    >>> [o.count for o in observers], bool(observers[0].low == np.float32(x.min()))
    ([600, 1200], True)
    """
    make = MinMaxObserver if method == "minmax" else HistogramObserver
    observers: list[Observer] = [make() for _ in model.layers]
    for piece in pieces:
        for observer, inputs in zip(observers, model.activations(piece), strict=True):
            observer.update(inputs)
    return observers


class QuantizedModel(Model):
    """A TradingModel whose layers lie on integer grids; it predicts like the original.

    `layers` are QuantizedLinearLayer, BinaryLinearLayer, or LinearLayer where one stayed in
    float32; `reference` is the float model it came from, kept for `layer_report` and not counted
    in `nbytes` (None in a loaded model). `history` is filled by training, else empty.
    Taught in chapter 10.
    """

    def __init__(
        self,
        layers: Sequence[Any],
        reference: TradingModel | None = None,
        history: dict[str, list[float]] | None = None,
    ) -> None:
        self.layers = list(layers)
        self.reference = reference
        self.history = history or {}

    def __repr__(self) -> str:
        bits = "-".join(str(layer.weight_bits) for layer in self.layers)
        return f"QuantizedModel({self.sizes}, weight bits {bits}, {self.nbytes} bytes)"

    def compile(self) -> Callable[[np.ndarray], Any]:
        """Return predict(x) for one sample: codes and grids, frozen in one compiled function.

        x float32 (n_0,); the result is the logit, or float32 (k,). A call of a small network
        takes a quarter of a microsecond from Python, integers all the way. Details: `nn.compiled`.
        Raises ValueError for layers that cannot be frozen. Taught in chapter 12.

        >>> model = TradingModel((2, 8, 1), seed=1)
        >>> rows = np.random.default_rng(0).standard_normal((100, 2))
        >>> quantized = post_training_quantize(model, rows)
        >>> predict, x = quantized.compile(), np.float32([[0.5, -1.0]])
        >>> bool(abs(predict(x[0]) - quantized.predict_logits(x)[0]) < 1e-5)
        True
        """
        return compile_layers(self.layers)

    def layer_report(self, x: np.ndarray) -> list[dict]:
        """Return one dict per layer on rows x: what rounding its weights and inputs did.

        Keys: layer (number), shape (out, in), weight_bits, activation_bits (None: float32),
        weight_snr_db (stored weights against the reference's), activation_snr_db (this layer's
        inputs on their grid against the same inputs before it: what quantizing activations costs
        here), output_snr_db (this layer's output in the quantized model against the same in the
        reference, so errors of earlier layers are in it), saturation (share of inputs beyond the
        activation grid, 0 to 1), bytes. Raises ValueError without a reference.

        >>> model = TradingModel((2, 4, 1), seed=3)
        >>> x = np.random.default_rng(0).standard_normal((100, 2))
        >>> report = post_training_quantize(model, x, weight_bits=4).layer_report(x)
        >>> [(row["layer"], row["shape"], row["bytes"]) for row in report]
        [(0, (4, 2), 41), (1, (1, 4), 15)]
        """
        if self.reference is None:
            raise ValueError(
                "layer_report: the model has no float reference to compare with (a file does not "
                "hold one); set model.reference to the TradingModel that it was made from"
            )
        inputs, outputs = self._forward(x, "layer_report")
        _, wanted = self.reference._forward(x, "layer_report")
        rows = zip(self.layers, self.reference.layers, inputs, outputs, wanted, strict=True)
        return [
            {
                "layer": i,
                "shape": layer.shape,
                "weight_bits": layer.weight_bits,
                "activation_bits": layer.activation.bits if layer.activation else None,
                "weight_snr_db": snr_db(original.weight, layer.values),
                "activation_snr_db": snr_db(given, layer.on_grid(given)),
                "output_snr_db": snr_db(aim, got),
                "saturation": _saturation(layer, given),
                "bytes": layer.nbytes,
            }
            for i, (layer, original, given, got, aim) in enumerate(rows)
        ]

    def saturation(self, x: np.ndarray) -> float:
        """Return the largest share of a layer's inputs beyond its static grid, 0 to 1.

        The alarm of a live model: rows unlike those it was calibrated on. Taught in chapter 10.
        """
        return self.logits_and_saturation(x)[1]

    def logits_and_saturation(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """Return `predict_logits(x)` and `saturation(x)` of one forward pass."""
        inputs, outputs = self._forward(x, "predict_logits")
        share = max(_saturation(layer, a) for layer, a in zip(self.layers, inputs, strict=True))
        return self._logits(outputs), share


def _saturation(layer: Any, inputs: np.ndarray) -> float:
    static = layer.activation is not None and not layer.dynamic
    return float(saturation_rate(inputs, layer.activation)) if static else 0.0


def post_training_quantize(
    model: TradingModel,
    calibration: np.ndarray | Iterable[np.ndarray] | Sequence[Observer] | None,
    weight_bits: int | Sequence[int | None] = 8,
    activation_bits: int | None = 8,
    scheme: QuantizationScheme = QuantizationScheme.SYMMETRIC_PER_CHANNEL,
    dynamic: bool = False,
    *,
    method: str = "minmax",
    activation_method: str = "minmax",
    block_size: int | None = None,
) -> QuantizedModel:
    """Quantize a trained model without training it again.

    Weights get the grid that `scheme`, `method` and `block_size` choose, at weight_bits (one
    number, or one per layer; 1 is binary, None leaves a layer and its inputs in float32);
    biases stay float32. Layer inputs get an unsigned, asymmetric, per-tensor grid at
    activation_bits. Its range is measured by `activation_method` on the float model's own inputs
    over `calibration`: rows (n, n_0), an iterable of such pieces (streamed: they need not fit in
    memory), or what `observe` returned. With `dynamic` every row has a grid of its own.
    activation_bits=None quantizes weights only; then, and with dynamic, calibration may be None.

    Raises ValueError if calibration rows are missing or have another width than the model,
    or weight_bits does not fit the layers; and what `choose_params` raises.
    Source: Krishnamoorthi 2018 (arXiv 1806.08342), section 3. Taught in chapter 10.

    >>> model = TradingModel((2, 8, 1), seed=1)
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> quantized = post_training_quantize(model, x, weight_bits=8)
    >>> error = np.abs(quantized.predict_logits(x) - model.predict_logits(x)).max()
    >>> bool(error < 0.05), model.nbytes, quantized.nbytes
    (True, 132, 106)
    """
    if not isinstance(model, TradingModel):
        raise ValueError(
            f"post_training_quantize: model is a {type(model).__name__}; "
            "expected a TradingModel with float layers"
        )
    bits = _bits_per_layer(weight_bits, len(model.layers))
    grids: list[QuantizationParams | None] = [None] * len(model.layers)
    if dynamic and activation_bits is not None:
        grids = [QuantizationParams(1.0, 0, activation_bits, signed=False)] * len(model.layers)
    elif activation_bits is not None:
        grids = [*static_grids(model, calibration, activation_bits, activation_method)]
    layers = [
        LinearLayer(layer.weight.copy(), layer.bias.copy())
        if b is None
        else quantize_layer(
            layer,
            weight_params(layer.weight, scheme, b, method, block_size),
            grid,
            dynamic and grid is not None,
        )
        for layer, b, grid in zip(model.layers, bits, grids, strict=True)
    ]
    return QuantizedModel(layers, model.copy())


def static_grids(
    model: TradingModel, calibration: Any, bits: int, method: str = "minmax"
) -> list[QuantizationParams]:
    """Return one grid per layer for its inputs: what `post_training_quantize` calibrates."""
    return [activation_params(a, bits, method) for a in _calibrated(model, calibration, method)]


def _calibrated(model: TradingModel, calibration: Any, method: str) -> Sequence[Any]:
    """Return what each layer's grid is measured on: its inputs, an observer, or a grid already."""
    where = "post_training_quantize: calibration"
    if calibration is None:
        raise ValueError(
            f"{where} is None; static activation grids need rows "
            "to measure ranges on (or dynamic=True, or activation_bits=None)"
        )
    listed = isinstance(calibration, (list, tuple)) and len(calibration) > 0
    if listed and isinstance(calibration[0], Observer | QuantizationParams):
        if len(calibration) != len(model.layers):
            raise ValueError(
                f"{where} holds {len(calibration)} observers for {len(model.layers)} layers; "
                "expected one per layer, as observe(model, pieces) makes them"
            )
        return calibration
    if hasattr(calibration, "__array__") or (listed and np.ndim(calibration[0]) < 2):
        return model.activations(check_rows(where, calibration, model.sizes[0]))
    if not isinstance(calibration, Iterable):
        raise ValueError(
            f"{where} is a {type(calibration).__name__}; expected rows (n, {model.sizes[0]}), an "
            "iterable of such pieces, or the observers that observe(model, pieces) returns"
        )
    return observe(model, calibration, method)


def quantize_layer(
    layer: LinearLayer,
    params: QuantizationParams,
    activation: QuantizationParams | None,
    dynamic: bool = False,
) -> QuantizedLinearLayer:
    """Return the layer with its weights on the grid `params` and its inputs on `activation`."""
    codes: QuantizedTensor = quantize(layer.weight, params)
    return QuantizedLinearLayer(codes, layer.bias.copy(), activation, dynamic)


def _bits_per_layer(weight_bits: int | Sequence[int | None], layers: int) -> list[int | None]:
    bits = [weight_bits] * layers if np.ndim(weight_bits) == 0 else list(weight_bits)
    if len(bits) != layers:
        raise ValueError(
            f"post_training_quantize: weight_bits has {len(bits)} entries for {layers} layers; "
            "give one number or one per layer"
        )
    return bits
