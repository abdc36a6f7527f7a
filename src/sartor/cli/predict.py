"""`sartor predict`: classify pictures. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from ..errors import UsageError
from . import tables
from .arguments import CheckpointName, MethodName
from .output import check_count, note, print_json

if TYPE_CHECKING:
    from ..api import Run


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Classify pictures, prepared exactly as in training."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    pictures: Positional[tuple[str, ...]]
    """Picture files, folders, or patterns such as 'in/*.png'."""
    topk: int | None = None
    """Show the N most probable classes; by default 3."""
    invert: bool = False
    """Invert the pictures: they are dark on light, but training had light on dark."""
    explain: Path | None = None
    """Draw which pixels support each prediction into this file (.png, .svg or .pdf)."""
    method: MethodName = "occlusion"
    """How to find those pixels; grad-cam needs a network with convolutions."""
    checkpoint: CheckpointName = "best"
    """Weights to use: best or last epoch."""
    calibrated: bool = False
    """Divide the logits by the temperature that was fitted on the validation images."""
    json: bool = False
    """Print the result as one line of JSON."""


def predict(given: Predict) -> int:
    """Classify pictures; those that cannot be read are named, and make the exit code 1."""
    from .. import api

    if not given.pictures:
        raise UsageError("No picture is named.", "Name files, folders or a pattern such as 'in/*'.")
    check_count("--topk", given.topk)
    run = api.Run.open(given.run)
    predictions, faults = api.predict_readable(
        run,
        given.pictures,
        invert=given.invert,
        checkpoint=given.checkpoint,
        calibrated=given.calibrated,
    )
    for fault in faults:
        note(f"sartor: {fault.message} {fault.hint}")
    scores = run.recipe.training.loss == "mse"
    if predictions:
        _note_what_probabilities_are(given, run, scores)
    if given.explain and predictions:
        _explain(given, [prediction.file for prediction in predictions])
    if given.json:
        print_json([prediction.to_json(given.topk) for prediction in predictions])
    elif predictions:
        shown = "share of scores" if scores else "probability"
        tables.print_predictions(predictions, given.topk or 3, shown)
    return 1 if faults else 0


def _note_what_probabilities_are(given: Predict, run: Run, scores: bool) -> None:
    """That they are none, or at which temperature they are."""
    from .. import api

    if scores:
        note(
            "Trained with the loss mse: the numbers are shares of the outputs, clipped to 0..1, "
            "and not probabilities."
        )
        return
    fitted = api.saved_temperature(run, given.checkpoint)
    if fitted is None:
        return
    value = fitted.temperature.value
    if given.calibrated:
        note(f"Probabilities are at the temperature {value:.3f}, fitted on validation images.")
    elif fitted.needed:
        lean = "overconfident" if value > 1 else "underconfident"
        note(
            f"Probabilities are {lean} on the validation images; --calibrated divides the logits "
            f"by the temperature fitted there, {value:.3f}."
        )


def _explain(given: Predict, files: list[str]) -> None:
    from .. import api
    from ..reports.figures import save_figure

    assert given.explain
    explanations = api.explain(
        given.run,
        files,
        method=given.method,
        invert=given.invert,
        checkpoint=given.checkpoint,
    )
    save_figure(api.explanations_figure(explanations), given.explain)
    note(f"Wrote {given.explain}")
