"""The few instructions that Numba cannot spell, as building blocks for the tiles of this package.

A kernel with intrinsics exists once, for registers of LANES 32-bit numbers: 16 with AVX-512, 8
with AVX2. Numba files its cache under the CPU features, so the two never meet. Numba compiles
for one set of features per process; WIDE is read from it, hence no instruction is emitted that
LLVM does not know here, which would abort the process.

The functions below write LLVM IR: `b` is the builder, everything else are IR values.
"""

import llvmlite.ir as ir
import numpy as np
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.np.arrayobj import make_array

from quantlab.kernels.paths import compiled_features, path

path()  # chosen first: it may hide features from Numba
WIDE = {"avx512f", "avx512bw", "avx512vl", "avx512vnni"} <= compiled_features()
LANES = 16 if WIDE else 8
VNNI = WIDE or "avxvnni" in compiled_features()  # four products of bytes in one instruction

I8, I16, I32, I64, F32 = *(ir.IntType(n) for n in (8, 16, 32, 64)), ir.FloatType()
BYTES, SHORTS = ir.VectorType(I8, 4 * LANES), ir.VectorType(I16, 2 * LANES)
OCTETS = ir.VectorType(I8, LANES)
INTS, FLOATS = ir.VectorType(I32, LANES), ir.VectorType(F32, LANES)


def aligned(array):
    """A copy that begins with a whole cache line, else every load of a register touches two."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    out = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def index(n):
    return ir.Constant(I64, n)


def same(vector, value):
    """A constant register with one value in all lanes."""
    return ir.Constant(vector, [value] * vector.count)


def splat(b, scalar, vector):
    """One scalar in all lanes."""
    nothing = ir.Constant(vector, ir.Undefined)
    first = b.insert_element(nothing, scalar, ir.Constant(I32, 0))
    return b.shuffle_vector(first, nothing, same(ir.VectorType(I32, vector.count), 0))


def call(b, name, result, *args):
    """Call an LLVM intrinsic by its name."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), args)


def data(context, b, array_type, array, at=None):
    """Pointer to byte `at` of the data of an array, which lies in one piece."""
    if array_type.layout != "C":
        raise TypingError(f"a kernel got {array_type}: make it contiguous first")
    start = b.bitcast(make_array(array_type)(context, b, array).data, I8.as_pointer())
    return start if at is None else b.gep(start, [at])


def after(b, pointer, n):
    """The pointer n bytes on; n is a Python int or an IR value."""
    return b.gep(pointer, [index(n) if isinstance(n, int) else n])


def load(b, pointer, kind):
    return b.load(b.bitcast(pointer, kind.as_pointer()), align=1)


def store(b, value, pointer):
    b.store(value, b.bitcast(pointer, value.type.as_pointer()), align=1)


def load_first(b, pointer, count):
    """LANES floats, of which only the first `count` are read and the others are 0."""
    mask = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [n < count for n in range(LANES)])
    name, place = f"llvm.masked.load.v{LANES}f32.p0", b.bitcast(pointer, FLOATS.as_pointer())
    return call(b, name, FLOATS, place, ir.Constant(I32, 4), mask, same(FLOATS, 0.0))


def store_first(b, value, pointer, count):
    """Store the first `count` lanes of 32 bits, none where it is negative, all where it is more."""
    many = ir.VectorType(I32, value.type.count)
    lanes = ir.Constant(many, list(range(value.type.count)))
    mask = b.icmp_signed("<", lanes, splat(b, b.trunc(count, I32), many))
    name = f"llvm.masked.store.v{value.type.count}{'f' if value.type == FLOATS else 'i'}32.p0"
    place = b.bitcast(pointer, value.type.as_pointer())
    call(b, name, ir.VoidType(), value, place, ir.Constant(I32, 4), mask)


def fresh(b, pointer):
    """The same pointer, of which LLVM knows nothing: what is read through it stays in memory.

    Constants would be loaded ahead of a loop, find no register, and wait on an unaligned stack.
    """
    kind = ir.FunctionType(pointer.type, [pointer.type])
    return b.asm(kind, "", "=r,0,~{memory}", [pointer], True)


def prefetch(b, pointer, write=False, near=False):
    """Ask for a cache line that will be read (into the second level, or near) or written soon."""
    how = [ir.Constant(I32, n) for n in (int(write), 3 if write or near else 2, 1)]
    call(b, "llvm.prefetch.p0", ir.VoidType(), pointer, *how)


def loop(b, count, state, body):
    """state = body(k, state) for k in range(count); IR values stay in registers."""
    before = b.block
    head, inside, done = (b.append_basic_block(name) for name in ("head", "inside", "done"))
    b.branch(head)
    b.position_at_end(head)
    k = b.phi(I64)
    now = [b.phi(value.type) for value in state]
    b.cbranch(b.icmp_signed("<", k, count), inside, done)
    b.position_at_end(inside)
    following = [b.add(k, index(1)), *body(k, now)]
    b.branch(head)
    for phi, first, then in zip([k, *now], [index(0), *state], following, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(then, b.block)
    b.position_at_end(done)
    return now


def choose(b, which, cases):
    """Run cases[which](), a list of Python functions that emit code; 0 <= which < len(cases)."""
    done = b.append_basic_block("chosen")
    blocks = [b.append_basic_block("case") for _ in cases]
    table = b.switch(which, blocks[-1])
    for number, (block, emit) in enumerate(zip(blocks, cases, strict=True)):
        if number < len(cases) - 1:
            table.add_case(index(number), block)
        b.position_at_end(block)
        emit()
        b.branch(done)
    b.position_at_end(done)


def dot4(b, total, unsigned, signed, small=False):
    """total (LANES int32) + sums of four products, unsigned bytes times signed bytes, exact.

    VNNI does it in one instruction, of 512 or 256 bits. AVX2 alone multiplies bytes in pairs and
    saturates the pair at 16 bits: exact where the unsigned bytes stay below 128 (`small`), else
    even and odd bytes are widened first.
    """
    unsigned, signed = b.bitcast(unsigned, INTS), b.bitcast(signed, INTS)
    if VNNI:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * LANES}"
        return call(b, name, INTS, total, unsigned, signed)
    if small:
        pairs = call(
            b,
            "llvm.x86.avx2.pmadd.ub.sw",
            SHORTS,
            b.bitcast(unsigned, BYTES),
            b.bitcast(signed, BYTES),
        )
        return b.add(total, _add_pairs(b, pairs, same(SHORTS, 1)))
    u, s = b.bitcast(unsigned, SHORTS), b.bitcast(signed, SHORTS)
    eight = same(SHORTS, 8)
    even = _add_pairs(b, b.and_(u, same(SHORTS, 255)), b.ashr(b.shl(s, eight), eight))
    odd = _add_pairs(b, b.lshr(u, eight), b.ashr(s, eight))
    return b.add(total, b.add(even, odd))


def _add_pairs(b, x, y):
    return call(b, "llvm.x86.avx2.pmadd.wd", INTS, x, y)


def store_tile(b, rows, row_step, pointer, left):
    """Rows of registers of 32-bit numbers, row_step bytes apart; of each the first `left` lanes."""

    def each(write):
        for r, row in enumerate(rows):
            for v, value in enumerate(row):
                lane = v * value.type.count
                place = after(b, pointer, b.add(b.mul(row_step, index(r)), index(4 * lane)))
                write(value, place, lane)

    narrow = b.icmp_signed("<", left, index(len(rows[0]) * rows[0][0].type.count))
    choose(
        b,
        b.zext(narrow, I64),
        [
            lambda: each(lambda value, place, lane: store(b, value, place)),
            lambda: each(
                lambda value, place, lane: store_first(b, value, place, b.sub(left, index(lane)))
            ),
        ],
    )


def permuted(b, table, lanes):
    """The floats of a table of 16, in one register or two, at the places that `lanes` say."""
    if WIDE:
        return call(b, "llvm.x86.avx512.permvar.sf.512", FLOATS, *table, lanes)
    low, high = (call(b, "llvm.x86.avx2.permps", FLOATS, half, lanes) for half in table)
    return b.select(b.icmp_signed(">", lanes, same(INTS, 7)), high, low)


def popcount(b, ints):
    """How many bits are set, in each lane."""
    return call(b, f"llvm.ctpop.v{LANES}i32", INTS, ints)


def nearest(b, floats):
    """int32 from float32, ties to even, -2**31 for what does not fit, in one instruction."""
    if WIDE:
        rest = same(INTS, 0), ir.Constant(I16, -1), ir.Constant(I32, 4)  # all lanes, usual rounding
        return call(b, "llvm.x86.avx512.mask.cvtps2dq.512", INTS, floats, *rest)
    return call(b, "llvm.x86.avx.cvt.ps2dq.256", INTS, floats)


def fused(b, x, y, z):
    """x * y + z in float32 with one rounding."""
    return call(b, f"llvm.fma.v{x.type.count}f32", x.type, x, y, z)


def larger(b, x, y):
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def smaller(b, x, y):
    return b.select(b.fcmp_ordered("<", x, y), x, y)
