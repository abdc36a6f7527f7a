"""Sets of classes that hold the true one with a promised probability: split conformal prediction.

Each validation image gives a score: how much probability lies on the classes that come before its
true one (adaptive prediction sets, APS, without randomisation: Y. Romano, M. Sesia and E. Candès,
2020, Classification with Valid and Adaptive Coverage). The threshold is a quantile of the scores,
and a class belongs to the set of another image where its score is at most that. Whatever the
network and its errors, the set holds the true class of an image that is exchangeable with the
validation images with the promised probability, on average over all images and over all draws of
validation images; it promises nothing for a single class or image.
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays import BoolArray, Float64Array, Int64Array

# So that 0.95 * 20 counts as 19, whatever its last bit.
_ROUNDING = 1e-9


def mass_before(probabilities: Float64Array, first: Int64Array | None = None) -> Float64Array:
    """For each class of each image, the sum of the probabilities of those that come before it.

    Classes come in the order of their probabilities; of equal ones the class `first` (N,) of the
    image, then the first class.
    """
    order = ranked(probabilities, first)
    ordered = np.take_along_axis(probabilities.astype(np.float64), order, axis=1)
    before = np.zeros_like(ordered)
    np.cumsum(ordered[:, :-1], axis=1, out=before[:, 1:])
    result = np.empty_like(before)
    np.put_along_axis(result, order, before, axis=1)
    return result


def ranked(probabilities: Float64Array, first: Int64Array | None = None) -> Int64Array:
    """The classes of each image in the order of `mass_before`, (N, classes)."""
    if first is None:
        return np.argsort(-probabilities, axis=1, kind="stable")
    others = np.arange(probabilities.shape[1]) != first[:, None]
    return np.lexsort((others, -probabilities), axis=1)


def true_scores(probabilities: Float64Array, labels: Int64Array) -> Float64Array:
    """The score of each image's true class, (N,): the lowest threshold whose set holds it."""
    return mass_before(probabilities)[np.arange(len(labels)), labels]


def members(
    probabilities: Float64Array, threshold: float, first: Int64Array | None = None
) -> BoolArray:
    """Which classes are in the set of each image, bool (N, classes); the most probable always is.

    The same as: add classes, the most probable first, until their probabilities add up to more
    than the threshold.
    """
    joined: BoolArray = mass_before(probabilities, first) <= threshold
    return joined


def conformal_quantile(
    scores: Float64Array, level: float, groups: Int64Array | None = None
) -> float | None:
    """What the score of one more image does not exceed, with probability `level`.

    The ceil((n + 1) level)-th lowest of n scores. With groups, one more image of one more group
    that is exchangeable with these: each group weighs 1 / (groups + 1), shared by its images (Y.
    Lee, R. F. Barber and R. Willett, 2023, Distribution-Free Inference with Hierarchical Data).

    None where there are too few images, or groups, for that level.
    """
    if not len(scores):
        return None
    if groups is None:
        weights = np.full(len(scores), 1 / (len(scores) + 1))
    else:
        _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        weights = 1 / (sizes[member.reshape(-1)] * (len(sizes) + 1))
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights[order]) >= level - _ROUNDING
    return float(scores[order[reached.argmax()]]) if reached.any() else None


def fewest_for(level: float) -> int:
    """With fewer images (or groups) than this, no threshold keeps the promise."""
    return math.ceil(level / (1 - level) - _ROUNDING)


def promised_range(count: int, calibrated_on: int, level: float) -> tuple[float, float]:
    """Where the measured coverage of `count` images lies in 95 of 100 draws, if the promise holds.

    The coverage of a threshold from n images varies as Beta(n + 1 - l, l), l = floor((n + 1)(1 -
    level)), and what is counted on other images varies besides: a beta-binomial distribution (V.
    Vovk, 2012, Conditional Validity of Inductive Conformal Predictors). Exact where no two scores
    are equal; equal ones only raise the coverage.
    """
    from scipy.special import betaln, gammaln

    outside = math.floor((calibrated_on + 1) * (1 - level) + _ROUNDING)
    if outside < 1:
        return 1.0, 1.0
    a, b = calibrated_on + 1 - outside, outside
    k = np.arange(count + 1)
    log_chances = gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1)
    log_chances += betaln(k + a, count - k + b) - betaln(a, b)
    up_to = np.cumsum(np.exp(log_chances))
    low, high = (int(np.searchsorted(up_to, tail)) for tail in (0.025, 0.975))
    return min(low, count) / count, min(high, count) / count
