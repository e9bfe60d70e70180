"""The public names: the one list of them, for type checkers and for the lazy loader alike."""

from . import export as export, kernels as kernels, market as market, nn as nn
from . import strategies as strategies, teach as teach
from .kernels import warm as warm
from .scheme import (
    QuantizationParams as QuantizationParams,
    QuantizationScheme as QuantizationScheme,
)
from .calibration import choose_params as choose_params
from .observers import HistogramObserver as HistogramObserver, MinMaxObserver as MinMaxObserver
from .tensor import (
    QuantizedTensor as QuantizedTensor,
    dequantize as dequantize,
    fake_quantize as fake_quantize,
    lsq_gradient as lsq_gradient,
    quantize as quantize,
    ste_gradient as ste_gradient,
)
from .integer import (
    PackedWeights as PackedWeights,
    fixed_point_multiplier as fixed_point_multiplier,
    pack_weights as pack_weights,
    quantized_matmul as quantized_matmul,
    requantize as requantize,
)
from .mismatch import explain_mismatch as explain_mismatch
from .codebook import (
    NF4 as NF4,
    CodebookTensor as CodebookTensor,
    float_levels as float_levels,
    kmeans_levels as kmeans_levels,
    learn_levels as learn_levels,
    lloyd_max_levels as lloyd_max_levels,
    log_levels as log_levels,
    quantize_codebook as quantize_codebook,
    round_to_format as round_to_format,
)
from .binary import BinaryTensor as BinaryTensor, binarize as binarize, xnor_matmul as xnor_matmul
from .error import (
    flip_probability as flip_probability,
    max_error as max_error,
    measure as measure,
    mse as mse,
    predicted_snr_db as predicted_snr_db,
    saturation_rate as saturation_rate,
    snr_db as snr_db,
)
from .market import (
    Candles as Candles,
    FeatureScaler as FeatureScaler,
    candle_features as candle_features,
    chronological_split as chronological_split,
    fetch_klines as fetch_klines,
    load_candles as load_candles,
    synthetic_candles as synthetic_candles,
)
from .nn import (
    LinearLayer as LinearLayer,
    QuantizedLinearLayer as QuantizedLinearLayer,
    TradingModel as TradingModel,
    integer_model as integer_model,
    post_training_quantize as post_training_quantize,
    quantization_aware_train as quantization_aware_train,
    sweep as sweep,
)
from .export import (
    export_c as export_c,
    export_onnx as export_onnx,
    load_onnx as load_onnx,
    silicon_circuit as silicon_circuit,
)
from .study import (
    PreparedData as PreparedData,
    prepare as prepare,
    profit as profit,
    seed_logits as seed_logits,
    train_seeds as train_seeds,
)

__version__: str
