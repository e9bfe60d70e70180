"""A whole network on integers: codes in, codes from layer to layer, one scale at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from quantlab import kernels
from quantlab.integer import fixed_point_multiplier
from quantlab.nn.base import Model
from quantlab.nn.layers import QuantizedLinearLayer, weight_sums
from quantlab.nn.ptq import QuantizedModel
from quantlab.scheme import QuantizationParams
from quantlab.tensor import quantize

INT32 = 2**31 - 1


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One layer without a floating-point number: (rows, in) codes -> (rows, out) codes or int32.

        acc[n, c] = sum_k X[n, k] (W[c, k] - Zw[c]) + b'[c]        b' = b - Zx sum_k (W - Zw)
        code      = clamp(((acc m + 2**(t-1)) >> t) + Z, low, high)   with ReLU, low is Z

    weight (out, in) codes; weight_zero, bias (= b') (out,) int32; input_range: smallest and
    largest input code. multiplier, shift (out,) int64; None in a last layer, which returns its
    accumulators. zero_point, low, high: the grid of the next layer's inputs.

    Raises ValueError if a possible input could carry an accumulator beyond int32.
    Source: Jacob et al. 2018 (arXiv 1712.05877), section 2.4. Taught in chapter 9.
    """

    weight: np.ndarray
    weight_zero: np.ndarray
    bias: np.ndarray
    input_range: tuple[int, int]
    multiplier: np.ndarray | None = None
    shift: np.ndarray | None = None
    zero_point: int = 0
    low: int = 0
    high: int = 0

    def __post_init__(self) -> None:
        low, high = self.accumulator_range()
        peak, k = max(-int(low.min()), int(high.max())), self.shape[1]
        if peak > INT32:
            raise ValueError(
                f"IntegerLayer: K = {k:,} products can carry an accumulator to {peak:,}, beyond "
                f"int32 ({INT32:,}); with such weights and bias K may be about "
                f"{k * INT32 // peak:,}: fewer inputs or fewer bits"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.weight.shape

    @property
    def nbytes(self) -> int:
        """Bytes of codes (unpacked), zero points, folded biases, multipliers and shifts."""
        fixed = 5 * len(self.bias) if self.multiplier is not None else 0  # int32 and one byte
        zero = self.weight_zero.nbytes if self.weight_zero.any() else 0
        return self.weight.nbytes + self.bias.nbytes + zero + fixed

    def accumulator_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest accumulator of each output, (out,) int64, both reached.

        Not larger than K max abs(X) max abs(W - Zw) + abs(b'), the bound that needs no weights.
        """
        ends = [
            (self.weight.astype(np.int64) - self.weight_zero[:, None]) * x for x in self.input_range
        ]
        bias = self.bias.astype(np.int64)
        return np.minimum(*ends).sum(axis=1) + bias, np.maximum(*ends).sum(axis=1) + bias

    def accumulate(self, codes: np.ndarray) -> np.ndarray:
        """Return the int32 accumulators, (rows, in) -> (rows, out)."""
        weight = self.weight.T if codes.itemsize > 1 else self._packed  # bytes, packed for bytes
        return kernels.integer_matmul(codes, weight, 0, self.weight_zero) + self.bias

    @cached_property
    def _packed(self) -> Any:
        return kernels.pack_weights(self.weight.T)

    def __getstate__(self) -> dict:  # another process may read in another order
        return {name: value for name, value in vars(self).items() if name != "_packed"}

    def forward(self, codes: np.ndarray) -> np.ndarray:
        """Return the codes of the next layer's inputs, or the accumulators of a last layer."""
        codes = np.asarray(codes)
        low, high = self.input_range
        ok = codes.ndim == 2 and codes.shape[1] == self.shape[1] and codes.dtype.kind in "iu"
        if not ok or (codes.size and not low <= codes.min() <= codes.max() <= high):
            raise ValueError(
                f"IntegerLayer: codes are {codes.dtype} of shape {codes.shape}; expected integers "
                f"{low} to {high} of shape (rows, {self.shape[1]})"
            )
        return self._apply(np.ascontiguousarray(codes, code_type(low, high)))

    def _apply(self, codes: np.ndarray) -> np.ndarray:
        acc = self.accumulate(codes)
        if self.multiplier is None:
            return acc
        out = np.empty(acc.shape, code_type(self.low, self.high))
        fixed = self.multiplier, self.shift, self.zero_point, self.low, self.high
        kernels.requantize(acc, *fixed, out)
        return out


def code_type(low: int, high: int) -> np.dtype:
    """Storage type of codes from low to high."""
    small = low >= -128 and high <= (127 if low < 0 else 255)
    return np.dtype(f"{'' if low < 0 else 'u'}int{8 if small else 16}")


class IntegerModel(Model):
    """The integer-only twin of a quantized model, made by `integer_model`.

    `input_grid` turns rows into codes; `integer_forward` runs on integers alone; `step` (out,)
    or () is the real value of one unit of the last output, `output_zero` the unit that means 0.
    Taught in chapter 9.
    """

    def __init__(
        self,
        layers: list[IntegerLayer],
        input_grid: QuantizationParams,
        step: np.ndarray,
        output_zero: int = 0,
    ) -> None:
        self.layers = list(layers)
        self.input_grid, self.step, self.output_zero = input_grid, step, output_zero

    def __repr__(self) -> str:
        return f"IntegerModel({self.sizes}, {self.nbytes} bytes)"

    def integer_forward(self, codes: np.ndarray) -> np.ndarray:
        """Return the integer output (n, k) for input codes (n, n_0); no float on the way.

        int32 accumulators, or codes if the model was made with an output grid.
        """
        for layer in self.layers:
            codes = layer.forward(codes)
        return codes

    def _enter(self, x: np.ndarray) -> np.ndarray:
        return quantize(x, self.input_grid).codes

    def _between(self, z: np.ndarray) -> np.ndarray:
        return z  # the clamp of the layer before was the ReLU

    def _leave(self, z: np.ndarray) -> np.ndarray:
        return (z.astype(np.int64) - self.output_zero).astype(np.float32) * self.step


def integer_model(
    quantized: QuantizedModel, output: QuantizationParams | None = None
) -> IntegerModel:
    """Return the twin of a static quantized model that computes on integers alone.

    Between the codes of the input and the integer output stands no floating-point operation:
    zero points are folded into int32 biases, each layer's scales into one fixed-point multiplier
    (one rounding), the ReLU into the clamp. The last layer returns its accumulators, or with
    `output` (one grid for all outputs) codes on that grid; `predict_logits` scales them once.

    Raises ValueError for dynamic or float inputs, blocked or binary layers, an accumulator that
    could overflow (names K) and a bias beyond int32.
    Source: Jacob et al. 2018 (arXiv 1712.05877), section 2. Taught in chapter 9.

    >>> from quantlab.nn import TradingModel, post_training_quantize
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> quantized = post_training_quantize(TradingModel((2, 8, 1), seed=1), x)
    >>> twin = integer_model(quantized)
    >>> codes = quantize(x[:3], twin.input_grid).codes
    >>> acc = twin.integer_forward(codes)
    >>> acc.dtype, bool(abs(twin.predict_logits(x) - quantized.predict_logits(x)).max() < 0.02)
    (dtype('int32'), True)
    """
    me = "integer_model"
    if not isinstance(quantized, QuantizedModel):
        raise ValueError(f"{me}: got a {type(quantized).__name__}; expected a QuantizedModel")
    if output is not None and (output.axis is not None or output.is_binary):
        raise ValueError(f"{me}: output is {output}; expected one scale, and a code for 0")
    for i, layer in enumerate(quantized.layers):
        check_layer(f"{me}: layer {i}", layer)
    grids = [layer.activation for layer in quantized.layers]
    layers, step = [], np.float32(1)
    for i, (layer, after) in enumerate(zip(quantized.layers, [*grids[1:], output], strict=True)):
        try:
            whole, step = _integer_layer(layer, after, relu=i + 1 < len(grids))
        except ValueError as error:
            raise ValueError(f"{me}: layer {i}: {error}") from None
        layers.append(whole)
    return IntegerModel(layers, grids[0], step, 0 if output is None else int(output.zero_point))


def check_layer(where: str, layer: QuantizedLinearLayer) -> None:
    """Raise ValueError for a layer that integers alone cannot compute."""
    problem = None
    if not isinstance(layer, QuantizedLinearLayer):
        problem = f"is a {type(layer).__name__}; expected weights and inputs on integer grids"
    elif layer.activation is None:
        problem = "has float inputs (activation=None); quantize with activation_bits"
    elif layer.dynamic:
        problem = "measures its grid anew on every row (dynamic=True); calibrate a static one"
    elif layer.weight.params.block_size is not None:
        problem = "has blocked weights, whose sums share no scale; use a per-channel scheme"
    if problem:
        raise ValueError(f"{where} {problem}")


def _integer_layer(
    layer: QuantizedLinearLayer, after: QuantizationParams | None, relu: bool
) -> tuple[IntegerLayer, np.ndarray]:
    """Return the layer on integers, and the real value of one unit of its output."""
    grid, w, outputs = layer.activation, layer.weight, layer.shape[0]
    unit = grid.scale.astype(np.float64) * np.broadcast_to(w.params.scale, (outputs,))
    bias = np.rint(layer.bias / unit) - float(grid.zero_point) * weight_sums(w)
    if np.abs(bias).max() > INT32:
        c = int(np.abs(bias).argmax())
        raise ValueError(
            f"the bias of output {c} is {bias[c]:.3g} units of {unit[c]:.3g}, beyond int32; its "
            "weights are tiny beside its bias: use a per-tensor scheme, or prune the output"
        )
    plain = IntegerLayer(
        np.ascontiguousarray(w.codes),
        np.broadcast_to(w.params.zero_point, (outputs,)).astype(np.int32),
        bias.astype(np.int32),
        (grid.qmin, grid.qmax),
    )
    if after is None:
        return plain, unit.astype(np.float32)
    m, shift = fixed_point_multiplier(unit / np.float64(after.scale))
    zero = int(after.zero_point)
    low = zero if relu else after.qmin
    return replace(
        plain, multiplier=m, shift=shift, zero_point=zero, low=low, high=after.qmax
    ), after.scale
