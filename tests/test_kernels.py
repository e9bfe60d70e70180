"""The kernels of the path in use equal the NumPy reference, bit for bit.

A process has one path; test_kernel_paths.py runs this file on all of them.
"""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from quantlab import QuantizationParams, kernels
from quantlab.kernels import reference
from quantlab.scheme import code_range

GRIDS = [
    (bits, signed, narrow)
    for bits, signed, narrow in itertools.product(range(1, 17), (True, False), (True, False))
    if not (bits == 1 and narrow)
]
LAYOUTS = [  # shape of the data, axis, block size: odd sizes, so that no tile divides them
    ((1,), None, None), ((37,), None, None), ((3, 5, 7), None, None),
    ((13, 7), 0, None), ((13, 7), 1, None), ((3, 5, 7), 1, None), ((4, 1), 1, None),
    ((6, 15), 1, 5), ((6, 15), 0, 3), ((2, 9, 5), 1, 3), ((5, 1), 0, 1),
]  # fmt: skip


def same_bits(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes()


def nasty(rng, n, scale):
    """Ties, near ties, both zeros, subnormals and the ends of float32, in random order."""
    ties = (rng.integers(-300, 300, n) + np.float32(0.5)) * np.float32(scale)
    near = np.nextafter(ties, np.float32(rng.choice([-np.inf, np.inf])))
    ends = np.array([0.0, -0.0, 1e38, -1e38, 3.4e38, -3.4e38, 1e-45, -1e-45, 1e-38], np.float32)
    x = np.concatenate([ties, near, ends, rng.standard_normal(n) * scale * 40])
    return rng.permutation(x.astype(np.float32))


def both(name, args, out_shape, dtype):
    results = [getattr(m, name)(*args, np.zeros(out_shape, dtype)) for m in (reference, kernels)]
    same_bits(*results)
    return results[0]


def check_elementwise(x, params):
    data, small = params.normal_form(x.shape)
    grid = params.scale.reshape(small), params.zero_point.reshape(small)
    x, ends = x.reshape(data), (params.qmin, params.qmax)
    codes = both("quantize", (x, *grid, *ends), data, params.code_dtype)
    real = both("dequantize", (codes, *grid), data, np.float32)
    fake = both("fake_quantize", (x, *grid, *ends), data, np.float32)
    same_bits(real, fake)
    both("inside", (x, *grid, *ends), data, np.bool_)


@pytest.mark.parametrize("bits, signed, narrow", GRIDS)
def test_every_tie_of_every_grid(bits, signed, narrow):
    low, high = code_range(bits, signed, narrow)
    rng = np.random.default_rng(bits)
    for zero_point, scale in ((low, 0.25), (high, 0.1), ((low + high) // 2, 3.3e-39)):
        params = QuantizationParams(scale, zero_point, bits, signed, narrow)
        half_steps = np.arange(2 * (low - zero_point) - 3, 2 * (high - zero_point) + 4)
        x = (half_steps.astype(np.float32) / 2 * np.float32(scale)).astype(np.float32)
        check_elementwise(np.concatenate([x, nasty(rng, 50, scale)]), params)


@pytest.mark.parametrize("shape, axis, block_size", LAYOUTS)
@pytest.mark.parametrize("bits, signed", [(4, True), (8, False), (8, True), (16, False)])
def test_every_layout(shape, axis, block_size, bits, signed):
    rng = np.random.default_rng(3)
    if axis is None:
        grid = ()
    elif block_size is None:
        grid = (shape[axis],)
    else:
        grid = tuple(n // block_size if i == axis else n for i, n in enumerate(shape))
    low, high = code_range(bits, signed, False)
    scale = rng.uniform(0.01, 2, grid)
    zero_point = rng.integers(low, high + 1, grid)
    params = QuantizationParams(scale, zero_point, bits, signed, axis=axis, block_size=block_size)
    size = int(np.prod(shape))
    x = np.resize(nasty(rng, size, 0.5), shape)
    check_elementwise(x, params)
    # the normal form pairs the same values as plain broadcasting
    full_scale, full_zero = params.broadcast(shape)
    data, small = params.normal_form(shape)
    codes = reference.quantize(
        x.reshape(data),
        params.scale.reshape(small),
        params.zero_point.reshape(small),
        low,
        high,
        np.zeros(data, params.code_dtype),
    )
    one_by_one = [
        reference.quantize(
            np.full((1, 1, 1), v),
            np.full((1, 1, 1), s),
            np.full((1, 1, 1), z),
            low,
            high,
            np.zeros((1, 1, 1), np.int32),
        ).item()
        for v, s, z in zip(x.flat, full_scale.flat, full_zero.flat, strict=True)
    ]
    assert codes.reshape(-1).tolist() == one_by_one


def test_binary():
    x = np.array([[[-1.0, -0.0, 0.0, 1e-45, -1e-45]]], np.float32)
    codes = kernels.quantize_binary(x, np.zeros(x.shape, np.int8))
    assert codes.tolist() == [[[-1, 1, 1, 1, -1]]]


CODE_TYPES = (np.int8, np.uint8, np.int16, np.uint16)


@pytest.mark.parametrize("x_type, w_type", list(itertools.product(CODE_TYPES, CODE_TYPES)))
def test_product_of_extreme_codes(x_type, w_type):
    # 127 * 127 leaves int8, 65535 * 65535 leaves int32: both paths must wrap alike
    rng = np.random.default_rng(5)
    for shape in ((1, 1, 1), (3, 17, 5), (7, 64, 33)):
        m, k, n = shape
        x = rng.choice([np.iinfo(x_type).min, np.iinfo(x_type).max, 1], (m, k)).astype(x_type)
        w = rng.choice([np.iinfo(w_type).min, np.iinfo(w_type).max, 1], (k, n)).astype(w_type)
        w_zero = rng.integers(-128, 128, n).astype(np.int32)
        results = [r.integer_matmul(x, w, -7, w_zero) for r in (reference, kernels)]
        same_bits(*results)
        if np.dtype(x_type).itemsize == 1 == np.dtype(w_type).itemsize:
            exact = (x.astype(object) + 7) @ (w.astype(object) - w_zero)
            assert (results[0] == exact.astype(np.int64)).all()


def test_requantize_extremes():
    rng = np.random.default_rng(6)
    ends = [-(2**31), 2**31 - 1, 0, -1, 1]
    acc = np.concatenate([ends, rng.integers(-(2**31), 2**31, 995)]).astype(np.int32)
    acc = np.repeat(acc[:, None], 62, axis=1)
    m = rng.integers(2**30, 2**31, 62)
    m[::7] = 2**30  # powers of two make exact ties
    m[5], m[6] = 0, 2**31 - 1
    shift = np.arange(1, 63)
    for low, high, zero in ((-128, 127, 3), (0, 255, 128), (-32768, 32767, 0), (0, 65535, 9)):
        dtype = np.dtype(f"{'' if low else 'u'}int{8 if high < 256 else 16}")
        args = (acc, m, shift, zero, low, high)
        codes = both("requantize", args, acc.shape, dtype)
        exact = ((acc.astype(object) * m + 2 ** (shift.astype(object) - 1)) >> shift) + zero
        assert (codes == np.clip(exact, low, high).astype(np.int64)).all()


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("signed", [True, False])
def test_packing(bits, signed):
    low, high = code_range(bits, signed, False)
    dtype = np.dtype(f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}")
    every = np.arange(low, high + 1).astype(dtype)
    rng = np.random.default_rng(bits)
    for codes in (every, every[::-1].copy(), rng.choice(every, 8191), every[:1]):
        packed = [m.pack(codes, bits) for m in (reference, kernels)]
        same_bits(*packed)
        assert packed[0].size == -(-codes.size * bits // 8)
        back = both("unpack", (packed[0], bits, signed), codes.shape, dtype)
        same_bits(back, codes)


@pytest.mark.parametrize("levels", [1, 2, 3, 16, 253, 2000])
@pytest.mark.parametrize("shape, axis, block_size", LAYOUTS)
def test_levels(levels, shape, axis, block_size):
    rng = np.random.default_rng(levels)
    table = np.unique(rng.standard_normal(levels).astype(np.float32))
    thresholds = (table[1:] + table[:-1]) / 2
    grid = () if axis is None else (shape[axis],)
    if block_size:
        grid = tuple(n // block_size if i == axis else n for i, n in enumerate(shape))
    params = QuantizationParams(rng.uniform(0.1, 2, grid), 0, axis=axis, block_size=block_size)
    data, small = params.normal_form(shape)
    scale, size = params.scale.reshape(small), int(np.prod(shape))
    x = np.resize(np.concatenate([rng.permutation(thresholds), nasty(rng, size, 0.5)]), data)
    dtype = np.uint8 if levels <= 256 else np.uint16
    codes = both("nearest_level", (x, scale, thresholds), data, dtype)
    both("lookup", (codes, scale, table), data, np.float32)


def test_long_rows_of_levels():
    x = np.random.default_rng(0).standard_normal((2, 1, 1300)).astype(np.float32)
    scale = np.random.default_rng(1).uniform(0.1, 1, (1, 1, 1300)).astype(np.float32)
    for s in (scale, scale[:, :, :1]):
        thresholds = np.linspace(-3, 3, 15).astype(np.float32)
        both("nearest_level", (x, s, thresholds), x.shape, np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_sums_of_bins(dtype):
    x = (np.random.default_rng(2).standard_normal(10_001) * 1000).astype(dtype)
    low, high = float(x.min()), float(x.max())
    for bins in (1, 7, 4096):
        results = [
            m.bin_sums(x, low, bins / (high - low), np.zeros(bins, np.int64), np.zeros(bins))
            for m in (reference, kernels)
        ]
        for ours, theirs in zip(*results, strict=True):
            same_bits(ours, theirs)
        assert results[0][0].sum() == x.size


@pytest.mark.parametrize("n", [1, 2, 3, 10, 257, 1500])
@pytest.mark.parametrize("points", ["normal", "even", "weighted"])
def test_cuts_of_clusters(n, points):
    rng = np.random.default_rng(n)
    x = np.arange(n) - n / 2 if points == "even" else np.sort(rng.standard_normal(n))  # even: ties
    mass = rng.integers(1, 1000, n).astype(float) if points == "weighted" else np.ones(n)
    sums = [np.concatenate([[0.0], np.cumsum(a)]) for a in (mass, mass * x, mass * x * x)]
    for k in (1, 2, 3, 16, 64):
        if k <= n:
            cuts = [m.kmeans_cuts(*sums, k) for m in (reference, kernels)]
            same_bits(*cuts)
            assert cuts[0][0] == 0 and cuts[0][-1] == n and (np.diff(cuts[0]) > 0).all()


@pytest.mark.parametrize("k", [1, 7, 63, 64, 65, 128, 300, 1000, 40_000])
def test_signs(k):
    rng = np.random.default_rng(k)
    for m, n in ((0, 1), (1, 7), (3, 33), (6, 64), (13, 31), (5, 70)):
        x, w = (np.resize(nasty(rng, rows * k, 1.0), (rows, k)) for rows in (m, n))
        packed = [kernels.pack_signs(a) for a in (x, w)]
        for words, row in zip(packed[0], x, strict=True):  # the bits beyond K stay 0
            bits = int.from_bytes(words.astype("<u8").tobytes(), "little")
            assert bits == sum(1 << i for i, v in enumerate(row) if v >= 0)
        products = [r.xnor_matmul(*packed, k) for r in (reference, kernels)]
        same_bits(*products)
        assert (products[0] == np.where(x >= 0, 1, -1) @ np.where(w >= 0, 1, -1).T).all()


def codes(rng, shape, dtype, low=None, high=None):
    """Half random codes, half the ends of the range: the sums that overflow first."""
    ends = np.iinfo(dtype)
    low, high = ends.min if low is None else low, ends.max if high is None else high
    chosen = rng.integers(low, high + 1, shape)
    extreme = rng.choice([low, high], shape)
    return np.where(rng.random(shape) < 0.5, chosen, extreme).astype(dtype)


SHAPES = [
    *itertools.product((0, 1, 2, 5, 6, 7, 13, 16), (1, 3, 4, 5, 66), (1, 15, 17, 64, 65)),
    (1, 1100, 64),
    (13, 1030, 70),
    (17, 2052, 33),
    (27, 4100, 65),
    (28, 9001, 128),
    (200, 9, 70),
    (390, 5, 64),
    (195, 4100, 65),
]  # more rows than one panel serves


@pytest.mark.parametrize("x_type", [np.uint8, np.int8])
@pytest.mark.parametrize("w_type, bits", [(np.uint8, 8), (np.int8, 8), (np.int8, 4)])
def test_product(x_type, w_type, bits):
    rng, ends = np.random.default_rng(1), (-8, 7) if bits == 4 else (None, None)
    for m, k, n in SHAPES:
        x = codes(rng, (m, k), x_type, high=rng.choice([127, np.iinfo(x_type).max]))
        w = codes(rng, (k, n), w_type, *ends)
        x_zero, zeros = int(rng.integers(-128, 256)), rng.integers(-128, 256, n).astype(np.int32)
        for w_zero in (np.zeros(n, np.int32), zeros):
            wanted = reference.integer_matmul(x, w, x_zero, w_zero)
            for weights in (w, np.asfortranarray(w), kernels.pack_weights(w)):
                same_bits(kernels.integer_matmul(x, weights, x_zero, w_zero), wanted)
        wide = np.repeat(w, 2, axis=1)[:, ::2]  # a view with gaps
        same_bits(kernels.integer_matmul(x, wide, x_zero, zeros), wanted)
        same_bits(kernels.integer_matmul(x, kernels.pack_weights(wide), x_zero, zeros), wanted)


@pytest.mark.parametrize("bits", [4, 8])
def test_product_of_groups(bits):
    rng, ends = np.random.default_rng(6), (-8, 7) if bits == 4 else (None, None)
    for m, n, (groups, size) in itertools.product(
        (0, 1, 2, 3, 4, 7), (1, 15, 17, 64, 70), ((1, 1), (1, 9), (3, 8), (2, 20), (4, 128))
    ):
        x = codes(rng, (m, groups * size), np.uint8)
        w = codes(rng, (groups * size, n), np.int8, *ends)
        scale = rng.uniform(0.01, 1, (groups, n)).astype(np.float32)
        for x_zero in (0, 3, 255):
            wanted = reference.grouped_matmul(x, w, scale, x_zero)
            for weights in (w, kernels.pack_weights(w, groups)):
                same_bits(kernels.grouped_matmul(x, weights, scale, x_zero), wanted)


def test_measure_and_minmax():
    rng = np.random.default_rng(8)
    for n, scale in itertools.product((1, 37, 3000), (0.25, 0.1, 3.3e-39, 1e-30)):
        x = nasty(rng, n, scale)
        x = x[np.abs(x) < 1e18][None, None]  # the square of a larger one is beyond float32
        for shape in ((1, 1, 1), (1, 1, x.shape[2])):
            s = (rng.uniform(1, 2, shape) * scale).astype(np.float32)
            args = x, s, rng.integers(-8, 8, shape).astype(np.int32), -8, 7
            got, wanted = kernels.measure(*args), reference.measure(*args)
            assert got[2] == wanted[2]
            np.testing.assert_allclose(got[:2], wanted[:2], rtol=1e-5, atol=1e-37)
        for row in (x[0, 0], -np.abs(x[0, 0]), np.zeros(n, np.float32)):
            assert kernels.minmax(row) == reference.minmax(row)


def run(code, **env):
    return run_with_stderr(code, **env).stdout.strip()


def run_with_stderr(code, **env):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **env},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_import_is_light():
    heavy = "{'numba', 'scipy', 'matplotlib', 'requests', 'ipywidgets'} & set(sys.modules)"
    assert run(f"import sys, quantlab as ql; print({heavy})") == "set()"
    used = f"import sys, quantlab as ql; ql.quantize, ql.choose_params, ql.snr_db; print({heavy})"
    assert run(used, QUANTLAB_KERNELS="reference") == "set()"


USE = (
    "import quantlab as ql\n"
    "p = ql.QuantizationParams(0.5, 0, 4)\n"
    "q = ql.quantize([1.0, -9.0, 0.25], p)\n"
    "back = ql.QuantizedTensor.from_packed(q.pack(), p, (3,)).codes.tolist()\n"
    "print(ql.kernels.path(), q.codes.tolist(), back)"
)


REFUSED = "import quantlab as ql\ntry: ql.kernels.path()\nexcept ValueError as e: print(e)"


def test_the_path_can_be_forced():
    answer = "[2, -8, 0] [2, -8, 0]"
    assert run(USE, QUANTLAB_KERNELS="reference") == f"reference {answer}"
    assert run(USE, QUANTLAB_KERNELS="numba") == f"numba {answer}"
    assert run("import sys; sys.modules['numba'] = None\n" + USE, QUANTLAB_KERNELS="") == (
        f"reference {answer}"
    )
    assert "expected numba or reference" in run(REFUSED, QUANTLAB_KERNELS="fast")


WARM = """
import numpy as np, quantlab as ql
from numba.core import event

ql.warm()
compiled = []

class Listener(event.Listener):
    def on_start(self, what): compiled.append(what.data["dispatcher"].py_func.__qualname__)
    def on_end(self, what): pass

event.register("numba:compile", Listener())
x = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
for scheme in ql.QuantizationScheme:
    for bits in (8, 4):
        params = ql.choose_params(x, scheme, bits)
        q = ql.quantize(x, params)
        q.dequantize(), q.pack(), ql.fake_quantize(x, params), ql.measure(x, params)
        ql.ste_gradient(x, params, x)
asymmetric, symmetric = list(ql.QuantizationScheme)[1::-1]
inputs = ql.quantize(x, ql.choose_params(x, asymmetric, signed=False))
weights = ql.quantize(x.T, ql.choose_params(x.T, symmetric))
packed = ql.pack_weights(weights)
for w in (weights, packed):
    ql.quantized_matmul(inputs, w), ql.quantized_matmul(ql.quantize(x[:1], inputs.params), w)
four = ql.pack_weights(ql.quantize(x.T, ql.choose_params(x.T, symmetric, 4)))
ql.quantized_matmul(inputs, four), four.product(inputs)
blocks = ql.choose_params(x.T, symmetric, 4, axis=0, block_size=8)
ql.pack_weights(ql.quantize(x.T, blocks)).product(inputs)
ql.quantized_matmul(inputs, weights, out=inputs.params)
ql.xnor_matmul(ql.binarize(x), ql.binarize(x))
ql.kmeans_levels(x, 4), ql.kmeans_levels(np.resize(x, 200_000), 16)
print(compiled)
"""


def test_after_warm_the_usual_calls_compile_nothing(tmp_path):
    assert run(WARM, NUMBA_CACHE_DIR=str(tmp_path)) == "[]"


NO_PLACE = (  # as in a read-only package without a home
    "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n"
)


def test_without_a_place_for_machine_code_the_kernels_work_and_say_so_once():
    for path in kernels.available():
        done = run_with_stderr(NO_PLACE + USE, QUANTLAB_KERNELS=path)
        assert done.stdout.strip() == f"{path} [2, -8, 0] [2, -8, 0]"
        assert done.stderr.count("set NUMBA_CACHE_DIR") == (path != "reference")


def test_with_numba_switched_off_the_reference_runs():
    assert run(USE, QUANTLAB_KERNELS="", NUMBA_DISABLE_JIT="1").startswith("reference [2, -8, 0]")
    said = run(REFUSED, QUANTLAB_KERNELS="numba", NUMBA_DISABLE_JIT="1")
    assert "the settings of Numba allow reference" in said


MANY = """
import multiprocessing, threading, numpy as np, quantlab as ql

x = np.random.default_rng(0).standard_normal((40, 300)).astype(np.float32)
params = ql.choose_params(x, list(ql.QuantizationScheme)[1], signed=False)
weights = ql.quantize(x.T, ql.choose_params(x.T, list(ql.QuantizationScheme)[0]))
PACKED = ql.pack_weights(weights)
WANTED = ql.kernels.reference.integer_matmul(
    ql.quantize(x, params).codes, weights.codes, int(params.zero_point), np.zeros(40, np.int32))

def work(packed):
    return bool((ql.quantized_matmul(ql.quantize(x, params), packed) == WANTED).all())

if __name__ == "__main__":
    right = []
    threads = [threading.Thread(target=lambda: right.append(work(PACKED))) for _ in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    for how in ("fork", "spawn"):
        if how in multiprocessing.get_all_start_methods():
            with multiprocessing.get_context(how).Pool(1) as pool:
                right += pool.map(work, [PACKED])
    print(set(right), len(right) >= 5)
"""


def test_threads_and_processes_share_packed_weights(tmp_path):
    (tmp_path / "many.py").write_text(MANY)
    done = subprocess.run(
        [sys.executable, tmp_path / "many.py"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{True} True"
