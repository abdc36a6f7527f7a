"""What the network of a run makes of images of a dataset, ready to be judged."""

from __future__ import annotations

import numpy as np

from .. import assembly
from ..arrays import Int64Array
from ..data.dataset import Dataset
from ..data.splits.split import Split
from ..data.splits.units import units_of
from ..evaluation.predictions import Predictions
from ..inference.forward import Forward
from ..training.engines import hardware
from .looks import pictures_of
from .opened import OpenedRun, load_checkpoint, with_weights


def predictions_for(
    run: OpenedRun, dataset: Dataset, indices: Int64Array, *, split: str, checkpoint: str
) -> Predictions:
    """The logits of images, with the run's threads, precision and kernels.

    Args:
        dataset: whose classes are those of the run, in the run's order.
        split: what the images are called.

    Raises:
        RunError: a broken run, or one without a checkpoint.
    """
    recipe, kept = run.recipe_here, load_checkpoint(run.folder, checkpoint)
    network = with_weights(run.untrained_network(len(kept.classes)), kept, run.path)
    nothing = np.empty(0, np.int64)
    material = assembly.prepare_material(recipe, dataset, Split(indices, nothing, nothing))
    feed = material.feed(indices, recipe.training)
    with hardware.tuned(recipe.training, network):
        logits = Forward.of(network, recipe.training).all_logits(feed)
    return Predictions(
        logits=logits.cpu().numpy(),
        labels=dataset.labels[indices],
        indices=indices,
        classes=kept.classes,
        split=split,
        loss=recipe.training.loss,  # type: ignore[arg-type]
        weights_sha256=kept.weights_sha256,
        dataset_fingerprint=dataset.fingerprint,
        groups=_groups_of(dataset, indices),
        pictures=pictures_of(dataset, indices),
    )


def _groups_of(dataset: Dataset, indices: Int64Array) -> Int64Array | None:
    if dataset.groups is None:
        return None
    units = units_of(dataset, duplicates_together=False)
    assert units is not None, "there are groups"
    return units[indices]
