"""Floor 1: hot loops on plain arrays. Here, and only here, the path is chosen.

    reference   NumPy: the definition
    numba       plain loops, compiled: any CPU
    avx2        as numba, and products on vector instructions of 256 bits
    avx512      the same of 512 bits, with VNNI

All give the same integers. The choice falls when this package is first imported, by what the CPU
and Numba's own settings allow; QUANTLAB_KERNELS=reference, numba, avx2 or avx512 forces it.
"""

# ruff: noqa: F401 - the names are for the rooms above

from __future__ import annotations

import numpy as np

from quantlab.kernels.paths import available, path
from quantlab.kernels.reference import pack_signs, quantize_binary  # fast enough in NumPy

if path() == "reference":
    from quantlab.kernels.reference import (
        bin_sums,
        dequantize,
        fake_quantize,
        grouped_matmul,
        inside,
        integer_matmul,
        kmeans_cuts,
        lookup,
        measure,
        minmax,
        nearest_level,
        pack,
        pack_weights,
        quantize,
        requantize,
        unpack,
        xnor_matmul,
    )
else:
    from quantlab.kernels.clusters import bin_sums, kmeans_cuts
    from quantlab.kernels.elementwise import (
        dequantize,
        fake_quantize,
        inside,
        measure,
        minmax,
        nearest_level,
        quantize,
    )
    from quantlab.kernels.matmul import requantize
    from quantlab.kernels.packing import pack, unpack

    if path() == "numba":
        from quantlab.kernels.elementwise import lookup
        from quantlab.kernels.matmul import (
            grouped_matmul,
            integer_matmul,
            pack_weights,
            xnor_matmul,
        )
    else:
        from quantlab.kernels.vector.gemm import (
            grouped_matmul,
            integer_matmul,
            pack_weights,
            xnor_matmul,
        )
        from quantlab.kernels.vector.levels import lookup


def warm() -> None:
    """Compile every kernel for the usual types, so that the first real call does not wait.

    Numba keeps the machine code in its cache on disk (NUMBA_CACHE_DIR): a new process loads it in
    a tenth of the time. Taught in chapter 12.
    """
    x = np.ones((1, 1, 8), np.float32)
    one, zero = np.ones((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.int32)
    one.flags.writeable = zero.flags.writeable = False  # as in QuantizationParams: another type
    for codes in (np.zeros(x.shape, np.int8), np.zeros(x.shape, np.uint8)):
        low = -128 if codes.dtype == np.int8 else 0
        quantize(x, one, zero, low, low + 255, codes)
        dequantize(codes, one, zero, x.copy())
        unpack(pack(codes.reshape(-1), 4), 4, low < 0, codes.reshape(-1))
    fake_quantize(x, one, zero, -128, 127, x.copy())
    measure(x, one, zero, -128, 127)
    minmax(x[0, 0])
    inside(x, one, zero, -128, 127, np.zeros(x.shape, bool))
    inputs, scale = np.zeros((1, 8), np.uint8), np.ones((1, 2), np.float32)
    for weights in (np.full((8, 2), 99, np.int8), np.zeros((8, 2), np.int8)):  # 8 and 4 bits
        for w in (weights, np.asfortranarray(weights), pack_weights(weights)):
            integer_matmul(inputs, w, 0, np.zeros(2, np.int32))
        grouped_matmul(inputs, pack_weights(weights, 1), scale, 0)
    words = pack_signs(x[0])
    xnor_matmul(words, words, 8)
    few, wide = np.zeros(4), np.ones(1, np.int64)
    requantize(np.zeros((1, 1), np.int32), wide, wide, 0, 0, 127, np.zeros((1, 1), np.int8))
    nearest_level(x, one, few[:1].astype(np.float32), np.zeros(x.shape, np.uint8))
    lookup(np.zeros(x.shape, np.uint8), one, few.astype(np.float32), x.copy())
    bin_sums(x[0, 0], 0.0, 1.0, few.astype(np.int64), few)
    kmeans_cuts(np.arange(4.0), few, few, 2)
