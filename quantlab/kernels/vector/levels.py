"""Reading a codebook of up to 16 levels: the whole table lies in a register.

codes   | 3 | 0 | 15 | ... |     one permutation reads LANES levels at once,
table   | level 0 | ... | level 15 |     without an access to memory for each
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from quantlab.kernels import elementwise
from quantlab.kernels.paths import jit
from quantlab.kernels.vector import simd


@intrinsic
def _read(typingctx, codes, table, out, count):
    """out = table[codes] for `count` registers; table (16,) float32."""

    def emit(context, b, signature, args):
        px, pt, po = (simd.data(context, b, signature.args[n], args[n]) for n in range(3))
        halves = [
            simd.load(b, simd.after(b, pt, 4 * n), simd.FLOATS) for n in range(0, 16, simd.LANES)
        ]

        def register(k, state):
            at = b.mul(k, simd.index(simd.LANES))
            own = simd.load(b, simd.after(b, px, at), simd.OCTETS)
            values = simd.permuted(b, halves, b.zext(own, simd.INTS))
            simd.store(b, values, simd.after(b, po, b.mul(at, simd.index(4))))
            return []

        simd.loop(b, args[3], [], register)
        return context.get_dummy_value()

    return types.void(codes, table, out, types.intp), emit


@jit
def _lookup(codes, scale, levels, out):
    table = np.zeros(16, np.float32)
    for a in range(codes.shape[0]):
        for b in range(codes.shape[1]):
            row, values, s = codes[a, b], out[a, b], elementwise._row(scale, a, b)[0]
            for n in range(levels.size):
                table[n] = levels[n] * s
            many = row.size // simd.LANES
            _read(row, table, values, many)
            for i in range(many * simd.LANES, row.size):
                values[i] = table[row[i]]


def lookup(codes, scale, levels, out):
    # codes (A, B, C) in 0..k-1, levels (k,) float32 -> out (A, B, C) float32
    if levels.size > 16 or codes.itemsize > 1 or scale.shape[2] > 1:
        return elementwise.lookup(codes, scale, levels, out)
    _lookup(codes, scale, levels, out)
    return out
