"""Embed: a map of what a run's network sees in the images of a split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import assembly
from ..data.dataset import Dataset
from ..data.feed.order import epoch_order
from ..errors import UsageError
from ..inspection import embedding as inspection
from ..inspection.embedding import features_of, lay_out, strangeness_of
from ..training.engines import hardware as engine
from .opened import OpenedRun, open_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 5_000


class Embedding(inspection.Embedding):
    """Every image of a split as a point; near means alike to the network."""

    def plot(self) -> Figure:
        """Every image as a dot in the colour of its class, the strangest ringed."""
        from ..reports.figures import embedding_figure

        return embedding_figure(self)


def embed(
    run: str | Path | OpenedRun,
    split: str = "val",
    *,
    method: str = "pca",
    limit: int = MOST_POINTS,
    seed: int = 0,
    checkpoint: str = "best",
    data: Dataset | None = None,
) -> Embedding:
    """The images of a split as points of a map, by the features before the network's last layer.

    Args:
        split: "val", "train" or "test".
        method: pca, tsne or umap (extra `maps`).
        limit: of more images, so many are drawn by `seed`.

    Raises:
        UsageError: no such split or method, or a split without images. RunError: a broken run.
    """
    run = open_run(run, data)
    dataset, parts = run.dataset(), run.split()
    if split not in ("train", "val", "test"):
        raise UsageError(f'There is no split "{split}".', "Choose train, val or test.")
    indices = parts.part(split)
    if not len(indices):
        raise UsageError(f"The {split} split of {run.path} has no images.", "Choose another.")
    if len(indices) > limit:
        indices = np.sort(indices[epoch_order(len(indices), seed, 0)[:limit]])
    recipe = run.recipe
    material = assembly.prepare_material(recipe, dataset, parts)
    network = run.network(checkpoint)
    with engine.tuned(recipe.training, network):
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
        strangeness=strangeness_of(features, labels),
    )
