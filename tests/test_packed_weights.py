"""Weights packed once give the products of the weights themselves, and refuse what they refuse."""

import pickle

import numpy as np
import pytest

import quantlab as ql
from quantlab.kernels import reference

RNG = np.random.default_rng(0)
INPUTS = ql.QuantizationParams(0.5, 3, signed=False)


def inputs(m, k, params=INPUTS):
    ends = params.qmin, params.qmax + 1
    return ql.QuantizedTensor(RNG.integers(*ends, (m, k)).astype(params.code_dtype), params)


def weights(k, n, params):
    return ql.quantize(RNG.standard_normal((k, n)) * 3, params)


GRIDS = [
    ql.QuantizationParams(0.1, 0),
    ql.QuantizationParams(0.5, 0, bits=4),
    ql.QuantizationParams(2.0, 0, bits=1),
    ql.QuantizationParams(0.1, 77, signed=False),
    ql.QuantizationParams(np.linspace(0.1, 1, 9), np.arange(9), axis=1),
    ql.QuantizationParams(0.001, 0, bits=12),
]


@pytest.mark.parametrize("params", GRIDS, ids=str)
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_products_are_those_of_the_weights(params, rows):
    w, x = weights(30, 9, params), inputs(rows, 30)
    packed, bias = ql.pack_weights(w), RNG.integers(-99, 99, 9)
    zero = np.broadcast_to(params.zero_point, 9)
    wanted = reference.integer_matmul(x.codes, w.codes, 3, zero)
    for operand in (w, packed, pickle.loads(pickle.dumps(packed))):
        assert (ql.quantized_matmul(x, operand) == wanted).all()
        assert (ql.quantized_matmul(x, operand, bias=bias) == wanted + bias).all()
        y = ql.quantized_matmul(x, operand, ql.QuantizationParams(9, 0))
        assert (y.codes == ql.quantized_matmul(x, w, y.params).codes).all()
    real = wanted.astype(np.float32) * (x.params.scale * params.scale)
    assert (packed.product(x) == real).all() and packed.shape == (30, 9)
    wide = inputs(rows, 30, ql.QuantizationParams(0.5, 3, bits=10, signed=False))
    assert (ql.quantized_matmul(wide, packed) == ql.quantized_matmul(wide, w)).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_are_scaled_one_after_the_other(bits):
    scale = RNG.uniform(0.1, 1, (4, 9))
    w = weights(40, 9, ql.QuantizationParams(scale, 0, bits=bits, axis=0, block_size=10))
    x, packed = inputs(5, 40), ql.pack_weights(w)
    wanted = x.dequantize().astype(float) @ w.dequantize().astype(float)
    np.testing.assert_allclose(packed.product(x), wanted, rtol=1e-4, atol=1e-3)
    step = x.params.scale * w.params.scale
    assert (packed.product(x) == reference.grouped_matmul(x.codes, w.codes, step, 3)).all()
    with pytest.raises(ValueError, match="w has blocks of 10 along axis 0"):
        ql.quantized_matmul(x, packed)
    with pytest.raises(ValueError, match="blocks take uint8"):
        packed.product(inputs(5, 40, ql.QuantizationParams(1, 0)))
    with pytest.raises(ValueError, match=r"x has shape \(5, 39\)"):
        packed.product(inputs(5, 39))


def test_what_is_packed_is_a_copy():
    w, x = weights(8, 3, GRIDS[0]), inputs(2, 8)
    packed, before = ql.pack_weights(w), ql.quantized_matmul(x, w)
    w.codes[:] = 1
    assert (ql.quantized_matmul(x, packed) == before).all()


def test_weights_that_do_not_fit():
    rows = ql.QuantizationParams(np.ones(8), 0, axis=0)
    across = ql.QuantizationParams(np.ones((8, 2)), 0, axis=1, block_size=2)
    uneven = ql.QuantizationParams(np.ones((2, 4)), 1, axis=0, block_size=4)
    for w, message in (
        (np.ones((8, 4)), "expected a QuantizedTensor of two axes"),
        (ql.quantize(np.ones(8), GRIDS[0]), r"w is \(8,\)"),
        (ql.quantize(np.ones((8, 4)), rows), "scales along axis 0"),
        (ql.quantize(np.ones((8, 4)), across), "blocks of 2 along axis 1"),
        (ql.quantize(np.ones((8, 4)), uneven), "blocks take symmetric codes"),
    ):
        with pytest.raises(ValueError, match=f"pack_weights: .*{message}"):
            ql.pack_weights(w)


def test_a_layer_packs_its_weights_once(monkeypatch):
    model, x = ql.TradingModel((6, 5, 1), seed=0), RNG.standard_normal((30, 6)).astype(np.float32)
    layer = ql.post_training_quantize(model, x).layers[0]
    first = layer.integer_forward(x)
    monkeypatch.setattr(ql.kernels, "pack_weights", None)  # a second packing would fail
    assert (layer.integer_forward(x) == first).all()
