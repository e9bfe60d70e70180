"""The building blocks of the tiles, each against NumPy."""

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from quantlab import kernels

if kernels.path() not in ("avx2", "avx512"):
    pytest.skip("this CPU has no AVX2", allow_module_level=True)

from quantlab.kernels import simd


def test_registers_fit_the_path():
    assert simd.LANES == {"avx2": 8, "avx512": 16}[kernels.path()]


def block(emit):
    """A kernel that runs emit(b, pointers to the arrays) on three arrays."""
    @intrinsic
    def run(typingctx, x, y, out):
        def code(context, b, signature, args):
            emit(b, *(simd.data(context, b, kind, arg)
                      for kind, arg in zip(signature.args, args, strict=True)))
            return context.get_dummy_value()
        return types.void(x, y, out), code

    @njit
    def kernel(x, y, out):
        run(x, y, out)
    return kernel


@pytest.mark.parametrize("small", [False, True])
def test_dot4(small):
    def emit(b, x, y, out):
        start = simd.same(simd.INTS, 7)
        simd.store(b, simd.dot4(b, start, simd.load(b, x, simd.INTS), simd.load(b, y, simd.INTS),
                                small), out)

    kernel, out = block(emit), np.zeros(simd.LANES, np.int32)
    rng = np.random.default_rng(0)
    for low in ([0, 127] if small else [0, 127, 128, 255]):
        x = rng.choice(np.array([low, 127 if small else 255], np.uint8), 4 * simd.LANES)
        y = rng.choice(np.array([-128, 127], np.int8), 4 * simd.LANES)
        kernel(x, y, out)
        products = x.astype(np.int32) * y
        assert (out == 7 + products.reshape(-1, 4).sum(axis=1)).all()


def test_loop_adds_nothing_when_it_does_not_run():
    def emit(b, x, y, out):
        count = simd.load(b, y, simd.I64)

        def body(k, state):
            place = simd.after(b, x, b.mul(k, simd.index(4 * simd.LANES)))
            return [b.add(state[0], simd.load(b, place, simd.INTS))]

        simd.store(b, simd.loop(b, count, [simd.same(simd.INTS, 1)], body)[0], out)

    kernel, out = block(emit), np.zeros(simd.LANES, np.int32)
    x = np.arange(5 * simd.LANES, dtype=np.int32).reshape(5, simd.LANES)
    for count in (0, 1, 5):
        kernel(x, np.array([count]), out)
        assert (out == 1 + x[:count].sum(axis=0)).all()


def test_choose_and_add_lanes():
    def emit(b, x, y, out):
        v = simd.load(b, x, simd.INTS)
        simd.choose(b, simd.load(b, y, simd.I64), [
            lambda: simd.store(b, simd.add_lanes(b, v, b.add), out),
            lambda: simd.store(b, simd.splat(b, simd.load(b, x, simd.I32), simd.INTS), out)])

    kernel, out = block(emit), np.zeros(simd.LANES, np.int32)
    x = np.arange(3, 3 + simd.LANES, dtype=np.int32)
    kernel(x, np.array([0]), out)
    assert out[0] == x.sum() and not out[1:].any()
    kernel(x, np.array([1]), out)
    assert (out == 3).all()


def test_fma_rounds_once():
    @njit
    def run(x, y, z):
        return simd.fma(x, y, z)

    x = np.float32(1 + 2**-12)
    assert run(x, x, np.float32(-1)) == np.float32(2**-11 + 2**-24)  # x * x alone loses 2**-24


def test_stream_copies_whole_lines():
    @njit
    def run(source, target, at, size):
        simd.stream(source, target, at, size)

    source = np.arange(256, dtype=np.uint8)
    room = np.zeros(1024, np.uint8)
    start = -room.ctypes.data % 64
    target = room[start : start + 512]
    run(source, target, 64, 192)
    assert (target[64:256] == source[:192]).all()
    assert not target[:64].any() and not target[256:].any()
