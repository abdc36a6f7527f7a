"""Bootstrap intervals: a figure is recomputed on many resamples of the images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import native_module
from ..arrays import Float64Array, Int64Array
from ..errors import UsageError
from ..machine import available_cores
from ..randomness import following_keys
from .intervals import score_interval
from .predictions import NO_PREDICTION, Predictions

Statistic = Callable[[Float64Array], Float64Array]
"""From how often each image counts, float64 (R, N), to its value in each of the R cases: (R,), or
(R, K) for K values at once; NaN where it is not defined."""

RESAMPLES = 1000
_STREAM = 11
_DRAWS_OF_A_STREAM = 1_000_000
_DRAWS_AT_ONCE = 100_000
"""So many drawn numbers nearly stay in the cache of a core; with fewer, threads wait for Python's
lock."""
_MOST_THREADS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """A number and its interval; arrays (K,) where the statistic has K values."""

    value: Float64Array
    low: Float64Array
    high: Float64Array
    mean: Float64Array
    """Of all draws: its distance from `value` is the bias that few images cause."""
    std: Float64Array
    """Of all draws: the standard error of `value`."""

    def interval(self, place: Any = ()) -> tuple[float, float] | None:
        """Low and high, of one of K where there are several.

        None where all draws have one value, as without any mistake: they say nothing of its doubt.
        """
        low, high = float(self.low[place]), float(self.high[place])
        return (low, high) if low < high else None

    def at(self, place: int) -> Estimate:
        """That of one of the K values."""
        return Estimate(
            value=self.value[place],
            low=self.low[place],
            high=self.high[place],
            mean=self.mean[place],
            std=self.std[place],
        )


def bootstrap(
    statistics: Mapping[str, Statistic],
    count: int,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
    clusters: Int64Array | None = None,
) -> dict[str, Estimate]:
    """Percentile intervals over images (B. Efron, 1979), of several statistics on the same draws.

    The draws depend only on (count, resamples, seed), so equal predictions have equal intervals.
    With `clusters`, int64 (count,), whole groups are drawn (A. C. Davison and D. V. Hinkley, 1997,
    Bootstrap Methods and their Application, section 3.8).
    An interval always holds its value: a statistic that is biased upwards on few images, as a
    calibration error is, may else lie outside of it.

    Raises:
        UsageError: no image, no resample, or not 0 < confidence < 1.
    """
    if count < 1 or resamples < 1 or not 0 < confidence < 1:
        raise UsageError(
            f"Cannot resample: {count} images, {resamples} times, confidence {confidence}.",
            "Give at least one image, one resample, and a confidence between 0 and 1.",
        )
    drawn: dict[str, list[Float64Array]] = {name: [] for name in statistics}
    units, member = count, None
    if clusters is not None:
        names, member = np.unique(clusters, return_inverse=True)
        units = len(names)

    def part(start: int) -> list[list[Float64Array]]:
        found: list[list[Float64Array]] = [[] for _ in statistics]
        for drawn_units in _resampled_counts(units, start, min(start + of_stream, resamples), seed):
            counts = drawn_units if member is None else drawn_units[:, member]
            for values, statistic in zip(found, statistics.values(), strict=True):
                values.append(statistic(counts))
        return found

    of_stream = max(1, _DRAWS_OF_A_STREAM // units)
    with ThreadPoolExecutor(min(_MOST_THREADS, available_cores()), "sartor-bootstrap") as threads:
        for found in threads.map(part, range(0, resamples, of_stream)):
            for name, values in zip(statistics, found, strict=True):
                drawn[name].extend(values)
    once = np.ones((1, count))
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    return {
        name: _estimate(statistic(once)[0], np.concatenate(drawn[name]), tails)
        for name, statistic in statistics.items()
    }


def _estimate(value: Any, drawn: Float64Array, tails: tuple[float, float]) -> Estimate:
    value = np.asarray(value, dtype=np.float64)
    if np.isnan(drawn).any():
        # Not defined in some draws: those that are, decide.
        low, high = _defined_quantiles(drawn, tails)
    else:
        low, high = np.quantile(drawn, tails, axis=0)
    # A class that no draw holds has no mean; that is no reason for a warning.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, std = np.nanmean(drawn, axis=0), np.nanstd(drawn, axis=0)
    return Estimate(
        value=value, low=np.fmin(low, value), high=np.fmax(high, value), mean=mean, std=std
    )


def interval_of_mean_over_classes(estimate: Estimate, counts: Sequence[int]) -> tuple[float, float]:
    """95 % interval of a figure within 0..1 that is a mean over classes, such as macro F1.

    Percentiles of the draws cover too little where classes have few images, because drawing makes
    such a mean worse, and because draws from few mistakes show too little doubt. So the bias is
    taken off, and Wilson's interval is taken at the effective number of images (E. L. Korn and
    B. I. Graubard, 1998, Survey Methodology 24, 193-201): what the standard error says, but at
    most what the sizes of the classes allow. benchmarks/interval_coverage.py measures both.

    Args:
        counts: images of each class that counts.
    """
    value = float(estimate.value)
    centre = min(max(2 * value - float(estimate.mean), 0.0), 1.0)
    sizes = [max(count, 1) for count in counts]
    effective = len(sizes) ** 2 / math.fsum(1 / size for size in sizes)
    if estimate.std > 0:
        effective = min(effective, value * (1 - value) / float(estimate.std) ** 2)
    low, high = score_interval(centre, effective)
    return min(low, value), max(high, value)


def _defined_quantiles(
    drawn: Float64Array, tails: tuple[float, float]
) -> tuple[Float64Array, Float64Array]:
    columns = drawn.reshape(len(drawn), -1).T
    defined = [column[~np.isnan(column)] for column in columns]
    pairs = [np.quantile(one, tails) if len(one) else (np.nan, np.nan) for one in defined]
    low, high = np.array(pairs).T.reshape(2, *drawn.shape[1:])
    return low, high


def _resampled_counts(count: int, start: int, stop: int, seed: int) -> Iterator[Float64Array]:
    """How often each image was drawn in resamples `start` to `stop`, float64 (R, count), a few
    resamples at a time."""
    following = following_keys(seed, _STREAM, start)
    at_once = max(1, _DRAWS_AT_ONCE // count)
    for first in range(start, stop, at_once):
        number = min(at_once, stop - first)
        yield _counted(following(number * count).reshape(number, count))


def _counted(drawn: npt.NDArray[np.uint64]) -> Float64Array:
    """How often each of N images was drawn, float64 (R, N), by random numbers (R, N)."""
    number, count = drawn.shape
    compiled = native_module.module()
    if compiled is not None:
        found = np.empty(drawn.shape)
        compiled.count_draws(drawn, found)
        return found
    cells = (drawn % np.uint64(count)).view(np.int64)
    cells += count * np.arange(number)[:, None]
    counts = np.bincount(cells.ravel(), minlength=number * count)
    return counts.reshape(number, count).astype(np.float64)


# ------------------------------------------------------------------------------------ statistics


def mean_of(values: Float64Array) -> Statistic:
    """The mean of one value per image."""
    return lambda counts: np.asarray(counts @ values / counts.sum(axis=1))


def f1_of_each_class(predictions: Predictions) -> Statistic:
    """F1, (R, classes): 2 right / (images of the class + predictions of it)."""
    cells = _Cells.of(predictions)
    both = cells.of_class + cells.as_class

    def statistic(counts: Float64Array) -> Float64Array:
        drawn = cells.drawn(counts)
        return _ratio(2 * (drawn @ cells.right), drawn @ both)

    return statistic


def macro_f1(predictions: Predictions) -> Statistic:
    """Mean F1 of the classes that occur, as a truth or as a prediction."""
    each = f1_of_each_class(predictions)
    return lambda counts: np.nanmean(each(counts), axis=1)


def balanced_accuracy(predictions: Predictions) -> Statistic:
    """Mean recall of the classes that have images."""
    both = means_over_classes(predictions)
    return lambda counts: both(counts)[:, 1]


def means_over_classes(predictions: Predictions) -> Statistic:
    """Macro F1 and balanced accuracy, (R, 2), of the same sums."""
    cells = _Cells.of(predictions)
    both = cells.of_class + cells.as_class

    def statistic(counts: Float64Array) -> Float64Array:
        drawn = cells.drawn(counts)
        right = drawn @ cells.right
        f1, recall = _ratio(2 * right, drawn @ both), _ratio(right, drawn @ cells.of_class)
        return np.stack([np.nanmean(f1, axis=1), np.nanmean(recall, axis=1)], axis=1)

    return statistic


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cells:
    """The cells of a confusion matrix that hold an image, of which there are few; M of them."""

    order: Int64Array
    """(N,): the images, cell after cell."""
    starts: Int64Array
    """(M,): where each cell begins."""
    right: Any
    """Sparse (M, classes), 1 where a cell holds the recognised images of a class."""
    of_class: Any
    """1 where it holds images of a class."""
    as_class: Any
    """1 where it holds predictions of a class."""

    @classmethod
    def of(cls, predictions: Predictions) -> _Cells:
        from scipy import sparse

        labels, predicted = predictions.labels, predictions.predicted()
        order = np.lexsort((predicted, labels))
        pairs = np.stack([labels[order], predicted[order]])
        starts = np.flatnonzero(np.r_[True, (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)])
        label, prediction = pairs[:, starts]
        shape = (len(starts), len(predictions.classes))

        def ones(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Any:
            return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)

        right, known = (
            np.flatnonzero(label == prediction),
            np.flatnonzero(prediction != NO_PREDICTION),
        )
        return cls(
            order=order,
            starts=starts,
            right=ones(right, label[right]),
            of_class=ones(np.arange(len(starts)), label),
            as_class=ones(known, prediction[known]),
        )

    def drawn(self, counts: Float64Array) -> Float64Array:
        """How often an image of each cell was drawn, (R, M), of how often each image was."""
        ordered = np.take(counts, self.order, axis=1)
        return np.asarray(np.add.reduceat(ordered, self.starts, axis=1))


def _ratio(part: Float64Array, whole: Float64Array) -> Float64Array:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
