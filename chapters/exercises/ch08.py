"""Exercises of chapter 8, binary."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

F32 = np.float32
RNG = np.random.default_rng(8)
ROWS = RNG.standard_normal((4, 70)).astype(F32)
ROWS[:, ::9] = 0.0  # zeros, as pruning and ReLUs leave them
PACKS = ((ROWS,), (ROWS[:, :64],), (ROWS[:1, :5],), (np.repeat(ROWS, 2, axis=1),))


@exercise("08-pack", *PACKS)
def pack(x):
    """Bit k % 64 of word k // 64 is set where x >= 0; padding bits are 0."""
    rows, k = x.shape
    bits = np.zeros((rows, 64 * -(-k // 64)), dtype=bool)
    bits[:, :k] = x >= 0
    return np.packbits(bits, axis=1, bitorder="little").view("<u8")


def _padded_words(plus, order="little", padding=0):
    missing = -plus.shape[1] % 64
    bits = np.pad(plus, ((0, 0), (0, missing)), constant_values=padding)
    return np.packbits(bits, axis=1, bitorder=order).view("<u8")


@mistake("08-pack")
def zero_is_minus(x):
    """right but for zeros: sign(0) is +1, so test x >= 0, not x > 0."""
    return _padded_words(x > 0)


@mistake("08-pack")
def bits_reversed(x):
    """the right bytes with their bits reversed: np.packbits puts the first sign into the highest
    bit unless bitorder='little'.
    """
    return _padded_words(x >= 0, order="big")


@mistake("08-pack")
def first_bit_highest(x):
    """the order is reversed: sign 0 belongs into bit 0, the lowest."""
    return _padded_words(x >= 0, order="big").byteswap()


@mistake("08-pack")
def padding_set(x):
    """the padding bits are set. They must be 0 in every row, or a product of one of these rows with
    another's words counts them as differences.
    """
    return _padded_words(x >= 0, padding=1)


@mistake("08-pack")
def minus_is_set(x):
    """the bits are inverted: plus is 1."""
    return _padded_words(x < 0)


MATRICES = ((ROWS,), (ROWS.T.copy(),), (ROWS[:, :4].copy(),), (RNG.laplace(size=(3, 9)),))


@exercise("08-binarize", *MATRICES)
def binarize(w):
    """Signs with sign(0) = +1, and the mean magnitude of each row."""
    return np.where(w >= 0, 1, -1), np.abs(w).mean(axis=1)


@mistake("08-binarize")
def numpy_sign(w):
    """the magnitudes are right. np.sign(0) is 0, a third value: one bit has two, and zero becomes
    +1.
    """
    return np.sign(w), np.abs(w).mean(axis=1)


@mistake("08-binarize")
def wrong_axis(w):
    """the signs are right. Your magnitudes belong to the inputs: a channel is a row of (out, in),
    so the mean runs over axis 1.
    """
    return np.where(w >= 0, 1, -1), np.abs(w).mean(axis=0)


@mistake("08-binarize")
def sign_and_axis(w):
    """two mistakes: np.sign(0) is 0, a third value; and channels are rows, so the mean runs over
    axis 1. A square matrix hides the second.
    """
    return np.sign(w), np.abs(w).mean(axis=0)


@mistake("08-binarize")
def maximum(w):
    """the signs are right. The largest magnitude is what min-max would take, and its error is
    larger than the weights: take the mean.
    """
    return np.where(w >= 0, 1, -1), np.abs(w).max(axis=1)


@mistake("08-binarize")
def root_mean_square(w):
    """the signs are right. The root mean square keeps the power of the row; the squared error is
    smallest at the mean magnitude.
    """
    return np.where(w >= 0, 1, -1), np.sqrt(np.mean(w**2, axis=1))


@mistake("08-binarize")
def one_for_all(w):
    """the signs are right. You use one magnitude for the whole matrix; each output channel has its
    own.
    """
    return np.where(w >= 0, 1, -1), np.full(len(w), np.abs(w).mean())


@mistake("08-binarize")
def mean_of_signed(w):
    """the signs are right. Take the magnitude first, then the mean: in the mean of signed weights
    they cancel.
    """
    return np.where(w >= 0, 1, -1), np.abs(w.mean(axis=1))


@mistake("08-binarize")
def zero_to_minus(w):
    """the magnitudes are right. Zero becomes -1 with w > 0; in this course sign(0) is +1: w >=
    0.
    """
    return np.where(w > 0, 1, -1), np.abs(w).mean(axis=1)


@mistake("08-binarize")
def bits_for_signs(w):
    """the magnitudes are right. One bit read as 0 or 1 stands for -1 or +1."""
    return w >= 0, np.abs(w).mean(axis=1)


def _words(rows, k):
    return pack(RNG.standard_normal((rows, k)))


PRODUCTS = tuple((_words(3, k), _words(5, k), k) for k in (70, 64, 1, 130, 63))


@exercise("08-product", *PRODUCTS)
def product(a, b, k):
    """Agreements minus differences are K minus twice the differences."""
    differ = np.bitwise_count(a[:, None, :] ^ b[None, :, :])
    return k - 2 * differ.sum(axis=2, dtype=np.int32)


def _differ(a, b):
    return np.bitwise_count(a[:, None, :] ^ b[None, :, :]).sum(axis=2, dtype=np.int32)


def _agree(a, b):
    return np.bitwise_count(~(a[:, None, :] ^ b[None, :, :])).sum(axis=2, dtype=np.int32)


@mistake("08-product")
def padding_agrees(a, b, k):
    """right where K is a multiple of 64. Otherwise each padding bit is equal in both rows, looks
    like agreement, and adds 2.
    """
    return 2 * _agree(a, b) - k


@mistake("08-product")
def bits_for_k(a, b, k):
    """right where K is a multiple of 64. Otherwise you count all bits of the words: K is the number
    of signs.
    """
    return 64 * a.shape[1] - 2 * _differ(a, b)


@mistake("08-product")
def agreements_only(a, b, k):
    """that is the popcount of the XNOR, the number of agreements, padding included. Differences
    count -1: the offset with K is missing.
    """
    return _agree(a, b)


@mistake("08-product")
def matches_only(a, b, k):
    """that is the number of agreements. Each difference also counts -1, so it is subtracted
    twice.
    """
    return k - _differ(a, b)


@mistake("08-product")
def differences_minus_agreements(a, b, k):
    """the size is right and the sign is not: agreements count +1, differences -1."""
    return 2 * _differ(a, b) - k


SHAPES = ((64, 64), (10, 70), (64, 4), (1, 4096), (3, 65))


@exercise("08-bytes", *SHAPES)
def stored_bytes(outputs, k):
    """Whole words for each row, and a float32 magnitude for each row."""
    return outputs * (8 * -(-k // 64) + 4)


@mistake("08-bytes")
def one_thirty_second(outputs, k):
    """that is the 32 of the textbook: no padding and no magnitudes."""
    return outputs * k / 8


@mistake("08-bytes")
def no_magnitudes(outputs, k):
    """the words are right; the float32 magnitude of each row is missing."""
    return outputs * 8 * -(-k // 64)


@mistake("08-bytes")
def one_magnitude(outputs, k):
    """the words are right. Each row has its own magnitude."""
    return outputs * 8 * -(-k // 64) + 4


@mistake("08-bytes")
def whole_bytes(outputs, k):
    """you round rows up to whole bytes. These are packed into words of 8 bytes."""
    return outputs * (-(-k // 8) + 4)


@mistake("08-bytes")
def rows_share_words(outputs, k):
    """you let rows share words. Each row starts a new word here, so that any two rows can be
    compared word by word.
    """
    return 8 * -(-outputs * k // 64) + 4 * outputs


@mistake("08-bytes")
def words_as_bytes(outputs, k):
    """you count words; each takes 8 bytes."""
    return outputs * (-(-k // 64) + 4)


def related_inputs(rng):
    """A layer of weights, and inputs whose columns share two factors: seen and unseen rows."""
    k, n = 48, 400
    factors = rng.standard_normal((2, k))
    x = rng.standard_normal((2 * n, k)) + rng.standard_normal((2 * n, 2)) @ factors
    w = rng.standard_normal((8, k)).astype(F32)
    return (w, x[:n].astype(F32)), (w, x[n:].astype(F32))


def snr_of_product(answer, unseen):
    """SNR (dB) of the products with unseen inputs; ValueError for what is not one bit a weight."""
    w, x = (part.astype(float) for part in unseen)
    try:
        signs, alpha = (np.asarray(part, dtype=float) for part in answer)
    except (TypeError, ValueError):
        raise ValueError("expected (signs, alpha), two arrays of numbers") from None
    if signs.shape != w.shape or alpha.size != len(w):
        raise ValueError(
            f"signs have shape {signs.shape}, alpha {alpha.shape}; expected {w.shape} and one "
            "magnitude for each row"
        )
    if not (np.abs(signs) == 1).all() or not np.isfinite(alpha).all():
        raise ValueError("every sign must be -1 or +1, and every magnitude a finite number")
    exact = x @ w.T
    noise = exact - x @ (signs * alpha.reshape(-1, 1)).T
    return 10 * np.log10(np.mean(exact**2) / np.mean(noise**2))


def sign_and_mean(w, x):
    return binarize(w)


@transfer(
    "08-transfer",
    draw=related_inputs,
    measure=snr_of_product,
    plain=sign_and_mean,
    target=7.0,
    unit="dB",
)
def flips_that_help(w, x):
    """Turn single signs while the error of the product falls; fit alpha."""
    # the squared error of a product is d @ c @ d, d the error of the weights
    w, c = w.astype(float), x.T.astype(float) @ x
    signs = np.where(w >= 0, 1.0, -1.0)
    for b, row in zip(signs, w, strict=True):
        for _ in range(100):
            # b c w and b c b, for each k with sign k turned
            cross = c @ row @ b - 2 * b * (c @ row)
            own = b @ c @ b - 4 * b * (c @ b) + 4 * np.diag(c)
            explained = cross**2 / own  # by the best magnitude
            k = explained.argmax()
            if explained[k] <= (row @ c @ b) ** 2 / (b @ c @ b):
                break
            b[k] = -b[k]
    seen = signs @ c
    alpha = np.sum(seen * w, axis=1) / np.sum(seen * signs, axis=1)
    return signs, alpha
