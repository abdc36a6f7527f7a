"""Randomness as a pure function: the same keys give the same numbers, anywhere, at any time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .dataset import Int64Array


def keys(count: int, seed: int, *stream: int) -> npt.NDArray[np.uint64]:
    """`count` random 64-bit numbers that depend on (seed, *stream) and their position alone.

    Philox (Salmon et al., 2011) is a counter-based generator whose raw stream NumPy guarantees.
    """
    key = np.random.SeedSequence((seed, *stream)).generate_state(2, np.uint64)
    raw: npt.NDArray[np.uint64] = np.random.Philox(key=key).random_raw(count)
    return raw


def epoch_order(count: int, seed: int, epoch: int) -> Int64Array:
    """A permutation of range(count), int64, that depends on (count, seed, epoch) alone."""
    position_bits = max(count - 1, 1).bit_length()
    # With the position in its low bits every key is unique: a plain sort is exact, and fast.
    high = keys(count, seed, 0, epoch) >> np.uint64(position_bits) << np.uint64(position_bits)
    tagged = np.sort(high | np.arange(count, dtype=np.uint64))
    mask = np.uint64((1 << position_bits) - 1)
    return (tagged & mask).astype(np.int64)
