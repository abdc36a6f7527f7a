"""Compare predictions for the same images: where models differ, and whether significantly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array, Int64Array
from ..errors import DataError, UsageError
from .clusters import effective_share, paired_interval, paired_test, share_interval
from .intervals import wilson
from .paired import POWER, difference_interval, holm, images_needed, mcnemar
from .predictions import Predictions, probabilities_of

LEVEL = 0.05
"""A difference is significant up to this corrected p-value."""
MOST_FOR_EVERY_PAIR = 6
"""With more models, each is compared only with the first."""


@dataclass(frozen=True, kw_only=True)
class Flip:
    """An image that only one of two models classifies correctly."""

    index: int
    """Which image of the dataset."""
    class_name: str
    """Its true class."""
    predicted: str
    """The class that the wrong model predicts."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model's figures on the common images."""

    name: str
    correct: int
    count: int
    accuracy: float
    interval: tuple[float, float]
    """95 % interval of `accuracy` (Wilson)."""
    loss: float
    """Mean loss of an image, in the model's own kind of loss."""
    loss_kind: str
    """Which that is: cross-entropy, mse or bce; only equal kinds can be compared."""
    not_finite: int
    """Images whose outputs are not finite; they count as wrong."""
    weights_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.interval),
            "loss": self.loss if math.isfinite(self.loss) else None,
            "loss_kind": self.loss_kind,
            "not_finite": self.not_finite,
            "weights_sha256": self.weights_sha256,
        }


@dataclass(frozen=True, kw_only=True)
class ClassDifference:
    """Two models on the images of one class."""

    class_name: str
    count: int
    only_first: int
    """Images that only the first model classifies correctly."""
    only_second: int
    both: int
    """Images that both classify correctly."""
    difference: float
    """Accuracy of the second minus that of the first; 0 for a class without images."""
    interval: tuple[float, float]
    """95 % interval of `difference` (Tango), for this class by itself."""
    p_value: float
    """McNemar's exact test on this class by itself."""
    p_adjusted: float
    """Corrected for the number of classes, of every pair (Holm)."""

    @property
    def distinguishable(self) -> bool:
        """Whether the difference is significant."""
        return self.p_adjusted <= LEVEL

    @property
    def accuracies(self) -> tuple[float, float] | None:
        """Of the first and of the second model; None for a class without images."""
        if not self.count:
            return None
        rights = self.both + self.only_first, self.both + self.only_second
        return rights[0] / self.count, rights[1] / self.count

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        first, second = self.accuracies or (None, None)
        return {
            "class": self.class_name,
            "count": self.count,
            "first": first,
            "second": second,
            "difference": self.difference if self.count else None,
            "interval": list(self.interval),
            "only_first": self.only_first,
            "only_second": self.only_second,
            "p_value": self.p_value,
            "p_adjusted": self.p_adjusted,
            "distinguishable": self.distinguishable,
        }


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models on the same images."""

    first: str
    second: str
    count: int
    """Images."""
    both: int
    """Images that both classify correctly."""
    only_first: tuple[Flip, ...]
    """Images that only the first classifies correctly, clearest cases first."""
    only_second: tuple[Flip, ...]
    difference: float
    """Accuracy of the second minus that of the first."""
    interval: tuple[float, float]
    """95 % interval of `difference` (Tango), for this pair by itself."""
    p_value: float
    """McNemar's exact test, two-sided."""
    p_adjusted: float
    """Corrected for the number of pairs (Holm)."""
    pairs: int
    """How many pairs the correction is for."""
    per_class: tuple[ClassDifference, ...]
    """In the order of the classes."""
    groups: int | None = None
    """Groups that the images come from; None where each is independent."""
    effective_share: float = 1.0
    """How many independent images one is worth for the difference."""
    same_recipe: bool = False
    """Whether the two are trainings of one recipe with different seeds."""

    @property
    def distinguishable(self) -> bool:
        """Whether the difference is significant."""
        return self.p_adjusted <= LEVEL

    @property
    def images_needed(self) -> int | None:
        """How many images would show a difference of this size with a power of 80 %.

        Supposed is that the models keep differing as often as on these images.

        None where it shows already, or where both are correct equally often.
        """
        if self.distinguishable:
            return None
        flips = len(self.only_first), len(self.only_second)
        needed = images_needed(*flips, self.count, level=LEVEL / self.pairs)
        if needed is None or self.groups is None:
            return needed
        return math.ceil(needed / self.effective_share) if self.effective_share else None

    @property
    def interval_method(self) -> str:
        """How interval and p-value are computed, in words."""
        if self.groups is None:
            return "Tango; exact McNemar test"
        return (
            "Tango at the effective number of images; exact test that exchanges whole groups, "
            f"{self.groups:,} of them"
        )

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if self.distinguishable:
            better, worse = self.first, self.second
            if self.difference > 0:
                better, worse = worse, better
            gap = points(self.difference, self.interval)
            about = "; that is about these weights, not their common recipe" * self.same_recipe
            return f"{better} is better than {worse} by {gap}{about}"
        verdict = (
            f"{self.first} and {self.second} are not distinguishable on {self.count:,} images: "
        )
        if self.images_needed:
            return (
                f"{verdict}about {rounded(self.images_needed):,} would be needed for a power of "
                f"{POWER:.0%}, if they keep differing as on these"
            )
        differ = bool(self.only_first)
        return f"{verdict}both are correct {'equally often' if differ else 'on the same images'}"

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "verdict": self.verdict,
            "same_recipe": self.same_recipe,
            "distinguishable": self.distinguishable,
            "difference": self.difference,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "p_adjusted": self.p_adjusted,
            "images_needed": self.images_needed,
            "power": POWER,
            "groups": self.groups,
            "interval_method": self.interval_method,
            "both_right": self.both,
            "both_wrong": self.count - self.both - len(self.only_first) - len(self.only_second),
            "only_first": [_flip_json(flip) for flip in self.only_first],
            "only_second": [_flip_json(flip) for flip in self.only_second],
            "per_class": [entry.to_json() for entry in self.per_class],
        }


def on_same_images(named: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """The same predictions with rows and columns in one order, those of the first.

    Classes are matched by name.

    Raises:
        UsageError: fewer than two. DataError: they are not about the same images, or classes.
    """
    if len(named) < 2:
        raise UsageError("A comparison needs at least two runs.", "Name another one.")
    (first, reference), *others = named.items()
    aligned = {first: _with_columns(_with_sorted_rows(reference), reference.classes)}
    for name, given in others:
        predictions = _about_the_same_pictures(reference, given)
        _check_same_images(first, reference, name, predictions)
        _check_same_classes(first, reference, name, predictions)
        aligned[name] = _with_columns(_with_sorted_rows(predictions), reference.classes)
        differing = int((aligned[first].labels != aligned[name].labels).sum())
        if differing:
            raise DataError(
                f"{first} and {name} disagree about the true classes of {differing:,} of the "
                "images.",
                "Train both with the same --fixes; or take what sartor evaluate says of each as "
                "the data was given.",
            )
    if not len(reference):
        raise DataError(
            f"There are no predictions to compare in the split {reference.split}.",
            "Choose a split that has images.",
        )
    return aligned


def standing(name: str, predictions: Predictions) -> Standing:
    """One model's figures."""
    count = len(predictions)
    correct = int((predictions.predicted() == predictions.labels).sum())
    return Standing(
        name=name,
        correct=correct,
        count=count,
        accuracy=correct / count,
        interval=wilson(correct, count)
        if predictions.groups is None
        else share_interval(predictions.predicted() == predictions.labels, predictions.groups),
        loss=float(predictions.example_losses().sum()) / count,
        loss_kind=predictions.loss,
        not_finite=predictions.without_prediction(),
        weights_sha256=predictions.weights_sha256,
    )


def compare_pairs(aligned: Mapping[str, Predictions]) -> tuple[Pair, ...]:
    """Every pair, or of more than six models each with the first.

    p-values are corrected together: those of all pairs, and those of all classes of all pairs.

    Args:
        aligned: what `on_same_images` gave.
    """
    names = list(aligned)
    chosen = (
        list(combinations(names, 2))
        if len(names) <= MOST_FOR_EVERY_PAIR
        else [(names[0], name) for name in names[1:]]
    )
    pairs = [_pair(one, aligned[one], other, aligned[other]) for one, other in chosen]
    corrected = holm([pair.p_value for pair in pairs])
    by_class = iter(holm([entry.p_value for pair in pairs for entry in pair.per_class]))
    return tuple(
        replace(
            pair,
            p_adjusted=p_value,
            pairs=len(pairs),
            per_class=tuple(replace(entry, p_adjusted=next(by_class)) for entry in pair.per_class),
        )
        for pair, p_value in zip(pairs, corrected, strict=True)
    )


def rounded(number: int) -> int:
    """Two significant digits; more would suggest a precision that is not there."""
    return round(number, 2 - len(str(number)))


def _pair(first: str, one: Predictions, second: str, other: Predictions) -> Pair:
    labels, count = one.labels, len(one)
    right_one, right_other = one.predicted() == labels, other.predicted() == labels
    only_one, only_other = right_one & ~right_other, right_other & ~right_one
    flips = int(only_one.sum()), int(only_other.sum())
    groups = one.groups
    p_value = mcnemar(*flips) if groups is None else paired_test(only_one, only_other, groups)
    gains = only_other.astype(np.float64) - only_one
    return Pair(
        first=first,
        second=second,
        count=count,
        both=int((right_one & right_other).sum()),
        only_first=_flips(only_one, one, other),
        only_second=_flips(only_other, other, one),
        difference=(flips[1] - flips[0]) / count,
        interval=difference_interval(*flips, count)
        if groups is None
        else paired_interval(only_one, only_other, groups),
        p_value=p_value,
        p_adjusted=p_value,
        pairs=1,
        per_class=_per_class(
            labels, one.classes, groups, only_one, only_other, right_one & right_other
        ),
        groups=None if groups is None else len(np.unique(groups)),
        effective_share=1.0 if groups is None else effective_share(gains, groups),
    )


def _per_class(
    labels: Int64Array,
    classes: Sequence[str],
    groups: Int64Array | None,
    *marked: npt.NDArray[np.bool_],
) -> tuple[ClassDifference, ...]:
    """`marked`: correct only in the first, only in the second, in both."""
    size = len(classes)
    columns = (labels, *(labels[one] for one in marked))
    cells = zip(*(np.bincount(one, minlength=size).tolist() for one in columns), strict=True)
    rows = tuple(_class_difference(*row) for row in zip(classes, cells, strict=True))
    if groups is None:
        return rows
    only_first, only_second, _ = marked
    return tuple(
        _in_groups(row, only_first[of_class], only_second[of_class], groups[of_class])
        if row.count
        else row
        for row, of_class in zip(rows, (labels == place for place in range(size)), strict=True)
    )


def _in_groups(
    row: ClassDifference,
    only_first: npt.NDArray[np.bool_],
    only_second: npt.NDArray[np.bool_],
    groups: Int64Array,
) -> ClassDifference:
    """The same class with an interval and a test that allow for images of one group being alike."""
    p_value = paired_test(only_first, only_second, groups)
    interval = paired_interval(only_first, only_second, groups)
    return replace(row, interval=interval, p_value=p_value, p_adjusted=p_value)


def _class_difference(name: str, cells: tuple[int, int, int, int]) -> ClassDifference:
    count, only_first, only_second, both = cells
    p_value = mcnemar(only_first, only_second)
    return ClassDifference(
        class_name=name,
        count=count,
        only_first=only_first,
        only_second=only_second,
        both=both,
        difference=(only_second - only_first) / count if count else 0.0,
        interval=difference_interval(only_first, only_second, count),
        p_value=p_value,
        p_adjusted=p_value,
    )


def _flips(
    where: npt.NDArray[np.bool_], right: Predictions, wrong: Predictions
) -> tuple[Flip, ...]:
    rows = np.flatnonzero(where)
    labels, wrong_classes = right.labels[rows], wrong.predicted()[rows]
    # How confident the one is in the truth and the other in its mistake; outputs may be NaN.
    sure = np.nan_to_num(
        _probability(right, rows, labels) + _probability(wrong, rows, wrong_classes)
    )
    return tuple(
        Flip(
            index=int(right.indices[rows[k]]),
            class_name=right.classes[labels[k]],
            predicted=right.class_name(int(wrong_classes[k])),
        )
        for k in np.argsort(-sure, kind="stable")
    )


def _probability(predictions: Predictions, rows: Int64Array, classes: Int64Array) -> Float64Array:
    probabilities = probabilities_of(predictions.logits[rows], predictions.loss)
    return probabilities[np.arange(len(rows)), classes]


def _about_the_same_pictures(reference: Predictions, predictions: Predictions) -> Predictions:
    """As if made on the reference's dataset, where all were made of the same files.

    The same pictures at another size are another dataset with the same files; they are matched by
    name and content.
    """
    if (
        predictions.dataset_fingerprint == reference.dataset_fingerprint
        or reference.pictures is None
        or predictions.pictures is None
        or set(reference.pictures) != set(predictions.pictures)
    ):
        return predictions
    places = dict(zip(reference.pictures, reference.indices.tolist(), strict=True))
    return replace(
        predictions,
        indices=np.array([places[picture] for picture in predictions.pictures], dtype=np.int64),
        dataset_fingerprint=reference.dataset_fingerprint,
    )


def _check_same_images(
    first: str, reference: Predictions, name: str, predictions: Predictions
) -> None:
    if predictions.dataset_fingerprint != reference.dataset_fingerprint:
        raise DataError(
            f"{first} and {name} cannot be compared: they were evaluated on different data "
            "(the fingerprints differ).",
            "Compare runs that were trained on the same set; `sartor show RUN` names it. Pictures "
            "of one folder at several sizes can be compared if they are the same files.",
        )
    if predictions.split != reference.split:
        raise DataError(
            f"{first} and {name} cannot be compared: one was evaluated on the {reference.split} "
            f"split, the other on the {predictions.split} split.",
            "Evaluate both on the same split.",
        )
    common = len(np.intersect1d(predictions.indices, reference.indices))
    if not common == len(predictions) == len(reference):
        raise DataError(
            f"{first} and {name} cannot be compared: their {reference.split} splits hold different "
            f"images ({len(reference):,} and {len(predictions):,}, {common:,} of them in both).",
            "The validation images depend on the seed: compare on --split test."
            if reference.split == "val"
            else "Train them with the same --test-fraction.",
        )


def _check_same_classes(
    first: str, reference: Predictions, name: str, predictions: Predictions
) -> None:
    differing = sorted(set(reference.classes) ^ set(predictions.classes))
    if differing:
        raise DataError(
            f"{first} and {name} cannot be compared: they have different classes "
            f'("{differing[0]}" is only in one).',
            "Compare runs with the same classes.",
        )


def _with_sorted_rows(predictions: Predictions) -> Predictions:
    order = np.argsort(predictions.indices, kind="stable")
    return replace(
        predictions,
        logits=predictions.logits[order],
        novelty=None,
        labels=predictions.labels[order],
        indices=predictions.indices[order],
        groups=None if predictions.groups is None else predictions.groups[order],
        # In the order that the indices stand for now.
        pictures=None,
    )


def _with_columns(predictions: Predictions, classes: tuple[str, ...]) -> Predictions:
    """The same with the classes in that order, found by their names."""
    if predictions.classes == classes:
        return predictions
    columns = [predictions.classes.index(name) for name in classes]
    places = np.argsort(columns)
    return replace(
        predictions,
        logits=predictions.logits[:, columns],
        labels=places[predictions.labels],
        classes=classes,
    )


def points(difference: float, interval: tuple[float, float]) -> str:
    """A difference that is not 0 in points, such as "1.2 points, 0.8 to 1.6"."""
    size = 100 * abs(difference)
    low, high = sorted(100 * abs(bound) for bound in interval)
    # More digits where the bound next to 0 would be written as 0.
    digits = next((digits for digits in (1, 2, 3) if round(low, digits)), 3)
    return f"{size:.{digits}f} points, {low:.{digits}f} to {high:.{digits}f}"


def _flip_json(flip: Flip) -> dict[str, Any]:
    return {"index": flip.index, "class": flip.class_name, "said": flip.predicted}
