"""The smallest parts that can be held out where units stand in the way of the shares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...arrays import BoolArray, Int64Array


def smallest_parts(
    indices: Int64Array, labels: Int64Array, units: Int64Array, fractions: tuple[float, float]
) -> tuple[Int64Array, Int64Array] | None:
    """One unit for testing and one for validation, so that every class keeps some image.

    For a fraction of 0 nothing is held out. Of all ways the one whose test unit comes nearest to
    the test fraction, and then the one whose validation unit does; None where there is no way.
    """
    _, number = np.unique(units[indices], return_inverse=True)
    _, kinds = np.unique(labels[indices], return_inverse=True)
    counts = np.zeros((int(number.max()) + 1, int(kinds.max()) + 1), np.int64)
    np.add.at(counts, (number, kinds), 1)
    totals = counts.sum(axis=0)
    test_fraction, val_fraction = fractions
    nothing = indices[:0]
    if not (test_fraction and val_fraction):
        one = _nearest(counts, totals, _able(counts, totals), test_fraction or val_fraction)
        if not len(one):
            return None
        held = indices[number == one[0]]
        return (held, nothing) if test_fraction else (nothing, held)
    for unit in _nearest(counts, totals, _able(counts, totals), test_fraction).tolist():
        able = _able(counts, totals - counts[unit])
        able[unit] = False
        others = _nearest(counts, totals - counts[unit], able, val_fraction)
        if len(others):
            return indices[number == unit], indices[number == others[0]]
    return None


def _able(counts: Int64Array, left: Int64Array) -> BoolArray:
    """Which units leave some image of every class behind."""
    return np.asarray((counts < left).all(axis=1))


def _nearest(
    counts: Int64Array, totals: Int64Array, able: BoolArray, fraction: float
) -> npt.NDArray[np.int64]:
    """The able units, the one that comes nearest to the share of each class and of all first."""
    of_classes = np.square(counts / totals - fraction).mean(axis=1)
    of_all = (counts.sum(axis=1) / totals.sum() - fraction) ** 2
    order = np.argsort(of_classes + of_all, kind="stable")
    return order[able[order]]
