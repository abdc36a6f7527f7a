"""Looks at test images: every verb that takes one says so here, and is told how many there were."""

from __future__ import annotations

from ..arrays import Int64Array
from ..data.dataset import Dataset
from ..evaluation.predictions import Predictions
from ..files import sha256_of
from ..runs.folder import RunFolder
from ..runs.looks import Looks, key_of_images, log_look, looks_at
from .notes import warn


def pictures_of(dataset: Dataset, indices: Int64Array) -> tuple[str, ...] | None:
    """Which file each image came from, by name and content; None where there are no files."""
    origin = dataset.origin
    if origin is None or origin.file_sha256 is None or dataset.files is None:
        return None
    contents = origin.file_sha256
    names = (dataset.files[index] for index in indices)
    pairs = zip(names, contents[indices], strict=True)
    return tuple(sha256_of(name.encode() + content.tobytes())[:32] for name, content in pairs)


def key_of(dataset: Dataset, test: Int64Array) -> str:
    """What these test images are known by."""
    return key_of_images(dataset.fingerprint, test, pictures_of(dataset, test))


def judged(folder: RunFolder, predictions: Predictions, verb: str) -> None:
    """Keep that a run's predictions were looked at, where they are of test images."""
    if predictions.split == "test":
        key = key_of_images(
            predictions.dataset_fingerprint, predictions.indices, predictions.pictures
        )
        looked(folder, key, verb, predictions.weights_sha256, len(predictions))


def looked(folder: RunFolder, key: str, verb: str, weights: str, images: int) -> None:
    """Keep that a run looked at test images; a warning where that cannot be written."""
    if not log_look(folder, key, verb, weights=weights, images=images):
        warn([f"A look at test images could not be counted: {folder.path} is read-only."])


def looks_of(folder: RunFolder, dataset: Dataset, test: Int64Array) -> Looks | None:
    """How often a run's test images were looked at; None where it has none."""
    return looks_at(folder, key_of(dataset, test)) if len(test) else None
