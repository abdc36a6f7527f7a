"""Any number of pictures, decoded by threads ahead of whoever takes them, in order.

What is kept in memory does not grow with their number.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...arrays import UInt8Array
from ...errors import PictureError
from ...machine import available_cores
from .decode import no_memory_for, opened, quiet_decoding, upright
from .preprocess import Preprocess

_PART = 16
"""Pictures that one thread decodes at a time: few enough that all cores share a small number."""
_PARTS_AHEAD = 2
"""Chunks that are decoded before the one at hand is done."""


class Place(NamedTuple):
    """Where a picture lies, as another process can find it again."""

    path: str
    """Of its file, or of the archive or the table that holds it."""
    member: str | None = None
    """Its path in an archive."""
    row: int | None = None
    """Its row in a table, counted from 0."""


class Undecoded(NamedTuple):
    """A picture that is known by name, and how to get at it."""

    name: str
    content: Callable[[], bytes | Image.Image]
    """Its file's bytes, or the picture itself; raises a PictureError that begins with the name.
    Called by several threads."""
    place: Place | None = None
    """None where it lies in memory, or there is a reason instead of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Some neighbours of the stream."""

    names: tuple[str, ...]
    images: UInt8Array
    """uint8 (M, C, H, W): those that could be read, in order."""
    faults: dict[int, PictureError]
    """Why the others could not, by their place in `names`."""


def unreadable(name: str, fault: PictureError) -> Undecoded:
    """In place of a picture, the reason why there is none."""

    def refuse() -> bytes:
        raise fault

    return Undecoded(name, refuse)


def decoded(
    pictures: Iterable[Undecoded],
    preprocess: Preprocess,
    *,
    size: int,
    invert: bool = False,
    threads: int | None = None,
    idle: Callable[[], bool] = lambda: False,
    whole: bool = True,
) -> Generator[Chunk, None, None]:
    """Chunks of `size` pictures, the last of fewer; to be closed by whoever stops before the end.

    Which pictures share a chunk depends on their places only, readable or not.

    Args:
        threads: that decode; by default as many as this process may use.
        idle: whether the next picture would have to be waited for, as for somebody to name it.
            Meanwhile all chunks are given out.
        whole: in idle moments no chunk of fewer is made; else those that wait are given out, too,
            and what shares a chunk depends on when pictures come.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(threads or available_cores(), thread_name_prefix="sartor-decode")
    waiting: deque[list[Future[Chunk]]] = deque()
    try:
        # Its filters belong to the process, so it is entered here and not by each thread.
        with quiet_decoding():
            for chunk in _chunks(iter(pictures), size, lambda: not whole and idle()):
                waiting.append(
                    [
                        pool.submit(_decode, chunk[at : at + _PART], preprocess, invert, stop)
                        for at in range(0, len(chunk), _PART)
                    ]
                )
                while waiting and (len(waiting) > _PARTS_AHEAD or idle()):
                    yield _joined(waiting.popleft())
            while waiting:
                yield _joined(waiting.popleft())
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _chunks(
    pictures: Iterator[Undecoded], size: int, ends: Callable[[], bool]
) -> Iterator[list[Undecoded]]:
    chunk: list[Undecoded] = []
    for one in pictures:
        chunk.append(one)
        if len(chunk) == size or ends():
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _decode(
    part: list[Undecoded], preprocess: Preprocess, invert: bool, stop: threading.Event
) -> Chunk:
    images: list[UInt8Array] = []
    faults: dict[int, PictureError] = {}
    for place, (name, content, _) in enumerate(part):
        if stop.is_set():
            break
        try:
            images.append(_image(name, content(), preprocess, invert))
        except PictureError as fault:
            faults[place] = fault
        except MemoryError:
            faults[place] = no_memory_for(name)
    return Chunk(
        names=tuple(one.name for one in part), images=_stacked(images, preprocess), faults=faults
    )


_in_memory = threading.Lock()
"""Held while a picture of a program is prepared, which may be given twice and loads on use."""


def _image(
    name: str, content: bytes | Image.Image, preprocess: Preprocess, invert: bool
) -> UInt8Array:
    if isinstance(content, bytes):
        with opened(content, name) as picture:
            return preprocess.picture(
                upright(picture, content, enough=preprocess.enough), invert=invert
            )
    with _in_memory:
        try:
            content.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise PictureError(
                f"{name} is damaged: {error}.", "Leave it out or replace it."
            ) from None
        return preprocess.picture(content, invert=invert)


def _stacked(images: list[UInt8Array], preprocess: Preprocess) -> UInt8Array:
    return np.stack(images) if images else np.empty((0, *preprocess.input_shape), np.uint8)


def _joined(parts: list[Future[Chunk]]) -> Chunk:
    done = [part.result() for part in parts]
    faults: dict[int, PictureError] = {}
    before = 0
    for part in done:
        faults |= {before + place: fault for place, fault in part.faults.items()}
        before += len(part.names)
    return Chunk(
        names=tuple(name for part in done for name in part.names),
        images=np.concatenate([part.images for part in done]),
        faults=faults,
    )
