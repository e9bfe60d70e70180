"""Exercises of chapter 10, post-training quantization."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

F32 = np.float32
RNG = np.random.default_rng(10)


def _answers(n, noise, shift):
    full = RNG.standard_normal(n).astype(F32)
    coarse = (full + noise * RNG.standard_normal(n) + shift).astype(F32)
    return full, coarse, (full + 1.5 * RNG.standard_normal(n)) > 0


@exercise("10-flips", _answers(400, 0.5, 0.0), _answers(900, 0.2, 0.4), _answers(50, 1.0, -0.2))
def flips(full, coarse, y):
    """A flip helps where coarse is right, and hurts where full was."""
    flipped = (full > 0) != (coarse > 0)
    helped = flipped & ((coarse > 0) == y)
    hurt = flipped & ((full > 0) == y)
    return 100 * helped.mean(), 100 * hurt.mean()


@mistake("10-flips")
def of_the_flips(full, coarse, y):
    """you divide by the number of flips. In (10.2) both are shares of all rows."""
    flipped = (full > 0) != (coarse > 0)
    return tuple(share / flipped.mean() for share in flips(full, coarse, y))


@mistake("10-flips")
def swapped(full, coarse, y):
    """the two numbers are right and in the wrong order: helped first."""
    return flips(full, coarse, y)[::-1]


@mistake("10-flips")
def accuracies(full, coarse, y):
    """those are the accuracies of the two models. Count only the rows where they disagree."""
    return 100 * np.mean((coarse > 0) == y), 100 * np.mean((full > 0) == y)


@mistake("10-flips")
def share_for_percent(full, coarse, y):
    """those are shares between 0 and 1; percent are asked for."""
    return tuple(share / 100 for share in flips(full, coarse, y))


def _layer(n_in, n_out, n):
    weight = RNG.standard_normal((n_out, n_in)).astype(F32)
    x = np.maximum(RNG.standard_normal((n, n_in)) + RNG.uniform(-1, 1, n_in), 0).astype(F32)
    scale = np.abs(weight).max(axis=1, keepdims=True) / F32(3)
    return weight, np.rint(weight / scale) * scale, x


@exercise("10-bias", _layer(6, 4, 200), _layer(12, 3, 500), _layer(3, 1, 40))
def mean_shift(weight, rounded, x):
    """The mean error of each output, with the sign that takes it away."""
    return -(rounded - weight) @ x.mean(axis=0)


@mistake("10-bias")
def wrong_sign(weight, rounded, x):
    """the size is right and the sign is not: this doubles the error instead of removing it."""
    return -mean_shift(weight, rounded, x)


@mistake("10-bias")
def means_multiplied(weight, rounded, x):
    """you multiply the mean weight error by the mean input. Each weight meets its own input:
    multiply first, then sum.
    """
    return -(rounded - weight).mean(axis=1) * x.mean() * x.shape[1]


@mistake("10-bias")
def without_inputs(weight, rounded, x):
    """you sum the weight errors as if every input were 1."""
    return -(rounded - weight).sum(axis=1)


@mistake("10-bias")
def summed_rows(weight, rounded, x):
    """you sum over the rows where their mean is wanted: the result grows with their number."""
    return mean_shift(weight, rounded, x) * len(x)


def _pair(n_in, n_hidden, n_out):
    spread = np.exp2(RNG.integers(-4, 5, n_hidden)).astype(F32)
    first = RNG.standard_normal((n_hidden, n_in)).astype(F32) * spread[:, None]
    second = RNG.standard_normal((n_out, n_hidden)).astype(F32) / spread
    return first, RNG.standard_normal(n_hidden).astype(F32), second


@exercise("10-equalize", _pair(4, 8, 1), _pair(3, 5, 6), _pair(2, 16, 2))
def equalize(first, bias, second):
    """Rows of the first layer and columns of the second meet."""
    ratio = np.abs(first).max(axis=1) / np.abs(second).max(axis=0)
    factor = np.sqrt(ratio)
    return first / factor[:, None], bias / factor, second * factor


@mistake("10-equalize")
def bias_left(first, bias, second):
    """the bias belongs to the row: it must be divided too, or the ReLU opens elsewhere."""
    a, _, c = equalize(first, bias, second)
    return a, bias, c


@mistake("10-equalize")
def no_root(first, bias, second):
    """without the square root the two ranges change places instead of meeting."""
    factor = np.abs(first).max(axis=1) / np.abs(second).max(axis=0)
    return first / factor[:, None], bias / factor, second * factor


@mistake("10-equalize")
def other_way(first, bias, second):
    """the function is the same and the ranges are farther apart than before: divide where you
    multiply.
    """
    factor = 1 / np.sqrt(np.abs(first).max(axis=1) / np.abs(second).max(axis=0))
    return first / factor[:, None], bias / factor, second * factor


@mistake("10-equalize")
def rows_of_the_second(first, bias, second):
    """the first layer is right. Output j of the first layer is column j of the second: multiply
    columns.
    """
    a, b, _ = equalize(first, bias, second)
    return a, b, second


def _neuron(n_in, n, scale):
    x = RNG.standard_normal((n, n_in)) @ RNG.standard_normal((n_in, n_in)) + 1
    return RNG.standard_normal(n_in), x, scale


@exercise("10-column", _neuron(6, 300, 0.5), _neuron(4, 100, 1.0), _neuron(10, 400, 0.7))
def column(w, x, scale):
    """Round a weight, then let the ones still free make up for its error."""
    w, codes = w.copy(), []
    for j in range(len(w)):
        codes.append(int(np.rint(w[j] / scale)))
        error = w[j] - codes[-1] * scale
        makes_up = np.linalg.lstsq(x[:, j + 1 :], x[:, j], rcond=None)[0]
        w[j + 1 :] += error * makes_up
    return np.array(codes)


@mistake("10-column")
def nearest(w, x, scale):
    """that is rounding to nearest: no weight has learned of the error of another."""
    return np.rint(w / scale).astype(int)


@mistake("10-column")
def sign_turned(w, x, scale):
    """the error is passed on with the wrong sign, so the others make it worse. What the rounded
    weight lost, w - q scale, the others must add.
    """
    w, codes = w.copy(), []
    for j in range(len(w)):
        codes.append(int(np.rint(w[j] / scale)))
        error = w[j] - codes[-1] * scale
        w[j + 1 :] -= error * np.linalg.lstsq(x[:, j + 1 :], x[:, j], rcond=None)[0]
    return np.array(codes)


@mistake("10-column")
def next_only(w, x, scale):
    """you hand the error to the next weight alone. All weights still free share it, by least
    squares.
    """
    w, codes = w.copy(), []
    for j in range(len(w)):
        codes.append(int(np.rint(w[j] / scale)))
        if j + 1 < len(w):
            error = w[j] - codes[-1] * scale
            w[j + 1] += error * (x[:, j] @ x[:, j + 1]) / (x[:, j + 1] @ x[:, j + 1])
    return np.array(codes)


def layer_and_rows(rng):
    """A layer behind a ReLU, rows it has seen, and rows it has not with what it answers there."""
    mix = rng.standard_normal((6, 12)) + 0.3 * rng.standard_normal(12)
    rows = rng.standard_normal((3000, 6)) @ mix / 2 + rng.uniform(-0.5, 1, 12)
    x = np.maximum(rows + 0.5 * rng.standard_normal(rows.shape), 0).astype(F32)
    weight = rng.standard_t(6, (16, 12)).astype(F32)
    offset = rng.standard_normal(16).astype(F32)
    return (weight, offset, x[:600]), (x[600:], x[600:] @ weight.T + offset)


def output_snr(answer, unseen):
    """SNR in dB of what the layer puts out, with codes from -3 to 3."""
    if not (isinstance(answer, (tuple, list)) and len(answer) == 3):
        raise ValueError(f"expected (scale, codes, bias), yours is a {type(answer).__name__}")
    scale, codes, offset = (np.asarray(part, float) for part in answer)
    shapes = scale.shape, codes.shape, offset.shape
    if shapes != ((16,), (16, 12), (16,)):
        raise ValueError(f"expected shapes (16,), (16, 12), (16,), yours are {shapes}")
    if (codes % 1).any() or np.abs(codes).max() > 3 or not np.isfinite(scale + offset).all():
        raise ValueError("expected whole codes from -3 to 3 and finite scales and biases")
    x, wanted = unseen
    noise = x @ (codes * scale[:, None]).T + offset - wanted
    return 10 * np.log10(np.sum(wanted**2) / np.sum(noise**2))


def rounded_to_nearest(weight, offset, x):
    scale = np.abs(weight).max(axis=1) / 3
    return scale, np.rint(weight / scale[:, None]), offset


@transfer(
    "10-transfer",
    draw=layer_and_rows,
    measure=output_snr,
    plain=rounded_to_nearest,
    target=17.5,
    unit="dB",
)
def column_by_column(weight, bias, x):
    """Columns in turn, the bias last: its input is 1, it stays float."""
    scale = np.abs(weight).max(axis=1) / 3
    a = np.column_stack([x, np.ones(len(x))]).astype(float)
    free = np.column_stack([weight, bias]).astype(float)
    codes = np.zeros(weight.shape)
    for j in range(weight.shape[1]):
        codes[:, j] = np.clip(np.rint(free[:, j] / scale), -3, 3)
        error = free[:, j] - codes[:, j] * scale
        rest = np.linalg.lstsq(a[:, j + 1 :], a[:, j], rcond=None)[0]
        free[:, j + 1 :] += np.outer(error, rest)
    return scale, codes, free[:, -1]
