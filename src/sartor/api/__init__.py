"""The verbs, for Python and for the command line: the only place that sees everything.

Names are imported when they are first used, for most bring torch along and some need none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checking import check
    from .comparing import Comparison, compare
    from .explaining import Explanation, explain, explanations_figure
    from .fitting import RangeTest, compose_recipe, find_learning_rate, overfit_batch
    from .judging import evaluate, mistakes_figure, predictions_of
    from .looking import load, summary
    from .mapping import Embedding, embed
    from .notes import Sink
    from .opened import load_checkpoint
    from .predicting import Picture, Prediction, predict, predict_readable
    from .predictor import Predictor
    from .reporting import Report, report
    from .run import Run, fit, resume
    from .seeds import SeedRuns, fit_seeds
    from .tracing import Trace, trace

_HOMES = {
    "Embedding": "mapping",
    "Comparison": "comparing",
    "Explanation": "explaining",
    "Picture": "predicting",
    "Prediction": "predicting",
    "Predictor": "predictor",
    "RangeTest": "fitting",
    "Report": "reporting",
    "Run": "run",
    "SeedRuns": "seeds",
    "Sink": "notes",
    "Trace": "tracing",
    "check": "checking",
    "compare": "comparing",
    "compose_recipe": "fitting",
    "embed": "mapping",
    "evaluate": "judging",
    "explain": "explaining",
    "explanations_figure": "explaining",
    "find_learning_rate": "fitting",
    "fit": "run",
    "fit_seeds": "seeds",
    "load": "looking",
    "load_checkpoint": "opened",
    "mistakes_figure": "judging",
    "overfit_batch": "fitting",
    "predict": "predicting",
    "predict_readable": "predicting",
    "predictions_of": "judging",
    "report": "reporting",
    "resume": "run",
    "summary": "looking",
    "trace": "tracing",
}

__all__ = [
    "Comparison",
    "Embedding",
    "Explanation",
    "Picture",
    "Prediction",
    "Predictor",
    "RangeTest",
    "Report",
    "Run",
    "SeedRuns",
    "Sink",
    "Trace",
    "check",
    "compare",
    "compose_recipe",
    "embed",
    "evaluate",
    "explain",
    "explanations_figure",
    "find_learning_rate",
    "fit",
    "fit_seeds",
    "load",
    "load_checkpoint",
    "mistakes_figure",
    "overfit_batch",
    "predict",
    "predict_readable",
    "predictions_of",
    "report",
    "resume",
    "summary",
    "trace",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'sartor.api' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
