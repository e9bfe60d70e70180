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
AVX-512 has 32 registers: 6 x 4 sums, 4 weights, 1 input. AVX2 has 16: 4 x 2 sums.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from quantlab.kernels import matmul, simd

ROWS, VECTORS = (6, 4) if simd.WIDE else (4, 2)
COLUMNS = VECTORS * simd.LANES
PACKED = 512  # groups of K from which rows are packed
BLOCK = 1024  # groups of K at a time: a panel of so many is 256 KB, and stays in the second level
AHEAD = 3072  # bytes between the weights in use and those asked for, when one row streams them
_CASES = [(rows, small) for small in ((False,) if simd.WIDE else (False, True))
          for rows in range(1, ROWS + 1)]


@intrinsic
def _tile(typingctx, case, x, x_at, row_step, k_step, w, w_at, groups, start, start_at, start_step,
          out, out_at, out_step):
    """out (rows, COLUMNS) int32 = start + x . w over `groups` groups; positions in elements.

    x: row_step bytes to the next row, k_step to the next group. start: COLUMNS values for all rows
    (start_step 0), or `out` itself, to go on adding.
    """
    at = types.intp
    signature = types.void(at, x, at, at, at, w, at, at, start, at, at, out, at, at)

    def emit(context, b, signature, args):
        def place(n, scale):
            return simd.data(context, b, signature.args[n], args[n],
                             b.mul(args[n + 1], simd.index(scale)))

        px, pw, ps, po = place(1, 1), place(5, 1), place(8, 4), place(11, 4)
        steps = [b.mul(args[n], simd.index(4)) for n in (10, 13)] + list(args[3:5])
        rest = px, pw, args[7], ps, po, steps
        simd.choose(b, args[0], [lambda rows=rows, small=small: _emit_tile(b, rows, small, *rest)
                                 for rows, small in _CASES])
        return context.get_dummy_value()
    return signature, emit


def _emit_tile(b, rows, small, px, pw, groups, ps, po, steps):
    def cell(base, step, r, v):  # address of register v in row r
        row = simd.after(b, base, b.mul(step, simd.index(r)))
        return simd.after(b, row, 4 * simd.LANES * v)

    def group(k, sums):
        inputs = simd.after(b, px, b.mul(k, steps[3]))
        panel = simd.after(b, pw, b.mul(k, simd.index(4 * COLUMNS)))
        if rows == 1:
            for line in range(0, 4 * COLUMNS, 64):
                simd.prefetch(b, simd.after(b, panel, AHEAD + line))
        weights = [simd.load(b, simd.after(b, panel, 4 * simd.LANES * v), simd.INTS)
                   for v in range(VECTORS)]
        for r in range(rows):
            four = simd.splat(b, simd.load(b, cell(inputs, steps[2], r, 0), simd.I32), simd.INTS)
            for v in range(VECTORS):
                yield simd.dot4(b, sums[r * VECTORS + v], four, weights[v], small)

    cells = [(r, v) for r in range(rows) for v in range(VECTORS)]
    sums = [simd.load(b, cell(ps, steps[0], r, v), simd.INTS) for r, v in cells]
    for r, v in cells:  # the lines that will be written arrive while the sums grow
        simd.prefetch(b, cell(po, steps[1], r, v), write=True)
    sums = simd.loop(b, groups, sums, group)
    for total, (r, v) in zip(sums, cells, strict=True):
        simd.store(b, total, cell(po, steps[1], r, v))


@njit(cache=True)
def multiply(x, small, w, start, out):
    # x from `prepare`, w (panels, groups, COLUMNS, 4), start (panels * COLUMNS,) int32
    # -> out (rows, columns) int32 = start + x @ w
    rows, columns = out.shape
    flat, edge = out.reshape(-1), np.empty(ROWS * COLUMNS, np.int32)
    groups, first = w.shape[1], ROWS if small and not simd.WIDE else 0
    for panel in range(w.shape[0]):
        left = panel * COLUMNS
        whole = left + COLUMNS <= columns
        block = BLOCK if whole else max(groups, 1)
        for k in range(0, max(groups, 1), block):
            depth, w_at = min(block, groups - k), 4 * COLUMNS * (panel * groups + k)
            for row in range(0, rows, ROWS):
                height, at = min(ROWS, rows - row), row * columns + left
                # side by side in turns of four bytes, or one row after the other
                side = height if groups >= PACKED else 1
                x_at, row_step = 4 * (row * groups + side * k), 4 if side > 1 else 4 * groups
                source, source_at, source_step = start, left, 0
                target, target_at, target_step = flat, at, columns
                if k > 0:
                    source, source_at, source_step = flat, at, columns
                if not whole:
                    target, target_at, target_step = edge, 0, COLUMNS
                # one call: its code holds every height of a tile
                _tile(first + height - 1, x, x_at, row_step, 4 * side, w, w_at, depth,
                      source, source_at, source_step, target, target_at, target_step)
                if not whole:
                    for r in range(height):
                        for c in range(columns - left):
                            out[row + r, left + c] = edge[r * COLUMNS + c]
    return out


def prepare(x, flip=0):
    # x (M, K) bytes -> the same for `multiply`, and True where all bytes are below 128, which
    # only AVX2 asks; flip as in `in_fours`. Long rows are packed: ROWS of them, each in a page of
    # its own, would crowd each other out of the caches
    fours = in_fours(x, flip)
    if fours.shape[1] >= PACKED:
        return pack_rows(fours)
    octets = fours.reshape(-1).view(np.uint8)
    return octets, simd.WIDE or not octets.size or octets.max() < 128


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
def pack_rows(fours):
    # (M, groups) int32 -> (4 * M * groups,) uint8: ROWS rows side by side, four bytes of each in
    # turn; and True where all bytes are below 128
    m, groups = fours.shape
    out, bits = np.empty(m * groups, np.int32), np.int32(0)
    for row in range(0, m, ROWS):
        height = min(ROWS, m - row)
        for r in range(height):
            line, at = fours[row + r], row * groups + r
            for k in range(groups):
                out[at + height * k] = line[k]
                bits |= line[k]
    return out.view(np.uint8), bits & np.int32(-0x7F7F7F80) == 0


@njit(cache=True)
def _pack_panels(fours):
    # (N, groups) int32 -> (panels, groups, COLUMNS) int32; 16 groups are one cache line of a row
    n, groups = fours.shape
    panels = np.zeros(((n + COLUMNS - 1) // COLUMNS, groups, COLUMNS), np.int32)
    for panel in range(panels.shape[0]):
        rows = fours[panel * COLUMNS : (panel + 1) * COLUMNS]
        for first in range(0, groups, 16):
            for column in range(rows.shape[0]):
                for k in range(first, min(first + 16, groups)):
                    panels[panel, k, column] = rows[column, k]
    return panels


@njit(cache=True)
def _row_sums(w, out):
    # (N, K) int8 -> the sums of the rows in out, int32
    for i in range(w.shape[0]):
        total = np.int32(0)
        for k in range(w.shape[1]):
            total = np.int32(total + w[i, k])
        out[i] = total


def pack_panels(w, flip=0):
    # w (N, K) bytes -> panels (ceil(N / COLUMNS), ceil(K / 4), COLUMNS, 4) int8, padded with 0,
    # and the sum of every output's weights, (panels * COLUMNS,) int32; flip 128: uint8 minus 128
    fours = in_fours(w, flip)
    panels = _pack_panels(fours)
    sums = np.zeros(panels.shape[0] * COLUMNS, np.int32)
    _row_sums(fours.view(np.int8), sums)
    return panels.view(np.int8).reshape(*panels.shape, 4), sums


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
