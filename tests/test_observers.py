"""Observers fed in pieces against choose_params of the whole array; the gradient of the scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab import (
    HistogramObserver,
    MinMaxObserver,
    QuantizationParams,
    QuantizationScheme,
    choose_params,
    fake_quantize,
    lsq_gradient,
    mse,
)

S = QuantizationScheme
RNG = np.random.default_rng
TENSOR = (S.SYMMETRIC_PER_TENSOR, S.ASYMMETRIC_PER_TENSOR)
CHANNEL = (S.SYMMETRIC_PER_CHANNEL, S.ASYMMETRIC_PER_CHANNEL)
FAMILIES = {
    "normal": lambda n: RNG(1).standard_normal(n),
    "laplace": lambda n: RNG(2).laplace(size=n),
    "t4": lambda n: RNG(3).standard_t(4, n),
    "relu": lambda n: np.maximum(RNG(4).standard_normal(n), 0),
    "growing": lambda n: RNG(5).standard_normal(n) * np.geomspace(1e-3, 1e2, n),
    "negative": lambda n: -RNG(6).lognormal(0, 1, n),
}


def family(name, n=20_000):
    return FAMILIES[name](n).astype(np.float32)


def pieces(x, seed=0):
    return np.split(x, np.sort(RNG(seed).integers(0, len(x), 7)))


def fed(observer, x, seed=0):
    for piece in pieces(x, seed):
        if piece.size:
            observer.update(piece)
    return observer


def same(a, b):
    assert (a.bits, a.signed, a.narrow_range) == (b.bits, b.signed, b.narrow_range)
    assert (a.axis, a.block_size) == (b.axis, b.block_size)
    assert a.scale.tobytes() == b.scale.tobytes() and a.scale.shape == b.scale.shape
    assert a.zero_point.tobytes() == b.zero_point.tobytes()


def ends(p):
    """The two ends of the grid, in units of the data."""
    return (
        float(p.scale * np.float32(p.qmin - p.zero_point)),
        float(p.scale * np.float32(p.qmax - p.zero_point)),
    )


# --- min and max


@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("signed", [True, False])
def test_minmax_is_exact(name, bits, signed):
    x = family(name, 999)
    for scheme in TENSOR:
        whole = choose_params(x, scheme, bits, signed=signed)
        for observer in (MinMaxObserver(), HistogramObserver()):
            same(fed(observer, x).params(scheme, bits, signed=signed), whole)
    table = x.reshape(-1, 3)
    for axis, scheme in ((1, CHANNEL[0]), (-1, CHANNEL[1])):
        same(
            fed(MinMaxObserver(axis), table).params(scheme, bits, signed=signed),
            choose_params(table, scheme, bits, signed=signed, axis=axis),
        )
        same(
            fed(MinMaxObserver(axis), table).params(TENSOR[0], bits),
            choose_params(table, TENSOR[0], bits),
        )


def test_one_bit():
    x = family("laplace", 900).reshape(-1, 3)
    for scheme, axis in ((S.SYMMETRIC_PER_TENSOR, None), (S.SYMMETRIC_PER_CHANNEL, 1)):
        p = fed(MinMaxObserver(axis), x).params(scheme, 1)
        assert p.is_binary
        assert np.allclose(p.scale, choose_params(x, scheme, 1, axis=1).scale, rtol=1e-6)
    same(
        fed(MinMaxObserver(), x).params(S.ASYMMETRIC_PER_TENSOR, 1),
        choose_params(x, S.ASYMMETRIC_PER_TENSOR, 1),
    )


# --- the histogram


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(FAMILIES)))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_counts_do_not_depend_on_the_pieces(seed, name):
    x = family(name, 3000)
    whole, parts = HistogramObserver(256).update(x), fed(HistogramObserver(256), x, seed)
    shuffled = fed(HistogramObserver(256), RNG(seed).permutation(x), seed)
    for other in (parts, shuffled):
        assert (other.counts == whole.counts).all() and other.zeros == whole.zeros
        assert (other.low, other.high, other.count) == (whole.low, whole.high, whole.count)
        assert other.exponent == whole.exponent
    assert whole.counts.sum() + whole.zeros == 3000
    assert whole.bin_width <= 4 * np.abs(x).max() / 256


@pytest.mark.parametrize("name", list(FAMILIES))
def test_each_value_lies_within_its_bin(name):
    x = family(name)
    observer = fed(HistogramObserver(), x)
    values = observer.values()
    assert values.dtype == np.float32 and (np.diff(values) >= 0).all()
    assert np.abs(values - np.sort(x)).max() <= observer.bin_width
    assert (values == 0).sum() >= (x == 0).sum()


@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.parametrize("percentile", [90, 99, 99.9, 99.99])
def test_percentile_within_a_bin(name, percentile):
    x = family(name)
    observer = fed(HistogramObserver(), x)
    options = dict(method="percentile", percentile=percentile)
    p, whole = (
        f(S.SYMMETRIC_PER_TENSOR, 8, **options)
        for f in (observer.params, lambda *a, **k: choose_params(x, *a, **k))
    )
    assert abs(ends(p)[1] - ends(whole)[1]) <= observer.bin_width
    low, high = np.percentile(observer.values().astype(float), [100 - percentile, percentile])
    true = np.percentile(x.astype(float), [100 - percentile, percentile])
    assert abs(low - true[0]) <= observer.bin_width and abs(high - true[1]) <= observer.bin_width


SEARCHES = [
    (name, scheme, bits)
    for name in ("normal", "laplace", "t4", "relu")
    for scheme in TENSOR
    for bits in (3, 4, 8)
]


@pytest.mark.parametrize("name, scheme, bits", SEARCHES)
def test_searches_lose_as_much(name, scheme, bits):
    x = family(name)
    observer = fed(HistogramObserver(), x)
    for method in ("mse", "aciq"):
        loss, least = (
            mse(x, fake_quantize(x, p))
            for p in (
                observer.params(scheme, bits, method=method),
                choose_params(x, scheme, bits, method=method),
            )
        )
        assert least / 1.001 <= loss <= least * 1.001, method


def test_entropy_mostly_makes_the_same_cut():
    same_cut = 0
    for name, scheme, bits in SEARCHES:
        x = family(name)
        observer = fed(HistogramObserver(), x)
        clips = [
            np.ptp(ends(p))
            for p in (
                observer.params(scheme, bits, method="entropy"),
                choose_params(x, scheme, bits, method="entropy"),
            )
        ]
        same_cut += abs(clips[0] - clips[1]) <= observer.bin_width
        assert 0.85 < clips[0] / clips[1] < 1.18, (name, scheme, bits)
    assert same_cut >= 0.8 * len(SEARCHES)


def test_histogram_corners():
    observer = HistogramObserver().update([0.0, 0.0])
    assert observer.bin_width == 0 and observer.params(S.SYMMETRIC_PER_TENSOR).scale == 1
    observer.update(np.zeros(3)).update([2.0**100]).update([2.0**-100, -3.0])
    same(
        observer.params(S.ASYMMETRIC_PER_TENSOR),
        choose_params([2.0**100, -3.0, 0], S.ASYMMETRIC_PER_TENSOR),
    )
    assert observer.zeros == 5 and observer.counts.sum() == 3
    one = HistogramObserver().update(np.float32(7))
    assert one.values().tolist() == [7.0]
    many = HistogramObserver()
    x = family("normal", 100_000)
    for _ in range(30):
        many.update(x)
    assert many.count == 3_000_000 and many.values().size == 2**20
    p = many.params(S.SYMMETRIC_PER_TENSOR, method="percentile", percentile=99.9)
    whole = choose_params(x, S.SYMMETRIC_PER_TENSOR, method="percentile", percentile=99.9)
    assert abs(ends(p)[1] - ends(whole)[1]) <= many.bin_width


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: MinMaxObserver().params(TENSOR[0]), "nothing seen yet"),
        (lambda: HistogramObserver().params(TENSOR[0]), "nothing seen yet"),
        (lambda: HistogramObserver().values(), "nothing seen yet"),
        (lambda: MinMaxObserver().update([1.0]).params(CHANNEL[0]), r"MinMaxObserver\(axis=...\)"),
        (lambda: HistogramObserver().update([1.0]).params(CHANNEL[0]), "one observer for each"),
        (
            lambda: MinMaxObserver().update([1.0]).params(TENSOR[0], method="mse"),
            "HistogramObserver",
        ),
        (lambda: MinMaxObserver().update([np.nan]), "1 NaN"),
        (lambda: MinMaxObserver(1).update(np.ones((2, 3))).update(np.ones((2, 4))), "4 channels"),
        (lambda: MinMaxObserver(1).update(np.ones(3)), "axis 1 does not exist"),
        (lambda: HistogramObserver(18), "multiple of 4"),
        (lambda: HistogramObserver().update([1.0]).params("symmetric"), "QuantizationScheme"),
    ],
)
def test_errors_say_what_came_and_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- the gradient of a learned scale


@pytest.mark.parametrize(
    "bits, signed, zero", [(2, True, 0), (4, True, 0), (8, True, 0), (4, False, 5), (8, False, 100)]
)
def test_lsq_formula(bits, signed, zero):
    rng = RNG(bits)
    x, up = rng.standard_normal((2, 7, 30)).astype(np.float32)
    for grid, axis, sums in (((), None, None), ((7,), 0, 1), ((30,), 1, 0)):
        scale = rng.uniform(0.2, 0.6, grid).astype(np.float32)
        p = QuantizationParams(scale, zero, bits, signed, axis=axis)
        s, _ = p.broadcast(x.shape)
        v = x.astype(np.float64) / s
        low, high = p.qmin - zero, p.qmax - zero
        slope = np.where(np.rint(v) < low, low, np.where(np.rint(v) > high, high, np.rint(v) - v))
        gradient = lsq_gradient(x, p, up)
        assert gradient.shape == scale.shape and gradient.dtype == np.float32
        assert np.allclose(gradient, (slope * up).sum(axis=sums), rtol=1e-5, atol=1e-5)


def test_lsq_is_the_derivative_with_the_rounding_held_straight():
    # d/ds of s * clamp(v + (rint(v) - v)) with v = x / s and the bracket constant
    x = np.float32([0.3, 0.9, -1.2, 3.9, 4.0, -4.4, 9.0])
    s, h = 0.5, 1e-6
    p = QuantizationParams(s, 0, bits=4)
    residue = np.rint(x / s) - x / s

    def surrogate(s):
        return s * np.clip(x.astype(float) / s + residue, p.qmin, p.qmax)

    slope = (surrogate(s + h) - surrogate(s - h)) / (2 * h)
    each = [lsq_gradient(v, p, 1.0).item() for v in x]
    assert np.allclose(each, slope, atol=1e-5)


def test_lsq_blocks_and_one_bit():
    x = RNG(0).standard_normal((4, 6)).astype(np.float32)
    p = QuantizationParams(np.full((4, 2), 0.3), 0, 4, axis=1, block_size=3)
    gradient = lsq_gradient(x, p, np.ones_like(x))
    assert gradient.shape == (4, 2)
    part = QuantizationParams(0.3, 0, 4)
    assert np.allclose(gradient[1, 1], lsq_gradient(x[1, 3:], part, np.ones(3)))
    binary = QuantizationParams(1.0, 0, 1, True, True)
    assert lsq_gradient([3.0, 0.0, -0.1], binary, [1, 1, 5]) == -3
    with pytest.raises(ValueError, match="equal shapes"):
        lsq_gradient([1.0], part, [1.0, 2.0])
