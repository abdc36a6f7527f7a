"""A dataset in figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Int64Array, UInt8Array
from .dataset import Dataset


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts, shape, classes, mean and standard deviation, fit for JSON.

    Mean and standard deviation are those of the images that are not set aside for testing, pixels
    in 0..1.
    """
    shown = dataset.not_for_testing()
    parts = _parts(dataset)
    mean, std = channel_statistics(dataset.images, shown)
    counts = {
        name: np.bincount(dataset.labels[indices], minlength=len(dataset.classes)).tolist()
        for name, indices in parts.items()
    }
    return {
        "set": dataset.name,
        "count": len(dataset),
        "parts": {name: len(indices) for name, indices in parts.items()},
        "shape": list(dataset.shape),
        "classes": [
            {"class": one, **{name: counts[name][label] for name in parts}}
            for label, one in enumerate(dataset.classes)
        ],
        "mean": list(mean),
        "std": list(std),
        "fingerprint": dataset.fingerprint,
    }


def _parts(dataset: Dataset) -> dict[str, Int64Array]:
    """The indices of each part that the source sets apart; "all" where it does not."""
    given = {"val": dataset.val, "test": dataset.test}
    aside = {name: indices for name, indices in given.items() if indices is not None}
    if not aside:
        return {"all": dataset.not_for_testing()}
    return {
        "train": np.setdiff1d(np.arange(len(dataset)), np.concatenate(list(aside.values()))),
        **aside,
    }


def channel_statistics(
    images: UInt8Array, indices: Int64Array
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels in 0..1; a constant channel has std 1.

    From exact integer sums, so that they depend on no order and no machine.
    """
    channels = images.shape[1]
    total, squares = np.zeros(channels, np.uint64), np.zeros(channels, np.uint64)
    # At most four million numbers at a time, which keeps large images from filling the memory.
    step = max(1, 4_000_000 // images[0].size)
    for start in range(0, len(indices), step):
        part = images[indices[start : start + step]].astype(np.uint32)
        total += part.sum(axis=(0, 2, 3), dtype=np.uint64)
        squares += (part * part).sum(axis=(0, 2, 3), dtype=np.uint64)
    count = max(len(indices) * images.shape[2] * images.shape[3], 1)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return (
        tuple(round(float(value) / 255, 6) for value in mean),
        tuple(round(float(value) / 255, 6) or 1.0 for value in std),
    )
