"""What every model can do: one forward pass, one way to predict, save and load."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantlab.nn.evaluate import decisions
from quantlab.nn.files import load_layers, save_layers
from quantlab.nn.layers import check_rows


class Model:
    """A chain of layers with a ReLU between them; the face of float, quantized and integer models.

    `layers` is a plain list; each has `shape` (out, in), `nbytes` and `forward`. Inputs x are
    (n, n_0) real and finite. Taught in chapter 10.
    """

    layers: list[Any]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths (n_0, ..., n_last), inputs first."""
        return (self.layers[0].shape[1], *(layer.shape[0] for layer in self.layers))

    @property
    def nbytes(self) -> int:
        """Stored bytes of all layers: weights, scales, zero points, biases, activation grids."""
        return sum(layer.nbytes for layer in self.layers)

    def activations(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the input of each layer for rows x: [(n, n_0), (n, n_1), ...].

        float32, before a layer puts it on its grid; in an IntegerModel the codes themselves.
        """
        return self._forward(x, "activations")[0]

    def predict_logits(self, x: np.ndarray) -> np.ndarray:
        """Return logits (n,) for one output, else (n, k); float32, positive means class 1."""
        return self._logits(self._forward(x, "predict_logits")[1])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the decision per row, (n,) int64: 1 where the logit is positive, or argmax."""
        return decisions(self.predict_logits(x))

    def save(self, path: Any) -> None:
        """Write the layers to one .npz file (no pickle), whole or not at all.

        What training left behind (history, seed, the float reference) is not written. Raises
        ValueError for layers without a file form. Taught in chapter 10.
        """
        save_layers(path, type(self).__name__, self.layers)

    @classmethod
    def load(cls, path: Any) -> Any:
        """Return the model that `save` wrote; it predicts the same, bit for bit.

        Raises ValueError for a file that is damaged, of another kind or of a later version.
        """
        return cls._from_layers(load_layers(path, cls.__name__))

    @classmethod
    def _from_layers(cls, layers: list[Any]) -> Any:
        return cls(layers)

    # What a kind of model does to its input, between two layers, and to its last output.

    def _enter(self, x: np.ndarray) -> np.ndarray:
        return x

    def _between(self, z: np.ndarray) -> np.ndarray:
        return np.maximum(z, 0)

    def _leave(self, z: np.ndarray) -> np.ndarray:
        return z

    def _logits(self, outputs: list[np.ndarray]) -> np.ndarray:
        logits = self._leave(outputs[-1])
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def _forward(self, x: np.ndarray, where: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return each layer's input and output (before the ReLU)."""
        where = f"{type(self).__name__}.{where}"
        inputs, outputs = [self._enter(check_rows(where, x, self.sizes[0]))], []
        for layer in self.layers:
            if outputs:
                inputs.append(self._between(outputs[-1]))
            outputs.append(layer._apply(inputs[-1]))
        return inputs, outputs
