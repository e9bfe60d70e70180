"""Exercises of chapter 16, which claims hold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from . import exercise, mistake, transfer

RNG = np.random.default_rng(16)


@exercise("16-bytes", ((4, 32, 16, 1), 4), ((4, 8, 1), 3), ((5, 7, 3, 1), 1), ((3, 3, 1), 2))
def stored_bytes(sizes, bits):
    """Codes fill whole bytes in each layer; the rest does not shrink."""
    total = 0
    for i, outputs in enumerate(sizes[1:]):
        total += -(-bits * sizes[i] * outputs // 8) + 4 * outputs + 4
    return total


@mistake("16-bytes")
def weights_alone(sizes, bits):
    """you count the codes alone: biases and scales are most of a small model."""
    return sum(-(-bits * i * o // 8) for i, o in pairwise(sizes))


@mistake("16-bytes")
def no_biases(sizes, bits):
    """a float32 bias for each output is missing."""
    return weights_alone(sizes, bits) + 4 * (len(sizes) - 1)


@mistake("16-bytes")
def per_channel(sizes, bits):
    """you count a scale for each output; here a layer has one."""
    return weights_alone(sizes, bits) + 8 * sum(sizes[1:])


@mistake("16-bytes")
def cut_off(sizes, bits):
    """the last codes of a layer need a byte even if they do not fill it: round up, not down."""
    return sum(bits * i * o // 8 + 4 * o + 4 for i, o in pairwise(sizes))


@mistake("16-bytes")
def bits_not_bytes(sizes, bits):
    """these are bits: eight of them make a byte."""
    return sum(bits * i * o + 32 * o + 32 for i, o in pairwise(sizes))


def _neurons(n, inputs, outputs, k):
    factor = np.exp2(RNG.integers(-4, 5, n))
    rows = RNG.standard_normal((n, inputs)) * factor[:, None]
    return rows, RNG.standard_normal((outputs, n)) / factor, k


@exercise("16-stay", _neurons(12, 4, 3, 5), _neurons(30, 6, 1, 7), _neurons(9, 2, 8, 2))
def stay(rows, columns, k):
    """The product of both lengths does not care where a factor stands."""
    size = np.linalg.norm(rows, axis=1) * np.linalg.norm(columns, axis=0)
    return np.sort(np.argsort(size)[-k:])


@mistake("16-stay")
def by_rows(rows, columns, k):
    """you look at the rows alone: a factor that moves to the column changes the choice."""
    return np.sort(np.argsort(np.linalg.norm(rows, axis=1))[-k:])


@mistake("16-stay")
def by_columns(rows, columns, k):
    """you look at the columns alone: a neuron also has inputs."""
    return np.sort(np.argsort(np.linalg.norm(columns, axis=0))[-k:])


@mistake("16-stay")
def smallest(rows, columns, k):
    """these are the smallest neurons, those that should go."""
    size = np.linalg.norm(rows, axis=1) * np.linalg.norm(columns, axis=0)
    return np.sort(np.argsort(size)[:k])


@mistake("16-stay")
def unsorted(rows, columns, k):
    """the right neurons, in the order of their size: rising indices are asked for."""
    size = np.linalg.norm(rows, axis=1) * np.linalg.norm(columns, axis=0)
    return np.argsort(size)[-k:]


LOGITS = (
    (np.array([0.0, 2.0, -3.0, 1.5]), np.array([0.0, 1.0, 2.0, -4.0])),
    (RNG.normal(0, 3, 50), RNG.normal(0, 3, 50)),
    (np.array([900.0, -900.0, 5.0]), np.array([-900.0, -900.0, 800.0])),
)


@exercise("16-slope", *LOGITS)
def slope(student, teacher):
    """sigma of the one minus sigma of the other; tanh does not overflow."""
    return 0.5 * np.tanh(0.5 * student) - 0.5 * np.tanh(0.5 * teacher)


@mistake("16-slope")
def hard(student, teacher):
    """you turn the teacher's answer into a label: how sure it is, is lost."""
    return 0.5 + 0.5 * np.tanh(0.5 * student) - (teacher > 0)


@mistake("16-slope")
def of_logits(student, teacher):
    """the difference of the logits is the slope of another loss, their squared distance."""
    return student - teacher


@mistake("16-slope")
def turned(student, teacher):
    """the sign is turned: this would lead away from the teacher."""
    return 0.5 * np.tanh(0.5 * teacher) - 0.5 * np.tanh(0.5 * student)


VERDICTS = ((3.1, 2.2, 4.0, 3.0), (5.0, 4.1, 6.0, 4.0), (1.0, 0.5, 1.9, 2.0), (2.9, 2.0, 3.9, 3.0))


@exercise("16-verdict", *VERDICTS)
def verdict(figure, low, high, least):
    """Only an interval that lies on one side decides."""
    return 1 if low >= least else -1 if high < least else 0


@mistake("16-verdict")
def by_the_figure(figure, low, high, least):
    """you ask the figure: with other days it would have been another. Ask both ends."""
    return 1 if figure >= least else -1


@mistake("16-verdict")
def generous(figure, low, high, least):
    """an interval that only reaches the claim does not show it."""
    return 1 if high >= least else -1


@mistake("16-verdict")
def not_shown(figure, low, high, least):
    """not shown is not refuted: an interval on both sides leaves it open."""
    return 1 if low >= least else -1


BUDGET = 160


def network(rng: np.random.Generator):
    """A layer of neurons that say much the same, rows that it has seen, and rows it has not."""
    kinds = rng.standard_normal((7, 6))
    rows = kinds[rng.integers(7, size=32)] + 0.25 * rng.standard_normal((32, 6))
    factor = np.exp2(rng.uniform(-2, 2, 32))
    bias, last = 0.3 * rng.standard_normal(32), rng.standard_normal(32) / factor
    rows, bias = rows * factor[:, None], bias * factor
    x = rng.standard_normal((4000, 6))
    z = np.maximum(x @ rows.T + bias, 0) @ last
    offset = -float(np.median(z))
    return (rows, bias, last, offset, x[:1000]), (rows, bias, x[1000:], z[1000:] + offset > 0)


def equal_decisions(answer, unseen):
    """Percent of the decisions that stay, with the rows on their grid."""
    if not (isinstance(answer, (tuple, list)) and len(answer) == 4):
        raise ValueError(f"expected (stay, bits, last, offset), yours is {type(answer).__name__}")
    keep, bits, last, offset = answer
    keep, last = np.asarray(keep), np.asarray(last, float)
    if keep.ndim != 1 or last.shape != keep.shape or not np.isfinite([*last, offset]).all():
        raise ValueError(f"stay has shape {keep.shape}, last {last.shape}: expected (k,) and (k,)")
    if bits not in range(2, 17) or len(set(keep.tolist())) < len(keep):
        raise ValueError(f"bits is {bits}: expected 2 to 16, and every neuron once")
    rows, bias, x, wanted = unseen
    used = -(-bits * 6 * len(keep) // 8) + 8 * len(keep) + 4 * len(keep) + 4
    if used > BUDGET:
        raise ValueError(f"it takes {used} bytes; expected at most {BUDGET}")
    hidden = np.maximum(x @ on_grid(rows[keep], bits).T + bias[keep], 0)
    return 100 * float(np.mean((hidden @ last + offset > 0) == wanted))


def on_grid(rows, bits):
    """Symmetric codes, a scale for each row."""
    top = 2 ** (bits - 1) - 1
    scale = np.abs(rows).max(axis=1, keepdims=True) / top
    return np.rint(rows / scale) * scale


def largest_alone(rows, bias, last, offset, x):
    """The largest neurons at 4 bits, and nothing fitted."""
    keep = stay(rows, last[None], 10)
    return keep, 4, last[keep], offset


@transfer(
    "16-transfer", draw=network, measure=equal_decisions, plain=largest_alone, target=95.0, unit="%"
)
def refitted(rows, bias, last, offset, x):
    """One neuron after another, the one that helps most; the output last."""
    top, bits, count = 7, 4, 10
    scale = np.abs(rows).max(axis=1, keepdims=True) / top
    coarse = np.rint(rows / scale) * scale
    wanted = np.maximum(x @ rows.T + bias, 0) @ last + offset
    hidden = np.maximum(x @ coarse.T + bias, 0)
    keep, base = [], [np.ones(len(x))]
    for _ in range(count):

        def missed(j, base=base):
            a = np.column_stack([*base, hidden[:, j]])
            return np.linalg.lstsq(a, wanted, rcond=None)[1].sum()

        free = [j for j in range(len(rows)) if j not in keep]
        keep.append(min(free, key=missed))
        base.append(hidden[:, keep[-1]])
    fit = np.linalg.lstsq(np.column_stack(base), wanted, rcond=None)[0]
    return np.array(keep), bits, fit[1:], fit[0]
