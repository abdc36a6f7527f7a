"""The calibration that a run keeps for its weights, as every verb uses it."""

from __future__ import annotations

import shlex

from ..errors import RunError
from ..evaluation.predictions import Predictions
from ..files import write_bytes
from ..inference.calibrated import calibrated_by
from ..inference.calibration import Calibration
from ..inference.calibration_file import from_bytes, to_bytes
from .opened import OpenedRun, load_checkpoint


def kept_calibration(
    run: OpenedRun, weights_sha256: str, checkpoint: str = "best"
) -> Calibration | None:
    """What was fitted for these weights; None where nothing was, or its file is damaged.

    Args:
        checkpoint: as which the weights are known.
    """
    if weights_sha256 in run.calibrations:
        return run.calibrations[weights_sha256]
    for which in dict.fromkeys((checkpoint, "best", "last")):
        path = run.folder.calibration_path(which)
        if not path.is_file():
            continue
        try:
            content = run.folder.read_bytes(path, path.name)
            found, of_weights = from_bytes(content, str(path))
        except RunError as error:
            run.say_once(f"{error.message} {error.hint}")
            continue
        if of_weights == weights_sha256:
            run.calibrations[weights_sha256] = found
            return found
    return None


def calibration_at_hand(
    run: OpenedRun, weights_sha256: str, checkpoint: str = "best"
) -> Calibration:
    """What is kept; else what the saved predictions of validation images say, without novelty.

    Nothing is computed for it with the network.
    """
    kept = kept_calibration(run, weights_sha256, checkpoint)
    if kept is not None:
        return kept
    saved = saved_validation(run, weights_sha256)
    if saved is not None:
        return calibrated_by(saved, run.recipe.training.coverage)
    again = f"sartor evaluate {shlex.quote(str(run.path))} --split val"
    more = "" if checkpoint == "best" else f" --checkpoint {checkpoint}"
    return Calibration(
        remarks=(f"Nothing was calibrated for these weights; this does it: {again}{more}",)
    )


def calibration_in_use(run: OpenedRun, checkpoint: str = "best") -> Calibration:
    """As `calibration_at_hand`, for the weights of a checkpoint."""
    weights = load_checkpoint(run.folder, checkpoint).weights_sha256
    return calibration_at_hand(run, weights, checkpoint)


def saved_validation(run: OpenedRun, weights_sha256: str) -> Predictions | None:
    """The predictions of validation images that the run keeps, if these weights made them."""
    try:
        saved = Predictions.load(run.folder.predictions_path("val"))
    except RunError:
        return None
    usable = saved.split == "val" and len(saved) and saved.weights_sha256 == weights_sha256
    return saved if usable else None


def keep_calibration(
    run: OpenedRun, calibration: Calibration, weights_sha256: str, checkpoint: str
) -> None:
    """Keep what was fitted, for the run and for this process.

    Raises:
        FileError, RunError: the run cannot be written to.
    """
    run.calibrations[weights_sha256] = calibration
    path = run.folder.calibration_path(checkpoint)
    run.folder.made_folder(path.parent.name)
    write_bytes(path, to_bytes(calibration, weights_sha256))
