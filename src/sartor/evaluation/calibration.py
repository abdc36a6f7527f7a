"""Calibration of probabilities, and temperature scaling."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..arrays import Float32Array, Float64Array, Int64Array
from ..errors import DataError
from ..machine import available_cores
from ..randomness import keys
from .bootstrap import Estimate, Statistic, bootstrap, mean_of
from .clusters import effective_share, share_interval
from .intervals import wilson
from .predictions import Predictions, gives_probabilities, probabilities_of

BINS = 15
"""Of equal width over 0..1, as Guo et al. (2017) use them."""
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.2, 20.0
_FOLDS = 5
# 4.6 is the width of the interval's logarithm: 24 halvings leave less than one millionth of it.
_HALVINGS = 24
_MOST_NEWTON = 12
_NEARBY = 1e-6
"""Within so much of its value, as a share, the place of a zero is not taken for exact."""
_FOLD_STREAM, _CHANCE_STREAM = 12, 13
_TRIALS = 5000
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
    """95 % interval of `accuracy` (Wilson; of images in groups, at their effective number)."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How well confidence matches accuracy."""

    bins: tuple[ReliabilityBin, ...]
    confidence: float
    """Mean probability of the predicted class; the nearer to the accuracy, the better."""
    gap: float
    """`confidence` minus accuracy."""
    gap_interval: tuple[float, float]
    """95 % interval of `gap`."""
    ece: float
    """Expected calibration error: mean over the images of |accuracy - confidence| of their bin.

    It has no interval: on few images it is far above the truth even where calibration is perfect,
    and no resampling corrects that. It is to be read beside what chance gives."""
    ece_by_chance: float
    """What a perfectly calibrated classifier with these confidences would show on as many images;
    95 % of the time it would show less. Where images come in groups, on as many groups as alike."""
    ece_by_chance_mean: float
    """The same on average."""
    log_loss: float
    """Mean of -log(probability of the true class)."""
    log_loss_interval: tuple[float, float] | None

    @property
    def verdict(self) -> Literal["overconfident", "underconfident"] | None:
        """What the interval of the gap shows; None where it holds 0."""
        low, high = self.gap_interval
        if low <= 0 <= high:
            return None
        return "overconfident" if low > 0 else "underconfident"

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "confidence": self.confidence,
            "gap": self.gap,
            "gap_interval": list(self.gap_interval),
            "verdict": self.verdict,
            "ece": self.ece,
            "ece_by_chance": self.ece_by_chance,
            "ece_by_chance_mean": self.ece_by_chance_mean,
            "log_loss": self.log_loss,
            "log_loss_interval": self.log_loss_interval and list(self.log_loss_interval),
            "bins": [vars(one) | {"interval": list(one.interval)} for one in self.bins],
        }


def log_probabilities(predictions: Predictions) -> Float64Array:
    """float64 (N, classes): the logarithms of `Predictions.probabilities`.

    Raises:
        DataError: the loss gives scores, or outputs are not finite.
    """
    if not gives_probabilities(predictions.loss):
        raise DataError(
            f"A network trained with the loss {predictions.loss} gives scores, not probabilities.",
            "Train with --loss cross-entropy for probabilities.",
        )
    if not np.isfinite(predictions.logits).all():
        raise DataError(
            "Some outputs of the network are not finite, so there are no probabilities.",
            "Train again with a lower --lr.",
        )
    return log_probabilities_of(predictions.logits, predictions.loss)


def log_probabilities_of(logits: Float32Array, loss: str) -> Float64Array:
    """float64 (N, classes): the logarithms of `probabilities_of`; NaN where not finite."""
    if loss == "cross-entropy":
        return scaled(logits.astype(np.float64), 1.0)
    return scaled(np.log(np.maximum(probabilities_of(logits, loss), _SMALLEST)), 1.0)


def scaled(log_probabilities: Float64Array, temperature: float) -> Float64Array:
    """The logarithms of the probabilities at a temperature: log softmax(log p / temperature)."""
    # Outputs that are not finite give NaN, which is the honest answer, not a warning.
    with np.errstate(invalid="ignore"):
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


def cross_fitted(
    log_p: Float64Array, labels: npt.NDArray[np.int64], groups: Int64Array | None = None
) -> Float64Array:
    """Each image at the temperature that was fitted on the others, in five parts.

    So temperature can be judged on the very split that it is fitted on. Images of a group are in
    one part.
    """
    unit = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(unit.max()) + 1
    part_of = (np.argsort(np.argsort(keys(units, 0, _FOLD_STREAM))) % _FOLDS)[unit]
    result = log_p.copy()

    def fit(part: int) -> None:
        inside, others = part_of == part, part_of != part
        if inside.any() and others.any():
            result[inside] = scaled(log_p[inside], _fitted(log_p[others], labels[others]).value)

    with ThreadPoolExecutor(min(_FOLDS, available_cores()), "sartor-folds") as threads:
        list(threads.map(fit, range(_FOLDS)))
    return result


def log_loss_statistic(log_p: Float64Array, labels: npt.NDArray[np.int64]) -> Statistic:
    """The log loss, as a statistic."""
    return mean_of(-log_p[np.arange(len(labels)), labels])


def reliability(
    log_p: Float64Array,
    labels: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    log_loss: Estimate | None = None,
    groups: Int64Array | None = None,
) -> Reliability:
    """Judge probabilities, given as their logarithms (N, classes), of predicted classes (N,).

    Args:
        log_loss: the estimate of `log_loss_statistic`, where it is known already.
        groups: of each image, (N,); None where each stands alone.
    """
    if log_loss is None:
        statistic = {"": log_loss_statistic(log_p, labels)}
        log_loss = bootstrap(statistic, len(labels), clusters=groups)[""]
    confidences, right = confidence_of(log_p, predicted), predicted == labels
    places = bin_of(confidences)
    by_chance = errors_by_chance(confidences)
    if groups is not None:
        by_chance = _of_groups(by_chance, confidences, right, groups)
    return Reliability(
        bins=tuple(_bin(place, confidences, right, places, groups) for place in range(BINS)),
        confidence=float(confidences.mean()),
        gap=float(confidences.mean() - right.mean()),
        gap_interval=gap_interval(confidences, right)
        if groups is None
        else gap_interval_of_groups(confidences, right, groups),
        ece=calibration_error(confidences, right),
        ece_by_chance=float(np.quantile(by_chance, 0.95)),
        ece_by_chance_mean=float(by_chance.mean()),
        log_loss=float(log_loss.value),
        log_loss_interval=log_loss.interval(),
    )


def confidence_of(log_p: Float64Array, predicted: npt.NDArray[np.int64]) -> Float64Array:
    """The probability of each image's predicted class."""
    confidences: Float64Array = np.minimum(np.exp(log_p[np.arange(len(log_p)), predicted]), 1.0)
    return confidences


def bin_of(confidences: Float64Array) -> npt.NDArray[np.int64]:
    """The bin (low, high] of each confidence."""
    edges = np.linspace(0, 1, BINS + 1)
    return np.searchsorted(edges[1:-1], confidences)


def calibration_error(confidences: Float64Array, right: npt.NDArray[np.bool_]) -> float:
    """ECE of the predicted class, over `BINS` bins of equal width."""
    gaps = np.bincount(bin_of(confidences), right - confidences, BINS)
    return float(np.abs(gaps).sum() / len(confidences))


def gap_interval(
    confidences: Float64Array, right: npt.NDArray[np.bool_], confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of mean confidence minus accuracy, within -1..1.

    Put together from Student's interval of the one and Wilson's of the other, and from their
    correlation (MOVER: G. Y. Zou and A. Donner, 2008, Statistics in Medicine 27, 1693-1702). So it
    keeps its width where every image is right, as the bootstrap does not.
    """
    from scipy.special import stdtrit

    count = len(right)
    low, high = wilson(int(right.sum()), count, confidence)
    accuracy, mean = float(right.mean()), float(confidences.mean())
    below, above, half, correlation = accuracy - low, high - accuracy, 1.0, 0.0
    if count > 1:
        error = float(confidences.std(ddof=1)) / math.sqrt(count)
        half = float(stdtrit(count - 1, (1 + confidence) / 2)) * error
        if error > 0 and 0 < accuracy < 1:
            correlation = float(np.corrcoef(confidences, right)[0, 1])
    gap = mean - accuracy
    return (
        max(-1.0, gap - _joined(half, above, correlation)),
        min(1.0, gap + _joined(half, below, correlation)),
    )


def gap_interval_of_groups(
    confidences: Float64Array, right: npt.NDArray[np.bool_], groups: Int64Array
) -> tuple[float, float]:
    """As `gap_interval`, where images of a group are alike: both at their effective number of
    images, and with the correlation of the sums of groups."""
    _, member = np.unique(groups, return_inverse=True)
    accuracy, mean = float(right.mean()), float(confidences.mean())
    gap, number = mean - accuracy, len(right) * effective_share(confidences, groups)
    if not number:
        return -1.0, 1.0
    low, high = share_interval(right, groups)
    half = -NormalDist().inv_cdf(0.025) * float(confidences.std()) / math.sqrt(number)
    sums = [
        np.bincount(member, weights=values)
        for values in (confidences - mean, right.astype(float) - accuracy)
    ]
    varies = all(one.any() for one in sums) and 0 < accuracy < 1
    correlation = (
        float(sums[0] @ sums[1] / math.sqrt((sums[0] @ sums[0]) * (sums[1] @ sums[1])))
        if varies
        else 0.0
    )
    return (
        max(-1.0, gap - _joined(half, high - accuracy, correlation)),
        min(1.0, gap + _joined(half, accuracy - low, correlation)),
    )


def _of_groups(
    errors: Float64Array,
    confidences: Float64Array,
    right: npt.NDArray[np.bool_],
    groups: Int64Array,
) -> Float64Array:
    """Errors by chance of independent images, as those of fewer of them: deviations are larger by
    the root of how many images count as one."""
    share = effective_share(right - confidences, groups)
    return np.minimum(errors / math.sqrt(share), 1.0) if share else np.ones_like(errors)


def _joined(one: float, other: float, correlation: float) -> float:
    """How far a difference may be off, where its parts may be so far off and are correlated."""
    return math.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0))


def errors_by_chance(confidences: Float64Array) -> Float64Array:
    """float64 (5000,): the ECE that a perfectly calibrated classifier shows on as many images.

    How many images of a bin are right is drawn from its distribution, in which each is right with
    its confidence as the probability. That is the same as drawing every image, and much faster.
    """
    places = bin_of(confidences)
    errors = np.zeros(_TRIALS)
    for place in np.unique(places):
        inside = confidences[places == place]
        up_to = np.cumsum(_distribution_of_sum(inside))
        drawn = keys(_TRIALS, 0, _CHANCE_STREAM, int(place)) * 2.0**-64
        right = np.searchsorted(up_to[:-1], drawn, side="right")
        errors += np.abs(right - inside.sum())
    return errors / len(confidences)


def _distribution_of_sum(chances: Float64Array) -> Float64Array:
    """float64 (n + 1,): how probable each number of successes is, of n with these chances.

    The product of the polynomials (1 - p) + p x, always two of them at a time.
    """
    factors = np.stack([1 - chances, chances], axis=1)
    while len(factors) > 1:
        if len(factors) % 2:
            factors = np.concatenate([factors, np.eye(1, factors.shape[1])])
        width = 2 * factors.shape[1] - 1
        waves = np.fft.rfft(factors, width, axis=1)
        factors = np.fft.irfft(waves[::2] * waves[1::2], width, axis=1)
    return np.clip(factors[0, : len(chances) + 1], 0, None)


def _bin(
    place: int,
    confidences: Float64Array,
    right: npt.NDArray[np.bool_],
    places: npt.NDArray[np.int64],
    groups: Int64Array | None,
) -> ReliabilityBin:
    inside = places == place
    count, correct = int(inside.sum()), int(right[inside].sum())
    return ReliabilityBin(
        low=place / BINS,
        high=(place + 1) / BINS,
        count=count,
        confidence=float(confidences[inside].mean()) if count else None,
        accuracy=correct / count if count else None,
        interval=wilson(correct, count)
        if groups is None
        else share_interval(right[inside], groups[inside]),
    )


def _zero_nearby(log_p: Float64Array, of_truth: float) -> float:
    """Where the gradient of `_fitted` is zero, by Newton's method, far more exactly than `_NEARBY`;
    NaN where it does not get there."""
    inverse = 1.0
    highest = log_p.max(axis=1, keepdims=True)
    for _ in range(_MOST_NEWTON):
        odds = np.exp(inverse * (log_p - highest))
        total = odds.sum(axis=1)
        odds *= log_p
        mean = odds.sum(axis=1) / total
        odds *= log_p
        slope = (odds.sum(axis=1) / total - mean * mean).mean()
        step = (float(mean.mean()) - of_truth) / slope if slope > 0 else math.nan
        if not 1 / HIGHEST_TEMPERATURE < inverse - step < 1 / LOWEST_TEMPERATURE:
            return math.nan
        inverse -= step
        # The next step would be of the order of its square.
        if abs(step) < 1e-5 * inverse:
            return inverse
    return math.nan


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
    near = _zero_nearby(log_p, of_truth)
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        # Far from the zero, its sign is known without looking at all images again.
        known = abs(middle - near) > _NEARBY * near
        below = middle < near if known else gradient(middle) < 0
        low, high = (middle, high) if below else (low, middle)
    return Temperature(value=1 / math.sqrt(low * high), at_bound=False, count=len(labels))
