"""quantlab: the quantization of trading models, small enough to read.

The names below load on first use, so that ``import quantlab`` costs little more than NumPy.
Rooms: ``ql.kernels`` (hot loops), ``ql.nn`` (models), ``ql.market`` (candles),
``ql.teach`` (figures, explorers, quizzes).
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["kernels", "market", "nn", "teach"],
    submod_attrs={
        "kernels": ["warm"],
        "scheme": ["QuantizationParams", "QuantizationScheme"],
        "calibration": ["choose_params"],
        "observers": ["HistogramObserver", "MinMaxObserver"],
        "tensor": [
            "QuantizedTensor",
            "dequantize",
            "fake_quantize",
            "lsq_gradient",
            "quantize",
            "ste_gradient",
        ],
        "integer": ["fixed_point_multiplier", "quantized_matmul", "requantize"],
        "mismatch": ["explain_mismatch"],
        "codebook": [
            "NF4",
            "CodebookTensor",
            "float_levels",
            "kmeans_levels",
            "learn_levels",
            "lloyd_max_levels",
            "log_levels",
            "quantize_codebook",
        ],
        "binary": ["BinaryTensor", "binarize", "xnor_matmul"],
        "error": [
            "flip_probability",
            "max_error",
            "measure",
            "mse",
            "predicted_snr_db",
            "saturation_rate",
            "snr_db",
        ],
        "market": [
            "Candles",
            "FeatureScaler",
            "candle_features",
            "chronological_split",
            "fetch_klines",
            "load_candles",
            "synthetic_candles",
        ],
        "nn": [
            "LinearLayer",
            "QuantizedLinearLayer",
            "TradingModel",
            "integer_model",
            "post_training_quantize",
            "quantization_aware_train",
        ],
        "study": ["PreparedData", "prepare", "profit", "seed_logits", "train_seeds"],
    },
)
