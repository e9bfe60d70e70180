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

ROWS, VECTORS = (6, 4) if simd.WIDE else (4, 2)
COLUMNS = VECTORS * simd.WORDS.count
_HALF = ir.VectorType(simd.I32, simd.WORDS.count)


@intrinsic
def _tile(typingctx, rows, x, x_at, x_step, w, w_at, words, k, out, out_at, out_step):
    """out (rows, COLUMNS) int32 = k - 2 * disagreements over `words` words."""
    at = types.intp
    signature = types.void(at, x, at, at, w, at, at, types.int32, out, at, at)

    def emit(context, b, signature, args):
        px, pw, po = (simd.data(context, b, signature.args[n], args[n],
                                b.mul(args[n + 1], simd.index(size)))
                      for n, size in ((1, 8), (4, 8), (8, 4)))
        steps = b.mul(args[3], simd.index(8)), b.mul(args[10], simd.index(4))
        rest = px, pw, args[6], args[7], po, steps
        simd.choose(b, b.sub(args[0], simd.index(1)),
                    [lambda n=n: _emit_tile(b, n, *rest) for n in range(1, ROWS + 1)])
        return context.get_dummy_value()
    return signature, emit


def _emit_tile(b, rows, px, pw, words, k, po, steps):
    def row_of(base, step, r):
        return simd.after(b, base, b.mul(step, simd.index(r)))

    def word(i, sums):
        panel = simd.after(b, pw, b.mul(i, simd.index(8 * COLUMNS)))
        weights = [simd.load(b, simd.after(b, panel, 4 * simd.LANES * v), simd.WORDS)
                   for v in range(VECTORS)]
        for r in range(rows):
            place = simd.after(b, row_of(px, steps[0], r), b.mul(i, simd.index(8)))
            own = simd.splat(b, simd.load(b, place, simd.I64), simd.WORDS)
            for v in range(VECTORS):
                count = simd.call(b, f"llvm.ctpop.v{simd.WORDS.count}i64", simd.WORDS,
                                  b.xor(own, weights[v]))
                yield b.add(sums[r * VECTORS + v], count)

    cells = [(r, v) for r in range(rows) for v in range(VECTORS)]
    sums = simd.loop(b, words, [simd.same(simd.WORDS, 0)] * len(cells), word)
    for total, (r, v) in zip(sums, cells, strict=True):
        result = b.sub(simd.splat(b, k, _HALF), b.shl(b.trunc(total, _HALF), simd.same(_HALF, 1)))
        simd.store(b, result, simd.after(b, row_of(po, steps[1], r), 2 * simd.LANES * v))


@njit(cache=True)
def multiply(x, panels, k, columns):
    # x (M, W) uint64, panels (P, W, COLUMNS) uint64 -> (M, columns) int32
    rows, words = x.shape
    out = np.empty((rows, columns), np.int32)
    edge = np.empty((ROWS, COLUMNS), np.int32)
    for panel in range(panels.shape[0]):
        left, w_at = panel * COLUMNS, panel * words * COLUMNS
        for row in range(0, rows, ROWS):
            height, x_at = min(ROWS, rows - row), row * words
            if left + COLUMNS <= columns:
                _tile(height, x, x_at, words, panels, w_at, words, np.int32(k), out,
                      row * columns + left, columns)
            else:
                _tile(height, x, x_at, words, panels, w_at, words, np.int32(k), edge, 0, COLUMNS)
                out[row : row + height, left:] = edge[:height, : columns - left]
    return out


@njit(cache=True)
def pack_panels(w):
    # w (N, W) uint64 -> (ceil(N / COLUMNS), W, COLUMNS) uint64
    n, words = w.shape
    panels = np.zeros(((n + COLUMNS - 1) // COLUMNS, words, COLUMNS), np.uint64)
    for i in range(n):
        for k in range(words):
            panels[i // COLUMNS, k, i % COLUMNS] = w[i, k]
    return panels


def xnor_matmul(a, b, k):
    # a (M, W), b (N, W) uint64 signs of k values -> (M, N) int32: agreements minus disagreements
    return multiply(np.ascontiguousarray(a), pack_panels(b), k, b.shape[0])


@intrinsic
def _sign_word(typingctx, x, at):
    """64 floats from element `at` as one word; a bit is set where x >= 0."""
    def emit(context, b, signature, args):
        many = ir.VectorType(simd.F32, 64)
        place = simd.data(context, b, signature.args[0], args[0], b.mul(args[1], simd.index(4)))
        positive = b.fcmp_ordered(">=", simd.load(b, place, many), simd.same(many, 0.0))
        return b.bitcast(positive, simd.I64)
    return types.uint64(x, types.intp), emit


@njit(cache=True)
def pack_signs(x):
    # x (M, K) float32 -> (M, ceil(K / 64)) uint64; bit k % 64 of word k // 64 is set where x >= 0
    m, k = x.shape
    out = np.zeros((m, (k + 63) // 64), np.uint64)
    for row in range(m):
        for word in range(k // 64):
            out[row, word] = _sign_word(x, row * k + 64 * word)
        for c in range(k // 64 * 64, k):
            out[row, c >> 6] |= np.uint64(x[row, c] >= 0) << np.uint64(c & 63)
    return out
