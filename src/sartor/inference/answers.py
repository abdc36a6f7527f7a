"""What is said of one picture: the same on the command line, over HTTP and in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import BoolArray, Float32Array, Float64Array, Int64Array
from ..evaluation.conformal import members, ranked
from .calibration import Calibration, NoveltyScore

ABSTENTIONS = ("off", "novelty", "set")
"""When the label is withheld: never; where the picture is unknown; where its set does not hold
exactly one class."""
NOT_FINITE = "The network's outputs are not finite, so there is no prediction."
TRAIN_AGAIN = "Train again with a lower --lr or with --clip-grad."


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a network says about one picture. For one trained with mse, probabilities are shares of
    its scores."""

    file: str
    label: str
    """The most probable class, also where the prediction `abstained`."""
    probability: float
    """Probability of the label, in 0..1."""
    probabilities: dict[str, float]
    """Of every class, in 0..1; they sum to 1."""
    set: tuple[str, ...] | None = None
    """Classes that contain the true one with the promised probability; the label is first. None if
    no threshold was fitted."""
    novelty: float | None = None
    """How unlike the training images the picture is; None if there is no score, or it is not
    finite."""
    novelty_percentile: float | None = None
    """Percentage of validation images that are no more novel."""
    unknown: bool | None = None
    """Whether it is so novel that the label means little; None if no threshold was fitted."""
    unlike_training: tuple[str, ...] = ()
    """How the picture lies outside the range of all training images, such as "brightness 0.97, in
    training 0.04 to 0.31"; its prediction means little then."""
    abstained: bool = False
    """Whether the label is to be withheld, as `abstaining` decides."""

    def to_json(self, topk: int | None = None) -> dict[str, Any]:
        """The keys of `predict --json`; with `topk`, only the most probable classes.

        Of a prediction that abstained, label and probability are null.
        """
        chosen = self.top(topk) if topk else list(self.probabilities.items())
        return {
            "file": self.file,
            "label": None if self.abstained else self.label,
            "probability": None if self.abstained else self.probability,
            "probabilities": dict(chosen),
            "set": None if self.set is None else list(self.set),
            "novelty": self.novelty,
            "novelty_percentile": self.novelty_percentile,
            "unknown": self.unknown,
            "unlike_training": list(self.unlike_training),
        }

    def top(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes, the first first."""
        # The label is first also where another class has the same probability.
        return sorted(
            self.probabilities.items(), key=lambda pair: (-pair[1], pair[0] != self.label)
        )[:count]

    def abstaining(self, when: str) -> Prediction:
        """The same, its label withheld where one of `ABSTENTIONS` says so."""
        is_single = self.set is None or len(self.set) == 1
        withheld = {"off": False, "novelty": bool(self.unknown), "set": not is_single}[when]
        return replace(self, abstained=withheld)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """In place of a prediction, why there is none."""

    file: str
    error: str
    """One sentence that says what is wrong."""
    hint: str = ""
    """One that says what to do."""

    def to_json(self, topk: int | None = None) -> dict[str, Any]:  # noqa: ARG002  (as a prediction)
        """The keys of `predict --json`."""
        return {"file": self.file, "error": self.error}


Row = Prediction | Unreadable
"""What is said of one picture of many."""


def answers(
    names: Sequence[str],
    probabilities: Float32Array | Float64Array,
    novelty: Float32Array | None,
    calibration: Calibration,
    classes: Sequence[str],
    *,
    predicted: Int64Array | None = None,
    unlike_training: Sequence[Sequence[str]] | None = None,
) -> list[Row]:
    """What is said of pictures, one answer for each, in order.

    Args:
        probabilities: (N, classes), at the temperature of the calibration.
        novelty: scores (N,) by the calibration's `novelty`; None without.
        predicted: the class of each; by default the most probable one, of equal ones the first.
        unlike_training: as `Prediction` has it, for each picture.
    """
    rows = np.asarray(probabilities, np.float64).reshape(len(names), len(classes))
    finite: BoolArray = np.logical_and.reduce(np.isfinite(rows), axis=1)
    rows = np.where(finite[:, None], rows, 0.0)
    best = rows.argmax(axis=1) if predicted is None else predicted
    sets = _sets(rows, best, classes, calibration)
    scores, percentiles, unknown = _novelty(novelty, calibration.novelty, len(names))
    return [
        Prediction(
            file=name,
            label=classes[best[row]],
            probability=float(rows[row, best[row]]),
            probabilities=dict(zip(classes, rows[row].tolist(), strict=True)),
            set=sets[row],
            novelty=scores[row],
            novelty_percentile=percentiles[row],
            unknown=unknown[row],
            unlike_training=tuple(unlike_training[row]) if unlike_training else (),
        )
        if finite[row]
        else Unreadable(file=name, error=NOT_FINITE, hint=TRAIN_AGAIN)
        for row, name in enumerate(names)
    ]


def _sets(
    rows: Float64Array, best: Int64Array, classes: Sequence[str], calibration: Calibration
) -> Sequence[tuple[str, ...] | None]:
    """The classes in the set of each picture, the most probable first."""
    if calibration.set_threshold is None:
        return [None] * len(rows)
    order = ranked(rows, best)
    joined = np.take_along_axis(members(rows, calibration.set_threshold, best), order, axis=1)
    return [
        tuple(classes[place] for place in places[inside])
        for places, inside in zip(order, joined, strict=True)
    ]


def _novelty(
    novelty: Float32Array | None, score: NoveltyScore | None, count: int
) -> tuple[Sequence[float | None], Sequence[float | None], Sequence[bool | None]]:
    """Score, percentile and verdict for each picture; None where there is none."""
    nothing = [None] * count
    if novelty is None or score is None:
        return nothing, nothing, nothing
    numbers = np.asarray(novelty, np.float32)
    return (
        _or_none(numbers),
        _or_none(score.percentile(numbers)),
        nothing if score.threshold is None else score.unknown(numbers).tolist(),
    )


def _or_none(values: Float32Array | Float64Array) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
