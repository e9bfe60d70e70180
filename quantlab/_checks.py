"""What every function of floor 2 says about bad input, in one place."""

from __future__ import annotations

from typing import Any

import numpy as np


def first_index(mask: np.ndarray) -> str:
    """Index of the first True of `mask`, as a reader would type it."""
    index = tuple(int(i) for i in np.argwhere(mask)[0])
    return str(index[0]) if len(index) == 1 else str(index)


def real_array(x: Any, function: str, name: str = "x") -> np.ndarray:
    """Any real array-like as a non-empty, finite array of its own dtype."""
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError(
            f"{function}: {name} is not a rectangular array ({error}); give rows of one length"
        ) from None
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
        count = int(bad.sum())
        raise ValueError(
            f"{function}: {name} has {count} {what} value{'s' * (count > 1)} "
            f"(first at index {first_index(bad)}); drop or fill them before quantizing"
        )
    return array


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
