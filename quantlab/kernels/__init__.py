"""Floor 1: hot loops on plain arrays. Here, and only here, the path is chosen.

    reference   NumPy: the definition
    numba       plain loops, compiled: any CPU
    avx2        vector instructions of 256 bits, with VNNI where the CPU has it at that width
    avx512      vector instructions of 512 bits with VNNI

All give the same integers. `kernels.quantize` and its siblings resolve at first use, to the last
path of this list that the CPU and Numba's own settings allow; QUANTLAB_KERNELS=reference, numba,
avx2 or avx512 forces one. On a machine with AVX-512, avx2 makes Numba compile everything as for a
CPU without it.
"""

from __future__ import annotations

import importlib
import os

PATHS = ("reference", "numba", "avx2", "avx512")
_NEEDS = {"avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512vnni"}}
# Name of a kernel: module of the plain loops, module with vector instructions. NumPy alone serves
# where it is as fast.
_TWINS = {
    "quantize": ("elementwise", "streaming"),
    "dequantize": ("elementwise", "streaming"),
    "fake_quantize": ("elementwise", "streaming"),
    "measure": ("elementwise", "streaming"),
    "minmax": ("elementwise", "streaming"),
    "quantize_binary": ("reference", "reference"),
    "inside": ("elementwise", "elementwise"),
    "integer_matmul": ("matmul", "gemm"),
    "grouped_matmul": ("matmul", "int4"),
    "requantize": ("matmul", "matmul"),
    "pack": ("packing", "packing"),
    "unpack": ("packing", "packing"),
    "nearest_level": ("elementwise", "elementwise"),
    "lookup": ("elementwise", "elementwise"),
    "bin_sums": ("clusters", "clusters"),
    "kmeans_cuts": ("clusters", "clusters"),
    "pack_signs": ("reference", "reference"),
    "xnor_matmul": ("xnor", "popcount"),
}
_path: str | None = None


def path() -> str:
    """The path in use, one of PATHS, decided once per process and before anything compiles."""
    global _path
    if _path is None:
        wish = os.environ.get("QUANTLAB_KERNELS", "")
        if wish and wish not in PATHS:
            raise ValueError(
                f"quantlab.kernels: QUANTLAB_KERNELS is {wish!r}; expected numba or reference, "
                "or, where the CPU has them, avx2 or avx512"
            )
        if wish != "reference" and wish not in (possible := available()):
            if wish:
                raise ValueError(
                    f"quantlab.kernels: QUANTLAB_KERNELS is {wish!r}; this machine "
                    f"and the settings of Numba allow {', '.join(possible)}"
                )
            wish = possible[-1]
        if wish == "avx2":
            _compile_without_avx512()
        _path = wish
    return _path


def warm() -> None:
    """Compile every kernel for the usual types, so that the first real call does not wait.

    Numba keeps the machine code in its cache on disk (NUMBA_CACHE_DIR): a new process loads it in
    a tenth of the time. Taught in chapter 12.
    """
    import numpy as np

    x, this = np.ones((1, 1, 8), np.float32), importlib.import_module(__name__)
    one, zero = np.ones((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.int32)
    one.flags.writeable = zero.flags.writeable = False  # as in QuantizationParams: another type
    for codes in (np.zeros(x.shape, np.int8), np.zeros(x.shape, np.uint8)):
        low = -128 if codes.dtype == np.int8 else 0
        this.quantize(x, one, zero, low, low + 255, codes)
        this.dequantize(codes, one, zero, x.copy())
        this.unpack(this.pack(codes.reshape(-1), 4), 4, low < 0, codes.reshape(-1))
        this.integer_matmul(codes[0], np.zeros((8, 2), np.int8), 0, np.zeros(2, np.int32))
    this.fake_quantize(x, one, zero, -128, 127, x.copy())
    this.measure(x, one, zero, -128, 127)
    this.minmax(x[0, 0])
    this.inside(x, one, zero, -128, 127, np.zeros(x.shape, bool))
    this.grouped_matmul(
        np.zeros((1, 8), np.uint8), np.zeros((2, 8), np.int8), np.ones((2, 1), np.float32), 0
    )
    words = this.pack_signs(x[0])
    this.xnor_matmul(words, words, 8)
    few, wide = np.zeros(4), np.ones(1, np.int64)
    this.requantize(np.zeros((1, 1), np.int32), wide, wide, 0, 0, 127, np.zeros((1, 1), np.int8))
    this.nearest_level(x, one, few[:1].astype(np.float32), np.zeros(x.shape, np.uint8))
    this.lookup(np.zeros(x.shape, np.uint8), one, few.astype(np.float32), x.copy())
    this.bin_sums(x[0, 0], 0.0, 1.0, few.astype(np.int64), few)
    this.kmeans_cuts(np.arange(4.0), few, few, 2)


def available() -> tuple[str, ...]:
    """The paths that can run here, slowest first."""
    try:
        importlib.import_module("numba")
    except ImportError:
        return PATHS[:1]
    import llvmlite.binding

    cpu, features = llvmlite.binding.get_host_cpu_features(), _enabled(_wanted_features())
    has = {name for name in features if cpu.get(name)}
    return PATHS[:2] + tuple(p for p in PATHS[2:] if _NEEDS[p] <= has)


def compiled_features() -> set[str]:
    """The CPU features for which Numba compiles in this process, once it has begun to."""
    from numba.core.registry import cpu_target

    return _enabled(cpu_target.target_context.codegen().magic_tuple()[2])


def _wanted_features() -> str:
    # NUMBA_CPU_FEATURES, else those of the host (without AVX where NUMBA_ENABLE_AVX=0)
    from numba.core import codegen, config

    own = config.CPU_FEATURES
    return codegen.get_host_cpu_features() if own is None else own


def _enabled(features: str) -> set[str]:
    # "+avx2,-avx512f" -> {"avx2"}
    return {f[1:] for f in features.split(",") if f.startswith("+")}


def _compile_without_avx512() -> None:
    from numba.core import config

    hidden = ("+avx512", "+avx10")
    config.CPU_FEATURES = ",".join(
        f"-{f[1:]}" if f.startswith(hidden) else f for f in _wanted_features().split(",")
    )
    if "avx512f" in compiled_features():
        raise ValueError(
            "quantlab.kernels: QUANTLAB_KERNELS is 'avx2', but Numba already "
            "compiles for AVX-512; use quantlab before other code that compiles"
        )


def __getattr__(name: str):
    if name not in _TWINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    plain, fast = _TWINS[name]
    module = {"reference": "reference", "numba": plain}.get(path(), fast)
    kernel = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = kernel  # the next use is a plain attribute
    return kernel


def __dir__() -> list[str]:
    return sorted([*_TWINS, "available", "path", "reference", "warm"])
