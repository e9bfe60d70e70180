"""The building blocks of the tiles, each against NumPy."""

import numpy as np
import pytest
from numba import njit, types
from numba.core.errors import TypingError
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


def test_choose_and_add_lanes():
    def emit(b, x, y, out):
        v = simd.load(b, x, simd.INTS)
        simd.choose(
            b,
            simd.load(b, y, simd.I64),
            [
                lambda: simd.store(b, simd.add_lanes(b, v, b.add), out),
                lambda: simd.store(b, simd.splat(b, simd.load(b, x, simd.I32), simd.INTS), out),
            ],
        )

    kernel, out = block(emit), np.zeros(simd.LANES, np.int32)
    x = np.arange(3, 3 + simd.LANES, dtype=np.int32)
    kernel(x, np.array([0]), out)
    assert out[0] == x.sum() and not out[1:].any()
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
        simd.store(b, simd.rint(b, v), y)

    kernel, out = block(emit), np.zeros(simd.LANES, np.int32)
    x = np.tile(
        np.array([0.5, 1.5, -2.5, 3e9, -3e9, np.nan, -0.49, 7], np.float32), simd.LANES // 8
    )
    rounded = np.zeros_like(x)
    kernel(x, rounded, out)
    assert out[:8].tolist() == [0, 2, -2, -(2**31), -(2**31), -(2**31), 0, 7]
    assert np.array_equal(rounded, np.rint(x), equal_nan=True)


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


def test_to_bytes_saturates_and_keeps_the_order():
    def emit(b, x, y, out):
        four = [simd.load(b, simd.after(b, x, 4 * simd.LANES * n), simd.INTS) for n in range(4)]
        zero, *ends = (simd.load(b, simd.after(b, y, 4 * n), simd.I32) for n in range(3))
        ends = [b.trunc(end, simd.I8) for end in ends]
        simd.store(b, simd.to_bytes(b, four, zero, ends), out)

    kernel, out = block(emit), np.zeros(4 * simd.LANES, np.uint8)
    steps = np.arange(4 * simd.LANES, dtype=np.int32) * 7 - 200
    steps[:3] = -(2**31), 2**31 - 1, 40_000
    for zero, low, high in ((0, 0, 255), (128, 1, 255), (255, 100, 200)):
        kernel(steps, np.array([zero, low, high], np.int32), out)
        assert out.tolist() == np.clip(steps.astype(np.int64) + zero, low, high).tolist()


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


def test_to_register_finds_the_next_whole_register_and_stores_past_the_caches():
    def emit(b, x, y, out):
        at = b.mul(simd.load(b, y, simd.I64), simd.index(4))
        place = b.gep(out, [at])
        simd.store(b, simd.load(b, x, simd.INTS), place, past=True)

    @njit
    def first(x):
        return simd.to_register(x)

    kernel, room = block(emit), np.zeros(8 * simd.LANES, np.int32)
    for shift in range(simd.LANES + 1):
        out = room[shift:]
        at = first(out)
        assert 0 <= at < simd.LANES and (out.ctypes.data + 4 * at) % (4 * simd.LANES) == 0
        kernel(np.full(simd.LANES, shift + 1, np.int32), np.array([at]), out)
        assert (out[at : at + simd.LANES] == shift + 1).all()


def test_arrays_must_lie_in_one_piece():
    with pytest.raises(TypingError, match="make it contiguous first"):
        njit(lambda x: simd.to_register(x))(np.zeros(9)[::2])
