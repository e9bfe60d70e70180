"""Every path of the kernels equals the NumPy reference: random, extreme and odd sizes.

A process has one path, so each runs in a process of its own: this file, started as a script.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quantlab import kernels
from quantlab.kernels import reference

BYTES = (np.uint8, np.int8)


def same(got, wanted):
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    assert got.tobytes() == wanted.tobytes()


def codes(rng, shape, dtype, low=None, high=None):
    """Half random codes, half the ends of the range: the sums that overflow first."""
    ends = np.iinfo(dtype)
    low, high = ends.min if low is None else low, ends.max if high is None else high
    chosen = rng.integers(low, high + 1, shape)
    extreme = rng.choice([low, high], shape)
    return np.where(rng.random(shape) < 0.5, chosen, extreme).astype(dtype)


def check_product():
    rng = np.random.default_rng(1)
    shapes = [
        *itertools.product((0, 1, 2, 5, 6, 7, 13), (1, 3, 4, 5, 66), (1, 15, 17, 64, 65)),
        (1, 1100, 64),
        (13, 1030, 70),
        (4, 2052, 33),
        (7, 4100, 65),
        (8, 9001, 128),
        (200, 9, 70),
        (390, 5, 64),
        (195, 4100, 65),
    ]  # more rows than one panel serves
    for (m, k, n), x_type, w_type in itertools.product(shapes, BYTES, BYTES):
        x = codes(rng, (m, k), x_type, high=rng.choice([127, np.iinfo(x_type).max]))
        w = codes(rng, (k, n), w_type)
        for w_zero in (np.zeros(n, np.int32), rng.integers(-128, 256, n).astype(np.int32)):
            x_zero = int(rng.integers(-128, 256))
            same(
                kernels.integer_matmul(x, w, x_zero, w_zero),
                reference.integer_matmul(x, w, x_zero, w_zero),
            )
    x, w = codes(rng, (3, 17), np.uint16), codes(rng, (17, 5), np.int8)
    zero = np.zeros(5, np.int32)
    same(kernels.integer_matmul(x, w, 9, zero), reference.integer_matmul(x, w, 9, zero))


def check_packed_int4():
    rng = np.random.default_rng(6)
    for m, n, (groups, size) in itertools.product(
        (0, 1, 2, 3, 4, 7), (1, 15, 17, 64, 70), ((1, 1), (1, 9), (3, 8), (2, 20), (4, 128))
    ):
        x = codes(rng, (m, groups * size), np.uint8)
        w = codes(rng, (n, groups * size), np.int8, -8, 7)
        scale = rng.uniform(0.01, 1, (n, groups)).astype(np.float32)
        for x_zero in (0, 3, 255):
            same(
                kernels.grouped_matmul(x, w, scale, x_zero),
                reference.grouped_matmul(x, w, scale, x_zero),
            )


def check_binary_product():
    rng = np.random.default_rng(7)
    for m, n, k in itertools.product((0, 1, 3, 4, 6, 13), (1, 7, 8, 31, 32, 33), (1, 64, 65, 300)):
        a, b = (values(rng, rows * k, 1)[: rows * k].reshape(rows, k) for rows in (m, n))
        words = [(kernels.pack_signs(x), reference.pack_signs(x)) for x in (a, b)]
        for got, wanted in words:
            same(got, wanted)
        (x, _), (w, _) = words
        same(kernels.xnor_matmul(x, w, k), reference.xnor_matmul(x, w, k))


def values(rng, n, scale):
    """Ties and their neighbors, ends of float32, subnormals, both zeros, ordinary numbers."""
    ties = (rng.integers(-70_000, 70_000, n) + np.float32(0.5)) * np.float32(scale)
    near = [np.nextafter(ties, np.float32(end)) for end in (-np.inf, np.inf)]
    ends = [0.0, -0.0, 3.4e38, -3.4e38, 1e-45, -1e-45, scale / 2, -scale / 2]
    ordinary = rng.standard_normal(n) * scale * 60
    x = np.concatenate([ties, *near, ends, ordinary]).astype(np.float32)
    return rng.permutation(x[np.isfinite(x)])


GRIDS = [
    (np.int8, -128, 127),
    (np.int8, -7, 7),
    (np.uint8, 0, 255),
    (np.uint8, 0, 1),
    (np.int16, -32767, 32767),
    (np.uint16, 0, 65535),
]


def check_elementwise():
    rng = np.random.default_rng(2)
    scales = (0.25, 0.1, 1.9999999, 3.3e-39, 1e-30, 1e25)
    for scale, (dtype, low, high), n in itertools.product(scales, GRIDS, (1, 37, 3000)):
        x = values(rng, n, scale)[None, None]
        s = np.full((1, 1, 1), scale, np.float32)
        for zero in (low, 0, high):
            compare_elementwise(x, s, np.full((1, 1, 1), zero, np.int32), low, high, dtype)
    x = values(rng, 60, 0.5)[:210].reshape(5, 6, 7)
    for shape in ((5, 6, 1), (1, 6, 1), (1, 1, 7), (5, 1, 7)):
        s = rng.uniform(0.01, 2, shape).astype(np.float32)
        compare_elementwise(x, s, rng.integers(-8, 8, shape).astype(np.int32), -8, 7, np.int8)


def compare_elementwise(x, s, z, low, high, dtype):
    args, results = (x, s, z, low, high), {}
    for path in (kernels, reference):
        q = path.quantize(*args, np.zeros(x.shape, dtype))
        results[path] = [
            q,
            path.dequantize(q, s, z, np.zeros(x.shape, np.float32)),
            path.fake_quantize(*args, np.zeros(x.shape, np.float32)),
        ]
    for got, wanted in zip(*results.values(), strict=True):
        same(got, wanted)
    got, wanted = kernels.measure(*args), reference.measure(*args)
    assert got[2] == wanted[2]
    if np.abs(x).max() < 1e18:  # the square of a larger one is beyond float32
        np.testing.assert_allclose(got[:2], wanted[:2], rtol=1e-5, atol=1e-37)


def check_large_outputs():
    """Outputs that are written past the caches, from every place in a line."""
    rng, size = np.random.default_rng(3), 5_000_003
    if kernels.path() in ("avx2", "avx512"):
        from quantlab.kernels import streaming

        size = max(size, streaming.FAR // 5 + 100_003)
        assert 5 * size > streaming.FAR
    x = rng.standard_normal((1, 1, size), np.float32)
    s, z = np.full((1, 1, 1), 0.03, np.float32), np.full((1, 1, 1), 3, np.int32)
    q, f = (
        reference.quantize(x, s, z, -128, 127, np.zeros(x.shape, np.int8)),
        reference.fake_quantize(x, s, z, -128, 127, np.zeros(x.shape, np.float32)),
    )
    for shift in (0, 1, 5):

        def room(dtype, shift=shift):
            return np.zeros(x.size + 64, dtype)[shift : shift + x.size].reshape(x.shape)

        same(kernels.quantize(x, s, z, -128, 127, room(np.int8)), q)
        same(kernels.fake_quantize(x, s, z, -128, 127, room(np.float32)), f)
        same(kernels.dequantize(q, s, z, room(np.float32)), f)


def check_division():
    """Quotients next to a tie: where a product with 1 / scale would round to another code."""
    rng = np.random.default_rng(4)
    for scale in rng.uniform(1, 2, 300).astype(np.float32):
        ties = np.arange(-128, 128, dtype=np.float32) + np.float32(0.5)
        x = ties * scale
        near = [x, *(np.nextafter(x, np.float32(e)) for e in (-np.inf, np.inf))]
        x, s = np.concatenate(near)[None, None], scale.reshape(1, 1, 1)
        z = np.zeros((1, 1, 1), np.int32)
        same(
            kernels.quantize(x, s, z, -128, 127, np.zeros(x.shape, np.int8)),
            reference.quantize(x, s, z, -128, 127, np.zeros(x.shape, np.int8)),
        )


def check_minmax():
    rng = np.random.default_rng(5)
    for n in (1, 7, 1000):
        for x in (values(rng, n, 0.5), -np.abs(values(rng, n, 1)), np.zeros(n, np.float32)):
            assert kernels.minmax(x) == reference.minmax(x)


CHECKS = {name: f for name, f in globals().items() if name.startswith("check_")}


def run(code, **env):
    return subprocess.run(
        [sys.executable, *code],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, **env},
        check=False,
        cwd=Path(__file__).parent,
    )


@pytest.mark.parametrize("path", kernels.available())
def test_equals_the_reference(path):
    done = run([__file__], QUANTLAB_KERNELS=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [path, *CHECKS]


CHOSEN = "from quantlab import kernels; print(kernels.path(), kernels.available())"


def test_a_cpu_without_vector_instructions_runs_plain_loops():
    done = run([__file__], QUANTLAB_KERNELS="", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["numba", *CHECKS]


def test_the_settings_of_numba_count():
    done = run([__file__], QUANTLAB_KERNELS="", NUMBA_CPU_FEATURES="+avx2,+fma")  # and no VNNI
    best = "avx2" if "avx2" in kernels.available() else "numba"
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [best, *CHECKS]
    refused = run(["-c", CHOSEN], QUANTLAB_KERNELS="avx512", NUMBA_CPU_FEATURES="+avx2")
    assert "allow reference, numba" in refused.stderr


def test_avx2_is_forced_before_anything_compiles_or_not_at_all():
    late = (
        "import numba; numba.njit(lambda x: x)(1)\nfrom quantlab import kernels\n"
        "try: print(kernels.path())\nexcept ValueError as error: print(error)"
    )
    done = run(["-c", late], QUANTLAB_KERNELS="avx2")
    assert done.returncode == 0, done.stderr
    said = {"avx512": "already compiles for AVX-512", "avx2": "avx2", "numba": "allow reference"}
    assert said[kernels.available()[-1]] in done.stdout


def main():
    print(kernels.path())
    kernels.warm()
    for name, check in CHECKS.items():
        check()
        print(name)


if __name__ == "__main__":
    main()
