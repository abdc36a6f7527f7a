"""`sartor evaluate`: figures of a run on one split. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from . import tables
from .arguments import CheckpointName, SplitName
from .output import note, print_json, progress_shown


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a run: loss, accuracy with 95 % interval, figures per class, confusion matrix."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    split: SplitName = "test"
    """Images to evaluate on."""
    checkpoint: CheckpointName = "best"
    """Weights to use: best (best epoch on the validation split, or the last without one) or
    last."""
    mistakes: Path | None = None
    """Draw the worst mistakes with true and predicted class into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print the result as one line of JSON."""


def evaluate(given: Evaluate) -> int:
    """Judge a run."""
    from .. import api

    run = api.Run.open(given.run)
    with progress_shown(quiet=False) as progress:
        run.dataset(on_event=progress)
    predictions = api.predictions_of(run, given.split, checkpoint=given.checkpoint)
    evaluation = api.evaluation_of(run, predictions, given.checkpoint)
    if given.mistakes and evaluation.accuracy == 1:
        note("There are no mistakes to draw.")
    elif given.mistakes:
        from ..reports.figures import save_figure

        save_figure(api.mistakes_figure(run, predictions), given.mistakes)
        note(f"Wrote {given.mistakes}")
    if given.json:
        print_json(evaluation.to_json())
    else:
        tables.print_evaluation(evaluation, str(run.path))
    return 0
