"""`sartor evaluate`: figures of a run on one split. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from . import tables
from .arguments import CheckpointName, DeviceName, SplitName
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
    data: Path | None = None
    """The run's data, where it moved; or other labelled pictures, whose classes are matched by
    name. Of these --split judges the part that they have; all, where they have none."""
    device: DeviceName | None = None
    """Device to compute on; by default that of the training if it is here, else what is here."""
    trust: bool = False
    """Use the run's own Python file, whoever wrote it, and a recipe that was changed by hand."""
    mistakes: Path | None = None
    """Draw the worst mistakes with true and predicted class into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print the result as one line of JSON."""


def evaluate(given: Evaluate) -> int:
    """Judge a run."""
    from .. import api
    from ..evaluation.metrics import evaluate as judge

    run = api.Run.open(given.run, device=given.device, trust=given.trust)
    other = None
    with progress_shown(quiet=False) as progress:
        if given.data is not None:
            found = api.data_at(run, given.data, on_event=progress)
            other = None if api.is_own(run, found) else found
            run.given_dataset = found if other is None else None
        if other is None:
            run.dataset(on_event=progress)
    if other is None:
        predictions = api.predictions_of(run, given.split, checkpoint=given.checkpoint)
        evaluation = api.evaluation_of(run, predictions, given.checkpoint)
    else:
        predictions = api.predictions_on(run, other, given.split, checkpoint=given.checkpoint)
        evaluation = judge(predictions)
    if given.mistakes and evaluation.accuracy == 1:
        note("There are no mistakes to draw.")
    elif given.mistakes:
        from ..reports.figures import save_figure

        save_figure(api.mistakes_figure(run, predictions, data=other), given.mistakes)
        note(f"Wrote {given.mistakes}")
    if given.json:
        print_json(evaluation.to_json() | ({"data": str(given.data)} if other else {}))
    else:
        where = f" on {given.data}" if other else ""
        tables.print_evaluation(evaluation, f"{run.path}{where}")
    return 0
