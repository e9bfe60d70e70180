"""Floor 5: what the chapters show with: figures, explorers, quizzes, timing."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)  # __init__.pyi
