"""Two models on the same images: only those that exactly one classifies correctly count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

from ..errors import UsageError


def difference_interval(
    only_first: int, only_second: int, count: int, confidence: float = 0.95
) -> tuple[float, float]:
    """The score interval of `(only_second - only_first) / count`, the difference of two accuracies.

    T. Tango, 1998, Statistics in Medicine 17, 891-908. It holds 0 exactly where McNemar's
    asymptotic test does not reject, stays within -1..1, and keeps its width where no image
    differs. Without images nothing is known: (-1.0, 1.0).

    Args:
        only_first: images that only the first model classifies correctly; `only_second` likewise.
        count: all images.

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
    only_first: int, only_second: int, count: int, *, level: float = 0.05, power: float = 0.8
) -> int | None:
    """How many images would show a difference as large as this one with that power; None for none.

    R. J. Connor, 1987, Biometrics 43, 207-211: two-sided, at the discordance that was observed.
    """
    _check(only_first, only_second, count)
    if only_first == only_second:
        return None
    differing = (only_first + only_second) / count
    difference = (only_second - only_first) / count
    deviation_if_equal = NormalDist().inv_cdf(1 - level / 2) * math.sqrt(differing)
    deviation = NormalDist().inv_cdf(power) * math.sqrt(max(differing - difference**2, 0.0))
    return math.ceil(((deviation_if_equal + deviation) / difference) ** 2)


def _score(difference: float, only_first: int, only_second: int, count: int) -> float:
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


def _check(only_first: int, only_second: int, count: int) -> None:
    if min(only_first, only_second) < 0 or only_first + only_second > count:
        raise UsageError(
            f"{only_first} and {only_second} of {count} images cannot be correct in only one "
            "model.",
            "Give counts of images that do not overlap.",
        )
