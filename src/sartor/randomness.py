"""Randomness as a pure function: the same keys give the same numbers, anywhere, at any time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def keys(count: int, seed: int, *stream: int) -> npt.NDArray[np.uint64]:
    """`count` random 64-bit numbers that depend only on (seed, *stream) and their position.

    Philox (Salmon et al., 2011) is a counter-based generator whose raw stream NumPy guarantees.
    """
    key = np.random.SeedSequence((seed, *stream)).generate_state(2, np.uint64)
    raw: npt.NDArray[np.uint64] = np.random.Philox(key=key).random_raw(count)
    return raw
