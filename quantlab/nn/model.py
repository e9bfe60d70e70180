"""TradingModel: a small multilayer perceptron that learns from candle features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from quantlab import _checks
from quantlab.nn.base import Model
from quantlab.nn.compiled import compile_layers
from quantlab.nn.doors import from_arrays, from_sklearn, from_torch
from quantlab.nn.layers import LinearLayer, check_rows
from quantlab.nn.training import (
    Pairs,
    TrainingOptions,
    flatten,
    loss_and_gradients,
    train,
    unflatten,
)

OPTIONS = TrainingOptions()


def check_labels(where: str, y: np.ndarray, rows: int, outputs: int) -> np.ndarray:
    """Return y (rows,) as float32 0/1 for one output, as int64 0..outputs-1 for more."""
    y = np.asarray(y)
    if y.shape != (rows,):
        raise ValueError(
            f"{where}: y has shape {y.shape}; expected ({rows},), one label per row of x"
        )
    classes = max(outputs, 2)
    ok = np.isin(y, np.arange(classes))
    if not ok.all():
        first = int(np.argmin(ok))
        wanted = "0 or 1" if classes == 2 else f"the integers 0 to {classes - 1}"
        raise ValueError(
            f"{where}: y has {int((~ok).sum())} labels that are not {wanted} "
            f"(first at index {first}: {y[first]})"
        )
    return y.astype(np.float32 if outputs == 1 else np.int64)


def split_rows(
    where: str,
    x: np.ndarray,
    y: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None,
    fraction: float,
    sizes: tuple[int, ...],
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray] | None]:
    """Return checked (training rows, held-out rows or None); without `validation` the last rows."""
    x = check_rows(where, x, sizes[0])
    y = check_labels(where, y, len(x), sizes[-1])
    if validation is not None:
        xv = check_rows(f"{where} (validation)", validation[0], sizes[0])
        yv = check_labels(f"{where} (validation)", validation[1], len(xv), sizes[-1])
        return (x, y), (xv, yv)
    if not 0 <= fraction < 1:
        raise ValueError(f"{where}: validation_fraction is {fraction}; expected 0 <= f < 1")
    cut = len(x) - round(fraction * len(x))
    if cut == 0:
        raise ValueError(f"{where}: {len(x)} rows leave none to train on; give more rows")
    return (x[:cut], y[:cut]), ((x[cut:], y[cut:]) if cut < len(x) else None)


class TradingModel(Model):
    """A ReLU network in float32: one logit for up or down, or k logits for k classes.

    sizes (n_0, ..., n_last) lists the widths; (4, 32, 16, 1) takes four features and has 705
    parameters. Weights are drawn from the seed (init "he" or "glorot", see LinearLayer.init), so
    an untrained model already predicts, at chance. `layers` is a plain list of LinearLayer and
    may be edited.

    Raises ValueError if sizes are not two or more positive integers.
    Taught in chapter 1, trained on candles in chapter 17.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((600, 2))
    >>> y = x[:, 0] * x[:, 1] > 0
    >>> model = TradingModel((2, 8, 1), seed=1).fit(x, y, batch_size=16)
    >>> bool(np.mean(model.predict(x) == y) > 0.9), model.nbytes
    (True, 132)
    """

    def __init__(self, sizes: Sequence[int], seed: int = 0, init: str = "he") -> None:
        sizes = tuple(sizes)
        if len(sizes) < 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in sizes):
            raise ValueError(
                f"TradingModel: sizes are {sizes}; expected two or more positive integers, "
                "inputs first, such as (4, 32, 16, 1)"
            )
        self.seed = _checks.integer(seed, "TradingModel", "seed", 0, 2**63 - 1)
        rng = np.random.default_rng(seed)
        self.layers = [LinearLayer.init(n_in, n_out, rng, init) for n_in, n_out in pairwise(sizes)]
        self.history: dict[str, list[float]] = {}

    @classmethod
    def _from_layers(cls, layers: list[LinearLayer]) -> TradingModel:
        model = cls((1, 1))
        model.layers = layers
        return model

    @classmethod
    def from_arrays(cls, pairs: Sequence[tuple[Any, Any]]) -> TradingModel:
        """A model from [(weight (out, in), bias (out,) or None), ...], ReLU between the layers.

        The arrays are copied to float32. Raises ValueError for layers that do not chain, with
        the remedy where a matrix lies transposed. Taught in chapter 10.

        >>> pairs = [([[1.0, 0.0], [0.0, 1.0]], None), ([[1.0, -1.0]], [0.5])]
        >>> TradingModel.from_arrays(pairs).predict_logits([[3.0, 1.0]]).tolist()
        [2.5]
        """
        return cls._from_layers(from_arrays(pairs))

    @classmethod
    def from_sklearn(cls, classifier: Any) -> TradingModel:
        """A model from a fitted MLPClassifier (ReLU) or linear classifier of scikit-learn.

        Logits are those before the logistic function or the softmax; `predict` returns
        positions in `classifier.classes_`. Features must be scaled as for the classifier.
        Raises ValueError for other activations, pipelines, regressors, several labels a row,
        and what is not fitted. Taught in chapter 10.
        """
        return cls._from_layers(from_sklearn(classifier))

    @classmethod
    def from_torch(cls, module: Any) -> TradingModel:
        """A model from a torch Sequential of Linear and ReLU, or from its state_dict.

        Dropout and Identity do nothing when a model predicts and are passed over; a last
        Sigmoid (one output) or Softmax (several) turns logits into probabilities and is left
        out. A state_dict does not say what lies between its weights: giving one, you vouch
        for ReLU. Raises ValueError for other modules, by name, and for another order.
        Taught in chapter 10.
        """
        return cls._from_layers(from_torch(module))

    def __repr__(self) -> str:
        return f"TradingModel({self.sizes}, seed={self.seed})"

    def _pairs(self) -> Pairs:
        return [(layer.weight, layer.bias) for layer in self.layers]

    def copy(self) -> TradingModel:
        """Return a model with its own copy of the layers and the history."""
        twin = self._from_layers([LinearLayer(w.copy(), b.copy()) for w, b in self._pairs()])
        twin.seed = self.seed
        twin.history = {name: list(values) for name, values in self.history.items()}
        return twin

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        validation_fraction: float = 0.2,
        options: TrainingOptions = OPTIONS,
        **changes: Any,
    ) -> TradingModel:
        """Train with Adam on shuffled minibatches and keep the weights of the best epoch.

        x (n, n_0) scaled features, y (n,) labels 0/1 (or 0..k-1). The held-out rows that
        decide are `validation`, else the LAST validation_fraction of the rows, so that
        time runs forward; with 0 nothing is held out and the last weights stay. Training
        starts from the present weights and stops after `patience` epochs without a better
        held-out loss. `history` holds train_loss, validation_loss and seconds per epoch.
        `options` say how; `changes` are its fields by name, as in fit(x, y, epochs=5).

        Raises ValueError for wrong shapes, labels, NaN, options, or a loss that diverges.
        Taught in chapter 17.
        """
        rows, held_out = split_rows(
            "TradingModel.fit", x, y, validation, validation_fraction, self.sizes
        )
        options = replace(options, **changes)
        if options.seed is None:
            options = replace(options, seed=self.seed)
        theta = flatten(self._pairs())
        self.history = train(theta, self.sizes, rows, held_out, options)
        self.layers = [LinearLayer(w.copy(), b.copy()) for w, b in unflatten(theta, self.sizes)]
        return self

    def loss_and_gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Pairs]:
        """Return the mean loss and [(d weight, d bias), ...] over the rows, in float32."""
        x = check_rows("TradingModel.loss_and_gradients", x, self.sizes[0])
        y = check_labels("TradingModel.loss_and_gradients", y, len(x), self.sizes[-1])
        return loss_and_gradients(self._pairs(), x, y)

    def compile(self) -> Callable[[np.ndarray], Any]:
        """Return predict(x) for one sample: the weights, frozen in one compiled function.

        x float32 (n_0,); the result is the logit, or float32 (k,). A call of a small network
        takes a quarter of a microsecond from Python, NumPy several. Details: `nn.compiled`.
        Raises ValueError for layers that cannot be frozen. Taught in chapter 12.

        >>> model = TradingModel((2, 8, 1), seed=1)
        >>> predict, x = model.compile(), np.float32([[0.5, -1.0]])
        >>> bool(abs(predict(x[0]) - model.predict_logits(x)[0]) < 1e-5)
        True
        """
        return compile_layers(self.layers)
