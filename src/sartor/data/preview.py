"""One picture as training sees it, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..arrays import UInt8Array
from ..errors import DataError
from .augment.pipeline import augmentation_of
from .dataset import Dataset
from .description import channel_statistics
from .feed.batches import Batches, Feed


class Variant(NamedTuple):
    """A picture as it looks in an epoch."""

    image: UInt8Array
    """uint8 (C, H, W)."""
    shares: dict[str, float]
    """Of each class that it shows."""


def variants(
    dataset: Dataset, augment: Sequence[str], index: int, *, count: int, seed: int = 0
) -> list[Variant]:
    """The picture in the first `count` epochs, by way of the batches that training takes.

    Raises:
        DataError: there is no such picture. Others as `augmentation_of`.
    """
    if not 0 <= index < len(dataset):
        raise DataError(
            f"There is no image {index}: the set holds {len(dataset):,}, numbered from 0.",
            f"Choose an index from 0 to {len(dataset) - 1}.",
        )
    shown = dataset.not_for_testing()
    mean, _ = channel_statistics(dataset.images, shown)
    batches = Batches(
        feed=Feed(
            images=torch.tensor(dataset.images),
            labels=torch.tensor(dataset.labels),
            indices=shown,
            normalize=lambda images: images.to(torch.float32),
        ),
        batch_size=1,
        shuffle=False,
        drop_last=False,
        seed=seed,
        augmentation=augmentation_of(
            augment, seed=seed, num_classes=len(dataset.classes), mean=mean
        ),
    )
    found = []
    for epoch in range(count):
        images, labels = batches.samples(torch.tensor([index]), epoch)
        found.append(Variant(_bytes(images[0]), _shares(labels[0], dataset.classes)))
    return found


def _bytes(image: torch.Tensor) -> UInt8Array:
    pixels: UInt8Array = image.round().clamp(0, 255).numpy().astype(np.uint8)
    return pixels


def _shares(label: torch.Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    if label.ndim == 0:
        return {classes[int(label)]: 1.0}
    return {name: share for name, share in zip(classes, label.tolist(), strict=True) if share > 0}
