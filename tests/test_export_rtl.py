"""Circuits compute what integer models compute, bit for bit, in the cycles that they name."""

from itertools import pairwise

import numpy as np
import pytest

import quantlab as ql
from quantlab.export import power_of_two_scales, rtl, simulate_circuit
from quantlab.export.rtl import Simulator, _digits, _thresholds
from quantlab.nn.integer import IntegerLayer, IntegerModel

RNG = np.random.default_rng(15)
X = RNG.standard_normal((400, 4)).astype(np.float32)


def twin(weight_bits, activation_bits, sizes=(4, 7, 5, 2), scheme="SYMMETRIC_PER_CHANNEL"):
    """An integer model with sizes that divide nothing."""
    model = ql.TradingModel(sizes, seed=3)
    for layer in model.layers:
        layer.bias[:] = 0.3 * np.random.default_rng(1).standard_normal(len(layer.bias))
    scheme = ql.QuantizationScheme[scheme]
    return ql.post_training_quantize(model, X, weight_bits, activation_bits, scheme)


def vectors(model, rows=60):
    """Codes of candles, random codes, and both ends of the grid."""
    low, high = model.layers[0].input_range
    width = model.sizes[0]
    return np.concatenate([
        ql.quantize(X[:rows, :width], model.input_grid).codes,
        RNG.integers(low, high + 1, (rows, width)),
        np.full((1, width), low),
        np.full((1, width), high),
    ])  # fmt: skip


KINDS = {
    "INT8": lambda: twin(8, 8),
    "INT4": lambda: twin(4, 4),
    "one scale": lambda: twin(8, 8, scheme="SYMMETRIC_PER_TENSOR"),
    "zero points": lambda: twin(5, 6, scheme="ASYMMETRIC_PER_CHANNEL"),
    "ternary": lambda: twin(2, 3),
    "1-bit weights": lambda: twin(1, 8),
    "binary": lambda: twin(1, 1),
    "shifts": lambda: power_of_two_scales(twin(8, 8)),
    "4-bit shifts": lambda: power_of_two_scales(twin(4, 4)),
}


@pytest.mark.parametrize("products", (1, 3, 6, 14, 35))
@pytest.mark.parametrize("kind", KINDS)
def test_a_circuit_is_its_integer_model_bit_for_bit(kind, products):
    model = ql.integer_model(KINDS[kind]())
    codes = vectors(model)
    circuit = ql.silicon_circuit(model, products)
    outputs, cycles = simulate_circuit(circuit, codes)
    assert (outputs == model.integer_forward(codes)).all()
    assert set(cycles.tolist()) == {circuit.cycles}


def test_blocks_change_the_circuit_and_no_integer():
    model = ql.integer_model(twin(8, 8))
    codes = vectors(model)
    with_blocks, without = (ql.silicon_circuit(model, 35, blocks=b) for b in (True, False))
    assert with_blocks.rtlil().count("$mul") > without.rtlil().count("$mul") > 0
    assert (simulate_circuit(with_blocks, codes)[0] == model.integer_forward(codes)).all()


def test_what_needs_no_multiplier_has_none():
    def products(quantized, lanes):
        circuit = ql.silicon_circuit(ql.integer_model(quantized), lanes)
        return circuit.rtlil().count("cell $mul")

    assert products(power_of_two_scales(twin(8, 8)), 35) == 0  # constants and shifts
    assert products(twin(1, 1), 2) == products(twin(1, 1), 35) == 0  # signs and thresholds
    assert products(twin(1, 8), 2) == products(twin(8, 8), 2) - 6 > 0  # the factors are left
    assert products(power_of_two_scales(twin(1, 8)), 2) == 0
    assert products(power_of_two_scales(twin(1, 8)), 35) == 0


def test_a_last_layer_may_return_codes_below_zero():
    quantized = twin(8, 8)
    grid = ql.choose_params(
        quantized.predict_logits(X), ql.QuantizationScheme.ASYMMETRIC_PER_TENSOR
    )
    model = ql.integer_model(quantized, grid)
    codes = vectors(model)
    for products in (2, 35):
        outputs, _ = simulate_circuit(ql.silicon_circuit(model, products), codes)
        assert outputs.min() < 0 and (outputs == model.integer_forward(codes)).all()


def test_extreme_layers():
    """A channel of zeros, factors far apart, a bias at the end, one input, one output."""
    weight = np.array([[127], [0], [-127], [1]], np.int8)
    layer = IntegerLayer(
        weight, np.zeros(4, np.int32), np.array([5, 0, 2**30, -3], np.int32), (0, 255),
        np.array([2**31 - 1, 0, 2**30, 2**30 + 1]), np.array([40, 31, 61, 31]), 3, 3, 255,
    )  # fmt: skip
    last = IntegerLayer(
        np.array([[1, -2, 3, 4]], np.int8), np.zeros(1, np.int32), np.zeros(1, np.int32), (0, 255)
    )
    grid = ql.QuantizationParams(1.0, 0, 8, signed=False)
    model = IntegerModel([layer, last], grid, np.float32(1))
    codes = np.arange(256)[:, None]
    for products in (1, 2, 4):
        outputs, _ = simulate_circuit(ql.silicon_circuit(model, products), codes)
        assert (outputs == model.integer_forward(codes)).all()


def test_the_binary_circuit_is_xnor_and_popcount():
    """Its sums are those of xnor_matmul: sum_k w x = (signs of x . w + sum_k w) / 2."""
    model = ql.integer_model(twin(1, 1))
    codes = vectors(model)
    for layer in model.layers[:-1]:
        codes = layer.forward(codes)
    last = model.layers[-1]
    agree = ql.xnor_matmul(ql.binarize(2.0 * codes - 1), ql.binarize(last.weight))
    sums = (agree + last.weight.sum(axis=1)) // 2 + last.bias
    outputs, _ = simulate_circuit(ql.silicon_circuit(model, 35), vectors_again(model))
    assert (last.accumulate(codes) == sums).all()
    assert (outputs == model.integer_forward(vectors_again(model))).all()


def vectors_again(model):
    """All inputs of one bit."""
    width = model.sizes[0]
    return np.arange(2**width)[:, None] >> np.arange(width) & 1


def test_thresholds_stand_where_the_code_changes():
    model = ql.integer_model(twin(1, 1, sizes=(4, 6, 3, 1)))
    layer = model.layers[0]
    lows, highs = layer.accumulator_range()
    bias = layer.bias.astype(np.int64)
    edges = _thresholds(layer, bias, lows - bias, highs - bias)
    for c, edge in enumerate(edges):
        acc = np.arange(lows[c], highs[c] + 1)
        one = layer.multiplier[c], layer.shift[c], layer.zero_point, layer.low, layer.high
        codes = ql.requantize(acc.astype(np.int32), *one)
        assert ((acc - bias[c] >= edge) == (codes == layer.high)).all()


def test_a_fully_parallel_circuit_takes_a_sample_in_every_cycle():
    model = ql.integer_model(twin(4, 4))
    circuit = ql.silicon_circuit(model, 35)
    codes, seen = vectors(model), []

    async def bench(ctx):
        for n in range(len(codes) + circuit.cycles):
            ctx.set(circuit.start, n < len(codes))
            for signal, code in zip(circuit.inputs, codes[min(n, len(codes) - 1)], strict=True):
                ctx.set(signal, int(code))
            await ctx.tick()
            if ctx.get(circuit.done):
                seen.append([ctx.get(signal) for signal in circuit.outputs])

    simulator = Simulator(circuit.module)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert (np.array(seen) == model.integer_forward(codes)).all()


def test_sums_of_powers_of_two():
    for w in range(-300, 300):
        digits = _digits(w)
        assert sum(sign << i for i, sign in digits) == w
        places = [i for i, _ in digits]
        assert all(b - a > 1 for a, b in pairwise(places))


def test_scales_become_powers_of_two_and_nothing_saturates_anew():
    for scheme in ("SYMMETRIC_PER_CHANNEL", "SYMMETRIC_PER_TENSOR"):
        before = twin(8, 8, scheme=scheme)
        after = power_of_two_scales(before)
        for layer in after.layers:
            for scale in (layer.weight.params.scale, layer.activation.scale):
                assert (np.log2(scale) % 1 == 0).all()
        assert after.saturation(X) <= before.saturation(X)
        assert ql.snr_db(before.predict_logits(X), after.predict_logits(X)) > 25
        factors = ql.integer_model(after).layers[0].multiplier
        assert set(factors.tolist()) == {2**30}


def test_bad_input_is_named():
    quantized = twin(8, 8)
    circuit = ql.silicon_circuit(ql.integer_model(quantized), 35)
    with pytest.raises(ValueError, match="QuantizedModel; expected what integer_model returns"):
        ql.silicon_circuit(quantized, 1)
    for products in (0, 1.5, True):
        with pytest.raises(ValueError, match="products"):
            ql.silicon_circuit(circuit.model, products)
    for codes in (X[:3], np.zeros((2, 3), int), np.full((1, 4), 256), np.zeros(4, int)):
        with pytest.raises(ValueError, match="expected integers 0 to 255 of shape"):
            simulate_circuit(circuit, codes)
    with pytest.raises(ValueError, match="expected a QuantizedModel"):
        power_of_two_scales(circuit.model)
    floats = ql.post_training_quantize(ql.TradingModel((4, 2, 1)), None, 8, None)
    with pytest.raises(ValueError, match="layer 0 has float inputs"):
        power_of_two_scales(floats)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    model = ql.integer_model(twin(8, 8))
    monkeypatch.setattr(rtl, "Module", None)
    with pytest.raises(ModuleNotFoundError, match=r"quantlab\[silicon\]"):
        ql.silicon_circuit(model, 1)
