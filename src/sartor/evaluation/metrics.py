"""Metrics are sums: a confusion matrix and a sum of losses, and pure functions of the two."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Int64Array
from ..averages import balanced_accuracy, macro_f1
from ..errors import DataError
from ..wording import plain
from .as_given import AsGiven
from .clusters import effective_share
from .intervals import of_the_best, simultaneous, wilson
from .predictions import NO_PREDICTION, Predictions
from .promises import NoveltyEvaluation, SetsEvaluation
from .unmatched import Unmatched


@dataclass(frozen=True, kw_only=True)
class ClassEvaluation:
    """How well one class is recognised. None stands for 0 of 0."""

    class_name: str
    count: int
    """Images of this class."""
    correct: int
    """Those of them that were predicted as this class."""
    accuracy: float | None
    """correct / count, the same number as `recall`; None for a class without images."""
    interval: tuple[float, float]
    """95 % interval of `accuracy`, for this class by itself; 0 to 1 for one without images."""
    precision: float | None
    """correct / images predicted as this class; None where none was."""
    recall: float | None
    """correct / count; None for a class without images."""
    f1: float | None
    """2 correct / (count + predicted); None for a class without images and never predicted."""
    effective_share: float = 1.0
    """How many independent images one of them is worth; below 1 where images come in groups."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, under the keys of `sartor evaluate --json`."""
        return {
            "class": self.class_name,
            "count": self.count,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
        }


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evaluation:
    """The judgement of one split."""

    split: str
    """train, val or test."""
    count: int
    """Images judged, at least one."""
    loss: float
    """Mean loss per image; infinite or NaN where the network's outputs are."""
    accuracy: float
    """Share of the images that were classified correctly, 0..1."""
    accuracy_interval: tuple[float, float]
    """95 % interval of `accuracy` (Wilson), which allows for `choices`."""
    per_class: tuple[ClassEvaluation, ...]
    """One entry per class, in the order of the classes."""
    confusion: Int64Array
    """int64 (classes, classes): images of the true class (row) predicted as a class (column)."""
    not_finite: int = 0
    """Images whose outputs are not finite; they count as wrong, and are in no column of
    `confusion`."""
    choices: int = 1
    """Epochs from which these weights were chosen by these very images; 1 for none."""
    groups: int | None = None
    """Groups that the images come from (patients, sessions); None where each is independent."""
    as_given: AsGiven | None = None
    """The figures with what was left out and without fixes, where these touch the split."""
    sets: SetsEvaluation | None = None
    """How well sets of classes keep their promise; None where none was fitted, and on the
    validation split, which they were fitted on."""
    novelty: NoveltyEvaluation | None = None
    """How many images are called unknown; None as for `sets`."""
    unmatched: Unmatched | None = None
    """Classes that only other data or only the network has; None for the network's own data."""

    @property
    def weakest(self) -> ClassEvaluation:
        """The class with the lowest accuracy, of those that have images."""
        judged = [entry for entry in self.per_class if entry.count]
        return min(judged, key=lambda entry: entry.correct / entry.count)

    @property
    def weakest_interval(self) -> tuple[float, float]:
        """95 % interval of its accuracy, which allows for its being picked from all classes."""
        number = sum(1 for entry in self.per_class if entry.count)
        share = self.weakest.effective_share
        if not share:
            return 0.0, 1.0
        return simultaneous(self.weakest.correct * share, self.weakest.count * share, number)

    @property
    def interval_method(self) -> str:
        """How the intervals of shares are computed, in words."""
        if self.groups is None:
            return "Wilson"
        return f"Wilson at the effective number of images, which come from {self.groups:,} groups"

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur, as a truth or as a prediction."""
        predicted = self.confusion.sum(axis=0).tolist()
        return macro_f1(self._counts, self._correct, predicted)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have images."""
        return balanced_accuracy(self._counts, self._correct)

    @property
    def _counts(self) -> list[int]:
        return [entry.count for entry in self.per_class]

    @property
    def _correct(self) -> list[int]:
        return [entry.correct for entry in self.per_class]

    def to_json(self) -> dict[str, Any]:
        """Plain values for strict JSON, as `sartor evaluate --json` promises them."""
        return {
            "split": self.split,
            "count": self.count,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "per_class": [entry.to_json() for entry in self.per_class],
            "confusion": self.confusion.tolist(),
            "not_finite": self.not_finite,
            "choices": self.choices,
            "groups": self.groups,
            "interval_method": self.interval_method,
            "weakest": {
                "class": self.weakest.class_name,
                "accuracy": self.weakest.accuracy,
                "interval": list(self.weakest_interval),
            },
            "as_given": self.as_given and self.as_given.to_json(),
            "sets": self.sets and self.sets.to_json(),
            "novelty": self.novelty and self.novelty.to_json(),
            **({"unmatched": self.unmatched.to_json()} if self.unmatched else {}),
        }

    def __repr__(self) -> str:
        return plain(
            f"<Evaluation of {self.split}: {_summary(self)}; "
            f"weakest class: {self.weakest.class_name}, {_percent(self.weakest.accuracy)}>"
        )

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        titles = ("class", "images", "accuracy", "95 % interval", "precision", "F1")
        head = "".join(f"<th>{title}</th>" for title in titles)
        body = "".join(_html_row(entry) for entry in self.per_class)
        caption = html.escape(f"{self.split}: {_summary(self)}")
        return (
            f"<table><caption>{caption}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def evaluate(predictions: Predictions, choices: int = 1) -> Evaluation:
    """Judge saved predictions.

    Args:
        choices: epochs from which the weights were chosen by the accuracy on these very images.

    Raises:
        DataError: there are none.
    """
    labels, predicted = predictions.labels, predictions.predicted()
    size, known = len(predictions.classes), predicted != NO_PREDICTION
    evaluation = evaluate_sums(
        split=predictions.split,
        classes=predictions.classes,
        confusion=confusion_matrix(labels[known], predicted[known], size),
        loss_sum=float(predictions.example_losses().sum()),
        not_finite=np.bincount(labels[~known], minlength=size),
        choices=choices,
    )
    if predictions.groups is None:
        return evaluation
    return _in_groups(evaluation, labels, labels == predicted, predictions.groups)


def _in_groups(
    evaluation: Evaluation,
    labels: Int64Array,
    right: npt.NDArray[np.bool_],
    groups: Int64Array,
) -> Evaluation:
    """The same with intervals that allow for images of one group being alike."""
    share = effective_share(right, groups)
    rows = []
    for place, row in enumerate(evaluation.per_class):
        members = labels == place
        each = effective_share(right[members], groups[members]) if row.count else 0.0
        interval = wilson(row.correct * each, row.count * each)
        rows.append(replace(row, interval=interval, effective_share=each))
    return replace(
        evaluation,
        accuracy_interval=of_the_best(
            evaluation.accuracy * evaluation.count * share,
            evaluation.count * share,
            evaluation.choices,
        ),
        per_class=tuple(rows),
        groups=len(np.unique(groups)),
    )


def evaluate_sums(
    *,
    split: str,
    classes: Sequence[str],
    confusion: Int64Array,
    loss_sum: float,
    not_finite: Int64Array | None = None,
    choices: int = 1,
) -> Evaluation:
    """Evaluate sums over batches or processes; equal sums give an equal evaluation.

    Args:
        not_finite: int64 (classes,), images of each class whose outputs are not finite; they are
            not in `confusion`, and count as wrong.
        choices: as for `evaluate`.

    Raises:
        DataError: no image was counted.
    """
    missing = np.zeros(len(confusion), np.int64) if not_finite is None else not_finite
    count, correct = int(confusion.sum() + missing.sum()), int(np.trace(confusion))
    if count == 0:
        raise DataError(
            f"There are no predictions to evaluate in the split {split}.",
            "Choose a split that has images.",
        )
    return Evaluation(
        split=split,
        count=count,
        loss=loss_sum / count,
        accuracy=correct / count,
        accuracy_interval=of_the_best(correct, count, choices),
        per_class=_per_class(classes, confusion, missing),
        confusion=confusion,
        not_finite=int(missing.sum()),
        choices=choices,
    )


def confusion_matrix(labels: Int64Array, predicted: Int64Array, num_classes: int) -> Int64Array:
    """int64 (num_classes, num_classes): how often a label (row) was predicted as a class (column).

    Raises:
        DataError: the two differ in length, or hold something that is not a class.
    """
    if labels.shape != predicted.shape:
        raise DataError(
            f"{len(labels):,} labels cannot be compared with {len(predicted):,} predictions.",
            "Give one prediction per label.",
        )
    for values in (labels, predicted):
        # Unchecked, a value out of range would be counted in a neighbouring row.
        if len(values) and not 0 <= values.min() <= values.max() < num_classes:
            raise DataError(
                f"Classes are numbered 0 to {num_classes - 1}; "
                f"there are values from {values.min()} to {values.max()}.",
                "Check the number of classes.",
            )
    cells = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64, copy=False)


def _per_class(
    classes: Sequence[str], confusion: Int64Array, not_finite: Int64Array
) -> tuple[ClassEvaluation, ...]:
    columns = zip(
        classes,
        (confusion.sum(axis=1) + not_finite).tolist(),
        confusion.sum(axis=0).tolist(),
        confusion.diagonal().tolist(),
        strict=True,
    )
    return tuple(_class_evaluation(*column) for column in columns)


def _class_evaluation(class_name: str, count: int, predicted: int, correct: int) -> ClassEvaluation:
    recall = _ratio(correct, count)
    return ClassEvaluation(
        class_name=class_name,
        count=count,
        correct=correct,
        accuracy=recall,
        interval=wilson(correct, count),
        precision=_ratio(correct, predicted),
        recall=recall,
        f1=_ratio(2 * correct, count + predicted),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.2f} %"


def _range(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * low:.2f} to {100 * high:.2f} %"


def _summary(evaluation: Evaluation) -> str:
    loss = f"{evaluation.loss:.4f}" if math.isfinite(evaluation.loss) else "not finite"
    return (
        f"{evaluation.count:,} images, accuracy {_percent(evaluation.accuracy)} "
        f"({_range(evaluation.accuracy_interval)}), loss {loss}"
    )


def _html_row(entry: ClassEvaluation) -> str:
    cells = (
        html.escape(entry.class_name),
        f"{entry.count:,}",
        _percent(entry.accuracy),
        _range(entry.interval),
        _percent(entry.precision),
        "none" if entry.f1 is None else f"{entry.f1:.4f}",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
