"""TradingModel: gradients against central differences, determinism, early stopping, errors."""

import numpy as np
import pytest

from quantlab import QuantizationScheme, fake_quantize, ste_gradient
from quantlab.nn import LinearLayer, TradingModel, TrainingOptions, quantization_aware_train
from quantlab.nn.ptq import weight_params
from quantlab.nn.qat import _FakeQuantizer
from quantlab.nn.training import (
    Adam,
    flatten,
    forward,
    loss_and_gradients,
    loss_and_slope,
    unflatten,
)

SCHEME = QuantizationScheme.SYMMETRIC_PER_CHANNEL


def planted(n=4000, seed=0):
    """Four features, a nonlinear boundary, 5 % of the labels flipped."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4)).astype(np.float32)
    clean = np.sin(1.5 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] > 0
    return x, clean ^ (rng.random(n) < 0.05)


@pytest.mark.parametrize("sizes", [(3, 1), (3, 5, 1), (4, 7, 5, 1), (3, 6, 3), (2, 4, 4, 2)])
def test_gradients_equal_central_differences_in_float64(sizes):
    rng = np.random.default_rng(1)
    theta = flatten(TradingModel(sizes, seed=2)._pairs()).astype(np.float64)
    theta += 0.05 * rng.standard_normal(len(theta))  # biases off zero too
    x = rng.standard_normal((40, sizes[0]))
    y = rng.integers(0, max(sizes[-1], 2), 40)
    _, gradients = loss_and_gradients(unflatten(theta, sizes), x, y)
    analytic = flatten(gradients)
    assert analytic.dtype == np.float64
    numeric, step = np.empty_like(theta), 1e-5
    for i in range(len(theta)):
        moved = []
        for sign in (1, -1):
            probe = theta.copy()
            probe[i] += sign * step
            moved.append(loss_and_slope(forward(unflatten(probe, sizes), x)[2], y)[0])
        numeric[i] = (moved[0] - moved[1]) / (2 * step)
    error = np.abs(analytic - numeric) / np.maximum(np.abs(analytic) + np.abs(numeric), 1e-4)
    assert error.max() < 1e-6


def test_model_gradients_are_the_checked_pass_in_float32():
    model = TradingModel((4, 6, 1), seed=5)
    x, y = planted(64)
    loss, gradients = model.loss_and_gradients(x, y)
    wide = [(w.astype(np.float64), b.astype(np.float64)) for w, b in model._pairs()]
    wide_loss, wide_gradients = loss_and_gradients(wide, x.astype(np.float64), y)
    assert gradients[0][0].dtype == np.float32
    assert loss == pytest.approx(wide_loss, rel=1e-5)
    np.testing.assert_allclose(flatten(gradients), flatten(wide_gradients), atol=1e-6)


def test_loss_is_stable_for_huge_logits_and_known_at_zero():
    huge = np.float32([[3e38], [-3e38]])
    with np.errstate(over="raise", invalid="raise"):
        loss, slope = loss_and_slope(huge, np.float32([1, 0]))
    assert loss == 0 and not slope.any()
    loss, slope = loss_and_slope(np.zeros((2, 4)), np.array([0, 3]))
    assert loss == pytest.approx(np.log(4))
    np.testing.assert_allclose(slope[0] * 2, [-0.75, 0.25, 0.25, 0.25])


def test_adam_follows_algorithm_1():
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(5).astype(np.float32)
    expected, m, v = theta.astype(np.float64), np.zeros(5), np.zeros(5)
    adam = Adam(5, learning_rate=0.01)
    for t in range(1, 30):
        g = rng.standard_normal(5).astype(np.float32)
        adam.step(theta, g)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.astype(np.float64) ** 2
        expected -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(theta, expected, atol=2e-6)


def test_weight_decay_shrinks_weights_and_leaves_biases():
    theta = np.float32([2.0, 3.0])
    adam = Adam(2, learning_rate=0.1, decay=np.float32([0.5, 0.0]))
    adam.step(theta, np.zeros(2, np.float32))
    np.testing.assert_allclose(theta, [1.9, 3.0], rtol=1e-6)


def test_fit_learns_the_planted_boundary():
    x, y = planted()
    model = TradingModel((4, 32, 16, 1), seed=0).fit(x[:3000], y[:3000])
    assert np.mean(model.predict(x[3000:]) == y[3000:]) > 0.88
    assert model.predict_logits(x).dtype == np.float32
    assert model.predict_logits(x).shape == (4000,)


def test_softmax_head_learns_three_classes():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2000, 2))
    y = (np.hypot(*x.T) > 0.8).astype(int) + (np.hypot(*x.T) > 1.5)
    model = TradingModel((2, 16, 3), seed=0).fit(x, y, epochs=60)
    assert model.predict_logits(x).shape == (2000, 3)
    assert np.mean(model.predict(x) == y) > 0.9


def test_same_seed_same_bits_other_seed_other_bits():
    x, y = planted(1000)
    runs = [TradingModel((4, 8, 1), seed=s).fit(x, y, epochs=4) for s in (7, 7, 8)]
    first, second, other = (flatten(run._pairs()) for run in runs)
    np.testing.assert_array_equal(first, second)
    assert runs[0].history["train_loss"] == runs[1].history["train_loss"]
    assert runs[0].history["validation_loss"] == runs[1].history["validation_loss"]
    assert (first != other).any()
    shuffled = TradingModel((4, 8, 1), seed=7).fit(x, y, epochs=4, seed=99)
    assert (flatten(shuffled._pairs()) != first).any()


def test_early_stopping_restores_the_best_epoch():
    x, y = planted(400)
    model = TradingModel((4, 64, 64, 1), seed=0)
    model.fit(x, y, epochs=200, patience=4, learning_rate=1e-2, batch_size=32)
    losses = model.history["validation_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 4 < 200
    held_out = loss_and_slope(model.predict_logits(x[320:])[:, None], y[320:])[0]
    assert held_out == pytest.approx(losses[best], rel=1e-6)
    assert len(model.history["seconds"]) == len(model.history["train_loss"]) == len(losses)


def test_without_held_out_rows_all_epochs_run():
    x, y = planted(100)
    model = TradingModel((4, 4, 1)).fit(x, y, validation_fraction=0, epochs=5, patience=1)
    assert len(model.history["train_loss"]) == 5 and model.history["validation_loss"] == []


def test_held_out_rows_are_the_last_ones_or_those_given():
    x, y = planted(500)
    one = TradingModel((4, 8, 1)).fit(x, y, epochs=3)
    two = TradingModel((4, 8, 1)).fit(x[:400], y[:400], validation=(x[400:], y[400:]), epochs=3)
    np.testing.assert_array_equal(flatten(one._pairs()), flatten(two._pairs()))


def test_fit_leaves_no_shared_memory_and_copy_is_deep():
    x, y = planted(200)
    model = TradingModel((4, 4, 1)).fit(x, y, epochs=1)
    twin = model.copy()
    twin.layers[0].weight += 1
    assert (model.layers[0].weight != twin.layers[0].weight).all()
    assert twin.history == model.history
    assert model.nbytes == 4 * (4 * 4 + 4 + 4 + 1)


def test_activations_are_the_inputs_of_each_layer():
    model = TradingModel((4, 8, 3, 1), seed=1)
    x, _ = planted(50)
    inputs = model.activations(x)
    assert [a.shape for a in inputs] == [(50, 4), (50, 8), (50, 3)]
    np.testing.assert_array_equal(inputs[0], x)
    np.testing.assert_array_equal(inputs[1], np.maximum(model.layers[0].forward(x), 0))
    np.testing.assert_array_equal(model.layers[2].forward(inputs[2])[:, 0], model.predict_logits(x))


def test_predict_before_fit_uses_the_initial_weights():
    x, _ = planted(20)
    assert set(TradingModel((4, 8, 1)).predict(x)) <= {0, 1}


def test_one_set_of_options_for_both_trainings():
    x, y = planted(400)
    options = TrainingOptions(epochs=3, weight_decay=0.1, seed=9)
    by_set = TradingModel((4, 6, 1)).fit(x, y, options=options)
    by_name = TradingModel((4, 6, 1)).fit(x, y, epochs=3, weight_decay=0.1, seed=9)
    np.testing.assert_array_equal(by_set.layers[0].weight, by_name.layers[0].weight)
    changed = TradingModel((4, 6, 1)).fit(x, y, options=options, epochs=2)
    assert len(by_set.history["train_loss"]) == 3 and len(changed.history["train_loss"]) == 2
    trained = quantization_aware_train(by_set, x, y, 4, options=options)
    assert len(trained.history["train_loss"]) == 3
    with pytest.raises(TypeError, match="lr"):
        by_set.fit(x, y, lr=0.1)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("scheme", ["SYMMETRIC_PER_CHANNEL", "SYMMETRIC_PER_TENSOR"])
def test_the_quick_rounding_of_a_training_step_is_the_librarys(scheme, bits):
    scheme = QuantizationScheme[scheme]
    rng = np.random.default_rng(bits)
    weight = (rng.standard_t(3, (64, 33)) * 10.0 ** rng.integers(-6, 6, (64, 1))).astype(np.float32)
    weight[5] = 0  # a dead neuron
    weight[7, :2] = 0.0, -0.0
    pairs = [(weight, np.zeros(64, np.float32))]
    quick = _FakeQuantizer(scheme, bits, None, "minmax", "minmax", None)
    grid = weight_params(weight, scheme, bits)
    np.testing.assert_array_equal(quick.weights(pairs)[0][0], fake_quantize(weight, grid))
    gradient = rng.standard_normal(weight.shape).astype(np.float32)
    passed = gradient.copy()
    quick.pull_back(pairs, [(passed, np.zeros(64, np.float32))])
    np.testing.assert_array_equal(passed, ste_gradient(weight, grid, gradient))


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_the_gradient_through_a_grid_is_that_of_the_loss_with_the_rounding_frozen(bits):
    x, y = planted(64, seed=bits)
    model = TradingModel((4, 6, 1), seed=bits)
    quantizer = _FakeQuantizer(SCHEME, bits, None, "minmax", "minmax", None)
    used = [(w.astype(np.float64), b) for w, b in quantizer.weights(model._pairs())]
    theta = flatten(used).astype(np.float64)  # latent + residue, whatever the latent weights are
    gradients = loss_and_gradients(unflatten(theta, model.sizes), x.astype(np.float64), y)[1]
    numeric = np.zeros_like(theta)
    for i in range(len(theta)):
        for sign in (1, -1):
            probe = theta.copy()
            probe[i] += sign * 1e-6
            z = forward(unflatten(probe, model.sizes), x)[2]
            numeric[i] += sign * loss_and_slope(z, y)[0] / 2e-6
    np.testing.assert_allclose(flatten(gradients), numeric, atol=1e-8)
    passed = [(g.copy(), b.copy()) for g, b in gradients]
    quantizer.pull_back(model._pairs(), passed)
    for (w, _), (g, _), (p, _) in zip(model._pairs(), gradients, passed, strict=True):
        held = np.abs(w) > 2 * np.abs(w).mean(axis=1, keepdims=True)
        np.testing.assert_array_equal(p, np.where(held & (bits == 1), 0, g))


X, Y = planted(20)
BAD = X.copy()
BAD[3, 1] = np.nan
MESSAGES = [
    (lambda m: m.predict_logits(X[0]), r"shape \(4,\); expected two axes \(rows, 4\)"),
    (lambda m: m.predict_logits(X[:, :3]), "3 columns; the model takes 4"),
    (lambda m: m.predict_logits(X[:0]), "x is empty"),
    (lambda m: m.predict_logits(BAD), r"1 NaN value \(first at index \(3, 1\)\)"),
    (lambda m: m.predict_logits(X.astype(np.float64) * 1e300), "beyond float32"),
    (lambda m: m.predict_logits(X.astype(complex)), "dtype complex128"),
    (lambda m: m.fit(X, Y[:-1]), r"y has shape \(19,\); expected \(20,\)"),
    (lambda m: m.fit(X, Y * 2), "not 0 or 1"),
    (lambda m: m.fit(X, np.full(20, np.nan)), "not 0 or 1"),
    (lambda m: m.fit(X, Y, epochs=0), "epochs is 0"),
    (lambda m: m.fit(X, Y, learning_rate=np.nan), "learning_rate is nan"),
    (lambda m: m.fit(X, Y, learning_rate=0), "expected a rate above 0"),
    (lambda m: m.fit(X, Y, learning_rate="1e-3"), "learning_rate is '1e-3'"),
    (lambda m: m.fit(X, Y, weight_decay=np.nan), "weight_decay is nan"),
    (lambda m: m.fit(X, Y, weight_decay=-0.1), "a decay of 0 or more"),
    (lambda m: m.fit(X, Y, epochs=2.5), r"epochs is 2\.5; expected an integer"),
    (lambda m: m.fit(X, Y, patience=True), "patience is True"),
    (lambda m: m.fit(X, Y, batch_size=0), "batch_size is 0"),
    (lambda m: m.fit(X, Y, seed=-1), "seed is -1"),
    (lambda m: TradingModel((4, 1), seed=-1), "TradingModel: seed is -1"),
    (lambda m: TradingModel((4, 1), seed=1.5), r"TradingModel: seed is 1\.5"),
    (lambda m: quantization_aware_train(m, X, Y, 4, epochs=2.5), r"epochs is 2\.5"),
    (lambda m: m.fit(X, Y, validation_fraction=1.0), "validation_fraction is 1.0"),
    (lambda m: m.fit(X[:2], Y[:2], validation_fraction=0.9), "leave none to train on"),
    (lambda m: m.fit(X, Y, validation=(X[:, :2], Y)), "validation.*2 columns"),
    (lambda m: m.fit(X, Y, learning_rate=1e30, epochs=9), "lower learning_rate"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(TradingModel((4, 3, 1)))


def test_initializations_have_their_variance_and_one_draw():
    he, glorot = (TradingModel((4, 4096, 1), seed=3, init=kind) for kind in ("he", "glorot"))
    assert he.layers[0].weight.std() == pytest.approx(np.sqrt(2 / 4), rel=0.02)
    assert glorot.layers[0].weight.std() == pytest.approx(np.sqrt(2 / 4100), rel=0.02)
    ratio = he.layers[0].weight / glorot.layers[0].weight
    np.testing.assert_allclose(ratio, np.sqrt(4100 / 4), rtol=1e-5)
    with pytest.raises(ValueError, match="method is 'xavier'; choose one of"):
        TradingModel((4, 1), init="xavier")


@pytest.mark.parametrize("sizes", [(4,), (), (4, 0, 1), (4, 2.5, 1), (4, -1)])
def test_invalid_sizes(sizes):
    with pytest.raises(ValueError, match="expected two or more positive integers"):
        TradingModel(sizes)


def test_linear_layer_checks_its_shapes():
    with pytest.raises(ValueError, match=r"expected \(out, in\)"):
        LinearLayer(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="one value per output"):
        LinearLayer(np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="weight has 1 NaN"):
        LinearLayer([[np.nan]], [0.0])
