"""The integer product on vector instructions: bytes times bytes into int32, exact for any size.

    weights, packed once: panels of COLUMNS outputs, K in groups of four bytes
                              +------- COLUMNS -------+
                  group k     | w0..w3 | w0..w3 | ... |   a register holds LANES outputs
    inputs        +--------+  +-----------------------+
      row 0       | x0..x3 |  |                       |   four bytes of a row go to all lanes
      row 1       | x0..x3 |  |  ROWS x COLUMNS sums  |   and meet four bytes of every output:
      ...         |  ...   |  |  stay in registers    |   one dot4 for each register
                  +--------+  +-----------------------+

A step over one group loads COLUMNS / LANES registers of weights and uses each ROWS times.
AVX-512 has 32 registers: 6 x 4 sums, 4 weights, 1 input. AVX2 has 16: 4 x 2 sums. The last rows
take lower tiles, the last columns are stored lane by lane as far as they go.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from quantlab.kernels import matmul, simd

HEIGHTS, VECTORS = ((6, 2, 1), 4) if simd.WIDE else ((4, 2, 1), 2)
ROWS, COLUMNS = HEIGHTS[0], VECTORS * simd.LANES
TALL = 32 * ROWS  # rows that use a panel before the next one does
PACKED = 512  # groups of K from which rows are packed
BLOCK = 1024  # groups of K at a time: a panel of so many is 256 KB, and stays in the second level
# Bytes between the weights in use and those asked for, from the second level for a tile of several
# rows, from memory when one row streams them
AHEAD, FAR_AHEAD = 2048, 3072
_CASES = [(rows, small) for small in ((False,) if simd.VNNI else (False, True)) for rows in HEIGHTS]


@intrinsic
def _tile(
    typingctx,
    case,
    x,
    x_at,
    row_step,
    k_step,
    w,
    w_at,
    groups,
    more,
    start,
    out,
    row,
    column,
    columns,
):
    """out[row:, column:] = start[column:] + x . w over `groups` groups, COLUMNS or what is left.

    x, w: from byte x_at and w_at on; row_step bytes to the next row of x, k_step to the next group.
    more: go on adding to `out`.
    """
    n = types.intp
    signature = types.void(n, x, n, n, n, w, n, n, types.boolean, start, out, n, n, n)

    def emit(context, b, signature, args):
        def place(n, at):
            return simd.data(context, b, signature.args[n], args[n], at)

        row, column, columns = args[11:]
        four, step = simd.index(4), b.mul(columns, simd.index(4))
        px, pw = place(1, args[2]), place(5, args[6])
        po = place(10, b.mul(b.add(b.mul(row, columns), column), four))
        source = (
            b.select(args[8], po, place(9, b.mul(column, four))),
            b.select(args[8], step, simd.index(0)),
        )
        rest = px, args[3:5], pw, args[7], source, (po, step), b.sub(columns, column)
        simd.choose(
            b,
            args[0],
            [
                lambda rows=rows, small=small: _emit_tile(b, rows, small, *rest)
                for rows, small in _CASES
            ],
        )
        return context.get_dummy_value()

    return signature, emit


def _emit_tile(b, rows, small, px, x_steps, pw, groups, source, target, left):
    wide, ahead = 4 * simd.LANES, FAR_AHEAD if rows == 1 else AHEAD

    def cell(base, step, r, v):  # address of register v in row r
        return simd.after(b, simd.after(b, base, b.mul(step, simd.index(r))), wide * v)

    def group(k, sums):
        inputs = simd.after(b, px, b.mul(k, x_steps[1]))
        panel = simd.after(b, pw, b.mul(k, simd.index(4 * COLUMNS)))
        for line in range(0, 4 * COLUMNS, 64):
            simd.prefetch(b, simd.after(b, panel, ahead + line), near=rows > 1)
        weights = [simd.load(b, simd.after(b, panel, wide * v), simd.INTS) for v in range(VECTORS)]
        for r in range(rows):
            four = simd.splat(b, simd.load(b, cell(inputs, x_steps[0], r, 0), simd.I32), simd.INTS)
            for v in range(VECTORS):
                yield simd.dot4(b, sums[r * VECTORS + v], four, weights[v], small)

    cells = [(r, v) for r in range(rows) for v in range(VECTORS)]
    sums = [simd.load(b, cell(*source, r, v), simd.INTS) for r, v in cells]
    for r, v in cells:  # the lines that will be written arrive while the sums grow
        simd.prefetch(b, cell(*target, r, v), write=True)
    sums = simd.loop(b, groups, sums, group)
    simd.store_tile(
        b, [sums[r * VECTORS :][:VECTORS] for r in range(rows)], target[1], target[0], left
    )


@njit(cache=True)
def multiply(x, small, w, start, out):
    # x from `prepare`, w (panels, groups, COLUMNS, 4), start (panels * COLUMNS,) int32
    # -> out (rows, columns) int32 = start + x @ w
    rows, columns = out.shape
    groups, first = w.shape[1], len(HEIGHTS) if small and not simd.VNNI else 0
    for top in range(0, rows, TALL):
        for panel in range(w.shape[0]):
            column, k = panel * COLUMNS, 0
            block = BLOCK if column + COLUMNS <= columns else groups
            while k == 0 or k < groups:
                w_at, depth = 4 * COLUMNS * (panel * groups + k), min(block, groups - k)
                row, case = top, 0
                while row < rows and row < top + TALL:
                    while rows - row < HEIGHTS[case]:
                        case += 1
                    height = HEIGHTS[case]
                    # side by side in turns of four bytes, or one row after the other
                    side = height if groups >= PACKED else 1
                    _tile(
                        first + case,
                        x,
                        4 * (row * groups + side * k),
                        4 if side > 1 else 4 * groups,
                        4 * side,
                        w,
                        w_at,
                        depth,
                        k > 0,
                        start,
                        out,
                        row,
                        column,
                        columns,
                    )
                    row += height
                k += max(block, 1)
    return out


def prepare(x, flip=0):
    # x (M, K) bytes -> the same for `multiply`, (M, K padded) uint8, and True where all bytes are
    # below 128, which only AVX2 without VNNI asks; flip as in `in_fours`. Long rows are packed:
    # ROWS of them, each in a page of its own, would crowd each other out of the caches
    if x.shape[1] >= 4 * PACKED:
        fours = in_fours(x, flip)
        out, bits = np.empty(fours.shape, np.int32), np.zeros(1, np.int32)
        pack_rows(fours, out.reshape(-1), bits)
        return out.view(np.uint8), bits[0] & -0x7F7F7F80 == 0
    if flip or x.shape[1] % 4 or x.dtype != np.uint8 or not x.flags.c_contiguous:
        x = in_fours(x, flip).view(np.uint8)
    return x, simd.VNNI or not x.size or x.max() < 128


def in_fours(x, flip=0):
    # (M, K) bytes -> (M, ceil(K / 4)) int32, padded with 0; flip 128 moves int8 to uint8 and back
    m, k = x.shape
    x = x.view(np.uint8)
    if flip or k % 4 or not x.flags.c_contiguous:
        padded = np.zeros((m, k + -k % 4), np.uint8)
        np.bitwise_xor(x, np.uint8(flip), out=padded[:, :k])
        x = padded
    return x.view(np.int32)


@njit(cache=True)
def pack_rows(fours, out, bits):
    # (M, groups) int32 -> out (M * groups,): the rows of a tile side by side, four bytes of each
    # in turn; and in bits (1,) all bits that occur
    m, groups = fours.shape
    row, case, seen = 0, 0, np.int32(0)
    while row < m:
        while m - row < HEIGHTS[case]:
            case += 1
        for r in range(HEIGHTS[case]):
            at = row * groups + r
            for k in range(groups):
                four = fours[row + r, k]
                out[at + HEIGHTS[case] * k] = four
                seen |= four
        row += HEIGHTS[case]
    bits[0] = seen


def pack_panels(w, flip=0):
    # w (N, K) bytes -> panels (ceil(N / COLUMNS), ceil(K / 4), COLUMNS, 4) int8, padded with 0,
    # and the sum of every output's weights, (panels * COLUMNS,) int32; flip 128: uint8 minus 128
    fours = in_fours(w, flip)
    n, groups = fours.shape
    padded = np.zeros((n + -n % COLUMNS, groups), np.int32)
    padded[:n] = fours
    panels = simd.aligned(padded.reshape(-1, COLUMNS, groups).transpose(0, 2, 1))
    panels = panels.view(np.int8).reshape(*panels.shape, 4)
    sums = np.zeros((1, panels.shape[0] * COLUMNS), np.int32)  # the product with ones
    multiply(np.ones((1, 4 * groups), np.uint8), True, panels, sums[0].copy(), sums)
    return panels, sums[0]


def integer_matmul(x, w, x_zero, w_zero):
    # x (M, K), w (K, N) codes, x_zero scalar, w_zero (N,) -> (M, N) int32, zero points removed
    if x.itemsize > 1 or w.itemsize > 1:
        return matmul.integer_matmul(x, w, x_zero, w_zero)
    x_flip, w_flip = 128 * (x.dtype.kind == "i"), 128 * (w.dtype.kind == "u")
    panels, sums = pack_panels(np.ascontiguousarray(w.T), w_flip)
    packed, small = prepare(x, x_flip)
    # sum (x - a)(w - b) = sum x w - a sum w - b sum (x - a), in arithmetic modulo 2^32
    x_zero, w_zero = np.int32(x_zero + x_flip), w_zero - np.int32(w_flip)
    out = np.empty((x.shape[0], w.shape[1]), np.int32)
    multiply(packed, small, panels, -x_zero * sums, out)
    if w_zero.any():
        rest = x.sum(axis=1, dtype=np.int32) + np.int32((x_flip - x_zero) * x.shape[1])
        out -= rest[:, None] * w_zero
    return out
