"""Which rows of a batch each of several processes takes.

A batch is made of parts, one for each pass forward and back, and each process takes its share of
every part: neighbouring rows, one more or less than the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


class Rows(NamedTuple):
    """A process's rows of one part of a batch."""

    start: int
    """The first of them, counted over the batch."""
    number: int
    """How many it takes, at least 1."""
    first: int
    """The first of them, counted over the part."""
    whole: int
    """Rows of the part, those of all processes."""
    counts: bool
    """False where there are fewer rows than processes, and this one has none: it takes one that
    another has, in order to take part in what all do, and nothing that it computes counts."""


@dataclass(frozen=True)
class Share:
    """One of several processes."""

    rank: int
    size: int
    parts: int = 1
    """Passes that an update is made of."""

    def of_batch(self, images: int) -> tuple[Rows, ...]:
        """Its rows of each part of a batch of so many images."""
        length = math.ceil(images / self.parts)
        return tuple(
            self._of_part(start, min(length, images - start)) for start in range(0, images, length)
        )

    def _of_part(self, start: int, whole: int) -> Rows:
        first, end = (whole * rank // self.size for rank in (self.rank, self.rank + 1))
        if first == end:
            first = min(first, whole - 1)
            return Rows(start + first, 1, first, whole, counts=False)
        return Rows(start + first, end - first, first, whole, counts=True)

    def of_blocks(self, count: int) -> range:
        """Its part of so many blocks, each of which is left whole."""
        first, end = (count * rank // self.size for rank in (self.rank, self.rank + 1))
        return range(first, end)
