"""Baselines: what simple methods make of the same images, in seconds, for a network to beat.

Fitted on training images, judged on images that they have not seen: always the most frequent class;
a linear model on the pixels of a small image; and, where the set is small, a kernel machine on
gradients and colours, which on a few thousand pictures beats many a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Float32Array, Int64Array, UInt8Array
from ..data.dataset import Dataset
from ..data.feed.order import epoch_order
from ..evaluation.intervals import wilson
from ..evaluation.paired import difference_interval
from .check.kernel import kernel_machine
from .check.likeness import averaging
from .handcrafted import handcrafted

MOST_TAUGHT = 10_000
"""Training images of the linear model; more make it slower and hardly better."""
MOST_IMAGES = 6_000
"""Of training and of those that are judged: with more, gradients and colours take too long."""
_SIDE = 16
_STRENGTH, _STEPS = 0.05, 100
_AT_A_TIME = 2_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """A simple method and what it predicts."""

    name: str
    predicted: Int64Array
    """Class of each image that was asked for, int64 (M,)."""
    taught: int
    """Training images that it was fitted on."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "taught": self.taught, "predicted": self.predicted.tolist()}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Baseline:
        """What `to_json` gave."""
        predicted = np.asarray(kept["predicted"], np.int64)
        return cls(name=str(kept["name"]), predicted=predicted, taught=int(kept["taught"]))

    def judged(self, labels: Int64Array) -> dict[str, Any]:
        """Accuracy with its 95 % interval, for JSON."""
        correct, count = int((self.predicted == labels).sum()), len(labels)
        return {
            "name": self.name,
            "taught": self.taught,
            "correct": correct,
            "count": count,
            "accuracy": correct / count,
            "accuracy_interval": list(wilson(correct, count)),
        }

    def beside(self, labels: Int64Array, network: Int64Array) -> dict[str, Any]:
        """As `judged`, and by how much a network's predictions of the same images are better.

        The interval of the difference is for pairs (Tango): it knows which images both get right.
        """
        ours, theirs = self.predicted == labels, network == labels
        only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        interval = difference_interval(only_ours, only_theirs, len(labels))
        return {
            **self.judged(labels),
            "difference": (only_theirs - only_ours) / len(labels),
            "difference_interval": list(interval),
            "beaten": interval[0] > 0,
        }


def baselines(
    dataset: Dataset, taught: Int64Array, asked: Int64Array, seed: int = 0
) -> list[Baseline]:
    """Fit every baseline on the images `taught` and let it predict the images `asked`.

    The same seed gives the same predictions on the same machine.
    """
    return list(_baselines(dataset, taught, asked, seed))


def _baselines(
    dataset: Dataset, taught: Int64Array, asked: Int64Array, seed: int
) -> Iterator[Baseline]:
    labels = dataset.labels
    most = int(np.bincount(labels[taught]).argmax())
    yield Baseline(
        name="most frequent class", predicted=np.full(len(asked), most), taught=len(taught)
    )
    if len(np.unique(labels[taught])) < 2:
        return
    some = np.sort(taught[epoch_order(len(taught), seed, 0)[:MOST_TAUGHT]])
    height, width = dataset.shape[1:]
    predict = _linear(_small_pixels(dataset.images, some), labels[some])
    yield Baseline(
        name=f"linear model on {min(height, _SIDE)}x{min(width, _SIDE)} pixels",
        predicted=predict(_small_pixels(dataset.images, asked)),
        taught=len(some),
    )
    if len(taught) + len(asked) <= MOST_IMAGES:
        yield Baseline(
            name="kernel machine on gradients and colours",
            predicted=_kernel(dataset.images, labels, taught, asked),
            taught=len(taught),
        )


def _linear(pixels: Float32Array, labels: Int64Array) -> Callable[[Float32Array], Int64Array]:
    """Logistic regression; scikit-learn may stop before it converged, which is near enough."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, std = pixels.mean(), max(float(pixels.std()), 1.0)
    model = LogisticRegression(C=_STRENGTH, max_iter=_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((pixels - mean) / std, labels)

    def predict(others: Float32Array) -> Int64Array:
        predicted: Int64Array = model.predict((others - mean) / std).astype(np.int64)
        return predicted

    return predict


def _small_pixels(images: UInt8Array, indices: Int64Array) -> Float32Array:
    """At most 16 x 16 pixels of each channel, as rows; float32 (M, D)."""
    rows, columns = (averaging(length, _SIDE) for length in images.shape[2:])
    parts = [
        (rows @ (images[indices[start : start + _AT_A_TIME]].astype(np.float32) @ columns.T))
        for start in range(0, len(indices), _AT_A_TIME)
    ]
    return np.concatenate(parts).reshape(len(indices), -1)


def _kernel(
    images: UInt8Array, labels: Int64Array, taught: Int64Array, asked: Int64Array
) -> Int64Array:
    known, numbers = np.unique(labels[taught], return_inverse=True)
    features = handcrafted(images[np.concatenate([taught, asked])])
    scores = kernel_machine(features[: len(taught)], numbers, len(known), features[len(taught) :])
    predicted: Int64Array = known[scores.argmax(axis=1)]
    return predicted
