"""The public names of quantlab.teach."""

from . import (
    figures as figures,
    widgets as widgets,
    objects as objects,
    live_model as live_model,
    timing as timing,
    quiz as quiz,
    predict as predict,
    claims as claims,
)
from .widgets import ArrayExplorer as ArrayExplorer, GridExplorer as GridExplorer
from .objects import (
    Accumulator as Accumulator,
    Bits as Bits,
    Candle as Candle,
    Clip as Clip,
    Decision as Decision,
    Latent as Latent,
    Matrix as Matrix,
    Roofline as Roofline,
    Ruler as Ruler,
)
from .live_model import LiveModel as LiveModel
from .predict import Predict as Predict
from .progress import progress as progress
from .quiz import Quiz as Quiz
from .claims import ledger as ledger, record as record
from .guide import Guide as Guide
