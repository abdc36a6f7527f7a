"""Two models on the same images: only those that exactly one classifies correctly count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from statistics import NormalDist

from ..errors import UsageError

POWER = 0.8
"""How probably a test on as many images as are said to be needed would show the difference."""
_MOST_COUNTED_EXACTLY = 300
"""Differing images; counting more takes longer than the rest of a comparison."""


def difference_interval(
    only_first: float, only_second: float, count: float, confidence: float = 0.95
) -> tuple[float, float]:
    """The score interval of `(only_second - only_first) / count`, the difference of two accuracies.

    T. Tango, 1998, Statistics in Medicine 17, 891-908. It holds 0 exactly where McNemar's
    asymptotic test does not reject, stays within -1..1, and keeps its width where no image
    differs. Without images nothing is known: (-1.0, 1.0).

    Args:
        only_first: images that only the first model classifies correctly; `only_second` likewise.
        count: all images; of images in groups, the effective numbers of each.

    Raises:
        UsageError: the counts do not belong together, or not 0 < confidence < 1.
    """
    _check(only_first, only_second, count)
    if not 0 < confidence < 1:
        raise UsageError(
            f"A confidence of {confidence} is out of range.",
            "Give one between 0 and 1, such as 0.95.",
        )
    if count == 0:
        return -1.0, 1.0
    z = -NormalDist().inv_cdf((1 - confidence) / 2)

    def score(difference: float) -> float:
        return _score(difference, only_first, only_second, count)

    estimate = (only_second - only_first) / count
    low = _crossing(lambda difference: score(difference) - z, -1.0, estimate)
    high = -_crossing(lambda mirrored: -score(-mirrored) - z, -1.0, -estimate)
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value of McNemar's test: a fair coin for each image that differs.

    Q. McNemar, 1947, Psychometrika 12, 153-157. In whole numbers, so exact to the last digit, and
    without scipy, which would take longer to import than the whole comparison takes.
    """
    _check(only_first, only_second, only_first + only_second)
    differing = only_first + only_second
    ways = at_most = 1
    for heads in range(min(only_first, only_second)):
        ways = ways * (differing - heads) // (heads + 1)
        at_most += ways
    return min(1.0, 2 * at_most / (1 << differing))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values corrected for their number, in the same order.

    S. Holm, 1979, Scandinavian Journal of Statistics 6, 65-70: whatever the dependence among them,
    the chance that any difference is claimed which is none stays below the level.
    """
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return tuple(adjusted)


def images_needed(
    only_first: int, only_second: int, count: int, *, level: float = 0.05, power: float = POWER
) -> int | None:
    """The number of images on which McNemar's exact test claims such a difference with that power.

    Supposed is that the models go on to differ as often, and in the same proportion, as on these
    images. None where they are correct equally often. Counted exactly, but by Connor's
    approximation from several hundred differing images on, where the two agree.
    """
    _check(only_first, only_second, count)
    if only_first == only_second:
        return None
    differing = (only_first + only_second) / count
    needed = images_by_connor(differing, (only_second - only_first) / count, level, power)
    if needed * differing > _MOST_COUNTED_EXACTLY:
        return needed
    share = only_second / (only_first + only_second)
    low, high = 0, needed
    while _power(high, differing, share, level) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _power(middle, differing, share, level) < power:
            low = middle
        else:
            high = middle
    return high


def images_by_connor(differing: float, difference: float, level: float, power: float) -> int:
    """The normal approximation of `images_needed` (R. J. Connor, 1987, Biometrics 43, 207-211).

    Args:
        differing: share of the images that one of the models classifies correctly, not both.
        difference: of the two accuracies, not 0.
    """
    deviation_if_equal = NormalDist().inv_cdf(1 - level / 2) * math.sqrt(differing)
    deviation = NormalDist().inv_cdf(power) * math.sqrt(max(differing - difference**2, 0.0))
    return math.ceil(((deviation_if_equal + deviation) / difference) ** 2)


def _power(count: int, differing: float, share: float, level: float) -> float:
    """How probably the exact test rejects on `count` images, each differing by that chance."""
    mean, std = count * differing, math.sqrt(count * differing * (1 - differing))
    least, most = max(0, int(mean - 6 * std)), min(count, math.ceil(mean + 6 * std))
    return math.fsum(
        _binomial(number, count, differing) * _power_given(number, share, level)
        for number in range(least, most + 1)
    )


@cache
def _power_given(differing: int, share: float, level: float) -> float:
    """How probably the exact test rejects if so many images differ."""
    # The most images of the rarer kind with which the test still rejects.
    tail, rejected = 0.0, -1
    for number in range(differing // 2 + 1):
        tail += _binomial(number, differing, 0.5)
        if min(1.0, 2 * tail) > level:
            break
        rejected = number
    return math.fsum(
        _binomial(number, differing, share) + _binomial(differing - number, differing, share)
        for number in range(rejected + 1)
    )


def _binomial(number: int, count: int, chance: float) -> float:
    """The probability of `number` successes of `count`."""
    if chance in (0.0, 1.0):
        return float(number == count * chance)
    ways = math.lgamma(count + 1) - math.lgamma(number + 1) - math.lgamma(count - number + 1)
    return math.exp(ways + number * math.log(chance) + (count - number) * math.log1p(-chance))


def _score(difference: float, only_first: float, only_second: float, count: float) -> float:
    """How many standard deviations the observed difference lies above a supposed one.

    The rate of `only_first` is the most probable one where the supposed difference is the truth.
    """
    above = only_second - only_first - count * difference
    if above == 0:
        return 0.0
    linear = (2 * count - only_second + only_first) * difference - only_second - only_first
    constant = -only_first * difference * (1 - difference)
    root = math.sqrt(max(linear**2 - 8 * count * constant, 0.0))
    rate = (root - linear) / (4 * count)
    variance = count * (2 * rate + difference * (1 - difference))
    return above / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, above)


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses 0, to the last bit; `low` where it is never above 0."""
    if falling(low) <= 0:
        return low
    while low < (middle := (low + high) / 2) < high:
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return high


def _check(only_first: float, only_second: float, count: float) -> None:
    if min(only_first, only_second) < 0 or only_first + only_second > count:
        raise UsageError(
            f"{only_first} and {only_second} of {count} images cannot be correct in only one "
            "model.",
            "Give counts of images that do not overlap.",
        )
