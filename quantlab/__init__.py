"""quantlab: the quantization of trading models, small enough to read.

The names, listed in __init__.pyi, load on first use: ``import quantlab`` costs little more than
NumPy.
Rooms: ``ql.kernels`` (hot loops), ``ql.nn`` (models), ``ql.market`` (candles),
``ql.export`` (C, ONNX), ``ql.teach`` (figures, explorers, quizzes).
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # __init__.pyi
