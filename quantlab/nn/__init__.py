"""Floor 3: the trading model, its training, and its quantized twins."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "layers": ["BinaryLinearLayer", "LinearLayer", "QuantizedLinearLayer"],
        "base": ["Model"],
        "model": ["TradingModel"],
        "training": ["TrainingOptions"],
        "ptq": ["QuantizedModel", "observe", "post_training_quantize"],
        "integer": ["IntegerLayer", "IntegerModel", "integer_model"],
        "qat": ["quantization_aware_train"],
        "evaluate": [
            "accuracy",
            "agreement",
            "block_interval",
            "decisions",
            "edge_lost",
            "paired_interval",
        ],
    },
)
