"""The integer product on vector instructions: exact sums in int32, of bytes, half bytes or bits.

    weights, packed once: panels of COLUMNS outputs, K in steps of 32 bits an output
                              +------- COLUMNS -------+
                  step k      | w0..w3 | w0..w3 | ... |   a register holds LANES outputs
    inputs        +--------+  +-----------------------+
      row 0       | x0..x3 |  |                       |   four bytes of a row go to all lanes
      row 1       | x0..x3 |  |  ROWS x COLUMNS sums  |   and meet four bytes of every output:
      ...         |  ...   |  |  stay in registers    |   one dot4 for each register
                  +--------+  +-----------------------+

The type of the panels says what 32 bits are: int8, four weights; uint8, eight of 4 bits, the lower
halves of the bytes before the upper ones; uint32, 32 signs. A step loads COLUMNS / LANES registers
of weights and uses each ROWS times. AVX-512 has 32 registers: 6 x 4 sums, 4 weights, 1 input. AVX2
has 16: 4 x 2 sums. The last rows take lower tiles, the last columns are stored as far as they go.
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from quantlab.kernels import matmul
from quantlab.kernels.paths import jit
from quantlab.kernels.vector import simd

HEIGHTS, VECTORS = ((6, 2, 1), 4) if simd.WIDE else ((4, 2, 1), 2)
ROWS, COLUMNS = HEIGHTS[0], VECTORS * simd.LANES
TALL = 32 * ROWS  # rows that use a panel before the next one does
FEW = 16  # rows from which packing weights for one product pays
PACKED = 512  # steps of K from which rows are packed
BLOCK = 1024  # steps of K at a time: a panel of so many is 256 KB, and stays in the second level
# Bytes between the weights in use and those asked for, from the second level for a tile of several
# rows, from memory when one row streams them
AHEAD, FAR_AHEAD = 2048, 3072
_CASES = [(rows, small) for small in ((False,) if simd.VNNI else (False, True)) for rows in HEIGHTS]


class Panels(NamedTuple):
    """Weights (K, N) in the order of the tiles, and the sums of each group's columns."""

    steps: np.ndarray  # (panels, steps of K, COLUMNS, bytes)
    sums: np.ndarray  # (groups, panels * COLUMNS) int32
    shape: tuple[int, int]
    flip: int  # 128 where uint8 codes were moved to int8


@intrinsic
def _tile(typingctx, case, x, x_at, x_row, x_step, w, w_at, steps, start, start_at, out, out_at,
          columns, left, more):  # fmt: skip
    """out = start + x . w for a tile of rows and the first `left` of COLUMNS columns.

    x_at and so on: bytes from the start of an array; x_row, x_step: bytes to the next row and step;
    columns: those of `out`. more: go on adding to `out`. Of signs: start - 2 * disagreements.
    """
    n = types.intp
    signature = types.void(n, x, n, n, n, w, n, n, start, n, out, n, n, n, types.boolean)

    def emit(context, b, signature, args):
        def place(n):
            return simd.data(context, b, signature.args[n], args[n], args[n + 1])

        step = b.mul(args[12], simd.index(4))
        target, begin = (place(10), step), (place(8), simd.index(0))
        source = [b.select(args[14], t, s) for t, s in zip(target, begin, strict=True)]
        rest = w.dtype, place(1), args[3:5], place(5), args[7], source, target, args[13]
        tiles = [lambda c=c: _emit_tile(b, *c, *rest) for c in _CASES]
        simd.choose(b, args[0], tiles)
        return context.get_dummy_value()

    return signature, emit


def _emit_tile(b, rows, small, kind, px, x_steps, pw, steps, source, target, left):
    wide, ahead = 4 * simd.LANES, FAR_AHEAD if rows == 1 else AHEAD
    cells = [(r, v) for r in range(rows) for v in range(VECTORS)]

    def cell(base, step, r, v):  # address of register v in row r
        return simd.after(b, simd.after(b, base, b.mul(step, simd.index(r))), wide * v)

    def step(k, sums):
        sums, inputs = list(sums), simd.after(b, px, b.mul(k, x_steps[1]))
        panel = simd.after(b, pw, b.mul(k, simd.index(4 * COLUMNS)))
        for line in range(0, 4 * COLUMNS, 64):
            simd.prefetch(b, simd.after(b, panel, ahead + line), near=rows > 1)
        weights = [simd.load(b, simd.after(b, panel, wide * v), simd.INTS) for v in range(VECTORS)]
        for part in range(2 if kind == types.uint8 else 1):
            parts = [_half(b, w, part) for w in weights] if kind == types.uint8 else weights
            for n, (r, v) in enumerate(cells):
                if v == 0:
                    own = simd.load(b, simd.after(b, cell(inputs, x_steps[0], r, 0), 4 * part),
                                    simd.I32)  # fmt: skip
                    own = simd.splat(b, own, simd.INTS)
                if kind == types.uint32:
                    sums[n] = b.add(sums[n], simd.popcount(b, b.xor(own, parts[v])))
                else:
                    sums[n] = simd.dot4(b, sums[n], own, parts[v], small or kind == types.uint8)
        return sums

    for r, v in cells:  # the lines that will be written arrive while the sums grow
        simd.prefetch(b, cell(*target, r, v), write=True)
    start = [simd.load(b, cell(*source, r, v), simd.INTS) for r, v in cells]
    if kind == types.uint32:
        counts = simd.loop(b, steps, [simd.same(simd.INTS, 0)] * len(cells), step)
        sums = [b.sub(s, b.add(c, c)) for s, c in zip(start, counts, strict=True)]
    else:
        sums = simd.loop(b, steps, start, step)
    rows_of = [sums[r * VECTORS :][:VECTORS] for r in range(rows)]
    simd.store_tile(b, rows_of, target[1], target[0], left)


def _half(b, both, upper):
    """The lower or upper half of each byte, minus 8: two's complement was turned by `pack`."""
    half = b.lshr(both, simd.same(simd.INTS, 4)) if upper else both
    half = b.and_(half, simd.same(simd.INTS, 0x0F0F0F0F))
    return b.sub(b.bitcast(half, simd.BYTES), simd.same(simd.BYTES, 8))


@jit
def multiply(x, small, w, unit, start, out):
    # x (M, bytes) from `prepare`, w (panels, steps, COLUMNS, ...) with `unit` bytes of x a step,
    # start (panels * COLUMNS,) int32 -> out (M, N) int32 = start + x @ w
    rows, columns = out.shape
    steps, first = w.shape[1], len(HEIGHTS) if small else 0
    # rows side by side in turns of four bytes, or one after the other
    turns = steps >= PACKED and unit == 4
    for top in range(0, rows, TALL):
        for panel in range(w.shape[0]):
            column, k = panel * COLUMNS, 0
            block = BLOCK if column + COLUMNS <= columns else steps
            while k == 0 or k < steps:
                row, case = top, 0
                while row < rows and row < top + TALL:
                    while rows - row < HEIGHTS[case]:
                        case += 1
                    side = HEIGHTS[case] if turns else 1
                    _tile(
                        first + case, x, unit * (row * steps + side * k),
                        4 if turns else unit * steps, unit * side,
                        w, 4 * COLUMNS * (panel * steps + k), min(block, steps - k),
                        start, 4 * column, out, 4 * (row * columns + column),
                        columns, columns - column, k > 0,
                    )  # fmt: skip
                    row += HEIGHTS[case]
                k += max(block, 1)


@jit
def _multiply_groups(x, small, w, unit, start, scale, out):
    # as multiply, but start and scale (groups, panels * COLUMNS), out (M, N) float32
    (groups, padded), steps = start.shape, w.shape[1] // start.shape[0]
    case = len(HEIGHTS) - 1 + (len(HEIGHTS) if small else 0)
    sums = np.empty(COLUMNS, np.int32)
    for panel in range(w.shape[0]):
        column = panel * COLUMNS
        for row in range(out.shape[0]):
            for g in range(groups):
                _tile(
                    case, x, unit * steps * (row * groups + g), 0, unit,
                    w, 4 * COLUMNS * steps * (panel * groups + g), steps,
                    start, 4 * (g * padded + column), sums, 0, COLUMNS, COLUMNS, False,
                )  # fmt: skip
                for n in range(min(COLUMNS, out.shape[1] - column)):
                    out[row, column + n] += np.float32(sums[n]) * scale[g, column + n]


def _padded(x, unit, flip=0, groups=1):
    # (M, K) bytes -> (M, groups * size), every group padded with 0 to a multiple of `unit`;
    # flip 128 moves int8 to uint8 and back
    m, size = x.shape[0], x.shape[1] // groups
    if flip or size % unit or not x.flags.c_contiguous:
        padded = np.zeros((m, groups, size + -size % unit), np.uint8)
        parts = x.view(np.uint8).reshape(m, groups, size)
        np.bitwise_xor(parts, np.uint8(flip), out=padded[:, :, :size])
        x = padded.reshape(m, groups * padded.shape[2])
    return x.view(np.uint8)


def prepare(x, unit, flip=0, groups=1):
    # x (M, K) bytes -> the same for `multiply`, and True where AVX2 may take its short way. Long
    # rows are packed: ROWS of them, each in a page of its own, would crowd each other out of caches
    x = _padded(x, unit, flip, groups)
    if unit == 4 and groups == 1 and x.shape[1] >= 4 * PACKED:
        packed = np.empty(x.size // 4, np.int32)
        _pack_rows(x.view(np.int32), packed)
        x = packed.view(np.uint8).reshape(x.shape)
    return x, unit == 4 and not simd.VNNI and (not x.size or x.max() < 128)


@jit
def _pack_rows(fours, out):
    # (M, steps) int32 -> out (M * steps,): the rows of a tile side by side, four bytes of each
    m, steps = fours.shape
    row, case = 0, 0
    while row < m:
        while m - row < HEIGHTS[case]:
            case += 1
        for r in range(HEIGHTS[case]):
            at = row * steps + r
            for k in range(steps):
                out[at + HEIGHTS[case] * k] = fours[row + r, k]
        row += HEIGHTS[case]


def _panels(rows, kind):
    # (N, steps) int32 -> (panels, steps, COLUMNS, ...) of a kind, outputs padded with 0
    n, steps = rows.shape
    padded = np.zeros((n + -n % COLUMNS, steps), np.int32)
    padded[:n] = rows
    panels = simd.aligned(padded.reshape(-1, COLUMNS, steps).transpose(0, 2, 1))
    return panels.view(kind).reshape(*panels.shape, -1)


def _transposed(w):
    # (K, N) -> (N, K) in one piece, some rows at a time: lines stay cached till full
    if w.flags.f_contiguous:
        return w.T
    out = np.empty(w.shape[::-1], w.dtype)
    for k in range(0, w.shape[0], 64):
        out[:, k : k + 64] = w[k : k + 64].T
    return out


def pack_weights(w, groups=None):
    # w (K, N) codes -> for integer_matmul, or with groups for grouped_matmul
    if w.itemsize > 1:
        return matmul.pack_weights(w)
    flip = 128 * (w.dtype.kind == "u")
    four_bits = not flip and w.size and w.min() >= -8 and w.max() <= 7
    bytes_of = _padded(_transposed(w), 8 if four_bits else 4, flip, groups or 1).view(np.int8)
    sums = np.zeros((groups or 1, w.shape[1] + -w.shape[1] % COLUMNS), np.int32)
    sums[:, : w.shape[1]] = bytes_of.reshape(w.shape[1], len(sums), -1).sum(axis=2, dtype="i4").T
    if not four_bits:
        return Panels(_panels(bytes_of.view(np.int32), np.int8), sums, w.shape, flip)
    halves = (bytes_of + np.int8(8)).reshape(w.shape[1], -1, 2, 4)
    both = np.ascontiguousarray(halves[:, :, 0] | halves[:, :, 1] << 4)
    return Panels(_panels(both.view(np.int32)[:, :, 0], np.uint8), sums, w.shape, flip)


def integer_matmul(x, w, x_zero, w_zero):
    # x (M, K) codes, w (K, N) codes or packed, x_zero scalar, w_zero (N,) -> (M, N) int32
    if isinstance(w, np.ndarray):
        if x.itemsize > 1 or w.itemsize > 1 or x.shape[0] < FEW:
            return matmul.integer_matmul(x, w, x_zero, w_zero)
        w = pack_weights(w)
    unit, flip = 4 if w.steps.dtype == np.int8 else 8, 128 * (x.dtype.kind == "i")
    # sum (x - a)(w - b) = sum x w - a sum w - b sum (x - a), in arithmetic modulo 2^32
    x_zero, w_zero = np.int32(x_zero + flip), w_zero - np.int32(w.flip)
    out = np.empty((x.shape[0], w.shape[1]), np.int32)
    multiply(*prepare(x, unit, flip), w.steps, unit, -x_zero * w.sums[0], out)
    if w_zero.any():
        rest = x.sum(axis=1, dtype=np.int32) + np.int32((flip - x_zero) * x.shape[1])
        out -= rest[:, None] * w_zero
    return out


def grouped_matmul(x, w, scale, x_zero):
    # x (M, K) uint8, w from pack_weights, scale (groups, N) float32 -> (M, N) float32
    if isinstance(w, np.ndarray):
        w = pack_weights(w, len(scale))
    unit = 4 if w.steps.dtype == np.int8 else 8
    steps, out = np.zeros(w.sums.shape, np.float32), np.zeros((x.shape[0], w.shape[1]), np.float32)
    steps[:, : w.shape[1]] = scale
    x, small = prepare(x, unit, groups=len(scale))
    _multiply_groups(x, small, w.steps, unit, np.int32(-x_zero) * w.sums, steps, out)
    return out


def xnor_matmul(a, b, k):
    # a (M, W), b (N, W) uint64 signs of k values -> (M, N) int32: agreements minus disagreements
    out = np.empty((a.shape[0], b.shape[0]), np.int32)
    panels = _panels(np.ascontiguousarray(b).view(np.int32), np.uint32)
    start = np.full(panels.shape[0] * COLUMNS, k, np.int32)
    multiply(*prepare(np.ascontiguousarray(a).view(np.uint8), 4), panels, 4, start, out)
    return out
