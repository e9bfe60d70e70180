"""Candles from Bybit's public endpoint or a simulator, and the features a model learns from."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)  # __init__.pyi
