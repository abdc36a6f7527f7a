"""Fit a novelty score: every method on training images, the best one by noise, a threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from ..arrays import Float32Array, Float64Array, Int64Array
from ..evaluation.conformal import conformal_quantile
from ..evaluation.novelty import auroc
from ..machine import available_cores
from .calibration import METHODS, NoveltyScore
from .novelty import Novelty, at_length_one

LARGEST = 1 << 18
"""Numbers in the largest array of a score, 1 MiB; wide features are given fewer directions and
neighbours."""
WIDEST = 2_048
"""Wider features are not looked at."""
MOST_ROWS = 1_000
MOST_FALSE_ALARMS = 0.05
"""Where validation images are so few that no threshold promises less, there is none."""
_NOTHING = 1e-10
"""A variance, as a share of the largest, that is taken for none."""
_SHRINKAGE = 0.1
"""The share of the covariance that is replaced by its mean variance in every direction."""
_TABLE = 1_001
_MOST_THREADS = 2
_NUMBERS_AT_ONCE = 1 << 17
"""Of features, whose scores are computed together: what a core's cache holds."""


class Seen(NamedTuple):
    """What a network makes of some images."""

    features: Float32Array
    """(N, F)."""
    logits: Float32Array
    """(N, K)."""


class _Tried(NamedTuple):
    """How well a method tells noise from validation images."""

    score: NoveltyScore
    known: Float32Array
    """Scores of the validation images."""
    areas: dict[str, float]
    """Of each kind of noise; see `auroc`."""


def fit_novelty(
    train: Seen,
    train_labels: Int64Array,
    val: Seen,
    noise: Mapping[str, Seen],
    *,
    layer: str,
    loss: str,
    false_alarms: float,
    groups: Int64Array | None = None,
) -> NoveltyScore | None:
    """The method that tells noise from validation images best, on average over the kinds of noise.

    Args:
        noise: images of no class of each kind, made from validation images.
        layer: the module whose input the features are; empty where these are the logits.
        false_alarms: the share of images like those of validation that may be unknown.
        groups: of the validation images, (N,), where these come in groups.

    None where nothing can be told: outputs that are not finite, or too few images.
    """
    with Candidates(train, train_labels, layer, loss) as candidates:
        return best_of(candidates, val, noise, false_alarms=false_alarms, groups=groups)


def best_of(
    candidates: Candidates,
    val: Seen,
    noise: Mapping[str, Seen],
    *,
    false_alarms: float,
    groups: Int64Array | None = None,
) -> NoveltyScore | None:
    """As `fit_novelty`, of methods that are being fitted already."""
    if not len(val.logits) or not candidates.is_finite or not _is_finite(val):
        return None
    tried = {}
    for candidate in candidates:
        novelty = Novelty(candidate, candidates.loss)
        known = _scores(novelty, val, candidates.threads_for(candidate))
        if np.isfinite(known).all():
            areas = {kind: auroc(known, _scores(novelty, one)) for kind, one in noise.items()}
            tried[candidate.method] = _Tried(candidate, known, areas)
    if not tried:
        return None
    separation = {method: tried[method].areas for method in METHODS if method in tried}
    # The first of those that are equally good.
    best = max(separation, key=lambda method: float(np.mean(list(separation[method].values()))))
    chosen, known, _ = tried[best]
    threshold, promised = _threshold(known, false_alarms, groups)
    return replace(
        chosen,
        table=_table(known),
        threshold=threshold,
        false_alarms=promised,
        images=len(known),
        separation=separation,
    )


def scores_of(score: NoveltyScore, seen: Seen, loss: str) -> Float32Array:
    """float32 (N,): the scores of images."""
    return _scores(Novelty(score, loss), seen)


def _scores(
    novelty: Novelty, seen: Seen, threads: ThreadPoolExecutor | None = None
) -> Float32Array:
    rows = max(1, _NUMBERS_AT_ONCE // max(seen.features.shape[1], 1))

    def part(start: int) -> Float32Array:
        # Each thread has its own mode. Copies, for the arrays may be read-only.
        with torch.inference_mode():
            copies = (torch.from_numpy(np.array(one[start : start + rows])) for one in seen)
            found: Float32Array = novelty(*copies).numpy()
            return found

    starts = range(0, len(seen.logits), rows)
    parts = threads.map(part, starts) if threads else map(part, starts)
    return np.concatenate([np.empty(0, np.float32), *parts])


class Candidates:
    """Each method, fitted to training images; what fits no array is left out.

    The one that takes longest comes last: a thread fits it from the moment that this is made, while
    other images and other methods are looked at.
    """

    def __init__(self, train: Seen, labels: Int64Array, layer: str, loss: str) -> None:
        features, width = train.features, train.features.shape[1]
        self.loss = loss
        self.is_finite = _is_finite(train)
        """Whether there is anything to fit to."""
        self._features, self._layer = features, layer
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, available_cores()), "sartor-novelty")
        self._coming: Future[dict[str, Float32Array]] | None = None
        if not self.is_finite or len(features) < 2 or width > WIDEST:
            return
        spans = np.ptp(features, axis=0)
        if spans.max() > 0:
            self._centre = features.mean(axis=0)
            self._coming = self._threads.submit(_mahalanobis, features, labels, self._centre, spans)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def threads_for(self, score: NoveltyScore) -> ThreadPoolExecutor | None:
        """Threads for the one that comes last, when nothing else is done."""
        return self._threads if score.method == "mahalanobis" else None

    def __iter__(self) -> Iterator[NoveltyScore]:
        if self._coming is not None:
            features, layer = self._features, self._layer
            count = min(MOST_ROWS, max(1, LARGEST // features.shape[1]))
            places = np.linspace(0, len(features) - 1, min(count, len(features)))
            rows = features[places.astype(int)]
            arrays = {"centre": self._centre, "rows": rows - self._centre}
            yield _fitted("neighbours", layer, arrays)
            directions = at_length_one(torch.from_numpy(rows)).numpy()
            yield _fitted("angles", layer, {"rows": directions})
        if self.loss != "mse":  # whose outputs are no logits
            yield _fitted("energy", "", {})
        if self._coming is not None:
            yield _fitted("mahalanobis", self._layer, self._coming.result())


def _is_finite(seen: Seen) -> bool:
    return all(bool(np.isfinite(one).all()) for one in seen)


def _fitted(method: str, layer: str, arrays: dict[str, Float32Array]) -> NoveltyScore:
    return NoveltyScore(
        method=method,
        layer=layer,
        arrays=arrays,
        table=np.empty(0, np.float32),
        threshold=None,
        false_alarms=1.0,
    )


def _mahalanobis(
    features: Float32Array, labels: Int64Array, centre: Float32Array, spans: Float32Array
) -> dict[str, Float32Array]:
    rows, width = features.shape
    most = max(1, LARGEST // width)
    columns = np.arange(width)
    if most < width:
        # What never varies, such as a margin of pixels, is no part of the widest directions.
        varies = np.flatnonzero(spans > _NOTHING * spans.max())
        columns = varies if most <= len(varies) else columns
    # Class after class, so that each is worked on in place: new memory costs more than arithmetic.
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    places = order if len(columns) == width else np.ix_(order, columns)
    centred = features[places]
    centred -= centre[columns]
    within = centred.astype(np.float64)
    classes = np.split(within, starts[1:])
    means = np.stack([one.mean(axis=0) for one in classes])
    for one, mean in zip(classes, means, strict=True):
        one -= mean
    # Where each class has one image only, they differ in nothing else than classes do.
    within = within if within.any() else centred.astype(np.float64)
    # Products of this size gain little from more threads, and lose much where cores are busy.
    with threadpool_limits(1, user_api="blas"):
        variance = np.vdot(within, within) / rows / width
        if most < width:
            found = _widest_whitening(within, len(classes), most, variance)
        else:
            found = _whitening(within, variance)
        placed = (means @ found).astype(np.float32)
    whitening = np.zeros((width, found.shape[1]), np.float32)
    whitening[columns] = found
    return {"centre": centre, "whitening": whitening, "means": placed}


def _whitening(within: Float64Array, variance: float) -> Float64Array:
    """(F, F), a factor of the inverse of the shrunk covariance of rows (N, F).

    Args:
        variance: the mean over all directions.
    """
    rows, width = within.shape
    shrunk = within.T @ within * ((1 - _SHRINKAGE) / rows)
    shrunk[np.diag_indices(width)] += _SHRINKAGE * variance
    # A tenth of what eigenvectors cost, which would give the same distances.
    factor = torch.from_numpy(np.linalg.cholesky(shrunk))
    unit = torch.eye(width, dtype=torch.float64)
    inverse: Float64Array = torch.linalg.solve_triangular(factor, unit, upper=False).numpy().T
    return inverse


def _widest_whitening(
    within: Float64Array, classes: int, most: int, variance: float
) -> Float64Array:
    """(F, D), as `_whitening` where only the widest directions are kept."""
    variances, directions = _widest(within, classes, most)
    shrunk = (1 - _SHRINKAGE) * np.maximum(variances, 0) + _SHRINKAGE * variance
    whitening: Float64Array = directions / np.sqrt(shrunk)
    return whitening


def _widest(within: Float64Array, classes: int, most: int) -> tuple[Float64Array, Float64Array]:
    """The largest variances of rows (N, F), at most so many, and their directions (F, D)."""
    rows, width = within.shape
    if most < rows - classes and rows < width:
        # Of fewer rows than columns, their products say the same, and are fewer.
        values, vectors = np.linalg.eigh(within @ within.T)
        values, vectors = values[::-1][:most], vectors[:, ::-1][:, :most]
        if values[-1] > _NOTHING * values[0]:
            return values / rows, within.T @ (vectors / np.sqrt(values))
    variances, found = np.linalg.eigh(within.T @ within / rows)
    return variances[::-1][:most], found[:, ::-1][:, :most]


def _threshold(
    known: Float32Array, false_alarms: float, groups: Int64Array | None
) -> tuple[float | None, float]:
    """The score above which an image is unknown, and the share of false alarms it promises.

    The share that was asked for, or the lowest that so few images can promise.
    """
    independent = len(known) if groups is None else len(np.unique(groups))
    promised = max(false_alarms, 1 / (independent + 1))
    if promised > max(false_alarms, MOST_FALSE_ALARMS):
        return None, promised
    return conformal_quantile(known.astype(np.float64), 1 - promised, groups), promised


def _table(known: Float32Array) -> Float32Array:
    ordered: Float32Array = np.sort(known)
    if len(ordered) <= _TABLE:
        return ordered
    chosen: Float32Array = ordered[np.linspace(0, len(ordered) - 1, _TABLE).astype(int)]
    return chosen
