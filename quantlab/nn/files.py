"""Models in one .npz file: arrays beside a line of JSON, never a pickle."""

from __future__ import annotations

import io
import json
import os
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from quantlab.binary import BinaryTensor
from quantlab.nn.layers import BinaryLinearLayer, LinearLayer, QuantizedLinearLayer
from quantlab.scheme import QuantizationParams
from quantlab.tensor import QuantizedTensor

VERSION = 1
_GRID = ("bits", "signed", "narrow_range", "axis", "block_size")


def save_layers(path: Any, kind: str, layers: list[Any]) -> None:
    """Write the layers of a model of `kind`; the file appears whole, or stays as it was."""
    described, arrays = [], {}
    for i, layer in enumerate(layers):
        about, parts = _taken_apart(layer, kind)
        described.append({"type": type(layer).__name__, **about})
        arrays |= {f"{i}.{name}": np.asarray(a) for name, a in parts.items()}
    header = {"format": "quantlab model", "version": VERSION, "kind": kind, "layers": described}
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(json.dumps(header)), **arrays)
    write_whole(Path(path), buffer.getvalue())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole, or stays as it was."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load_layers(path: Any, kind: str) -> list[Any]:
    """Return the layers that `save_layers` wrote; each constructor checks what it gets."""
    me, path = f"{kind}.load", Path(path)
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").item())
        if header["format"] != "quantlab model":
            raise ValueError(f"format is {header['format']!r}")
        version, stored = header["version"], header["kind"]
        if version != VERSION:
            raise ValueError(f"version {version}; this release of quantlab reads version {VERSION}")
        if stored != kind:
            raise ValueError(f"it holds a {stored}; use {stored}.load")
        layers = []
        for i, about in enumerate(header["layers"]):
            own = {k.split(".", 1)[1]: a for k, a in arrays.items() if k.startswith(f"{i}.")}
            layers.append(_BUILDERS[about["type"]](about, own))
        widths = [(a.shape[0], b.shape[1]) for a, b in pairwise(layers)]
        if not layers or any(out != n_in for out, n_in in widths):
            raise ValueError(f"its layers do not chain: {[layer.shape for layer in layers]}")
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{me}: {path} is not a model that can be read ({error})") from error
    except (OSError, EOFError, AttributeError, NotImplementedError) as error:  # damaged members
        raise ValueError(f"{me}: {path} is damaged ({error})") from error
    return layers


def _taken_apart(layer: Any, kind: str) -> tuple[dict, dict]:
    if isinstance(layer, LinearLayer):
        return {}, {"weight": layer.weight, "bias": layer.bias}
    if isinstance(layer, BinaryLinearLayer):
        w = layer.weight
        about = {"shape": [int(n) for n in w.shape], "axis": w.axis}
        return about, {
            "words": w.words,
            "alpha": w.alpha,
            "bias": layer.bias,
            "center": layer.center,
        }
    if not isinstance(layer, QuantizedLinearLayer):
        raise ValueError(
            f"{kind}.save: a {type(layer).__name__} has no file form; save the "
            "quantized model that it was made from"
        )
    about = {"shape": list(layer.shape), "weight": _grid(layer.weight.params)}
    arrays = {"codes": layer.weight.pack(), "bias": layer.bias, **_steps(layer.weight.params, "w")}
    if layer.activation is not None:
        about |= {"activation": _grid(layer.activation), "dynamic": layer.dynamic}
        arrays |= _steps(layer.activation, "a")
    return about, arrays


def _grid(p: QuantizationParams) -> dict:
    return {name: getattr(p, name) for name in _GRID}


def _steps(p: QuantizationParams, prefix: str) -> dict:
    return {f"{prefix}_scale": p.scale, f"{prefix}_zero": p.zero_point}


def _params(about: dict, arrays: dict, prefix: str) -> QuantizationParams:
    return QuantizationParams(arrays[f"{prefix}_scale"], arrays[f"{prefix}_zero"], **about)


def _quantized(about: dict, arrays: dict) -> QuantizedLinearLayer:
    weight = QuantizedTensor.from_packed(
        arrays["codes"], _params(about["weight"], arrays, "w"), tuple(about["shape"])
    )
    if "activation" not in about:
        return QuantizedLinearLayer(weight, arrays["bias"])
    grid = _params(about["activation"], arrays, "a")
    return QuantizedLinearLayer(weight, arrays["bias"], grid, about["dynamic"])


def _binary(about: dict, arrays: dict) -> BinaryLinearLayer:
    weight = BinaryTensor(arrays["words"], arrays["alpha"], tuple(about["shape"]), about["axis"])
    return BinaryLinearLayer(weight, arrays["bias"], arrays["center"])


_BUILDERS = {
    "LinearLayer": lambda about, arrays: LinearLayer(arrays["weight"], arrays["bias"]),
    "QuantizedLinearLayer": _quantized,
    "BinaryLinearLayer": _binary,
}
