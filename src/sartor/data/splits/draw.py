"""Draw a share of some images, of every class alike, without taking units apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...arrays import BoolArray, Int64Array
from ...randomness import keys

_TRIED_UNITS = 20_000
_MOST_TRIALS = 32
_MOST_POLISHING = 50


def draw(
    indices: Int64Array,
    labels: Int64Array,
    fraction: float,
    *,
    seed: int,
    stream: int,
    units: Int64Array | None = None,
) -> Int64Array:
    """The `fraction` of `indices`, of every class alike; at least one a class stays behind.

    Images that stand alone fill each class's share exactly. Units (see `units_of`) of several
    images come first, whole: as many as come nearest to the share of every class among them. So
    without such units the draw is what it would be if there were no units at all.
    """
    num_classes = int(labels.max(initial=0)) + 1
    sizes = np.bincount(labels[indices], minlength=num_classes)
    quotas = np.array(_quotas(sizes.tolist(), fraction), dtype=np.int64)
    tied = _tied(indices, units)
    held = _drawn_units(
        indices[tied],
        labels,
        fraction,
        room=np.maximum(sizes - 1, 0),
        seed=seed,
        stream=stream,
        units=units,
        needed=bool(tied.all()) and bool(quotas.any()),
    )
    taken = np.bincount(labels[held], minlength=num_classes)
    alone = indices[~tied]
    spare = np.bincount(labels[alone], minlength=num_classes)
    stays = np.bincount(labels[indices[tied]], minlength=num_classes) - taken > 0
    quotas = np.minimum(np.maximum(quotas - taken, 0), np.where(stays, spare, spare - 1))
    chances = keys(len(labels), seed, stream)
    drawn = [held]
    for label in np.flatnonzero(quotas > 0):
        members = alone[labels[alone] == label]
        drawn.append(members[np.argsort(chances[members], kind="stable")[: quotas[label]]])
    return np.sort(np.concatenate(drawn))


def limited(
    indices: Int64Array, labels: Int64Array, limit: int, chances: npt.NDArray[Any]
) -> Int64Array:
    """At most `limit` of `indices` a class; a smaller limit keeps a part of what a larger keeps.

    `chances`, one for each label, decide: those with the lowest are kept.
    """
    order = indices[np.lexsort((chances[indices], labels[indices]))]
    kinds = labels[order]
    _, starts, counts = np.unique(kinds, return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(starts, counts)
    return np.sort(order[place < limit])


def _quotas(sizes: list[int], fraction: float) -> list[int]:
    """How many to draw from each class so that the total is right too (largest remainders)."""
    exact = [size * fraction for size in sizes]
    quotas = [max(min(int(share), size - 1), 0) for share, size in zip(exact, sizes, strict=True)]
    missing = round(sum(exact)) - sum(quotas)
    able = [k for k, size in enumerate(sizes) if quotas[k] < size - 1]
    by_remainder = sorted(able, key=lambda k: (int(exact[k]) - exact[k], k))
    for k in by_remainder[: max(missing, 0)]:
        quotas[k] += 1
    return quotas


def _tied(indices: Int64Array, units: Int64Array | None) -> BoolArray:
    """Which of `indices` share their unit with another of them."""
    if units is None:
        return np.zeros(len(indices), dtype=bool)
    _, number, counts = np.unique(units[indices], return_inverse=True, return_counts=True)
    tied: BoolArray = counts[number] > 1
    return tied


def _drawn_units(
    indices: Int64Array,
    labels: Int64Array,
    fraction: float,
    *,
    room: Int64Array,
    seed: int,
    stream: int,
    units: Int64Array | None,
    needed: bool,
) -> Int64Array:
    """The images of whole units that come nearest to the `fraction` of every class.

    Many orders are tried, each greedily: a unit is taken if that brings the shares nearer. Choosing
    the best set of units is a problem without a fast exact solution. `room` is the most that may be
    taken of each class; with `needed`, one unit is taken even if none brings the shares nearer.
    """
    if units is None or not len(indices) or not fraction:
        return indices[:0]
    _, number = np.unique(units[indices], return_inverse=True)
    present, kind = np.unique(labels[indices], return_inverse=True)
    counts = np.zeros((int(number.max()) + 1, len(present)), np.int64)
    np.add.at(counts, (number, kind), 1)
    room = room[present]
    trials = min(max(_TRIED_UNITS // len(counts), 1), _MOST_TRIALS)
    chosen = min(
        (
            _greedy(counts, fraction, room, np.argsort(keys(len(counts), seed, stream, trial)))
            for trial in range(trials)
        ),
        key=lambda mask: float(_distance(counts[mask].sum(axis=0), counts.sum(axis=0), fraction)),
    )
    chosen = _polished(counts, fraction, room, chosen)
    if needed and not chosen.any():
        chosen = _nearest_single(counts, fraction, room)
    return indices[chosen[number]]


def _greedy(counts: Int64Array, fraction: float, room: Int64Array, order: Int64Array) -> BoolArray:
    """Units taken in `order` wherever they bring the shares nearer; bool, one a unit."""
    totals = counts.sum(axis=0)
    chosen = np.zeros(len(counts), dtype=bool)
    held, distance = np.zeros_like(totals), _distance(totals * 0, totals, fraction)
    for unit in order:
        more = held + counts[unit]
        if (more > room).any() or (nearer := _distance(more, totals, fraction)) >= distance:
            continue
        chosen[unit], held, distance = True, more, nearer
    return chosen


def _polished(
    counts: Int64Array, fraction: float, room: Int64Array, chosen: BoolArray
) -> BoolArray:
    """The same units but for the few that are taken or put back, the one that helps most first."""
    totals, chosen = counts.sum(axis=0), chosen.copy()
    for _ in range(_MOST_POLISHING):
        held = counts[chosen].sum(axis=0)
        flipped = np.where(chosen[:, None], held - counts, held + counts)
        distances = _distance(flipped, totals, fraction)
        distances[(flipped > room).any(axis=1)] = np.inf
        best = int(distances.argmin())
        if distances[best] >= _distance(held, totals, fraction):
            break
        chosen[best] = not chosen[best]
    return chosen


def _nearest_single(counts: Int64Array, fraction: float, room: Int64Array) -> BoolArray:
    """The one unit that comes nearest to the shares; none where each would empty a class."""
    totals = counts.sum(axis=0)
    able = [unit for unit in range(len(counts)) if (counts[unit] <= room).all()]
    chosen = np.zeros(len(counts), dtype=bool)
    if able:
        chosen[min(able, key=lambda unit: float(_distance(counts[unit], totals, fraction)))] = True
    return chosen


def _distance(held: Int64Array, totals: Int64Array, fraction: float) -> npt.NDArray[np.float64]:
    """How far `held` (..., classes) is from the share of each class and of all; 0: not at all."""
    of_classes = held / totals - fraction
    of_all = held.sum(axis=-1) / totals.sum() - fraction
    distance: npt.NDArray[np.float64] = np.square(of_classes).mean(axis=-1) + of_all**2
    return distance
