"""The verbs, for Python and for the command line: the only place that sees everything."""

from .explaining import Explanation, explain, explanations_figure
from .fitting import compose_recipe, find_learning_rate, fit, overfit_batch, resume
from .judging import evaluate, mistakes_figure, predictions_of
from .looking import load, summary
from .mapping import embed
from .notes import Sink
from .predicting import Picture, Prediction, predict, predict_readable
from .run import Run, load_checkpoint

__all__ = [
    "Explanation",
    "Picture",
    "Prediction",
    "Run",
    "Sink",
    "compose_recipe",
    "embed",
    "evaluate",
    "explain",
    "explanations_figure",
    "find_learning_rate",
    "fit",
    "load",
    "load_checkpoint",
    "mistakes_figure",
    "overfit_batch",
    "predict",
    "predict_readable",
    "predictions_of",
    "resume",
    "summary",
]
