"""A split as its source gives it: with what was left out, and with the labels before fixes.

Leaving doubted images out of a test part, or correcting their labels, changes what is measured, in
most cases for the better. So both figures belong together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Touched:
    """An image of the split that a list of exclusions or fixes names."""

    file: str
    """Or its number, where there are no files."""
    given: str
    """The class that the source says."""
    label: str | None
    """The class that fixes say instead; None for an image that was left out."""
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return vars(self).copy()


@dataclass(frozen=True, kw_only=True)
class AsGiven:
    """The figures of the same weights on all images of a split, labelled as given."""

    count: int
    loss: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    """95 % (Wilson)."""
    touched: tuple[Touched, ...]
    """What differs from the split that is judged otherwise."""
    gone: int = 0
    """Images that were left out and cannot be had any more: they are not counted."""

    @property
    def what(self) -> str:
        """What was undone, in words."""
        left_out = sum(one.label is None for one in self.touched)
        corrected = len(self.touched) - left_out
        parts = [f"{_count(left_out, 'image')} left out"] if left_out else []
        if corrected:
            parts.append(f"{_count(corrected, 'label')} corrected")
        return " and ".join(parts)

    def reasons(self) -> Iterator[tuple[str, int]]:
        """Every reason and how many images have it, the most frequent first."""
        yield from Counter(one.reason or "no reason given" for one in self.touched).most_common()

    def to_json(self) -> dict[str, Any]:
        """Plain values for strict JSON."""
        return {
            "count": self.count,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "touched": [one.to_json() for one in self.touched],
            "gone": self.gone,
        }


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
