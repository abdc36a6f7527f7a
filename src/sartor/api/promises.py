"""What the calibration of a run promised, held against predictions that it was not fitted on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..evaluation.calibration import log_probabilities_of, scaled
from ..evaluation.conformal import members
from ..evaluation.metrics import Evaluation
from ..evaluation.predictions import Predictions
from ..evaluation.promises import (
    NoveltyEvaluation,
    Promise,
    SetsEvaluation,
    evaluate_novelty,
    evaluate_sets,
)
from ..inference.calibration import Calibration


def with_promises(
    evaluation: Evaluation, predictions: Predictions, calibration: Calibration | None
) -> Evaluation:
    """The evaluation with that of sets and novelty; without, on the images that they come from."""
    if calibration is None or predictions.split == "val":
        return evaluation
    return replace(
        evaluation,
        sets=_sets(predictions, calibration),
        novelty=_novelty(predictions, calibration),
    )


def _sets(predictions: Predictions, calibration: Calibration) -> SetsEvaluation | None:
    if calibration.set_threshold is None or calibration.coverage is None:
        return None
    log_p = log_probabilities_of(predictions.logits, predictions.loss)
    probabilities = np.exp(scaled(log_p, calibration.temperature))
    finite = np.isfinite(probabilities).all(axis=1, keepdims=True)
    inside = members(np.where(finite, probabilities, 0.0), calibration.set_threshold) & finite
    promise = _promise(calibration, calibration.coverage, calibration.set_threshold)
    return evaluate_sets(
        inside, predictions.labels, predictions.classes, promise, predictions.groups
    )


def _novelty(predictions: Predictions, calibration: Calibration) -> NoveltyEvaluation | None:
    score, scores = calibration.novelty, predictions.novelty
    if score is None or score.threshold is None or scores is None:
        return None
    promise = _promise(calibration, round(1 - score.false_alarms, 9), score.threshold)
    return evaluate_novelty(
        score.unknown(scores),
        replace(promise, images=min(promise.images, score.images)),
        method=score.method,
        separation=score.separation[score.method],
        groups=predictions.groups,
    )


def _promise(calibration: Calibration, level: float, threshold: float) -> Promise:
    return Promise(
        level=level, threshold=threshold, images=calibration.images, groups=calibration.groups
    )
