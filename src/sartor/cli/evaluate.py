"""`sartor evaluate`: figures of a run on one split. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from ..errors import UsageError
from . import tables
from .arguments import CheckpointName, DeviceName, RuntimeName, SplitName
from .output import note, print_json, progress_shown, refuse_for_bundle

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..evaluation.metrics import Evaluation
    from ..evaluation.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a run or a bundle: accuracy with interval, figures per class, confusion matrix."""

    run: Positional[str]
    """A run (folder, name in runs/, or latest), or a bundle (folder or .zip)."""
    other: Positional[str | None] = None
    """Other labelled pictures, or a named set; required for a bundle. Classes are matched by name.
    If the data has no split, all of it is used."""
    split: SplitName = "test"
    """Images to evaluate on."""
    checkpoint: CheckpointName = "best"
    """Weights to use: best (best epoch on the validation split, or the last without one) or
    last."""
    data: Path | None = None
    """Where the run's data is now, if it moved; or other labelled pictures, as DATA."""
    runtime: RuntimeName | None = None
    """Runtime for a bundle: onnx, torch, or int8 if the bundle has it; by default onnx if it is
    installed, else torch."""
    device: DeviceName | None = None
    """Device to compute on; by default the one used in training if available, else the best one."""
    trust: bool = False
    """Run the run's own Python file, whoever wrote it, and accept a recipe edited by hand."""
    mistakes: Path | None = None
    """Draw the worst mistakes with true and predicted class into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print the result as one line of JSON."""


def evaluate(given: Evaluate) -> int:
    """Judge a run or a bundle."""
    from ..bundle.format import is_bundle

    if given.other is not None and given.data is not None:
        raise UsageError("The data is named twice.", "Leave --data out.")
    named = given.other if given.other is not None else given.data
    return _bundle(given, named) if is_bundle(given.run) else _run(given, named)


def _run(given: Evaluate, named: str | Path | None) -> int:
    from .. import api

    if given.runtime is not None:
        raise UsageError("--runtime is for bundles.", "Leave it out: a run answers in PyTorch.")
    run = api.Run.open(given.run, device=given.device, trust=given.trust)
    other = None
    with progress_shown(quiet=False) as progress:
        if named is not None:
            found = api.data_at(run, named, on_event=progress)
            other = None if api.is_own(run, found) else found
            run.given_dataset = found if other is None else None
        if other is None:
            run.dataset(on_event=progress)
    if other is None:
        api.calibrate(run, given.checkpoint)
        predictions = api.predictions_of(run, given.split, checkpoint=given.checkpoint)
        evaluation = api.evaluation_of(run, predictions, given.checkpoint)
    else:
        evaluation, predictions = api.evaluation_on(
            run, other, given.split, checkpoint=given.checkpoint
        )
    _draw_mistakes(given, evaluation, predictions, other or run.dataset())
    weights = run.judged_weights(given.checkpoint)
    looks = None if other else api.looks_of(run.folder, run.dataset(), run.split().test)
    if given.json:
        more = {**weights, "looks": looks and looks.to_json()}
        print_json(evaluation.to_json() | more | ({"data": str(named)} if other else {}))
        return 0
    where = f" on {named}" if other else ""
    tables.print_evaluation(evaluation, f"{run.path}{where}", tables.weights_line(weights))
    if evaluation.split == "test" and looks:
        print()
        tables.print_wrapped(f"These test images have been {looks.sentence}.")
    return 0


def _bundle(given: Evaluate, named: str | Path | None) -> int:
    from .. import api

    run_only = {"--checkpoint": given.checkpoint != "best", "--device": given.device is not None}
    refuse_for_bundle(given.run, run_only)

    with progress_shown(quiet=False) as progress:
        evaluation, predictions, dataset = api.evaluate_bundle(
            given.run,
            named,
            given.split,
            runtime=given.runtime,
            trust=given.trust,
            on_event=progress,
        )
    _draw_mistakes(given, evaluation, predictions, dataset)
    if given.json:
        more = {"data": str(named), "bundle": given.run}
        print_json(evaluation.to_json() | more)
    else:
        weights = f"weights {predictions.weights_sha256[:16]}, at the bundle's temperature"
        tables.print_evaluation(evaluation, f"{given.run} on {named}", weights)
    return 0


def _draw_mistakes(
    given: Evaluate, evaluation: Evaluation, predictions: Predictions, dataset: Dataset
) -> None:
    if given.mistakes and evaluation.accuracy == 1:
        note("There are no mistakes to draw.")
    elif given.mistakes:
        from .. import api
        from ..reports.figures import save_figure

        save_figure(api.mistakes_figure(predictions, dataset), given.mistakes)
        note(f"Wrote {given.mistakes}")
