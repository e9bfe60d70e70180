"""Exercises of chapter 5, per channel and per group."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

F32 = np.float32


def _square(n: int, seed: int) -> np.ndarray:
    """Square on purpose: scales along the wrong axis have the right shape."""
    size = np.geomspace(1, 0.02, n)[:, None]
    return (size * np.random.default_rng(seed).standard_normal((n, n))).astype(F32)


def _round_trip(w: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    qmax = F32(2 ** (bits - 1) - 1)
    return np.clip(np.rint(w / scale), -qmax, qmax) * scale


@exercise("05-channel", (_square(16, 1), 8), (_square(24, 2), 4))
def channels(w, bits):
    """One symmetric scale per output channel, which is a row."""
    qmax = np.float32(2 ** (bits - 1) - 1)
    scale = np.abs(w).max(axis=1, keepdims=True) / qmax
    return np.clip(np.rint(w / scale), -qmax, qmax) * scale


@mistake("05-channel")
def scales_as_row(w, bits):
    """right maxima, wrong direction: an array of shape (n,) lines up with the columns, so row c is
    divided by the scales of other rows. Keep the scales a column (keepdims=True).
    """
    return _round_trip(w, np.abs(w).max(axis=1) / F32(2 ** (bits - 1) - 1), bits)


@mistake("05-channel")
def per_input(w, bits):
    """one scale per input (column). Output channels are the rows, and only a scale per output can
    leave the integer sum.
    """
    return channels(w.T, bits).T


@mistake("05-channel")
def one_scale(w, bits):
    """one scale for the whole matrix: the small rows lose their bits."""
    return _round_trip(w, np.abs(w).max() / F32(2 ** (bits - 1) - 1), bits)


@mistake("05-channel")
def without_sign(w, bits):
    """the largest value is not the largest magnitude: rows whose peak is negative are clipped. Take
    the absolute value first.
    """
    return _round_trip(w, w.max(axis=1, keepdims=True) / F32(2 ** (bits - 1) - 1), bits)


@mistake("05-channel")
def not_multiplied_back(w, bits):
    """these are codes: multiply them by the scales again."""
    return channels(w, bits) / (np.abs(w).max(axis=1, keepdims=True) / F32(2 ** (bits - 1) - 1))


@exercise("05-groups", (_square(32, 3), 4, 8), (_square(64, 4), 8, 16))
def groups(w, bits, size):
    """One symmetric scale for each run of ``size`` inputs in a row."""
    qmax = np.float32(2 ** (bits - 1) - 1)
    blocks = w.reshape(len(w), -1, size)
    scale = np.abs(blocks).max(axis=2, keepdims=True) / qmax
    rounded = np.clip(np.rint(blocks / scale), -qmax, qmax) * scale
    return rounded.reshape(w.shape)


@mistake("05-groups")
def along_outputs(w, bits, size):
    """your groups run along the outputs. The sum runs along the inputs, so a group must be a run of
    inputs within one row.
    """
    return groups(np.ascontiguousarray(w.T), bits, size).T


@mistake("05-groups")
def every_nth(w, bits, size):
    """each group has the right size but the wrong members: reshape to (outputs, groups, size), so
    that neighbors stay together.
    """
    blocks = w.reshape(w.shape[0], size, -1)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / F32(2 ** (bits - 1) - 1)
    return _round_trip(blocks, scale, bits).reshape(w.shape)


@mistake("05-groups")
def so_many_groups(w, bits, size):
    """you cut each row into `size` groups. `size` is the number of weights that share a scale."""
    return groups(w, bits, w.shape[1] // size)


@mistake("05-groups")
def whole_rows(w, bits, size):
    """one scale per row: these are channels, not groups."""
    return channels(w, bits)


@exercise("05-bytes", (32, 128, 4, 32), (3, 7, 3, 7), (16, 64, 8, 64), (5, 9, 1, 3))
def stored(outputs, inputs, bits, size):
    """Packed codes, and one float32 scale per group."""
    codes = -(-outputs * inputs * bits // 8)  # rounded up
    return codes + 4 * outputs * (inputs // size)


@mistake("05-bytes")
def scales_forgotten(outputs, inputs, bits, size):
    """you count the codes only. Each group stores a float32 scale: 4 bytes."""
    return -(-outputs * inputs * bits // 8)


@mistake("05-bytes")
def not_packed(outputs, inputs, bits, size):
    """a whole byte per code. Below 8 bits the codes are packed."""
    return outputs * inputs + 4 * outputs * (inputs // size)


@mistake("05-bytes")
def one_scale_a_row(outputs, inputs, bits, size):
    """one scale per row; every group of a row has its own."""
    return -(-outputs * inputs * bits // 8) + 4 * outputs


@mistake("05-bytes")
def in_bits(outputs, inputs, bits, size):
    """that is the number of bits; 8 of them make a byte."""
    return outputs * inputs * bits + 32 * outputs * (inputs // size)


@mistake("05-bytes")
def last_byte_lost(outputs, inputs, bits, size):
    """right but when the codes end inside a byte: an unfinished byte is stored whole, so round
    up.
    """
    return outputs * inputs * bits // 8 + 4 * outputs * (inputs // size)


def _features(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_t(4, (50, 4)) * [0.002, 1.0, 1.4, 0.5]).astype(F32)


def _factors(x, w, a, axis=0):
    return np.abs(x).max(axis=0) ** a / np.abs(w).max(axis=axis) ** (1 - a)


@exercise("05-equalize", (_features(5), _square(4, 6), 0.5), (_features(7), _square(4, 8), 0.8))
def equalize(x, w, a):
    """Divide input k by s_k and multiply weight column k by it."""
    s = np.abs(x).max(axis=0) ** a / np.abs(w).max(axis=0) ** (1 - a)
    return x / s, w * s


@mistake("05-equalize")
def inputs_only(x, w, a):
    """the inputs are divided, but the weights do not take it up: the layer computes something else.
    Multiply column k by s_k.
    """
    return x / _factors(x, w, a), w


@mistake("05-equalize")
def weights_only(x, w, a):
    """the weights are multiplied, but the inputs are not divided: the layer computes something
    else.
    """
    return x, w * _factors(x, w, a)


@mistake("05-equalize")
def upside_down(x, w, a):
    """the product is unchanged, but the ranges grow apart: divide the inputs by s, multiply the
    weights.
    """
    s = _factors(x, w, a)
    return x * s, w / s


@mistake("05-equalize")
def exponents_swapped(x, w, a):
    """the exponents are swapped: a belongs to the inputs, 1 - a to the weights."""
    return equalize(x, w, 1 - a)


@mistake("05-equalize")
def ranges_of_rows(x, w, a):
    """you take the range of the weight rows. Input k meets column k: the maximum runs over the
    outputs.
    """
    s = _factors(x, w, a, axis=1)
    return x / s, w * s


def _half(s: np.ndarray) -> np.ndarray:
    return s.astype(np.float16).astype(F32)


def _outputs(w: np.ndarray, seen: np.ndarray, new: np.ndarray, bits, size, factors) -> np.ndarray:
    """Outputs of the layer on the new rows, with FP16 scales for groups of `size` weights."""
    codes, step = F32(2 ** (bits - 1) - 1), np.abs(seen / factors).max() / F32(127)
    blocks = (w * factors).reshape(len(w), -1, size)
    scale = np.maximum(_half(np.abs(blocks).max(axis=2, keepdims=True) / codes), F32(6e-8))
    back = (np.clip(np.rint(blocks / scale), -codes, codes) * scale).reshape(w.shape)
    return np.clip(np.rint(new / factors / step), -127, 127) * step @ back.T


def layer_and_rows(rng: np.random.Generator):
    """Fat-tailed weights, channels of many sizes; a few inputs much larger than the others."""
    spread = np.geomspace(1, 1 / rng.uniform(5, 50), 16)[:, None]
    w = (rng.permutation(spread) * rng.standard_t(4, (16, 256))).astype(F32)
    size = np.exp(rng.normal(0, 0.5, 256))
    size[rng.choice(256, 6, replace=False)] *= rng.uniform(20, 80)
    x = (rng.standard_normal((1200, 256)) * size).astype(F32)
    return (w, x[:600]), (w, x[:600], x[600:])


def snr_of_outputs(answer, unseen):
    """Mean over the outputs of their SNR in dB."""
    w, seen, new = unseen
    try:
        bits, size, factors = answer
        bits, size, factors = int(bits), int(size), np.asarray(factors, F32)
    except (TypeError, ValueError):
        raise ValueError("return three things: bits, the size of a group, 256 factors") from None
    if bits < 2 or size < 1 or 256 % size or bits + 16 / size > 4.5:
        raise ValueError(
            f"{bits} bits in groups of {size}: expected 2 bits or more, a size that divides 256, "
            f"and {bits} + 16/{size} of at most 4.5"
        )
    if factors.shape != (256,) or not (np.isfinite(factors) & (factors > 0)).all():
        raise ValueError(f"factors of shape {factors.shape}: expected 256 positive numbers")
    exact = new @ w.T
    error = _outputs(w, seen, new, bits, size, factors) - exact
    return float(np.mean(10 * np.log10((exact**2).sum(axis=0) / (error**2).sum(axis=0))))


def four_bit_channels(w, x):
    """Per channel, and the inputs as they are."""
    return 4, 256, np.ones(256)


@transfer(
    "05-transfer",
    draw=layer_and_rows,
    measure=snr_of_outputs,
    plain=four_bit_channels,
    target=23.0,
    unit="dB",
)
def groups_and_factors(w, x):
    """Groups of 32 use the whole budget; of the exponents, keep the best."""
    largest, weights = np.abs(x).max(axis=0), np.abs(w).max(axis=0)

    def noise(eta):
        s = largest**eta / weights ** (1 - eta)
        step = np.abs(x / s).max() / 127
        blocks = (w * s).reshape(len(w), -1, 32)
        scale = np.abs(blocks).max(axis=2, keepdims=True) / 7
        back = (np.rint(blocks / scale) * scale).reshape(w.shape)
        error = np.rint(x / s / step) * step @ back.T - x @ w.T
        return np.mean(np.sum(error**2, axis=0) / np.sum(w**2, axis=1))

    best = min(np.linspace(0, 1, 11), key=noise)
    return 4, 32, largest**best / weights ** (1 - best)
