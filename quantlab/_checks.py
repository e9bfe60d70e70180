"""What every function of floor 2 says about bad input, in one place."""

from __future__ import annotations

from typing import Any

import numpy as np


def first_index(mask: np.ndarray) -> str:
    """Index of the first True of `mask`, as a reader would type it."""
    index = tuple(int(i) for i in np.argwhere(mask)[0])
    return str(index[0]) if len(index) == 1 else str(index)


def real_array(x: Any, function: str, name: str = "x", infinite: bool = False) -> np.ndarray:
    """Any real array-like as a non-empty, finite array of its own dtype."""
    parts = x if isinstance(x, (list, tuple)) else [x]
    masked = sum(np.ma.count_masked(a) for a in parts if isinstance(a, np.ma.MaskedArray))
    if masked:
        raise ValueError(
            f"{function}: {name} has {masked} masked values, and no grid keeps a mask; "
            "give x.compressed() (without them) or x.filled(value)"
        )
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged rows; a tensor that refuses
        raise ValueError(
            f"{function}: {name} is not a rectangular array ({error}); give rows of one length"
        ) from None
    if array.dtype == object and not array.ndim:
        raise ValueError(
            f"{function}: {name} is a {type(x).__name__}; expected an array of real numbers"
        )
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{function}: {name} has dtype {array.dtype}; expected real numbers "
            "(bool, integer or floating point): convert or select columns first"
        )
    if array.size == 0:
        raise ValueError(
            f"{function}: {name} is empty (shape {array.shape}); expected at least one value"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        is_nan = np.isnan(array)
        bad, what = (is_nan, "NaN") if is_nan.any() else (np.isinf(array), "infinite")
        if infinite and what == "infinite":
            return array
        count = int(bad.sum())
        raise ValueError(
            f"{function}: {name} has {count} {what} value{'s' * (count > 1)} "
            f"(first at index {first_index(bad)}); drop or fill them before quantizing"
        )
    return array


def float64_array(x: Any, function: str, name: str = "x") -> np.ndarray:
    """Any real array-like as a non-empty, finite float64 array."""
    array = real_array(x, function, name)
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float64)
    if not np.isfinite(narrow).all():  # only from a wider type
        raise ValueError(
            f"{function}: {name} has values beyond float64 (1.8e308); rescale the data"
        )
    return narrow


def float32_array(x: Any, function: str, name: str = "x") -> np.ndarray:
    """Any real array-like as a non-empty, finite, C-contiguous float32 array."""
    array = real_array(x, function, name)
    with np.errstate(over="ignore"):
        narrow = np.asarray(array, dtype=np.float32, order="C")
    if array.dtype != np.float32 and not np.isfinite(narrow).all():
        bad = np.isinf(narrow)
        raise ValueError(
            f"{function}: {name} has {int(bad.sum())} values beyond float32 "
            f"(first at index {first_index(bad)}, {array[bad][0]:.3g}); "
            "rescale the data to magnitudes below 3.4e38"
        )
    return narrow


def integer(value: Any, function: str, name: str, low: int, high: int) -> int:
    """`value` as a Python int inside [low, high]."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{function}: {name} is {value!r}; expected an integer {low} to {high}")
    if not low <= value <= high:
        raise ValueError(f"{function}: {name} is {value}; expected {low} to {high}")
    return int(value)


def number(value: Any, function: str, name: str) -> float:
    """`value` as a finite Python float."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not real or not np.isfinite(value):
        raise ValueError(f"{function}: {name} is {value!r}; expected a finite number")
    return float(value)


def normalize_axis(axis: Any, ndim: int, function: str) -> int:
    """`axis` counted from the front, or an error that names the rank."""
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, (int, np.integer)):
        raise ValueError(f"{function}: axis is {axis!r}; expected an integer")
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"{function}: axis {axis} does not exist in an array of rank {ndim}; "
            + (f"expected {-ndim} to {ndim - 1}" if ndim else "use a per-tensor scheme")
        )
    return int(axis) % ndim
