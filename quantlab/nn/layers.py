"""The layers of the course: a linear layer, the same on integer grids, the same in signs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from quantlab import _checks
from quantlab.binary import BinaryTensor, binarize, xnor_matmul
from quantlab.calibration import choose_params
from quantlab.integer import PackedWeights, pack_weights, quantized_matmul
from quantlab.scheme import QuantizationParams, QuantizationScheme
from quantlab.tensor import QuantizedTensor, dequantize, fake_quantize, quantize

INITS = ("he", "glorot")


def check_rows(where: str, x: np.ndarray, width: int) -> np.ndarray:
    """Return x as a finite float32 array (rows, width), or raise a ValueError that says why not."""
    x = _checks.float32_array(x, where)
    if x.ndim != 2:
        raise ValueError(
            f"{where}: x has shape {x.shape}; expected two axes (rows, {width}), "
            "a single row is x[None, :]"
        )
    if x.shape[1] != width:
        raise ValueError(f"{where}: x has {x.shape[1]} columns; the model takes {width}")
    return x


@dataclass(eq=False)
class LinearLayer:
    """One affine map, x @ weight.T + bias, in float32.

    Shapes: weight (out, in), bias (out,); row c of the weight is output channel c, so
    "per channel" is axis 0 everywhere in the course.

    Raises ValueError if the shapes do not belong together or a value is not finite.
    Source: ONNX Gemm with transB=1. Taught in chapter 10.

    >>> layer = LinearLayer([[1.0, 2.0], [0.0, -1.0]], [0.5, 0.0])
    >>> layer.forward([[1.0, 1.0]]).tolist()
    [[3.5, -1.0]]
    """

    weight: np.ndarray
    bias: np.ndarray

    weight_bits = 32
    activation = None  # no grid: inputs and weights are float32
    dynamic = False

    def __post_init__(self) -> None:
        self.weight = _checks.float32_array(self.weight, "LinearLayer", "weight")
        self.bias = _checks.float32_array(self.bias, "LinearLayer", "bias")
        if self.weight.ndim != 2:
            raise ValueError(
                f"LinearLayer: weight has shape {self.weight.shape}; expected (out, in)"
            )
        if self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"LinearLayer: bias has shape {self.bias.shape}; expected "
                f"({self.weight.shape[0]},), one value per output of weight {self.weight.shape}"
            )

    @classmethod
    def init(
        cls, n_in: int, n_out: int, rng: np.random.Generator, method: str = "he"
    ) -> LinearLayer:
        """Draw a layer: weights N(0, variance), bias 0.

        variance is 2 / n_in ("he": He et al. 2015, arXiv 1502.01852, equation (10)) or
        2 / (n_in + n_out) ("glorot": Glorot and Bengio 2010, equation (12)). With few inputs and
        many outputs He draws large weights that training hardly moves: the answer is then a small
        difference of large terms, and rounding shows. Raises ValueError for another method.

        >>> rng = np.random.default_rng(0)
        >>> [round(float(LinearLayer.init(4, 4096, rng, m).weight.std()), 2) for m in INITS]
        [0.71, 0.02]
        """
        if method not in INITS:
            raise ValueError(f"LinearLayer.init: method is {method!r}; choose one of {INITS}")
        weight = rng.standard_normal((n_out, n_in), dtype=np.float32)
        fans = n_in if method == "he" else n_in + n_out
        return cls(weight * np.float32(np.sqrt(2.0 / fans)), np.zeros(n_out, np.float32))

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.weight.shape

    @property
    def values(self) -> np.ndarray:
        """The weights as they are multiplied, (out, in) float32."""
        return self.weight

    @property
    def nbytes(self) -> int:
        """Stored bytes of weight and bias."""
        return self.weight.nbytes + self.bias.nbytes

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return x @ weight.T + bias: (rows, in) -> (rows, out), float32."""
        return self._apply(check_rows("LinearLayer.forward", x, self.weight.shape[1]))

    def on_grid(self, x: np.ndarray) -> np.ndarray:
        """Return the inputs as they are multiplied: here as they came."""
        return x

    def _apply(self, x: np.ndarray) -> np.ndarray:
        z = x @ self.weight.T  # (rows, in) @ (in, out)
        z += self.bias
        return z


@dataclass(eq=False)
class QuantizedLinearLayer:
    """A linear layer whose weights, and inputs if wanted, lie on integer grids.

    weight (out, in) holds codes; bias (out,) stays float32. `activation` is the grid of the
    inputs: None leaves them in float32 (weights only). With `dynamic` only its bits and sign
    are used, and every row is put on the grid of its own min-max range: no row can change what
    another one decides.

    `forward` simulates: float32 arithmetic on values that lie on the grids. `integer_forward`
    multiplies the codes themselves. They are the same sum, rounded in another order.

    Raises ValueError if bias and weight do not belong together.
    Source: Jacob et al. 2018 (arXiv 1712.05877), section 2. Taught in chapter 10.

    >>> w = np.float32([[0.6, -1.0]])
    >>> grid = choose_params(w, QuantizationScheme.SYMMETRIC_PER_CHANNEL, 4)
    >>> layer = QuantizedLinearLayer(quantize(w, grid), np.zeros(1, np.float32))
    >>> round(float(layer.forward([[1.0, 0.0]])[0, 0]), 4)  # 0.6 became code 4 of step 1/7
    0.5714
    """

    weight: QuantizedTensor
    bias: np.ndarray
    activation: QuantizationParams | None = None
    dynamic: bool = False
    _values: np.ndarray = field(init=False, repr=False)  # dequantized weight, float32

    def __post_init__(self) -> None:
        if self.weight.ndim != 2:
            raise ValueError(
                f"QuantizedLinearLayer: weight has shape {self.weight.shape}; expected (out, in)"
            )
        self.bias = _checks.float32_array(self.bias, "QuantizedLinearLayer", "bias")
        if self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"QuantizedLinearLayer: bias has shape {self.bias.shape}; expected "
                f"({self.weight.shape[0]},) for weight {self.weight.shape}"
            )
        if self.dynamic and self.activation is None:
            raise ValueError(
                "QuantizedLinearLayer: dynamic=True needs activation params; "
                "their bits and sign say which grid each call uses"
            )
        self._values = dequantize(self.weight)

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.weight.shape

    @property
    def values(self) -> np.ndarray:
        """The weights as they are multiplied, (out, in) float32."""
        return self._values

    @property
    def weight_bits(self) -> int:
        """Bits of one weight."""
        return self.weight.params.bits

    @property
    def nbytes(self) -> int:
        """Stored bytes: packed codes, weight scales, float32 bias, static activation grid."""
        total = self.weight.nbytes + self.bias.nbytes
        if self.activation is not None and not self.dynamic:
            total += 4 + np.dtype(self.activation.code_dtype).itemsize  # scale, zero point
        return total

    @cached_property
    def packed(self) -> PackedWeights:
        """The weights (in, out), packed once for integer products."""
        return pack_weights(self.weight.T)

    def input_params(self, x: np.ndarray) -> QuantizationParams | None:
        """Return the grid of inputs x (rows, in): one, one a row if dynamic, None if there is none.

        Source of the grid a row: ZeroQuant (arXiv 2206.01861), token-wise quantization.
        """
        if self.activation is None or not self.dynamic:
            return self.activation
        scheme = QuantizationScheme.ASYMMETRIC_PER_CHANNEL  # the channels are the rows
        return choose_params(x, scheme, self.activation.bits, signed=self.activation.signed, axis=0)

    def on_grid(self, x: np.ndarray) -> np.ndarray:
        """Return the inputs as they are multiplied, float32 values of the grid."""
        params = self.input_params(x)
        return x if params is None else fake_quantize(x, params)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Simulate in float32: grid(x) @ grid(weight).T + bias, (rows, in) -> (rows, out)."""
        return self._apply(check_rows("QuantizedLinearLayer.forward", x, self.weight.shape[1]))

    def _apply(self, x: np.ndarray) -> np.ndarray:
        z = self.on_grid(x) @ self._values.T
        z += self.bias
        return z

    def integer_forward(self, x: np.ndarray) -> np.ndarray:
        """Multiply codes in int32, then scale once: equal to `forward` up to float32 rounding.

        Raises ValueError for a weights-only layer or blocked weights, whose products carry
        no common scale.
        """
        x = check_rows("QuantizedLinearLayer.integer_forward", x, self.weight.shape[1])
        params = self.input_params(x)
        if params is None:
            raise ValueError(
                "integer_forward: the inputs of this layer are float32 (activation=None); "
                "quantize with activation_bits to multiply integers"
            )
        if self.weight.params.block_size is not None:
            raise ValueError(
                "integer_forward: weights in blocks have several scales per output; "
                "use a per-tensor or per-channel scheme"
            )
        codes = quantize(x, params)
        if not self.dynamic:
            return self.packed.product(codes) + self.bias
        # each row has its own zero point: take it off after the product
        plain = replace(params, scale=1.0, zero_point=0, axis=None)
        accumulators = quantized_matmul(QuantizedTensor(codes.codes, plain), self.packed)
        accumulators = accumulators - params.zero_point[:, None] * weight_sums(self.weight)
        scale = params.scale[:, None] * self.weight.params.scale
        return accumulators.astype(np.float32) * scale + self.bias


def weight_sums(weight: QuantizedTensor) -> np.ndarray:
    """sum_k (W - Zw) for each output, (out,) int64: what one unit of input zero point costs."""
    codes, zero_point = weight.codes.astype(np.int64), weight.params.zero_point
    return codes.sum(axis=1) - codes.shape[1] * zero_point.astype(np.int64)


@dataclass(eq=False)
class BinaryLinearLayer:
    """A linear layer whose weights and inputs are signs, multiplied by XOR and popcount.

    weight (out, in), channels along axis 0; bias (out,) float32. An input row x is taken as
    center + beta * sign(x - center), with beta the mean of abs(x - center) over the row: outputs
    of a ReLU have no signs of their own. center (in,) float32, 0 if None; its product with the
    weights is a constant and joins the bias, as a zero point does. Fits in the layers of a
    QuantizedModel.

    Raises ValueError if weight, bias and center do not belong together.
    Source: Rastegari et al. 2016 (arXiv 1603.05279), section 3.2. Taught in chapter 8.

    >>> layer = BinaryLinearLayer(binarize([[1.0, -3.0]]), np.zeros(1, np.float32))
    >>> layer.forward([[0.5, -1.5]]).tolist()  # beta 1, alpha 2, both signs agree
    [[4.0]]
    """

    weight: BinaryTensor
    bias: np.ndarray
    center: np.ndarray | None = None
    _offset: np.ndarray = field(init=False, repr=False)  # bias + center @ weight.T, float32

    weight_bits = 1
    activation = None  # no integer grid: the inputs carry one magnitude a row
    dynamic = False

    def __post_init__(self) -> None:
        n_out, n_in = self.weight.shape
        if self.weight.axis != 0:
            raise ValueError(
                "BinaryLinearLayer: weight has its channels along axis 1; expected "
                "(out, in) binarized along axis 0"
            )
        self.bias = _checks.float32_array(self.bias, "BinaryLinearLayer", "bias")
        center = np.zeros(n_in) if self.center is None else self.center
        self.center = _checks.float32_array(center, "BinaryLinearLayer", "center")
        if self.bias.shape != (n_out,) or self.center.shape != (n_in,):
            raise ValueError(
                f"BinaryLinearLayer: bias has shape {self.bias.shape}, center "
                f"{self.center.shape}; weight {self.weight.shape} needs ({n_out},) and ({n_in},)"
            )
        self._offset = self.bias + self.weight.dequantize() @ self.center

    @classmethod
    def from_linear(cls, layer: LinearLayer, inputs: np.ndarray | None = None) -> BinaryLinearLayer:
        """Binarize a float layer; `inputs` (rows, in) give the center, their mean per column."""
        center = None
        if inputs is not None:
            inputs = check_rows("BinaryLinearLayer.from_linear", inputs, layer.shape[1])
            center = inputs.mean(axis=0, dtype=np.float64)
        return cls(binarize(layer.weight), layer.bias, center)

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.weight.shape

    @property
    def values(self) -> np.ndarray:
        """The weights as they are multiplied, (out, in) float32."""
        return self.weight.dequantize()

    @property
    def nbytes(self) -> int:
        """Stored bytes: words, alphas, bias, and the center unless it is 0."""
        center = self.center.nbytes if self.center.any() else 0
        return self.weight.nbytes + self.bias.nbytes + center

    def on_grid(self, x: np.ndarray) -> np.ndarray:
        """Return the inputs as they are multiplied: center + beta * sign(x - center)."""
        return self.center + binarize(x - self.center).dequantize()

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Multiply signs, then the magnitudes: (rows, in) -> (rows, out), float32."""
        return self._apply(check_rows("BinaryLinearLayer.forward", x, self.weight.shape[1]))

    def _apply(self, x: np.ndarray) -> np.ndarray:
        signs = binarize(x - self.center)
        agreements = xnor_matmul(signs, self.weight)  # (rows, out) int32
        scale = signs.alpha[:, None] * self.weight.alpha
        return agreements.astype(np.float32) * scale + self._offset
