"""Numba twins of the bitstream: a small buffer of bits that fills and drains by bytes."""

import numpy as np

from quantlab.kernels.paths import jit


def pack(codes, bits):
    # codes (n,) integers -> (ceil(n * bits / 8),) uint8; first code in the lowest bits
    out = np.empty((codes.size * bits + 7) // 8, np.uint8)
    _pack(codes.view(f"u{codes.itemsize}"), bits, out)  # one sign, one compilation
    return out


@jit
def _pack(codes, bits, out):
    mask = np.int64((1 << bits) - 1)
    pending, held, at = np.int64(0), 0, 0
    for i in range(codes.size):
        pending |= (np.int64(codes[i]) & mask) << held
        held += bits
        while held >= 8:
            out[at] = pending & 255
            pending >>= 8
            held -= 8
            at += 1
    if held:
        out[at] = pending & 255


def unpack(buffer, bits, signed, out):
    # buffer (ceil(n * bits / 8),) uint8 -> out (n,) codes; two's complement if signed
    _unpack(buffer, bits, signed, out.view(f"u{out.itemsize}"))
    return out


@jit
def _unpack(buffer, bits, signed, out):
    mask = np.int64((1 << bits) - 1)
    sign = np.int64(1 << (bits - 1)) if signed else np.int64(0)
    pending, held, at = np.int64(0), 0, 0
    for i in range(out.size):
        while held < bits:
            pending |= np.int64(buffer[at]) << held
            held += 8
            at += 1
        code = pending & mask
        out[i] = (code ^ sign) - sign
        pending >>= bits
        held -= bits
