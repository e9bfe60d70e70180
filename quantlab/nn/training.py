"""Training from scratch: loss, forward, backward, Adam, and the loop with early stopping.

The functions keep the dtype they get: float32 in training, float64 in the gradient check.
A network here is a list of (weight (out, in), bias (out,)) pairs with ReLU between them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from quantlab import _checks
from quantlab.scheme import QuantizationParams
from quantlab.tensor import fake_quantize, inside

Pairs = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained: one set for `TradingModel.fit` and `quantization_aware_train`.

    At most `epochs` passes over the rows in batches of `batch_size`, by Adam with
    `learning_rate`; stop after `patience` epochs without a lower held-out loss. `weight_decay`
    is decoupled and leaves biases alone. `seed` shuffles the rows; None takes the model's.

    Raises ValueError for epochs, batch_size, patience or a seed that are not integers in range,
    a learning_rate that is not above 0, a weight_decay that is negative; NaN in any of them.
    Taught in chapter 11.

    >>> TrainingOptions(epochs=2.5)
    Traceback (most recent call last):
    ValueError: TrainingOptions: epochs is 2.5; expected an integer 1 to 1000000
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 3e-3
    patience: int = 6
    weight_decay: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        where = "TrainingOptions"
        for name, most in (("epochs", 10**6), ("batch_size", 2**31), ("patience", 10**6)):
            _checks.integer(getattr(self, name), where, name, 1, most)
        if self.seed is not None:
            _checks.integer(self.seed, where, "seed", 0, 2**63 - 1)
        rate = _checks.number(self.learning_rate, where, "learning_rate")
        decay = _checks.number(self.weight_decay, where, "weight_decay")
        if rate <= 0 or decay < 0:
            raise ValueError(
                f"{where}: learning_rate is {rate}, weight_decay is {decay}; expected a rate above "
                "0 and a decay of 0 or more"
            )


def flatten(pairs: Pairs) -> np.ndarray:
    """Copy all weights and biases into one vector, layer by layer, weight before bias."""
    return np.concatenate([part.ravel() for pair in pairs for part in pair])


def unflatten(vector: np.ndarray, sizes: tuple[int, ...]) -> Pairs:
    """Return (weight, bias) views into a flat vector, so that a step on it moves every layer."""
    pairs, start = [], 0
    for n_in, n_out in pairwise(sizes):
        middle, stop = start + n_in * n_out, start + n_in * n_out + n_out
        pairs.append((vector[start:middle].reshape(n_out, n_in), vector[middle:stop]))
        start = stop
    return pairs


def loss_and_slope(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy and its gradient by the logits.

    Shapes: logits (B, 1) logistic or (B, k) softmax; y (B,) labels 0/1 or 0..k-1.
    No exponential is taken of a positive number, so no logit overflows.
    Taught in chapter 11.

    >>> loss, slope = loss_and_slope(np.array([[0.0], [1000.0]]), np.array([1, 1]))
    >>> round(loss, 4), slope.ravel().tolist()
    (0.3466, [-0.25, 0.0])
    """
    rows = len(logits)
    if logits.shape[1] == 1:
        z = logits[:, 0]
        # softplus(z) - y z, with softplus(z) = max(z, 0) + log(1 + exp(-|z|))
        loss = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - y * z
        slope = (0.5 * (1 + np.tanh(0.5 * z)) - y)[:, None]  # sigmoid(z) - y
    else:
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        picked = np.arange(rows), y.astype(np.int64)
        loss = log_sum[:, 0] - shifted[picked]
        slope = np.exp(shifted - log_sum)  # softmax
        slope[picked] -= 1
    return float(loss.mean()), (slope / rows).astype(logits.dtype, copy=False)


def forward(
    pairs: Pairs, x: np.ndarray, grids: list[QuantizationParams] | None = None
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Return (inputs, used, logits): each layer's input, what it multiplied, and the output.

    Shapes: x (B, n_0); inputs[i] and used[i] (B, n_i); logits (B, n_last).
    `used` is `inputs` itself, or the same values put on the layers' grids.
    """
    inputs, used, z = [], [], x
    for i, (weight, bias) in enumerate(pairs):
        inputs.append(np.maximum(z, 0) if i else x)  # ReLU between the layers
        used.append(inputs[i] if grids is None else fake_quantize(inputs[i], grids[i]))
        z = used[i] @ weight.T  # (B, n_i) @ (n_i, n_i+1)
        z += bias
    return inputs, used, z


def backward(
    pairs: Pairs,
    inputs: list[np.ndarray],
    used: list[np.ndarray],
    slope: np.ndarray,
    gradients: Pairs,
    grids: list[QuantizationParams] | None = None,
) -> None:
    """Write d loss / d (weight, bias) into `gradients`, from the last layer to the first.

    Shapes: slope (B, n_last) = d loss / d logits; gradients[i] like pairs[i].
    With grids, the rounding of an input passes the slope through where it did not clip.
    """
    for i in range(len(pairs) - 1, -1, -1):
        weight_gradient, bias_gradient = gradients[i]
        np.matmul(slope.T, used[i], out=weight_gradient)  # (n_i+1, B) @ (B, n_i)
        np.sum(slope, axis=0, out=bias_gradient)
        if i:
            slope = slope @ pairs[i][0]  # (B, n_i+1) @ (n_i+1, n_i)
            if grids is not None:
                slope = slope * inside(inputs[i], grids[i])  # the straight-through estimator
            slope = slope * (inputs[i] > 0)  # ReLU passes what was positive


def loss_and_gradients(pairs: Pairs, x: np.ndarray, y: np.ndarray) -> tuple[float, Pairs]:
    """Return the mean loss over (x, y) and its gradient by every weight and bias.

    Shapes: x (B, n_0), y (B,); the gradients come as pairs like the network's.
    Source: Rumelhart, Hinton, Williams 1986. Taught in chapter 11.

    >>> loss, [(by_weight, by_bias)] = loss_and_gradients(
    ...     [(np.zeros((1, 2)), np.zeros(1))], np.array([[1.0, 2.0]]), np.array([1]))
    >>> round(loss, 4), by_weight.tolist(), by_bias.tolist()
    (0.6931, [[-0.5, -1.0]], [-0.5])
    """
    inputs, used, logits = forward(pairs, x)
    loss, slope = loss_and_slope(logits, y)
    gradients = [(np.empty_like(weight), np.empty_like(bias)) for weight, bias in pairs]
    backward(pairs, inputs, used, slope, gradients)
    return loss, gradients


class Adam:
    """Adam on one flat parameter vector, in place.

    Kingma and Ba 2015 (arXiv 1412.6980), Algorithm 1, in the order of the end of section 2:
        m <- beta1 m + (1 - beta1) g                          first moment
        v <- beta2 v + (1 - beta2) g^2                        second moment
        alpha_t = alpha sqrt(1 - beta2^t) / (1 - beta1^t)     both bias corrections at once
        theta <- theta - alpha_t m / (sqrt(v) + epsilon)
    `decay` is the decoupled weight decay of Loshchilov and Hutter 2019 (arXiv 1711.05101),
    alpha times the coefficient per parameter.

    >>> theta = np.zeros(2, np.float32)
    >>> Adam(2, learning_rate=0.01).step(theta, np.float32([3.0, -0.5]))
    >>> [round(float(t), 4) for t in theta]  # the first step is alpha, however big the gradient
    [-0.01, 0.01]
    """

    def __init__(
        self,
        size: int,
        learning_rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        decay: np.ndarray | None = None,
    ) -> None:
        self.learning_rate, self.beta1, self.beta2, self.epsilon = (
            learning_rate,
            beta1,
            beta2,
            epsilon,
        )
        self.decay = decay
        self.steps = 0
        self.m, self.v, self._work = np.zeros((3, size), np.float32)

    def step(self, theta: np.ndarray, gradient: np.ndarray) -> None:
        """Move theta (size,) one step against its gradient (size,)."""
        self.steps += 1
        work = self._work
        self.m *= self.beta1
        self.m += np.multiply(gradient, 1 - self.beta1, out=work)
        self.v *= self.beta2
        np.multiply(gradient, gradient, out=work)
        self.v += np.multiply(work, 1 - self.beta2, out=work)
        rate = self.learning_rate * float(
            np.sqrt(1 - self.beta2**self.steps) / (1 - self.beta1**self.steps)
        )
        np.sqrt(self.v, out=work)
        work += self.epsilon
        np.divide(self.m, work, out=work)
        work *= rate
        if self.decay is not None:
            work += self.learning_rate * self.decay * theta
        theta -= work


class Quantizer(Protocol):
    """What the loop asks for when it trains through a grid (see qat.py)."""

    grids: list[QuantizationParams] | None

    def start_epoch(self, pairs: Pairs, x: np.ndarray) -> None: ...
    def weights(self, pairs: Pairs) -> Pairs: ...
    def pull_back(self, pairs: Pairs, gradients: Pairs) -> None: ...


def train(
    theta: np.ndarray,
    sizes: tuple[int, ...],
    rows: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray] | None,
    options: TrainingOptions,
    quantizer: Quantizer | None = None,
) -> dict[str, list[float]]:
    """Train the flat float32 vector theta in place and return the history, one entry an epoch.

    rows and held_out are (x (n, n_0) float32, y (n,)). With held-out rows, theta ends at the
    epoch of the lowest held-out loss, and training stops after `patience` epochs without one.
    The same seed gives the same bits; only history["seconds"] differs between runs.
    Raises ValueError if the loss stops being finite.
    """
    x, y = rows
    rng = np.random.default_rng(options.seed)
    gradient = np.empty_like(theta)
    pairs, gradients = unflatten(theta, sizes), unflatten(gradient, sizes)
    decay = None
    if options.weight_decay:
        decay = flatten(
            [(np.full_like(w, options.weight_decay), np.zeros_like(b)) for w, b in pairs]
        )
    adam = Adam(len(theta), options.learning_rate, decay=decay)
    history: dict[str, list[float]] = {"train_loss": [], "validation_loss": [], "seconds": []}
    best_loss, best_theta, best_epoch = np.inf, theta.copy(), -1
    best_grids = None

    for epoch in range(options.epochs):
        began = time.perf_counter()
        if quantizer is not None:
            quantizer.start_epoch(pairs, x)
            if epoch == 0 and held_out is not None:  # no step yet: a candidate like any epoch
                best_loss, best_grids = _loss(pairs, held_out, quantizer), quantizer.grids
        order = rng.permutation(len(x))
        shuffled_x, shuffled_y, total = x[order], y[order], 0.0
        for start in range(0, len(x), options.batch_size):
            batch = slice(start, start + options.batch_size)
            bx, by = shuffled_x[batch], shuffled_y[batch]
            loss = _gradients(pairs, bx, by, gradients, quantizer)
            adam.step(theta, gradient)
            total += loss * len(bx)
        history["train_loss"].append(total / len(x))
        if not np.isfinite(total):
            raise ValueError(
                f"fit: the loss is {total} in epoch {epoch + 1}; lower learning_rate "
                f"(now {options.learning_rate}) or scale the features"
            )
        if held_out is not None:
            loss = _loss(pairs, held_out, quantizer)
            history["validation_loss"].append(loss)
            if loss < best_loss:
                best_loss, best_epoch = loss, epoch
                best_theta[:] = theta
                best_grids = quantizer.grids if quantizer is not None else None
        history["seconds"].append(time.perf_counter() - began)
        if held_out is not None and epoch - best_epoch >= options.patience:
            break
    if held_out is not None:
        theta[:] = best_theta
        if quantizer is not None:
            quantizer.grids = best_grids
    return history


def _gradients(
    pairs: Pairs, x: np.ndarray, y: np.ndarray, gradients: Pairs, quantizer: Quantizer | None
) -> float:
    """Fill `gradients` for one batch and return its loss."""
    grids = None if quantizer is None else quantizer.grids
    used_pairs = pairs if quantizer is None else quantizer.weights(pairs)
    inputs, used, logits = forward(used_pairs, x, grids)
    loss, slope = loss_and_slope(logits, y)
    backward(used_pairs, inputs, used, slope, gradients, grids)
    if quantizer is not None:
        quantizer.pull_back(pairs, gradients)
    return loss


def _loss(pairs: Pairs, rows: tuple[np.ndarray, np.ndarray], quantizer: Quantizer | None) -> float:
    """Return the mean loss on held-out rows, on the grid if there is one."""
    if quantizer is None:
        logits = forward(pairs, rows[0])[2]
    else:
        logits = forward(quantizer.weights(pairs), rows[0], quantizer.grids)[2]
    return loss_and_slope(logits, rows[1])[0]
