"""What the network of a run makes of images of a dataset, ready to be judged."""

from __future__ import annotations

import numpy as np
import torch

from .. import assembly
from ..arrays import Int64Array
from ..data.dataset import Dataset
from ..data.splits.split import Split
from ..data.splits.units import groups_of
from ..evaluation.predictions import Predictions
from ..inference.forward import Forward
from ..inference.novelty import Novelty
from ..training.engines import hardware
from .kept_calibration import kept_calibration
from .looks import pictures_of
from .opened import OpenedRun, load_checkpoint, with_weights
from .transferring import seen_by_head


def predictions_for(
    run: OpenedRun, dataset: Dataset, indices: Int64Array, *, split: str, checkpoint: str
) -> Predictions:
    """The logits of images, with the run's threads, precision and kernels; and their novelty, where
    the run keeps a score for these weights.

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
    calibration = kept_calibration(run, kept.weights_sha256, checkpoint)
    score = calibration.novelty if calibration else None
    novelty = None
    if score is not None:
        novelty = Novelty(score, recipe.training.loss).to(recipe.training.device)
    with hardware.tuned(recipe.training):
        known = seen_by_head(network, recipe, material, indices)
        if known and (score is None or network.get_submodule(score.layer) is known.head):
            logits, scores = known.logits, None
            if novelty is not None:
                with torch.inference_mode():
                    scores = novelty(known.features, known.logits)
        else:
            forward = Forward.of(network, recipe.training)
            with forward.own_threads():
                logits, scores = forward.all_scored(feed, novelty, score.layer if score else "")
    return Predictions(
        logits=logits.cpu().numpy(),
        novelty=None if scores is None else scores.cpu().numpy(),
        labels=dataset.labels[indices],
        indices=indices,
        classes=kept.classes,
        split=split,
        loss=recipe.training.loss,  # type: ignore[arg-type]
        weights_sha256=kept.weights_sha256,
        dataset_fingerprint=dataset.fingerprint,
        groups=groups_of(dataset, indices),
        pictures=pictures_of(dataset, indices),
    )
