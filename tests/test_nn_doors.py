"""Weights from elsewhere and back: arrays, scikit-learn, torch (its interface), files."""

import io
import json
import warnings
import zipfile

import numpy as np
import pytest

from quantlab.binary import binarize
from quantlab.nn import (
    BinaryLinearLayer,
    LinearLayer,
    QuantizedModel,
    TradingModel,
    integer_model,
    post_training_quantize,
)

X = np.random.default_rng(0).standard_normal((400, 5)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)


# Arrays


def test_arrays_become_a_model_that_owns_them():
    w = [np.float64([[1.0, 0, 0, 0, 0], [0, 2, 0, 0, 0]]), np.int8([[1, -1]])]
    model = TradingModel.from_arrays([(w[0], [0.5, 0.5]), (w[1], None)])
    wanted = np.maximum(X[:, 0] + 0.5, 0) - np.maximum(2 * X[:, 1] + 0.5, 0)
    np.testing.assert_allclose(model.predict_logits(X), wanted, atol=1e-6)
    w[0][:] = 0
    assert model.layers[0].weight.any() and model.layers[1].weight.dtype == np.float32
    assert model.sizes == (5, 2, 1) and model.copy().sizes == (5, 2, 1)
    assert model.fit(X, Y, epochs=1).sizes == (5, 2, 1)
    same = np.float32([[1, 2, 3, 4, 5]])
    shared = TradingModel.from_arrays([(same, np.zeros(1, np.float32))])
    same[:] = 0
    assert shared.layers[0].weight.all()


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ([], "no layers"),
        ([np.ones((2, 5))], "entry 0 is no pair"),
        ([(np.ones((5, 2)), np.ones(2))], r"layer 0: .* scikit-learn stores it: give weight.T"),
        ([(np.ones((2, 5)), None), (np.ones((1, 3)), None)], "takes 3 inputs, but layer 0 gives 2"),
        ([(np.ones(5), None)], r"layer 0: .* expected \(out, in\)"),
        ([([[1, np.nan]], None)], "layer 0: .* NaN"),
        ([([["a"]], None)], "layer 0: .* dtype"),
        ([(3.0, None)], r"layer 0: .* expected \(out, in\)"),
    ],
)
def test_arrays_that_are_no_network_are_named(pairs, match):
    with pytest.raises(ValueError, match=match):
        TradingModel.from_arrays(pairs)


# scikit-learn


def sklearn_mlp(y, **options):
    network = pytest.importorskip("sklearn.neural_network")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # thirty iterations do not converge
        return network.MLPClassifier((7, 4), max_iter=30, random_state=0, **options).fit(X, y)


@pytest.mark.parametrize("classes", [2, 3])
def test_sklearn_network_gives_the_same_probabilities(classes):
    y = Y if classes == 2 else np.digitize(X[:, 0], [-0.5, 0.5])
    theirs = sklearn_mlp(y)
    model = TradingModel.from_sklearn(theirs)
    logits = model.predict_logits(X).astype(np.float64)
    if classes == 2:
        ours = 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(ours, theirs.predict_proba(X)[:, 1], atol=1e-5)
    else:
        ours = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(ours, theirs.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), theirs.predict(X))


@pytest.mark.parametrize("classes", [2, 3])
def test_sklearn_linear_classifiers(classes):
    linear = pytest.importorskip("sklearn.linear_model")
    y = Y if classes == 2 else np.digitize(X[:, 0], [-0.5, 0.5])
    for theirs in (linear.LogisticRegression(), linear.SGDClassifier(fit_intercept=False)):
        theirs.fit(X, y)
        logits = TradingModel.from_sklearn(theirs).predict_logits(X)
        np.testing.assert_allclose(logits, theirs.decision_function(X), rtol=1e-4, atol=1e-4)


def test_sklearn_models_that_would_predict_something_else_are_refused():
    linear = pytest.importorskip("sklearn.linear_model")
    network = pytest.importorskip("sklearn.neural_network")
    pipeline = pytest.importorskip("sklearn.pipeline")
    several = np.stack([Y, 1 - Y], axis=1)
    for bad, match in (
        (sklearn_mlp(Y, activation="tanh"), "hidden activation is 'tanh'; only 'relu'"),
        (sklearn_mlp(several), "2 outputs with activation 'logistic'"),
        (network.MLPClassifier(), "MLPClassifier has no coefs_ or coef_; expected a fitted"),
        (linear.LinearRegression().fit(X, Y), "LinearRegression has no classes_"),
        (pipeline.make_pipeline(linear.LogisticRegression()).fit(X, Y), "Pipeline holds several"),
        (None, "NoneType has no coefs_"),
    ):
        with pytest.raises(ValueError, match=match):
            TradingModel.from_sklearn(bad)


# torch: stand-ins with the interface of torch 2.13 (module.children, detach, cpu, float)


class Tensor:
    def __init__(self, values, on="gpu", kind="bfloat16", grad=True):
        self.values, self.on, self.kind, self.grad = np.asarray(values), on, kind, grad

    def detach(self):
        return Tensor(self.values, self.on, self.kind, grad=False)

    def cpu(self):
        return Tensor(self.values, "cpu", self.kind, self.grad)

    def float(self):
        return Tensor(self.values, self.on, "float32", self.grad)

    def __array__(self, dtype=None, copy=None):
        assert (self.on, self.kind, self.grad) == ("cpu", "float32", False)  # as torch insists
        return self.values.astype(np.float32)


class Linear:
    def __init__(self, n_in, n_out, bias=True):
        rng = np.random.default_rng(n_in * n_out)
        self.weight = Tensor(rng.standard_normal((n_out, n_in)))
        self.bias = Tensor(rng.standard_normal(n_out)) if bias else None


class Sequential:
    def __init__(self, *parts):
        self.parts = parts

    def children(self):
        return iter(self.parts)


def module(name):
    return type(name, (), {})()


def test_torch_sequential_and_state_dict():
    a, b, c = Linear(5, 7), Linear(7, 4, bias=False), Linear(4, 1)
    relu, inner = module("ReLU"), Sequential(b, module("ReLU"), module("Dropout"))
    net = Sequential(a, module("Identity"), relu, inner, c, module("Sigmoid"))
    model = TradingModel.from_torch(net)
    z = X @ a.weight.values.T.astype("f4") + a.bias.values
    z = np.maximum(np.maximum(z, 0) @ b.weight.values.T, 0) @ c.weight.values.T + c.bias.values
    np.testing.assert_allclose(model.predict_logits(X), z[:, 0], atol=1e-4)
    state = {"0.weight": a.weight, "0.bias": a.bias, "net.2.weight": b.weight}
    state |= {"4.weight": c.weight, "4.bias": c.bias}
    twin = TradingModel.from_torch(state)
    np.testing.assert_array_equal(twin.predict_logits(X), model.predict_logits(X))
    assert TradingModel.from_torch(Linear(5, 2)).sizes == (5, 2)
    many = Sequential(Linear(5, 3), module("LogSoftmax"))
    assert TradingModel.from_torch(many).sizes == (5, 3)


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (Sequential(Linear(5, 4), module("Tanh"), Linear(4, 1)), "Tanh cannot be taken over"),
        (Sequential(Linear(5, 4), module("BatchNorm1d")), "BatchNorm1d cannot"),
        (Sequential(Linear(5, 4), Linear(4, 1)), "layer 1 follows a Linear without a ReLU"),
        (Sequential(module("ReLU"), Linear(5, 4)), "ReLU stands first"),
        (Sequential(Linear(5, 4), module("ReLU"), module("ReLU")), "ReLU stands after ReLU"),
        (Sequential(Linear(5, 4), module("ReLU")), "last module is ReLU on 4 outputs"),
        (Sequential(Linear(5, 4), module("Sigmoid"), Linear(4, 1)), "may only stand last"),
        (Sequential(Linear(5, 4), module("Sigmoid")), "Sigmoid on 4 outputs"),
        (Sequential(Linear(5, 1), module("Softmax")), "Softmax on 1 outputs"),
        (Sequential(Linear(5, 4), module("ReLU"), Linear(3, 1)), "takes 3 inputs"),
        (Sequential(), "no layers"),
        (module("Transformer"), "module is a Transformer; expected a Sequential"),
        ({"0.bias": Tensor([1.0])}, "a bias but no weight for '0'"),
        ({"0.weight": Tensor([1.0])}, "'0.weight' of shape"),
        ({"0.running_mean": Tensor([1.0])}, "'0.running_mean'"),
    ],
)
def test_torch_modules_that_cannot_be_taken_over_are_named(net, match):
    with pytest.raises(ValueError, match=match):
        TradingModel.from_torch(net)


# Files


def models():
    model = TradingModel((5, 8, 3), seed=2).fit(X, np.digitize(X[:, 0], [-0.5, 0.5]), epochs=2)
    yield model
    for options in (
        {},
        {"weight_bits": (4, None), "activation_bits": None, "block_size": 4},
        {"weight_bits": 1, "activation_bits": 12},
        {"weight_bits": 3, "dynamic": True},
    ):
        options = {"block_size": None} | options
        if options["block_size"]:
            options["block_size"] = 5
        yield post_training_quantize(model, X, **options)
    yield QuantizedModel([BinaryLinearLayer.from_linear(model.layers[0], X), model.layers[1]])


@pytest.mark.parametrize("i", range(6))
def test_a_file_gives_the_same_model_back(tmp_path, i):
    model = list(models())[i]
    path = tmp_path / "model.any"
    model.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.any"]
    twin = type(model).load(str(path))
    assert type(twin) is type(model) and twin.sizes == model.sizes
    assert twin.nbytes == model.nbytes and [type(a) for a in twin.layers] == [
        type(a) for a in model.layers
    ]
    np.testing.assert_array_equal(twin.predict_logits(X), model.predict_logits(X))
    if isinstance(model, QuantizedModel):
        with pytest.raises(ValueError, match="no float reference"):
            twin.layer_report(X)


def test_a_loaded_model_goes_on(tmp_path):
    model = next(models())
    model.save(tmp_path / "a")
    TradingModel.load(tmp_path / "a").fit(X, np.zeros(400, int), epochs=1)
    quantized = post_training_quantize(TradingModel.load(tmp_path / "a"), X)
    quantized.save(tmp_path / "a")  # over the old one
    twin = integer_model(QuantizedModel.load(tmp_path / "a"))
    np.testing.assert_array_equal(
        twin.predict_logits(X), integer_model(quantized).predict_logits(X)
    )
    with pytest.raises(ValueError, match="IntegerLayer has no file form"):
        twin.save(tmp_path / "b")


def rewritten(content, **changes):
    """The same file with another header."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    header = json.loads(arrays.pop("header").item()) | changes
    out = io.BytesIO()
    np.savez(out, header=np.array(json.dumps(header)), **arrays)
    return out.getvalue()


def test_files_that_are_no_model_are_named(tmp_path):
    path = tmp_path / "m"
    quantized = post_training_quantize(next(models()), X)
    quantized.save(path)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 3] ^= 1
    other = io.BytesIO()
    np.savez(other, header=np.array(json.dumps({"format": "something"})))
    objects = io.BytesIO()
    np.savez(objects, header=np.array([{}], dtype=object))
    empty_zip = io.BytesIO()
    zipfile.ZipFile(empty_zip, "w").close()
    for bad, match in (
        (bytes(flipped), "m is "),
        (content[: len(content) // 2], "m is not a model that can be read"),
        (b"", "m is damaged|m is not a model"),
        (b"not a zip", "m is not a model"),
        (other.getvalue(), "format is 'something'"),
        (objects.getvalue(), "pickle"),
        (empty_zip.getvalue(), "m is "),
        (rewritten(content, version=2), "version 2; this release of quantlab reads version 1"),
        (rewritten(content, kind="TradingModel"), "it holds a TradingModel; use TradingModel.load"),
        (rewritten(content, layers=[]), "do not chain"),
        (rewritten(content, layers=[{"type": "Other"}]), "Other"),
    ):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=match):
            QuantizedModel.load(path)
    with pytest.raises(FileNotFoundError):
        TradingModel.load(tmp_path / "none")


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path):
    model, path = TradingModel((2, 1)), tmp_path / "m"
    model.save(path)
    content = path.read_bytes()
    wanted = model.predict_logits(X[:, :2])
    for at in range(0, len(content), 3):
        broken = bytearray(content)
        broken[at] ^= 1 << (at % 8)
        path.write_bytes(broken)
        try:
            got = TradingModel.load(path).predict_logits(X[:, :2])
        except ValueError:
            continue
        np.testing.assert_array_equal(got, wanted)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    model, path = TradingModel((2, 1)), tmp_path / "m"
    model.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        TradingModel((3, 1)).save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["m"]


def test_on_grid_is_what_a_layer_multiplies():
    layer = LinearLayer(np.ones((2, 5)), np.zeros(2))
    assert layer.on_grid(X) is X
    binary = BinaryLinearLayer(binarize(np.ones((2, 5))), np.zeros(2), X.mean(axis=0))
    wanted = binary.on_grid(X) @ binary.values.T + binary.bias
    np.testing.assert_allclose(binary.forward(X), wanted, rtol=1e-4, atol=1e-4)
