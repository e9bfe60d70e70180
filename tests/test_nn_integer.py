"""Models on integers alone: equal to plain NumPy integers, on every path, and to onnxruntime."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quantlab as ql
from quantlab import QuantizationParams, QuantizationScheme, explain_mismatch, kernels, quantize
from quantlab.integer import fixed_point_multiplier, requantize
from quantlab.nn import (
    BinaryLinearLayer,
    IntegerLayer,
    QuantizedLinearLayer,
    QuantizedModel,
    TradingModel,
    integer_model,
    post_training_quantize,
)

TENSOR = QuantizationScheme.SYMMETRIC_PER_TENSOR


def quantized_model(seed, sizes=(6, 16, 9, 2), **options):
    rng = np.random.default_rng(seed)
    model = TradingModel(sizes, seed)
    for layer in model.layers:
        layer.bias = rng.standard_normal(layer.bias.shape).astype(np.float32) / 4
    x = rng.standard_normal((300, sizes[0])).astype(np.float32)
    return post_training_quantize(model, x, **options), 1.3 * x  # some rows saturate


def plain(quantized, codes):
    """The network in NumPy integers: zero points subtracted, the rule of rounding written out."""
    x, outputs = codes.astype(np.int64), []
    for layer, after in zip(quantized.layers, [*quantized.layers[1:], None], strict=True):
        grid, p = layer.activation, layer.weight.params
        unit = np.float64(grid.scale) * np.broadcast_to(p.scale, layer.shape[:1])
        w = layer.weight.codes.astype(np.int64).T - p.zero_point
        acc = (x - int(grid.zero_point)) @ w + np.rint(layer.bias / unit).astype(np.int64)
        outputs.append(acc)
        if after is None:
            return outputs
        g = after.activation
        m, shift = fixed_point_multiplier(unit / np.float64(g.scale))
        x = ((acc * m + (1 << (shift - 1))) >> shift) + int(g.zero_point)
        x = np.clip(x, max(g.qmin, int(g.zero_point)), g.qmax)
        outputs.append(x)


def check_against_plain():
    for seed, (scheme, bits, a_bits) in enumerate(
        (s, b, a) for s in QuantizationScheme for b in (1, 2, 4, 8, 12) for a in (2, 8, 12)
    ):
        quantized, x = quantized_model(
            seed, weight_bits=bits, activation_bits=a_bits, scheme=scheme
        )
        twin = integer_model(quantized)
        codes = quantize(x, twin.input_grid).codes
        wanted = plain(quantized, codes)
        assert np.array_equal(twin.integer_forward(codes), wanted[-1])
        inputs, outputs = twin._forward(x, "")
        assert all(a.dtype.kind in "iu" for a in [*inputs, *outputs])
        made = []
        for layer, given_, out in zip(twin.layers, inputs, outputs, strict=True):
            made += [layer.accumulate(given_)] + ([out] if layer.multiplier is not None else [])
        assert len(made) == len(wanted)
        assert all(np.array_equal(got, aim) for got, aim in zip(made, wanted, strict=True))


@pytest.mark.parametrize("path", kernels.available())
def test_every_path_equals_plain_integers(path):
    environment = os.environ | {"QUANTLAB_KERNELS": path}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_no_float_stands_between_the_codes(monkeypatch):
    quantized, x = quantized_model(0)
    twin = integer_model(quantized)
    for layer in twin.layers:
        parts = [v for v in vars(layer).values() if isinstance(v, np.ndarray)]
        assert len(parts) >= 3 and all(v.dtype.kind in "iu" for v in parts)
    codes = quantize(x, twin.input_grid).codes
    monkeypatch.setattr(twin, "step", None)
    monkeypatch.setattr(twin, "input_grid", None)  # the scales are not looked at
    assert twin.integer_forward(codes).dtype == np.int32


def test_weights_are_packed_once_and_packed_anew_after_a_journey(monkeypatch):
    quantized, x = quantized_model(3)
    model = integer_model(quantized)
    wanted = model.predict_logits(x)
    away = pickle.loads(pickle.dumps(model))
    assert not any("_packed" in vars(layer) for layer in away.layers)
    np.testing.assert_array_equal(away.predict_logits(x), wanted)
    monkeypatch.setattr(kernels, "pack_weights", None)  # a second packing would fail
    np.testing.assert_array_equal(model.predict_logits(x), wanted)


def test_one_scale_at_the_end_and_the_same_decisions():
    quantized, x = quantized_model(3, (6, 32, 16, 1))
    twin = integer_model(quantized)
    acc = twin.integer_forward(quantize(x, twin.input_grid).codes)
    logits = twin.predict_logits(x)
    assert logits.dtype == np.float32 and logits.shape == (300,)
    np.testing.assert_array_equal(logits, acc[:, 0].astype(np.float32) * twin.step[0])
    assert ql.snr_db(quantized.predict_logits(x), logits) > 40
    assert np.mean(twin.predict(x) == quantized.predict(x)) > 0.99
    assert twin.sizes == (6, 32, 16, 1) and "IntegerModel" in repr(twin)


def test_output_codes_are_the_accumulators_requantized():
    quantized, x = quantized_model(4)
    out = ql.choose_params(quantized.predict_logits(x), TENSOR)
    twin, raw = integer_model(quantized, out), integer_model(quantized)
    codes = quantize(x, twin.input_grid).codes
    m, shift = fixed_point_multiplier(raw.step.astype(np.float64) / np.float64(out.scale))
    wanted = requantize(raw.integer_forward(codes), m, shift, 0, -127, 127)
    got = twin.integer_forward(codes)
    assert got.dtype == np.int8 and np.abs(got.astype(int) - wanted).max() <= 1
    assert np.mean(got == wanted) > 0.999  # step is rounded to float32, the model's factor is not
    shifted = integer_model(quantized, QuantizationParams(out.scale, 9, signed=False))
    same = (got >= -9) & (got < 120)
    np.testing.assert_allclose(
        shifted.predict_logits(x)[same], twin.predict_logits(x)[same], atol=1e-6
    )


def test_the_accumulator_bound_is_reached_and_checked():
    quantized, _ = quantized_model(5)
    layer = integer_model(quantized).layers[1]
    low, high = layer.accumulator_range()
    worst = np.where(layer.weight.T > 0, 255, 0)  # (in, out): the input that drives output c up
    acc = layer.accumulate(np.ascontiguousarray(worst.T, np.uint8))
    np.testing.assert_array_equal(np.diag(acc), high)
    assert (low <= layer.bias).all() and (high >= layer.bias).all()
    k = 66_311  # 66,311 * 255 * 127 = 2**31 - 1,913: the last K that always fits
    wide = np.full((1, k), 127, np.int8)
    zero, bias = np.zeros(1, np.int32), np.zeros(1, np.int32)
    fits = IntegerLayer(wide, zero, bias, (0, 255))
    assert int(fits.accumulate(np.full((1, k), 255, np.uint8))[0, 0]) == k * 255 * 127
    with pytest.raises(ValueError, match=r"K = 66,312 products .* K may be about 66,311"):
        IntegerLayer(np.full((1, k + 1), 127, np.int8), zero, bias, (0, 255))
    with pytest.raises(ValueError, match="beyond int32"):
        replace(fits, bias=np.int32([2**31 - 1]))


def test_what_has_no_integer_twin_says_why():
    model, x = TradingModel((3, 4, 1)), np.random.default_rng(0).standard_normal((50, 3))
    for options, match in (
        ({"activation_bits": None}, "layer 0 has float inputs"),
        ({"dynamic": True}, "layer 0 measures its grid anew"),
        ({"block_size": 1}, "per-channel"),
        ({"weight_bits": (8, None)}, "layer 1 is a LinearLayer"),
    ):
        with pytest.raises(ValueError, match=match):
            integer_model(post_training_quantize(model, x, **options))
    with pytest.raises(ValueError, match="expected a QuantizedModel"):
        integer_model(model)
    binary = QuantizedModel([BinaryLinearLayer.from_linear(layer) for layer in model.layers])
    with pytest.raises(ValueError, match="layer 0 is a BinaryLinearLayer"):
        integer_model(binary)
    quantized = post_training_quantize(model, x)
    with pytest.raises(ValueError, match="expected one scale"):
        integer_model(quantized, QuantizationParams([1.0, 2.0], 0, axis=0))
    weights = np.float32([[1e-9, 0, 0]])
    grid = ql.choose_params(weights, QuantizationScheme.SYMMETRIC_PER_CHANNEL)
    tiny = QuantizedLinearLayer(quantize(weights, grid), [1.0], quantized.layers[0].activation)
    with pytest.raises(ValueError, match=r"bias of output 0 is .* beyond int32"):
        integer_model(QuantizedModel([tiny]))
    twin = integer_model(quantized)
    for bad in (np.full((2, 3), 256), np.zeros((2, 4), np.uint8), np.zeros((2, 3))):
        with pytest.raises(ValueError, match=r"codes are .* expected integers 0 to 255"):
            twin.integer_forward(bad)
    with pytest.raises(ValueError, match=r"IntegerModel.predict_logits: x has 4 columns"):
        twin.predict_logits(np.zeros((2, 4)))


def onnx_graph(twin, quantized):
    """QLinearMatMul for hidden layers (biases as extra columns), MatMulInteger for the last."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    now, last = "x", len(twin.layers) - 1
    for i, (layer, whole) in enumerate(zip(quantized.layers, twin.layers, strict=True)):
        grid, p = layer.activation, layer.weight.params
        zx = int(grid.zero_point)
        w, unfolded = whole.weight.T, whole.bias + zx * whole.weight.sum(axis=1, dtype=np.int64)
        zero = constant(f"zx{i}", np.uint8(zx))
        if i == last:
            nodes.append(
                helper.make_node("MatMulInteger", [now, constant(f"w{i}", w), zero], ["a"])
            )
            nodes.append(
                helper.make_node("Add", ["a", constant("b", unfolded.astype(np.int32))], ["acc"])
            )
            continue
        # bias = far * (several codes) + near * rest, on input columns that are constant
        far, near = (255 if zx < 128 else 0), (zx + 1 if zx < 255 else zx - 1)
        big, small = far - zx, near - zx
        count = np.rint(unfolded / big).astype(np.int64)
        rest = (unfolded - count * big) * small
        columns = int(np.ceil(np.abs(count).max() / 127)) or 1
        rows = [np.clip(count - 127 * j * np.sign(count), -127, 127) for j in range(columns)]
        rows = [np.where(np.abs(count) > 127 * j, r, 0) for j, r in enumerate(rows)]
        assert np.array_equal(big * np.sum(rows, axis=0) + small * rest, unfolded)
        w = np.concatenate([w, np.array(rows, np.int8), rest[None].astype(np.int8)])
        fill = np.uint8([[far] * columns + [near]])
        wide = constant(f"fill{i}", fill)
        shape = [constant(f"n{i}", np.int64([0])), constant(f"m{i}", np.int64([1 + columns]))]
        nodes.append(helper.make_node("Shape", [now], [f"s{i}"]))
        nodes.append(helper.make_node("Gather", [f"s{i}", shape[0]], [f"r{i}"]))
        nodes.append(helper.make_node("Concat", [f"r{i}", shape[1]], [f"t{i}"], axis=0))
        nodes.append(helper.make_node("Expand", [wide, f"t{i}"], [f"e{i}"]))
        nodes.append(helper.make_node("Concat", [now, f"e{i}"], [f"c{i}"], axis=1))
        after = quantized.layers[i + 1].activation
        names = [
            f"c{i}",
            constant(f"sx{i}", grid.scale),
            zero,
            constant(f"w{i}", w),
            constant(f"sw{i}", np.broadcast_to(p.scale, layer.shape[:1]).copy()),
            constant(f"zw{i}", np.zeros(layer.shape[0], np.int8)),
            constant(f"sy{i}", after.scale),
            constant(f"zy{i}", np.uint8(after.zero_point)),
        ]
        nodes.append(helper.make_node("QLinearMatMul", names, [f"q{i}"]))
        floor = constant(f"floor{i}", np.uint8(after.zero_point))
        nodes.append(helper.make_node("Clip", [f"q{i}", floor], [f"h{i}"]))
        now = f"h{i}"
    outputs = [helper.make_tensor_value_info("acc", TensorProto.INT32, ["n", twin.sizes[-1]])]
    outputs += [
        helper.make_tensor_value_info(f"h{i}", TensorProto.UINT8, ["n", twin.sizes[i + 1]])
        for i in range(last)
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", twin.sizes[0]])]
    graph = helper.make_graph(nodes, "integers", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model)
    return model.SerializeToString()


def near_a_tie(layer, acc):
    """Rows with a quotient within float32's reach of a tie: onnxruntime multiplies in float32."""
    rest = (acc * layer.multiplier) / 2.0**layer.shift
    return (np.abs(rest - np.floor(rest) - 0.5) < 1e-4).any(axis=1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    widths=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    bits=st.sampled_from([2, 4, 8]),
    scheme=st.sampled_from([TENSOR, QuantizationScheme.SYMMETRIC_PER_CHANNEL]),
)
def test_onnxruntime_computes_the_same_integers(seed, widths, bits, scheme):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    quantized, x = quantized_model(seed, tuple(widths), weight_bits=bits, scheme=scheme)
    twin = integer_model(quantized)
    session = runtime.InferenceSession(
        onnx_graph(twin, quantized), providers=["CPUExecutionProvider"]
    )
    codes = quantize(x, twin.input_grid).codes
    acc, *hidden = session.run(None, {"x": codes})
    inputs, outputs = twin._forward(x, "")
    close = np.zeros(len(x), bool)  # rows that a near-tie has touched, here or in a layer before
    for layer, a, mine, theirs in zip(twin.layers, inputs, outputs, hidden, strict=False):
        close |= near_a_tie(layer, layer.accumulate(a).astype(np.int64))
        np.testing.assert_array_equal(mine[~close], theirs[~close])
    np.testing.assert_array_equal(twin.integer_forward(codes)[~close], acc[~close])
    assert close.mean() < 0.2


# Mismatch

OUT = QuantizationParams(0.125, 3)
ACC = np.r_[-2000:2000, 12345, -54321].reshape(-1, 2)
SCALES = np.float32([2**-5, 0.0123])  # the first column has exact ties


def others(name):
    """The rule written plainly, in float64 or float32, as an engineer would."""
    ratio = np.float64(SCALES) / 0.125
    exact, z = ACC * ratio, 3
    single = ACC.astype(np.float32) * SCALES
    multiplier = {
        "one rounding, ties up": np.floor(exact + 0.5) + z,
        "one rounding, ties to even": np.rint(exact) + z,
        "one rounding, ties away from zero": np.copysign(np.floor(np.abs(exact) + 0.5), exact) + z,
        "no rounding (floor)": np.floor(exact) + z,
        "zero point inside the rounding": np.rint(exact + z),
    }
    if name.startswith("wrap"):
        return (np.floor(exact + 0.5) + z).astype(np.int64).astype(np.int8)
    if name in multiplier:
        return np.clip(multiplier[name], -128, 127).astype(np.int8)
    return np.clip(np.rint(single / np.float32(0.125)) + z, -128, 127).astype(np.int8)


@pytest.mark.parametrize(
    "rule",
    [
        "one rounding, ties to even",
        "one rounding, ties away from zero",
        "no rounding (floor)",
        "zero point inside the rounding",
        "wrap: no clamp before the cast",
    ],
)
def test_each_rule_is_told_apart(rule):
    report = explain_mismatch(others("one rounding, ties up"), others(rule), ACC, SCALES, OUT)
    assert report.count > 0 and report.a_rules == ("one rounding, ties up",)
    assert rule in report.b_rules
    exact = {r for r in report.b_rules if not r.startswith("float32")}
    assert exact == {rule}  # float32 rules may agree with ties to even where all is exact
    assert rule in str(report) and "codes differ" in str(report)


def gemmlowp(acc, m, shift):
    """gemmlowp's fixedpoint.h, one number at a time."""
    product = acc * m
    nudge = 2**30 if product >= 0 else 1 - 2**30
    high = int((product + nudge) / 2**31)  # C truncates
    exponent = shift - 31
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> exponent) + ((high & mask) > threshold)


def test_double_rounding_is_told_apart():
    scale, out = 0.25, QuantizationParams(1.0, 0)
    acc = np.arange(-600, 600)
    m, shift = fixed_point_multiplier(scale)
    twice = np.clip([gemmlowp(int(a), m, shift) for a in acc], -128, 127)
    once = requantize(acc, m, shift, 0, -128, 127)
    report = explain_mismatch(once, twice, acc, scale, out)
    assert report.b_rules == ("double rounding",) and report.count > 50
    assert report.a_rules == ("one rounding, ties up",)


def test_float32_rules_are_told_apart():
    rng = np.random.default_rng(0)
    out = QuantizationParams(0.7, 0, bits=16)
    acc = rng.integers(-(2**31), 2**31, 200_000)
    scale = np.float32(1.03e-5)
    single = acc.astype(np.float32)
    divided = np.rint(single * scale / np.float32(0.7))
    inverse = np.rint(single * scale * (np.float32(1) / np.float32(0.7)))
    ratio = np.rint(single * (scale / np.float32(0.7)))
    once = requantize(
        acc, *fixed_point_multiplier(float(scale) / float(out.scale)), 0, -32768, 32767
    )
    for name, codes in (
        ("float32, divided by the output scale", divided),
        ("float32, inverse multiplied", inverse),
        ("float32 requantization", ratio),
    ):
        codes = np.clip(codes, -32768, 32767).astype(np.int64)
        report = explain_mismatch(once, codes, acc, scale, out)
        assert report.b_rules == (name,) and report.largest == 1
        assert "one rounding, ties up" in report.a_rules


def test_mismatch_of_equal_and_of_unknown_codes():
    up = others("one rounding, ties up")
    assert str(explain_mismatch(up, up, ACC, SCALES, OUT)) == f"all {up.size:,} codes are equal"
    wrong = explain_mismatch(up, np.zeros_like(up), ACC, SCALES, OUT)
    assert "b fits: none of the known rules" in str(wrong)
    relu = explain_mismatch(np.maximum(up, 3), up, ACC, SCALES, OUT, relu=True)
    assert "one rounding, ties up" in relu.a_rules and not relu.b_rules
    for bad, match in (
        ((up, up[:-1], ACC, SCALES, OUT), "expected integers of one shape"),
        ((up, up * 1.0, ACC, SCALES, OUT), "expected integers of one shape"),
        ((up, up, ACC, np.ones(3), OUT), "one per column"),
        ((up, up, ACC * 10**9, SCALES, OUT), "beyond int32"),
        ((up, up, ACC, SCALES, 0.125), "expected a grid"),
    ):
        with pytest.raises(ValueError, match=match):
            explain_mismatch(*bad)


if __name__ == "__main__":
    check_against_plain()
