"""How a reader uses the package, for mypy: tests/test_types.py checks it and never runs it."""

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import quantlab as ql
from quantlab.nn import QuantizedModel

Floats = npt.NDArray[np.float32]
x = np.linspace(-1.0, 1.0, 64).reshape(4, 16)
SYMMETRIC = ql.QuantizationScheme.SYMMETRIC_PER_CHANNEL

params = ql.choose_params(x, SYMMETRIC, bits=4, method="percentile", percentile=99)
assert_type(params, ql.QuantizationParams)
assert_type(params.scale, Floats)
by_hand = ql.QuantizationParams(0.5, 0, bits=4)
per_channel = ql.QuantizationParams([0.5, 1.0], [0, 1], axis=0)

q = ql.quantize(x, params)
assert_type(q, ql.QuantizedTensor)
assert_type(ql.dequantize(q), Floats)
assert_type(ql.fake_quantize([0.1, 0.2], by_hand), Floats)
assert_type(ql.ste_gradient(x, params, x), Floats)
assert_type(ql.snr_db(x, q.dequantize()), float)
assert_type(ql.measure(x, params).saturation, float)
assert_type(ql.predicted_snr_db(8, 3.0), float)
assert_type(ql.predicted_snr_db(np.arange(8), 3.0), npt.NDArray[np.float64])
assert_type(ql.flip_probability(20.0), float)
assert_type(ql.lloyd_max_levels("normal", 4), npt.NDArray[np.float64])
assert_type(ql.quantize_codebook(x, ql.NF4, "absmax", axis=0), ql.CodebookTensor)
assert_type(ql.xnor_matmul(ql.binarize(x), ql.binarize(x)), npt.NDArray[np.int32])

observer = ql.MinMaxObserver().update(x).update([3.0])
assert_type(observer.params(ql.QuantizationScheme.ASYMMETRIC_PER_TENSOR), ql.QuantizationParams)

candles = ql.synthetic_candles(500, seed=1)
assert_type(candles, ql.Candles)
model = ql.TradingModel((16, 8, 1), seed=0)
assert_type(ql.post_training_quantize(model, x), QuantizedModel)


def wrong_use() -> None:
    """Each of these is an error for mypy; it would report an ignore that nothing needs."""
    ql.quantize(x, 0.5)  # type: ignore[arg-type]
    ql.dequantize(x)  # type: ignore[arg-type]
    ql.choose_params(x, "symmetric")  # type: ignore[arg-type]
    ql.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def through_a_room() -> Any:
    """Rooms are typed too."""
    return ql.nn.TradingModel((2, 1)), ql.market.candle_features, ql.teach.Quiz
