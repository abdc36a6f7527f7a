"""sartor: labelled images in, a classifier that its owner understands, can trust and can ship.

    import sartor
    data = sartor.load("fashion-mnist")
    run = sartor.fit(data, model="lenet", epochs=5, opt="adam", lr=0.01)
    run.evaluate("test").accuracy

Names are imported when they are first used, so that `import sartor` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import (
        Comparison,
        Embedding,
        Explanation,
        Prediction,
        Predictor,
        Report,
        Run,
        SeedRuns,
        Trace,
        check,
        compare,
        embed,
        evaluate,
        explain,
        find_learning_rate,
        fit,
        fit_seeds,
        load,
        overfit_batch,
        predict,
        report,
        resume,
        summary,
        trace,
    )
    from .cli.progress import PlainProgress
    from .data.dataset import Dataset, Sample
    from .errors import Interrupted, SartorError, SartorWarning
    from .evaluation.metrics import Evaluation
    from .inspection.check.report import CheckReport
    from .models.summary import Summary
    from .recipe import Recipe, load_recipe

_HOMES = {
    "CheckReport": "inspection.check.report",
    "Comparison": "api",
    "Dataset": "data.dataset",
    "Embedding": "api",
    "Evaluation": "evaluation.metrics",
    "Explanation": "api",
    "Interrupted": "errors",
    "PlainProgress": "cli.progress",
    "Prediction": "api",
    "Predictor": "api",
    "Recipe": "recipe",
    "Report": "api",
    "Run": "api",
    "Sample": "data.dataset",
    "SartorError": "errors",
    "SartorWarning": "errors",
    "SeedRuns": "api",
    "Summary": "models.summary",
    "Trace": "api",
    "check": "api",
    "compare": "api",
    "embed": "api",
    "evaluate": "api",
    "explain": "api",
    "find_learning_rate": "api",
    "fit": "api",
    "fit_seeds": "api",
    "load": "api",
    "load_recipe": "recipe",
    "overfit_batch": "api",
    "predict": "api",
    "report": "api",
    "resume": "api",
    "summary": "api",
    "trace": "api",
}

__all__ = [
    "CheckReport",
    "Comparison",
    "Dataset",
    "Embedding",
    "Evaluation",
    "Explanation",
    "Interrupted",
    "PlainProgress",
    "Prediction",
    "Predictor",
    "Recipe",
    "Report",
    "Run",
    "Sample",
    "SartorError",
    "SartorWarning",
    "SeedRuns",
    "Summary",
    "Trace",
    "check",
    "compare",
    "embed",
    "evaluate",
    "explain",
    "find_learning_rate",
    "fit",
    "fit_seeds",
    "load",
    "load_recipe",
    "overfit_batch",
    "predict",
    "report",
    "resume",
    "summary",
    "trace",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'sartor' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
