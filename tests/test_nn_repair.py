"""What mends a rounded model without training: it must do what its page says, on any grid."""

import numpy as np
import pytest

from quantlab import QuantizationScheme, snr_db
from quantlab.nn import (
    TradingModel,
    choose_rounding,
    correct_bias,
    equalize_layers,
    post_training_quantize,
)

SEEDS = range(10)


@pytest.fixture(scope="module")
def data():
    """Inputs with a mean, correlated, and models that have learned something of them."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((3000, 4)) @ rng.standard_normal((4, 4)) + 0.5).astype(np.float32)
    y = x[:, 0] * x[:, 1] > x[:, 2]
    models = [TradingModel((4, 16, 8, 1), s, "glorot").fit(x, y, epochs=3) for s in SEEDS]
    return x[:1500], x[1500:], models


@pytest.mark.parametrize("bits", (2, 3, 4))
def test_chosen_rounding_beats_nearest_on_rows_it_has_not_seen(data, bits):
    seen, unseen, models = data
    gains = []
    for model in models:
        nearest = post_training_quantize(model, None, bits, None)
        chosen = choose_rounding(nearest, seen)
        exact = model.predict_logits(unseen)
        noise = [snr_db(exact, q.predict_logits(unseen)) for q in (nearest, chosen)]
        gains.append(noise[1] - noise[0])
    assert np.sum(np.array(gains) > 0) >= 8 and np.mean(gains) > 4, gains


@pytest.mark.parametrize("scheme", QuantizationScheme)
@pytest.mark.parametrize("block", (None, 4))
@pytest.mark.parametrize("bits", (1, 2, 8))
def test_grids_and_bytes_stay(data, scheme, block, bits):
    seen, unseen, models = data
    near = post_training_quantize(models[0], seen, bits, 6, scheme, block_size=block)
    chosen = choose_rounding(near, seen)
    assert chosen.nbytes == near.nbytes
    for layer, before in zip(chosen.layers, near.layers, strict=True):
        p = layer.weight.params
        assert p is before.weight.params and layer.activation is before.activation
        assert p.qmin <= layer.weight.codes.min() <= layer.weight.codes.max() <= p.qmax
        assert layer.weight.codes.dtype == before.weight.codes.dtype
    if bits < 8:  # beyond, the six bits of the inputs are what is lost
        exact = models[0].predict_logits(unseen)
        snr = [snr_db(exact, q.predict_logits(unseen)) for q in (near, chosen)]
        assert snr[1] > snr[0]


def test_each_column_is_made_up_for_by_least_squares(data):
    """The update is the one that solving for the free columns gives, written out."""
    seen, _, models = data
    model = TradingModel.from_arrays([(models[0].layers[0].weight, models[0].layers[0].bias)])
    near = post_training_quantize(model, None, 3, None)
    layer = choose_rounding(near, seen, damping=1e-9).layers[0]
    a = np.column_stack([seen, np.ones(len(seen))]).astype(float)
    free = np.column_stack([model.layers[0].weight, model.layers[0].bias]).astype(float)
    gram, scale = a.T @ a, near.layers[0].weight.params.scale.astype(float)
    for j in range(4):
        column = np.clip(np.rint(free[:, j] / scale), -3, 3) * scale
        rest = np.linalg.solve(gram[j + 1 :, j + 1 :], gram[j + 1 :, j])
        free[:, j + 1 :] += np.outer(free[:, j] - column, rest)
        free[:, j] = column
    np.testing.assert_allclose(layer.values, free[:, :4], atol=1e-6)
    np.testing.assert_allclose(layer.bias, free[:, 4], atol=1e-5)


def test_rows_that_say_nothing_leave_finite_weights(data):
    _, unseen, models = data
    near = post_training_quantize(models[0], None, 3, None)
    for rows in (np.zeros((10, 4)), np.ones((1, 4)), np.repeat(unseen[:1], 50, axis=0)):
        assert np.isfinite(choose_rounding(near, rows).predict_logits(unseen)).all()


def test_corrected_bias_leaves_no_mean_error_in_any_output(data):
    seen, _, models = data
    for bits, activation_bits in ((2, None), (3, 4), ((None, 2, 8), 8)):
        near = post_training_quantize(models[1], seen, bits, activation_bits)
        mended = correct_bias(near, seen)
        for q, least in ((near, 1e-3), (mended, 0)):
            outputs = zip(q._forward(seen, "")[1], models[1]._forward(seen, "")[1], strict=True)
            errors = [np.abs((z - aim).mean(axis=0)).max() for z, aim in outputs]
            assert max(errors) > least if q is near else max(errors) < 1e-4
        assert all(
            np.array_equal(a.values, b.values)
            for a, b in zip(near.layers, mended.layers, strict=True)
        )


def test_equalized_model_is_the_same_function_bit_for_bit(data):
    _, unseen, models = data
    for model in models[:3]:
        uneven = model.copy()  # planted: rows far apart, which a ReLU lets through
        factor = np.exp2(np.arange(16) % 8 - 4).astype(np.float32)
        uneven.layers[0].weight *= factor[:, None]
        uneven.layers[0].bias *= factor
        uneven.layers[1].weight /= factor
        equal = equalize_layers(uneven)
        assert np.array_equal(equal.predict_logits(unseen), model.predict_logits(unseen))
        exact = model.predict_logits(unseen)
        per_tensor = QuantizationScheme.SYMMETRIC_PER_TENSOR
        snr = [
            snr_db(
                exact, post_training_quantize(m, None, 6, None, per_tensor).predict_logits(unseen)
            )
            for m in (uneven, equal)
        ]
        assert snr[1] > snr[0] + 6
        for first, second in zip(equal.layers[:-1], equal.layers[1:], strict=True):
            ratio = np.abs(first.weight).max(axis=1) / np.abs(second.weight).max(axis=0)
            assert ((ratio >= 0.5) & (ratio <= 2)).all()


def test_dead_neurons_are_left_alone():
    model = TradingModel.from_arrays([([[0.0], [2.0]], None), ([[1.0, 0.0]], None)])
    equal = equalize_layers(model)
    assert [layer.weight.tolist() for layer in equal.layers] == [
        layer.weight.tolist() for layer in model.layers
    ]


def test_bad_input_is_named(data):
    seen, _, models = data
    near = post_training_quantize(models[0], None, 3, None)
    for repair in (choose_rounding, correct_bias):
        with pytest.raises(ValueError, match="calibration: x has shape"):
            repair(near, seen[0])
        with pytest.raises(ValueError, match="3 columns; the model takes 4"):
            repair(near, seen[:, :3])
        with pytest.raises(ValueError, match="TradingModel without a float reference"):
            repair(models[0], seen)
        with pytest.raises(ValueError, match="NaN"):
            repair(near, np.full((5, 4), np.nan))
    for damping in (0, -1, np.nan):
        with pytest.raises(ValueError, match="damping"):
            choose_rounding(near, seen, damping)
    with pytest.raises(ValueError, match="QuantizedModel; expected a TradingModel"):
        equalize_layers(near)
    with pytest.raises(ValueError, match="rounds is 0"):
        equalize_layers(models[0], 0)
