"""One bit a weight: the sign, one scale a channel, and a product of XOR and popcount.

Taught in chapter 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantlab import _checks, kernels


@dataclass(frozen=True, eq=False)
class BinaryTensor:
    """Signs packed into 64-bit words, and one magnitude for each channel.

    `words` (channels, ceil(K / 64)) uint64: bit k % 64 of word k // 64 is set where the sign is
    +1; the bits beyond K are 0. `alpha` (channels,) float32. `shape` is that of the matrix,
    `axis` the one of its channels; K is the length of the other. Made by `binarize`.
    Raises ValueError for parts that do not belong together. Taught in chapter 8.

    >>> b = binarize([[0.5, -1.5], [0.0, 2.0]])
    >>> b.words.tolist(), b.alpha.tolist(), b.dequantize().tolist()
    ([[1], [3]], [1.0, 1.0], [[1.0, -1.0], [1.0, 1.0]])
    """

    words: np.ndarray
    alpha: np.ndarray
    shape: tuple[int, int]
    axis: int = 0

    def __post_init__(self) -> None:
        me, set_ = "BinaryTensor", object.__setattr__
        set_(self, "axis", _checks.integer(self.axis, me, "axis", 0, 1))
        set_(self, "shape", _checks.shape(self.shape, me))
        if len(self.shape) != 2:
            raise ValueError(f"{me}: shape is {self.shape}; expected that of a matrix")
        _checks.typed_array(self.words, np.uint64, me, "words")
        _checks.typed_array(self.alpha, np.float32, me, "alpha")
        channels, k = self.shape[self.axis], self.k
        need = (channels, -(-k // 64))
        if self.words.shape != need:
            raise ValueError(
                f"BinaryTensor: words is {self.words.dtype} {self.words.shape}; shape "
                f"{self.shape} with channels along axis {self.axis} needs uint64 "
                f"{need}"
            )
        if self.alpha.shape != (channels,):
            raise ValueError(
                f"BinaryTensor: alpha is {self.alpha.dtype} {self.alpha.shape}; "
                f"expected float32 ({channels},)"
            )
        if k % 64 and (self.words[:, -1] >> np.uint64(k % 64)).any():
            raise ValueError(
                f"BinaryTensor: bits beyond K = {k} are set in the last words; "
                "they must be 0, or they would count as disagreements"
            )

    @property
    def k(self) -> int:
        """Number of signs in one channel, the K of the product."""
        return self.shape[1 - self.axis]

    @property
    def nbytes(self) -> int:
        """Stored bytes: whole words and one float32 for each channel."""
        return self.words.nbytes + self.alpha.nbytes

    @property
    def signs(self) -> np.ndarray:
        """-1 and +1 as int8, in the shape of the matrix."""
        octets = np.ascontiguousarray(self.words, "<u8").view(np.uint8)
        bits = np.unpackbits(octets, axis=1, count=self.k, bitorder="little")
        signs = 2 * bits.astype(np.int8) - 1
        return signs if self.axis == 0 else signs.T

    def dequantize(self) -> npt.NDArray[np.float32]:
        """alpha * sign, float32, in the shape of the matrix."""
        return self.signs * (self.alpha[:, None] if self.axis == 0 else self.alpha)

    def __repr__(self) -> str:
        return f"BinaryTensor(shape={self.shape}, axis={self.axis}, {self.nbytes} bytes)"


def binarize(w: npt.ArrayLike, axis: int = 0) -> BinaryTensor:
    """sign(w) with sign(0) = +1, and alpha = mean abs(w) for each channel along `axis`.

    w: real matrix; weights (out, in) and inputs (rows, in) both take axis=0, and are packed along
    the other. This alpha and these signs minimize the squared error of w - alpha * sign.
    A channel of zeros gets alpha 0. Raises ValueError for bad data or another rank.
    Source: arXiv 1603.05279, equation 6. Taught in chapter 8.

    >>> b = binarize([[3.0, -1.0, 2.0]])
    >>> b.alpha.tolist(), b.signs.tolist(), b.nbytes
    ([2.0], [[1, -1, 1]], 12)
    """
    w = _checks.float32_array(w, "binarize", "w")
    if w.ndim != 2:
        raise ValueError(
            f"binarize: w has shape {w.shape}; expected a matrix, a single row is w[None, :]"
        )
    axis = _checks.normalize_axis(axis, 2, "binarize")
    rows = np.ascontiguousarray(w if axis == 0 else w.T)
    alpha = np.abs(rows).mean(axis=1, dtype=np.float64).astype(np.float32)
    return BinaryTensor(kernels.pack_signs(rows), alpha, w.shape, axis)


def xnor_matmul(a: BinaryTensor, b: BinaryTensor) -> npt.NDArray[np.int32]:
    """The product of the signs: a (M, K) times b (N, K) transposed, (M, N) int32, exact.

    Both are packed along K, whatever K is: rows of inputs and rows of weights (out, in), as in
    x @ w.T. Each entry is K - 2 popcount(a xor b). The magnitudes stay outside:
    a.dequantize() @ b.dequantize().T is about alpha_a[:, None] * result * alpha_b.
    Raises ValueError for other types and unequal K.
    Source: arXiv 1603.05279, section 3.2. Taught in chapter 8.

    >>> xnor_matmul(binarize([[1.0, -2.0, 3.0]]), binarize([[1, 1, 1], [-1, 1, -1]])).tolist()
    [[1, -3]]
    """
    for tensor, name in ((a, "a"), (b, "b")):
        if not isinstance(tensor, BinaryTensor):
            raise ValueError(
                f"xnor_matmul: {name} is {type(tensor).__name__}; expected a "
                "BinaryTensor: binarize it first"
            )
    if a.k != b.k:
        raise ValueError(
            f"xnor_matmul: a has K = {a.k}, b has K = {b.k} (shapes {a.shape} and "
            f"{b.shape}); expected equal K: both are packed along it"
        )
    return kernels.xnor_matmul(a.words, b.words, a.k)
