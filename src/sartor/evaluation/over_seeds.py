"""Accuracy of a recipe: over seeds and over images, both of which would be others the next time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Float64Array, Int64Array
from .clusters import effective_share
from .comparison import LEVEL, points
from .intervals import wilson
from .paired import difference_interval


@dataclass(frozen=True, kw_only=True)
class MeanOverSeeds:
    """The mean accuracy of several trainings on the same images."""

    seeds: int
    """Trainings, at least two."""
    count: int
    """Images."""
    mean: float
    std: float
    """Standard deviation of one training, with seeds - 1 in the denominator."""
    interval: tuple[float, float]
    """95 % interval of the mean for other seeds and other images."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "interval": list(self.interval)}


@dataclass(frozen=True, kw_only=True)
class RecipePair:
    """Two recipes on the same images, each trained with several seeds."""

    first: str
    second: str
    seeds: tuple[int, int]
    """Trainings of each."""
    count: int
    """Images."""
    difference: float
    """Mean accuracy of the second minus that of the first."""
    interval: tuple[float, float]
    """95 % interval of `difference` for other seeds and other images, for this pair by itself."""
    p_value: float
    p_adjusted: float
    """Corrected for the number of pairs of recipes (Holm)."""

    @property
    def distinguishable(self) -> bool:
        """Whether the difference is significant."""
        return self.p_adjusted <= LEVEL

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        over = f"mean over {self.seeds[0]} and {self.seeds[1]} seeds"
        if self.distinguishable:
            better, worse = self.first, self.second
            if self.difference > 0:
                better, worse = worse, better
            gap = points(self.difference, self.interval)
            return f"As a recipe, {better} is better than {worse} by {gap} ({over})"
        low, high = (100 * bound for bound in self.interval)
        return (
            f"As recipes, {self.first} and {self.second} are not distinguishable: difference "
            f"{100 * self.difference:+z.2f} points, {low:+z.2f} to {high:+z.2f} ({over})"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **vars(self),
            "seeds": list(self.seeds),
            "interval": list(self.interval),
            "distinguishable": self.distinguishable,
            "verdict": self.verdict,
        }


def mean_over_seeds(right: Float64Array, clusters: Int64Array | None = None) -> MeanOverSeeds:
    """The mean of `right`, (seeds, images), 1 where a training classifies an image correctly.

    Seeds and images are crossed random effects: the variance of the mean is that between seeds plus
    that between images, less what is counted in both (A. B. Owen, 2007, Annals of Applied
    Statistics 1, 386-411, section 3). Student's t with Satterthwaite's degrees of freedom.

    Args:
        clusters: the group of each image, int64 (images,); images of a group are not independent.
    """
    seeds, count = right.shape
    mean = float(right.mean())
    if right.min() == right.max():
        alike = count if clusters is None else count * effective_share(right[0], clusters)
        interval = wilson(mean * alike, alike)
    else:
        parts = [_between_seeds(right), _between_images(right.mean(axis=0), clusters)]
        half = _half_width(_with_total(parts, _in_both(right, clusters)))
        interval = max(0.0, mean - half), min(1.0, mean + half)
    return MeanOverSeeds(
        seeds=seeds,
        count=count,
        mean=mean,
        std=float(right.mean(axis=1).std(ddof=1)),
        interval=interval,
    )


def compare_recipes(
    first: str,
    one: Float64Array,
    second: str,
    other: Float64Array,
    clusters: Int64Array | None = None,
) -> RecipePair:
    """Two recipes by what their trainings get right: (seeds, images) each, on the same images.

    As `mean_over_seeds`, of the difference of two means: seeds are independent between recipes,
    images are paired. The p-value is that of the t test.
    """
    count = one.shape[1]
    gaps = other.mean(axis=0) - one.mean(axis=0)
    difference = float(gaps.mean())
    parts = [_between_seeds(one), _between_seeds(other), _between_images(gaps, clusters)]
    parts = _with_total(parts, _in_both(one, clusters) + _in_both(other, clusters))
    if gaps.min() == gaps.max() == 0:
        alike = count if clusters is None else count * effective_share(gaps, clusters)
        low, high = difference_interval(0, 0, alike) if alike else (-1.0, 1.0)
        half = min(1.0, _half_width(parts))
        interval, p_value = (min(low, -half), max(high, half)), 1.0
    else:
        half = _half_width(parts)
        interval = max(-1.0, difference - half), min(1.0, difference + half)
        p_value = _p_value(difference, parts)
    return RecipePair(
        first=first,
        second=second,
        seeds=(len(one), len(other)),
        count=count,
        difference=difference,
        interval=interval,
        p_value=p_value,
        p_adjusted=p_value,
    )


_Part = tuple[float, float]
"""A variance of the mean, and its degrees of freedom."""


def _between_seeds(right: Float64Array) -> _Part:
    seeds = len(right)
    return float(right.mean(axis=1).var(ddof=1)) / seeds, seeds - 1


def _between_images(values: Float64Array, clusters: Int64Array | None) -> _Part:
    """Of the mean of one value per image; of groups, their sums vary (Liang and Zeger, 1986)."""
    centred = values - values.mean()
    if clusters is not None:
        _, member = np.unique(clusters, return_inverse=True)
        centred = np.bincount(member, weights=centred)
    units = len(centred)
    if units < 2:
        return math.inf, 1
    return float((centred**2).sum()) / len(values) ** 2 * units / (units - 1), units - 1


def _in_both(right: Float64Array, clusters: Int64Array | None) -> float:
    """What chance adds to an image of a training: counted between seeds and between images."""
    if clusters is not None:
        # Within groups it cannot be told from what images share: leaving it is on the safe side.
        return 0.0
    seeds, count = right.shape
    if count < 2:
        return 0.0
    rest = right - right.mean(axis=1, keepdims=True) - right.mean(axis=0) + right.mean()
    squares = float(np.square(rest).sum())
    return float(squares / ((seeds - 1) * (count - 1)) / (seeds * count))


def _with_total(parts: list[_Part], in_both: float) -> list[_Part]:
    """The parts and their sum, with degrees of freedom by F. E. Satterthwaite (1946).

    Each part stays, for a sum has more degrees of freedom than its part and so might seem surer.
    """
    variances = [variance for variance, _ in parts]
    total = max(sum(variances) - in_both, *variances)
    if total == 0 or math.isinf(total):
        return parts
    weights = [variance * variance / freedom for variance, freedom in parts]
    return [*parts, (total, total * total / sum(weights))]


def _half_width(parts: list[_Part], confidence: float = 0.95) -> float:
    from scipy.special import stdtrit

    tail = (1 + confidence) / 2
    return max(float(stdtrit(freedom, tail)) * math.sqrt(part) for part, freedom in parts)


def _p_value(difference: float, parts: list[_Part]) -> float:
    """Two-sided; 0.05 exactly where the interval ends at 0."""
    from scipy.special import stdtr

    heights = [(-abs(difference) / math.sqrt(part), freedom) for part, freedom in parts if part > 0]
    return max((float(2 * stdtr(freedom, height)) for height, freedom in heights), default=0.0)
