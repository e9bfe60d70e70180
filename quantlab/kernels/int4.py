"""The product with packed 4-bit weights: two in a byte until they are in a register.

    weights + 8, packed once      +------- COLUMNS -------+
        step k, 8 values of K     | byte q of an output:  |   low half: value q of the step
                                  | (w[q+4] << 4) | w[q]  |   high half: value q + 4
                                  +-----------------------+
    inputs   x0..x3 x4..x7        |  ROWS x COLUMNS sums  |   dot4(x0..x3, byte & 15)
                                  +-----------------------+   dot4(x4..x7, byte >> 4)

A group of K has its own scale: its int32 sum becomes float32, times the scale, plus the sum of the
groups before it. (x - z)(u - 8) = x u - 8 x - z (u - 8): the sums of x and of the weights make up
for both zero points, so the group's integer is exact.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from quantlab.kernels import simd

ROWS, VECTORS = (3, 4) if simd.WIDE else (2, 2)
COLUMNS = VECTORS * simd.LANES
AHEAD = 3072  # bytes between the weights in use and those asked for, when one row streams them
_CASES = [(rows, shifted) for shifted in (False, True) for rows in range(1, ROWS + 1)]


@intrinsic
def _tile(
    typingctx,
    case,
    x,
    x_sums,
    zero,
    w,
    steps,
    scale,
    weight_sums,
    groups,
    out,
    row,
    column,
    columns,
):
    """out[row:, column:] float32 over `groups` groups of `steps` steps, COLUMNS or what is left."""
    n = types.intp
    signature = types.void(n, x, x_sums, types.int32, w, n, scale, weight_sums, n, out, n, n, n)

    def emit(context, b, signature, args):
        def place(n, at, size):
            return simd.data(context, b, signature.args[n], args[n], b.mul(at, simd.index(size)))

        steps, groups, (row, column, columns) = args[5], args[8], args[10:]
        here, depth = b.mul(column, groups), b.mul(groups, steps)
        where = {
            "x": place(1, b.mul(row, depth), 8),
            "x_sums": place(2, b.mul(row, groups), 4),
            "w": place(4, b.mul(column, depth), 4),
            "scale": place(6, here, 4),
            "weight_sums": place(7, here, 4),
            "out": place(9, b.add(b.mul(row, columns), column), 4),
        }
        sizes = {
            "x_step": b.mul(depth, simd.index(8)),
            "groups": groups,
            "steps": steps,
            "zero": args[3],
            "out_step": b.mul(columns, simd.index(4)),
            "left": b.sub(columns, column),
        }
        simd.choose(
            b, args[0], [lambda r=r, s=s: _emit_tile(b, r, s, where, sizes) for r, s in _CASES]
        )
        return context.get_dummy_value()

    return signature, emit


def _emit_tile(b, rows, shifted, where, sizes):
    cells = [(r, v) for r in range(rows) for v in range(VECTORS)]
    wide = 4 * simd.LANES
    low_half, four = simd.same(simd.INTS, 0x0F0F0F0F), simd.same(simd.INTS, 4)

    def at(base, *terms):
        for n, size in terms:
            size = simd.index(size) if isinstance(size, int) else size
            base = simd.after(b, base, b.mul(n, size))
        return base

    def group(g, sums):
        columns, begin = b.mul(g, simd.index(4 * COLUMNS)), b.mul(g, sizes["steps"])
        start = []
        for r, v in cells:
            own = at(where["x_sums"], (b.mul(simd.index(r), sizes["groups"]), 4), (g, 4))
            total = simd.splat(b, simd.load(b, own, simd.I32), simd.INTS)
            if shifted:
                place = simd.after(b, simd.after(b, where["weight_sums"], columns), wide * v)
                weights = simd.load(b, place, simd.INTS)
                total = b.sub(total, b.mul(weights, simd.splat(b, sizes["zero"], simd.INTS)))
            start.append(total)

        def step(k, totals):
            k, totals = b.add(begin, k), list(totals)
            panel = at(where["w"], (k, 4 * COLUMNS))
            if rows == 1:
                for line in range(0, 4 * COLUMNS, 64):
                    simd.prefetch(b, simd.after(b, panel, AHEAD + line))
            for v in range(VECTORS):
                both = simd.load(b, simd.after(b, panel, wide * v), simd.INTS)
                halves = b.and_(both, low_half), b.and_(b.lshr(both, four), low_half)
                for r in range(rows):
                    row = at(where["x"], (simd.index(r), sizes["x_step"]), (k, 8))
                    for part, half in enumerate(halves):
                        x = simd.load(b, simd.after(b, row, 4 * part), simd.I32)
                        totals[r * VECTORS + v] = simd.dot4(  # at most 2 * 255 * 15: no overflow
                            b, totals[r * VECTORS + v], simd.splat(b, x, simd.INTS), half, True
                        )
            return totals

        totals = simd.loop(b, sizes["steps"], start, step)
        scales = [
            simd.load(
                b, simd.after(b, simd.after(b, where["scale"], columns), wide * v), simd.FLOATS
            )
            for v in range(VECTORS)
        ]
        return [
            b.fadd(s, b.fmul(b.sitofp(t, simd.FLOATS), scales[v]))
            for s, t, (_, v) in zip(sums, totals, cells, strict=True)
        ]

    sums = simd.loop(b, sizes["groups"], [simd.same(simd.FLOATS, 0.0)] * len(cells), group)
    simd.store_tile(
        b,
        [sums[r * VECTORS :][:VECTORS] for r in range(rows)],
        sizes["out_step"],
        where["out"],
        sizes["left"],
    )


@njit(cache=True)
def _multiply(x, x_sums, x_zero, panels, scale, weight_sums, out):
    rows, groups = x_sums.shape
    steps, zero, first = panels.shape[1] // groups, np.int32(x_zero), ROWS if x_zero else 0
    for panel in range(panels.shape[0]):
        for row in range(0, rows, ROWS):
            case = first + min(ROWS, rows - row) - 1
            _tile(
                case,
                x,
                x_sums,
                zero,
                panels,
                steps,
                scale,
                weight_sums,
                groups,
                out,
                row,
                panel * COLUMNS,
                out.shape[1],
            )


def multiply(x, x_sums, x_zero, panels, scale, weight_sums, columns):
    # x (M, K padded) uint8, x_sums (M, groups) int32 from `pack_inputs`, the rest from `pack`
    # -> (M, columns) float32
    out = np.empty((x.shape[0], columns), np.float32)
    _multiply(x, x_sums, x_zero, panels, scale, weight_sums, out)
    return out


def pack(w, scale):
    # w (N, K) int8 codes -8..7, scale (N, groups) -> panels (P, steps, COLUMNS, 4) uint8,
    # scales and sums of the weights (P, groups, COLUMNS); outputs padded to P * COLUMNS
    n, groups = scale.shape
    panels = -(-n // COLUMNS)
    size = w.shape[1] // groups
    padded = np.zeros((panels * COLUMNS, groups, size + -size % 8), np.int8)
    padded[:n, :, :size] = w.reshape(n, groups, size)
    halves = (padded + 8).view(np.uint8).reshape(panels, COLUMNS, -1, 2, 4)  # step, half, q
    both = halves[:, :, :, 0] | (halves[:, :, :, 1] << 4)
    columns = (np.zeros((panels * COLUMNS, groups), np.float32), padded.sum(axis=2, dtype=np.int32))
    columns[0][:n] = scale
    return (
        simd.aligned(both.transpose(0, 2, 1, 3)),
        *(simd.aligned(c.reshape(panels, COLUMNS, groups).transpose(0, 2, 1)) for c in columns),
    )


def pack_inputs(x, groups):
    # x (M, K) uint8 -> the same with every group padded to steps of 8, and -8 times the group sums
    m, k = x.shape
    parts = x.reshape(m, groups, k // groups)
    sums = -8 * parts.sum(axis=2, dtype=np.int32)
    padding = -(k // groups) % 8
    if padding:
        parts = np.pad(parts, ((0, 0), (0, 0), (0, padding)))
    return np.ascontiguousarray(parts).reshape(m, groups * parts.shape[2]), sums


def grouped_matmul(x, w, scale, x_zero):
    # x (M, K) uint8, w (N, K) int8 codes -8..7, scale (N, groups) float32 -> (M, N) float32
    return multiply(*pack_inputs(x, scale.shape[1]), x_zero, *pack(w, scale), w.shape[0])
