"""Error measures against their definitions, laws against the facts."""

import math

import numpy as np
import pytest

from quantlab import (
    QuantizationParams,
    QuantizationScheme,
    choose_params,
    fake_quantize,
    flip_probability,
    max_error,
    measure,
    mse,
    predicted_snr_db,
    saturation_rate,
    snr_db,
)


def test_measures():
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 50, 40))
    y = x + 0.01 * noise
    assert mse(x, y) == pytest.approx(1e-4 * np.mean(noise**2))
    assert max_error(x, y) == pytest.approx(0.01 * np.abs(noise).max())
    assert snr_db(x, y) == pytest.approx(10 * np.log10(np.sum(x**2) / np.sum((x - y) ** 2)))


def test_snr_is_infinite_only_for_identical_arrays():
    assert snr_db([1, 2], [1, 2]) == math.inf
    assert snr_db([0, 0], [0, 0]) == math.inf
    assert snr_db([0, 0], [0, 1]) == -math.inf
    # squares of these leave float64
    assert snr_db([1e-200], [1.1e-200]) == pytest.approx(20, abs=1e-6)
    assert snr_db([1.0], [1 + 2.0**-52]) == pytest.approx(313.07, abs=0.01)
    assert math.isfinite(snr_db([1e300, 1e300], [1e300, 1e-300]))


def test_uint8_codes_do_not_wrap():
    x, y = np.array([0], np.uint8), np.array([200], np.uint8)
    assert mse(x, y) == 40000 and max_error(x, y) == 200


@pytest.mark.parametrize("measure", [mse, max_error, snr_db])
def test_bad_pairs(measure):
    name = measure.__name__
    for x, y, message in (
        ([1, 2], [1], r"x has shape \(2,\), y has shape \(1,\)"),
        ([1], [np.nan], "y has 1 NaN value "),
        ([], [], "x is empty"),
    ):
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            measure(x, y)


def test_snr_law_on_uniform_data():
    x = np.random.default_rng(1).uniform(-1, 1, 200_000)
    crest = 1 / np.sqrt(np.mean(x**2))
    for bits in range(6, 15):  # 2**b - 1 cells fit between -alpha and alpha: 0.1 dB at 6 bits
        p = choose_params(x, QuantizationScheme.SYMMETRIC_PER_TENSOR, bits, narrow_range=False)
        assert snr_db(x, fake_quantize(x, p)) == pytest.approx(
            predicted_snr_db(bits, crest), abs=0.2
        )
    assert predicted_snr_db(9, 2) - predicted_snr_db(8, 2) == pytest.approx(6.0206, abs=1e-4)
    assert predicted_snr_db([4, 8], [1, 1]).shape == (2,)
    with pytest.raises(ValueError, match="crest_factor is 0"):
        predicted_snr_db(8, 0)


def test_snr_law_on_gaussian_data_at_8_bits():
    x = np.random.default_rng(2).standard_normal(100_000)
    p = choose_params(x, QuantizationScheme.SYMMETRIC_PER_TENSOR, 8, narrow_range=False)
    crest = np.abs(x).max() / np.sqrt(np.mean(x**2))
    law = predicted_snr_db(8, crest)
    assert snr_db(x, fake_quantize(x, p)) == pytest.approx(law, abs=0.1)


def test_flip_law():
    percent = [100 * flip_probability(snr) for snr in (10, 20, 30, 40)]
    assert np.round(percent, 2).tolist() == [9.75, 3.17, 1.01, 0.32]
    assert flip_probability(math.inf) == 0
    assert flip_probability(-math.inf) == 0.5
    rng = np.random.default_rng(3)
    x, noise = rng.standard_normal((2, 400_000))
    y = x + noise * 10 ** (-12 / 20)
    assert np.mean((x > 0) != (y > 0)) == pytest.approx(flip_probability(12), abs=0.002)
    assert flip_probability(np.array([10.0, 20.0])).shape == (2,)


def test_saturation():
    x = np.linspace(-2, 2, 4001)
    p = QuantizationParams(1 / 127, 0, narrow_range=True)
    assert saturation_rate(x, p) == pytest.approx(0.5, abs=0.01)
    assert saturation_rate(x, choose_params(x, QuantizationScheme.SYMMETRIC_PER_TENSOR)) == 0
    binary = QuantizationParams(0.5, 0, 1, True, True)
    assert saturation_rate(x, binary) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="saturation_rate: x has 1 NaN"):
        saturation_rate([np.nan], p)


@pytest.mark.parametrize("scheme", QuantizationScheme)
@pytest.mark.parametrize("bits", [1, 4, 16])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_measure_is_the_three_measures_in_one_pass(scheme, bits, scale):
    x = (np.random.default_rng(3).standard_t(4, (30, 71)) * scale).astype(np.float32)
    params = choose_params(x, scheme, bits, method="percentile", percentile=99)
    fake, got = fake_quantize(x, params), measure(x, params)
    assert got.mse == pytest.approx(mse(x, fake), rel=1e-5)
    assert got.snr_db == pytest.approx(snr_db(x, fake), abs=1e-4)
    assert got.saturation == pytest.approx(saturation_rate(x, params), abs=1e-12)


def test_measure_at_the_ends():
    grid = QuantizationParams(1, 0)
    assert measure([1.0, 2.0], grid) == (0.0, math.inf, 0.0)
    assert measure([0.0], grid).snr_db == math.inf
    assert measure([3e38, -3e38], grid).snr_db == pytest.approx(0, abs=1e-6)
