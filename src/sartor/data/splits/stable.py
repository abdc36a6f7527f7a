"""Hold out a share of some images so that no other image decides about one.

Each unit (an image, a group, a set of equal images) has a number from 0 to 1 that follows from what
it is: the hash of its file, or of its group's name. It is held out if its number is below the
share. So excluding, adding or relabelling other images does not move it.

That alone would leave small classes with parts of very different size. So the number of images held
out of a class is kept within a band around its share, see `_band`, by holding out the next higher
numbers or leaving in the highest: only then may an image move because of others of its class. Above
some 200 images a class, the band is hardly ever reached.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...arrays import BoolArray, Float64Array, Int64Array
from ...randomness import keys

UInt64Array = npt.NDArray[np.uint64]


class Limits(NamedTuple):
    """How many images of each class may be held out, int64 (classes,)."""

    low: Int64Array
    high: Int64Array
    lowest: Int64Array
    """As `low`, but for classes whose share is less than an image: these need not have any."""


def stable_draw(
    indices: Int64Array,
    labels: Int64Array,
    fraction: float,
    *,
    seed: int,
    stream: int,
    identities: UInt64Array,
    units: Int64Array | None,
    reserve: int = 0,
) -> Int64Array:
    """About the `fraction` of `indices`, near it in every class; at least one a class stays behind.

    Args:
        labels, identities, units: of all images, not only of `indices`. `identities` say what an
            image, or its unit, is: equal within a unit, else different.
        reserve: where a class has enough, so many more of its units stay behind, to be held out
            for something else.
    """
    if not len(indices) or not fraction:
        return indices[:0]
    chance = chances_of(identities[indices], seed, stream)
    kinds = labels[indices]
    totals = np.bincount(kinds)
    alone = ~_tied(indices, units)
    band = _band(totals, fraction)
    chosen = np.zeros(len(indices), dtype=bool)
    if not alone.all():
        assert units is not None
        _, number = np.unique(units[indices[~alone]], return_inverse=True)
        spare = np.bincount(kinds[alone], minlength=len(totals))
        chosen[~alone] = _whole_units(
            number, kinds[~alone], chance[~alone], totals, band, fraction, spare, reserve
        )
    held = np.bincount(kinds[chosen], minlength=len(totals))
    stays = np.bincount(kinds[~alone & ~chosen], minlength=len(totals)) > 0
    most = _most(np.bincount(kinds[alone], minlength=len(totals)), stays, totals, reserve)
    limits = Limits(*(np.minimum(np.maximum(bound - held, 0), most) for bound in band))
    low, high, _ = (int(bound[0]) for bound in _band(totals.sum(keepdims=True), fraction))
    taken = _singles(
        kinds[alone], chance[alone], fraction, limits, (low - held.sum(), high - held.sum())
    )
    chosen[np.flatnonzero(alone)[taken]] = True
    return np.sort(indices[chosen])


def unit_identities(
    contents: UInt64Array, groups: tuple[str, ...] | None, units: Int64Array | None
) -> UInt64Array:
    """What decides about each image: its content, or that of its unit; uint64 (N,).

    A group is known by its name, whatever images it has; equal images by the lowest of their
    contents. Of equal images that are not kept together, each has an identity of its own.
    """
    own = _told_apart(contents)
    if units is None:
        return own
    named = np.zeros(len(contents), dtype=bool)
    identities = contents.copy()
    if groups is not None:
        names = {name: _hash_of(name) for name in set(groups) if name}
        named = np.array([bool(name) for name in groups])
        hashes = np.array([names.get(name, 0) for name in groups], np.uint64)
        identities = np.where(named, hashes, contents)
    _, number, counts = np.unique(units, return_inverse=True, return_counts=True)
    highest = np.iinfo(np.uint64).max
    by_name, by_content = (np.full(len(counts), highest, np.uint64) for _ in range(2))
    np.minimum.at(by_name, number[named], identities[named])
    np.minimum.at(by_content, number[~named], identities[~named])
    of_unit = np.where(by_name < highest, by_name, by_content)[number]
    together = (counts[number] > 1) | named
    return np.where(together, of_unit, own)


def _hash_of(name: str) -> int:
    digest = hashlib.sha256(b"group " + name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")


def _told_apart(contents: UInt64Array) -> UInt64Array:
    """The first of equal contents as it is, the others by their number among these as well."""
    order = np.argsort(contents, kind="stable")
    in_order = contents[order]
    first = np.concatenate(([True], in_order[1:] != in_order[:-1]))
    starts = np.flatnonzero(first)
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    apart = contents.copy()
    again = place > 0
    apart[order[again]] = _mixed(in_order[again] + _mixed(place[again].astype(np.uint64)))
    return apart


def chances_of(identities: UInt64Array, seed: int, stream: int) -> Float64Array:
    """Uniform in 0..1, 1 left out: a function of (seed, stream) and the identity alone."""
    one, other = keys(2, seed, stream)
    words = _mixed(_mixed(identities + one) ^ other)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(words: UInt64Array) -> UInt64Array:
    """The finalizer of SplitMix64 (Steele et al., 2014)."""
    words = words.copy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words ^= words >> np.uint64(shift)
        words *= np.uint64(factor)
    return words ^ (words >> np.uint64(31))


def _band(totals: Int64Array, fraction: float) -> Limits:
    """How many of so many images may be held out.

    The share, give or take half of it less one: 4 of 20 may be 3 to 5, 20 of 100 may be 11 to 29.
    Of less than half an image, one may be, that is as chance says. One image more or less moves
    neither bound by more than one.
    """
    share = totals * fraction
    reach = np.maximum(np.minimum(share, totals - share) / 2 - 1, 0)
    low = np.floor(share - reach + 0.5).astype(np.int64)
    high = np.ceil(share + reach - 0.5).astype(np.int64)
    high = np.maximum(high, np.where(share > 0, np.maximum(low, 1), 0))
    return Limits(low, high, np.where(share < 1, 0, low))


def _tied(indices: Int64Array, units: Int64Array | None) -> BoolArray:
    """Which of `indices` share their unit with another of them."""
    if units is None:
        return np.zeros(len(indices), dtype=bool)
    _, number, counts = np.unique(units[indices], return_inverse=True, return_counts=True)
    tied: BoolArray = counts[number] > 1
    return tied


def _most(alone: Int64Array, stays: BoolArray, totals: Int64Array, reserve: int) -> Int64Array:
    """How many single images of each class may be held out, so that some stay behind."""
    behind: Int64Array = np.where(totals > 1 + reserve, 1 + reserve, 1) - stays
    most: Int64Array = np.maximum(alone - behind, 0)
    return most


def _singles(
    kinds: Int64Array,
    chance: Float64Array,
    fraction: float,
    limits: Limits,
    overall: tuple[int, int],
) -> Int64Array:
    """Which single images are held out, by their numbers and within the limits."""
    order = np.lexsort((chance, kinds))
    in_order = kinds[order]
    sizes = np.bincount(kinds, minlength=len(limits.low))
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    below = np.bincount(kinds[chance < fraction], minlength=len(sizes))
    wanted = np.clip(below, limits.low, limits.high)
    chosen = place < wanted[in_order]
    missing, surplus = overall[0] - int(chosen.sum()), int(chosen.sum()) - overall[1]
    if missing > 0:
        able = np.flatnonzero(~chosen & (place < limits.high[in_order]))
        chosen[able[np.argsort(chance[order[able]], kind="stable")[:missing]]] = True
    elif surplus > 0:
        able = np.flatnonzero(chosen & (place >= limits.lowest[in_order]))
        chosen[able[np.argsort(-chance[order[able]], kind="stable")[:surplus]]] = False
    return order[chosen]


def _whole_units(
    number: Int64Array,
    kinds: Int64Array,
    chance: Float64Array,
    totals: Int64Array,
    band: Limits,
    fraction: float,
    spare: Int64Array,
    reserve: int,
) -> BoolArray:
    """Which images of units of several are held out: all of a unit or none, bool (N,).

    Args:
        number: the unit of each image.
        spare: single images of each class, which make up for what is missing.
    """
    counts = np.zeros((int(number.max()) + 1, len(totals)), np.int64)
    np.add.at(counts, (number, kinds), 1)
    chances = np.empty(len(counts))
    chances[number] = chance
    order = np.argsort(chances, kind="stable").tolist()
    behind = (counts > 0).sum(axis=0) + spare
    least = np.where(behind > 1 + reserve, 1 + reserve, np.minimum(behind, 1))
    chosen = np.zeros(len(counts), dtype=bool)
    held = np.zeros_like(totals)
    for unit in order:
        if chances[unit] >= fraction and not (held + spare < band.low).any():
            break
        more, left = held + counts[unit], behind - (counts[unit] > 0)
        inside = chances[unit] < fraction and not (more > band.high).any()
        short = counts[unit][(held + spare < band.low)].any()
        nearer = _distance(more, totals, fraction) < _distance(held, totals, fraction)
        if (left >= least).all() and (inside or (nearer and (short or chances[unit] < fraction))):
            chosen[unit], held, behind = True, more, left
    return chosen[number]


def _distance(held: Int64Array, totals: Int64Array, fraction: float) -> float:
    """How far `held` is from the share of each class and of all; 0: not at all."""
    present = totals > 0
    of_classes = held[present] / totals[present] - fraction
    return float(np.square(of_classes).mean() + (held.sum() / totals.sum() - fraction) ** 2)
