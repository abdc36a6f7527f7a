"""Calibration of probabilities, and temperature scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array
from ..errors import DataError
from ..randomness import keys
from .bootstrap import Estimate, Statistic, bootstrap, mean_of
from .intervals import wilson
from .predictions import Predictions

BINS = 15
"""Of equal width over 0..1, as Guo et al. (2017) use them."""
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.2, 20.0
_FOLDS = 5
# 4.6 is the width of the interval's logarithm: 24 halvings leave less than one millionth of it.
_HALVINGS = 24
_FOLD_STREAM, _CHANCE_STREAM = 12, 13
_TRIALS = 200
# log 0 has no number; so small a probability is 0 for a float32.
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """One number by which all logits are divided; it changes no prediction, only the confidence."""

    value: float
    """Above 1 the network was overconfident, below 1 underconfident."""
    at_bound: bool
    """The data would take it even further, as where every image is right."""
    count: int
    """Images that it was fitted on."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The images whose highest probability lies within (low, high]."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean highest probability; None without images."""
    accuracy: float | None
    """Share that is correct; None without images."""
    interval: tuple[float, float]
    """95 % interval of `accuracy` (Wilson)."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How well confidence matches accuracy."""

    bins: tuple[ReliabilityBin, ...]
    confidence: float
    """Mean highest probability; the nearer to the accuracy, the better."""
    ece: float
    """Expected calibration error: mean over the images of |accuracy - confidence| of their bin."""
    ece_interval: tuple[float, float] | None
    ece_by_chance: float
    """What a perfectly calibrated classifier with these confidences would show on as many images;
    95 % of the time it would show less."""
    log_loss: float
    """Mean of -log(probability of the true class)."""
    log_loss_interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "confidence": self.confidence,
            "ece": self.ece,
            "ece_interval": self.ece_interval and list(self.ece_interval),
            "ece_by_chance": self.ece_by_chance,
            "log_loss": self.log_loss,
            "log_loss_interval": self.log_loss_interval and list(self.log_loss_interval),
            "bins": [vars(one) | {"interval": list(one.interval)} for one in self.bins],
        }


def log_probabilities(predictions: Predictions) -> Float64Array:
    """float64 (N, classes): the logarithms of `Predictions.probabilities`.

    Raises:
        DataError: outputs that are not finite have none.
    """
    if not np.isfinite(predictions.logits).all():
        raise DataError(
            "Some outputs of the network are not finite, so there are no probabilities.",
            "Train again with a lower --lr.",
        )
    if predictions.loss == "cross-entropy":
        outputs = predictions.logits.astype(np.float64)
    else:
        outputs = np.log(np.maximum(predictions.probabilities(), _SMALLEST))
    return scaled(outputs, 1.0)


def scaled(log_probabilities: Float64Array, temperature: float) -> Float64Array:
    """The logarithms of the probabilities at a temperature: log softmax(log p / temperature)."""
    shifted = log_probabilities / temperature
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def fit_temperature(predictions: Predictions) -> Temperature:
    """The temperature with the least log loss (C. Guo et al., 2017, On Calibration).

    Fit it on the validation split; between 0.2 and 20, so that a split without any mistake does
    not make every answer certain.

    Raises:
        DataError: outputs that are not finite.
    """
    return _fitted(log_probabilities(predictions), predictions.labels)


def cross_fitted(log_p: Float64Array, labels: npt.NDArray[np.int64]) -> Float64Array:
    """Each image at the temperature that was fitted on the others, in five parts.

    So temperature can be judged on the very split that it is fitted on.
    """
    part_of = np.argsort(np.argsort(keys(len(labels), 0, _FOLD_STREAM))) % _FOLDS
    result = log_p.copy()
    for part in range(_FOLDS):
        inside, others = part_of == part, part_of != part
        if inside.any() and others.any():
            result[inside] = scaled(log_p[inside], _fitted(log_p[others], labels[others]).value)
    return result


def reliability_statistics(
    log_p: Float64Array, labels: npt.NDArray[np.int64]
) -> dict[str, Statistic]:
    """What `reliability` needs intervals of: "ece" and "log_loss"."""
    losses = -log_p[np.arange(len(labels)), labels]
    return {"ece": calibration_error(*confidence_of(log_p, labels)), "log_loss": mean_of(losses)}


def reliability(
    log_p: Float64Array,
    labels: npt.NDArray[np.int64],
    found: Mapping[str, Estimate] | None = None,
) -> Reliability:
    """Judge probabilities, given as their logarithms (N, classes).

    `found` are the estimates of `reliability_statistics`, where they are known already.
    """
    found = found or bootstrap(reliability_statistics(log_p, labels), len(labels))
    confidences, right = confidence_of(log_p, labels)
    places = bin_of(confidences)
    return Reliability(
        bins=tuple(_bin(place, confidences, right, places) for place in range(BINS)),
        confidence=float(confidences.mean()),
        ece=float(found["ece"].value),
        ece_interval=found["ece"].interval(),
        ece_by_chance=_error_by_chance(confidences, places),
        log_loss=float(found["log_loss"].value),
        log_loss_interval=found["log_loss"].interval(),
    )


def confidence_of(
    log_p: Float64Array, labels: npt.NDArray[np.int64]
) -> tuple[Float64Array, npt.NDArray[np.bool_]]:
    """The highest probability of each image, and whether that class is the true one."""
    confidences: Float64Array = np.minimum(np.exp(log_p.max(axis=1)), 1.0)
    return confidences, log_p.argmax(axis=1) == labels


def bin_of(confidences: Float64Array) -> npt.NDArray[np.int64]:
    """The bin (low, high] of each confidence."""
    edges = np.linspace(0, 1, BINS + 1)
    return np.searchsorted(edges[1:-1], confidences)


def calibration_error(confidences: Float64Array, right: npt.NDArray[np.bool_]) -> Statistic:
    """ECE of the most probable class, over `BINS` bins of equal width, as a statistic."""
    gaps = np.zeros((len(confidences), BINS))
    gaps[np.arange(len(confidences)), bin_of(confidences)] = right - confidences
    return lambda counts: np.asarray(np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1))


def _error_by_chance(confidences: Float64Array, places: npt.NDArray[np.int64]) -> float:
    """The 95 % quantile of ECE of a perfectly calibrated classifier."""
    errors = []
    for trial in range(_TRIALS):
        chances = keys(len(confidences), 0, _CHANCE_STREAM, trial) * 2.0**-64
        gaps = np.bincount(places, (chances < confidences) - confidences, BINS)
        errors.append(np.abs(gaps).sum() / len(confidences))
    return float(np.quantile(errors, 0.95))


def _bin(
    place: int,
    confidences: Float64Array,
    right: npt.NDArray[np.bool_],
    places: npt.NDArray[np.int64],
) -> ReliabilityBin:
    inside = places == place
    count, correct = int(inside.sum()), int(right[inside].sum())
    return ReliabilityBin(
        low=place / BINS,
        high=(place + 1) / BINS,
        count=count,
        confidence=float(confidences[inside].mean()) if count else None,
        accuracy=correct / count if count else None,
        interval=wilson(correct, count),
    )


def _fitted(log_p: Float64Array, labels: npt.NDArray[np.int64]) -> Temperature:
    """By halving: log loss is convex in b = 1 / temperature, so its gradient has one zero.

    The gradient is mean(sum of p log p' - log p' of the true class), p' the probabilities at b = 1.
    """
    of_truth = log_p[np.arange(len(labels)), labels].mean()

    def gradient(inverse: float) -> float:
        expected = (np.exp(scaled(log_p, 1 / inverse)) * log_p).sum(axis=1)
        return float(expected.mean() - of_truth)

    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    if gradient(low) >= 0 or gradient(high) <= 0:
        value = 1 / (low if gradient(low) >= 0 else high)
        return Temperature(value=value, at_bound=True, count=len(labels))
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if gradient(middle) < 0 else (low, middle)
    return Temperature(value=1 / math.sqrt(low * high), at_bound=False, count=len(labels))
