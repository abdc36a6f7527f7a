"""`sartor predict`: classify pictures. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from ..errors import UsageError
from . import tables
from .arguments import CheckpointName, DeviceName, InkName, MethodName
from .output import check_count, note, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..api import Prediction, Run

_NAMED = 5
_DRAWN = 60


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
    ink: InkName | None = None
    """Prepare writing in another way than the run does: off takes pictures as they are."""
    show_input: Path | None = None
    """Draw what the network is given of each picture into this file (.png, .svg or .pdf)."""
    explain: Path | None = None
    """Draw which pixels support each prediction into this file (.png, .svg or .pdf)."""
    method: MethodName = "occlusion"
    """How to find those pixels; grad-cam needs a network with convolutions."""
    checkpoint: CheckpointName = "best"
    """Weights to use: best or last epoch."""
    calibrated: bool = False
    """Divide the logits by the temperature that was fitted on the validation images."""
    device: DeviceName | None = None
    """Device to compute on; by default that of the training if it is here, else what is here."""
    trust: bool = False
    """Use the run's own Python file, whoever wrote it, and a recipe that was changed by hand."""
    json: bool = False
    """Print the result as one line of JSON."""


def predict(given: Predict) -> int:
    """Classify pictures; those that cannot be read are named, and make the exit code 1."""
    from .. import api

    if not given.pictures:
        raise UsageError("No picture is named.", "Name files, folders or a pattern such as 'in/*'.")
    check_count("--topk", given.topk)
    run = api.Run.open(given.run, device=given.device, trust=given.trust)
    predictions, faults = api.predict_readable(
        run,
        given.pictures,
        invert=given.invert,
        ink=given.ink,
        checkpoint=given.checkpoint,
        calibrated=given.calibrated,
    )
    for fault in faults:
        note(f"sartor: {fault.message} {fault.hint}")
    scores = run.recipe.training.loss == "mse"
    if predictions:
        _note_what_probabilities_are(given, run, scores)
    _note_what_is_unlike(predictions)
    if given.show_input and predictions:
        _show_input(given, run, predictions)
    if given.explain and predictions:
        _explain(given, run, [prediction.file for prediction in predictions])
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


def _note_what_is_unlike(predictions: Sequence[Prediction]) -> None:
    """Name the pictures that are unlike all training images, and in what."""
    unlike = [one for one in predictions if one.unlike_training]
    for one in unlike[:_NAMED]:
        note(f"{one.file} is unlike the training images: {'; '.join(one.unlike_training)}.")
    if len(unlike) > _NAMED:
        note(f"{len(unlike) - _NAMED:,} more pictures are unlike the training images.")
    if unlike:
        note("What the network says of such pictures means little; --show-input FILE draws them.")


def _show_input(given: Predict, run: Run, predictions: Sequence[Prediction]) -> None:
    from .. import api
    from ..reports.figures import save_figure

    assert given.show_input
    shown = predictions[:_DRAWN]
    inputs = api.inputs(run, [one.file for one in shown], invert=given.invert, ink=given.ink)
    captions = [f"{one.label} {one.probability:.0%}\n{Path(one.file).name}" for one in shown]
    save_figure(api.inputs_figure(inputs, captions), given.show_input)
    fewer = f", the first {len(shown)} pictures" if len(shown) < len(predictions) else ""
    note(f"Wrote {given.show_input}{fewer}")


def _explain(given: Predict, run: Run, files: list[str]) -> None:
    from .. import api
    from ..reports.figures import save_figure

    assert given.explain
    explanations = api.explain(
        run,
        files,
        method=given.method,
        invert=given.invert,
        ink=given.ink,
        checkpoint=given.checkpoint,
    )
    save_figure(api.explanations_figure(explanations), given.explain)
    note(f"Wrote {given.explain}")
