"""A listing: the pictures of a source, known by name and label before any of them is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..arrays import Int64Array


class PictureStore(Protocol):
    """Where the bytes of pictures lie: files, members of an archive, cells of a table."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each picture is called towards the user, such as its path below the source."""

    def read(self, index: int) -> bytes:
        """The encoded picture (JPEG, PNG, ...); safe to call from several threads.

        Raises:
            PictureError: it is not available; the sentence names it.
        """

    def stamp(self, index: int) -> str:
        """What changes when the picture's bytes change, had without reading them: size and time."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Listing:
    """Labelled pictures that are not decoded yet."""

    name: str
    """What the source is called."""
    shape: str
    """Which of the usual shapes of data this is, in one line, for the user."""
    pictures: PictureStore
    labels: Int64Array
    """int64 (N,), each an index into `classes`."""
    classes: tuple[str, ...]
    """In natural order of their names, or in the order that the source itself gives them."""
    val: Int64Array | None = None
    """Indices that the source itself sets aside for validation."""
    test: Int64Array | None = None
    """Indices that the source itself sets aside for testing."""
    groups: tuple[str, ...] | None = None
    """What each picture belongs to (patient, session, author), where the source says so."""

    remarks: tuple[str, ...] = ()
    """What the user should know: classes without pictures, files left out; a sentence each."""

    def __len__(self) -> int:
        return len(self.labels)
