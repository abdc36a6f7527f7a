"""The order of an epoch, as a pure function of the seed and the epoch."""

from __future__ import annotations

import numpy as np

from ...arrays import Int64Array
from ...randomness import keys

_BALANCED_STREAM = 4
_BLOCK = 1024


def epoch_order(count: int, seed: int, epoch: int) -> Int64Array:
    """A permutation of range(count), int64, that depends only on (count, seed, epoch)."""
    position_bits = max(count - 1, 1).bit_length()
    # With the position in its low bits every key is unique: a plain sort is exact, and fast.
    tagged = keys(count, seed, 0, epoch)
    mask = np.uint64((1 << position_bits) - 1)
    tagged &= ~mask
    tagged |= np.arange(count, dtype=np.uint64)
    # In place: new memory would take longer than the sum of what is done in it.
    tagged.sort()
    tagged &= mask
    return tagged.view(np.int64)


def balanced_order(labels: Int64Array, seed: int, epoch: int) -> Int64Array:
    """Positions in `labels` for an epoch that has every class equally often; int64, as many.

    Depends only on (labels, seed, epoch). Each class is an endless row of rounds, each of which
    has every image of it once, in an order of its own; an epoch goes on where the one before it
    stopped. So no image comes again before all others of its class have come, and over any number
    of epochs classes differ by one image at most.
    """
    classes = np.unique(labels)
    drawn = []
    for rank, label in enumerate(classes.tolist()):
        members = np.flatnonzero(labels == label)
        # floor((n + 0) / K) + ... + floor((n + K - 1) / K) = n (Hermite): no image too many.
        start, stop = (
            (epochs * len(labels) + rank) // len(classes) for epochs in (epoch, epoch + 1)
        )
        drawn.append(members[_rounds(len(members), start, stop, seed, label)])
    positions = np.concatenate(drawn)
    return positions[epoch_order(len(positions), seed, epoch)]


def repeats(order: Int64Array) -> Int64Array:
    """How often each entry of an epoch's order came before in it; int64, as many."""
    by_value = np.argsort(order, kind="stable")
    sorted_values = order[by_value]
    starts = np.flatnonzero(np.diff(sorted_values, prepend=sorted_values[:1] - 1))
    counts = np.diff(np.append(starts, len(order)))
    found = np.empty(len(order), np.int64)
    found[by_value] = np.arange(len(order)) - np.repeat(starts, counts)
    return found


def _rounds(count: int, start: int, stop: int, seed: int, label: int) -> Int64Array:
    """Places `start` to `stop` of an endless row of permutations of range(count)."""
    # A block of rounds at a time: for small classes a key of their own each would be slow.
    rounds = max(1, _BLOCK // count)
    first, last = (place // (rounds * count) for place in (start, max(stop - 1, start)))
    blocks = [
        keys(rounds * count, seed, _BALANCED_STREAM, label, block)
        .reshape(rounds, count)
        .argsort(axis=1, kind="stable")
        .ravel()
        for block in range(first, last + 1)
    ]
    begin = first * rounds * count
    return np.concatenate(blocks)[start - begin : stop - begin].astype(np.int64, copy=False)
