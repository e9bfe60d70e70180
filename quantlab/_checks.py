"""What every function of floor 2 says about bad input, in one place."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np

brief = reprlib.repr  # what came, but not a screen full of it


def first_index(mask: np.ndarray) -> str:
    """Index of the first True of `mask`, as a reader would type it."""
    index = tuple(int(i) for i in np.argwhere(mask)[0])
    return str(index[0]) if len(index) == 1 else str(index)


def _masked(x: Any) -> int:
    if isinstance(x, np.ma.MaskedArray):
        return int(np.ma.count_masked(x))
    return sum(_masked(a) for a in x if type(a) is not float) if type(x) in (list, tuple) else 0


def real_array(x: Any, function: str, name: str = "x", infinite: bool = False) -> np.ndarray:
    """Any real array-like as a non-empty, finite array of its own dtype."""
    if masked := _masked(x):
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


def float64_array(x: Any, function: str, name: str = "x", infinite: bool = False) -> np.ndarray:
    """Any real array-like as a non-empty, finite float64 array."""
    array = real_array(x, function, name, infinite)
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float64)
    if (np.isinf(narrow) & np.isfinite(array)).any():  # only from a wider type
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
        raise ValueError(
            f"{function}: {name} is {brief(value)}; expected an integer {low} to {high}"
        )
    if not low <= value <= high:
        raise ValueError(f"{function}: {name} is {brief(value)}; expected {low} to {high}")
    return int(value)


def number(value: Any, function: str, name: str) -> float:
    """`value` as a finite Python float."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not real or not np.isfinite(value):
        raise ValueError(f"{function}: {name} is {brief(value)}; expected a finite number")
    return float(value)


def choice(value: Any, function: str, name: str, known: Iterable[str]) -> str:
    """`value` if it is one of the words in `known`."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(
            f"{function}: {name} is {brief(value)}; expected one of {', '.join(known)}"
        )
    return value


def shape(value: Any, function: str) -> tuple[int, ...]:
    """`value` as the shape of an array that is not empty."""
    if not isinstance(value, (tuple, list)):
        raise ValueError(f"{function}: shape is {brief(value)}; expected a tuple of integers")
    return tuple(integer(n, function, "a length in shape", 1, 2**48) for n in value)


def typed_array(a: Any, dtype: Any, function: str, name: str) -> np.ndarray:
    """`a` if it is a non-empty array of exactly `dtype`: what is stored is not converted."""
    if not isinstance(a, np.ndarray) or a.dtype != dtype:
        got = getattr(a, "dtype", type(a).__name__)
        raise ValueError(f"{function}: {name} is {got}; expected an array of {np.dtype(dtype)}")
    if a.size == 0:
        raise ValueError(f"{function}: {name} is empty (shape {a.shape})")
    return a


def normalize_axis(axis: Any, ndim: int, function: str) -> int:
    """`axis` counted from the front, or an error that names the rank."""
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, (int, np.integer)):
        raise ValueError(f"{function}: axis is {brief(axis)}; expected an integer")
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"{function}: axis {brief(axis)} does not exist in an array of rank {ndim}; "
            + (f"expected {-ndim} to {ndim - 1}" if ndim else "use a per-tensor scheme")
        )
    return int(axis) % ndim
