"""Which path the kernels take, decided once per process and before anything compiles."""

from __future__ import annotations

import os
import warnings

PATHS = ("reference", "numba", "avx2", "avx512")
_NEEDS = {"avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512vnni"}}
_path: str | None = None


def path() -> str:
    """The path in use, one of PATHS.

    QUANTLAB_KERNELS forces one; else it is the last that the CPU and Numba's own settings allow.
    On a machine with AVX-512, avx2 makes Numba compile everything as for a CPU without it.
    Raises ValueError where the wish cannot be met.
    """
    global _path
    if _path is None:
        wish = os.environ.get("QUANTLAB_KERNELS", "")
        if wish and wish not in PATHS:
            raise ValueError(
                f"quantlab.kernels: QUANTLAB_KERNELS is {wish!r}; expected numba or reference, "
                "or, where the CPU has them, avx2 or avx512"
            )
        possible = PATHS[:1] if wish == "reference" else available()
        if wish and wish not in possible:
            raise ValueError(
                f"quantlab.kernels: QUANTLAB_KERNELS is {wish!r}; this machine "
                f"and the settings of Numba allow {', '.join(possible)}"
            )
        _path = wish or possible[-1]
        if _path == "avx2":
            _compile_without_avx512()
    return _path


def available() -> tuple[str, ...]:
    """The paths that can run here, slowest first."""
    try:
        from numba.core import config
    except ImportError:
        return PATHS[:1]
    if config.DISABLE_JIT:  # NUMBA_DISABLE_JIT=1, for a debugger: loops in Python would take hours
        return PATHS[:1]
    import llvmlite.binding

    cpu, features = llvmlite.binding.get_host_cpu_features(), _enabled(_wanted_features())
    has = {name for name in features if cpu.get(name)}
    return PATHS[:2] + tuple(p for p in PATHS[2:] if _NEEDS[p] <= has)


def compiled_features() -> set[str]:
    """The CPU features for which Numba compiles in this process, once it has begun to."""
    from numba.core.registry import cpu_target

    return _enabled(cpu_target.target_context.codegen().magic_tuple()[2])


def jit(function=None, **options):
    """numba.njit, its machine code kept on disk where there is a writable place for it.

    Division follows NumPy: Python's would test every divisor for zero, and no loop with a test
    vectorizes. No fastmath unless asked: a reordered or fused operation would move codes at ties.
    """
    import numba

    if function is None:
        return lambda f: jit(f, **options)
    options = {"error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # a read-only package, and no home
        if "cannot cache" not in str(error):
            raise
        warnings.warn(
            "quantlab compiles its kernels anew in every process, because no folder for them is "
            "writable: set NUMBA_CACHE_DIR to one that is",
            stacklevel=1,  # this line, hence said once
        )
        return numba.njit(**options)(function)


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
