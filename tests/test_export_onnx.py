"""ONNX out and in: onnxruntime computes what the package does, and foreign networks come in."""

import sys

import numpy as np
import pytest

import quantlab as ql
from quantlab.nn import (
    BinaryLinearLayer,
    LinearLayer,
    QuantizedModel,
    TradingModel,
    integer_model,
    post_training_quantize,
)

onnx = pytest.importorskip("onnx", reason="no onnx")
ort = pytest.importorskip("onnxruntime", reason="no onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SCHEMES = list(ql.QuantizationScheme)
PLAIN, FUSED = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL


def quantized_model(seed=0, sizes=(5, 16, 8, 1), **options):
    rng = np.random.default_rng(seed)
    model = TradingModel(sizes, seed)
    for layer in model.layers:
        layer.bias = rng.standard_normal(layer.bias.shape).astype(np.float32) / 4
    x = rng.standard_normal((500, sizes[0])).astype(np.float32)
    return post_training_quantize(model, x, **options), 1.3 * x


def run(path, x, level, fused=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = level
    if fused:
        options.optimized_model_filepath = str(fused)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["x"]
    logits = session.run(["logits"], {"x": x})[0]
    return logits[:, 0] if logits.shape[1] == 1 else logits


# Out


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("bits", "a_bits"), [(8, 8), (4, 8), (3, 4), (2, 12), (1, 8), (12, 16),
                                              (8, None), (4, None), ((8, None, 4), 8)])  # fmt: skip
def test_a_quantized_model_runs_as_it_is(tmp_path, bits, a_bits, scheme):
    options = {"weight_bits": bits, "activation_bits": a_bits, "scheme": scheme}
    quantized, x = quantized_model(3, **options)
    path = ql.export_onnx(quantized, tmp_path / "model.onnx")
    got, wanted = run(path, x, PLAIN), quantized.predict_logits(x)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=4e-6)
    sure = np.abs(wanted) > 1e-5
    np.testing.assert_array_equal((got > 0)[sure], (wanted > 0)[sure])


def test_blocks_and_several_outputs(tmp_path):
    quantized, x = quantized_model(1, (6, 12, 3), weight_bits=4, activation_bits=8, block_size=3)
    path = ql.export_onnx(quantized, tmp_path / "model.onnx")
    np.testing.assert_allclose(run(path, x, PLAIN), quantized.predict_logits(x), atol=4e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("bits", "a_bits"), [(8, 8), (4, 8), (3, 4), (2, 2), (8, 12), (8, 5)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_integer_twin_runs_to_the_bit_fused_or_not(tmp_path, bits, a_bits, scheme, outputs):
    options = {"weight_bits": bits, "activation_bits": a_bits, "scheme": scheme}
    quantized, x = quantized_model(bits + outputs, (5, 16, 8, outputs), **options)
    twin = integer_model(quantized)
    path, wanted = ql.export_onnx(twin, tmp_path / "model.onnx"), twin.predict_logits(x)
    for level in (PLAIN, FUSED):
        got = run(path, x, level)
        # a hidden code that lies on a tie may round the other way: one code, one row
        far = (np.abs(got - wanted).reshape(len(x), -1) > 1e-6).any(axis=1)
        assert far.mean() < 0.005
        last = twin.layers[-1]
        one_code = np.abs(last.weight - last.weight_zero[:, None]).max() * np.max(twin.step)
        assert np.abs(got - wanted).max() <= 2 * one_code
        np.testing.assert_array_equal(ql.nn.decisions(got)[~far], twin.predict(x)[~far])


@pytest.mark.parametrize("signed", [False, True])
def test_output_codes_differ_by_one_at_most(tmp_path, signed):
    tensor = ql.QuantizationScheme.ASYMMETRIC_PER_TENSOR
    for seed in range(4):
        quantized, x = quantized_model(seed)
        grid = ql.choose_params(quantized.predict_logits(x), tensor, signed=signed)
        twin = integer_model(quantized, grid)
        path = ql.export_onnx(twin, tmp_path / "model.onnx")
        codes = twin.integer_forward(ql.quantize(x, twin.input_grid).codes)[:, 0].astype(int)
        for level in (PLAIN, FUSED):
            got = np.rint(run(path, x, level) / grid.scale).astype(int) + int(grid.zero_point)
            assert np.abs(got - codes).max() <= 1 and np.mean(got == codes) > 0.995
            np.testing.assert_array_equal(got > grid.zero_point, codes > grid.zero_point)


def test_the_graph_is_standard_and_fuses_into_integer_products(tmp_path):
    twin, fused = integer_model(quantized_model()[0]), tmp_path / "fused.onnx"
    path = ql.export_onnx(twin, tmp_path / "model.onnx")
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 21)]
    assert {n.domain for n in graph.graph.node} == {""}
    run(path, np.zeros((1, 5), np.float32), FUSED, fused)
    kinds = [n.op_type for n in onnx.load(fused).graph.node]
    assert kinds.count("QGemm") == 3 and "Gemm" not in kinds


def test_four_bits_are_stored_in_four_bits(tmp_path):
    sizes = []
    for bits in (4, 8):
        quantized, _ = quantized_model(0, (32, 64, 1), weight_bits=bits)
        for model in (quantized, integer_model(quantized)):
            sizes.append(ql.export_onnx(model, tmp_path / "m").stat().st_size)
    assert sizes[2] - sizes[0] > 900 and sizes[3] - sizes[1] > 900  # 2,112 weights, half a byte


def test_what_onnx_does_not_know_is_named(tmp_path):
    quantized, x = quantized_model()
    layers = quantized.reference.layers
    dynamic = post_training_quantize(quantized.reference, x, dynamic=True)
    signs = QuantizedModel([BinaryLinearLayer.from_linear(layers[0]), *layers[1:]])
    for bad, match in (
        (dynamic, r"layer 0 measures its grid anew on every row"),
        (signs, "layer 0 is a BinaryLinearLayer; expected weights on grids"),
        (layers[0], "model is a LinearLayer; expected a TradingModel, a QuantizedModel or"),
    ):
        with pytest.raises(ValueError, match=f"export_onnx: {match}"):
            ql.export_onnx(bad, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_reader_learns_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (lambda: ql.export_onnx(TradingModel((2, 1)), "m"), lambda: ql.load_onnx("m")):
        with pytest.raises(ImportError, match=r"pip install onnx, or 'quantlab\[silicon\]'"):
            call()


# In


@pytest.mark.parametrize("sizes", [(4, 1), (4, 16, 8, 1), (3, 7, 3)])
def test_a_float_model_goes_out_and_comes_back(tmp_path, sizes):
    model = TradingModel(sizes, seed=5)
    for layer in model.layers:
        layer.bias += np.float32(0.25)
    path = ql.export_onnx(model, tmp_path / "model.onnx")
    back = ql.load_onnx(path)
    x = np.random.default_rng(0).standard_normal((50, sizes[0])).astype(np.float32)
    np.testing.assert_array_equal(back.predict_logits(x), model.predict_logits(x))
    np.testing.assert_allclose(run(path, x, FUSED), model.predict_logits(x), atol=1e-5)


RNG = np.random.default_rng(7)
W = [RNG.standard_normal(s).astype(np.float32) for s in ((5, 7), (7, 4), (4, 1))]  # (in, out)
B = [RNG.standard_normal(w.shape[1]).astype(np.float32) for w in W]
X = RNG.standard_normal((60, 5)).astype(np.float32)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def saved(path, nodes, outputs=("y",), also=()):
    """A graph over x (rows, 5) with the weights w0 (in, out), t0 (out, in), b0, ... stored."""
    stored = {
        f"{kind}{i}": a for i, w in enumerate(W) for kind, a in (("w", w), ("t", w.T), ("b", B[i]))
    }
    stored |= dict(also)
    used = {name for n in nodes for name in n.input}
    graph = helper.make_graph(
        nodes, "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(np.array(a), n) for n, a in stored.items() if n in used],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def gemms(last="y"):
    """As torch exports Linear and ReLU."""
    return [
        node("Gemm", "x t0 b0", "a", transB=1), node("Relu", "a", "ha"),
        node("Gemm", "ha t1 b1", "b", transB=1), node("Relu", "b", "hb"),
        node("Gemm", "hb t2 b2", last, transB=1),
    ]  # fmt: skip


def logits():
    z = np.maximum(X @ W[0] + B[0], 0)
    return (np.maximum(z @ W[1] + B[1], 0) @ W[2] + B[2])[:, 0]


def test_torch_style_graph(tmp_path):
    model = ql.load_onnx(saved(tmp_path / "m", gemms()))
    assert model.sizes == (5, 7, 4, 1)
    np.testing.assert_allclose(model.predict_logits(X), logits(), atol=1e-5)
    with_sigmoid = [*gemms("z"), node("Identity", "z", "i"), node("Sigmoid", "i", "y")]
    twin = ql.load_onnx(str(saved(tmp_path / "m", with_sigmoid)))
    np.testing.assert_array_equal(twin.predict_logits(X), model.predict_logits(X))


def test_sklearn_style_graph_with_its_labels(tmp_path):
    constant = helper.make_node("Constant", [], ["b1c"], value=numpy_helper.from_array(B[1][None]))
    nodes = [
        constant, node("Cast", "x", "c", to=TensorProto.FLOAT),
        node("MatMul", "c w0", "m0"), node("Add", "m0 b0", "a"), node("Relu", "a", "ha"),
        node("MatMul", "ha w1", "m1"), node("Add", "b1c m1", "b"), node("Relu", "b", "hb"),
        node("MatMul", "hb w2", "m2"), node("Add", "m2 b2", "z"), node("Sigmoid", "z", "p"),
        node("Sub", "one p", "q"), node("Concat", "q p", "y", axis=1),
        node("ArgMax", "y", "label", axis=1),
    ]  # fmt: skip
    path = saved(tmp_path / "m", nodes, ("label", "y"), {"one": np.ones(1, np.float32)})
    with pytest.raises(ValueError, match=r"outputs \['label', 'y'\]; say which: output='y'"):
        ql.load_onnx(path)
    with pytest.raises(
        ValueError, match=r"Concat cannot be taken over; .*load_onnx\(path, output="
    ):
        ql.load_onnx(path, output="y")
    for name in ("p", "z"):
        model = ql.load_onnx(path, output=name)
        np.testing.assert_allclose(model.predict_logits(X), logits(), atol=1e-5)
    with pytest.raises(ValueError, match="no node gives 'other'; the tensors are"):
        ql.load_onnx(path, output="other")


ADD = [node("MatMul", "x w0", "m"), node("Add", "m b0", "y")]


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([*gemms("z"), node("Tanh", "z", "y")], "Tanh cannot be taken over; supported are Gemm"),
        ([node("Relu", "x", "a"), node("Gemm", "a w0 b0", "y")], "ReLU stands first"),
        ([node("Gemm", "x w0 b0", "a"), node("Gemm", "a w1 b1", "y")], "without a ReLU"),
        ([node("Gemm", "x w0 b0", "a"), node("Relu", "a", "y")], "last module is ReLU"),
        ([node("Gemm", "x w0 b0", "y", alpha=2.0)], "Gemm with {'alpha': 2.0} cannot"),
        ([node("Gemm", "x w0 b0", "y", transA=1)], "Gemm with {'transA': 1} cannot"),
        ([node("Relu", "x", "r"), node("MatMul", "x r", "y")], "MatMul with computed weights"),
        ([node("MatMul", "x w0", "m"), node("Relu", "m", "r"), node("Add", "m r", "y")],
         "Add of two computed tensors"),
        ([node("Add", "x one", "s"), node("Gemm", "s w0 b0", "y")], "Add without MatMul"),
        ([node("Relu", "x", "r"), node("Add", "r one", "s"), node("Gemm", "s w0 b0", "y")],
         "Add after Relu"),
        ([*ADD, node("Exp", "m", "side")], "Exp beside the path to 'y'"),
        ([node("Cast", "x", "c", to=TensorProto.FLOAT16), *ADD], "Cast"),
        ([node("Gemm", "x w0 b1", "y")], r"layer 0: .* bias has shape \(4,\)"),
        ([node("Gemm", "x w0 b0", "y"), ], None),
        (ADD, None),
        ([node("Gemm", "x w0", "y")], None),
        ([node("MatMul", "x w0", "m"), node("Add", "m one", "y")], None),
    ],
)  # fmt: skip
def test_what_a_graph_may_hold(tmp_path, nodes, match):
    if nodes[0].op_type == "Cast":
        nodes = [nodes[0], node("MatMul", "c w0", "m"), *nodes[2:]]
    path = saved(tmp_path / "m", nodes, also={"one": np.ones(1, np.float32)})
    if match is None:
        bias = {"b0": B[0], "one": 1}.get(nodes[-1].input[-1], 0)
        got = ql.load_onnx(path).predict_logits(X)
        np.testing.assert_allclose(got, X @ W[0] + bias, atol=1e-5)
        return
    with pytest.raises(ValueError, match="load_onnx: .*" + match):
        ql.load_onnx(path)


def test_quantized_graphs_and_other_domains_are_named(tmp_path):
    path = ql.export_onnx(quantized_model()[0], tmp_path / "m")
    with pytest.raises(ValueError, match=r"Gemm with computed weights cannot be taken over"):
        ql.load_onnx(path)
    foreign = [helper.make_node("Gemm", ["x", "w0", "b0"], ["y"], domain="com.example")]
    with pytest.raises(ValueError, match=r"com\.example"):
        ql.load_onnx(saved(tmp_path / "m", foreign))


def test_files_that_are_no_graph(tmp_path):
    path = tmp_path / "m"
    for content in (b"", b"no protobuf", b"\x08"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"load_onnx: .*m is no ONNX model"):
            ql.load_onnx(path)
    with pytest.raises(FileNotFoundError):
        ql.load_onnx(tmp_path / "none")


def test_a_loaded_model_enters_the_tools(tmp_path):
    model = ql.load_onnx(saved(tmp_path / "m", gemms()))
    quantized = post_training_quantize(model, X)
    assert isinstance(model.layers[0], LinearLayer) and model.copy().sizes == model.sizes
    assert np.mean(integer_model(quantized).predict(X) == model.predict(X)) > 0.9
