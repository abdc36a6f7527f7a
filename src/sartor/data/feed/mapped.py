"""Images that lie in a mapped file: what the system is told of how they will be read.

What is mapped fills no memory of its own: its pages belong to the file, and the system takes them
back when it needs the room. While a file fits into what is free, it is read once from front to
back. One that does not is read in places, which are named all at once for each gather, so that the
disk works on all of them instead of one after the other.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ...arrays import Int64Array, UInt8Array
from ...errors import DataError
from ...machine import available_memory

_NEAR = 1 << 15
"""Bytes between two images that are read on the way: one reading is dearer than so much more."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadAhead:
    """The images of a mapped file, and a way to have some of them read before they are used."""

    mapping: mmap.mmap
    start: int
    """Where in the mapping the first image begins, in bytes."""
    image_bytes: int

    def of_rows(self, rows: slice | Int64Array) -> None:
        """Ask the system for these images, without waiting for them."""
        if isinstance(rows, slice):
            self._ask(rows.start, rows.stop)
            return
        for first, last in _runs(np.sort(rows), 1 + _NEAR // self.image_bytes):
            self._ask(first, last + 1)

    def everything(self, count: int) -> None:
        """Ask for the first `count` images, in one sweep."""
        self._ask(0, count)

    def in_places(self) -> None:
        """Have only what is asked for read, and nothing around it."""
        self.mapping.madvise(mmap.MADV_RANDOM)

    def _ask(self, first: int, end: int) -> None:
        start, stop = (self.start + place * self.image_bytes for place in (first, end))
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        self.mapping.madvise(mmap.MADV_WILLNEED, page, stop - page)


@dataclass(frozen=True, kw_only=True)
class MappedFile:
    """A file that images are mapped from, as it was then: it must not change while they are used.

    The pages of a file that is written anew show what is written, and those of one that is cut
    short end the process. Nothing can be read again either, since it is looked at bit by bit.
    """

    path: Path
    stamp: tuple[int, int, int]

    def check(self) -> None:
        """Raise where it is not the same file any more.

        Raises:
            DataError: it was written to, replaced or removed.
        """
        if _stamp(self.path) != self.stamp:
            raise DataError(
                f"{self.path} was changed while its images were in use.",
                "Nothing that was computed since can be trusted: train again, and save new data "
                "under another name.",
            )


_files: WeakKeyDictionary[mmap.mmap, MappedFile] = WeakKeyDictionary()


def mapped_file(images: UInt8Array) -> MappedFile | None:
    """The file that images are mapped from, as it was when this was asked first."""
    base: object = images
    path: Path | None = None
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.filename is not None:
            path = Path(base.filename)
        base = base.base
    if not isinstance(base, mmap.mmap) or path is None:
        return None
    found = _files.get(base)
    if found is None:
        found = _files[base] = MappedFile(path=path, stamp=_stamp(path))
    return found


def _stamp(path: Path) -> tuple[int, int, int]:
    """Size, time of the last change and number of a file; zeros where there is none."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_size, status.st_mtime_ns, status.st_ino


def read_ahead(images: UInt8Array, free: int | None = None) -> ReadAhead | None:
    """How the images (N, C, H, W) of a file too large for memory are read ahead.

    None where there is nothing to do: they lie in memory, or will do so by themselves, for a mapped
    file of at most half the `free` bytes of memory (asked of the system) is read from now on.
    """
    found = mapping_of(images)
    if found is None or not hasattr(mmap, "MADV_WILLNEED"):
        return None
    if free is None:
        free = available_memory()
    if not free or images.nbytes <= free / 2:
        found.everything(len(images))
        return None
    found.in_places()
    return found


def mapping_of(images: UInt8Array) -> ReadAhead | None:
    """The mapping in which contiguous images (N, C, H, W) lie; None where they lie in memory."""
    base: object = images
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not images.flags.c_contiguous:
        return None
    beginning = np.frombuffer(base, np.uint8).ctypes.data
    image_bytes = images[:1].nbytes
    return ReadAhead(mapping=base, start=images.ctypes.data - beginning, image_bytes=image_bytes)


def _runs(places: Int64Array, gap: int) -> npt.NDArray[np.int64]:
    """First and last of each run of ascending places no further than `gap` apart: (runs, 2)."""
    breaks = np.flatnonzero(np.diff(places) > gap)
    first = places[np.concatenate([[0], breaks + 1])] if len(places) else places
    last = places[np.concatenate([breaks, [len(places) - 1]])] if len(places) else places
    return np.stack([first, last], axis=1)
