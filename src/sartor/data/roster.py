"""Every image of a source as the source gives it: before any was left out or got another label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Int64Array, UInt8Array


class NewLabel(NamedTuple):
    """The label that an image gets instead of the given one."""

    label: int
    """Index into the classes."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a user says about single images, by their number in the roster."""

    excluded: Mapping[int, str] = field(default_factory=dict)
    """Why an image is left out."""
    labels: Mapping[int, NewLabel] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.excluded or self.labels)


@dataclass(frozen=True, eq=False, kw_only=True)
class Roster:
    """The images that a split is drawn from, so that no exclusion and no correction moves others.

    Rows of images that cannot be read mean nothing; `usable` leaves them out.
    """

    images: UInt8Array
    """uint8 (M, C, H, W)."""
    labels: Int64Array
    """int64 (M,), as the source gives them."""
    names: tuple[str, ...]
    """File of each image, or its number where there are no files."""
    from_files: bool
    """Whether the names are those of files."""
    usable: Int64Array
    """The images that can be read, ascending."""
    kept: Int64Array
    """The images of the dataset, ascending: row k of the dataset is image `kept[k]`."""
    val: Int64Array | None = None
    """As the source sets it aside."""
    test: Int64Array | None = None
    groups: tuple[str, ...] | None = None
    identities: npt.NDArray[np.uint64] | None = None
    """What an image is, wherever it lies and at any size: the first 64 bits of the SHA-256 of its
    file, uint64 (M,). None where pixels say so."""
    pixel_hashes: UInt8Array | None = None
    """SHA-256 of the bytes of each image, uint8 (M, 32), where they are known."""
    by_list: Mapping[int, str] = field(default_factory=dict)
    """Why an image is left out that a list of exclusions names."""
    by_fixes: Changes = field(default_factory=Changes)
    """What fixes say."""

    def __len__(self) -> int:
        return len(self.labels)

    def left_out(self) -> Int64Array:
        """The images that can be read and are not in the dataset, ascending."""
        return np.setdiff1d(self.usable, self.kept, assume_unique=True)

    def rows(self, images: Int64Array) -> Int64Array:
        """The rows of the dataset that these images are; what is left out falls away."""
        return np.searchsorted(self.kept, images[np.isin(images, self.kept)])

    def reason(self, index: int) -> str:
        """Why an image is left out or has another label; "" where nothing is said."""
        if index in self.by_fixes.labels:
            return self.by_fixes.labels[index].reason
        return self.by_list.get(index) or self.by_fixes.excluded.get(index, "")
