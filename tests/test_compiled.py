"""Compiled models: integers bit for bit those of the layers, floats to float32 rounding.

A process has one path; test_kernel_paths.py runs this file on all of them.
"""

import numpy as np
import pytest

import quantlab as ql
from quantlab.kernels import reference
from quantlab.nn import QuantizedModel
from quantlab.nn.compiled import _fits, _one_by_one
from quantlab.nn.layers import BinaryLinearLayer

RNG = np.random.default_rng(0)


def network(*sizes):
    model = ql.TradingModel(sizes, seed=3)
    for layer in model.layers:
        layer.bias[:] = RNG.standard_normal(layer.bias.size) * 0.1
    x = RNG.standard_normal((60, sizes[0])).astype(np.float32)
    x[0] = 100  # beyond every grid
    return model, x


def binary(model, x):
    layers = [
        BinaryLinearLayer.from_linear(layer, a)
        for layer, a in zip(model.layers, model.activations(x), strict=True)
    ]
    return QuantizedModel(layers, model)


def compare(model, x, exact, close=1e-4):
    predict, steps = model.compile(), _one_by_one(model.layers)
    got, wanted = predict.rows(x), steps.rows(x)
    single = np.array([predict(row) for row in x], np.float32)
    simulated = model.predict_logits(x)
    assert got.dtype == np.float32 and got.shape == single.shape == simulated.shape
    if exact:
        assert got.tobytes() == wanted.tobytes() == single.tobytes()
    scale = np.abs(wanted).max()
    for n in (0, 1, 2, 3):  # pairs of samples, and what is left of them
        np.testing.assert_allclose(predict.rows(x[:n]), got[:n], rtol=0, atol=close * scale)
    for other in (got, single):
        np.testing.assert_allclose(other, wanted, rtol=0, atol=close * scale)
    # float32 in another order moves a value across a tie now and then: one step of a grid
    np.testing.assert_allclose(got, simulated, rtol=0, atol=0.02 * scale)


def test_integers():
    for sizes in ((12, 64, 32, 1), (1, 1), (7, 130, 9, 5), (33, 5, 2, 1)):
        model, x = network(*sizes)
        for options in (
            {},
            {"activation_bits": 7},
            {"weight_bits": 4},
            {"weight_bits": 1},
            {"scheme": ql.QuantizationScheme.SYMMETRIC_PER_TENSOR},
        ):
            compare(ql.post_training_quantize(model, x[1:], **options), x, exact=True)


def group_by_group(model, x):
    """Integer sums of each group, times its step, added in float32 from first to last."""
    for layer in model.layers:
        codes = ql.quantize(x, layer.activation).codes
        w, step = layer.weight.codes, layer.activation.scale * layer.weight.params.scale
        zero = int(layer.activation.zero_point)
        x = reference.grouped_matmul(codes, w.astype(np.int8).T, step.T, zero) + layer.bias
        logits, x = x, np.maximum(x, 0)
    return logits


def test_groups():
    for sizes, block in (((24, 40, 16, 3), 8), ((30, 20, 1), 10)):
        model, x = network(*sizes)
        for bits in (4, 8):
            quantized = ql.post_training_quantize(model, x[1:], bits, block_size=block)
            compare(quantized, x, exact=False, close=0.02)
            rows = quantized.compile().rows  # outlives the function it came with
            got = rows(x)
            assert (got == group_by_group(quantized, x).reshape(got.shape)).all()


def test_floats():
    for sizes in ((12, 64, 32, 1), (5, 3), (100, 70, 1)):
        model, x = network(*sizes)
        compare(model, x, exact=False)
        compare(ql.post_training_quantize(model, None, 4, None), x, exact=False)


def test_binary():
    for sizes in ((12, 64, 32, 1), (65, 70, 3)):
        model, x = network(*sizes)
        both = binary(model, x)
        compare(both, x[1:], exact=False)
        both.layers[0] = ql.post_training_quantize(model, x[1:]).layers[0]
        compare(both, x[1:], exact=False, close=0.02)


def test_large_layers():
    model, x = network(600, 300, 2)  # more bytes than are left unprefetched
    compare(ql.post_training_quantize(model, x[1:]), x, exact=True)
    compare(model, x, exact=False)
    model, x = network(700, 400, 3)  # layer by layer
    compare(ql.post_training_quantize(model, x[1:]), x, exact=True)
    compare(ql.post_training_quantize(model, x[1:], 4, block_size=100), x, exact=False, close=0.02)


def test_refusals():
    model, x = network(3, 4, 1)
    asymmetric = ql.QuantizationScheme.ASYMMETRIC_PER_CHANNEL
    for options, reason in (
        ({"dynamic": True}, "calibrate a static one"),
        ({"activation_bits": 12}, "expected unsigned"),
        ({"scheme": asymmetric}, "use a symmetric scheme"),
    ):
        with pytest.raises(ValueError, match=reason):
            ql.post_training_quantize(model, x, **options).compile()
    with pytest.raises(ValueError, match=r"float32 of shape \(3,\)"):
        model.compile()(np.zeros(4, np.float32))


def wide(width, code=127):
    """A layer of one output whose accumulator grows by 255 * code with each input."""
    grid = ql.QuantizationParams(1 / 255, 0, signed=False)
    codes = np.full((1, width), code, np.int8)
    weight = ql.QuantizedTensor(codes, ql.QuantizationParams(1 / 127, 0))
    return ql.QuantizedLinearLayer(weight, np.zeros(1, np.float32), grid)


def test_no_accumulator_overflows_in_silence():
    for width in (65_000, 70_000):  # 255 * 128 * 65,793 is the last that int32 is sure to hold
        model = QuantizedModel([wide(width)], ql.TradingModel((width, 1)))
        x = np.ones(width, np.float32)
        if width == 65_000:
            assert model.compile()(x) == pytest.approx(width, rel=1e-4)
            assert model.compile().rows(x[None])[0] == pytest.approx(width, rel=1e-4)
            continue
        with pytest.raises(ValueError, match=r"K = 70000 products .* can overflow the int32"):
            model.compile()
        with pytest.raises(ValueError, match="split K into parts"):
            model.layers[0].integer_forward(x[None])


def test_a_network_becomes_one_function_only_while_that_is_short():
    vector = ql.kernels.path() in ("avx2", "avx512")
    for sizes, short in (((12, 64, 32, 1), 1), ((1024, 8, 1), 1), ((1025, 1), 0), ((20_000, 1), 0)):
        model, x = network(*sizes)
        quantized = ql.post_training_quantize(model, x[1:])
        assert _fits(quantized.layers) == _fits(model.layers) == bool(vector and short)
        if not short:
            compare(quantized, x, exact=True)


def test_values_that_are_not_finite_are_refused():
    model, x = network(12, 64, 32, 1)
    two, _ = network(12, 5, 2)
    for m in (model, two, ql.post_training_quantize(model, x[1:])):
        predict = m.compile()
        for bad in (np.nan, np.inf, -np.inf):
            for at in (0, 11):
                row = x[1].copy()
                row[at] = bad
                with pytest.raises(ValueError, match=r"NaN|infinite"):
                    predict(row)
                with pytest.raises(ValueError, match=r"NaN|infinite"):
                    predict.rows(np.stack([x[1], row]))
        assert np.isfinite(predict(x[1])).all()
