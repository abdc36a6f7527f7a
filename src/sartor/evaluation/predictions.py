"""Predictions: a model's outputs for one split. Every judgement is a pure function of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..arrays import Float32Array, Float64Array, Int64Array
from ..errors import DataError, RunError, SartorError, unknown
from ..files import atomic_write, whole_arrays

LossKind = Literal["cross-entropy", "mse", "bce"]
"""What the model was trained to lower, and so what its outputs mean."""

NO_PREDICTION = -1
"""In place of a class, where the outputs of an image are not finite."""
NO_PREDICTION_NAME = "no prediction"
"""How that is called in place of a class's name."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictions:
    """The outputs of one model for every image of one split, beside the true labels.

    Raises:
        DataError: the arrays do not belong together; the sentence says why.
    """

    logits: Float32Array
    """float32 (N, classes): what the model returned, before any softmax or sigmoid."""
    labels: Int64Array
    """int64 (N,): the true class of each image, an index into `classes`."""
    indices: Int64Array
    """int64 (N,): which image of the dataset each row is about; none twice."""
    classes: tuple[str, ...]
    """Name of each class."""
    split: str
    """train, val or test."""
    loss: LossKind
    """How the outputs become a loss and probabilities."""
    weights_sha256: str
    """The weights that predicted."""
    dataset_fingerprint: str
    """The dataset that `indices` point into."""
    groups: Int64Array | None = None
    """int64 (N,): which images belong together (patient, session); None where each is alone."""
    pictures: tuple[str, ...] | None = None
    """Name and content of the file of each image, hashed: the same at every size. None without."""
    novelty: Float32Array | None = None
    """float32 (N,): how unlike the training images each is; None where no score was fitted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        object.__setattr__(self, "logits", _checked_logits(self.logits, len(self.classes)))
        given = ("labels", "indices", *(("groups",) if self.groups is not None else ()))
        for name in given:
            checked = _checked_integers(name, getattr(self, name), len(self.logits))
            object.__setattr__(self, name, checked)
        if self.novelty is not None and self.novelty.shape != (len(self),):
            raise DataError(
                f"{len(self):,} rows of logits need novelty of shape ({len(self)},), not "
                f"{self.novelty.shape}.",
                "Give one score per row.",
            )
        if len(self) and self.labels.max() >= len(self.classes):
            raise DataError(
                f"Label {self.labels.max()} has no name: there are {len(self.classes)} classes.",
                "Predict with the classes that the labels were made for.",
            )
        ordered = np.sort(self.indices)
        if (ordered[1:] == ordered[:-1]).any():
            raise DataError("An image is predicted twice.", "Predict each image of a split once.")
        if self.loss not in get_args(LossKind):
            raise DataError(
                f"There is an {unknown('loss', self.loss, get_args(LossKind))}.",
                "Name the loss that the network was trained with.",
            )

    def __len__(self) -> int:
        return len(self.logits)

    def __repr__(self) -> str:
        return (
            f"<Predictions for {self.split}: {len(self):,} images, {len(self.classes)} classes, "
            f"{self.loss}, weights {self.weights_sha256[:12]}>"
        )

    def predicted(self) -> Int64Array:
        """int64 (N,): as `predicted_of` these outputs."""
        return predicted_of(self.logits)

    def without_prediction(self) -> int:
        """How many images have outputs that are not finite, and so no predicted class."""
        return int((self.predicted() == NO_PREDICTION).sum())

    def class_name(self, place: int) -> str:
        """Name of a predicted class, or that there is none."""
        return NO_PREDICTION_NAME if place == NO_PREDICTION else self.classes[place]

    def probabilities(self) -> Float64Array:
        """As `probabilities_of` these outputs."""
        return probabilities_of(self.logits, self.loss)

    def example_losses(self) -> Float64Array:
        """float64 (N,): the loss of each image, without label smoothing or class weights.

        cross-entropy: -log softmax of the true class. mse and bce: mean over the classes, where
        the true class should give 1 and every other 0.
        """
        outputs = self.logits.astype(np.float64)
        if self.loss == "cross-entropy":
            return -_log_softmax(outputs)[np.arange(len(self)), self.labels]
        is_true = np.arange(len(self.classes)) == self.labels[:, None]
        if self.loss == "mse":
            cells = np.square(outputs - is_true)
        else:
            cells = _softplus(np.where(is_true, -outputs, outputs))
        return np.asarray(cells.mean(axis=1), dtype=np.float64)

    def save(self, path: Path) -> None:
        """Write everything to `path` (.npz), atomically.

        Raises:
            FileError: the file cannot be written.
        """
        arrays: dict[str, Any] = {
            field.name: np.asarray(getattr(self, field.name))
            for field in fields(self)
            if getattr(self, field.name) is not None
        }
        with atomic_write(path) as stream:
            np.savez(stream, **arrays)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote.

        Raises:
            RunError: the file is missing, damaged, or not made of predictions.
        """
        if not path.is_file():
            raise RunError(f"There are no predictions at {path}.", _AGAIN)
        try:
            return cls(**_read(path))
        # Damaged bytes can raise almost anything in zipfile and numpy; all of it means the same.
        except Exception as error:
            reason = error.message if isinstance(error, SartorError) else f"{error}."
            raise RunError(f"Cannot read the predictions in {path}: {reason}", _AGAIN) from error


_TEXTS = ("split", "loss", "weights_sha256", "dataset_fingerprint")
_OPTIONAL = ("groups", "pictures", "novelty")
_AGAIN = "Make them again with `sartor evaluate`."


def predicted_of(logits: Float32Array) -> Int64Array:
    """int64 (N,): the class with the highest output; of equal ones, the first.

    `NO_PREDICTION` where the highest output is not finite, or an output is NaN. Always from the
    outputs: probabilities may be equal where outputs are not.
    """
    highest = logits.max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(highest), logits.argmax(axis=1), NO_PREDICTION).astype(np.int64)


def gives_probabilities(loss: str) -> bool:
    """Whether a network trained with this loss estimates probabilities; mse gives scores."""
    return loss != "mse"


def probabilities_of(logits: Float32Array, loss: str) -> Float64Array:
    """float64 (N, classes), each row summing to 1; NaN where a row of outputs is not finite.

    cross-entropy: softmax. bce: sigmoids, divided by their sum. mse: outputs clipped to 0..1,
    divided by their sum, all classes equal where that is 0; such shares order the classes, but
    are no estimate of a probability.
    """
    outputs = logits.astype(np.float64)
    if loss == "mse":
        return _shares(np.clip(outputs, 0, 1))
    if loss == "bce":
        # Sigmoids of -1e4 are all 0; their logarithms still tell them apart.
        outputs = -_softplus(-outputs)
    return np.exp(_log_softmax(outputs))


def _read(path: Path) -> dict[str, Any]:
    """The arguments of `Predictions`, each verified against the checksum in the archive."""
    names = [field.name for field in fields(Predictions)]
    there = whole_arrays(path)
    missing = sorted(set(names) - there - set(_OPTIONAL))
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in names if name in there}
    if "pictures" in found:
        found["pictures"] = tuple(found["pictures"].tolist())
    return found | {name: str(found[name]) for name in _TEXTS}


def _checked_logits(logits: Any, num_classes: int) -> Float32Array:
    logits = np.asarray(logits)
    if logits.ndim != 2 or logits.shape[1] != num_classes:
        raise DataError(
            f"{num_classes} classes need logits of shape (N, {num_classes}), not {logits.shape}.",
            "Give one row per image and one column per class.",
        )
    if not np.issubdtype(logits.dtype, np.floating):
        raise DataError(f"Logits must be floats, not {logits.dtype}.", "Give them before argmax.")
    # A double too large for a float becomes an infinity, and the loss says so.
    with np.errstate(over="ignore"):
        return np.asarray(logits, dtype=np.float32)


def _checked_integers(name: str, values: Any, count: int) -> Int64Array:
    values = np.asarray(values)
    if values.shape != (count,):
        raise DataError(
            f"{count:,} rows of logits need {name} of shape ({count},), not {values.shape}.",
            f"Give one value of {name} per row.",
        )
    if not np.issubdtype(values.dtype, np.integer) or (count and values.min() < 0):
        raise DataError(f"The {name} must be whole numbers from 0.", "Check where they come from.")
    return np.asarray(values, dtype=np.int64)


def _log_softmax(logits: Float64Array) -> Float64Array:
    # A network that diverged gives infinities; their NaN is the honest answer, not a warning.
    with np.errstate(invalid="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
        result: Float64Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _softplus(values: Float64Array) -> Float64Array:
    """log(1 + exp(values)), without overflow."""
    with np.errstate(invalid="ignore"):
        result: Float64Array = np.logaddexp(0, values)
    return result


def _shares(weights: Float64Array) -> Float64Array:
    totals = weights.sum(axis=1, keepdims=True)
    num_classes = weights.shape[1]
    return np.where(totals == 0, 1 / num_classes, weights / np.where(totals == 0, 1, totals))
