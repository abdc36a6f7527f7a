"""What a bundle says of how good its network is: the run's own figures, and where it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Float64Array
from ..evaluation.calibration import log_probabilities_of, scaled
from ..evaluation.coverage import coverage
from ..evaluation.judgement import Judgement, ScoredPredictions
from ..evaluation.predictions import NO_PREDICTION, NO_PREDICTION_NAME, Predictions

CONFUSED_SHOWN = 10
MISTAKES_SHOWN = 10


def figures(
    judgement: Judgement,
    predictions: Predictions,
    names: Sequence[str],
    *,
    temperature: float = 1.0,
) -> dict[str, Any]:
    """Plain values for `figures` in bundle.json, from which the card is made.

    Args:
        names: what each image of the dataset is called: its file, or its number.
        temperature: of the bundle, so that the probabilities here are those that it gives.
    """
    document = judgement.to_json()
    confusion = np.array(document.pop("confusion"))
    document.pop("as_given")
    calibration = judgement.calibration and judgement.calibration.to_json()
    for part in ("before", "after"):
        if calibration and calibration[part]:
            calibration[part].pop("bins")
    return {
        **document,
        "calibration": calibration,
        "no_calibration": judgement.no_calibration or None,
        "coverage": judgement.coverage and _coverage(predictions, temperature),
        "confused": list(_confused(confusion, predictions.classes)),
        "mistakes": _mistakes(predictions, names, temperature),
    }


def _confused(confusion: Any, classes: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """The classes that are most often taken for another, the most frequent first."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED_SHOWN]
    places = [(int(at // len(wrong)), int(at % len(wrong))) for at in order]
    return [
        {
            "true": classes[true],
            "predicted": classes[predicted],
            "count": int(wrong[true, predicted]),
            "of": int(confusion[true].sum()),
        }
        for true, predicted in places
        if wrong[true, predicted]
    ]


def _probabilities(predictions: Predictions, temperature: float) -> Float64Array:
    log_p = log_probabilities_of(predictions.logits, predictions.loss)
    result: Float64Array = np.exp(scaled(log_p, temperature))
    return result


def _coverage(predictions: Predictions, temperature: float) -> list[Mapping[str, Any]]:
    """Accuracy where the least confident images are left out, by the bundle's probabilities."""
    if predictions.loss == "mse":
        confidences = predictions.probabilities().max(axis=1)
    else:
        confidences = _probabilities(predictions, temperature).max(axis=1)
    right = predictions.predicted() == predictions.labels
    points = coverage(confidences, right, groups=predictions.groups).to_json()["points"]
    return [{name: point[name] for name in point if name != "count"} for point in points]


def _mistakes(
    predictions: Predictions, names: Sequence[str], temperature: float
) -> list[dict[str, Any]]:
    """The wrong predictions of highest loss."""
    scored, classes = ScoredPredictions.of(predictions), predictions.classes
    rows = scored.mistakes()[:MISTAKES_SHOWN]
    confidences = scored.confidences
    if temperature != 1:
        of_all = _probabilities(predictions, temperature)
        confidences = of_all[np.arange(len(of_all)), scored.predicted]
    return [
        {
            "file": names[int(scored.indices[row])],
            "true": classes[scored.labels[row]],
            "predicted": NO_PREDICTION_NAME
            if scored.predicted[row] == NO_PREDICTION
            else classes[scored.predicted[row]],
            "probability": _finite(float(confidences[row])),
        }
        for row in rows.tolist()
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
