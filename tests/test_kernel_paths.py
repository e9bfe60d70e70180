"""Every path of the kernels passes the tests of the kernels and of compiled models.

A process has one path, so each runs pytest in a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantlab import kernels

HERE = Path(__file__).parent
CHECKED = ["test_kernels.py", "test_simd.py", "test_compiled.py"]


def run(command, **env):
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "QUANTLAB_KERNELS": "", **env},
        cwd=HERE,
    )


def check(path, **env):
    """The tests pass where the settings of `env` choose this path; nothing is skipped."""
    chosen = run(["-c", "from quantlab import kernels; print(kernels.path())"], **env)
    assert chosen.stdout.split() == [path], chosen.stderr
    # what starts processes of its own is the same on every path
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not processes", *CHECKED]
    done = run(command, QUANTLAB_NO_SKIP="1", **env)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [p for p in kernels.available() if p != kernels.path()])
def test_equals_the_reference(path):
    check(path, QUANTLAB_KERNELS=path)


def test_a_cpu_without_vector_instructions_runs_plain_loops():
    if kernels.available() == ("reference",):
        pytest.skip("no Numba")
    check("numba", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")


def test_the_settings_of_numba_count():
    possible = kernels.available()
    best = "avx2" if "avx2" in possible else possible[-1]
    check(best, NUMBA_CPU_FEATURES="+avx2,+fma")  # and no VNNI
    refused = run(
        ["-c", "import quantlab.kernels"], QUANTLAB_KERNELS="avx512", NUMBA_CPU_FEATURES="+avx2"
    )
    assert "allow reference" in refused.stderr


def test_avx2_is_forced_before_anything_compiles_or_not_at_all():
    late = (
        "import numba; numba.njit(lambda x: x)(1)\n"
        "try:\n    from quantlab import kernels; print(kernels.path())\n"
        "except ValueError as error: print(error)"
    )
    done = run(["-c", late], QUANTLAB_KERNELS="avx2")
    assert done.returncode == 0, done.stderr
    said = {"avx512": "already compiles for AVX-512", "avx2": "avx2"}
    assert said.get(kernels.available()[-1], "allow reference") in done.stdout
