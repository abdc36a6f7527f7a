"""Accuracy against coverage: accuracy on the images with the most confident predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import native_module
from ..arrays import Float64Array, Int64Array
from .bootstrap import Estimate, Statistic, bootstrap
from .clusters import share_interval
from .intervals import wilson

_SHOWN = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.5)
_POINTS_OF_CURVE = 200


@dataclass(frozen=True, kw_only=True)
class CoveragePoint:
    """The predictions with at least a threshold's confidence."""

    threshold: float
    """The least confidence among them; of a network that gives scores, the least score."""
    coverage: float
    """Their share of all images."""
    count: int
    accuracy: float
    interval: tuple[float, float]
    """95 % interval of `accuracy` (Wilson; of images in groups, at their effective number)."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The gain of leaving the least confident predictions to a person."""

    points: tuple[CoveragePoint, ...]
    """At about 100, 99, 95, 90, 80, 70 and 50 % of the images."""
    curve: tuple[tuple[float, float], ...]
    """(coverage, accuracy), from few to all images, at most 200 pairs."""
    area: float
    """Under the risk-coverage curve: the mean over the images of the share of mistakes among all
    with at least the same confidence (Geifman and El-Yaniv, 2017). 0 is perfect."""
    area_interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "points": [vars(point) | {"interval": list(point.interval)} for point in self.points],
            "curve": [list(pair) for pair in self.curve],
            "area": self.area,
            "area_interval": self.area_interval and list(self.area_interval),
        }


def coverage(
    confidences: Float64Array,
    right: npt.NDArray[np.bool_],
    area: Estimate | None = None,
    groups: Int64Array | None = None,
) -> Coverage:
    """Judge the order that confidences bring into the images; equal ones are kept together.

    Args:
        area: the estimate of `risk_coverage_area`, where it is known already.
        groups: of each image, (N,); None where each stands alone.
    """
    if area is None:
        statistic = {"area": risk_coverage_area(confidences, right)}
        area = bootstrap(statistic, len(right), clusters=groups)["area"]
    order, last = _ranking(confidences)
    correct = np.cumsum(right[order])[last]
    ends = np.unique(last)

    def point(end: int) -> CoveragePoint:
        count, hits = int(end) + 1, int(correct[end])
        members = order[:count]
        return CoveragePoint(
            threshold=float(confidences[order[end]]),
            coverage=count / len(right),
            count=count,
            accuracy=hits / count,
            interval=wilson(hits, count)
            if groups is None
            else share_interval(right[members], groups[members]),
        )

    wanted = [ends[np.abs((ends + 1) / len(right) - share).argmin()] for share in _SHOWN]
    drawn = ends[np.unique(np.linspace(0, len(ends) - 1, _POINTS_OF_CURVE).astype(int))]
    return Coverage(
        points=tuple(point(end) for end in dict.fromkeys(int(one) for one in wanted)),
        curve=tuple(
            (float(end + 1) / len(right), float(correct[end] / (end + 1))) for end in drawn
        ),
        area=float(area.value),
        area_interval=area.interval(),
    )


def risk_coverage_area(confidences: Float64Array, right: npt.NDArray[np.bool_]) -> Statistic:
    """The area under the risk-coverage curve, as a statistic."""
    order, last = _ranking(confidences)
    wrong = np.asarray(~right[order], np.float64)
    compiled = native_module.module()

    def statistic(counts: Float64Array) -> Float64Array:
        if compiled is None:
            risks = _risks(counts, order, wrong, last)
        else:
            risks = np.empty(counts.shape)
            compiled.risks(np.ascontiguousarray(counts), order, wrong, last, risks)
        return np.asarray(risks.sum(axis=1) / counts.sum(axis=1))

    return statistic


def _risks(
    counts: Float64Array, order: Int64Array, wrong: Float64Array, last: Int64Array
) -> Float64Array:
    """As `risks` of the compiled module, (R, N): for each image, the most confident first, the
    share of mistakes until the `last` one of its confidence, as often as it was drawn."""
    drawn = np.take(counts, order, axis=1)
    taken = np.cumsum(drawn, axis=1)
    mistakes = np.cumsum(drawn * wrong, axis=1)
    # Where no two are equal, each is the last of its confidence.
    if not np.array_equal(last, np.arange(len(last))):
        taken, mistakes = np.take(taken, last, axis=1), np.take(mistakes, last, axis=1)
    # Before the first that was drawn there is no mistake either.
    return np.asarray(drawn * (mistakes / np.maximum(taken, 1)))


def _ranking(
    confidences: Float64Array,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Most confident images first, and for each place the last one of the same confidence."""
    order = np.argsort(-confidences, kind="stable")
    ranked = -confidences[order]
    return order, np.searchsorted(ranked, ranked, side="right") - 1
