"""Embed: a map of what a run's network sees in the images of a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import assembly
from ..data.dataset import Dataset
from ..data.feed.order import epoch_order
from ..errors import UsageError
from ..inspection.embedding import Embedding as Embedding
from ..inspection.embedding import features_of, lay_out, outlier_scores
from ..training.engines import hardware
from . import looks
from .opened import OpenedRun, load_checkpoint, open_run

MOST_POINTS = 5_000


def embed(
    run: str | Path | OpenedRun,
    split: str = "val",
    *,
    method: str = "pca",
    limit: int = MOST_POINTS,
    seed: int = 0,
    checkpoint: str = "best",
    data: Dataset | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Embedding:
    """The images of a split as points of a map, by the features before the network's last layer.

    Args:
        split: "val", "train" or "test".
        method: pca, tsne or umap (extra `maps`).
        limit: of more images, so many are drawn by `seed`.
        device, trust: as for `evaluate`.

    Raises:
        UsageError: no such split or method, or a split without images. RunError: a broken run.
    """
    run = open_run(run, data, device=device, trust=trust)
    found = embedded(run, split, method=method, limit=limit, seed=seed, checkpoint=checkpoint)
    if split == "test":
        dataset, weights = run.dataset(), load_checkpoint(run.folder, checkpoint).weights_sha256
        key = looks.key_of(dataset, run.split().test)
        looks.looked(run.folder, key, "map", weights, len(found.indices))
    return found


def embedded(
    run: OpenedRun, split: str, *, method: str, limit: int, checkpoint: str, seed: int = 0
) -> Embedding:
    """As `embed`, where the look at the images is counted already."""
    dataset, parts = run.dataset(), run.split()
    if split not in ("train", "val", "test"):
        raise UsageError(f'There is no split "{split}".', "Choose train, val or test.")
    indices = parts.part(split)
    if not len(indices):
        raise UsageError(f"The {split} split of {run.path} has no images.", "Choose another.")
    if len(indices) > limit:
        indices = np.sort(indices[epoch_order(len(indices), seed, 0)[:limit]])
    recipe = run.recipe_here
    material = assembly.prepare_material(recipe, dataset, parts)
    network = run.network(checkpoint)
    with hardware.tuned(recipe.training):
        feed = material.feed(indices, recipe.training)
        features, _ = features_of(network, feed, recipe.training)
    labels = dataset.labels[indices]
    return Embedding(
        points=lay_out(features, method, seed),
        labels=labels,
        indices=indices,
        classes=run.classes,
        split=split,
        method=method,
        outlier_scores=outlier_scores(features, labels),
    )
