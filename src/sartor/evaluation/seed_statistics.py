"""Mean and standard deviation of a figure over trainings with different seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SeedStatistics:
    """A figure over several runs that differ only in their seed."""

    count: int
    """Runs, at least two."""
    mean: float
    std: float
    """Standard deviation of a run, with count - 1 in the denominator."""
    interval: tuple[float, float]
    """95 % interval of the mean, from Student's t distribution, within what the figure can be."""
    lowest: float
    highest: float

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "mean": self.mean,
            "std": self.std,
            "interval": list(self.interval),
            "min": self.lowest,
            "max": self.highest,
        }


def statistics_over_seeds(
    values: Sequence[float], *, highest: float = math.inf, confidence: float = 0.95
) -> SeedStatistics:
    """Mean, standard deviation, and the interval of the mean (Student, 1908, Biometrika 6, 1-25).

    Args:
        values: a figure that cannot be negative, such as a loss, one of each run.
        highest: what the figure cannot exceed, such as 1 for an accuracy.

    Raises:
        UsageError: fewer than two values, which have no standard deviation.
    """
    from scipy.special import stdtrit

    count = len(values)
    if count < 2:
        raise UsageError(
            f"{count} run{'' if count == 1 else 's'} cannot give a standard deviation.",
            "Give at least two seeds.",
        )
    mean = math.fsum(values) / count
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * std / math.sqrt(count)
    return SeedStatistics(
        count=count,
        mean=mean,
        std=std,
        interval=(max(0.0, mean - half), min(highest, mean + half)),
        lowest=min(values),
        highest=max(values),
    )
