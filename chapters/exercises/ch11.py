"""Exercises of chapter 11, quantization-aware training."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

RNG = np.random.default_rng(11)
F32 = np.float32
W = RNG.normal(0, 0.6, 200).astype(F32)
UP = RNG.normal(0, 1, 200).astype(F32)
EDGES = F32([-3.6, -3.4, -0.2, 0.0, 0.7, 3.4, 3.6, 9.0])
STE_CASES = (
    (EDGES, F32(1.0), 3, np.arange(1, 9, dtype=F32)),
    (W, F32(0.2), 3, UP),
    (W, F32(0.5), 2, UP),
)


@exercise("11-straight", *STE_CASES)
def straight(w, step, bits, upstream):
    """The slope passes where the code is one before the clamp."""
    top = 2 ** (bits - 1) - 1
    inside = np.abs(np.rint(w / step)) <= top
    return np.where(inside, upstream, 0)


@mistake("11-straight")
def after_the_clamp(w, step, bits, upstream):
    """you look at the code after the clamp. It is always inside, so your mask stops nothing."""
    top = 2 ** (bits - 1) - 1
    codes = np.clip(np.rint(w / step), -top, top)
    return np.where(np.abs(codes) <= top, upstream, 0)


@mistake("11-straight")
def before_rounding(w, step, bits, upstream):
    """nearly: a weight up to half a step beyond the last mark still rounds to it without the clamp,
    so its slope passes. Round first.
    """
    return np.where(np.abs(w / step) <= 2 ** (bits - 1) - 1, upstream, 0)


@mistake("11-straight")
def strictly_inside(w, step, bits, upstream):
    """the last mark belongs to the grid: <=, not <."""
    return np.where(np.abs(np.rint(w / step)) < 2 ** (bits - 1) - 1, upstream, 0)


@mistake("11-straight")
def full_range(w, step, bits, upstream):
    """your grid has a mark too many: the narrow range ends at 2**(bits - 1) - 1 on both sides."""
    return np.where(np.abs(np.rint(w / step)) <= 2 ** (bits - 1), upstream, 0)


@mistake("11-straight")
def in_units_of_w(w, step, bits, upstream):
    """codes are w / step; you compare w itself with the last code."""
    return np.where(np.abs(np.rint(w)) <= 2 ** (bits - 1) - 1, upstream, 0)


@mistake("11-straight")
def rounded_upstream(w, step, bits, upstream):
    """you round the slope too. Only the weight was rounded."""
    return straight(w, step, bits, np.rint(upstream))


@mistake("11-straight")
def true_slope(w, step, bits, upstream):
    """that is the true slope, 0, and with it nothing learns."""
    return np.zeros_like(upstream)


@mistake("11-straight")
def mask_alone(w, step, bits, upstream):
    """the mask alone: multiply it with the slope that arrives."""
    return straight(w, step, bits, np.ones_like(upstream))


@exercise("11-step", *STE_CASES, atol=1e-4)
def step_slope(w, step, bits, upstream):
    """Inside, the residue of rounding; beyond the ends, the last code."""
    top = 2 ** (bits - 1) - 1
    code = np.rint(w / step)
    each = np.where(np.abs(code) <= top, code - w / step, np.sign(w) * top)
    return np.sum(each * upstream)


@mistake("11-step")
def code_only(w, step, bits, upstream):
    """you take the code for the slope everywhere. Inside the grid w / step has the step in it too:
    rint(w / step) - w / step.
    """
    top = 2 ** (bits - 1) - 1
    return np.sum(np.clip(np.rint(w / step), -top, top) * upstream)


@mistake("11-step")
def residue_everywhere(w, step, bits, upstream):
    """you forgot the ends: a clamped weight is the last mark, top * step, and its slope is top."""
    return np.sum((np.rint(w / step) - w / step) * upstream)


@mistake("11-step")
def clamped_residue(w, step, bits, upstream):
    """beyond the ends the clamped code stays and w / step does not count: the slope there is the
    last code alone.
    """
    top = 2 ** (bits - 1) - 1
    return np.sum((np.clip(np.rint(w / step), -top, top) - w / step) * upstream)


@mistake("11-step")
def ends_are_zero(w, step, bits, upstream):
    """beyond the ends the slope by the weight is 0, but not the one by the step: the last mark
    moves with it.
    """
    code = np.rint(w / step)
    return np.sum(np.where(np.abs(code) <= 2 ** (bits - 1) - 1, code - w / step, 0) * upstream)


@mistake("11-step")
def turned(w, step, bits, upstream):
    """the size is right, the sign is not: it is rounded minus unrounded."""
    return -step_slope(w, step, bits, upstream)


@mistake("11-step")
def averaged(w, step, bits, upstream):
    """you average. One step serves all the weights, so their slopes add up."""
    return step_slope(w, step, bits, upstream) / np.size(w)


@mistake("11-step")
def not_summed(w, step, bits, upstream):
    """one number for each weight; the step is one number, so add them up."""
    top = 2 ** (bits - 1) - 1
    code = np.rint(w / step)
    return np.where(np.abs(code) <= top, code - w / step, np.sign(w) * top) * upstream


X = RNG.normal(size=(50, 4))
Y = X @ [0.8, -0.3, 0.45, 0.1]
UPDATES = (
    (np.array([0.7, -0.2, 0.4, 0.3]), X, Y, 0.25, 0.1),
    (np.array([0.1, 0.1, -0.6, 0.0]), X, Y, 0.5, 0.02),
)


@exercise("11-update", *UPDATES)
def update(w, x, y, step, rate):
    """The error of the rounded weights moves the latent weights."""
    used = step * np.rint(w / step)
    slope = x.T @ (x @ used - y) / len(y)
    return w - rate * slope


@mistake("11-update")
def steps_from_the_mark(w, x, y, step, rate):
    """you step from the rounded weights and forget the latent ones: a step smaller than half a mark
    is rounded away the next time, and nothing ever moves.
    """
    used = step * np.rint(w / step)
    return used - rate * x.T @ (x @ used - y) / len(y)


@mistake("11-update")
def error_of_the_latent(w, x, y, step, rate):
    """your error is that of the latent weights: this is training in float32, and the grid is never
    felt. Use the rounded weights in the forward pass.
    """
    return w - rate * x.T @ (x @ w - y) / len(y)


@mistake("11-update")
def rounded_result(w, x, y, step, rate):
    """you round what you return. The latent weights stay in float32."""
    return step * np.rint(update(w, x, y, step, rate) / step)


@mistake("11-update")
def uphill(w, x, y, step, rate):
    """uphill: take the slope away."""
    return 2 * w - update(w, x, y, step, rate)


@mistake("11-update")
def not_averaged(w, x, y, step, rate):
    """your loss is a sum over the rows; the exercise has the mean."""
    return w + len(y) * (update(w, x, y, step, rate) - w)


@mistake("11-update")
def twice(w, x, y, step, rate):
    """your loss lacks its one half: the slope is twice too large."""
    return 2 * update(w, x, y, step, rate) - w


def correlated(rng):
    """Sixteen features that resemble their neighbors, one answer: (500 rows), (2,000 rows)."""
    n, k = 2500, 16
    x = rng.normal(size=(n, k))
    for j in range(1, k):
        x[:, j] = 0.9 * x[:, j - 1] + 0.436 * x[:, j]
    w = rng.normal(size=k)
    y = x @ w
    y += 0.3 * y.std() * rng.normal(size=n)
    return (x[:500], y[:500]), (x[500:], y[500:])


def explained(answer, unseen):
    """Percent of the variance of unseen answers that codes -1, 0, 1 times one step explain."""
    x, y = unseen
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise ValueError(f"expected (codes, step), yours is {answer!r}")
    codes, step = np.asarray(answer[0], float), np.asarray(answer[1], float)
    if codes.shape != (x.shape[1],) or not np.isin(codes, (-1, 0, 1)).all():
        raise ValueError(f"expected {x.shape[1]} codes of -1, 0 and 1, yours are {codes}")
    if step.size != 1 or not np.isfinite(step).all():
        raise ValueError(f"expected one finite step, yours is {step}")
    return 100 * (1 - np.mean((y - x @ codes * step.item()) ** 2) / np.var(y))


def rounded_least_squares(x, y):
    """Fit in float64, round on the min-max grid."""
    w = np.linalg.lstsq(x, y, rcond=None)[0]
    return np.rint(w / np.abs(w).max()), np.abs(w).max()


@transfer(
    "11-transfer",
    draw=correlated,
    measure=explained,
    plain=rounded_least_squares,
    target=86,
    unit="% of the variance",
)
def trained_on_the_grid(x, y):
    """Train through the rounding, refit the step, keep the best codes."""
    w = np.linalg.lstsq(x, y, rcond=None)[0]
    best, answer = np.inf, None
    for step in np.abs(w).max() * np.linspace(0.2, 1, 9):
        latent = w.copy()
        for _ in range(200):
            codes = np.clip(np.rint(latent / step), -1, 1)
            seen = x @ codes
            fitted = seen @ y / max(seen @ seen, 1e-12)
            loss = np.mean((y - fitted * seen) ** 2)
            if loss < best:
                best, answer = loss, (codes, fitted)
            latent -= 0.02 * x.T @ (step * seen - y) / len(y)
    return answer
