"""Confidence intervals of a share measured on a limited number of images."""

from __future__ import annotations

import itertools
import math
from functools import cache
from statistics import NormalDist

from ..errors import UsageError


def wilson(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a share `correct` / `count` (E. B. Wilson, 1927, JASA 22, 209-212).

    Stays within 0..1 and keeps its width where every image is right or every one is wrong.
    Without images nothing is known: (0.0, 1.0).

    Raises:
        UsageError: not 0 <= correct <= count, or not 0 < confidence < 1.
    """
    _check(correct, count, confidence)
    if count == 0:
        return 0.0, 1.0
    return score_interval(correct / count, count, confidence)


def score_interval(share: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of `count` > 0 images, which need not be a whole number.

    With the effective number of images, it serves for every figure that lies within 0..1.
    """
    # From the lower tail, because 1 - tail rounds to 1 where confidence is almost 1.
    z = -NormalDist().inv_cdf((1 - confidence) / 2)
    shrink = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / shrink
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / shrink
    # At the two ends the bound is exact; rounding must not move it.
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return low, high


def simultaneous(
    correct: int, count: int, number: int, confidence: float = 0.95
) -> tuple[float, float]:
    """An interval of one of `number` shares that hold all together with that confidence.

    So it also holds for whichever of them is picked because it is the lowest or the highest.
    Exact (C. J. Clopper and E. S. Pearson, 1934, Biometrika 26, 404-413) at Bonferroni's level,
    because Wilson's interval is too short this far out in the tails.

    Raises:
        UsageError: as `wilson`.
    """
    _check(correct, count, confidence)
    tail = (1 - confidence) / (2 * max(number, 1))
    return _lowest(correct, count, tail), 1 - _lowest(count - correct, count, tail)


def of_the_best(
    correct: int, count: int, choices: int, confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of the highest of `choices` shares, each measured on the same images.

    What was picked for its share tends to be better there than elsewhere: the lower bound allows
    for all the choices (Clopper and Pearson at Bonferroni's level), the upper one need not.
    With one choice it is `wilson`.

    Raises:
        UsageError: as `wilson`.
    """
    low, high = wilson(correct, count, confidence)
    if choices > 1:
        low = min(low, _lowest(correct, count, (1 - confidence) / (2 * choices)))
    return low, high


def _lowest(correct: int, count: int, tail: float) -> float:
    """The share at which as many right answers or more have the probability `tail`."""
    if correct == 0:
        return 0.0
    from scipy.special import betaincinv

    return float(betaincinv(correct, count - correct + 1, tail))


def _check(correct: int, count: int, confidence: float) -> None:
    if not 0 <= correct <= count:
        raise UsageError(
            f"{correct} correct of {count} is not a share.",
            "Give 0 <= correct <= count, in images.",
        )
    if not 0 < confidence < 1:
        raise UsageError(
            f"A confidence of {confidence} is out of range.",
            "Give one between 0 and 1, such as 0.95.",
        )


@cache
def enough_images(width: float = 0.4) -> int:
    """How many images a share needs so that nine in ten right have an interval within `width`.

    For the 0.4 of the default, 10: 9 of 10 right have 60 % to 98 %.
    """
    return next(count for count in itertools.count(1) if _width(count) <= width)


def _width(count: int) -> float:
    low, high = wilson(round(0.9 * count), count)
    return high - low
