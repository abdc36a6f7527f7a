"""Images of one group are not independent: how many independent ones they are worth.

A patient with forty images says little more than one with ten. Intervals that suppose independent
images are taken at the effective number of images, and tests flip whole groups.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array, Int64Array
from .intervals import score_interval
from .paired import difference_interval


def effective_share(values: npt.ArrayLike, clusters: Int64Array) -> float:
    """How many independent images each image is worth for the mean of `values`, in 0..1.

    The variance of independent images over that of groups, whose sums vary (K.-Y. Liang and
    S. L. Zeger, 1986, Biometrika 73, 13-22), with Student's t for the number of groups (E. L. Korn
    and B. I. Graubard, 1998, Survey Methodology 24, 193-201). 0 for a single group, which says
    nothing of others. Where all values are equal, as if groups were single images (L. Kish, 1965).
    """
    from scipy.special import stdtrit

    numbers = np.asarray(values, dtype=np.float64)
    count = len(numbers)
    _, member, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    groups = len(sizes)
    if groups < 2:
        return 0.0
    centred = numbers - numbers.mean()
    alone = float(np.square(centred).sum())
    sums = np.bincount(member, weights=centred)
    together = float(np.square(sums).sum()) * groups / (groups - 1)
    if alone == 0:
        share = count / float(np.square(sizes).sum())
    else:
        share = 1.0 if together <= alone else alone / together
    fewer = stdtrit(1e9, 0.975) / stdtrit(groups - 1, 0.975)
    return float(share * fewer**2)


def share_interval(right: npt.ArrayLike, clusters: Int64Array) -> tuple[float, float]:
    """Wilson's interval of a share at its effective number of images; without images 0 to 1."""
    values = np.asarray(right, dtype=np.float64)
    number = len(values) * effective_share(values, clusters) if len(values) else 0.0
    return score_interval(float(values.mean()), number) if number else (0.0, 1.0)


def paired_interval(
    only_first: npt.NDArray[np.bool_], only_second: npt.NDArray[np.bool_], clusters: Int64Array
) -> tuple[float, float]:
    """Tango's interval of a difference at its effective number of images."""
    share = effective_share(only_second.astype(float) - only_first, clusters)
    if not share:
        return -1.0, 1.0
    first, second = float(only_first.sum()) * share, float(only_second.sum()) * share
    return difference_interval(first, second, max(len(clusters) * share, first + second))


def paired_test(
    only_first: npt.NDArray[np.bool_], only_second: npt.NDArray[np.bool_], clusters: Int64Array
) -> float:
    """The exact two-sided p-value of flipping whole groups: a fair coin for each that differs.

    If the two models are equally good, exchanging them in a group is as probable as not, whatever
    its images have in common. Where each group is one image, it is McNemar's exact test.
    """
    _, member = np.unique(clusters, return_inverse=True)
    gains = np.bincount(member, weights=only_second.astype(float) - only_first)
    sizes = np.abs(gains[gains != 0]).astype(np.int64)
    if not len(sizes):
        return 1.0
    observed, most = abs(int(gains.sum())), int(sizes.sum())
    # The chance of each total from -most to most, group by group.
    chances: Float64Array = np.zeros(2 * most + 1)
    chances[most] = 1.0
    for size in sizes.tolist():
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2
    return min(1.0, math.fsum(chances[: most - observed + 1].tolist()) * 2 if observed else 1.0)
