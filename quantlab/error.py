"""How far the quantized array is from the original: measures and laws. Taught in chapter 6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from quantlab import _checks, kernels
from quantlab.kernels import reference
from quantlab.scheme import QuantizationParams, checked_params
from quantlab.tensor import inside

_Array = Sequence[float] | npt.NDArray[Any]


def _pair(x: Any, y: Any, function: str) -> tuple[np.ndarray, np.ndarray]:
    pair = [_checks.float64_array(a, function, name) for a, name in ((x, "x"), (y, "y"))]
    if pair[0].shape != pair[1].shape:
        raise ValueError(
            f"{function}: x has shape {pair[0].shape}, y has shape {pair[1].shape}; "
            "expected equal shapes"
        )
    return pair[0], pair[1]


def mse(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Mean squared error, in squared units of x, accumulated in float64.

    x, y: real arrays of one shape. Raises ValueError for NaN, infinity or unequal shapes.
    Taught in chapter 6.

    >>> mse([1.0, 2.0], [1.0, 2.5])
    0.125
    """
    x, y = _pair(x, y, "mse")
    return float(np.mean((x - y) ** 2))


def max_error(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Largest absolute error, in units of x.

    x, y: real arrays of one shape. Raises ValueError for NaN, infinity or unequal shapes.
    Taught in chapter 6.

    >>> max_error([1.0, 2.0], [1.0, 2.5])
    0.5
    """
    x, y = _pair(x, y, "max_error")
    return float(np.max(np.abs(x - y)))


def snr_db(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Signal-to-noise ratio 10 log10(sum x^2 / sum (x - y)^2) in decibels.

    x: the signal, y: its quantized version, one shape. Plus infinity only for identical arrays;
    minus infinity when x is all zero and y is not. Raises ValueError for NaN, infinity or
    unequal shapes. Taught in chapter 2.

    >>> round(snr_db([3.0, 4.0], [3.0, 4.5]), 2)
    20.0
    """
    x, y = _pair(x, y, "snr_db")
    noise = x - y
    x_peak, noise_peak = np.max(np.abs(x)), np.max(np.abs(noise))
    if noise_peak == 0:
        return math.inf
    if x_peak == 0:
        return -math.inf
    # divided by the peaks first: the square of 1e-200 is 0 in float64
    power = np.sum((x / x_peak) ** 2) / np.sum((noise / noise_peak) ** 2)
    return float(10 * np.log10(power) + 20 * (np.log10(x_peak) - np.log10(noise_peak)))


class Measure(NamedTuple):
    """What one grid does to an array: `mse`, `snr_db` and `saturation`, as their functions say."""

    mse: float
    snr_db: float
    saturation: float


def measure(x: npt.ArrayLike, params: QuantizationParams) -> Measure:
    """Mean squared error, SNR and saturation rate of x on a grid, in one pass over x.

    x: real array that `params` fits; nothing of its size is allocated, so sweeps over many grids
    are cheap. The saturation rate is exact, the others agree with mse and snr_db of
    fake_quantize(x) to 5 digits. Raises ValueError as quantize does. Taught in chapter 6.

    >>> m = measure([0.25, 0.75, 9.0], QuantizationParams(0.5, 0, bits=4))
    >>> round(m.mse, 4), round(m.snr_db, 2), round(m.saturation, 2)
    (10.125, 4.29, 0.33)
    """
    x = _checks.float32_array(x, "measure")
    params = checked_params(params, "measure")
    data, small = params.normal_form(x.shape)
    rows, scale = x.reshape(data), params.scale.reshape(small)
    if params.is_binary:
        values = np.abs(rows).astype(np.float64)
        noise, power = ((values - scale) ** 2).sum(), (values**2).sum()
        beyond = x.size - np.count_nonzero(inside(x, params))
    else:
        grid = rows, scale, params.zero_point.reshape(small), params.qmin, params.qmax
        noise, power, beyond = kernels.measure(*grid)
        if not (1e-30 * x.size < noise and power < 1e30 * x.size):  # beyond squares in float32
            noise, power, beyond = reference.measure(*grid)
    snr = math.inf if not noise else 10 * np.log10(power / noise) if power else -math.inf
    return Measure(float(noise / x.size), float(snr), float(beyond / x.size))


@overload
def predicted_snr_db(bits: float, crest_factor: float) -> float: ...
@overload
def predicted_snr_db(bits: _Array, crest_factor: _Array | float) -> npt.NDArray[np.float64]: ...
@overload
def predicted_snr_db(bits: float, crest_factor: _Array) -> npt.NDArray[np.float64]: ...
def predicted_snr_db(bits: Any, crest_factor: Any) -> Any:
    """SNR that the uniform-noise law promises: 6.02 bits + 4.77 - 20 log10(crest factor), in dB.

    bits: number or array; crest_factor: clip / rms, dimensionless, > 0.
    Raises ValueError for NaN, infinity and a crest factor that is not positive.
    Source: Bennett 1948, noise variance step^2 / 12. Taught in chapter 2.

    >>> round(predicted_snr_db(8, 1.0), 2), round(predicted_snr_db(8, 4.0), 2)
    (52.94, 40.89)
    """
    me = "predicted_snr_db"
    crest = _checks.float64_array(crest_factor, me, "crest_factor")
    if not (crest > 0).all():
        raise ValueError(
            f"{me}: crest_factor is {crest_factor}; expected clip / rms, a positive number"
        )
    bits = _checks.float64_array(bits, me, "bits")
    snr = 20 * np.log10(2) * bits + 10 * np.log10(3) - 20 * np.log10(crest)
    return float(snr) if snr.ndim == 0 else snr


@overload
def flip_probability(snr_db: float) -> float: ...
@overload
def flip_probability(snr_db: _Array) -> npt.NDArray[np.float64]: ...
def flip_probability(snr_db: Any) -> Any:
    """Probability that noise flips the sign of a zero-mean Gaussian output.

    snr_db: number or array, in dB, infinite where nothing was lost. Returns
    arctan(10^(-SNR/20)) / pi, between 0 and 1/2. Raises ValueError for NaN.
    Source: the angle between two correlated Gaussians. Taught in chapter 6.

    >>> [round(100 * flip_probability(snr), 2) for snr in (10, 20, 30, 40)]
    [9.75, 3.17, 1.01, 0.32]
    """
    snr = _checks.float64_array(snr_db, "flip_probability", "snr_db", infinite=True)
    with np.errstate(over="ignore"):
        p = np.arctan(10 ** (-snr / 20)) / np.pi
    return float(p) if p.ndim == 0 else p


def saturation_rate(x: npt.ArrayLike, params: QuantizationParams) -> float:
    """Share of the values that the clamp moves, between 0 and 1.

    x: real array that `params` fits. On the binary grid: the share with abs(x) > 2 scale, where
    the straight-through gradient stops. Raises ValueError as quantize does. Taught in chapter 3.

    >>> saturation_rate([0.2, 0.9, 1.6, -3.0], QuantizationParams(0.01, 0, narrow_range=True))
    0.5
    """
    x = _checks.float32_array(x, "saturation_rate")
    within = inside(x, checked_params(params, "saturation_rate"))
    return int(np.count_nonzero(~within)) / x.size
