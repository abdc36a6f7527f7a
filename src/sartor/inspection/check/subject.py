"""What the checks look at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, Int64Array
from ...data.dataset import Dataset
from ...data.pictures.prepare import Prepared
from ...data.splits.duplicates import first_equals, first_equals_by
from ...data.splits.split import PARTS, Split
from ...errors import DataError
from .finding import Item

Note = Callable[[str], None]


class NotApplicableError(Exception):
    """A check does not apply to this set; the text says why."""


def _silent(_text: str) -> None:
    pass


class Seen(Protocol):
    """What a pretrained backbone sees in the images of a set; see `backbone.py`."""

    @property
    def name(self) -> str:
        """Of the backbone."""
        ...

    @property
    def side(self) -> int:
        """Pixels of a side of the images that it sees."""
        ...

    @property
    def of_all(self) -> Float32Array:
        """Features float32 (N, F), computed when first asked for."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """A dataset, the split that training would use, and what was seen of its files."""

    dataset: Dataset
    split: Split
    prepared: Prepared | None = None
    """The pictures as they were listed and decoded; None for sets that are not image files."""
    left_out: Collection[int] = ()
    """Pictures in `prepared` that the user excluded: nothing is reported about these."""
    indivisible: DataError | None = None
    """Why training could not divide the set; `split` then has all that could be trained on."""
    seed: int = 0
    """Decides everything random."""
    note: Note = _silent
    """Told what takes long."""
    features: Seen | None = None
    """What a pretrained backbone sees in the images; None where none is used."""

    @cached_property
    def parts(self) -> npt.NDArray[np.int8]:
        """Which part each image is in: an index into `PARTS`, or -1; int8 (N,)."""
        parts = np.full(len(self.dataset), -1, np.int8)
        for number, name in enumerate(PARTS):
            parts[self.split.part(name)] = number
        return parts

    @cached_property
    def firsts(self) -> Int64Array:
        """For each image the first one with the same pixels, itself mostly; int64 (N,)."""
        if self.prepared is None:
            return first_equals(self.dataset.images)
        # Hashed already, when they were prepared.
        return first_equals_by(self.prepared.facts.pixels_sha256[self.rows])

    @cached_property
    def rows(self) -> Int64Array:
        """For each image the number of its picture in `prepared`; int64 (N,)."""
        assert self.prepared is not None
        assert self.dataset.files is not None
        places = {name: row for row, name in enumerate(self.prepared.listing.pictures.names)}
        return np.array([places[name] for name in self.dataset.files], np.int64)

    def file_of(self, index: int) -> str:
        """The name under which the user knows an image: its file, or its number."""
        files = self.dataset.files
        return str(index) if files is None else files[index]

    def item(self, index: int, about: str = "", cluster: int | None = None, **figures: Any) -> Item:
        """One image as a finding names it."""
        part = int(self.parts[index])
        return Item(
            file=self.file_of(index),
            index=int(index),
            part=PARTS[part] if part >= 0 else "",
            label=self.dataset.classes[self.dataset.labels[index]],
            about=about,
            cluster=cluster,
            figures=figures,
        )

    def clustered(self, clusters: Iterable[Int64Array]) -> tuple[Item, ...]:
        """The images of clusters, numbered; within each, training before validation and test."""
        return tuple(
            self.item(int(index), cluster=number)
            for number, cluster in enumerate(clusters)
            for index in sorted(cluster, key=lambda index: (self.parts[index], index))
        )
