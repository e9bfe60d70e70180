"""Quantization-aware training: let the weights feel the grid while they are still learning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from quantlab.nn.layers import LinearLayer
from quantlab.nn.model import TradingModel, split_rows
from quantlab.nn.ptq import QuantizedModel, activation_params, quantize_layer, weight_params
from quantlab.nn.training import Pairs, TrainingOptions, flatten, forward, train, unflatten
from quantlab.scheme import QuantizationParams, QuantizationScheme
from quantlab.tensor import fake_quantize, ste_gradient

OPTIONS = TrainingOptions(epochs=10, patience=10)
CALIBRATION_ROWS = 4096  # the last training rows; ranges hardly move beyond a few thousand


class _FakeQuantizer:
    """Puts weights on their grid in the forward pass and lets gradients through on the way back.

    Weight grids follow the present weights at every step; activation grids are measured at
    the start of an epoch, on the quantized network, and stay for that epoch.
    """

    def __init__(
        self,
        scheme: QuantizationScheme,
        bits: int,
        activation_bits: int | None,
        method: str,
        activation_method: str,
        block_size: int | None,
    ) -> None:
        self.scheme, self.bits, self.activation_bits = scheme, bits, activation_bits
        self.method, self.activation_method, self.block_size = method, activation_method, block_size
        self.grids: list[QuantizationParams] | None = None
        self._weight_grids: list[QuantizationParams] = []
        axes = {
            QuantizationScheme.SYMMETRIC_PER_CHANNEL: (1,),
            QuantizationScheme.SYMMETRIC_PER_TENSOR: (0, 1),
        }
        usual = method == "minmax" and block_size is None
        self._scale_axes = axes.get(scheme) if usual else None
        self._used: Pairs = []

    def start_epoch(self, pairs: Pairs, x: np.ndarray) -> None:
        if self.activation_bits is None:
            return
        inputs = forward(self.weights(pairs), x[-CALIBRATION_ROWS:])[0]
        self.grids = [
            activation_params(a, self.activation_bits, self.activation_method) for a in inputs
        ]

    def weights(self, pairs: Pairs) -> Pairs:
        """Return the pairs with weights rounded to the grid of their present range."""
        if self._scale_axes is not None:
            self._used = [(_round_in_range(w, self._scale_axes, self.bits), b) for w, b in pairs]
            return self._used
        self._weight_grids = [
            weight_params(w, self.scheme, self.bits, self.method, self.block_size) for w, _ in pairs
        ]
        return [
            (fake_quantize(w, grid), b)
            for (w, b), grid in zip(pairs, self._weight_grids, strict=True)
        ]

    def pull_back(self, pairs: Pairs, gradients: Pairs) -> None:
        """Turn gradients by rounded weights into gradients by the weights underneath."""
        if self._scale_axes is not None:
            if self.bits == 1:  # else the range holds every weight: nothing clips
                for (w, _), (u, _), (g, _) in zip(pairs, self._used, gradients, strict=True):
                    g *= np.abs(w) <= 2 * np.abs(u)
            return
        for (w, _), grid, (g, _) in zip(pairs, self._weight_grids, gradients, strict=True):
            g[:] = ste_gradient(w, grid, g)


def _round_in_range(weight: np.ndarray, axes: tuple[int, ...], bits: int) -> np.ndarray:
    """`weight` on its symmetric min-max grid: what weight_params and fake_quantize give, bit for
    bit, in a tenth of their time, because a step of training checks nothing anew.
    """
    if bits == 1:
        size = np.abs(weight).mean(axis=axes, dtype=np.float64, keepdims=True).astype(np.float32)
        return np.copysign(size, weight + 0)  # -0 + 0 is +0: sign(0) = +1
    scale = np.abs(weight).max(axis=axes, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
    scale[scale == 0] = 1
    return np.rint(weight / scale) * scale


def quantization_aware_train(
    model: TradingModel,
    x: np.ndarray,
    y: np.ndarray,
    bits: int,
    *,
    activation_bits: int | None = None,
    scheme: QuantizationScheme = QuantizationScheme.SYMMETRIC_PER_CHANNEL,
    method: str = "minmax",
    activation_method: str = "minmax",
    block_size: int | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    validation_fraction: float = 0.2,
    options: TrainingOptions = OPTIONS,
    **changes: Any,
) -> QuantizedModel:
    """Train a copy of a trained float model on its grid and return it quantized.

    Every step rounds the weights to `bits` (scale from their present range; mean |w| at
    1 bit), and the layer inputs to activation_bits if given; the gradient passes the
    rounding by the straight-through estimator, so the weights underneath keep moving in
    float32. Candle features have outliers: below 6 bits of activation, an activation_method
    that clips ("percentile", "mse", "aciq") keeps the resolution that min-max spends on them.

    Rows, labels, held-out rows and options are those of `TradingModel.fit`, with 10 epochs. The
    state before the first step is a candidate too: on held-out loss the result is never worse
    than rounding alone. The given model is not changed.

    Raises ValueError as `TradingModel.fit` and `choose_params`.
    Source: Bengio, Leonard, Courville 2013 (arXiv 1308.3432); Jacob et al. 2018 (arXiv
    1712.05877), section 3. Taught in chapter 11.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((600, 2))
    >>> y = x[:, 0] * x[:, 1] > 0
    >>> model = TradingModel((2, 8, 1), seed=1).fit(x, y)
    >>> trained = quantization_aware_train(model, x, y, bits=3, epochs=5)
    >>> len(trained.history["train_loss"]), trained.nbytes
    (5, 81)
    """
    where = "quantization_aware_train"
    if not isinstance(model, TradingModel):
        raise ValueError(f"{where}: model is a {type(model).__name__}; expected a TradingModel")
    rows, held_out = split_rows(where, x, y, validation, validation_fraction, model.sizes)
    options = replace(options, **changes)
    if options.seed is None:
        options = replace(options, seed=model.seed)
    quantizer = _FakeQuantizer(scheme, bits, activation_bits, method, activation_method, block_size)
    theta = flatten([(layer.weight, layer.bias) for layer in model.layers])
    history = train(theta, model.sizes, rows, held_out, options, quantizer)
    grids = quantizer.grids or [None] * len(model.layers)
    layers = [
        quantize_layer(LinearLayer(w, b), weight_params(w, scheme, bits, method, block_size), grid)
        for (w, b), grid in zip(unflatten(theta, model.sizes), grids, strict=True)
    ]
    return QuantizedModel(layers, model.copy(), history)
