"""Floor 5: what the chapters show with: figures, explorers, quizzes, timing."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["figures", "widgets", "objects", "timing", "quiz", "predict"],
    submod_attrs={
        "widgets": ["ArrayExplorer", "GridExplorer"],
        "objects": ["Ruler"],
        "predict": ["Predict"],
        "quiz": ["Quiz"],
    },
)
