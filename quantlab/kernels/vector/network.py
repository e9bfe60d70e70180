"""A whole network for one sample in one function: weights frozen, layer to layer in registers.

    x ---> [quantize] -> product -> [+ bias, ReLU, quantize] -> product -> ... -> logits
            \\_ layer 1 takes what it is given, LANES values at a time, as it wants to have it:
               codes of a grid, or float32; its product hands LANES outputs to layer 2

Weights lie in one block of bytes, in the order in which they are read: registers of outputs side
by side, for step after step of K. The function is written out register by register, so its length
grows with the widths. Arithmetic and rounding are those of the layers' own `integer_forward` and
`forward`: integers are equal bit for bit, and so are the codes.
"""

from copy import copy
from functools import reduce

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from quantlab.kernels.vector import simd

LANES, VECTORS = simd.LANES, 4
AHEAD, LONG = 3072, 2**18  # bytes to prefetch, in layers of at least LONG bytes
# Between these, 1 / scale is a normal number and no remainder of a division underflows.
SMALL, LARGE = np.float32(2.0**-60), np.float32(2.0**60)


class Layer:
    """weight (out, in) float32, or with a grid int8; bias (out,).

    grid: scale, zero point and largest code of the inputs, which are unsigned; step (out,): real
    value of one unit of the sums. Integers are summed exactly, zero point removed, then scaled in
    float32 as the layer does; float32 in fused multiply-adds, in an order of their own.
    """

    def __init__(self, weight, bias, grid=None, step=0):
        (n, k), self.grid = weight.shape, grid
        self.n_in, self.n_out, one = k, n, 4 // weight.itemsize  # inputs that meet one register
        self.vectors = min(VECTORS, -(-n // LANES))
        # sums that run side by side, to hide how long one takes: 8 registers, no step for nothing
        split, many = 8 // self.vectors, -(-k // one)
        while split > 1 and many < 16 and many % split:
            split //= 2
        self.split, self.unit, rows = split, split * one, self.vectors * LANES
        self.steps, self.blocks = -(-k // self.unit), -(-n // rows)
        padded = np.zeros((self.blocks * rows, self.steps * self.unit), weight.dtype)
        padded[:n, :k] = weight
        self.width = padded.shape[1]
        packed = padded.reshape(self.blocks, rows, -1, one).transpose(0, 2, 1, 3)
        vectors = np.zeros((2, len(padded)), np.float32)
        vectors[0, :n], vectors[1, :n] = bias, step
        start = np.int32(-grid[1] if grid else 0) * padded.sum(axis=1).astype(np.int32)
        self.arrays, self.nbytes = (packed, *vectors, start), packed.nbytes

    def open(self, b, base, begins):
        """Before any code: where the arrays begin, and room for the inputs."""
        self.w, self.bias, self.step, self.start = (simd.after(b, base, at) for at in begins)
        size = self.width * (1 if self.grid else 4)
        room = cgutils.alloca_once(b, ir.ArrayType(simd.I8, size + 256))
        self.buffer = b.bitcast(room, simd.I8.as_pointer())

    def take(self, b, column, values, positive):
        """Put LANES inputs where the product reads them, on the grid as `quantize` does it."""
        if self.grid is None:
            return simd.store(b, values, simd.after(b, self.buffer, 4 * column))
        codes = simd.nearest(b, _quotient(b, values, self.grid, positive))
        codes = b.add(codes, simd.same(simd.INTS, self.grid[1])) if self.grid[1] else codes
        octets = b.trunc(codes, simd.OCTETS)
        return simd.store(b, octets, simd.after(b, self.buffer, column))

    def outputs(self, b):
        """Yield (first column, LANES outputs as float32)."""
        self.buffer = simd.fresh(b, self.buffer)
        for block in range(self.blocks):
            for v, total in enumerate(self._sums(b, block)):
                column = (block * self.vectors + v) * LANES
                if column < self.n_out:
                    bias, step = (
                        simd.load(b, simd.after(b, place, 4 * column), simd.FLOATS)
                        for place in (self.bias, self.step)
                    )
                    if self.grid:
                        total = b.fmul(b.sitofp(total, simd.FLOATS), step)
                    yield column, b.fadd(total, bias)

    def _sums(self, b, block):
        many, kind = self.vectors * self.split, simd.INTS if self.grid else simd.FLOATS
        size, small = 4 * LANES * many, self.grid and self.grid[2] < 128

        def step(k, sums):
            place = simd.after(b, self.w, block * self.steps * size)
            place = simd.after(b, place, b.mul(k, simd.index(size)))
            inputs = b.mul(k, simd.index(4 * self.split))
            inputs = simd.after(b, self.buffer, inputs)
            for line in range(0, size if self.nbytes >= LONG else 0, 64):
                simd.prefetch(b, simd.after(b, place, AHEAD + line))
            for n, total in enumerate(sums):
                x = simd.load(b, simd.after(b, inputs, 4 * (n // self.vectors)), kind.element)
                x = simd.splat(b, x, kind)
                w = simd.load(b, simd.after(b, place, 4 * LANES * n), kind)
                yield simd.dot4(b, total, x, w, small) if self.grid else simd.fused(b, x, w, total)

        sums = [simd.same(kind, 0)] * many
        if self.grid:
            begin = simd.after(b, self.start, 4 * LANES * self.vectors * block)
            for v in range(self.vectors):
                sums[v] = simd.load(b, simd.after(b, begin, 4 * LANES * v), kind)
        sums, add = simd.loop(b, simd.index(self.steps), sums, step), b.add if self.grid else b.fadd
        while len(sums) > self.vectors:  # those that ran side by side, added
            half = len(sums) // 2
            sums = [add(sums[n], sums[n + half]) for n in range(half)]
        return sums


def _quotient(b, values, grid, positive):
    """x / scale, clipped to the grid and not yet rounded: the float32 quotient, as `quantize`.

    x * (1 / scale) and one step of Newton's method in fused multiply-adds is the correctly rounded
    quotient (Markstein 1990): ties fall alike.
    """
    scale, zero, top = grid
    s, low, high = (
        simd.same(simd.FLOATS, float(np.float32(v) * np.float32(scale)))
        for v in (1, -zero, top - zero)
    )
    v = simd.smaller(b, values if positive else simd.larger(b, values, low), high)
    if not SMALL < scale < LARGE:
        return b.fdiv(v, s)
    inverse = simd.same(simd.FLOATS, float(np.float32(1) / np.float32(scale)))
    q = b.fmul(v, inverse)
    return simd.fused(b, simd.fused(b, b.fneg(q), s, v), inverse, q)


def _forward(layers, begins, address, samples=1):
    """The logits of `samples` samples side by side: one waits for its sums, another computes."""
    n_in, n_out = layers[0].n_in, layers[-1].n_out
    stacks = [[copy(layer) for layer in layers] for _ in range(samples)]

    @intrinsic
    def forward(typingctx, x, at, out, out_at):
        """Samples at x[at:], one after the other, logits to out[out_at:].

        Returns the last logit, or NaN where an input is not finite; a single one is not stored.
        """

        def emit(context, b, signature, args):
            px, po = (
                simd.data(context, b, signature.args[n], args[n], b.mul(args[n + 1], simd.index(4)))
                for n in (0, 2)
            )
            base = simd.fresh(b, simd.index(address).inttoptr(simd.I8.as_pointer()))
            nothing = simd.same(simd.FLOATS, 0.0)
            poison = [nothing] * samples  # 0, or NaN in the lane of an input that is not finite
            for s, stack in enumerate(stacks):
                for layer, places in zip(stack, begins, strict=True):
                    layer.open(b, base, places)
                for column in range(0, n_in, LANES):
                    place = simd.after(b, px, 4 * (s * n_in + column))
                    values = simd.load_first(b, place, n_in - column)
                    stack[0].take(b, column, values, False)
                    poison[s] = simd.fused(b, values, nothing, poison[s])
            for depth in range(1, len(layers)):
                for stack in stacks:
                    for column, values in stack[depth - 1].outputs(b):
                        values = simd.larger(b, values, nothing)  # the ReLU
                        stack[depth].take(b, column, values, True)
            for s, stack in enumerate(stacks):
                for column, values in stack[-1].outputs(b):
                    place = simd.after(b, po, 4 * (s * n_out + column))
                    if samples * n_out > 1:
                        simd.store_first(b, values, place, simd.index(n_out - column))
            last = b.extract_element(values, ir.Constant(simd.I32, (n_out - 1) % LANES))
            poison, mask = reduce(b.fadd, poison), ir.IntType(LANES)
            lanes = b.bitcast(b.fcmp_unordered("uno", poison, poison), mask)
            bad = b.icmp_unsigned("!=", lanes, ir.Constant(mask, 0))
            return b.select(bad, ir.Constant(simd.F32, float("nan")), last)

        return types.float32(x, types.intp, out, types.intp), emit

    return forward


def network(layers):
    """Logits of one sample (n_in,), and of rows (n, n_in) with n > 1: two compiled functions."""
    n_in, n_out = layers[0].n_in, layers[-1].n_out
    begins, parts, size = [], [], 0
    for array in (array for layer in layers for array in layer.arrays):
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        parts.append(np.pad(raw, (0, -raw.size % 64)))  # the next begins with a cache line
        begins.append(size)
        size += parts[-1].size
    block, begins = simd.aligned(np.concatenate(parts)), np.reshape(begins, (-1, 4)).tolist()
    forward, pair = (_forward(layers, begins, block.ctypes.data, s) for s in (1, 2))
    shape = f"compiled model: x is not float32 of shape ({n_in},)"
    finite = "compiled model: x has NaN or infinite values, or a logit is beyond float32"

    def one_logit(x):
        if x.size != n_in:
            raise ValueError(shape)
        logit = forward(x, 0, x, 0)
        if not np.isfinite(logit):
            raise ValueError(finite)
        return logit

    def logits(x):
        if x.size != n_in:
            raise ValueError(shape)
        out = np.empty(n_out, np.float32)
        if not np.isfinite(forward(x, 0, out, 0)):
            raise ValueError(finite)
        return out

    def rows(x):
        if x.shape[1] != n_in:
            raise ValueError(shape)
        out = np.empty((x.shape[0], n_out), np.float32)
        for i in range(0, x.shape[0], 2):
            i = min(i, x.shape[0] - 2)  # the last pair may overlap the one before
            if not np.isfinite(pair(x, i * n_in, out, i * n_out)):
                raise ValueError(finite)
        return out

    vector, matrix = types.float32[::1], types.float32[:, ::1]
    one = njit(types.float32(vector))(one_logit) if n_out == 1 else njit(vector(vector))(logits)
    many = njit(matrix(matrix))(rows)
    one.weights = many.weights = block  # each keeps alive what its code points to
    return one, many
