"""Post-training quantization: from a trained float model to one that lives on grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from quantlab.calibration import choose_params
from quantlab.error import saturation_rate, snr_db
from quantlab.nn.compiled import compile_layers
from quantlab.nn.evaluate import decisions
from quantlab.nn.layers import BinaryLinearLayer, LinearLayer, QuantizedLinearLayer, check_rows
from quantlab.nn.model import TradingModel
from quantlab.scheme import QuantizationParams, QuantizationScheme
from quantlab.tensor import QuantizedTensor, quantize


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


def activation_params(x: np.ndarray, bits: int, method: str = "minmax") -> QuantizationParams:
    """Return the unsigned, asymmetric, per-tensor grid of a layer's inputs x (rows, in)."""
    scheme = QuantizationScheme.ASYMMETRIC_PER_TENSOR
    return choose_params(x, scheme, bits, method=method, signed=False)


class QuantizedModel:
    """A TradingModel whose layers lie on integer grids; it predicts like the original.

    `layers` are QuantizedLinearLayer or BinaryLinearLayer; `reference` is the float model it
    came from, kept for `layer_report` and not counted in `nbytes`. `history` is filled by
    training, else empty.
    Taught in chapter 10.
    """

    def __init__(
        self,
        layers: Sequence[QuantizedLinearLayer | BinaryLinearLayer],
        reference: TradingModel,
        history: dict[str, list[float]] | None = None,
    ) -> None:
        self.layers = list(layers)
        self.reference = reference
        self.history = history or {}

    def __repr__(self) -> str:
        bits = "-".join(str(layer.weight_bits) for layer in self.layers)
        return f"QuantizedModel({self.reference.sizes}, weight bits {bits}, {self.nbytes} bytes)"

    @property
    def nbytes(self) -> int:
        """Stored bytes: packed weights, scales, zero points, biases, activation grids."""
        return sum(layer.nbytes for layer in self.layers)

    def activations(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the input of each layer in float32, before it is put on its grid."""
        return self._forward(x, "QuantizedModel.activations")[0]

    def predict_logits(self, x: np.ndarray) -> np.ndarray:
        """Return logits (n,) for one output, else (n, k); float32, positive means class 1."""
        logits = self._forward(x, "QuantizedModel.predict_logits")[1][-1]
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the decision per row, (n,) int64: 1 where the logit is positive, or argmax."""
        return decisions(self.predict_logits(x))

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

        Keys: layer (number), shape (out, in), weight_bits, weight_snr_db (stored weights
        against the reference's), output_snr_db (this layer's output in the quantized model
        against the same in the reference, so errors of earlier layers are in it), saturation
        (share of inputs beyond the activation grid, 0 to 1), bytes.

        >>> model = TradingModel((2, 4, 1), seed=3)
        >>> x = np.random.default_rng(0).standard_normal((100, 2))
        >>> report = post_training_quantize(model, x, weight_bits=4).layer_report(x)
        >>> [(row["layer"], row["shape"], row["bytes"]) for row in report]
        [(0, (4, 2), 41), (1, (1, 4), 15)]
        """
        inputs, outputs = self._forward(x, "QuantizedModel.layer_report")
        wanted = [
            layer.forward(a)
            for layer, a in zip(self.reference.layers, self.reference.activations(x), strict=True)
        ]
        report = []
        for i, (layer, original) in enumerate(zip(self.layers, self.reference.layers, strict=True)):
            static = layer.activation is not None and not layer.dynamic
            report.append(
                {
                    "layer": i,
                    "shape": layer.shape,
                    "weight_bits": layer.weight_bits,
                    "weight_snr_db": snr_db(original.weight, layer.weight.dequantize()),
                    "output_snr_db": snr_db(wanted[i], outputs[i]),
                    "saturation": saturation_rate(inputs[i], layer.activation) if static else 0.0,
                    "bytes": layer.nbytes,
                }
            )
        return report

    def _forward(self, x: np.ndarray, where: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return each layer's input and output (before the ReLU)."""
        x = check_rows(where, x, self.layers[0].shape[1])
        inputs, outputs = [], []
        for layer in self.layers:
            if outputs:
                x = np.maximum(outputs[-1], 0)
            inputs.append(x)
            outputs.append(layer.forward(x))
        return inputs, outputs


def post_training_quantize(
    model: TradingModel,
    calibration: np.ndarray | None,
    weight_bits: int | Sequence[int] = 8,
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
    number, or one per layer; 1 is binary); biases stay float32. Layer inputs get an
    unsigned, asymmetric, per-tensor grid at activation_bits whose range is measured on the
    float model's own inputs over the calibration rows (n, n_0), or on every batch anew with
    `dynamic`. activation_bits=None quantizes weights only; then, and with dynamic,
    calibration may be None.

    Raises: ValueError if calibration rows are missing or have another width than the model,
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
    needs_data = activation_bits is not None and not dynamic
    if calibration is not None:
        calibration = check_rows("post_training_quantize: calibration", calibration, model.sizes[0])
    elif needs_data:
        raise ValueError(
            "post_training_quantize: calibration is None; static activation grids need rows "
            "to measure ranges on (or dynamic=True, or activation_bits=None)"
        )
    grids: list[QuantizationParams | None] = [None] * len(model.layers)
    if needs_data:
        grids = [
            activation_params(a, activation_bits, activation_method)
            for a in model.activations(calibration)
        ]
    elif dynamic and activation_bits is not None:
        grids = [QuantizationParams(1.0, 0, activation_bits, signed=False)] * len(model.layers)
    layers = [
        quantize_layer(
            layer,
            weight_params(layer.weight, scheme, b, method, block_size),
            grid,
            dynamic and grid is not None,
        )
        for layer, b, grid in zip(model.layers, bits, grids, strict=True)
    ]
    return QuantizedModel(layers, model.copy())


def quantize_layer(
    layer: LinearLayer,
    params: QuantizationParams,
    activation: QuantizationParams | None,
    dynamic: bool = False,
) -> QuantizedLinearLayer:
    """Return the layer with its weights on the grid `params` and its inputs on `activation`."""
    codes: QuantizedTensor = quantize(layer.weight, params)
    return QuantizedLinearLayer(codes, layer.bias.copy(), activation, dynamic)


def _bits_per_layer(weight_bits: int | Sequence[int], layers: int) -> list[int]:
    bits = [weight_bits] * layers if np.ndim(weight_bits) == 0 else list(weight_bits)
    if len(bits) != layers:
        raise ValueError(
            f"post_training_quantize: weight_bits has {len(bits)} entries for {layers} layers; "
            "give one number or one per layer"
        )
    return bits
