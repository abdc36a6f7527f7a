"""How well a score tells images of no class from those that a network knows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array


def auroc(known: npt.ArrayLike, novel: npt.ArrayLike) -> float:
    """The area under the ROC curve: how often a novel image has a higher score than a known one.

    0.5 where the score says nothing; a tie counts half, and a score that is not a number as the
    highest. NaN where there are none of either.
    """
    low, high = _numbers(known), _numbers(novel)
    if not len(low) or not len(high):
        return float("nan")
    low.sort()
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.mean() / (2 * len(low)))


def _numbers(scores: npt.ArrayLike) -> Float64Array:
    values = np.array(scores, np.float64)
    values[np.isnan(values)] = np.inf
    return values
