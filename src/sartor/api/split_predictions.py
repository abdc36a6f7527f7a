"""Predictions of the images of a run's own splits, made and kept."""

from __future__ import annotations

from ..errors import FileError, RunError, UsageError
from ..evaluation.predictions import Predictions
from . import looks
from .dataset_predictions import predictions_for
from .opened import OpenedRun, load_checkpoint


def predictions_of(
    run: OpenedRun, split: str, *, checkpoint: str = "best", verb: str = "evaluate"
) -> Predictions:
    """Predict every image of a split and save the logits in the run, where it can be written to.

    For the test split, that `verb` looks at it is kept and counted.
    """
    dataset, parts = run.dataset(), run.split()
    if split not in ("train", "val", "test"):
        raise UsageError(f'There is no split "{split}".', "Choose train, val or test.")
    indices = parts.part(split)
    if not len(indices):
        raise UsageError(
            f"The {split} split of {run.path} has no images.", "Choose another with --split."
        )
    predictions = predictions_for(run, dataset, indices, split=split, checkpoint=checkpoint)
    try:
        run.folder.made_folder("predictions")
        predictions.save(run.folder.predictions_path(split))
    except (FileError, RunError) as error:
        # A run that is read-only, or somebody else's, can be judged all the same.
        run.say_once(f"The predictions are not kept in the run. {error.message}")
    looks.judged(run.folder, predictions, verb)
    return predictions


def validation_predictions(run: OpenedRun, checkpoint: str = "best") -> Predictions:
    """Those of the validation split: the ones that the run keeps, if these weights made them."""
    weights = load_checkpoint(run.folder, checkpoint).weights_sha256
    try:
        kept = Predictions.load(run.folder.predictions_path("val"))
    except RunError:
        return predictions_of(run, "val", checkpoint=checkpoint)
    known = (kept.split, kept.weights_sha256, kept.dataset_fingerprint)
    if known == ("val", weights, run.dataset().fingerprint) and (
        kept.indices.tolist() == run.split().val.tolist()
    ):
        return kept
    return predictions_of(run, "val", checkpoint=checkpoint)
