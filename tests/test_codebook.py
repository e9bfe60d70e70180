"""Levels against the tables and the oracles; codes against the nearest level, exhaustively."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate, stats

from quantlab import (
    NF4,
    CodebookTensor,
    QuantizationParams,
    QuantizationScheme,
    choose_params,
    fake_quantize,
    float_levels,
    kmeans_levels,
    learn_levels,
    lloyd_max_levels,
    log_levels,
    mse,
    quantize,
    quantize_codebook,
    round_to_format,
    snr_db,
)

RNG = np.random.default_rng
STEADY = settings(deadline=None, derandomize=True)  # a first call may compile
FLOATS = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "e2m1": "float4_e2m1fn"}


@pytest.fixture(scope="module")
def kmeans1d():
    return pytest.importorskip("kmeans1d", reason="no kmeans1d: exact k-means has no oracle")


@pytest.fixture(scope="module")
def ml_dtypes():
    return pytest.importorskip("ml_dtypes", reason="no ml_dtypes: small floats have no oracle")


def cost(x, levels):
    """Mean squared error of the nearest level, in float64."""
    x, levels = np.asarray(x, np.float64).reshape(-1), np.asarray(levels, np.float64)
    nearest = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, x)]
    return float(np.mean((x - nearest) ** 2))


def draw(name, n, seed=0):
    rng = RNG(seed)
    return {
        "normal": lambda: rng.standard_normal(n),
        "laplace": lambda: rng.laplace(size=n),
        "t3": lambda: rng.standard_t(3, n),
        "lognormal": lambda: rng.lognormal(0, 2, n),
        "relu": lambda: np.maximum(rng.standard_normal(n), 0),
        "far apart": lambda: rng.choice([-100, 100], n) + rng.standard_normal(n),
        "one outlier": lambda: np.append(rng.standard_normal(n - 1), 1e6),
        "offset": lambda: 1e4 + rng.standard_normal(n),
    }[name]().astype(np.float32)


FAMILIES = ("normal", "laplace", "t3", "lognormal", "relu", "far apart", "one outlier", "offset")


# --- k-means


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("k", [1, 2, 3, 16, 64])
def test_exact_kmeans_is_as_good_as_the_oracle(kmeans1d, name, k):
    x = draw(name, 3000)
    levels = kmeans_levels(x, k, method="exact")
    assert levels.shape == (k,) and (np.diff(levels) > 0).all()
    theirs = kmeans1d.cluster(x.astype(np.float64), k).centroids
    assert cost(x, levels) <= cost(x, theirs) * (1 + 1e-9)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("k", [2, 16, 64])
def test_histogram_within_a_thousandth(name, k):
    x = draw(name, 40_000)
    exact, fast = (cost(x, kmeans_levels(x, k, method=m)) for m in ("exact", "histogram"))
    assert exact * (1 - 1e-9) <= fast <= exact * 1.001


def test_a_million_values():
    x = draw("normal", 1_000_000)
    theory = lloyd_max_levels("normal", 16)
    assert np.abs(kmeans_levels(x, 16) - theory).max() < 0.03
    # the sample's own optimum lies a little below that of the density
    assert 0.99 * cost(x, theory) < cost(x, kmeans_levels(x, 16)) < cost(x, theory)


@STEADY
@given(hnp.arrays(np.float64, st.integers(1, 12), elements=st.integers(-20, 20)), st.integers(1, 5))
def test_kmeans_against_every_partition(x, k):
    points = np.unique(x)
    k = min(k, points.size)
    best = np.inf
    for cuts in itertools.combinations(range(1, points.size), k - 1):
        parts = np.split(np.sort(x), np.searchsorted(np.sort(x), points[list(cuts)]))
        best = min(best, sum(((p - p.mean()) ** 2).sum() for p in parts))
    assert math.isclose(cost(x, kmeans_levels(x, k)) * x.size, best, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("method", ["auto", "exact", "histogram"])
def test_kmeans_corners(method):
    assert kmeans_levels([3.0] * 9, 4, method=method).tolist() == [3.0]
    assert kmeans_levels([2, 1, 2, 1], 2, method=method).tolist() == [1.0, 2.0]
    assert kmeans_levels([[1.0, 2.0], [3.0, 6.0]], 1, method=method).tolist() == [3.0]
    tiny = np.array([1.0, 1.1, 5.0, 5.1, 9.0]) * 1e-38
    assert np.allclose(kmeans_levels(tiny, 3, method=method) / 1e-38, [1.05, 5.05, 9.0])
    for dtype in (np.float16, np.int8, np.bool_, np.float64):
        bits = (np.arange(20_000) % 2).astype(dtype)
        assert kmeans_levels(bits, 2, method=method).tolist() == [0, 1]
    huge = np.float32([-3.4e38, 0, 1e38, 3.4e38])
    assert kmeans_levels(huge, 4, method=method).size == 4


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: kmeans_levels([1.0, np.nan], 2), "1 NaN"),
        (lambda: kmeans_levels([], 2), "empty"),
        (lambda: kmeans_levels([1.0, 1e39], 2), "float32"),
        (lambda: kmeans_levels([1.0], 0), "k is 0; expected 1 to 1024"),
        (lambda: kmeans_levels([1.0], 2, method="lloyd"), "expected one of auto, exact, histogram"),
        (lambda: lloyd_max_levels("cauchy", 4), "expected one of normal, laplace"),
        (lambda: log_levels([1.0], 4, rounding="up"), "expected one of nearest, log"),
        (lambda: log_levels([1.0], 17), "bits is 17"),
        (lambda: float_levels("e3m2"), "e4m3, e5m2, e2m1"),
        (lambda: learn_levels([1.0], [1.0, 0.0]), "each larger than the one before"),
        (lambda: learn_levels([1.0], [0.0, 1.0], learning_rate=0), "positive"),
        (lambda: quantize_codebook([1.0], [0.0, 0.0]), "np.unique"),
        (lambda: quantize_codebook([1.0], NF4, "max"), "'absmax'"),
        (lambda: quantize_codebook([1.0], [0.0], "absmax"), "not 0"),
        (lambda: quantize_codebook([1.0], NF4, 0.0), "positive"),
        (lambda: quantize_codebook([1.0], NF4, rounding="floor"), "expected one of nearest, log"),
        (lambda: quantize_codebook(np.ones((2, 65)), NF4, "absmax", axis=1, block_size=64), "pad"),
        (lambda: quantize_codebook(np.ones(64), NF4, "absmax", block_size=64), "axis"),
    ],
)
def test_errors_say_what_came_and_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- Lloyd-Max and learned levels


LLOYD_MAX = {
    "normal": (0.36338023, 0.11748185, 0.03454776, 0.00950101, 0.00250467, 0.00064424),
    "laplace": (0.50000000, 0.17619488, 0.05447599, 0.01537253, 0.00410218, 0.00106095),
}
DENSITY = {"normal": stats.norm.pdf, "laplace": stats.laplace(scale=math.sqrt(0.5)).pdf}


@pytest.mark.parametrize("name", list(LLOYD_MAX))
@pytest.mark.parametrize("bits", range(1, 7))
def test_lloyd_max_reaches_the_table(name, bits):
    levels = lloyd_max_levels(name, 2**bits)
    ends = [0.0, *((levels[1:] + levels[:-1]) / 2)[2 ** (bits - 1) :], 60.0]
    noise = (
        2
        * sum(  # the positive half, twice
            integrate.quad(
                lambda x, level=level: (x - level) ** 2 * DENSITY[name](x),
                a,
                b,
                epsabs=1e-14,
                epsrel=1e-12,
                limit=200,
            )[0]
            for level, a, b in zip(levels[2 ** (bits - 1) :], ends[:-1], ends[1:], strict=True)
        )
    )
    assert round(noise, 8) == LLOYD_MAX[name][bits - 1]


def test_lloyd_max_levels_of_the_table():
    gauss = {4: (0.452780, 1.510418), 8: (0.245094, 0.756005, 1.343909, 2.151946)}
    for k, half in gauss.items():
        levels = lloyd_max_levels("normal", k)
        assert np.abs(levels[k // 2 :] - half).max() < 5e-7
    assert np.abs(lloyd_max_levels("laplace", 4)[2:] - (0.419756, 1.833969)).max() < 5e-7


@pytest.mark.parametrize("name", list(DENSITY))
@pytest.mark.parametrize("k", [1, 3, 5, 7, 33, 100, 255, 1024])
def test_lloyd_max_conditions_hold_for_any_k(name, k):
    levels = lloyd_max_levels(name, k)
    assert levels.size == k and (np.diff(levels) > 0).all()
    assert (levels == -levels[::-1]).all()
    if k > 1:  # each level is the mean of its cell
        ends = np.concatenate([[-60], (levels[1:] + levels[:-1]) / 2, [60]])
        for i in {0, k // 2, k - 1}:
            if ends[i] < 0 < ends[i + 1]:
                continue  # symmetric around 0
            mass, moment = (
                integrate.quad(
                    lambda x, p=p: x**p * DENSITY[name](x),
                    ends[i],
                    ends[i + 1],
                    epsabs=0,
                    points=None,
                )[0]
                for p in (0, 1)
            )
            assert abs(moment / mass - levels[i]) < 1e-7


def test_gradient_reaches_lloyd_max():
    x = draw("normal", 100_000)
    start = np.linspace(-2, 2, 8)
    learned = learn_levels(x, start, steps=400, learning_rate=3.0)
    assert cost(x, learned) < 1.0005 * cost(x, kmeans_levels(x, 8))
    assert learn_levels(x, start, steps=0).tolist() == start.tolist()
    one = learn_levels(x, start, steps=1, learning_rate=1e-3)
    move, h = (one - start) / -1e-3, 1e-4  # the gradient, against finite differences
    for j in range(8):
        bump = h * (np.arange(8) == j)
        slope = (cost(x, start + bump) - cost(x, start - bump)) / (2 * h)
        assert math.isclose(move[j], slope, rel_tol=1e-3, abs_tol=1e-5)


# --- fixed grids


def test_nf4_is_the_published_table():
    published = (
        -1.0,
        -0.6961928,
        -0.52507305,
        -0.39491749,
        -0.28444138,
        -0.18477343,
        -0.09105004,
        0,
        0.0795803,
        0.1609302,
        0.2461123,
        0.33791524,
        0.44070983,
        0.562617,
        0.72295684,
        1.0,
    )
    assert NF4.dtype == np.float32 and NF4.tolist() == np.float32(published).tolist()
    with pytest.raises(ValueError, match="read-only"):
        NF4[0] = 0


@pytest.mark.parametrize("name", list(FLOATS))
def test_float_levels_over_all_codes(ml_dtypes, name):
    kind = getattr(ml_dtypes, FLOATS[name])
    codes = np.arange(16 if name == "e2m1" else 256, dtype=np.uint8)
    every = codes.view(kind).astype(np.float32)
    assert float_levels(name).tolist() == np.unique(every[np.isfinite(every)] + 0.0).tolist()


@pytest.mark.parametrize("name", list(FLOATS))
def test_nearest_float_is_the_ieee_one(ml_dtypes, name):
    levels = float_levels(name)
    middle = ((levels[1:].astype(np.float64) + levels[:-1]) / 2).astype(np.float32)  # exact ties
    near = [np.nextafter(middle, np.float32(s)) for s in (-np.inf, np.inf)]
    top = levels[-1]
    x = np.concatenate(
        [levels, middle, *near, RNG(0).uniform(-top, top, 20_000), RNG(1).standard_normal(20_000)]
    ).astype(np.float32)
    theirs = x.astype(getattr(ml_dtypes, FLOATS[name])).astype(np.float32)
    assert (quantize_codebook(x, levels).dequantize() == theirs).all()
    assert quantize_codebook([1e30, -1e30], levels).dequantize().tolist() == [top, -top]


def test_block_64_of_a_gaussian():
    x = RNG(7).standard_normal((8192, 64)).astype(np.float32)
    nf4 = quantize_codebook(x, NF4, "absmax", axis=1, block_size=64)
    int4 = choose_params(x, QuantizationScheme.SYMMETRIC_PER_TENSOR, 4, axis=1, block_size=64)
    assert abs(snr_db(x, nf4.dequantize()) - 20.7) < 0.05
    assert abs(snr_db(x, fake_quantize(x, int4)) - 19.4) < 0.05
    assert nf4.nbytes == x.size // 2 + 4 * 16 + 4 * 8192  # 4.5 bits a weight and the table


def test_log_levels():
    assert log_levels([0.9, -0.1], 3).tolist() == [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    assert log_levels([0.18], 2, rounding="log")[-1] == 0.25  # log2(0.18) = -2.47
    assert log_levels([0.18], 2, rounding="nearest")[-1] == 0.125
    levels = [0.0, 0.125, 0.25]
    assert quantize_codebook([0.18], levels, rounding="log").dequantize().item() == 0.25
    assert quantize_codebook([0.18], levels, rounding="nearest").dequantize().item() == 0.125
    for bits in range(2, 17):
        levels = log_levels(RNG(bits).standard_normal(50), bits)
        positive = levels[levels > 0]
        assert levels.size <= 2**bits - 1 and (np.frexp(positive)[0] == 0.5).all()
        assert bits > 8 or levels.size == 2**bits - 1
        assert (levels == -levels[::-1]).all() and positive[0] >= np.finfo(np.float32).tiny
    assert log_levels([0.5, -1.5], 1).tolist() == [-1.0, 1.0]
    assert log_levels([0.0], 3).tolist() == [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    assert log_levels([3e38], 2)[-1] == 2.0**127 and log_levels([1e-45], 2)[-1] == 2.0**-126


@STEADY
@given(st.floats(2**-20, 1, width=32), st.sampled_from([-1, 1]))
def test_both_rounding_rules_of_powers_of_two(size, sign):
    x = np.float32(sign * size)
    levels = log_levels([1.0], 7)  # down to 2**-62
    log, near = (
        quantize_codebook([x], levels, rounding=r).dequantize().item() for r in ("log", "nearest")
    )
    assert log == sign * 2.0 ** np.rint(np.log2(np.float64(size)))
    below = 2.0 ** np.floor(np.log2(np.float64(size)))
    assert abs(x - near) == min(abs(size - below), abs(size - 2 * below))


# --- codes


@STEADY
@given(st.integers(2, 16), st.floats(0.125, 8, width=32), st.integers(0, 2**32 - 1))
def test_an_even_grid_is_quantize(bits, scale, seed):
    params = QuantizationParams(scale, 0, bits, narrow_range=True)
    levels = np.arange(params.qmin, params.qmax + 1)
    rng = RNG(seed)
    half_steps = rng.integers(2 * params.qmin - 3, 2 * params.qmax + 4, 200) / 2
    x = np.concatenate([half_steps, rng.standard_normal(50) * params.qmax]) * np.float32(scale)
    ours = quantize_codebook(x, levels, scale)
    assert (ours.codes.astype(int) + params.qmin == quantize(x, params).codes).all()
    assert ours.dequantize().tobytes() == fake_quantize(x, params).tobytes()


@STEADY
@given(
    hnp.arrays(
        np.float32,
        st.integers(1, 40),
        elements=st.floats(-(2.0**10), 2.0**10, width=32),
        unique=True,
    ),
    hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-(2.0**11), 2.0**11, width=32)),
)
def test_every_code_is_the_nearest(levels, x):
    levels = np.sort(levels + np.float32(0))
    q = quantize_codebook(x, levels)
    distance = np.abs(x.astype(np.float64)[:, None] - levels.astype(np.float64))
    assert (distance[np.arange(x.size), q.codes] == distance.min(axis=1)).all()
    again = quantize_codebook(q.dequantize(), levels)
    assert (again.codes == q.codes).all()  # idempotent
    order = np.argsort(x)
    assert (np.diff(q.codes[order].astype(int)) >= 0).all()  # monotone


def test_shapes_scales_and_bytes():
    x = RNG(3).standard_normal((6, 8)).astype(np.float32)
    whole = quantize_codebook(x, NF4, "absmax")
    rows = quantize_codebook(x, NF4, "absmax", axis=0)
    blocks = quantize_codebook(x, NF4, "absmax", axis=1, block_size=4)
    assert (whole.scale.shape, rows.scale.shape, blocks.scale.shape) == ((), (6,), (6, 2))
    assert whole.scale == np.abs(x).max() and (rows.scale == np.abs(x).max(axis=1)).all()
    assert mse(x, blocks.dequantize()) < mse(x, whole.dequantize())
    assert (whole.nbytes, rows.nbytes, blocks.nbytes) == (24 + 64 + 4, 24 + 64 + 24, 24 + 64 + 48)
    plain = quantize_codebook(x, lloyd_max_levels("normal", 8))
    assert plain.bits == 3 and plain.nbytes == 18 + 32
    assert plain.pack().size == 18 and plain.shape == (6, 8)
    one = quantize_codebook(x, [0.5])
    assert one.bits == 1 and (one.dequantize() == 0.5).all()
    with pytest.raises(ValueError, match="up to 8; expected less than 8 levels"):
        CodebookTensor(np.uint8([8]), plain.levels, plain.params)
    many = quantize_codebook(x, np.linspace(-3, 3, 1000))
    assert many.codes.dtype == np.uint16 and many.bits == 10
    zeros = quantize_codebook(np.zeros((2, 4)), NF4, "absmax", axis=0)
    assert zeros.scale.tolist() == [1, 1] and not zeros.dequantize().any()


@pytest.mark.parametrize("name, theirs", (("fp16", "float16"), ("bf16", "bfloat16")))
def test_16_bit_formats_are_those_of_ml_dtypes(ml_dtypes, name, theirs):
    """Every code of the format, its neighbors in float32, every tie, and any float32."""
    kind = np.dtype(getattr(ml_dtypes, theirs, np.float16))
    codes = np.arange(2**16, dtype=np.uint16).view(kind).astype(np.float32)
    codes = np.sort(codes[np.isfinite(codes)])
    np.testing.assert_array_equal(round_to_format(codes, name), codes)
    ties = ((codes[1:].astype(float) + codes[:-1]) / 2).astype(np.float32)
    any_bits = np.random.default_rng(1).integers(0, 2**32, 200_000).astype(np.uint32)
    with np.errstate(all="ignore"):
        wild = any_bits.view(np.float32)
        x = np.concatenate([codes, ties, wild[np.isfinite(wild)], [65519.996, 65520]])
        x = np.concatenate([x, np.nextafter(x, np.float32(9e9)), np.nextafter(x, np.float32(-9e9))])
        x = x[np.isfinite(x)].astype(np.float32)
        wanted = x.astype(kind).astype(np.float32)
    got = round_to_format(x, name)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(wanted))


def test_16_bit_formats_refuse_what_is_no_number():
    for bad, name, said in (
        ([np.nan], "fp16", "1 NaN"),
        ([np.inf], "bf16", "1 infinite"),
        ([1.0], "fp8", "name is 'fp8'"),
    ):
        with pytest.raises(ValueError, match=said):
            round_to_format(bad, name)
