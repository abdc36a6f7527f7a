"""Whether something other than the content reveals the class: size, format, weight or mean colour.

If all pictures of one class came from one camera, a network learns the camera. So a linear probe,
logistic regression, tries to predict the class from a single such property, on pictures it was not
fitted to. Its accuracy is balanced, the mean over classes, so that chance is one in K.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...arrays import Float64Array, Int64Array, UInt8Array
from ...data.feed.order import epoch_order
from .finding import Finding
from .subject import NotApplicableError, Subject

NOTED = 0.15
"""Share of the way from chance to certainty; less is not reported."""
WARNED = 0.4
SIGMAS = 4.0
"""How many standard errors above chance a probe must be to be reported at all."""
_FOLDS = 5
_MOST_PICTURES = 5_000
_BINS = 10
_AT_A_TIME = 500


class Probe(NamedTuple):
    """How well one property predicts the class."""

    accuracy: float
    """Balanced, on pictures that the probe was not fitted to."""
    chance: float
    error: float
    """Standard error of the accuracy if the property carried no information."""

    @property
    def gain(self) -> float:
        """Share of the way from chance to certainty."""
        return (self.accuracy - self.chance) / (1 - self.chance)


def find(subject: Subject) -> Iterator[Finding]:
    """Properties that predict the class by themselves."""
    indices, labels = _sample(subject)
    for name, columns in _properties(subject, indices):
        probe = probed(columns, labels, subject.seed)
        significant = probe.accuracy > probe.chance + SIGMAS * probe.error
        if not significant or probe.gain < NOTED:
            continue
        yield Finding(
            check="shortcuts",
            kind=f"{name} tells the class",
            severity="warning" if probe.gain >= WARNED else "note",
            summary=f"The {name} by itself predicts the class of {probe.accuracy:.0%} of the "
            "images "
            f"(chance level: {probe.chance:.0%}; mean over classes). A network may learn that "
            "instead of "
            "the content.",
            remedy="Unless the classes really differ in that, take the images of all classes in "
            "the "
            "same way, or equalize them first.",
            figures={"property": name, **probe._asdict(), "pictures": len(labels)},
        )


def probed(columns: Float64Array, labels: Int64Array, seed: int) -> Probe:
    """How well logistic regression on `columns` (N, D) predicts the labels, cross-validated."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    _, sizes = np.unique(labels, return_counts=True)
    chance = 1 / len(sizes)
    error = float(np.sqrt((chance * (1 - chance) / sizes).sum())) / len(sizes)
    features = np.concatenate([_binned(column) for column in columns.T], axis=1)
    if not features.any():
        return Probe(chance, chance, error)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Not converged in 200 steps is near enough for a verdict of this kind.
        warnings.simplefilter("ignore")
        predicted = cross_val_predict(
            LogisticRegression(class_weight="balanced", max_iter=200), features, labels, cv=folds
        )
    return Probe(float(balanced_accuracy_score(labels, predicted)), chance, error)


def _sample(subject: Subject) -> tuple[Int64Array, Int64Array]:
    """At most 5,000 images of the classes that are large enough for folds, and their labels."""
    labels = subject.dataset.labels
    order = epoch_order(len(labels), subject.seed, 0)[:_MOST_PICTURES]
    sizes = np.bincount(labels[order], minlength=len(subject.dataset.classes))
    indices = np.sort(order[sizes[labels[order]] >= _FOLDS])
    if len(np.unique(labels[indices])) < 2:
        raise NotApplicableError(f"needs two classes of at least {_FOLDS} images each")
    return indices, labels[indices]


def _properties(subject: Subject, indices: Int64Array) -> Iterator[tuple[str, Float64Array]]:
    """What may reveal the class, as columns (N, D)."""
    if subject.prepared is not None:
        facts, rows = subject.prepared.facts, subject.rows[indices]
        widths, heights = facts.widths[rows], facts.heights[rows]
        yield "stored size", np.stack([widths, heights, widths / heights.clip(min=1)], axis=1)
        kinds = np.char.add(np.char.add(facts.formats[rows], " "), facts.modes[rows])
        _, number = np.unique(kinds, return_inverse=True)
        yield "file format", np.eye(number.max() + 1)[number]
        yield "file length", facts.file_bytes[rows].astype(np.float64)[:, None]
    images = subject.dataset.images
    means, borders = [], []
    # A few at a time: together they may be larger than the memory.
    for some in np.array_split(indices, len(indices) // _AT_A_TIME + 1):
        part = images[some]
        means.append(part.mean(axis=(2, 3)))
        borders.append(_border(part))
    name = "mean colour" if images.shape[1] > 1 else "mean brightness"
    yield name, np.concatenate(means)
    yield "border colour", np.concatenate(borders)


def _border(images: UInt8Array) -> Float64Array:
    """Mean colour and standard deviation of the outermost pixels; (N, 2 C)."""
    sides = (images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1])
    ring = np.concatenate(sides, axis=2)
    return np.concatenate([ring.mean(axis=2), ring.std(axis=2)], axis=1)


def _binned(column: npt.NDArray[np.float64]) -> Float64Array:
    """One column as at most ten of zeros and ones, so that the probe need not be monotonous."""
    values = np.unique(column)
    if len(values) > _BINS:
        values = np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[:-1]))
    number = np.searchsorted(values, column, side="right") - 1
    return np.eye(len(values))[number] if len(values) > 1 else np.zeros((len(column), 1))
