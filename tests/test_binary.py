"""Signs in 64-bit words: the product, the packing and the magnitude, all exact."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab import (
    BinaryTensor,
    QuantizationScheme,
    binarize,
    choose_params,
    mse,
    quantize,
    snr_db,
    xnor_matmul,
)
from quantlab.nn import BinaryLinearLayer, LinearLayer, QuantizedModel, TradingModel

RNG = np.random.default_rng
STEADY = settings(deadline=None, derandomize=True)  # a first call may compile


@pytest.mark.parametrize("k", [*range(1, 131), 191, 192, 193, 1000, 4097])
def test_product_equals_plus_minus_one(k):
    rng = RNG(k)
    x, w = (rng.choice(np.float32([-1, 1]), (n, k)) for n in (3, 5))
    product = xnor_matmul(binarize(x), binarize(w))
    assert product.dtype == np.int32 and (product == x @ w.T).all()
    assert (xnor_matmul(binarize(x), binarize(-x)).diagonal() == -k).all()


@STEADY
@given(st.integers(1, 9), st.integers(1, 140), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_product_of_any_data(m, k, n, seed):
    rng = RNG(seed)
    x, w = (rng.integers(-2, 3, (rows, k)).astype(np.float32) for rows in (m, n))
    a, b = binarize(x), binarize(w)
    signs = [np.where(v >= 0, 1, -1) for v in (x, w)]
    assert (a.signs == signs[0]).all() and a.signs.dtype == np.int8
    assert (xnor_matmul(a, b) == signs[0] @ signs[1].T).all()
    approximation = a.alpha[:, None] * xnor_matmul(a, b) * b.alpha
    assert np.allclose(approximation, a.dequantize() @ b.dequantize().T, atol=1e-4)


def test_zero_counts_as_plus_one():
    b = binarize([[0.0, -0.0, 1e-45, -1e-45]])
    assert b.signs.tolist() == [[1, 1, 1, -1]]
    zeros = binarize(np.zeros((2, 3)))
    assert zeros.alpha.tolist() == [0, 0] and not zeros.dequantize().any()


def test_equal_to_the_one_bit_grid():
    w = RNG(1).standard_normal((5, 72)).astype(np.float32)
    for axis in (0, 1):
        b = binarize(w, axis)
        p = choose_params(w, QuantizationScheme.SYMMETRIC_PER_CHANNEL, 1, axis=axis)
        q = quantize(w, p)
        assert b.alpha.tobytes() == p.scale.tobytes() and (b.signs == q.codes).all()
        assert b.dequantize().tobytes() == q.dequantize().tobytes()
    row = quantize(w[:1], choose_params(w[:1], QuantizationScheme.SYMMETRIC_PER_TENSOR, 1))
    assert binarize(w[:1]).words.view(np.uint8).reshape(-1)[:9].tolist() == row.pack().tolist()


def test_alpha_is_the_best_magnitude():
    w = RNG(2).standard_t(4, (4, 501)).astype(np.float32)
    b = binarize(w)
    least = mse(w, b.dequantize())
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert mse(w, b.dequantize() * np.float32(factor)) > least
    for i in range(0, 501, 50):  # and no other sign is better
        flipped = b.dequantize()
        flipped[:, i] *= -1
        assert mse(w, flipped) >= least


def test_gaussian_keeps_two_over_pi():
    w = RNG(3).standard_normal((1, 1_000_000))
    values = binarize(w).dequantize()
    assert abs(mse(w, values) - (1 - 2 / math.pi)) < 0.003
    assert abs(snr_db(w, values) - 4.396) < 0.02


def test_bytes_and_shapes():
    b = binarize(np.ones((10, 65)))
    assert b.words.shape == (10, 2) and b.words.dtype == np.uint64
    assert (b.shape, b.k, b.nbytes) == ((10, 65), 65, 10 * 2 * 8 + 10 * 4)
    columns = binarize(np.ones((65, 10)), axis=-1)
    assert columns.axis == 1 and columns.k == 65 and columns.dequantize().shape == (65, 10)
    assert (columns.words == b.words).all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: binarize([1.0, 2.0]), "single row"),
        (lambda: binarize([[1.0, np.inf]]), "1 infinite"),
        (lambda: binarize([[1.0]], axis=2), "axis 2 does not exist"),
        (lambda: xnor_matmul(binarize([[1.0]]), [[1.0]]), "binarize it first"),
        (lambda: xnor_matmul(binarize([[1.0]]), binarize([[1.0, 1.0]])), "K = 1, b has K = 2"),
        (lambda: BinaryTensor(np.uint64([[4]]), np.float32([1]), (1, 2)), "beyond K = 2"),
        (
            lambda: BinaryTensor(np.uint64([[1, 0]]), np.float32([1]), (1, 2)),
            r"needs uint64 \(1, 1\)",
        ),
        (
            lambda: BinaryTensor(np.uint64([[1]]), np.float64([1]), (1, 2)),
            "expected an array of float32",
        ),
    ],
)
def test_errors_say_what_came_and_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- a binary layer inside a model


@pytest.mark.parametrize("n_in", [1, 12, 64, 100])
def test_layer_is_the_product_of_its_grids(n_in):
    rng = RNG(n_in)
    layer = LinearLayer.init(n_in, 7, rng)
    x = np.maximum(rng.standard_normal((50, n_in)), 0).astype(np.float32)
    for inputs in (None, x):
        binary = BinaryLinearLayer.from_linear(layer, inputs)
        rest = x - binary.center
        seen = binary.center + np.abs(rest).mean(axis=1)[:, None] * np.where(rest >= 0, 1, -1)
        weight = np.abs(layer.weight).mean(axis=1)[:, None] * np.where(layer.weight >= 0, 1, -1)
        assert np.allclose(binary.forward(x), seen @ weight.T + layer.bias, rtol=1e-4, atol=1e-4)
        words = -(-n_in // 64)
        assert binary.nbytes == 7 * (8 * words + 4 + 4) + (0 if inputs is None else 4 * n_in)


def test_layer_in_a_model():
    rng = RNG(0)
    x = rng.standard_normal((4000, 16)).astype(np.float32)
    y = (x @ rng.standard_normal(16) > 0).astype(int)
    model = TradingModel((16, 64, 1), seed=0).fit(x[:3000], y[:3000], epochs=10)
    layers = [
        BinaryLinearLayer.from_linear(layer, a[:3000])
        for layer, a in zip(model.layers, model.activations(x), strict=True)
    ]
    binary = QuantizedModel(layers, model)
    hit = np.mean(binary.predict(x[3000:]) == y[3000:])
    assert 0.6 < hit < np.mean(model.predict(x[3000:]) == y[3000:])
    assert binary.nbytes < model.nbytes / 2 and "weight bits 1-1" in repr(binary)
    assert [row["weight_bits"] for row in binary.layer_report(x)] == [1, 1]
    with pytest.raises(ValueError, match="axis 0"):
        BinaryLinearLayer(binarize(np.ones((3, 2)), axis=1), np.zeros(3))
    with pytest.raises(ValueError, match=r"needs \(3,\) and \(2,\)"):
        BinaryLinearLayer(binarize(np.ones((3, 2))), np.zeros(2))
