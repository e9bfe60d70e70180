"""Candles from Bybit's public endpoint or a simulator, and the features a model learns from."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["bybit", "candles", "features", "synthetic"],
    submod_attrs={
        "bybit": [
            "ApiError",
            "BadPayloadError",
            "BybitError",
            "ForbiddenError",
            "GeoBlockedError",
            "IPBannedError",
            "NetworkError",
            "fetch_klines",
            "load_candles",
        ],
        "candles": ["CacheError", "CandleError", "Candles", "Source", "load_cache", "save_cache"],
        "features": [
            "FeatureScaler",
            "Features",
            "baseline_rules",
            "candle_features",
            "chronological_split",
            "simple_rules",
        ],
        "synthetic": ["synthetic_candles"],
    },
)
