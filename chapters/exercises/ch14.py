"""Exercises of chapter 14, strategies."""

from __future__ import annotations

import numpy as np

from . import exercise, mistake, transfer

FEE = 0.001


def _gap(seed: int, n: int = 400) -> np.ndarray:
    """A gap that closes, in its own standard deviations; it begins inside."""
    rng = np.random.default_rng(seed)
    z = np.zeros(n)
    for t in range(1, n):
        z[t] = 0.85 * z[t - 1] + 0.55 * rng.standard_normal()
    return z


SIGNALS = (
    (_gap(1), 1.5, 0.5),
    (_gap(2), 1.0, 0.25),
    (np.array([0.0, 2.0, 1.0, 0.5, -2.0, 0.7, -0.5, 3.0]), 2.0, 0.5),
)


@exercise("14-position", *SIGNALS)
def pair_position(z, enter, leave):
    """Hour by hour; what is open stays open until z is small."""
    held, now = [], 0
    for value in z:
        if abs(value) >= enter:
            now = -int(np.sign(value))
        elif abs(value) <= leave:
            now = 0
        held.append(now)
    return np.array(held)


@mistake("14-position")
def turned(z, enter, leave):
    """the sides are turned: when z is high, the first asset is dear, and is sold."""
    return -pair_position(z, enter, leave)


@mistake("14-position")
def no_memory(z, enter, leave):
    """you forget the hour before: between `leave` and `enter` an open position stays open."""
    return np.where(np.abs(z) >= enter, -np.sign(z), 0).astype(int)


@mistake("14-position")
def never_out(z, enter, leave):
    """nothing is ever closed: abs(z) <= leave ends a position."""
    return pair_position(z, enter, -1.0)


@mistake("14-position")
def strict(z, enter, leave):
    """a z that equals `enter` opens and one that equals `leave` closes: >= and <=."""
    return pair_position(z, np.nextafter(enter, 9), np.nextafter(leave, -9))


@mistake("14-position")
def next_hour(z, enter, leave):
    """your position knows the next hour's z."""
    return np.append(pair_position(z, enter, leave)[1:], 0)


def _held(seed: int, n: int) -> tuple:
    rng = np.random.default_rng(seed)
    return (
        np.repeat(rng.integers(-1, 2, n), 5).astype(float),
        0.01 * rng.standard_normal(5 * n),
        FEE,
    )


HELD = (_held(1, 12), _held(2, 40), (np.array([1.0, 1, -1]), np.array([0.01, 0.02, -0.01]), FEE))


@exercise("14-profit", *HELD)
def profit(position, move, fee):
    """Charged for what changes hands, first purchase and last sale too."""
    traded = np.abs(np.diff(position, prepend=0))
    traded[-1] += abs(position[-1])
    return position * move - fee * traded


@mistake("14-profit")
def pays_for_holding(position, move, fee):
    """the fee is charged for every hour in which something is held. A trade is a change of the
    position.
    """
    return position * move - fee * np.abs(position)


@mistake("14-profit")
def keeps_the_last(position, move, fee):
    """the last position is never sold: add its fee to the last hour."""
    return position * move - fee * np.abs(np.diff(position, prepend=0))


@mistake("14-profit")
def gets_the_first(position, move, fee):
    """the first position came for nothing: it was bought, from 0."""
    paid = profit(position, move, fee)
    paid[0] += fee * abs(position[0])
    return paid


@mistake("14-profit")
def counts_changes(position, move, fee):
    """a turn from long to short changes hands twice: take the size of the change, not its
    number.
    """
    traded = (np.diff(position, prepend=0) != 0).astype(float)
    traded[-1] += abs(position[-1])
    return position * move - fee * traded


@mistake("14-profit")
def free(position, move, fee):
    """no fee at all is charged."""
    return position * move


def _covariance(seed: int, k: int) -> tuple:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, k)) * rng.uniform(0.5, 3, k) + rng.standard_normal((200, 1))
    return (np.cov(x.T),)


@exercise("14-weights", _covariance(1, 3), _covariance(2, 8), _covariance(3, 2))
def weights(covariance):
    """Solve, then scale; the inverse itself is not needed."""
    w = np.linalg.solve(covariance, np.ones(len(covariance)))
    return w / w.sum()


@mistake("14-weights")
def not_scaled(covariance):
    """the weights do not add to 1: divide by their sum."""
    return np.linalg.solve(covariance, np.ones(len(covariance)))


@mistake("14-weights")
def variances_only(covariance):
    """you divide by the variances and forget the covariances: that is right for independent
    assets only.
    """
    w = 1 / np.diag(covariance)
    return w / w.sum()


@mistake("14-weights")
def product(covariance):
    """you multiply by the covariance where its inverse is wanted: the riskiest get most."""
    w = covariance.sum(axis=1)
    return w / w.sum()


@mistake("14-weights")
def entries(covariance):
    """1 / C inverts the entries. The inverse of a matrix is np.linalg.inv, or better, solve."""
    w = (1 / covariance).sum(axis=1)
    return w / w.sum()


def pair(rng):
    """z of a pair and what one unit of it moved after each hour: 2,000 hours seen, 8,000 not."""
    memory, size = rng.uniform(8, 24), rng.uniform(0.002, 0.004)
    phi, n = np.exp(-1 / memory), 10_000
    shock = rng.standard_t(3, n + 1) / np.sqrt(3) * np.sqrt(1 - phi**2)
    gap = np.zeros(n + 1)
    for t in range(1, n + 1):
        gap[t] = phi * gap[t - 1] + shock[t]
    z, move = gap[:n], size * np.diff(gap)
    return (z[:2000], move[:2000]), (z[2000:], move[2000:])


def two_bit_position(z, borders):
    """Sold in the top code, bought in the bottom code, closed on the other side of the middle."""
    code = np.searchsorted(borders, z, side="right")
    held, now = np.zeros(len(z)), 0
    for t, c in enumerate(code):
        if c in (0, 3):
            now = 1 if c == 0 else -1
        elif (now > 0 and c == 2) or (now < 0 and c == 1):
            now = 0
        held[t] = now
    return held


def kept(borders, unseen):
    """Profit in percent of the float rule's, on unseen hours."""
    borders = np.asarray(borders, float)
    if borders.shape != (3,) or not np.isfinite(borders).all() or (np.diff(borders) <= 0).any():
        raise ValueError(f"expected three rising borders, yours are {borders.tolist()}")
    z, move = unseen
    full = profit(pair_position(z, 2.0, 0.5).astype(float), move, FEE).sum()
    return 100 * profit(two_bit_position(z, borders), move, FEE).sum() / full


def even_borders(z, move):
    top = np.abs(z).max()
    return -top / 2, 0.0, top / 2


@transfer("14-transfer", draw=pair, measure=kept, plain=even_borders, target=175, unit="%")
def searched_borders(z, move):
    """The border that earned most on the hours seen, zero between."""

    def earned(border):
        now = total = 0
        for value, step in zip(z, move, strict=True):
            before = now
            if abs(value) >= border:
                now = -np.sign(value)
            elif now * value > 0:  # across the middle
                now = 0
            total += now * step - 0.001 * abs(now - before)
        return total

    best = max(np.arange(0.6, 2.6, 0.1), key=earned)
    return -best, 0.0, best
