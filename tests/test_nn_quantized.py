"""Post-training quantization and quantization-aware training on planted problems."""

import numpy as np
import pytest

from quantlab import QuantizationScheme, choose_params, fake_quantize, quantize, snr_db
from quantlab.nn import (
    QuantizedLinearLayer,
    TradingModel,
    agreement,
    observe,
    post_training_quantize,
    quantization_aware_train,
)

PER_CHANNEL = QuantizationScheme.SYMMETRIC_PER_CHANNEL
SCHEMES = list(QuantizationScheme)


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8000, 4)).astype(np.float32)
    y = (np.sin(1.5 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] > 0) ^ (rng.random(8000) < 0.05)
    model = TradingModel((4, 32, 16, 1), seed=0).fit(x[:6000], y[:6000])
    return model, x[:6000], y[:6000], x[6000:], y[6000:]


def score(model, x, y):
    return 100 * np.mean(model.predict(x) == y)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 12, 16])
def test_every_scheme_and_width_predicts(trained, scheme, bits):
    model, x, _, xt, _ = trained
    quantized = post_training_quantize(model, x, bits, bits, scheme)
    logits = quantized.predict_logits(xt)
    assert logits.shape == (2000,) and logits.dtype == np.float32 and np.isfinite(logits).all()
    if bits >= 8:
        assert agreement(logits, model.predict_logits(xt)) > 98


def test_weights_only_is_the_float_model_on_rounded_weights(trained):
    model, _, _, xt, _ = trained
    quantized = post_training_quantize(model, None, 4, None)
    twin = model.copy()
    for layer in twin.layers:
        layer.weight = fake_quantize(layer.weight, choose_params(layer.weight, PER_CHANNEL, 4))
    np.testing.assert_array_equal(quantized.predict_logits(xt), twin.predict_logits(xt))


def test_error_shrinks_six_db_a_bit(trained):
    model, x, _, xt, _ = trained
    wanted = model.predict_logits(xt)
    snr = [
        snr_db(wanted, post_training_quantize(model, x, b, None).predict_logits(xt))
        for b in (6, 8, 10, 12)
    ]
    assert (np.diff(snr) > 8).all()
    assert (snr[-1] - snr[0]) / 6 == pytest.approx(6.02, abs=0.7)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_integer_forward_equals_the_simulation(trained, scheme, dynamic, bits):
    model, x, _, xt, _ = trained
    quantized = post_training_quantize(model, x, bits, 8, scheme, dynamic)
    for layer, inputs in zip(quantized.layers, quantized.activations(xt), strict=True):
        simulated, integer = layer.forward(inputs), layer.integer_forward(inputs)
        scale = np.abs(simulated).max()
        np.testing.assert_allclose(integer / scale, simulated / scale, atol=3e-6)


def test_static_grids_come_from_the_float_models_inputs(trained):
    model, x, *_ = trained
    quantized = post_training_quantize(model, x, 8, 8)
    for layer, inputs in zip(quantized.layers, model.activations(x), strict=True):
        expected = choose_params(inputs, QuantizationScheme.ASYMMETRIC_PER_TENSOR, 8, signed=False)
        assert layer.activation.scale == expected.scale
        assert layer.activation.zero_point == expected.zero_point
        assert not layer.activation.signed


def test_dynamic_follows_the_batch_and_static_saturates(trained):
    model, x, _, xt, _ = trained
    static = post_training_quantize(model, x, 8, 8)
    dynamic = post_training_quantize(model, None, 8, 8, dynamic=True)
    loud = xt * 30
    wanted = model.predict_logits(loud)
    assert snr_db(wanted, dynamic.predict_logits(loud)) > 25
    assert snr_db(wanted, static.predict_logits(loud)) < 15
    assert max(row["saturation"] for row in static.layer_report(loud)) > 0.5
    assert all(row["saturation"] == 0 for row in dynamic.layer_report(loud))


def test_no_row_changes_what_a_dynamic_model_decides_in_another(trained):
    model, _, _, xt, _ = trained
    quantized = post_training_quantize(model, None, 8, 4, dynamic=True)
    later = xt.copy()
    later[1000:] *= 1000
    np.testing.assert_array_equal(
        quantized.predict_logits(xt)[:1000], quantized.predict_logits(later)[:1000]
    )
    for layer, inputs in zip(quantized.layers, quantized.activations(xt), strict=True):
        params = layer.input_params(inputs)
        assert params.scale.shape == (2000,) and params.axis == 0
        alone = layer.integer_forward(inputs[7:8])
        np.testing.assert_array_equal(alone, layer.integer_forward(inputs)[7:8])


def test_calibration_may_come_in_pieces(trained):
    model, x, _, xt, _ = trained
    whole = post_training_quantize(model, x, 8, 8)
    pieces = post_training_quantize(model, (p for p in np.array_split(x, 7)), 8, 8)
    observers = observe(model, np.array_split(x, 3))
    seen = post_training_quantize(model, observers, 8, 8)
    nested = post_training_quantize(model, x[:50].tolist(), 8, 8)
    for other in (pieces, seen):
        np.testing.assert_array_equal(other.predict_logits(xt), whole.predict_logits(xt))
    np.testing.assert_array_equal(
        nested.predict_logits(xt), post_training_quantize(model, x[:50], 8, 8).predict_logits(xt)
    )
    exact = post_training_quantize(model, x, 8, 6, activation_method="percentile")
    streamed = post_training_quantize(
        model, iter(np.array_split(x, 5)), 8, 6, activation_method="percentile"
    )
    for a, b in zip(exact.layers, streamed.layers, strict=True):
        assert float(b.activation.scale) == pytest.approx(float(a.activation.scale), rel=0.02)
    with pytest.raises(ValueError, match="2 observers for 3 layers"):
        post_training_quantize(model, observers[:2])
    with pytest.raises(ValueError, match="calibration is a int; expected rows"):
        post_training_quantize(model, 3)
    with pytest.raises(ValueError, match="nothing seen yet"):
        post_training_quantize(model, iter([]))


def test_the_report_says_what_quantizing_activations_costs(trained):
    model, x, _, xt, _ = trained
    few = post_training_quantize(model, x, 8, 4).layer_report(xt)
    many = post_training_quantize(model, x, 8, 8).layer_report(xt)
    for a, b in zip(few, many, strict=True):
        assert (a["activation_bits"], b["activation_bits"]) == (4, 8)
        assert 20 < b["activation_snr_db"] - a["activation_snr_db"] < 28
    only = post_training_quantize(model, None, (8, None, 4), None).layer_report(xt)
    assert [row["activation_snr_db"] for row in only] == [np.inf] * 3
    assert [row["weight_bits"] for row in only] == [8, 32, 4]
    assert only[1]["weight_snr_db"] == np.inf and only[1]["activation_bits"] is None


def test_saturation_is_the_alarm(trained):
    model, x, *_ = trained
    quantized = post_training_quantize(model, x)
    assert quantized.saturation(x) < 1e-4  # rounded weights carry a few values past the range
    assert quantized.saturation(3 * x) > 0.1
    assert post_training_quantize(model, None, dynamic=True).saturation(3 * x) == 0.0


def test_nbytes_counts_everything_stored(trained):
    model, x, *_ = trained
    weights, outputs = 4 * 32 + 32 * 16 + 16, 32 + 16 + 1
    assert model.nbytes == 4 * (weights + outputs)
    only = post_training_quantize(model, None, 8, None)
    assert only.nbytes == weights + 4 * outputs + 4 * outputs  # codes, scales, biases
    assert post_training_quantize(model, None, 4, None).nbytes == only.nbytes - weights // 2
    static = post_training_quantize(model, x, 8, 8)
    assert static.nbytes == only.nbytes + 3 * (4 + 1)  # a scale and a zero point per layer
    assert post_training_quantize(model, None, 8, 8, dynamic=True).nbytes == only.nbytes
    tensor = post_training_quantize(model, None, 8, None, QuantizationScheme.SYMMETRIC_PER_TENSOR)
    assert tensor.nbytes == weights + 4 * 3 + 4 * outputs
    assert sum(row["bytes"] for row in static.layer_report(x[:10])) == static.nbytes


def test_layer_report_measures_each_layer(trained):
    model, x, _, xt, _ = trained
    coarse = post_training_quantize(model, x, 4, 8).layer_report(xt)
    fine = post_training_quantize(model, x, 8, 8).layer_report(xt)
    assert [row["shape"] for row in fine] == [(32, 4), (16, 32), (1, 16)]
    for low, high in zip(coarse, fine, strict=True):
        assert high["weight_snr_db"] - low["weight_snr_db"] > 20
        assert high["output_snr_db"] > low["output_snr_db"] > 5


def test_bits_per_layer_and_blocks(trained):
    model, _, _, xt, _ = trained
    mixed = post_training_quantize(model, None, (8, 2, 4), None)
    assert [layer.weight.params.bits for layer in mixed.layers] == [8, 2, 4]
    blocked = post_training_quantize(model, None, 4, None, block_size=8)
    assert [layer.weight.params.scale.shape for layer in blocked.layers] == [
        (32, 1),
        (16, 4),
        (1, 2),
    ]
    plain = post_training_quantize(model, None, 4, None)
    assert blocked.layer_report(xt)[1]["weight_snr_db"] > plain.layer_report(xt)[1]["weight_snr_db"]


def test_the_quantized_model_owns_its_memory(trained):
    model, x, _, xt, _ = trained
    model = model.copy()
    quantized = post_training_quantize(model, x)
    before = quantized.predict_logits(xt)
    for layer in model.layers:
        layer.weight += 1
        layer.bias += 1
    np.testing.assert_array_equal(quantized.predict_logits(xt), before)
    assert quantized.layer_report(xt)[0]["weight_snr_db"] > 30


@pytest.mark.parametrize(("bits", "margin"), [(1, 8.0), (2, 5.0), (3, 0.5)])
def test_training_recovers_what_few_bits_lose(trained, bits, margin):
    model, x, y, xt, yt = trained
    full = score(model, xt, yt)
    plain = score(post_training_quantize(model, None, bits, None), xt, yt)
    aware = score(quantization_aware_train(model, x, y, bits), xt, yt)
    assert aware > plain + margin
    assert full - aware < 0.5 * (full - plain)  # more than half of the loss is back


def test_training_with_quantized_activations(trained):
    model, x, y, xt, yt = trained
    plain = post_training_quantize(model, x, 2, 4)
    aware = quantization_aware_train(model, x, y, 2, activation_bits=4)
    assert all(layer.activation.bits == 4 for layer in aware.layers)
    assert score(aware, xt, yt) > score(plain, xt, yt) + 3


def test_training_is_deterministic_and_leaves_the_model_alone(trained):
    model, x, y, xt, _ = trained
    before = model.predict_logits(xt)
    one = quantization_aware_train(model, x, y, 2, epochs=2)
    two = quantization_aware_train(model, x, y, 2, epochs=2)
    np.testing.assert_array_equal(one.predict_logits(xt), two.predict_logits(xt))
    np.testing.assert_array_equal(model.predict_logits(xt), before)
    assert one.history["train_loss"] == two.history["train_loss"]
    assert len(one.history["validation_loss"]) == 2


def test_training_is_never_worse_than_rounding_on_held_out_loss(trained):
    model, x, y, _, _ = trained
    plain = post_training_quantize(model, None, 8, None)
    ruined = quantization_aware_train(model, x, y, 8, epochs=1, learning_rate=5.0)
    np.testing.assert_array_equal(ruined.predict_logits(x), plain.predict_logits(x))


def test_bad_input_is_named(trained):
    model, x, y, *_ = trained
    with pytest.raises(ValueError, match="calibration: x has 3 columns; the model takes 4"):
        post_training_quantize(model, x[:, :3])
    with pytest.raises(ValueError, match="calibration is None"):
        post_training_quantize(model, None)
    with pytest.raises(ValueError, match="2 entries for 3 layers"):
        post_training_quantize(model, x, (8, 4))
    with pytest.raises(ValueError, match="expected a TradingModel"):
        post_training_quantize(post_training_quantize(model, x), x)
    with pytest.raises(ValueError, match="bits is 17"):
        post_training_quantize(model, x, 17)
    with pytest.raises(ValueError, match=r"y has shape \(5,\)"):
        quantization_aware_train(model, x, y[:5], 4)
    weights_only = post_training_quantize(model, None, 8, None).layers[0]
    with pytest.raises(ValueError, match="activation_bits"):
        weights_only.integer_forward(x)
    blocked = post_training_quantize(model, x, 8, 8, block_size=2).layers[0]
    with pytest.raises(ValueError, match="per-channel scheme"):
        blocked.integer_forward(x)
    codes = quantize(np.ones((2, 3)), choose_params(np.ones((2, 3)), PER_CHANNEL))
    with pytest.raises(ValueError, match="bias has shape"):
        QuantizedLinearLayer(codes, np.zeros(3))
    with pytest.raises(ValueError, match="dynamic=True needs"):
        QuantizedLinearLayer(codes, np.zeros(2), dynamic=True)
