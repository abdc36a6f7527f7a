"""Everything that the predictions of one split tell about a classifier, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array, Int64Array
from ..errors import UsageError
from .bootstrap import (
    RESAMPLES,
    Estimate,
    Statistic,
    bootstrap,
    interval_of_mean_over_classes,
    mean_of,
    means_over_classes,
)
from .calibration import (
    BINS,
    Reliability,
    Temperature,
    confidence_of,
    cross_fitted,
    fit_temperature,
    log_loss_statistic,
    log_probabilities,
    log_probabilities_of,
    reliability,
    scaled,
)
from .clusters import share_interval
from .coverage import Coverage, coverage, risk_coverage_area
from .intervals import wilson
from .metrics import Evaluation, evaluate
from .predictions import Predictions, gives_probabilities

_NOT_FINITE = "Some outputs of the network are not finite, so there are no probabilities."
_SCORES = (
    "Trained with the loss {}, the network gives scores, not probabilities: there is no log loss, "
    "no calibration error and no temperature."
)
_NO_VALIDATION = (
    "The run has no validation split to fit a temperature on, and no other may be used for it."
)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration without and with temperature scaling."""

    before: Reliability
    temperature: Temperature | None
    """Fitted on the validation split; None where there is none."""
    after: Reliability | None
    cross_fitted: bool
    """The judged split is the one the temperature was fitted on: each image was judged at the
    temperature of the others."""
    reason: str
    """Why there is no temperature; otherwise empty."""

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
    macro_f1_interval: tuple[float, float]
    balanced_accuracy_interval: tuple[float, float]
    calibration: Calibration | None
    """None where the outputs give no probabilities: `no_calibration` says why."""
    no_calibration: str
    probabilities: bool
    """Whether the outputs estimate probabilities; those of mse are scores."""
    coverage: Coverage | None
    """None where outputs are not finite."""
    grouped: Predictions | None = None
    """What was judged, where its images come in groups: intervals of shares need to know."""

    @property
    def split(self) -> str:
        """train, val or test."""
        return self.evaluation.split

    def to_json(self) -> dict[str, Any]:
        """What `sartor evaluate --json` gives, and the intervals that it has not."""
        document = self.evaluation.to_json()
        document["loss_interval"] = self.loss and _listed(self.loss.interval())
        document["macro_f1_interval"] = list(self.macro_f1_interval)
        document["balanced_accuracy_interval"] = list(self.balanced_accuracy_interval)
        for place, row in enumerate(document["per_class"]):
            row["f1_interval"] = _listed(self.f1_interval(place))
            row["precision_interval"] = self._precision_interval(place)
        document["probabilities"] = self.probabilities
        units = "images" if self.grouped is None else "groups"
        document["bootstrap"] = {"resamples": RESAMPLES, "confidence": 0.95, "units": units}
        return document

    def f1_interval(self, place: int) -> tuple[float, float] | None:
        """Of one class; None where F1 is not defined.

        F1 = 2 s / (1 + s) for the share s of the class's right answers among all images that are
        of the class or predicted as it; and s has Wilson's interval.
        """
        row = self.evaluation.per_class[place]
        if row.f1 is None:
            return None
        if self.grouped is not None:
            predicted = self.grouped.predicted()
            interval = _of_members(
                self.grouped, (predicted == place) | (self.grouped.labels == place)
            )
        else:
            union = row.count + int(self.evaluation.confusion[:, place].sum()) - row.correct
            interval = wilson(row.correct, union)
        low, high = (2 * share / (1 + share) for share in interval)
        return low, high

    def _precision_interval(self, place: int) -> list[float]:
        if self.grouped is not None:
            return list(_of_members(self.grouped, self.grouped.predicted() == place))
        column = self.evaluation.confusion[:, place]
        return list(wilson(int(column[place]), int(column.sum())))


def _of_members(predictions: Predictions, members: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Of the share of right answers among some images that come in groups."""
    assert predictions.groups is not None
    return share_interval(_right(predictions)[members], predictions.groups[members])


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def judge(
    predictions: Predictions,
    validation: Predictions | None,
    *,
    choices: int = 1,
    temperature: float = 1.0,
) -> Judgement:
    """Judge predictions; `validation` are those of the validation split of the same weights.

    The temperature is fitted only on `validation`, whatever split is evaluated.

    Args:
        choices: as for `evaluate`.
        temperature: what predictions are made at, by which images are put in order.

    Raises:
        DataError: there are no predictions.
        UsageError: `validation` is of another split or of other weights.
    """
    if validation and (
        validation.split != "val" or validation.weights_sha256 != predictions.weights_sha256
    ):
        raise UsageError(
            "A temperature can only be fitted on the validation split of the same weights.",
            "Predict the split val with the same checkpoint.",
        )
    evaluation = evaluate(predictions, choices)
    reason = _no_calibration(predictions)
    scaling = None if reason else _scaling(predictions, validation)
    found = bootstrap(
        _statistics(predictions, scaling, temperature),
        len(predictions),
        clusters=predictions.groups,
    )
    rows = evaluation.per_class
    return Judgement(
        evaluation=evaluation,
        loss=found.get("loss"),
        macro_f1_interval=interval_of_mean_over_classes(
            found["means"].at(0), [row.count for row in rows if row.f1 is not None]
        ),
        balanced_accuracy_interval=interval_of_mean_over_classes(
            found["means"].at(1), [row.count for row in rows if row.count]
        ),
        calibration=_calibration(scaling, found, predictions.groups) if scaling else None,
        no_calibration=reason,
        probabilities=gives_probabilities(predictions.loss),
        coverage=coverage(
            _rank(predictions, temperature),
            _right(predictions),
            found["area"],
            predictions.groups,
        )
        if "area" in found
        else None,
        grouped=None if predictions.groups is None else predictions,
    )


def _no_calibration(predictions: Predictions) -> str:
    """Why the outputs give no probabilities; empty where they do."""
    if not np.isfinite(predictions.logits).all():
        return _NOT_FINITE
    return "" if gives_probabilities(predictions.loss) else _SCORES.format(predictions.loss)


def _rank(predictions: Predictions, temperature: float) -> Float64Array:
    """By what images are put in order: the probability of the predicted class, else its score."""
    rows, predicted = np.arange(len(predictions)), predictions.predicted()
    if gives_probabilities(predictions.loss):
        return confidence_of(scaled(log_probabilities(predictions), temperature), predicted)
    return predictions.logits[rows, predicted].astype(np.float64)


def _right(predictions: Predictions) -> npt.NDArray[np.bool_]:
    return np.asarray(predictions.predicted() == predictions.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scaling:
    """Logarithms of probabilities (N, classes), as they are and at the temperature."""

    labels: Int64Array
    predicted: Int64Array
    before: Float64Array
    after: Float64Array | None
    temperature: Temperature | None
    cross_fitted: bool
    reason: str


def _scaling(predictions: Predictions, validation: Predictions | None) -> _Scaling:
    before, labels = log_probabilities(predictions), predictions.labels
    reason = ""
    if validation is None or not len(validation):
        reason = _NO_VALIDATION
    elif not np.isfinite(validation.logits).all():
        reason = _NOT_FINITE
    temperature, after, same = None, None, predictions.split == "val"
    if validation is not None and not reason:
        temperature = fit_temperature(validation)
        groups = predictions.groups
        after = cross_fitted(before, labels, groups) if same else scaled(before, temperature.value)
    return _Scaling(
        labels=labels,
        predicted=predictions.predicted(),
        before=before,
        after=after,
        temperature=temperature,
        cross_fitted=same and after is not None,
        reason=reason,
    )


def _statistics(
    predictions: Predictions, scaling: _Scaling | None, temperature: float
) -> dict[str, Statistic]:
    """All that needs an interval, so that the images are drawn once for everything."""
    losses = predictions.example_losses()
    statistics = {"means": means_over_classes(predictions)}
    if np.isfinite(losses).all():
        statistics["loss"] = mean_of(losses)
    if np.isfinite(predictions.logits).all():
        statistics["area"] = risk_coverage_area(
            _rank(predictions, temperature), _right(predictions)
        )
    if scaling is not None:
        for name, log_p in (("before", scaling.before), ("after", scaling.after)):
            if log_p is not None:
                statistics[name] = log_loss_statistic(log_p, scaling.labels)
    return statistics


def _calibration(
    scaling: _Scaling, found: Mapping[str, Estimate], groups: Int64Array | None
) -> Calibration:
    def judged(name: str, log_p: Float64Array | None) -> Reliability | None:
        if log_p is None:
            return None
        return reliability(log_p, scaling.labels, scaling.predicted, found[name], groups)

    with ThreadPoolExecutor(1, "sartor-reliability") as thread:
        after = thread.submit(judged, "after", scaling.after)
        before = judged("before", scaling.before)
    assert before is not None
    return Calibration(
        before=before,
        temperature=scaling.temperature,
        after=after.result(),
        cross_fitted=scaling.cross_fitted,
        reason=scaling.reason,
    )


# ------------------------------------------------------------------------------------ images


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredPredictions:
    """The prediction for each image of a split, in the order of the predictions."""

    indices: Int64Array
    labels: Int64Array
    predicted: Int64Array
    confidences: Float64Array
    """Probability of the predicted class; NaN where there is none."""
    truths: Float64Array
    """Probability of the true class; NaN where there is none."""
    losses: Float64Array

    @classmethod
    def of(cls, predictions: Predictions, temperature: float = 1.0) -> ScoredPredictions:
        """Those of predictions, with probabilities at a temperature."""
        probabilities, rows = predictions.probabilities(), np.arange(len(predictions))
        if temperature != 1:
            log_p = log_probabilities_of(predictions.logits, predictions.loss)
            probabilities = np.exp(scaled(log_p, temperature))
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
        """Rows of the wrong predictions, largest loss first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        # What has no loss because outputs are not finite is the worst.
        losses = np.nan_to_num(self.losses[wrong], nan=np.inf)
        return wrong[np.argsort(-losses, kind="stable")]

    def most_confident(self) -> Int64Array:
        """All rows, most confident first."""
        return np.argsort(-self.confidences, kind="stable")

    def least_confident(self) -> Int64Array:
        """All rows, least confident first."""
        return np.argsort(self.confidences, kind="stable")
