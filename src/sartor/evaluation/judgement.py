"""All that predictions of one split say of a classifier, every number with its doubt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from .bootstrap import (
    RESAMPLES,
    Estimate,
    balanced_accuracy,
    bootstrap,
    f1_of_each_class,
    macro_f1,
    mean_of,
)
from .calibration import (
    BINS,
    Reliability,
    Temperature,
    confidence_of,
    cross_fitted,
    fit_temperature,
    log_probabilities,
    reliability,
    scaled,
)
from .coverage import Coverage, coverage
from .intervals import wilson
from .metrics import Evaluation, evaluate
from .predictions import Int64Array, Predictions

_NOT_FINITE = "Some outputs of the network are not finite, so they are no probabilities."
_NO_VALIDATION = (
    "The run has no validation split to fit a temperature on, and no other may be used for it."
)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether probabilities can be believed, as they are and at a temperature."""

    before: Reliability
    temperature: Temperature | None
    """Fitted on the validation split; None where there is none."""
    after: Reliability | None
    cross_fitted: bool
    """The judged split is the one the temperature was fitted on: each image was judged at the
    temperature of the others."""
    reason: str
    """Why there is no temperature; else empty."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "definition": f"top-label ECE, {BINS} bins of equal width",
            "temperature": self.temperature and vars(self.temperature),
            "fitted_on": "val" if self.temperature else None,
            "cross_fitted": self.cross_fitted,
            "reason": self.reason or None,
            "before": self.before.to_json(),
            "after": self.after and self.after.to_json(),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """The judgement of one split; intervals hold 95 %."""

    evaluation: Evaluation
    loss: Estimate | None
    """None where the loss is not finite."""
    macro_f1: Estimate
    balanced_accuracy: Estimate
    f1: Estimate
    """Of each class; NaN for one that neither occurs nor is predicted."""
    calibration: Calibration | None
    """None where the outputs are no probabilities."""
    coverage: Coverage | None

    @property
    def split(self) -> str:
        """train, val or test."""
        return self.evaluation.split

    def to_json(self) -> dict[str, Any]:
        """What `sartor evaluate --json` gives, and the intervals that it has not."""
        document = self.evaluation.to_json()
        document["loss_interval"] = self.loss and list(self.loss.interval())
        for name, estimate in (
            ("macro_f1", self.macro_f1),
            ("balanced_accuracy", self.balanced_accuracy),
        ):
            document[name] = float(estimate.value)
            document[f"{name}_interval"] = list(estimate.interval())
        for place, row in enumerate(document["per_class"]):
            row["f1_interval"] = None if row["f1"] is None else list(self.f1.interval(place))
            row["precision_interval"] = self._precision_interval(place)
        document["bootstrap"] = {"resamples": RESAMPLES, "confidence": 0.95}
        return document

    def _precision_interval(self, place: int) -> list[float]:
        column = self.evaluation.confusion[:, place]
        return list(wilson(int(column[place]), int(column.sum())))


def judge(predictions: Predictions, validation: Predictions | None) -> Judgement:
    """Judge predictions; `validation` are those of the validation split of the same weights.

    The temperature is fitted on `validation` alone, whatever split is judged.

    Raises:
        DataError: there are no predictions.
        UsageError: `validation` is of another split or of other weights.
    """
    if validation and (
        validation.split != "val" or validation.weights_sha256 != predictions.weights_sha256
    ):
        raise UsageError(
            "A temperature is fitted on the validation split of the same weights alone.",
            "Predict the split val with the same checkpoint.",
        )
    evaluation = evaluate(predictions)
    found = bootstrap(
        {
            "macro_f1": macro_f1(predictions),
            "balanced_accuracy": balanced_accuracy(predictions),
            "f1": f1_of_each_class(predictions),
        },
        len(predictions),
    )
    losses, is_finite = predictions.example_losses(), bool(np.isfinite(predictions.logits).all())
    return Judgement(
        evaluation=evaluation,
        loss=(
            bootstrap({"loss": mean_of(losses)}, len(losses))["loss"]
            if math.isfinite(evaluation.loss)
            else None
        ),
        macro_f1=found["macro_f1"],
        balanced_accuracy=found["balanced_accuracy"],
        f1=found["f1"],
        calibration=_calibration(predictions, validation) if is_finite else None,
        coverage=_coverage(predictions) if is_finite else None,
    )


def _calibration(predictions: Predictions, validation: Predictions | None) -> Calibration:
    log_p, labels = log_probabilities(predictions), predictions.labels
    before = reliability(log_p, labels)
    reason = ""
    if validation is None or not len(validation):
        reason = _NO_VALIDATION
    elif not np.isfinite(validation.logits).all():
        reason = _NOT_FINITE
    if validation is None or reason:
        return Calibration(
            before=before, temperature=None, after=None, cross_fitted=False, reason=reason
        )
    temperature = fit_temperature(validation)
    same = predictions.split == "val"
    after = cross_fitted(log_p, labels) if same else scaled(log_p, temperature.value)
    return Calibration(
        before=before,
        temperature=temperature,
        after=reliability(after, labels),
        cross_fitted=same,
        reason="",
    )


def _coverage(predictions: Predictions) -> Coverage:
    return coverage(*confidence_of(log_probabilities(predictions), predictions.labels))


# ------------------------------------------------------------------------------------ images


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What was said of each image of a split, in the order of the predictions."""

    indices: Int64Array
    labels: Int64Array
    predicted: Int64Array
    confidences: np.ndarray[Any, np.dtype[np.float64]]
    """Probability of the predicted class."""
    truths: np.ndarray[Any, np.dtype[np.float64]]
    """Probability of the true class."""
    losses: np.ndarray[Any, np.dtype[np.float64]]

    @classmethod
    def of(cls, predictions: Predictions) -> Answers:
        """Those of predictions."""
        probabilities, rows = predictions.probabilities(), np.arange(len(predictions))
        predicted = predictions.predicted()
        return cls(
            indices=predictions.indices,
            labels=predictions.labels,
            predicted=predicted,
            confidences=probabilities[rows, predicted],
            truths=probabilities[rows, predictions.labels],
            losses=predictions.example_losses(),
        )

    def mistakes(self) -> Int64Array:
        """Rows of the wrong answers, the largest loss first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.losses[wrong], kind="stable")]

    def most_confident(self) -> Int64Array:
        """All rows, the surest first."""
        return np.argsort(-self.confidences, kind="stable")

    def least_confident(self) -> Int64Array:
        """All rows, the least sure first."""
        return np.argsort(self.confidences, kind="stable")
