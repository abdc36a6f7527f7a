"""Randomness as a pure function: the same keys give the same numbers, anywhere, at any time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt


def keys(count: int, seed: int, *stream: int) -> npt.NDArray[np.uint64]:
    """`count` random 64-bit numbers that depend only on (seed, *stream) and their position."""
    return following_keys(seed, *stream)(count)


def following_keys(seed: int, *stream: int) -> Callable[[int], npt.NDArray[np.uint64]]:
    """A function that gives the next so many of the numbers that `keys` gives all at once.

    Philox (Salmon et al., 2011) is a counter-based generator whose raw stream NumPy guarantees.
    """
    key = np.random.SeedSequence((seed, *stream)).generate_state(2, np.uint64)
    generator = np.random.Philox(key=key)

    def following(count: int) -> npt.NDArray[np.uint64]:
        raw: npt.NDArray[np.uint64] = generator.random_raw(count)
        return raw

    return following
