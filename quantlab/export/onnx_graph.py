"""Models as ONNX graphs: quantized ones out, with their grids; float ones in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from quantlab import _checks
from quantlab.nn.doors import SILENT, from_steps
from quantlab.nn.files import write_whole
from quantlab.nn.integer import IntegerModel, code_type
from quantlab.nn.layers import LinearLayer, QuantizedLinearLayer
from quantlab.nn.model import TradingModel
from quantlab.nn.ptq import QuantizedModel
from quantlab.scheme import QuantizationParams

OPSET, IR_VERSION = 21, 10  # the first with 4-bit and 16-bit codes and with blocks
SUPPORTED = (
    "supported are Gemm (alpha = beta = 1, transA = 0), MatMul with Add, Relu between them, "
    "Identity, Dropout, Cast to float, and a last Sigmoid (one output) or Softmax (several); "
    "weights are initializers or Constants. To take a part of a graph, name its last tensor: "
    "load_onnx(path, output=...)"
)


def _onnx(me: str) -> ModuleType:
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            f"{me}: the package onnx is missing; pip install onnx, or 'quantlab[silicon]'"
        ) from error
    return onnx


def export_onnx(model: Any, path: Any) -> Path:
    """Write a float, quantized or integer model as an ONNX graph of opset 21; its path.

    Weights are codes (of up to 4 bits two in a byte) before a DequantizeLinear; where the inputs
    of a layer lie on a grid, QuantizeLinear and DequantizeLinear (QDQ) stand before its Gemm, and
    a Clip where the grid ends inside its type. Input "x" (rows, n_0) and output "logits" (rows, k)
    are float32. Of a QuantizedModel the graph says what it computes, float32 biases included; of
    an IntegerModel its codes, with int32 biases, as runtimes that fuse the graph into integer
    products round them too: there the fused graph stays within one code of the twin.

    Raises ImportError without onnx; ValueError for a dynamic grid, which ONNX does not know for
    each row, and for layers of signs.
    Source: ONNX QuantizeLinear-21, DequantizeLinear-21, Gemm-13. Taught in chapter 15.
    """
    me, graph, now = "export_onnx", _Graph(_onnx("export_onnx")), "x"
    if isinstance(model, IntegerModel):
        now = graph.integer_layers(now, model)
    elif isinstance(model, TradingModel | QuantizedModel):
        for i, layer in enumerate(model.layers):
            now = graph.add("Relu", now) if i else now
            now = graph.layer(f"{me}: layer {i}", now, layer)
    else:
        raise ValueError(
            f"{me}: model is a {type(model).__name__}; expected a TradingModel, a QuantizedModel "
            "or an IntegerModel"
        )
    write_whole(Path(path), graph.finished(now, model.sizes))
    return Path(path)


class _Graph:
    """An ONNX graph that grows node by node; its methods take and return names of tensors."""

    def __init__(self, onnx: ModuleType) -> None:
        self.onnx, self.nodes, self.constants = onnx, [], []

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        node = self.onnx.helper.make_node(kind, inputs, [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def constant(self, values: Any, kind: str = "FLOAT") -> str:
        name, number = f"constant_{len(self.constants)}", getattr(self.onnx.TensorProto, kind)
        values = np.asarray(values)
        tensor = self.onnx.helper.make_tensor(name, number, values.shape, values.ravel().tolist())
        self.constants.append(tensor)
        return name

    def codes(self, codes: np.ndarray, scale: Any, zero: np.ndarray, **axes: int) -> str:
        """Weights from their codes; of 4 bits two go into a byte."""
        low, high = min(codes.min(), zero.min()), max(codes.max(), zero.max())
        four = (-8 <= low and high <= 7) if codes.dtype.kind == "i" else high <= 15
        kind = f"{codes.dtype.kind.replace('i', '')}int{4 if four else codes.itemsize * 8}".upper()
        names = self.constant(scale), self.constant(zero, kind)
        return self.add("DequantizeLinear", self.constant(codes, kind), *names, **axes)

    def on_grid(self, now: str, p: Any, low: int, high: int, unit: Any = None) -> str:
        """To codes of the grid p, low to high, and back, where one step is `unit` (p.scale)."""
        kind = code_type(low, high)
        if (low, high) != (np.iinfo(kind).min, np.iinfo(kind).max):
            reach = [p.scale * np.float32(q - int(p.zero_point)) for q in (low, high)]
            now = self.add("Clip", now, *map(self.constant, reach))
        scale, zero = self.constant(p.scale), self.constant(p.zero_point, kind.name.upper())
        codes = self.add("QuantizeLinear", now, scale, zero)
        scale = scale if unit is None else self.constant(unit)
        return self.add("DequantizeLinear", codes, scale, zero)

    def layer(self, where: str, now: str, layer: Any) -> str:
        if isinstance(layer, LinearLayer):
            weight = self.constant(layer.weight)
        elif not isinstance(layer, QuantizedLinearLayer):
            raise ValueError(f"{where} is a {type(layer).__name__}; expected weights on grids")
        elif layer.dynamic:
            raise ValueError(
                f"{where} measures its grid anew on every row (dynamic=True), which "
                "no operator of ONNX does; calibrate a static one"
            )
        else:
            if (grid := layer.activation) is not None:
                now = self.on_grid(now, grid, grid.qmin, grid.qmax)
            p = layer.weight.params
            axes = {"axis": p.axis, "block_size": p.block_size}
            axes = {name: value for name, value in axes.items() if value is not None}
            weight = self.codes(layer.weight.codes, p.scale, p.zero_point, **axes)
        return self.add("Gemm", now, weight, self.constant(layer.bias), transB=1)

    def integer_layers(self, now: str, twin: IntegerModel) -> str:
        """Codes as real numbers of step 1: hidden scales are gone, the product of them is left."""
        grid, (low, high) = twin.input_grid, twin.layers[0].input_range
        for layer in twin.layers:
            now = self.on_grid(now, grid, low, high, unit=1.0)
            raw = layer.multiplier is None
            unit = np.ones(layer.shape[0]) if raw else layer.multiplier * 0.5**layer.shift
            weight = self.codes(layer.weight, unit, layer.weight_zero, axis=0)
            sums = (layer.weight - layer.weight_zero[:, None].astype(np.int64)).sum(axis=1)
            unfolded = self.constant(layer.bias + int(grid.zero_point) * sums, "INT32")
            bias = self.add("DequantizeLinear", unfolded, self.constant(unit), axis=0)
            now = self.add("Gemm", now, weight, bias, transB=1)
            low, high = layer.low, layer.high
            grid = QuantizationParams(1.0, layer.zero_point, 16, signed=low < 0)
        if raw:
            return self.add("Mul", now, self.constant(twin.step))
        return self.on_grid(now, grid, low, high, unit=twin.step)

    def finished(self, now: str, sizes: tuple[int, ...]) -> bytes:
        self.add("Identity", now, name="logits")
        helper, float32 = self.onnx.helper, self.onnx.TensorProto.FLOAT
        ends = [
            helper.make_tensor_value_info(name, float32, ["rows", n])
            for name, n in (("x", sizes[0]), ("logits", sizes[-1]))
        ]
        graph = helper.make_graph(self.nodes, "quantlab", ends[:1], ends[1:], self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="quantlab"
        )
        self.onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def load_onnx(path: Any, output: str | None = None) -> TradingModel:
    """Return the ReLU network of an ONNX file, as torch or scikit-learn's converters write it.

    The graph is followed back from its output, or from the tensor called `output` (then what lies
    beyond it, such as a converter's labels, is left out). A last Sigmoid or Softmax turns logits
    into probabilities and is left out too.

    Raises ImportError without onnx; ValueError for a file that is no ONNX model, and for anything
    else in the graph, by name, with the list of what is supported.
    Taught in chapter 15.
    """
    me = "load_onnx"
    onnx = _onnx(me)
    from google.protobuf.message import DecodeError  # comes with onnx

    try:
        graph = onnx.load(Path(path)).graph
    except DecodeError as error:
        raise ValueError(f"{me}: {path} is no ONNX model ({error})") from error
    if not graph.node or not graph.output:
        raise ValueError(f"{me}: {path} is no ONNX model (no node, or no output)")
    steps = list(_backwards(onnx, graph, output, me))
    layers = from_steps(reversed(steps), me)
    return TradingModel.from_arrays([(layer.weight, layer.bias) for layer in layers])


def _backwards(onnx: ModuleType, graph: Any, output: str | None, me: str) -> Iterator[tuple]:
    """Yield the steps of a network from its last to its first, as `from_steps` takes them."""

    def constant(name: str) -> np.ndarray | None:
        if name in stored:
            return onnx.numpy_helper.to_array(stored[name])
        given = made[name].attribute if name in made and made[name].op_type == "Constant" else ()
        return next((onnx.numpy_helper.to_array(a.t) for a in given if a.name == "value"), None)

    def refuse(what: str) -> ValueError:
        return ValueError(f"{me}: {what} cannot be taken over; {SUPPORTED}")

    get = onnx.helper.get_attribute_value
    stored = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    ends, left = [o.name for o in graph.output], [n for n in graph.node if n.op_type != "Constant"]
    if output is None and len(ends) != 1:
        raise ValueError(f"{me}: the graph has the outputs {ends}; say which: output={ends[-1]!r}")
    now = ends[0] if output is None else output
    if now not in made:
        raise ValueError(f"{me}: no node gives {now!r}; the tensors are {_checks.brief([*made])}")
    bias = None
    while now in made:
        node = made[now]
        left.remove(node)
        set_ = {a.name: get(a) for a in node.attribute}
        kind, now, *rest = node.op_type, *node.input
        values = [constant(name) if name else None for name in rest]
        if node.domain not in ("", "ai.onnx"):
            raise refuse(f"{node.domain}.{kind}")
        if bias is not None and kind != "MatMul":
            raise refuse(f"Add after {kind}")
        if kind == "Gemm":
            usual = set_.get("alpha", 1) == set_.get("beta", 1) == 1 and not set_.get("transA", 0)
            if not usual or any(v is None for v in values):
                raise refuse(f"Gemm with {set_}" if not usual else "Gemm with computed weights")
            weight = values[0] if set_.get("transB", 0) else values[0].T
            yield "Linear", (weight, _row(values[1], weight) if len(values) > 1 else None)
        elif kind == "MatMul":
            if values[0] is None:
                raise refuse("MatMul with computed weights")
            yield "Linear", (values[0].T, bias if bias is None else _row(bias, values[0].T))
            bias = None
        elif kind == "Add":
            if (bias := values[0]) is None:
                bias, now = constant(now), rest[0]
            if bias is None:
                raise refuse("Add of two computed tensors")
        elif kind in ("Relu", "Sigmoid", "Softmax", "LogSoftmax"):
            yield kind.replace("Relu", "ReLU"), None
        elif kind not in SILENT and not (kind == "Cast" and set_["to"] == onnx.TensorProto.FLOAT):
            raise refuse(kind)
    if output is None and left:
        raise refuse(f"{left[0].op_type} beside the path to {ends[0]!r}")
    if bias is not None:
        raise refuse("Add without MatMul")
    if now in stored or now not in [i.name for i in graph.input]:
        raise ValueError(f"{me}: the path ends at {now!r}; expected an input of the graph")


def _row(bias: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A bias that ONNX spreads over rows, as (out,); others stay as they are, for the error."""
    row = bias[0] if bias.ndim == 2 and len(bias) == 1 else bias
    return np.broadcast_to(row, weight.shape[:1]) if row.size == 1 else row
