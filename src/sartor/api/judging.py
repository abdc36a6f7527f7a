"""Evaluate: predictions of a split, and what they say of the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ..bundle.format import Bundle, is_bundle
from ..data.dataset import Dataset
from ..errors import UsageError
from ..evaluation.metrics import Evaluation
from ..evaluation.metrics import evaluate as judge
from ..evaluation.predictions import Predictions
from .as_given import as_given
from .bundle_judging import evaluate_bundle
from .calibrating import calibrate
from .kept_calibration import kept_calibration
from .opened import OpenedRun, open_run
from .other_data import data_at, evaluation_on, is_own
from .promises import with_promises
from .split_predictions import predictions_of as predictions_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def evaluate(
    source: str | Path | OpenedRun | Bundle,
    split: str = "test",
    *,
    checkpoint: str = "best",
    data: Any = None,
    model: nn.Module | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Evaluation:
    """Judge a run's weights on one split, where the predictions are saved; or a run or a bundle on
    other labelled pictures.

    Args:
        source: a run or a bundle, by its path or opened; a bundle needs `data`.
        split: "test", "val" or "train".
        checkpoint: "best" by the validation split (where there is none, the last), or "last".
        data: the run's own, as a program gave it or where it lies now; or other labelled pictures,
            as a path or as what `fit` takes from a program, whose classes are matched by name. Of
            these the test part is judged, or all where they have none, and nothing is saved. The
            images of classes that only they have are left out of all figures, see `unmatched`.
        device: auto, cpu, cuda or mps; by default that of the training, if it is here.
        trust: let the run's own Python file run, whoever wrote it.

    Raises:
        UsageError: an unknown split, or one without images. RunError: a broken run.
    """
    if isinstance(source, Bundle) or (isinstance(source, str | Path) and is_bundle(source)):
        return evaluate_bundle(source, data, split, trust=trust)[0]
    if isinstance(data, Dataset) or data is None:
        opened = open_run(source, data, model, device=device, trust=trust)
    else:
        opened = open_run(source, None, model, device=device, trust=trust)
        found = data_at(opened, data)
        if not is_own(opened, found):
            return evaluation_on(opened, found, split, checkpoint=checkpoint)[0]
        opened = open_run(opened, found)
    calibrate(opened, checkpoint)
    return evaluation_of(opened, predictions_of(opened, split, checkpoint=checkpoint), checkpoint)


def evaluation_of(run: OpenedRun, predictions: Predictions, checkpoint: str = "best") -> Evaluation:
    """Judge predictions of a run's own data, and beside these the split as given where exclusions
    or fixes touch it."""
    choices = choices_of(run, predictions.split, checkpoint)
    given = as_given(run, predictions, checkpoint=checkpoint)
    kept = kept_calibration(run, predictions.weights_sha256, checkpoint)
    evaluation = with_promises(judge(predictions, choices), predictions, kept)
    return replace(evaluation, as_given=given)


def choices_of(run: OpenedRun, split: str, checkpoint: str) -> int:
    """Epochs from which the weights were chosen by the images of `split`; 1 where none was."""
    if split != "val" or checkpoint != "best":
        return 1
    return max(1, sum(row["val_accuracy"] is not None for row in run.history))


def mistakes_figure(predictions: Predictions, dataset: Dataset, count: int = 32) -> Figure:
    """The wrong predictions for a dataset with the highest loss, with true and predicted class.

    The number above each is the one that `sartor trace RUN --image N` takes.
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
    return sample_grid(dataset, predictions.indices[worst].tolist(), captions=captions)
