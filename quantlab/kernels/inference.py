"""A whole network for one sample in one function: weights frozen, layer to layer in registers.

    x ---> [quantize] -> product -> [+ bias, ReLU, quantize] -> product -> ... -> logits
            \\_ layer 1 takes what it is given, LANES values at a time, as it wants to have it:
               codes of a grid, signs, or float32; its product hands LANES outputs to layer 2

Weights lie in one block of bytes, in the order in which they are read: VECTORS registers of
outputs side by side, for step after step of K. Arithmetic and rounding are those of the layers'
own `integer_forward` and `forward`: integers are equal bit for bit, and so are the codes.
"""

from copy import copy

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from quantlab.kernels import simd
from quantlab.kernels.streaming import LARGE, SMALL

LANES, VECTORS = simd.LANES, 4
FEW = 4  # up to FEW last outputs are summed along K as their inputs arrive
AHEAD, LONG = 3072, 2**18  # bytes to prefetch, in layers of at least LONG bytes


class _Weights:
    """Arrays one after the other in bytes, each from a whole cache line on."""

    def __init__(self):
        self.parts, self.size = [], 0

    def add(self, array):
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        at, gap = self.size, -raw.size % 64
        self.parts += [raw, np.zeros(gap, np.uint8)]
        self.size += raw.size + gap
        return at

    def block(self):
        return simd.aligned(np.concatenate(self.parts))


def _columns(array, rows):
    # (outputs, K steps, ...) -> blocks of `rows` outputs: (blocks, K steps, rows, ...)
    n = array.shape[0]
    padded = np.pad(array, [(0, -n % rows)] + [(0, 0)] * (array.ndim - 1))
    blocks = padded.reshape(-1, rows, *array.shape[1:])
    return np.ascontiguousarray(np.moveaxis(blocks, 1, 2))


def _along(array, axis, multiple):
    # padded with zeros to a multiple along one axis
    width = [(0, 0)] * array.ndim
    width[axis] = (0, -array.shape[axis] % multiple)
    return np.pad(array, width)


class _Layer:
    """Common to all kinds: sizes, the buffer of inputs, blocks of outputs, finished by a bias."""

    in_memory = True  # a load gives one input to all lanes; from a register it takes shuffles

    def __init__(self, n_in, n_out, vectors=VECTORS):
        self.n_in, self.n_out = n_in, n_out
        self.vectors = min(vectors, -(-n_out // LANES))
        self.rows = self.vectors * LANES
        self.blocks = -(-n_out // self.rows)

    def open(self, b, base, size):
        """Before any code: where the weights are, and room for the inputs of this layer."""
        self.base = base
        room = cgutils.alloca_once(b, ir.ArrayType(simd.I8, size + 256))
        self.buffer = b.bitcast(room, simd.I8.as_pointer())

    def register(self, b, offset, kind=simd.FLOATS):
        return simd.load(b, simd.after(b, self.base, offset), kind)

    def outputs(self, b):
        """Yield (first column, LANES outputs as float32)."""
        if self.in_memory:
            self.buffer = simd.fresh(b, self.buffer)
        for block in range(self.blocks):
            for v, total in enumerate(self.product(b, block)):
                column = block * self.rows + v * LANES
                if column < self.n_out:
                    yield column, b.fadd(total, self.register(b, self.bias + 4 * column))

    def k_loop(self, b, steps, offset, size, start, body):
        """Sums over `steps` steps of `size` bytes each; body(k, place, sums) -> sums."""

        def one(k, sums):
            place = simd.after(b, self.base, offset)
            place = simd.after(b, place, b.mul(k, simd.index(size)))
            if self.nbytes >= LONG:
                for line in range(0, size, 64):
                    simd.prefetch(b, simd.after(b, place, AHEAD + line))
            return body(k, place, sums)

        return simd.loop(b, simd.index(steps), start, one)


def _side_by_side(vectors, steps):
    """Sums that run side by side, to hide how long one takes: 8 registers, no step for nothing."""
    split = max(1, 8 // vectors)
    while split > 1 and steps < 16 and steps % split:
        split //= 2
    return split


def _fold(b, sums, vectors, add):
    # the sums that ran side by side, added: [part * vectors + v] -> [v]
    while len(sums) > vectors:
        half = len(sums) // 2
        sums = [add(sums[n], sums[n + half]) for n in range(half)]
    return sums


class FloatLayer(_Layer):
    """weight (out, in) float32, bias (out,): fused multiply-adds, sums in an order of their own."""

    def __init__(self, weight, bias, weights):
        super().__init__(weight.shape[1], weight.shape[0])
        self.split = _side_by_side(self.vectors, self.n_in)
        packed = _columns(_along(weight, 1, self.split), self.rows)
        self.nbytes, self.steps = packed.nbytes, packed.shape[1] // self.split
        self.w, self.bias = weights.add(packed), weights.add(_along(bias, 0, self.rows))

    def open(self, b, base):
        super().open(b, base, 4 * self.n_in)

    def take(self, b, column, values, positive):
        simd.store(b, values, simd.after(b, self.buffer, 4 * column))

    def product(self, b, block):
        size, many = 4 * LANES, self.vectors * self.split

        def step(k, place, sums):
            for n in range(many):
                at = simd.after(b, self.buffer, b.mul(k, simd.index(4 * self.split)))
                x = simd.load(b, simd.after(b, at, 4 * (n // self.vectors)), simd.F32)
                w = simd.load(b, simd.after(b, place, size * n), simd.FLOATS)
                yield simd.fused(b, simd.splat(b, x, simd.FLOATS), w, sums[n])

        sums = self.k_loop(
            b,
            self.steps,
            self.w + block * self.steps * size * many,
            size * many,
            [simd.same(simd.FLOATS, 0.0)] * many,
            step,
        )
        return _fold(b, sums, self.vectors, b.fadd)


def _on_grid(b, values, grid, positive):
    """x / scale, clipped to the grid and not yet rounded: the float32 quotient, as `quantize`."""
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


class IntegerLayer(_Layer):
    """weight (out, in) int8 codes of `bits` 4 or 8, scale (out, groups), inputs on a uint8 grid.

    The product of a group is an exact int32, zero point removed; then float32 as the layer does.
    grid: scale, zero point and largest code of the inputs.
    """

    def __init__(self, weight, scale, bias, grid, bits, weights):
        n, k = weight.shape
        super().__init__(k, n)
        self.grid, self.bits, self.groups = grid, bits, scale.shape[1]
        one = 8 if bits == 4 else 4  # bytes of K that meet one register
        self.size = k // self.groups
        self.split = _side_by_side(self.vectors, self.size // one)
        self.unit = self.split * one  # bytes of K in one step
        groups = _along(weight.reshape(n, self.groups, -1), 2, self.unit)
        self.stride = groups.shape[2]  # bytes of K from one group to the next
        self.steps = self.stride // self.unit
        packed = self._pack(groups)
        self.nbytes, self.w = packed.nbytes, weights.add(packed)
        start = np.int32(-grid[1]) * groups.sum(axis=2, dtype=np.int32)  # (out, groups)
        self.start, self.scale = (
            weights.add(np.moveaxis(_along(a, 0, self.rows), 0, 1)) for a in (start, scale)
        )
        self.bias = weights.add(_along(bias, 0, self.rows))
        # pairs of products fit 16 bits, which AVX2 needs to know
        self.small = bits == 4 or grid[2] < 128

    def _pack(self, groups):
        if self.bits == 4:  # a byte holds value q (low half) and q + 4 of eight
            halves = (groups + 8).astype(np.uint8).reshape(*groups.shape[:2], -1, 2, 4)
            groups = halves[..., 0, :] | (halves[..., 1, :] << 4)
        return _columns(groups.reshape(self.n_out, -1, 4), self.rows)

    def open(self, b, base):
        super().open(b, base, self.groups * self.stride)

    def take(self, b, column, values, positive):
        """Put LANES inputs on the grid, as `quantize` does, bit for bit."""
        codes = simd.nearest(b, _on_grid(b, values, self.grid, positive))
        codes = b.add(codes, simd.same(simd.INTS, self.grid[1])) if self.grid[1] else codes
        octets = b.trunc(codes, ir.VectorType(simd.I8, LANES))
        if self.size == self.stride or self.groups == 1:
            simd.store(b, octets, simd.after(b, self.buffer, column))
            return
        for lane in range(min(LANES, self.n_in - column)):  # groups with a gap behind them
            group, at = divmod(column + lane, self.size)
            one = b.extract_element(octets, ir.Constant(simd.I32, lane))
            simd.store(b, one, simd.after(b, self.buffer, group * self.stride + at))

    def product(self, b, block):
        totals, many = None, self.vectors * self.split
        size = 4 * LANES * many
        for g in range(self.groups):
            cells = [
                4 * ((g * self.blocks + block) * self.rows + v * LANES) for v in range(self.vectors)
            ]
            start = [self.register(b, self.start + c, simd.INTS) for c in cells]
            start += [simd.same(simd.INTS, 0)] * (many - self.vectors)
            at = self.w + (block * self.groups + g) * self.steps * size
            sums = self.k_loop(
                b,
                self.steps,
                at,
                size,
                start,
                lambda k, place, sums, g=g: self._step(b, g, k, place, sums),
            )
            parts = [
                b.fmul(b.sitofp(s, simd.FLOATS), self.register(b, self.scale + c))
                for s, c in zip(_fold(b, sums, self.vectors, b.add), cells, strict=True)
            ]
            totals = parts if totals is None else list(map(b.fadd, totals, parts))
        return totals

    def _step(self, b, g, k, place, sums):
        sums, eight = list(sums), simd.same(simd.BYTES, 8)
        mask, four = simd.same(simd.INTS, 0x0F0F0F0F), simd.same(simd.INTS, 4)
        inputs = simd.after(b, self.buffer, g * self.stride)
        inputs = simd.after(b, inputs, b.mul(k, simd.index(self.unit)))
        for n in range(self.vectors * self.split):
            w = simd.load(b, simd.after(b, place, 4 * LANES * n), simd.INTS)
            halves = [w]
            if self.bits == 4:
                halves = [
                    b.sub(b.bitcast(b.and_(h, mask), simd.BYTES), eight)
                    for h in (w, b.lshr(w, four))
                ]
            for part, half in enumerate(halves):
                at = (n // self.vectors * len(halves) + part) * 4
                x = simd.splat(b, simd.load(b, simd.after(b, inputs, at), simd.I32), simd.INTS)
                sums[n] = simd.dot4(b, sums[n], x, half, self.small)
        return sums


class FewOutputs:
    """The last layer of few outputs: its sums grow as the inputs arrive, and need no memory.

    With a grid, inputs and weights are integers in float32, and so are their sums: exact below
    2**24, which `fits` asserts. weight (out, in), scale (out,) or None, bias (out,).
    """

    @staticmethod
    def fits(weight, grid=None):
        bound = 0 if grid is None else grid[2] * np.abs(weight.astype(np.int64)).sum(axis=1).max()
        return weight.shape[0] <= FEW and bound < 2**24

    def __init__(self, weight, scale, bias, grid, weights):
        self.n_out, self.n_in = weight.shape
        self.scale, self.bias, self.grid = scale, bias, grid
        self.width = -(-self.n_in // LANES) * LANES
        self.w = weights.add(_along(weight.astype(np.float32), 1, LANES))

    def open(self, b, base):
        self.base = base
        self.sums = [simd.same(simd.FLOATS, 0.0)] * self.n_out

    def take(self, b, column, values, positive):
        if self.grid is not None:
            values = _on_grid(b, values, self.grid, positive)
            values = simd.rint(b, values)
        for n in range(self.n_out):
            w = simd.after(b, self.base, self.w + 4 * (n * self.width + column))
            self.sums[n] = simd.fused(b, values, simd.load(b, w, simd.FLOATS), self.sums[n])

    def outputs(self, b):
        for n, total in enumerate(self.sums):
            total = simd.add_lanes(b, total, b.fadd)
            if self.scale is not None:
                total = b.fmul(total, ir.Constant(simd.F32, float(self.scale[n])))
            yield n, b.fadd(total, ir.Constant(simd.F32, float(self.bias[n])))


class BinaryLayer(_Layer):
    """words (out, ceil(in / 64)) uint64 and alpha (out,), inputs center + beta * sign."""

    in_memory = False  # signs are stored by 16 and read by 64, which would wait for the cache

    def __init__(self, words, alpha, offset, center, weights):
        super().__init__(center.size, alpha.size, 2)
        beyond = self.n_in % 64
        if beyond:  # bits beyond K are set on both sides, hence agree
            words = words.copy()
            words[:, -1] |= np.uint64((2**64 - 1) ^ (2**beyond - 1))
        packed = _columns(words, self.rows)
        self.nbytes, self.steps = packed.nbytes, words.shape[1]
        self.w, self.center = weights.add(packed), weights.add(_along(center, 0, LANES))
        self.alpha, self.bias = (weights.add(_along(a, 0, self.rows)) for a in (alpha, offset))

    def open(self, b, base):
        super().open(b, base, 8 * self.steps)
        for word in range(self.steps):
            simd.store(b, simd.index(-1), simd.after(b, self.buffer, 8 * word))
        self.distance, self.beta = simd.same(simd.FLOATS, 0.0), None

    def take(self, b, column, values, positive):
        d = b.fsub(values, self.register(b, self.center + 4 * column))
        signs = b.fcmp_ordered(">=", d, simd.same(simd.FLOATS, 0.0))
        simd.store(b, b.bitcast(signs, ir.IntType(LANES)), simd.after(b, self.buffer, column // 8))
        size = simd.call(b, f"llvm.fabs.v{LANES}f32", simd.FLOATS, d)
        self.distance = b.fadd(self.distance, size)

    def product(self, b, block):
        if self.beta is None:  # the mean distance from the center
            total = simd.add_lanes(b, self.distance, b.fadd)
            self.beta = simd.splat(b, b.fdiv(total, ir.Constant(simd.F32, self.n_in)), simd.FLOATS)
        words, half = simd.WORDS, ir.VectorType(simd.I32, LANES // 2)

        def word(k, place, sums):
            own = simd.load(b, simd.after(b, self.buffer, b.mul(k, simd.index(8))), simd.I64)
            own = simd.splat(b, own, words)
            return [
                b.add(
                    s,
                    simd.call(
                        b,
                        f"llvm.ctpop.v{words.count}i64",
                        words,
                        b.xor(own, simd.load(b, simd.after(b, place, 4 * LANES * n), words)),
                    ),
                )
                for n, s in enumerate(sums)
            ]

        size = 8 * self.rows
        zeros = [simd.same(words, 0)] * (2 * self.vectors)
        sums = self.k_loop(b, self.steps, self.w + block * self.steps * size, size, zeros, word)
        results = []
        for v in range(self.vectors):
            low, high = (b.trunc(s, half) for s in sums[2 * v : 2 * v + 2])
            twice = b.shl(simd.shuffle(b, low, high, range(LANES)), simd.same(simd.INTS, 1))
            agreements = b.sitofp(b.sub(simd.same(simd.INTS, self.n_in), twice), simd.FLOATS)
            column = block * self.rows + v * LANES
            alpha = self.register(b, self.alpha + 4 * column)
            results.append(b.fmul(agreements, b.fmul(self.beta, alpha)))
        return results


def _some(b, place, n):
    # n <= LANES floats, the other lanes 0, and not one byte read behind them
    if n == LANES:
        return simd.load(b, place, simd.FLOATS)
    values, at = simd.same(simd.FLOATS, 0.0), 0
    for size in (8, 4, 2, 1):
        if n & size:
            part = simd.load(b, simd.after(b, place, 4 * at), ir.VectorType(simd.F32, size))
            wide = simd.shuffle(
                b, part, simd.same(part.type, 0.0), [min(i, size) for i in range(LANES)]
            )
            lanes = [LANES + i - at if at <= i < at + size else i for i in range(LANES)]
            values, at = simd.shuffle(b, values, wide, lanes), at + size
    return values


def _forward(layers, n_in, n_out, address, samples=1):
    """The logits of `samples` samples side by side: one waits for its sums, another computes."""
    stacks = [[copy(layer) for layer in layers] for _ in range(samples)]

    @intrinsic
    def forward(typingctx, x, at, out, out_at):
        """Samples at x[at:], one after the other; logits to out[out_at:], but the only logit of
        a single sample is returned.
        """

        def emit(context, b, signature, args):
            kinds = signature.args
            px, po = (
                simd.data(context, b, kinds[n], args[n], b.mul(args[n + 1], simd.index(4)))
                for n in (0, 2)
            )
            base = simd.fresh(b, simd.index(address).inttoptr(simd.I8.as_pointer()))
            for s, stack in enumerate(stacks):
                for layer in stack:
                    layer.open(b, base)
                for column in range(0, n_in, LANES):
                    place = simd.after(b, px, 4 * (s * n_in + column))
                    stack[0].take(b, column, _some(b, place, min(LANES, n_in - column)), False)
            for depth in range(1, len(layers)):
                for stack in stacks:
                    for column, values in stack[depth - 1].outputs(b):
                        values = simd.larger(b, values, simd.same(simd.FLOATS, 0.0))  # the ReLU
                        stack[depth].take(b, column, values, True)
            for s, stack in enumerate(stacks):
                for column, values in stack[-1].outputs(b):
                    place = simd.after(b, po, 4 * (s * n_out + column))
                    if values.type != simd.F32 and n_out == 1:
                        values = b.extract_element(values, ir.Constant(simd.I32, 0))
                    if values.type != simd.F32:
                        simd.store_first(b, values, place, simd.index(n_out - column))
                    elif n_out > 1 or samples > 1:
                        simd.store(b, values, place)
            return values if n_out == 1 else ir.Constant(simd.F32, 0.0)

        return types.float32(x, types.intp, out, types.intp), emit

    return forward


def network(layers, weights):
    """Logits of one sample (n_in,), and of rows (n, n_in) with n > 1: two compiled functions."""
    n_in, n_out, block = layers[0].n_in, layers[-1].n_out, weights.block()
    forward, pair = (_forward(layers, n_in, n_out, block.ctypes.data, s) for s in (1, 2))
    message = f"compiled model: x is not float32 of shape ({n_in},)"

    def one_logit(x):
        if x.size != n_in:
            raise ValueError(message)
        return forward(x, 0, x, 0)

    def logits(x):
        if x.size != n_in:
            raise ValueError(message)
        out = np.empty(n_out, np.float32)
        forward(x, 0, out, 0)
        return out

    def rows(x):
        if x.shape[1] != n_in:
            raise ValueError(message)
        out = np.empty((x.shape[0], n_out), np.float32)
        for i in range(0, x.shape[0], 2):
            i = min(i, x.shape[0] - 2)  # the last pair may overlap the one before
            pair(x, i * n_in, out, i * n_out)
        return out

    vector, matrix = types.float32[::1], types.float32[:, ::1]
    one = njit(types.float32(vector))(one_logit) if n_out == 1 else njit(vector(vector))(logits)
    many = njit(matrix(matrix))(rows)
    one.weights = many.weights = block  # each keeps alive what its code points to
    return one, many
