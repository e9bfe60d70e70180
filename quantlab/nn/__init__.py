"""Floor 3: the trading model, its training, and its quantized twins."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "layers": ["BinaryLinearLayer", "LinearLayer", "QuantizedLinearLayer"],
        "model": ["TradingModel"],
        "training": ["TrainingOptions"],
        "ptq": ["QuantizedModel", "post_training_quantize"],
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
