"""Quantize, dequantize, pack, multiply: rules, properties, messages."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab import (
    QuantizationParams,
    QuantizationScheme,
    QuantizedTensor,
    binarize,
    choose_params,
    dequantize,
    fake_quantize,
    fixed_point_multiplier,
    lsq_gradient,
    max_error,
    measure,
    mse,
    quantize,
    quantized_matmul,
    requantize,
    saturation_rate,
    snr_db,
    ste_gradient,
)

S = QuantizationScheme
settings.register_profile("quantlab", deadline=None, derandomize=True, max_examples=150)
settings.load_profile("quantlab")

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=7), elements=FLOATS)


@st.composite
def grids(draw):
    bits = draw(st.integers(1, 16))
    signed, narrow = draw(st.booleans()), draw(st.booleans())
    if bits == 1 and narrow:
        signed = True
    p = QuantizationParams(1, 0 if signed else 1, bits, signed, narrow)
    low, high = (0, 0) if p.is_binary else (p.qmin, p.qmax)
    scale = draw(st.floats(2.0**-100, 2.0**90, width=32))
    return QuantizationParams(scale, draw(st.integers(low, high)), bits, signed, narrow)


@given(ARRAYS, grids())
def test_codes_are_on_the_grid_and_fake_is_the_round_trip(x, p):
    q = quantize(x, p)
    assert q.codes.dtype == p.code_dtype and q.shape == x.shape
    assert q.codes.min() >= p.qmin and q.codes.max() <= p.qmax
    fake = fake_quantize(x, p)
    assert fake.dtype == np.float32 and fake.tobytes() == dequantize(q).tobytes()


@given(ARRAYS, grids())
def test_fake_quantize_is_idempotent(x, p):
    once = fake_quantize(x, p)
    assert (fake_quantize(once, p) == once).all()


@given(st.lists(FLOATS, min_size=2, max_size=30), grids())
def test_monotonic(values, p):
    codes = quantize(np.sort(np.float32(values)), p).codes.astype(int)
    assert (np.diff(codes) >= 0).all()


@given(ARRAYS, grids())
def test_zero_is_exact(x, p):
    zero = fake_quantize(np.append(x, 0), p)[-1]  # whatever stands beside it
    assert zero == (p.scale if p.is_binary else 0)


@given(ARRAYS, grids())
def test_half_a_step_inside_the_clip_range(x, p):
    if p.is_binary:
        return
    scale = float(p.scale)
    low, high = (scale * (q - int(p.zero_point)) for q in (p.qmin, p.qmax))
    inside = (x >= low) & (x <= high)
    error = np.abs(x.astype(np.float64) - fake_quantize(x, p))[inside]
    # the division and the product each round to 24 bits
    assert (error <= scale * (0.5 + 2.0**-7)).all()


@given(
    ARRAYS, st.sampled_from(list(S)), st.integers(2, 16), st.booleans(),
    st.sampled_from([None, False]),
)  # fmt: skip
def test_round_trip_with_chosen_parameters(x, scheme, bits, signed, narrow):
    p = choose_params(x, scheme, bits, signed=signed, narrow_range=narrow)
    error = np.abs(x.astype(np.float64) - fake_quantize(x, p))
    slack = 1 + 2.0**-6
    # a zero point clamped or rounded can move the ends of an asymmetric range by half a step
    bound = 0.5 if scheme.symmetric else 1.0
    assert (error <= bound * slack * p.broadcast(x.shape)[0]).all()


@given(ARRAYS, grids())
def test_packing_is_the_identity(x, p):
    q = quantize(x, p)
    packed = q.pack()
    assert packed.dtype == np.uint8 and packed.size == -(-x.size * p.bits // 8)
    assert (QuantizedTensor.from_packed(packed, p, x.shape).codes == q.codes).all()


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("scheme", list(S))
@pytest.mark.parametrize("block_size", [None, 4])
def test_every_width_and_scheme(bits, scheme, block_size):
    x = np.random.default_rng(bits).standard_normal((6, 8)).astype(np.float32)
    p = choose_params(x, scheme, bits, axis=1, block_size=block_size)
    q = quantize(x, p)
    scales = 12 if block_size else 8 if scheme.per_channel else 1
    zero_points = q.codes.itemsize * scales if p.zero_point.any() else 0
    codes = 6 * 8 * bits / 8 if bits < 8 else 48 * q.codes.itemsize
    assert q.nbytes == codes + 4 * scales + zero_points
    assert (QuantizedTensor.from_packed(q.pack(), p, x.shape).codes == q.codes).all()
    assert (q.T.dequantize() == q.dequantize().T).all()
    assert (q.T.T.codes == q.codes).all()


def test_ties_and_the_order_of_the_zero_point():
    p = QuantizationParams(1, 3, bits=4, signed=False)
    # rint(x) + 3, not rint(x + 3): 0.5 goes to the even 0, so to code 3
    assert quantize([0.5, 1.5, 2.5, -0.5], p).codes.tolist() == [3, 5, 5, 3]


def test_clamp_comes_before_the_cast():
    x = [1e38, -1e38, 3.4e38, 40000.0, -40000.0]
    for bits in (1, 2, 8, 9, 16):
        p = QuantizationParams(1e-6, 0, bits)
        assert quantize(x, p).codes.tolist() == [p.qmax, p.qmin, p.qmax, p.qmax, p.qmin]


def test_binary():
    x = np.array([[0.5, -0.0, 0.0], [-2.0, 1.0, -1.5]])
    p = choose_params(x, S.SYMMETRIC_PER_CHANNEL, 1)
    q = quantize(x, p)
    assert q.codes.tolist() == [[1, 1, 1], [-1, 1, -1]] and q.codes.dtype == np.int8
    assert np.allclose(p.scale, [0.5 / 3, 1.5])
    assert q.nbytes == 1 + 8 and q.pack().tolist() == [0b010111]
    assert (fake_quantize(x, p) == q.dequantize()).all()


def test_a_group_of_zeros_comes_back_as_zeros_at_one_bit():
    w = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    w[2] = 0  # a pruned neuron
    w[3, :16] = 0
    grids = {
        "channel": choose_params(w, S.SYMMETRIC_PER_CHANNEL, 1),
        "block": choose_params(w, S.SYMMETRIC_PER_TENSOR, 1, axis=1, block_size=16),
        "tensor": choose_params(np.zeros_like(w), S.SYMMETRIC_PER_TENSOR, 1),
        "by hand": QuantizationParams(0, 0, 1, narrow_range=True),
    }
    for name, p in grids.items():
        x = w if p.scale.any() else np.zeros_like(w)
        zero = p.broadcast(x.shape)[0] == 0
        assert zero.any() and not x[zero].any(), name
        q = quantize(x, p)
        assert set(np.unique(q.codes)) <= {-1, 1}
        back = QuantizedTensor.from_packed(q.pack(), p, q.shape)
        for values in (q.dequantize(), fake_quantize(x, p), back.dequantize()):
            assert not values[zero].any() and np.abs(values[~zero]).all(), name
        assert measure(x, p).mse == pytest.approx(mse(x, q.dequantize()))
        assert saturation_rate(x, p) == np.mean(np.abs(x) > 2 * p.broadcast(x.shape)[0])
        # learning may leave 0: the mask is open there, and the scale has a slope
        assert (ste_gradient(x, p, np.ones_like(x))[zero] == 1).all()
        assert lsq_gradient(x, p, np.ones_like(x)).shape == p.scale.shape
    rows = binarize(w)
    assert rows.alpha.tobytes() == grids["channel"].scale.tobytes() and rows.alpha[2] == 0
    acc = quantized_matmul(quantize(np.ones((1, 64)), QuantizationParams(0.01, 0)), quantize(
        w, grids["channel"]).T, out=QuantizationParams(0.1, 0))  # fmt: skip
    assert acc.dequantize()[0, 2] == 0
    for bits, narrow in ((1, False), (2, True), (8, True)):
        with pytest.raises(ValueError, match="expected a positive, finite number"):
            QuantizationParams(0, 0, bits, narrow_range=narrow)


def test_groups_as_deployed():
    """Scales in FP16, or as 8-bit codes of their own: what groups cost and gain at 4 bits."""

    def gain_db(w, p, bits):  # over channels with FP16 scales, at equal size: 6.02 dB a bit
        rows = choose_params(w, S.SYMMETRIC_PER_CHANNEL, 4)
        rows = replace(rows, scale=rows.scale.astype(np.float16))
        more = bits - (4 + 16 / w.shape[1])
        snr = snr_db(w, fake_quantize(w, p)) - snr_db(w, fake_quantize(w, rows))
        return snr - 20 * np.log10(2) * more

    rng = np.random.default_rng(0)
    shape = 64, 4096
    for w, half, double in (
        (rng.standard_normal(shape), 1.9, 2.6),
        (rng.standard_t(4, shape), 7.0, 7.7),
    ):
        w = w.astype(np.float32)
        groups = choose_params(w, S.SYMMETRIC_PER_TENSOR, 4, axis=1, block_size=64)
        fp16 = replace(groups, scale=groups.scale.astype(np.float16))
        assert gain_db(w, fp16, 4 + 16 / 64) == pytest.approx(half, abs=0.5)
        mean = groups.scale.mean()
        rest = (groups.scale - mean).reshape(-1)
        outer = choose_params(rest, S.SYMMETRIC_PER_TENSOR, 8, axis=0, block_size=256)
        scale = (mean + fake_quantize(rest, outer)).reshape(groups.scale.shape)
        coded = replace(groups, scale=scale)
        assert gain_db(w, coded, 4 + 8 / 64 + 32 / (64 * 256)) == pytest.approx(double, abs=0.5)
    with pytest.raises(ValueError, match=r"scale is 0.0 in float32"):  # FP16 ends at 6e-8
        replace(groups, scale=(groups.scale * 1e-9).astype(np.float16))


def test_accepted_input():
    p = QuantizationParams(0.5, 0)
    for x in (1, 1.0, True, np.float16(1), np.int64(1), np.uint8(1)):
        assert quantize(x, p).codes.item() == 2 and quantize(x, p).shape == ()
    strided = np.arange(24, dtype=np.float64).reshape(4, 6)[::2, ::-3]
    assert quantize(strided, p).codes.tolist() == (strided * 2).astype(int).tolist()
    assert quantize(np.asfortranarray(strided), p).codes.tolist() == (strided * 2).tolist()
    given = np.ones(3, np.float32)
    given.setflags(write=False)
    assert fake_quantize(given, p).flags.writeable
    for x in (np.ones(3, ">f4"), np.ones(3, ">i2"), np.longdouble([1] * 3), np.ma.ones(3),
              (1, 1, 1), range(1, 2), memoryview(given), pd.Series([1.0] * 3),
              pd.Series([1] * 3, dtype="Int64"), pd.DataFrame({"a": [1.0], "b": [1]})):  # fmt: skip
        assert set(quantize(x, p).codes.ravel().tolist()) == {2}
        assert set(fake_quantize(x, p).ravel().tolist()) == {1.0}


@pytest.mark.parametrize(
    "x, message",
    [
        ([[1, np.nan], [np.nan, np.nan]], r"x has 3 NaN values \(first at index \(0, 1\)\); drop"),
        ([1, 2, -np.inf], r"x has 1 infinite value \(first at index 2\); drop or fill"),
        ([], r"x is empty \(shape \(0,\)\)"),
        ([1e39, 0], "x has 1 values? beyond float32"),
        ([1j], "dtype complex128; expected real numbers"),
        (["a"], "expected real numbers"),
        ([None], "dtype object"),
        (None, "x is a NoneType; expected an array of real numbers"),
        ({1.0}, "x is a set"),
        (np.zeros(2, "f4,i4"), "expected real numbers"),
        (np.zeros(2, "M8[s]"), "expected real numbers"),
        (np.array([1.0], object), "dtype object"),
        (np.longdouble(["1e4000"]), "beyond float32"),
        (pd.Series([1, None], dtype="Int64"), "1 NaN value|dtype object"),
        (pd.DataFrame({"a": [1.0], "b": ["x"]}), "convert or select columns first"),
        (np.ma.masked_equal([1.0, 2, 2], 2), r"x has 2 masked values, .* x.filled\(value\)"),
        ([1.0, np.ma.masked], "x has 1 masked values"),
        ([np.ma.masked_equal([1.0, 2], 2)] * 2, "x has 2 masked values"),
        ([[1], [1, 2]], "not a rectangular array"),
    ],
)
def test_bad_input(x, message):
    p = QuantizationParams(1, 0)
    calls = {
        "quantize": lambda: quantize(x, p),
        "fake_quantize": lambda: fake_quantize(x, p),
        "choose_params": lambda: choose_params(x, S.SYMMETRIC_PER_TENSOR),
        "ste_gradient": lambda: ste_gradient(x, p, x),
        "lsq_gradient": lambda: lsq_gradient(x, p, x),
        "measure": lambda: measure(x, p),
        "saturation_rate": lambda: saturation_rate(x, p),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
            call()


@pytest.mark.parametrize("grid", [0.5, None, "int8", (0.5, 0), S.SYMMETRIC_PER_TENSOR])
def test_what_is_no_grid(grid):
    gradients = [lambda x, p, f=f: f(x, p, x) for f in (ste_gradient, lsq_gradient)]
    for call in (quantize, fake_quantize, measure, saturation_rate, *gradients):
        with pytest.raises(
            ValueError, match=rf"params is a {type(grid).__name__}; .*choose_params"
        ):
            call(np.ones(3), grid)
    with pytest.raises(ValueError, match=r"dequantize: q is a \w+; expected a QuantizedTensor"):
        dequantize(grid)


def test_bad_tensors():
    p = QuantizationParams(1, 0, 4)
    for codes, message in (
        (np.array([1.0]), "expected an array of int8"),
        ([1], "expected an array of int8"),
        (np.array([8], np.int8), "codes run from 8 to 8; expected -8 to 7"),
        (np.zeros((0, 2), np.int8), "codes is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            QuantizedTensor(codes, p)
    with pytest.raises(ValueError, match="contain 0; expected -1 or 1"):
        QuantizedTensor(np.array([0, 1], np.int8), QuantizationParams(1, 0, 1, True, True))
    with pytest.raises(ValueError, match="expected QuantizationParams"):
        QuantizedTensor(np.zeros(1, np.int8), 0.5)
    with pytest.raises(ValueError, match=r"need uint8 \(2,\)"):
        QuantizedTensor.from_packed(np.zeros(3, np.uint8), p, (4,))
    with pytest.raises(ValueError, match="expected a matrix"):
        quantize([1], p).T  # noqa: B018


def test_straight_through():
    p = QuantizationParams(1, 0, 4)
    x = [-8.6, -8.5, 7.5, 7.49, 0]  # -8.5 rounds to -8, 7.5 to 8
    assert ste_gradient(x, p, np.full(5, 3)).tolist() == [0, 3, 0, 3, 3]
    binary = QuantizationParams(0.5, 0, 1, True, True)
    assert ste_gradient([-1.01, -1, 0, 1.01], binary, np.ones(4)).tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="expected equal shapes"):
        ste_gradient([1, 2], p, [1])


# --- integer arithmetic


def random_pair(rng, m, k, n, w_bits=8, x_bits=8):
    x = rng.standard_normal((m, k)) + 0.3
    w = rng.standard_normal((n, k)) * rng.uniform(0.1, 3, (n, 1))
    xq = quantize(x, choose_params(x, S.ASYMMETRIC_PER_TENSOR, x_bits, signed=False))
    return xq, quantize(w, choose_params(w, S.SYMMETRIC_PER_CHANNEL, w_bits)).T


@pytest.mark.parametrize("w_bits", [1, 2, 4, 8])
def test_product_equals_the_product_of_the_real_values(w_bits):
    x, w = random_pair(np.random.default_rng(0), 5, 33, 7, w_bits)
    acc = quantized_matmul(x, w)
    assert acc.dtype == np.int32 and acc.shape == (5, 7)
    exact = x.dequantize().astype(float) @ w.dequantize().astype(float)
    assert np.allclose(acc * (float(x.params.scale) * w.params.scale.astype(float)), exact)


def test_product_with_zero_points_on_both_sides():
    rng = np.random.default_rng(1)
    for bits, k in ((8, 40), (4, 9), (16, 1)):
        x, w = rng.standard_normal((3, k)), rng.standard_normal((k, 6))
        xq = quantize(x, choose_params(x, S.ASYMMETRIC_PER_TENSOR, bits, signed=False))
        p = choose_params(w, S.ASYMMETRIC_PER_CHANNEL, 8, axis=1)
        wq = quantize(w, p)
        exact = (xq.codes.astype(object) - int(xq.params.zero_point)) @ (
            wq.codes.astype(object) - p.zero_point
        )
        assert (quantized_matmul(xq, wq) == exact.astype(int)).all()


def test_requantized_product():
    rng = np.random.default_rng(2)
    x, w = random_pair(rng, 50, 64, 20)
    bias = rng.integers(-5000, 5000, 20)
    acc = quantized_matmul(x, w, bias=bias)
    real = acc * x.params.scale.astype(float) * w.params.scale
    out = choose_params(real, S.ASYMMETRIC_PER_TENSOR, 8)
    y = quantized_matmul(x, w, out, bias=bias)
    assert y.codes.dtype == np.int8
    assert max_error(real, y.dequantize()) <= float(out.scale) * 0.501 + abs(real).max() * 2.0**-8
    direct = np.clip(np.rint(real / float(out.scale)) + out.zero_point, -128, 127)
    assert (y.codes == direct).mean() > 0.999


def test_accumulator_bound():
    x = QuantizationParams(1, 0, signed=False)
    w = QuantizationParams(1, 0, narrow_range=True)
    most = (2**31 - 1) // (255 * 127)
    assert 66_000 < most < 67_000
    ones = np.full((1, most), 255, np.uint8), np.full((most, 1), 127, np.int8)
    full = quantized_matmul(QuantizedTensor(ones[0], x), QuantizedTensor(ones[1], w))
    assert full.tolist() == [[most * 255 * 127]]
    longer = np.zeros((1, most + 1), np.uint8), np.zeros((most + 1, 1), np.int8)
    with pytest.raises(ValueError, match=f"split K into parts of at most {most:,}"):
        quantized_matmul(QuantizedTensor(longer[0], x), QuantizedTensor(longer[1], w))
    with pytest.raises(ValueError, match="overflow"):
        quantized_matmul(QuantizedTensor(ones[0], x), QuantizedTensor(ones[1], w), bias=[2**31 - 1])


def test_products_that_do_not_fit():
    rng = np.random.default_rng(3)
    x, w = random_pair(rng, 2, 8, 4)
    rows = quantize(rng.standard_normal((2, 8)), QuantizationParams([1, 2], 0, axis=0))
    blocked = QuantizationParams(np.ones((2, 4)), 0, axis=0, block_size=4)
    for arguments, message in (
        ((x, w.T), r"x has shape \(2, 8\), w \(4, 8\)"),
        ((x, np.ones((8, 4))), "w is ndarray; expected a QuantizedTensor"),
        ((rows, w), "x has scales along axis 0"),
        ((x, quantize(np.ones((8, 4)), blocked)), "w has blocks of 4 along axis 0"),
        ((x, quantize(np.ones((8, 4)), QuantizationParams(np.ones(8), 0, axis=0))), "along axis 0"),
        ((x, w, QuantizationParams(np.ones(4), 0, axis=1)), "expected one scale for the whole"),
    ):
        with pytest.raises(ValueError, match=f"quantized_matmul: .*{message}"):
            quantized_matmul(*arguments)
    for bias, message in (([1, 2], r"expected \(4,\)"), ([0.5] * 4, "expected integers")):
        with pytest.raises(ValueError, match=message):
            quantized_matmul(x, w, bias=bias)


@given(st.floats(2.0**-31, 2.0**29))
def test_multiplier(real):
    m, shift = fixed_point_multiplier(real)
    assert 2**30 <= m < 2**31 and 1 <= shift <= 62
    assert abs(m * 2.0**-shift - real) <= real * 2.0**-31


def test_multiplier_edges():
    assert fixed_point_multiplier(0) == (0, 31)
    assert fixed_point_multiplier(1.0) == (2**30, 30)
    assert fixed_point_multiplier(np.nextafter(1.0, 0)) == (2**30, 30)  # the mantissa carries
    assert fixed_point_multiplier(2.0**-40) == (0, 31)
    m, shift = fixed_point_multiplier([0.5, 0.0, 3.0])
    assert m.tolist() == [2**30, 0, 3 * 2**29] and shift.tolist() == [31, 31, 29]
    for bad in (-1, np.nan, np.inf, 2**30):
        with pytest.raises(ValueError, match="fixed_point_multiplier: real"):
            fixed_point_multiplier(bad)


@given(st.integers(-(2**31), 2**31 - 1), st.floats(2.0**-35, 2.0**10))
def test_requantize_is_one_rounding(acc, real):
    m, shift = fixed_point_multiplier(real)
    exact = ((acc * m + (1 << (shift - 1))) >> shift) + 2
    assert requantize(acc, m, shift, 2, -128, 127).item() == min(max(exact, -128), 127)


def test_requantize_messages_and_types():
    assert requantize([5], 2**30, 30, 0, 0, 255).dtype == np.uint8
    assert requantize([5], 2**30, 30, 0, -9, 300).dtype == np.int16
    assert requantize([[5, 7]], [2**30, 2**30], [30, 31], 0, 0, 9).tolist() == [[5, 4]]
    for arguments, message in (
        (([1.5], 1, 1, 0, 0, 9), "acc is float64"),
        (([2**31], 1, 1, 0, 0, 9), "acc is int64 from 2147483648"),
        (([1], 2**31, 1, 0, 0, 9), "m is int64"),
        (([1], 1, 0, 0, 0, 9), "shift is int64"),
        (([1], [1, 2], 1, 0, 0, 9), "m has shape"),
        (([1], 1, 1, 0, -1, 40000), "codes -1 to 40000"),
    ):
        with pytest.raises(ValueError, match=f"requantize: {message}"):
            requantize(*arguments)
