"""The binary product on vector instructions: 64 signs a word, LANES / 2 words a register.

weights, packed once      +---- COLUMNS ----+
        word k of K       |  one word each  |   registers of words, one output a lane
inputs     +------+       +-----------------+
  row 0    | word |       | ROWS x COLUMNS  |   a row's word goes to all lanes:
  row 1    | word |       | disagreements   |   sum += popcount(word xor weights)
           +------+       +-----------------+   result: k - 2 sum
"""

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from quantlab.kernels import simd

HEIGHTS, VECTORS = ((6, 2, 1), 4) if simd.WIDE else ((4, 2, 1), 2)
COLUMNS = VECTORS * simd.WORDS.count
_HALF = ir.VectorType(simd.I32, simd.WORDS.count)


@intrinsic
def _tile(typingctx, case, x, words, w, w_at, k, out, row, column, columns):
    """out[row:, column:] = k - 2 * disagreements, COLUMNS of them or what is left."""
    n = types.intp
    signature = types.void(n, x, n, w, n, types.int32, out, n, n, n)

    def emit(context, b, signature, args):
        def place(n, at, size):
            return simd.data(context, b, signature.args[n], args[n], b.mul(at, simd.index(size)))

        words, row, column, columns = args[2], *args[7:]
        px, pw = place(1, b.mul(row, words), 8), place(3, args[4], 8)
        po = place(6, b.add(b.mul(row, columns), column), 4)
        rest = px, pw, words, args[5], po, columns, b.sub(columns, column)
        simd.choose(b, args[0], [lambda rows=rows: _emit_tile(b, rows, *rest) for rows in HEIGHTS])
        return context.get_dummy_value()

    return signature, emit


def _emit_tile(b, rows, px, pw, words, k, po, columns, left):
    def word(i, sums):
        panel = simd.after(b, pw, b.mul(i, simd.index(8 * COLUMNS)))
        weights = [
            simd.load(b, simd.after(b, panel, 4 * simd.LANES * v), simd.WORDS)
            for v in range(VECTORS)
        ]
        for r in range(rows):
            at = b.mul(b.add(b.mul(words, simd.index(r)), i), simd.index(8))
            own = simd.splat(b, simd.load(b, simd.after(b, px, at), simd.I64), simd.WORDS)
            for v in range(VECTORS):
                count = simd.call(
                    b, f"llvm.ctpop.v{simd.WORDS.count}i64", simd.WORDS, b.xor(own, weights[v])
                )
                yield b.add(sums[r * VECTORS + v], count)

    sums = simd.loop(b, words, [simd.same(simd.WORDS, 0)] * (rows * VECTORS), word)
    results = [
        b.sub(simd.splat(b, k, _HALF), b.shl(b.trunc(total, _HALF), simd.same(_HALF, 1)))
        for total in sums
    ]
    simd.store_tile(
        b,
        [results[r * VECTORS :][:VECTORS] for r in range(rows)],
        b.mul(columns, simd.index(4)),
        po,
        left,
    )


@njit(cache=True)
def _multiply(x, panels, k, out):
    rows, words = x.shape
    for panel in range(panels.shape[0]):
        row, case = 0, 0
        while row < rows:
            while rows - row < HEIGHTS[case]:
                case += 1
            _tile(
                case,
                x,
                words,
                panels,
                panel * words * COLUMNS,
                np.int32(k),
                out,
                row,
                panel * COLUMNS,
                out.shape[1],
            )
            row += HEIGHTS[case]


def multiply(x, panels, k, columns):
    # x (M, W) uint64, panels (P, W, COLUMNS) uint64 -> (M, columns) int32
    out = np.empty((x.shape[0], columns), np.int32)
    _multiply(x, panels, k, out)
    return out


def pack_panels(w):
    # w (N, W) uint64 -> (ceil(N / COLUMNS), W, COLUMNS) uint64
    n, words = w.shape
    padded = np.zeros((n + -n % COLUMNS, words), np.uint64)
    padded[:n] = w
    return simd.aligned(padded.reshape(-1, COLUMNS, words).transpose(0, 2, 1))


def xnor_matmul(a, b, k):
    # a (M, W), b (N, W) uint64 signs of k values -> (M, N) int32: agreements minus disagreements
    return multiply(np.ascontiguousarray(a), pack_panels(b), k, b.shape[0])
