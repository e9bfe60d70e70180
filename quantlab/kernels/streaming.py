"""Quantize, dequantize, fake-quantize and measure at the speed of memory; bits as in `reference`.

A row with one scale runs through registers of LANES values; the last of them overlaps the one
before, where the same values give the same codes once more:

    x   |-- LANES --|-- LANES --|-- ... --|
                                    |-- LANES --|
    out |-- codes --|-- codes --|-- ... --|-- --|

The division is x * (1 / scale) and one step of Newton's method in fused multiply-adds, which
returns the correctly rounded quotient (Markstein 1990), so ties fall alike:

    q = x * inverse;  q = q + inverse * (x - q * scale)

A shorter row, a scale for each column, and a scale without an ordinary inverse are divided.
Signed codes are the unsigned ones of a grid moved by `flip` = 128 (or 32768), with the highest
bit turned: one kernel for both. An output larger than the last cache is written past the caches.
"""

import os
from functools import partial

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from quantlab.kernels import simd
from quantlab.kernels.elementwise import row_of, sums_divided

LANES, WHOLE = simd.LANES, 64  # WHOLE values of any kind of output fill whole registers
LONG = 256  # values from which a row is worth aligning: every store then meets one cache line
_SIZES = getattr(os, "sysconf_names", {})
LAST_CACHE = os.sysconf("SC_LEVEL3_CACHE_SIZE") if "SC_LEVEL3_CACHE_SIZE" in _SIZES else 0
# Bytes read and written from which an output is streamed: beyond the last cache, of which a guest
# on a large server is told the size, but has only a share
FAR = min(max(LAST_CACHE, 2**24), 2**26)
AHEAD = 8192  # bytes between the values in use and those asked for
BLOCK = 2048  # values whose squares are added in float32
# Between these, 1 / scale is a normal number and no remainder of a division underflows.
SMALL, LARGE = np.float32(2.0**-60), np.float32(2.0**60)

_jit = njit(cache=True, error_model="numpy")


# One register. low, high: ends of the grid minus the zero point, in steps


def _quotient(b, x, scale, low, high):
    """x / scale between low and high, not yet rounded; low None: without that end."""
    inverse = b.fdiv(ir.Constant(simd.F32, 1.0), scale)
    s, inverse = (simd.splat(b, v, simd.FLOATS) for v in (scale, inverse))
    if low is not None:  # beyond the end is the end, exactly
        x = simd.larger(b, x, simd.splat(b, b.fmul(low, scale), simd.FLOATS))
    x = simd.smaller(b, x, simd.splat(b, b.fmul(high, scale), simd.FLOATS))
    q = b.fmul(x, inverse)
    return simd.fused(b, simd.fused(b, b.fneg(q), s, x), inverse, q)


def _on_grid(b, xs, scale, zero, low, high, flip, kind):
    """Codes, or for an output of float32 their values."""
    if kind == simd.F32:
        steps = simd.nearest(b, _quotient(b, *xs, scale, low, high))  # as integers: 0 has no sign
        return b.fmul(b.sitofp(steps, simd.FLOATS), simd.splat(b, scale, simd.FLOATS))
    if len(xs) < 4:
        steps = [simd.nearest(b, _quotient(b, x, scale, low, high)) for x in xs]
        codes = [b.add(n, simd.splat(b, zero, simd.INTS)) for n in steps]
        return simd.join(b, [b.trunc(c, ir.VectorType(kind, LANES)) for c in codes])
    # four registers into bytes; far below the grid `nearest` gives the least integer there is, and
    # packing saturates it: the lower end needs no care before
    steps = [simd.nearest(b, _quotient(b, x, scale, None, high)) for x in xs]
    zero = b.add(zero, flip)
    flip = simd.splat(b, b.trunc(flip, simd.I8), simd.BYTES)
    ends = [b.trunc(b.add(b.fptosi(end, simd.I32), zero), simd.I8) for end in (low, high)]
    return b.xor(simd.to_bytes(b, steps, zero, ends), flip)


def _dequantized(b, codes, scale, zero, low, high, flip, kind):
    zero, flip = (simd.splat(b, v, simd.INTS) for v in (b.add(zero, flip), flip))
    steps = b.sub(b.xor(*codes, flip), zero)
    return b.fmul(b.sitofp(steps, simd.FLOATS), simd.splat(b, scale, simd.FLOATS))


def _step(work, many=False, past=False):
    """An intrinsic: out[at:] = work(x[at:]) for LANES values; returns how many.

    many: for as many as fill a register of `out`. past: that register begins at a multiple of its
    size, and is written past the caches.
    """

    @intrinsic
    def step(typingctx, x, at, scale, zero, low, high, flip, out):
        def emit(context, b, signature, args):
            types_of = [signature.args[n].dtype for n in (0, 7)]
            size_in, size_out = (t.bitwidth // 8 for t in types_of)
            kind_in, kind_out = (context.get_data_type(t) for t in types_of)
            begin, to = (
                simd.data(context, b, signature.args[n], args[n], b.mul(args[1], simd.index(size)))
                for n, size in ((0, size_in), (7, size_out))
            )
            values = []
            for part in range(4 // size_out if many else 1):
                place = simd.after(b, begin, part * LANES * size_in)
                if past:
                    simd.prefetch(b, simd.after(b, place, AHEAD))
                value = simd.load(b, place, ir.VectorType(kind_in, LANES))
                values.append(value if kind_in == simd.F32 else b.zext(value, simd.INTS))
            simd.store(b, work(b, values, *args[2:7], kind_out), to, past)
            return simd.index(LANES * len(values))

        f, i = types.float32, types.int32
        return types.intp(x, types.intp, f, i, f, f, i, out), emit

    return step


_grid_one, _grid_many = _step(_on_grid), _step(_on_grid, many=True)
_grid_past = _step(_on_grid, many=True, past=True)
_dequantize_one = _step(_dequantized)
_dequantize_past = _step(_dequantized, many=True, past=True)


# All rows: data (A, B, C), scales (A or 1, B or 1, C or 1)

# The same bytes as unsigned integers, and flip: 0, or for signed codes the highest bit
_UNSIGNED = {
    np.dtype(f"{sign}{size}"): (np.dtype(f"u{size}"), np.int32(flip))
    for size in (1, 2)
    for sign, flip in (("u", 0), ("i", 2 ** (8 * size - 1)))
}


def quantize(x, scale, zero_point, qmin, qmax, out):
    unsigned, flip = _UNSIGNED[out.dtype]
    _to_grid(x, scale, zero_point, qmin, qmax, flip, False, out.view(unsigned))
    return out


def fake_quantize(x, scale, zero_point, qmin, qmax, out):
    _to_grid(x, scale, zero_point, qmin, qmax, np.int32(0), True, out)
    return out


@_jit
def _to_grid(values, scale, zero_point, qmin, qmax, flip, fake, results):
    # values (A, B, C) float32 -> codes, or if fake the values of the codes
    low, high, far = np.float32(qmin), np.float32(qmax), values.nbytes + results.nbytes > FAR
    for a in range(values.shape[0]):
        for b in range(values.shape[1]):
            s, z = row_of(scale, a, b), row_of(zero_point, a, b)
            x, out, i = values[a, b], results[a, b], 0
            if s.size > 1 or x.size < LANES or not SMALL < s[0] < LARGE:
                own = 1 if s.size > 1 else 0
                for i in range(x.size):
                    zero = np.float32(z[own * i])
                    code = min(max(np.rint(x[i] / s[own * i]) + zero, low), high)
                    if fake:
                        out[i] = (code - zero) * s[own * i]
                    else:
                        out[i] = np.int32(code)
                continue
            grid = s[0], z[0], low - np.float32(z[0]), high - np.float32(z[0]), flip
            if x.size >= LONG:
                for i in range(0, WHOLE, LANES):
                    _grid_one(x, i, *grid, out)
                i = simd.to_register(out)
                while far and i + WHOLE <= x.size:
                    i += _grid_past(x, i, *grid, out)
            while i + WHOLE <= x.size:
                i += _grid_many(x, i, *grid, out)
            while i + LANES <= x.size:
                i += _grid_one(x, i, *grid, out)
            _grid_one(x, x.size - LANES, *grid, out)


def dequantize(codes, scale, zero_point, out):
    unsigned, flip = _UNSIGNED[codes.dtype]
    _dequantize(codes.view(unsigned), scale, zero_point, flip, out)
    return out


@_jit
def _dequantize(codes, scale, zero_point, flip, values):
    no, far = np.float32(0), codes.nbytes + values.nbytes > FAR
    for a in range(codes.shape[0]):
        for b in range(codes.shape[1]):
            s, z = row_of(scale, a, b), row_of(zero_point, a, b)
            q, out, i = codes[a, b], values[a, b], 0
            if s.size > 1 or q.size < LANES:
                own = 1 if s.size > 1 else 0
                for i in range(q.size):
                    steps = np.int32((np.int32(q[i]) ^ flip) - flip - z[own * i])
                    out[i] = np.float32(steps) * s[own * i]
                continue
            if q.size >= LONG:
                _dequantize_one(q, 0, s[0], z[0], no, no, flip, out)
                i = simd.to_register(out)
                while far and i + LANES <= q.size:
                    i += _dequantize_past(q, i, s[0], z[0], no, no, flip, out)
            while i + LANES <= q.size:
                i += _dequantize_one(q, i, s[0], z[0], no, no, flip, out)
            _dequantize_one(q, q.size - LANES, s[0], z[0], no, no, flip, out)


# Sums without an output


@intrinsic
def _sums(typingctx, x, at, registers, scale, low, high):
    """Sums of (x - fake_quantize(x))^2 and x^2, and how many saturate, at most 2**24."""

    def emit(context, b, signature, args):
        begin = simd.data(context, b, signature.args[0], args[0], b.mul(args[1], simd.index(4)))
        scale, one = args[3], ir.Constant(simd.F32, 1.0)
        s, low, high = (simd.splat(b, v, simd.FLOATS) for v in args[3:])
        # clipped one step beyond the ends, to see who would pass them
        beyond = b.fsub(args[4], one), b.fadd(args[5], one)

        def register(k, state):
            place = simd.after(b, begin, b.mul(k, simd.index(4 * LANES)))
            simd.prefetch(b, simd.after(b, place, AHEAD))
            x = simd.load(b, place, simd.FLOATS)
            wanted = simd.nearest(b, _quotient(b, x, scale, *beyond))
            wanted = b.sitofp(wanted, simd.FLOATS)
            steps = simd.smaller(b, simd.larger(b, wanted, low), high)
            passed = b.fsub(wanted, steps)  # -1, 0 or 1
            error = simd.fused(b, b.fneg(steps), s, x)
            return [
                simd.fused(b, v, v, total)
                for v, total in zip((error, x, passed), state, strict=True)
            ]

        sums = simd.loop(b, args[2], [simd.same(simd.FLOATS, 0.0)] * 3, register)
        totals = [simd.add_lanes(b, v, b.fadd) for v in sums]
        return context.make_tuple(b, signature.return_type, totals)

    f, n = types.float32, types.intp
    return types.UniTuple(f, 3)(x, n, n, f, f, f), emit


@_jit
def measure(x, scale, zero_point, qmin, qmax):
    low, high = np.float32(qmin), np.float32(qmax)
    noise, power, beyond = 0.0, 0.0, 0
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            s, z, row, done = row_of(scale, a, b), row_of(zero_point, a, b), x[a, b], 0
            if s.size == 1 and SMALL < s[0] < LARGE:
                zero, done = np.float32(z[0]), row.size // LANES * LANES
            for i in range(0, row.size, BLOCK):
                if i < done:
                    registers = min(BLOCK, done - i) // LANES
                    e, p, n = _sums(row, i, registers, s[0], low - zero, high - zero)
                    noise, power, beyond = noise + e, power + p, beyond + np.int64(n)
                if i + BLOCK > done:
                    rest = slice(max(i, done), i + BLOCK)
                    if s.size > 1:
                        s, z = row_of(scale, a, b)[rest], row_of(zero_point, a, b)[rest]
                    e, p, n = sums_divided(row[rest], s, z, low, high)
                    noise, power, beyond = noise + e, power + p, beyond + n
    return noise, power, beyond


@intrinsic
def _ends(typingctx, x, registers):
    """Smallest and largest of the first registers of x (n,), at least one."""

    def emit(context, b, signature, args):
        begin = simd.data(context, b, signature.args[0], args[0])

        def four(k, state):
            for part, (low, high) in enumerate(zip(state[::2], state[1::2], strict=True)):
                place = simd.after(b, begin, b.mul(k, simd.index(16 * LANES)))
                v = simd.load(b, simd.after(b, place, 4 * LANES * part), simd.FLOATS)
                yield simd.smaller(b, low, v)
                yield simd.larger(b, high, v)

        first = simd.load(b, begin, simd.FLOATS)
        ends = simd.loop(b, b.lshr(args[1], simd.index(2)), [first] * 8, four)
        results = []
        for choose, ends_of in ((simd.smaller, ends[::2]), (simd.larger, ends[1::2])):
            pairs = [choose(b, *ends_of[:2]), choose(b, *ends_of[2:])]
            results.append(simd.add_lanes(b, choose(b, *pairs), partial(choose, b)))
        return context.make_tuple(b, signature.return_type, results)

    return types.UniTuple(types.float32, 2)(x, types.intp), emit


@_jit
def minmax(x):
    # x (n,) float32, no NaN
    low = high = x[0]
    registers = x.size // LANES
    if registers:
        low, high = _ends(x, registers)
    for i in range(registers // 4 * 4 * LANES, x.size):
        low, high = min(low, x[i]), max(high, x[i])
    return low, high
