"""The building blocks of the vector kernels, each against NumPy."""

import numpy as np
import pytest
from numba import njit, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from quantlab import kernels
from quantlab.kernels.vector import simd

if kernels.path() not in ("avx2", "avx512"):
    __test__ = {}  # pytest collects nothing: elsewhere nothing of this is used


def test_registers_fit_the_path():
    assert simd.LANES == {"avx2": 8, "avx512": 16}[kernels.path()]


def block(emit):
    """A kernel that runs emit(b, pointers to the arrays) on three arrays."""

    @intrinsic
    def run(typingctx, x, y, out):
        def code(context, b, signature, args):
            emit(
                b,
                *(
                    simd.data(context, b, kind, arg)
                    for kind, arg in zip(signature.args, args, strict=True)
                ),
            )
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
        simd.store(
            b,
            simd.dot4(b, start, simd.load(b, x, simd.INTS), simd.load(b, y, simd.INTS), small),
            out,
        )

    kernel, out = block(emit), np.zeros(simd.LANES, np.int32)
    rng = np.random.default_rng(0)
    for low in [0, 127] if small else [0, 127, 128, 255]:
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


def test_choose():
    def emit(b, x, y, out):
        v = simd.load(b, x, simd.INTS)
        simd.choose(
            b,
            simd.load(b, y, simd.I64),
            [
                lambda: simd.store(b, b.add(v, v), out),
                lambda: simd.store(b, simd.splat(b, simd.load(b, x, simd.I32), simd.INTS), out),
            ],
        )

    kernel, out = block(emit), np.zeros(simd.LANES, np.int32)
    x = np.arange(3, 3 + simd.LANES, dtype=np.int32)
    kernel(x, np.array([0]), out)
    assert (out == 2 * x).all()
    kernel(x, np.array([1]), out)
    assert (out == 3).all()


def test_fused_rounds_once():
    def emit(b, x, y, out):
        v = simd.load(b, x, simd.FLOATS)
        simd.store(b, simd.fused(b, v, v, simd.load(b, y, simd.FLOATS)), out)

    kernel, out = block(emit), np.zeros(simd.LANES, np.float32)
    x = np.full(simd.LANES, 1 + 2**-12, np.float32)
    kernel(x, np.full(simd.LANES, -1, np.float32), out)
    assert (out == np.float32(2**-11 + 2**-24)).all()  # x * x alone loses 2**-24


def test_nearest_rounds_ties_to_even_and_marks_what_does_not_fit():
    def emit(b, x, y, out):
        v = simd.load(b, x, simd.FLOATS)
        simd.store(b, simd.nearest(b, v), out)

    kernel, out = block(emit), np.zeros(simd.LANES, np.int32)
    x = np.tile(
        np.array([0.5, 1.5, -2.5, 3e9, -3e9, np.nan, -0.49, 7], np.float32), simd.LANES // 8
    )
    kernel(x, x, out)
    assert out[:8].tolist() == [0, 2, -2, -(2**31), -(2**31), -(2**31), 0, 7]


def test_larger_and_smaller():
    def emit(b, x, y, out):
        v, w = simd.load(b, x, simd.FLOATS), simd.load(b, y, simd.FLOATS)
        simd.store(b, simd.larger(b, v, w), out)
        simd.store(b, simd.smaller(b, v, w), simd.after(b, out, 4 * simd.LANES))

    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, simd.LANES)).astype(np.float32)
    out = np.zeros(2 * simd.LANES, np.float32)
    block(emit)(x, y, out)
    assert (out[: simd.LANES] == np.maximum(x, y)).all()
    assert (out[simd.LANES :] == np.minimum(x, y)).all()


def test_popcount():
    def emit(b, x, y, out):
        simd.store(b, simd.popcount(b, simd.load(b, x, simd.INTS)), out)

    x = np.resize(np.array([0, 1, -1, 2**31 - 1, -(2**31), 0x0F0F0F0F], np.int32), simd.LANES)
    out = np.zeros_like(x)
    block(emit)(x, x, out)
    assert (out == np.bitwise_count(x.view(np.uint32))).all()


@pytest.mark.parametrize("count", [1, 3, 8, 99])
def test_only_the_first_floats_are_read(count):
    def emit(b, x, y, out):
        simd.store(b, simd.load_first(b, x, count), out)

    x, out = np.arange(1, simd.LANES + 1, dtype=np.float32), np.ones(simd.LANES, np.float32)
    block(emit)(x, x, out)
    assert (out == np.where(np.arange(simd.LANES) < count, x, 0)).all()


@pytest.mark.parametrize("left", [0, 1, 7, 8, 20, 31, 32, 99])
def test_a_tile_is_stored_as_far_as_its_rows_go(left):
    def emit(b, x, y, out):
        rows = [
            [
                simd.load(b, simd.after(b, x, 4 * simd.LANES * (2 * r + v)), simd.INTS)
                for v in range(2)
            ]
            for r in range(3)
        ]
        step, left = (simd.load(b, simd.after(b, y, 8 * n), simd.I64) for n in range(2))
        simd.store_tile(b, rows, step, out, left)

    x, width = np.arange(1, 6 * simd.LANES + 1, dtype=np.int32).reshape(3, -1), 2 * simd.LANES
    out, many = np.zeros((3, 40), np.int32), min(left, width)
    block(emit)(x.reshape(-1), np.array([4 * 40, left]), out.reshape(-1))
    assert (out[:, :many] == x[:, :many]).all() and not out[:, many:].any()


def test_arrays_must_lie_in_one_piece():
    kernel, x = block(lambda b, x, y, out: None), np.zeros(9, np.int32)
    with pytest.raises(TypingError, match="make it contiguous first"):
        kernel(x[::2], x, x)
