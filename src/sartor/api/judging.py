"""Evaluate: predictions of a split, and what they say of the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ..data.dataset import Dataset
from ..errors import FileError, RunError, UsageError
from ..evaluation.metrics import Evaluation
from ..evaluation.metrics import evaluate as judge
from ..evaluation.predictions import Predictions
from ..files import make_folder
from . import looks
from .as_given import as_given
from .dataset_predictions import predictions_for
from .opened import OpenedRun, open_run
from .other_data import data_at, is_own, predictions_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def evaluate(
    run: str | Path | OpenedRun,
    split: str = "test",
    *,
    checkpoint: str = "best",
    data: Any = None,
    model: nn.Module | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Evaluation:
    """Judge a run's weights on one split; the predictions are saved in the run.

    Args:
        split: "test", "val" or "train".
        checkpoint: "best" by the validation split (where there is none, the last), or "last".
        data: the run's own, as a program gave it or where it lies now; or other labelled pictures,
            as a path or as what `fit` takes from a program, whose classes are matched by name. Of
            these the test part is judged, or all where they have none, and nothing is saved.
        device: auto, cpu, cuda or mps; by default that of the training, if it is here.
        trust: let the run's own Python file run, whoever wrote it.

    Raises:
        UsageError: an unknown split, or one without images. RunError: a broken run.
    """
    if isinstance(data, Dataset) or data is None:
        opened = open_run(run, data, model, device=device, trust=trust)
    else:
        opened = open_run(run, None, model, device=device, trust=trust)
        found = data_at(opened, data)
        if not is_own(opened, found):
            return judge(predictions_on(opened, found, split, checkpoint=checkpoint))
        opened = open_run(opened, found)
    return evaluation_of(opened, predictions_of(opened, split, checkpoint=checkpoint), checkpoint)


def evaluation_of(run: OpenedRun, predictions: Predictions, checkpoint: str = "best") -> Evaluation:
    """Judge predictions of a run's own data, and beside these the split as given where exclusions
    or fixes touch it."""
    choices = choices_of(run, predictions.split, checkpoint)
    given = as_given(run, predictions, checkpoint=checkpoint)
    return replace(judge(predictions, choices), as_given=given)


def choices_of(run: OpenedRun, split: str, checkpoint: str) -> int:
    """Epochs from which the weights were chosen by the images of `split`; 1 where none was."""
    if split != "val" or checkpoint != "best":
        return 1
    return max(1, sum(row["val_accuracy"] is not None for row in run.history))


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
        make_folder(run.folder.own_folder("predictions"))
        predictions.save(run.folder.predictions_path(split))
    except (FileError, RunError) as error:
        # A run that is read-only, or somebody else's, can be judged all the same.
        run.say_once(f"The predictions are not kept in the run. {error.message}")
    looks.judged(run.folder, predictions, verb)
    return predictions


def mistakes_figure(
    run: OpenedRun, predictions: Predictions, count: int = 32, *, data: Dataset | None = None
) -> Figure:
    """The wrong predictions with the highest loss, each with true and predicted class.

    The number above each is the one that `sartor trace RUN --image N` takes. `data` is what was
    predicted, where it is not the run's own.
    """
    from ..reports.figures import sample_grid

    predicted = predictions.predicted()
    wrong = np.flatnonzero(predicted != predictions.labels)
    if not len(wrong):
        raise UsageError(
            f"There is no mistake on the {predictions.split} split.", "Leave --mistakes out."
        )
    losses = np.nan_to_num(predictions.example_losses()[wrong], nan=np.inf)
    worst = wrong[np.argsort(-losses, kind="stable")][:count]
    classes = predictions.classes
    captions = [
        f"image {predictions.indices[row]}\n"
        f"true: {classes[predictions.labels[row]]}\n"
        f"predicted: {predictions.class_name(int(predicted[row]))}"
        for row in worst
    ]
    dataset = data or run.dataset()
    return sample_grid(dataset, predictions.indices[worst].tolist(), captions=captions)
