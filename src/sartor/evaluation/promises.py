"""Whether sets and novelty scores keep on judged images what validation images promised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import BoolArray, Float64Array, Int64Array
from .clusters import effective_share, share_interval
from .conformal import promised_range
from .intervals import simultaneous, wilson

ASSUMPTION = (
    "It is promised for images that come from where the validation images come from (that are "
    "exchangeable with them), on average over all of them, not for each class; the same validation "
    "images chose the epoch and the temperature, which matters little unless they are few."
)
ASSUMPTION_OF_GROUPS = (
    "It is promised for an image of one more group that comes from where the groups of the "
    "validation images come from (that is exchangeable with them), each group counting the same."
)


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What was fitted on which images."""

    level: float
    """In 0..1: the share that is promised on average."""
    threshold: float
    images: int
    """Validation images behind it."""
    groups: int | None
    """Groups these come from; None where each stands alone."""

    @property
    def assumption(self) -> str:
        """For what the promise holds, in one sentence."""
        return ASSUMPTION if self.groups is None else ASSUMPTION_OF_GROUPS


@dataclass(frozen=True, kw_only=True)
class ClassSets:
    """The sets of the images of one class."""

    class_name: str
    count: int
    covered: int
    """Images whose set holds their class."""
    interval: tuple[float, float]
    """95 % interval of covered / count."""
    mean_size: float | None
    """Classes in a set; None for a class without images."""
    effective_share: float = 1.0
    """How many independent images one of them is worth; below 1 where images come in groups."""

    @property
    def coverage(self) -> float | None:
        """covered / count."""
        return self.covered / self.count if self.count else None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "class": self.class_name,
            "count": self.count,
            "covered": self.covered,
            "coverage": self.coverage,
            "interval": list(self.interval),
            "mean_size": self.mean_size,
        }


@dataclass(frozen=True, kw_only=True)
class SetsEvaluation:
    """How often the sets of images hold the true class, and how large they are."""

    promise: Promise
    count: int
    covered: int
    interval: tuple[float, float]
    """95 % interval of covered / count."""
    expected: tuple[float, float] | None
    """Where covered / count lies in 95 of 100 cases if the promise holds, and no two scores are
    equal; None where images come in groups. Ties, as where one class is always enough, take it
    higher."""
    mean_size: float
    mean_size_interval: tuple[float, float]
    """95 % interval of `mean_size`."""
    sizes: tuple[int, ...]
    """How many images have a set of 0, 1, 2, ... classes; 0 only where outputs are not finite."""
    per_class: tuple[ClassSets, ...]

    @property
    def coverage(self) -> float:
        """The share of the images whose set holds their class."""
        return self.covered / self.count

    @property
    def kept(self) -> bool:
        """Whether the share is not below what chance explains."""
        lowest = self.promise.level if self.expected is None else self.expected[0]
        reached = self.interval[1] if self.expected is None else self.coverage
        return reached >= lowest

    @property
    def weakest(self) -> tuple[ClassSets, tuple[float, float]]:
        """The class with the lowest coverage; its interval allows for its being picked."""
        judged = [row for row in self.per_class if row.count]
        weakest = min(judged, key=lambda row: row.covered / row.count)
        share = weakest.effective_share
        if not share:
            return weakest, (0.0, 1.0)
        covered, count = weakest.covered * share, weakest.count * share
        return weakest, simultaneous(covered, count, len(judged))

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "promised": self.promise.level,
            "threshold": self.promise.threshold,
            "validation_images": self.promise.images,
            "validation_groups": self.promise.groups,
            "count": self.count,
            "covered": self.covered,
            "coverage": self.coverage,
            "interval": list(self.interval),
            "expected": self.expected and list(self.expected),
            "kept": self.kept,
            "mean_size": self.mean_size,
            "mean_size_interval": list(self.mean_size_interval),
            "sizes": list(self.sizes),
            "per_class": [row.to_json() for row in self.per_class],
            "assumption": self.promise.assumption,
        }


@dataclass(frozen=True, kw_only=True)
class NoveltyEvaluation:
    """How many of images that belong to a class are called unknown."""

    promise: Promise
    """Its level is the share that is not unknown."""
    method: str
    count: int
    unknown: int
    interval: tuple[float, float]
    """95 % interval of unknown / count."""
    expected: tuple[float, float] | None
    """As for `SetsEvaluation`, of unknown / count."""
    separation: Mapping[str, float]
    """For each kind of noise made from validation images, the area under the ROC curve."""

    @property
    def promised(self) -> float:
        """The share that may be unknown, on average."""
        return round(1 - self.promise.level, 9)

    @property
    def share(self) -> float:
        """The share of the images that are unknown: false alarms, where all belong to a class."""
        return self.unknown / self.count

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "method": self.method,
            "threshold": self.promise.threshold,
            "promised": self.promised,
            "validation_images": self.promise.images,
            "validation_groups": self.promise.groups,
            "count": self.count,
            "unknown": self.unknown,
            "share": self.share,
            "interval": list(self.interval),
            "expected": self.expected and list(self.expected),
            "separation": dict(self.separation),
            "assumption": self.promise.assumption,
        }


def evaluate_sets(
    inside: BoolArray,
    labels: Int64Array,
    classes: tuple[str, ...],
    promise: Promise,
    groups: Int64Array | None = None,
) -> SetsEvaluation:
    """Judge sets, bool (N, classes), of N > 0 images with true classes (N,).

    Args:
        groups: of the judged images, (N,); None where each stands alone.
    """
    covered = inside[np.arange(len(labels)), labels]
    sizes = inside.sum(axis=1)
    return SetsEvaluation(
        promise=promise,
        count=len(labels),
        covered=int(covered.sum()),
        interval=_share(covered, groups),
        expected=_expected(len(labels), promise, groups),
        mean_size=float(sizes.mean()),
        mean_size_interval=_mean_interval(sizes.astype(np.float64), groups, len(classes)),
        sizes=tuple(np.bincount(sizes, minlength=len(classes) + 1).tolist()),
        per_class=tuple(
            _of_class(name, labels == place, covered, sizes, groups)
            for place, name in enumerate(classes)
        ),
    )


def evaluate_novelty(
    unknown: BoolArray,
    promise: Promise,
    *,
    method: str,
    separation: Mapping[str, float],
    groups: Int64Array | None = None,
) -> NoveltyEvaluation:
    """Judge which of N > 0 images, all of a class, are called unknown, (N,)."""
    expected = _expected(len(unknown), promise, groups)
    return NoveltyEvaluation(
        promise=promise,
        method=method,
        count=len(unknown),
        unknown=int(unknown.sum()),
        interval=_share(unknown, groups),
        expected=expected and (1 - expected[1], 1 - expected[0]),
        separation=separation,
    )


def _of_class(
    name: str,
    belongs: BoolArray,
    covered: BoolArray,
    sizes: Int64Array,
    groups: Int64Array | None,
) -> ClassSets:
    count, here = int(belongs.sum()), covered[belongs]
    own = None if groups is None else groups[belongs]
    return ClassSets(
        class_name=name,
        count=count,
        covered=int(here.sum()),
        interval=_share(here, own),
        mean_size=float(sizes[belongs].mean()) if count else None,
        effective_share=1.0 if own is None or not count else effective_share(here, own),
    )


def _share(values: BoolArray, groups: Int64Array | None) -> tuple[float, float]:
    if groups is not None:
        return share_interval(values, groups)
    return wilson(int(values.sum()), len(values))


def _expected(
    count: int, promise: Promise, groups: Int64Array | None
) -> tuple[float, float] | None:
    if groups is not None or promise.groups is not None:
        return None
    return promised_range(count, promise.images, promise.level)


def _mean_interval(
    sizes: Float64Array, groups: Int64Array | None, most: int
) -> tuple[float, float]:
    """Student's interval of the mean, at the effective number of images where they come in groups;
    within what a mean can be."""
    from scipy.special import stdtrit

    count = len(sizes) * (1.0 if groups is None else effective_share(sizes, groups))
    if count <= 1:
        return 0.0, float(most)
    half = float(stdtrit(count - 1, 0.975)) * float(sizes.std(ddof=1)) / math.sqrt(count)
    return max(0.0, float(sizes.mean()) - half), min(float(most), float(sizes.mean()) + half)
