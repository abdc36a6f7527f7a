"""Judge a split as its source gives it, where exclusions or fixes touch it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import assembly
from ..arrays import Float32Array, Int64Array
from ..data.dataset import Dataset
from ..evaluation.as_given import AsGiven, Touched
from ..evaluation.metrics import evaluate as judge
from ..evaluation.predictions import Predictions
from ..inference.forward import Forward
from ..training.engines import hardware
from .opened import OpenedRun, load_checkpoint, with_weights


def as_given(
    run: OpenedRun, predictions: Predictions, *, checkpoint: str = "best"
) -> AsGiven | None:
    """The figures with what was left out of a split and with its labels as given.

    None where neither exclusions nor fixes touch the split that was predicted.

    Args:
        predictions: of the split as it was judged, by the weights of `checkpoint`.
    """
    dataset, names = run.dataset(), run.split().left_out.get(predictions.split, ())
    roster = dataset.everything()
    places = {name: index for index, name in enumerate(roster.names)} if names else {}
    usable = set(roster.left_out().tolist())
    left_out = np.array(
        [index for name in names if (index := places.get(name)) in usable], dtype=np.int64
    )
    numbers = roster.kept[predictions.indices]
    given = roster.labels[numbers]
    corrected = np.flatnonzero(given != predictions.labels)
    if not len(left_out) and not len(corrected):
        return None
    logits = predictions.logits
    if len(left_out):
        logits = np.concatenate([logits, _logits(run, dataset, left_out, checkpoint)])
    evaluation = judge(
        replace(
            predictions,
            logits=logits,
            novelty=None,
            labels=np.concatenate([given, roster.labels[left_out]]),
            indices=np.concatenate([numbers, left_out]),
        )
    )
    classes = dataset.classes
    of_left_out = [
        Touched(
            file=roster.names[index],
            given=classes[roster.labels[index]],
            label=None,
            reason=roster.reason(index),
        )
        for index in left_out.tolist()
    ]
    of_corrected = [
        Touched(
            file=roster.names[numbers[row]],
            given=classes[given[row]],
            label=classes[predictions.labels[row]],
            reason=roster.reason(int(numbers[row])),
        )
        for row in corrected.tolist()
    ]
    return AsGiven(
        count=evaluation.count,
        loss=evaluation.loss,
        accuracy=evaluation.accuracy,
        accuracy_interval=evaluation.accuracy_interval,
        touched=(*of_left_out, *of_corrected),
        gone=len(names) - len(left_out),
    )


def _logits(
    run: OpenedRun, dataset: Dataset, left_out: Int64Array, checkpoint: str
) -> Float32Array:
    """What the run's network says of images that are not in its dataset."""
    recipe, roster = run.recipe_here, dataset.everything()
    others = Dataset(
        np.ascontiguousarray(roster.images[left_out]),
        roster.labels[left_out],
        dataset.classes,
        origin=dataset.origin,
    )
    kept = load_checkpoint(run.folder, checkpoint)
    network = with_weights(run.untrained_network(len(kept.classes)), kept, run.path)
    material = assembly.prepare_material(recipe, others, run.split())
    feed = material.feed(np.arange(len(left_out)), recipe.training)
    with hardware.tuned(recipe.training):
        logits = Forward.of(network, recipe.training).all_logits(feed)
    return np.asarray(logits.cpu().numpy(), dtype=np.float32)
