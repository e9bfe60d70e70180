"""choose_params: rules of the grid, and every method against its table."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from quantlab import (
    QuantizationParams,
    QuantizationScheme,
    choose_params,
    fake_quantize,
    mse,
    saturation_rate,
    snr_db,
)
from quantlab.calibration import aciq_clip

S = QuantizationScheme
SYMMETRIC, ASYMMETRIC = S.SYMMETRIC_PER_TENSOR, S.ASYMMETRIC_PER_TENSOR
METHODS = ("minmax", "percentile", "mse", "entropy", "aciq")
TINY = np.finfo(np.float32).tiny
LARGEST = np.finfo(np.float32).max


# --- the grid


def test_symmetric_grids():
    x = [-2.0, 1.0, 0.5]
    for bits in range(2, 17):
        p = choose_params(x, SYMMETRIC, bits)
        assert p.narrow_range and p.qmin == -p.qmax and p.zero_point == 0
        assert p.scale == np.float32(2) / np.float32(2 ** (bits - 1) - 1)
        full = choose_params(x, SYMMETRIC, bits, narrow_range=False)
        assert full.scale == np.float32(2) / np.float32((2**bits - 1) / 2)
        for narrow in (True, False):
            unsigned = choose_params(x, SYMMETRIC, bits, signed=False, narrow_range=narrow)
            signed = choose_params(x, SYMMETRIC, bits, narrow_range=narrow)
            assert unsigned.zero_point == 2 ** (bits - 1) and unsigned.scale == signed.scale
            assert (fake_quantize(x, unsigned) == fake_quantize(x, signed)).all()


def test_asymmetric_grids():
    p = choose_params([-1.0, 3.0], ASYMMETRIC, signed=False)
    assert p.scale == np.float32(4) / np.float32(255) and p.zero_point == 64
    assert choose_params([-1.0, 3.0], ASYMMETRIC).zero_point == 64 - 128
    # the range is extended to contain 0, on either side
    assert choose_params([100.0, 101.0], ASYMMETRIC, signed=False).zero_point == 0
    assert choose_params([-101.0, -100.0], ASYMMETRIC, signed=False).zero_point == 255
    assert fake_quantize([100.0, 101.0], choose_params([100.0, 101.0], ASYMMETRIC))[1] == 101


def test_one_bit():
    x = np.array([-3.0, 1.0, 0.5, -0.5])
    for method in METHODS:
        p = choose_params(x, SYMMETRIC, 1, method=method)
        assert p.is_binary and p.scale == 1.25 and p.zero_point == 0
    p = choose_params(x, ASYMMETRIC, 1, signed=False)
    assert (p.qmin, p.qmax, int(p.zero_point)) == (0, 1, 1)
    assert set(fake_quantize(x, p).tolist()) == {-4.0, 0.0}  # -3 to 1 is 4 wide
    assert choose_params(x, ASYMMETRIC, 1).qmin == -1
    assert choose_params(np.zeros(3), SYMMETRIC, 1).scale == 0
    for options in (dict(narrow_range=False), dict(signed=False)):
        with pytest.raises(ValueError, match="one symmetric bit is the binary grid"):
            choose_params(x, SYMMETRIC, 1, **options)
    with pytest.raises(ValueError, match="one asymmetric bit"):
        choose_params(x, ASYMMETRIC, 1, narrow_range=True)


def test_one_bit_scale_is_the_optimum():
    x = np.random.default_rng(0).standard_normal(100_000)
    p = choose_params(x, SYMMETRIC, 1)
    assert mse(x, fake_quantize(x, p)) == pytest.approx(0.36338, abs=0.004)
    for factor in (0.99, 1.01):
        other = QuantizationParams(p.scale * factor, 0, 1, True, True)
        assert mse(x, fake_quantize(x, other)) > mse(x, fake_quantize(x, p))


@pytest.mark.parametrize("scheme, bits, method", list(itertools.product(S, (1, 2, 8, 16), METHODS)))
def test_degenerate_data(scheme, bits, method):
    for x in (np.zeros((2, 4)), np.full((2, 4), -3.5), np.full((2, 4), 1e-42), np.eye(2, 4)):
        p = choose_params(x, scheme, bits, method=method)
        least = np.abs(x).mean(dtype=np.float32) if p.is_binary else TINY
        assert (p.scale >= least).all() and np.isfinite(fake_quantize(x, p)).all()
    p = choose_params(np.zeros((2, 4)), scheme, bits, method=method)
    assert (p.scale == (0 if p.is_binary else 1)).all()
    assert (fake_quantize(np.zeros((2, 4)), p) == 0).all()
    constant = np.full((2, 4), -3.5)
    p = choose_params(constant, scheme, bits, method=method)
    assert np.allclose(fake_quantize(constant, p), -3.5, rtol=0.005)


@pytest.mark.parametrize("scheme", [SYMMETRIC, ASYMMETRIC])
def test_ends_of_float32(scheme):
    for bits in range(1, 17):
        for x in ([LARGEST, 0.0], [-LARGEST, 0.0], [LARGEST / 3, -LARGEST / 3], [1e-45, 0]):
            assert np.isfinite(fake_quantize(x, choose_params(x, scheme, bits))).all()
    with pytest.raises(ValueError, match="wider than float32"):
        choose_params([LARGEST, -LARGEST], ASYMMETRIC)
    with pytest.raises(ValueError, match="beyond float32"):
        choose_params([1e39], scheme)
    with pytest.raises(ValueError, match="beyond float32"):  # -128 * alpha / 127.5
        choose_params([LARGEST], SYMMETRIC, narrow_range=False)


FEW = st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, 0.01, -40.0, 3.3])  # most of it zeros
VALUES = st.one_of(FEW, st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False))
TABLES = hnp.arrays(np.float32, (3, 40), elements=VALUES)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(TABLES, st.sampled_from(list(S)), st.integers(1, 16), st.integers(-40, 40))
def test_scale_follows_the_unit_of_the_data(x, scheme, bits, exponent):
    # in other units the grid is the same grid: nothing but the data decides its scale
    nonzero = np.abs(x[x != 0])
    assume(nonzero.size and nonzero.min() > 1e-20)
    other = np.ldexp(x, exponent)
    for method in METHODS:
        p, q = (choose_params(a, scheme, bits, method=method) for a in (x, other))
        assert (p.zero_point == q.zero_point).all(), method
        alive = (x != 0).any(axis=1) if scheme.per_channel else True
        assert np.where(alive, q.scale == np.ldexp(p.scale, exponent), q.scale == p.scale).all()


@pytest.mark.parametrize("factor", [3.0, 0.1, 1e-6, 12345.0])
@pytest.mark.parametrize("scheme", [SYMMETRIC, ASYMMETRIC])
def test_scale_follows_any_unit(scheme, factor):
    x = np.random.default_rng(1).standard_t(4, 5000)
    x[::3] = 0
    for bits, method in itertools.product((1, 2, 4, 8), METHODS):
        p, q = (choose_params(a, scheme, bits, method=method) for a in (x, factor * x))
        # a histogram's edges round, and the cost that "mse" searches is flat at its bottom
        close = {"entropy": 0.1, "mse": 0.01}.get(method, 1e-4)
        assert float(q.scale) == pytest.approx(factor * float(p.scale), rel=close), method


@pytest.mark.parametrize("scheme", list(S))
def test_percentile_of_data_that_is_mostly_zeros(scheme):
    rng = np.random.default_rng(2)
    x = np.zeros((2, 10_000), np.float32)
    x[0, ::2000] = rng.uniform(1, 2, 5)  # 99.95 % zeros
    for bits in range(2, 17):
        p = choose_params(x, scheme, bits, method="percentile")
        values = fake_quantize(x, p)
        top = np.percentile(x[0][x[0] != 0].astype(float), 99.9)
        assert values.max() == pytest.approx(top, rel=1e-5)
        assert saturation_rate(x, p) <= 1 / x.size and not values[1].any()
    # a range that is merely one-sided stays what was asked for
    x[0, 1::2] = -1
    p = choose_params(x[0], ASYMMETRIC, method="percentile")
    assert fake_quantize(x[0], p).max() == 0 and saturation_rate(x[0], p) == 5 / 10_000


# --- granularity


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_each_channel_and_block_is_its_own_tensor(method, symmetric):
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((4, 6, 10)) * rng.uniform(0.1, 10, (4, 6, 1))).astype(np.float32)
    tensor, channel = (SYMMETRIC, S.SYMMETRIC_PER_CHANNEL) if symmetric else (
        ASYMMETRIC, S.ASYMMETRIC_PER_CHANNEL)  # fmt: skip
    for axis in (0, 1, 2, -1):
        p = choose_params(x, channel, 4, method=method, axis=axis)
        assert p.scale.shape == (x.shape[axis],) and p.axis == axis
        for c in range(x.shape[axis]):
            alone = choose_params(x.take(c, axis), tensor, 4, method=method)
            assert (p.scale[c], p.zero_point[c]) == (alone.scale, alone.zero_point)
    for scheme in (tensor, channel):
        p = choose_params(x, scheme, 4, method=method, axis=2, block_size=5)
        assert p.scale.shape == (4, 6, 2) and p.block_size == 5
        alone = choose_params(x[3, 5, 5:], tensor, 4, method=method)
        assert (p.scale[3, 5, 1], p.zero_point[3, 5, 1]) == (alone.scale, alone.zero_point)
    p = choose_params(x, tensor, 4, method=method, axis=1, block_size=3)
    alone = choose_params(x[2, 3:, 7], tensor, 4, method=method)
    assert p.scale.shape == (4, 2, 10) and p.scale[2, 1, 7] == alone.scale


def test_per_channel_beats_per_tensor_when_channels_differ():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((8, 500)) * np.geomspace(0.01, 1, 8)[:, None]
    one, many = (choose_params(x, s, 8) for s in (SYMMETRIC, S.SYMMETRIC_PER_CHANNEL))
    assert snr_db(x[0], fake_quantize(x, one)[0]) < 10
    assert snr_db(x[0], fake_quantize(x, many)[0]) > 35


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(scheme="symmetric"), "scheme is 'symmetric'; expected a QuantizationScheme: SYMM"),
        (dict(method="max"), "method is 'max'; expected one of minmax, percentile, mse, entropy"),
        (dict(percentile=99), "method 'minmax' does not know percentile; it takes no options"),
        (dict(method="aciq", bins=9), "it takes distribution"),
        (dict(method="percentile", percentile=0), "percentile is 0; expected a number above 0"),
        (dict(method="percentile", percentile=101), "percentile is 101"),
        (dict(method="percentile", percentile="9"), "percentile is '9'"),
        (dict(method="percentile", percentile=True), "percentile is True"),
        (dict(method="percentile", percentile=np.nan), "percentile is nan"),
        (dict(method="percentile", percentile=0.999), "not a share: percentile=99.9"),
        (dict(method="percentile", percentile=1), "not a share: percentile=100"),
        (dict(method="percentile", percentile=0.999, scheme=ASYMMETRIC), "percentile=99.9"),
        (dict(method="entropy", bins=2), "bins is 2; expected 16"),
        (dict(method="aciq", distribution="t"), "distribution is 't'"),
        (dict(bits=0), "bits is 0"),
        (dict(bits=17), "bits is 17"),
        (dict(scheme=S.SYMMETRIC_PER_CHANNEL, axis=2), "axis 2 does not exist in an array of rank"),
        (dict(scheme=S.SYMMETRIC_PER_CHANNEL, x=1.0), "use a per-tensor scheme"),
        (dict(block_size=3, axis=1), r"does not divide the 8 values .* use one of \[1, 2, 4, 8\]"),
        (dict(block_size=0), "block_size is 0"),
    ],
)
def test_bad_choices(arguments, message):
    arguments = {"x": np.ones((4, 8)), "scheme": SYMMETRIC, **arguments}
    with pytest.raises(ValueError, match=message):
        choose_params(**arguments)


# --- the methods


@pytest.fixture(scope="module")
def samples():
    # a million evenly spaced quantiles: the distribution itself, without the luck of its tail
    at = (np.arange(1_000_000) + 0.5) / 1_000_000
    return {
        "normal": stats.norm.ppf(at).astype(np.float32),
        "laplace": stats.laplace.ppf(at, scale=1 / np.sqrt(2)).astype(np.float32),
    }


BEST = {  # best clip in units of sigma and its SNR in dB on the grid [-q, q], 2 to 8 bits
    "normal": [(1.22401, 7.2085), (1.95231, 13.2920), (2.47388, 18.8977), (2.89873, 24.3259),
               (3.27012, 29.7090), (3.60746, 35.1057), (3.92050, 40.5400)],
    "laplace": [(1.41421, 5.7800), (2.46526, 10.8047), (3.40819, 15.6233), (4.31196, 20.4167),
                (5.20331, 25.2585), (6.09373, 30.1775), (6.98809, 35.1813)],
}  # fmt: skip


@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_mse_finds_the_best_clip(samples, name):
    x = samples[name]
    for bits, (clip, snr) in zip(range(2, 9), BEST[name], strict=True):
        p = choose_params(x, SYMMETRIC, bits, method="mse")
        alpha = float(p.scale) * p.qmax
        assert alpha == pytest.approx(clip, rel=0.005)
        assert snr_db(x, fake_quantize(x, p)) == pytest.approx(snr, abs=0.08)
        some = np.random.default_rng(bits).choice(x, 100_000)
        scan = [QuantizationParams(a / p.qmax, 0, bits, narrow_range=True)
                for a in np.linspace(0.97, 1.03, 7) * clip]  # fmt: skip
        best = max(snr_db(some, fake_quantize(some, a)) for a in scan)
        found = choose_params(some, SYMMETRIC, bits, method="mse")
        assert snr_db(some, fake_quantize(some, found)) > best - 0.005


@pytest.mark.parametrize("scheme", [SYMMETRIC, ASYMMETRIC])
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8, 12, 16])
def test_mse_never_loses_to_another_method(scheme, bits):
    rng = np.random.default_rng(7)
    shapes = {
        "gauss": rng.standard_normal(3000),
        "t3": rng.standard_t(3, 3000),
        "relu": np.maximum(rng.standard_normal(3000), 0),
        "shifted": rng.standard_normal(3000) + 2,
        "spike": np.append(np.zeros(2999), 5.0),
        "two": rng.choice([-1.0, 4.0], 3000),
    }
    for name, x in shapes.items():
        losses = {
            m: mse(x, fake_quantize(x, choose_params(x, scheme, bits, method=m))) for m in METHODS
        }
        assert losses["mse"] <= losses["minmax"], name
        assert losses["mse"] <= min(losses.values()) * 1.02, (name, losses)


ACIQ = {
    "normal": [1.71064, 2.15159, 2.55914, 2.93620, 3.28691, 3.61511, 3.92404],
    "laplace": [2.83068, 3.89723, 5.02864, 6.20477, 7.41313, 8.64562, 9.89676],
}


@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_aciq(samples, name):
    x = samples[name].astype(np.float64)
    unit = x.std() if name == "normal" else np.abs(x).mean()
    for bits, clip in zip(range(2, 9), ACIQ[name], strict=True):
        assert round(aciq_clip(bits, name), 5) == clip
        for distribution in ("auto", name):
            p = choose_params(x, SYMMETRIC, bits, method="aciq", distribution=distribution)
            assert float(p.scale) * p.qmax == pytest.approx(clip * unit, rel=1e-4)


def test_aciq_clip_is_the_root_of_its_equation():
    for bits in range(1, 18):
        for name in ACIQ:
            tail = stats.norm() if name == "normal" else stats.laplace()
            clip = aciq_clip(bits, name)
            overload = 2 * tail.expect(lambda x, c=clip: x - c, lb=clip)
            assert overload == pytest.approx(clip / (3 * 4**bits), rel=1e-5), (bits, name)
    for bits, name in ((0, "normal"), (18, "laplace"), (4.0, "normal"), (4, "t")):
        with pytest.raises(ValueError, match=r"aciq_clip: (bits|distribution) is"):
            aciq_clip(bits, name)


def test_aciq_on_one_side():
    # after a ReLU all codes serve one side: the clip of one bit more
    x = np.maximum(np.random.default_rng(8).laplace(size=200_000), 0)
    p = choose_params(x, ASYMMETRIC, 4, signed=False, method="aciq", distribution="laplace")
    assert p.zero_point == 0
    assert float(p.scale) * 15 == pytest.approx(6.20477 * x.mean(), rel=1e-3)


DRAWS = {
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "gauss": lambda rng, shape: rng.standard_normal(shape),
    "laplace": lambda rng, shape: rng.laplace(size=shape),
    "t4": lambda rng, shape: rng.standard_t(4, shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape),
}
MEDIANS = [  # median SNR in dB of symmetric grids, n = 10,000
    ("uniform", "minmax", 48.1, 22.9), ("gauss", "minmax", 40.9, 15.8),
    ("laplace", "minmax", 36.2, 11.3), ("t4", "minmax", 31.3, 6.4), ("t3", "minmax", 27.3, 4.2),
    ("gauss", "percentile", 37.7, 17.4), ("laplace", "percentile", 30.3, 14.0),
    ("t4", "percentile", 21.4, 11.5), ("t3", "percentile", 16.4, 9.1),
]  # fmt: skip


@pytest.mark.parametrize("name, method, int8, int4", MEDIANS)
def test_median_snr(name, method, int8, int4):
    x = DRAWS[name](np.random.default_rng(9), (400, 10_000)).astype(np.float32)
    for bits, expected in ((8, int8), (4, int4)):
        fake = fake_quantize(x, choose_params(x, S.SYMMETRIC_PER_CHANNEL, bits, method=method))
        power, noise = (np.square(a).sum(axis=1, dtype=np.float64) for a in (x, x - fake))
        snr = np.median(10 * np.log10(power / noise))
        # the largest of n Student values varies: 400 medians have a standard error of 0.2 dB
        assert snr == pytest.approx(expected, abs=0.6 if name.startswith("t") else 0.3)


def test_percentile_is_numpys():
    x = np.random.default_rng(10).standard_normal(999)
    p = choose_params(x, SYMMETRIC, method="percentile", percentile=95)
    assert p.scale == np.float32(np.percentile(np.abs(np.float32(x)).astype(float), 95)) / 127
    p = choose_params(x, ASYMMETRIC, method="percentile", percentile=95)
    low, high = np.percentile(x, [5, 95])
    assert float(p.scale) == pytest.approx((high - low) / 255, rel=1e-5)
    assert (
        choose_params(x, SYMMETRIC, method="percentile", percentile=100).scale
        == choose_params(x, SYMMETRIC).scale
    )


def test_entropy_clips_fat_tails_and_not_flat_ones():
    rng = np.random.default_rng(11)
    flat, fat = rng.uniform(-1, 1, 50_000), rng.standard_t(3, 50_000)
    for scheme in (SYMMETRIC, ASYMMETRIC):
        minmax, entropy = (choose_params(flat, scheme, method=m) for m in ("minmax", "entropy"))
        assert entropy.scale == pytest.approx(minmax.scale, rel=0.01)
        minmax, entropy = (choose_params(fat, scheme, method=m) for m in ("minmax", "entropy"))
        assert entropy.scale < 0.7 * minmax.scale
        four = [choose_params(fat, scheme, 4, method=m) for m in ("minmax", "entropy")]
        before, after = (snr_db(fat, fake_quantize(fat, p)) for p in four)
        assert after > before + 3
    # more steps than bins: nothing to choose
    p = choose_params(fat, SYMMETRIC, 16, method="entropy")
    assert p.scale == choose_params(fat, SYMMETRIC, 16).scale


def test_entropy_depends_on_its_bins_where_values_are_few():
    # at 8 bits the luck of the sample decides, not the bins: its own quantiles have none
    def losses(x):
        x = x.astype(np.float32)
        least = snr_db(x, fake_quantize(x, choose_params(x, SYMMETRIC, method="mse")))
        grids = [choose_params(x, SYMMETRIC, method="entropy", bins=2**b) for b in range(9, 15)]
        return [least - snr_db(x, fake_quantize(x, p)) for p in grids]

    n = 2000
    assert max(losses(stats.laplace.ppf((np.arange(n) + 0.5) / n))) < 0.5
    few = [losses(np.random.default_rng(seed).laplace(size=n)) for seed in range(9)]
    assert np.median(np.ptp(few, axis=1)) > 3
    many = losses(np.random.default_rng(0).laplace(size=1_000_000))
    assert max(many) < 0.6 and np.ptp(many) < 0.4
