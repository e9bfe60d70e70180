"""onnxruntime as an independent witness: same codes, same values, same requantization."""

import numpy as np
import pytest

from quantlab import (
    QuantizationParams,
    QuantizationScheme,
    QuantizedTensor,
    choose_params,
    dequantize,
    fixed_point_multiplier,
    quantize,
    quantized_matmul,
)
from quantlab.scheme import code_range

onnx = pytest.importorskip("onnx", reason="no onnx")
ort = pytest.importorskip("onnxruntime", reason="no onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

S = QuantizationScheme
TYPES = {  # bits, signed -> ONNX element type
    (4, True): TensorProto.INT4, (4, False): TensorProto.UINT4,
    (8, True): TensorProto.INT8, (8, False): TensorProto.UINT8,
    (16, True): TensorProto.INT16, (16, False): TensorProto.UINT16,
}  # fmt: skip
LAYOUTS = [((257,), None, None), ((6, 35), 0, None), ((6, 35), 1, None), ((3, 5, 8), 1, None),
           ((6, 36), 1, 12), ((6, 36), 0, 3), ((2, 9, 5), 1, 3)]  # fmt: skip


def run(nodes, inputs, outputs, constants=()):
    """The outputs of a small graph; `inputs` are arrays, `constants` ONNX tensors."""
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in inputs.items()
    ]
    wanted = [helper.make_empty_tensor_value_info(n) for n in outputs]
    graph = helper.make_graph(nodes, "oracle", given, wanted, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, inputs)


def grid_and_data(shape, axis, block_size, bits, signed, seed):
    rng = np.random.default_rng(seed)
    small = () if axis is None else (shape[axis],)
    if block_size:
        small = tuple(n // block_size if i == axis else n for i, n in enumerate(shape))
    low, high = code_range(bits, signed, False)
    scale = rng.choice([0.25, 0.1, 0.03], small)
    zero_point = rng.integers(low, high + 1, small)
    p = QuantizationParams(scale, zero_point, bits, signed, axis=axis, block_size=block_size)
    scale, _ = p.broadcast(shape)
    x = rng.integers(-(2 ** (bits + 1)), 2 ** (bits + 1), shape) * scale / 2  # half of them ties
    x = np.where(rng.random(shape) < 0.3, rng.standard_normal(shape) * scale * 2**bits, x)
    x.reshape(-1)[:4] = [0.0, -0.0, 1e30, -1e30]
    return p, x.astype(np.float32)


def attributes(p):
    return {k: v for k, v in (("axis", p.axis), ("block_size", p.block_size)) if v is not None}


def scale_and_zero(p, kind):
    zero = helper.make_tensor("z", kind, p.zero_point.shape, p.zero_point.reshape(-1).tolist())
    return [numpy_helper.from_array(np.asarray(p.scale), "s"), zero]


@pytest.mark.parametrize("bits, signed", list(TYPES))
@pytest.mark.parametrize("shape, axis, block_size", LAYOUTS)
def test_quantize_and_dequantize(shape, axis, block_size, bits, signed):
    p, x = grid_and_data(shape, axis, block_size, bits, signed, seed=bits)
    kind = TYPES[bits, signed]
    storage = helper.np_dtype_to_tensor_dtype(p.code_dtype)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes(p)),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes(p)),
        helper.make_node("Cast", ["q"], ["codes"], to=storage),  # 4-bit types have no NumPy type
    ]
    codes, y = run(nodes, {"x": x}, ["codes", "y"], scale_and_zero(p, kind))
    q = quantize(x, p)
    assert codes.dtype == q.codes.dtype and (codes == q.codes).all()
    assert y.tobytes() == dequantize(q).tobytes()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("n", [1, 8, 33])
def test_packed_four_bits(signed, n):
    low, high = code_range(4, signed, False)
    codes = np.random.default_rng(n).integers(low, high + 1, n)
    q = QuantizedTensor(codes.astype("i1" if signed else "u1"), QuantizationParams(1, 0, 4, signed))
    theirs = helper.make_tensor("q", TYPES[4, signed], (n,), codes)
    packed = theirs.raw_data or bytes(theirs.int32_data)
    assert q.pack().tobytes() == packed


@pytest.mark.parametrize("seed", range(40))
def test_dynamic_quantize_linear(seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(200) * 10 ** rng.uniform(-6, 6) + rng.normal(0, 3)).astype(np.float32)
    x = {0: np.abs(x), 1: -np.abs(x), 2: x + 100}.get(seed % 6, x)
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    codes, scale, zero_point = run([node], {"x": x}, ["q", "s", "z"])
    p = choose_params(x, S.ASYMMETRIC_PER_TENSOR, 8, signed=False)
    assert p.scale == scale and p.zero_point == zero_point
    assert (quantize(x, p).codes == codes).all()


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weights_signed", [False, True])
def test_qlinear_matmul(per_channel, weights_signed):
    # signed weights stay in 7 bits: on machines without VNNI onnxruntime saturates 16-bit pairs
    rng = np.random.default_rng(12)
    same = total = 0
    for _ in range(10):
        m, k, n = rng.integers(1, 80, 3)
        x = rng.integers(0, 256, (m, k)).astype(np.uint8)
        w = rng.integers(-64, 64, (k, n)) + (0 if weights_signed else 128)
        w_scale = rng.uniform(0.001, 0.1, n if per_channel else ())
        w_zero = np.full(w_scale.shape, 0 if weights_signed else 120)
        xp = QuantizationParams(rng.uniform(0.001, 0.1), rng.integers(256), 8, signed=False)
        wp = QuantizationParams(w_scale, w_zero, 8, weights_signed, axis=1 if per_channel else None)
        out = QuantizationParams(rng.uniform(0.05, 0.5), rng.integers(256), 8, signed=False)
        w = w.astype(wp.code_dtype)
        ours = quantized_matmul(QuantizedTensor(x, xp), QuantizedTensor(w, wp), out)
        inputs = {"x": x, "xs": np.asarray(xp.scale), "xz": xp.zero_point.astype(np.uint8)}
        kinds = {"ws": np.asarray(wp.scale), "wz": wp.zero_point.astype(wp.code_dtype), "w": w,
                 "ys": np.asarray(out.scale), "yz": out.zero_point.astype(np.uint8)}  # fmt: skip
        node = helper.make_node(
            "QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"]
        )
        constants = [numpy_helper.from_array(np.asarray(a), name) for name, a in kinds.items()]
        (y,) = run([node], inputs, ["y"], constants)
        same, total = same + int((y == ours.codes).sum()), total + y.size
        assert np.abs(y.astype(int) - ours.codes).max() <= 1
    assert same >= 0.9999 * total, f"{same} of {total} outputs agree"


def test_multiplier_is_closer_than_float32():
    real = np.random.default_rng(13).uniform(1e-6, 1, 1000)
    m, shift = fixed_point_multiplier(real)
    fixed = np.abs(m * 2.0**-shift - real) / real
    single = np.abs(real.astype(np.float32) - real) / real
    assert fixed.max() < 2.0**-30 < single.max()
