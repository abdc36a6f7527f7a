"""Memory that processes of one machine share, through which an exchange takes microseconds.

It is a file without a name, which ends with the processes, however these end. The first process
makes it, the others open it by the number that it has there.
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from . import native_module

if TYPE_CHECKING:
    from ._native import SharedMemory

_MARK_BYTES = 16


class Offer(NamedTuple):
    """Where the memory is to be found, for other processes of this machine."""

    process: int
    descriptor: int
    mark: str
    """What the memory ends with, in hexadecimal digits: on another machine, or in another
    container, the same numbers lead elsewhere."""


class Room:
    """The memory, as one process has mapped it."""

    def __init__(self, descriptor: int, size: int) -> None:
        """
        Raises:
            OSError, ValueError: it cannot be mapped.
        """
        self._descriptor = descriptor
        self._length = _bytes_for(size)
        self._mapped = mmap.mmap(descriptor, self._length + _MARK_BYTES)

    def mark(self, content: bytes | None = None) -> bytes:
        """What it ends with; made so, if given."""
        if content is not None:
            self._mapped[self._length :] = content
        return self._mapped[self._length :]

    def joined(self, rank: int, processes: Sequence[int], seconds: float) -> SharedMemory:
        """To take part in exchanges.

        Args:
            processes: their numbers, by rank.
            seconds: how long one is waited for that is silent.

        Raises:
            OSError: one of them has ended, or the system has no way to watch it.
            RuntimeError: the system has no such memory.
        """
        import numpy as np

        module = native_module.module()
        assert module is not None, "asked before the memory was made"
        memory = np.frombuffer(self._mapped, np.uint8)
        watched: list[int] = []
        try:
            for process in processes:
                watched.append(os.pidfd_open(process))
            # It closes them in the end.
            found: SharedMemory = module.SharedMemory(memory, rank, watched, seconds)
        except BaseException:
            for descriptor in watched:
                os.close(descriptor)
            raise
        return found

    def close_file(self) -> None:
        """No more process will come; what is mapped stays."""
        os.close(self._descriptor)


def made(size: int) -> tuple[Room, Offer] | None:
    """Memory for so many processes, by the first of them; None where there is none."""
    if native_module.module() is None or not {"memfd_create", "pidfd_open"} <= set(dir(os)):
        return None
    mark = secrets.token_bytes(_MARK_BYTES)
    with suppress(OSError, ValueError):
        descriptor = os.memfd_create("sartor", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _bytes_for(size) + _MARK_BYTES)
        room = Room(descriptor, size)
        room.mark(mark)
        return room, Offer(os.getpid(), descriptor, mark.hex())
    return None


def opened(offer: Offer, size: int) -> Room | None:
    """The same memory in another process; None where it is out of reach."""
    if native_module.module() is None:
        return None
    with suppress(OSError, ValueError):
        descriptor = os.open(f"/proc/{offer.process}/fd/{offer.descriptor}", os.O_RDWR)
        room = Room(descriptor, size)
        if room.mark().hex() == offer.mark:
            return room
    return None


def _bytes_for(size: int) -> int:
    module: Any = native_module.module()
    length: int = module.SharedMemory.bytes(size)
    return length
