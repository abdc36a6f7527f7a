"""What `own_pictures_accuracy.py` measured, as tables for the documents."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import machine
import numpy as np
import numpy.typing as npt
from accuracy_page import PICTURES_BEGIN, PICTURES_END
from own_pictures_accuracy import CHOICES, METHODS, SARTOR, SETS, Result
from scipy import stats

BEGIN, END = "<!-- baselines: begin -->", "<!-- baselines: end -->"
_RESAMPLES = 4_000


def write_pages(results: Sequence[Result]) -> None:
    """Put the tables between their marks."""
    machine.written_into(machine.DOCS / "pictures.md", BEGIN, END, baseline_table(results))
    page = machine.DOCS / "recipes.md"
    machine.written_into(page, PICTURES_BEGIN, PICTURES_END, choice_table(results))


def baseline_table(results: Sequence[Result]) -> list[str]:
    """Every method on both sets, and by how much the default is ahead, seed by seed."""
    head = (
        "| set | method | seeds | test accuracy | default ahead by | other test images | seconds |"
    )
    rows = [
        _method_row(data, of, found, _found(results, data, SARTOR))
        for data in SETS
        for of in METHODS
        if (found := _found(results, data, of))
    ]
    return [head, "|---|---|--:|--:|--:|--:|--:|", *rows]


def choice_table(results: Sequence[Result]) -> list[str]:
    """What each choice brings, in points on both sets, and what it costs."""
    head = "| choice undone | set | seeds | validation accuracy | points | processor seconds |"
    rows = [
        _choice_row(data, of, found, _found(results, data, next(iter(CHOICES))))
        for of in CHOICES
        for data in SETS
        if (found := _found(results, data, of))
    ]
    return [head, "|---|---|--:|--:|--:|--:|", *rows]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean, by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return -math.inf, math.inf
    reach = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return mean - reach, mean + reach


def interval_over_images(own: Sequence[Result], other: Sequence[Result]) -> tuple[float, float]:
    """95 % interval of the difference in points, had seeds and test images both been others.

    By bootstrap: seeds and images are both drawn again with replacement.
    """
    others = {one.seed: one.right for one in other}
    ahead = np.array([_ones(one.right) - _ones(others[one.seed]) for one in own])
    rng = np.random.default_rng(0)
    seeds, images = ahead.shape
    means = [
        ahead[rng.integers(0, seeds, seeds)].mean(0)[rng.integers(0, images, images)].mean()
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return 100 * float(low), 100 * float(high)


def _ones(right: str) -> npt.NDArray[np.int64]:
    return np.array([int(one) for one in right])


def _found(results: Sequence[Result], data: str, of: str) -> list[Result]:
    return [one for one in results if (one.data, one.of) == (data, of)]


def _method_row(data: str, of: str, found: Sequence[Result], own: Sequence[Result]) -> str:
    ahead = over_images = ""
    points = _points(own, found)
    if of != SARTOR and len(points) > 1:
        ahead = f"{statistics.fmean(points):+.1f} ({_range(interval(points))})"
        paired = [one for one in own if any(one.seed == other.seed for other in found)]
        over_images = _range(interval_over_images(paired, found))
    start = f"| {data} | {of} | {len(found)} | {_percent(found)}"
    return f"{start} | {ahead} | {over_images} | {_seconds(found)} |"


def _range(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:+.1f} to {high:+.1f}"


def _choice_row(data: str, of: str, found: Sequence[Result], base: Sequence[Result]) -> str:
    points = _points(found, base)
    brought = f"{statistics.fmean(points):+.1f}" if points else ""
    if len(points) > 1 and any(points):
        brought += f" ± {statistics.stdev(points):.1f}"
    return f"| {of} | {data} | {len(found)} | {_percent(found)} | {brought} | {_seconds(found)} |"


def _points(first: Sequence[Result], second: Sequence[Result]) -> list[float]:
    """By how many points the first is ahead, by seed, since seeds share the split."""
    others = {one.seed: one.accuracy for one in second}
    return [100 * (one.accuracy - others[one.seed]) for one in first if one.seed in others]


def _percent(found: Sequence[Result]) -> str:
    values = [one.accuracy for one in found]
    mean = f"{statistics.fmean(values):.1%}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _seconds(found: Sequence[Result]) -> str:
    return f"{statistics.fmean(one.seconds for one in found):.0f}"
