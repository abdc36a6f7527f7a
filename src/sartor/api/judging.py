"""Evaluate: predictions of a split, and what they say of the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from .. import assembly
from ..data.dataset import Dataset
from ..errors import UsageError
from ..evaluation.metrics import Evaluation
from ..evaluation.metrics import evaluate as judge
from ..evaluation.predictions import Predictions
from ..files import make_folder
from ..inference.forward import Forward
from ..training.engines import hardware
from .as_given import as_given
from .opened import OpenedRun, load_checkpoint, open_run, with_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def evaluate(
    run: str | Path | OpenedRun,
    split: str = "test",
    *,
    checkpoint: str = "best",
    data: Dataset | None = None,
    model: nn.Module | None = None,
) -> Evaluation:
    """Judge a run's weights on one split; the predictions are saved in the run.

    Args:
        split: "test", "val" or "train".
        checkpoint: "best" by the validation split (where there is none, the last), or "last".

    Raises:
        UsageError: an unknown split, or one without images. RunError: a broken run.
    """
    opened = open_run(run, data, model)
    return evaluation_of(opened, predictions_of(opened, split, checkpoint=checkpoint), checkpoint)


def evaluation_of(run: OpenedRun, predictions: Predictions, checkpoint: str = "best") -> Evaluation:
    """Judge predictions, and beside these the split as given where lists of the run touch it."""
    given = as_given(run, predictions, checkpoint=checkpoint)
    return replace(judge(predictions), as_given=given)


def predictions_of(run: OpenedRun, split: str, *, checkpoint: str = "best") -> Predictions:
    """Predict every image of a split and save the logits in the run."""
    recipe, dataset, parts = run.recipe, run.dataset(), run.split()
    if split not in ("train", "val", "test"):
        raise UsageError(f'There is no split "{split}".', "Choose train, val or test.")
    indices = parts.part(split)
    if not len(indices):
        raise UsageError(
            f"The {split} split of {run.path} has no images.", "Choose another with --split."
        )
    kept = load_checkpoint(run.folder, checkpoint)
    network = with_weights(run.untrained_network(len(kept.classes)), kept, run.path)
    material = assembly.prepare_material(recipe, dataset, parts)
    feed = material.feed(indices, recipe.training)
    with hardware.tuned(recipe.training, network):
        logits = Forward.of(network, recipe.training).all_logits(feed)
    predictions = Predictions(
        logits=logits.cpu().numpy(),
        labels=dataset.labels[indices],
        indices=indices,
        classes=kept.classes,
        split=split,
        loss=recipe.training.loss,  # type: ignore[arg-type]
        weights_sha256=kept.weights_sha256,
        dataset_fingerprint=dataset.fingerprint,
    )
    predictions.save(_made_parent(run.folder.predictions_path(split)))
    return predictions


def mistakes_figure(run: OpenedRun, predictions: Predictions, count: int = 32) -> Figure:
    """The wrong predictions with the highest loss, each with true and predicted class.

    The number above each is the one that `sartor trace RUN --image N` takes.
    """
    from ..reports.figures import sample_grid

    predicted = predictions.predicted()
    wrong = np.flatnonzero(predicted != predictions.labels)
    if not len(wrong):
        raise UsageError(
            f"There is no mistake on the {predictions.split} split.", "Leave --mistakes out."
        )
    worst = wrong[np.argsort(-predictions.example_losses()[wrong], kind="stable")][:count]
    classes = predictions.classes
    captions = [
        f"image {predictions.indices[row]}\n"
        f"true: {classes[predictions.labels[row]]}\npredicted: {classes[predicted[row]]}"
        for row in worst
    ]
    return sample_grid(run.dataset(), predictions.indices[worst].tolist(), captions=captions)


def _made_parent(path: Path) -> Path:
    make_folder(path.parent)
    return path
