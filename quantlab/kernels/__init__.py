"""Floor 1: hot loops on plain arrays. Here, and only here, the path is chosen.

`kernels.quantize` and its siblings resolve at first use: to the Numba twin if numba can be
imported, else to `reference`. QUANTLAB_KERNELS=reference or =numba forces one of them.
"""

from __future__ import annotations

import importlib
import os

_TWINS = {
    "quantize": "elementwise",
    "dequantize": "elementwise",
    "fake_quantize": "elementwise",
    "quantize_binary": "elementwise",
    "inside": "elementwise",
    "integer_matmul": "matmul",
    "requantize": "matmul",
    "pack": "packing",
    "unpack": "packing",
    "nearest_level": "elementwise",
    "lookup": "elementwise",
    "bin_sums": "clusters",
    "kmeans_cuts": "clusters",
    "pack_signs": "xnor",
    "xnor_matmul": "xnor",
}
_path: str | None = None


def path() -> str:
    """The path in use, "numba" or "reference", decided once per process."""
    global _path
    if _path is None:
        wish = os.environ.get("QUANTLAB_KERNELS", "")
        if wish not in ("", "numba", "reference"):
            raise ValueError(
                f"quantlab.kernels: QUANTLAB_KERNELS is {wish!r}; expected numba or reference"
            )
        _path = wish or ("numba" if _has_numba() else "reference")
    return _path


def _has_numba() -> bool:
    try:
        importlib.import_module("numba")
    except ImportError:
        return False
    return True


def __getattr__(name: str):
    if name not in _TWINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _TWINS[name] if path() == "numba" else "reference"
    kernel = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = kernel  # the next use is a plain attribute
    return kernel


def __dir__() -> list[str]:
    return sorted([*_TWINS, "path", "reference"])
