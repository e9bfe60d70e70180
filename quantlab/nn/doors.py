"""Weights from elsewhere: plain arrays, scikit-learn, torch. Neither library is imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from quantlab.nn.layers import LinearLayer

SILENT = ("Dropout", "Identity")  # do nothing when a model predicts


def from_arrays(
    pairs: Sequence[tuple[Any, Any]], where: str = "TradingModel.from_arrays"
) -> list[LinearLayer]:
    """Return layers from [(weight (out, in), bias (out,) or None), ...], checked as a chain."""
    layers: list[LinearLayer] = []
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(f"{where}: entry {i} is no pair; expected (weight, bias)")
        weight = np.array(pair[0])
        bias = np.zeros(len(np.atleast_1d(weight))) if pair[1] is None else np.array(pair[1])
        try:
            layer = LinearLayer(weight, bias)
        except ValueError as error:
            hint = ""
            if weight.ndim == 2 and bias.shape == weight.shape[1:]:
                hint = "; it looks like (in, out), as scikit-learn stores it: give weight.T"
            raise ValueError(f"{where}: layer {i}: {error}{hint}") from None
        if layers and layers[-1].shape[0] != layer.shape[1]:
            raise ValueError(
                f"{where}: layer {i} has weight {layer.shape}, so it takes {layer.shape[1]} "
                f"inputs, but layer {i - 1} gives {layers[-1].shape[0]}; expected (out, in) each"
            )
        layers.append(layer)
    if not layers:
        raise ValueError(f"{where}: no layers; expected at least one (weight, bias)")
    return layers


def from_sklearn(classifier: Any) -> list[LinearLayer]:
    """Return the layers of a fitted classifier of scikit-learn."""
    me, name = "TradingModel.from_sklearn", type(classifier).__name__
    if hasattr(classifier, "steps"):
        raise ValueError(
            f"{me}: {name} holds several steps; give the classifier alone, "
            f"pipeline[-1], and rows that pipeline[:-1].transform has scaled"
        )
    if not hasattr(classifier, "coefs_") and not hasattr(classifier, "coef_"):
        raise ValueError(
            f"{me}: {name} has no coefs_ or coef_; expected a fitted MLPClassifier or "
            "linear classifier"
        )
    if not hasattr(classifier, "classes_"):
        raise ValueError(f"{me}: {name} has no classes_; expected a classifier, not a regressor")
    if not hasattr(classifier, "coefs_"):  # linear: (1 or k, in)
        weight = np.atleast_2d(classifier.coef_)
        return from_arrays([(weight, np.broadcast_to(classifier.intercept_, len(weight)))], me)
    hidden, out = classifier.activation, classifier.out_activation_
    if hidden != "relu" and len(classifier.coefs_) > 1:
        raise ValueError(
            f"{me}: the hidden activation is {hidden!r}; only 'relu' can be taken over: "
            "train with MLPClassifier(activation='relu')"
        )
    outputs = classifier.coefs_[-1].shape[1]
    if out != ("logistic" if outputs == 1 else "softmax"):
        raise ValueError(
            f"{me}: {outputs} outputs with activation {out!r}; expected 1 with 'logistic' or "
            "several with 'softmax' (one label a row)"
        )
    pairs = zip(classifier.coefs_, classifier.intercepts_, strict=True)
    return from_arrays([(w.T, b) for w, b in pairs], me)  # stored as (in, out)


def from_torch(module: Any) -> list[LinearLayer]:
    """Return the layers of a torch Sequential, or of a state_dict."""
    me = "TradingModel.from_torch"
    if isinstance(module, Mapping):
        return from_arrays(_state_pairs(module, me), me)
    named = ((type(part).__name__, part) for part in _parts(module, me))
    return from_steps(((n, _weights(part) if n == "Linear" else None) for n, part in named), me)


def _weights(linear: Any) -> tuple[np.ndarray, np.ndarray | None]:
    return _array(linear.weight), None if linear.bias is None else _array(linear.bias)


def from_steps(steps: Iterable[tuple[str, Any]], me: str) -> list[LinearLayer]:
    """Return the layers of a network told in torch's names: (name, for a Linear its pair)."""
    pairs: list[Any] = []
    before = ""
    for name, pair in steps:
        if name in SILENT:
            continue
        if before in ("Sigmoid", "Softmax", "LogSoftmax"):
            raise ValueError(f"{me}: {name} follows {before}, which may only stand last")
        if name == "Linear":
            if before == "Linear":
                raise ValueError(f"{me}: layer {len(pairs)} follows a Linear without a ReLU")
            pairs.append(pair)
        elif name not in ("ReLU", "Sigmoid", "Softmax", "LogSoftmax"):
            raise ValueError(f"{me}: {name} cannot be taken over; expected Linear and ReLU in turn")
        elif before != "Linear":
            raise ValueError(f"{me}: {name} stands {_after(before)}; expected it after a Linear")
        before = name
    layers = from_arrays(pairs, me)
    wanted = ("Linear", "Sigmoid") if layers[-1].shape[0] == 1 else ("Linear", "Softmax")
    if before.removeprefix("Log") not in wanted:
        raise ValueError(
            f"{me}: the last module is {before} on {layers[-1].shape[0]} outputs; "
            f"expected {' or '.join(wanted)}"
        )
    return layers


def _after(before: str) -> str:
    return f"after {before}" if before else "first"


def _parts(module: Any, me: str) -> Iterator[Any]:
    """The modules of a Sequential in their order, those inside each other flattened."""
    if type(module).__name__ != "Sequential":
        if type(module).__name__ == "Linear":
            yield module
            return
        raise ValueError(
            f"{me}: module is a {type(module).__name__}; expected a Sequential or a state_dict: "
            "what another module does between its weights cannot be seen"
        )
    for part in module.children():
        if type(part).__name__ == "Sequential":
            yield from _parts(part, me)
        else:
            yield part


def _state_pairs(state: Mapping, me: str) -> list[tuple[Any, Any]]:
    pairs: dict[str, list[Any]] = {}
    for key, tensor in state.items():
        layer, _, part = key.rpartition(".")
        array = _array(tensor)
        if part not in ("weight", "bias") or array.ndim != (2 if part == "weight" else 1):
            raise ValueError(
                f"{me}: state_dict holds {key!r} of shape {array.shape}; expected only "
                "'....weight' (out, in) and '....bias' (out,) of Linear layers"
            )
        pairs.setdefault(layer, [None, None])[part == "bias"] = array
    for layer, (weight, _) in pairs.items():
        if weight is None:
            raise ValueError(f"{me}: state_dict has a bias but no weight for {layer!r}")
    return [tuple(pair) for pair in pairs.values()]


def _array(tensor: Any) -> np.ndarray:
    for step in ("detach", "cpu", "float"):  # float: NumPy has no bfloat16
        tensor = getattr(tensor, step)() if hasattr(tensor, step) else tensor
    return np.asarray(tensor)
