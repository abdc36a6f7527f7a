"""Decodes the pictures of a listing with all cores, and fills the cache with them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...arrays import AnyArray, Int64Array, UInt8Array
from ...errors import PictureError
from ...events import Event, Note, PreparationDone, Preparing
from ...machine import available_cores
from ..listing import Listing, PictureStore
from .cache import PictureCache, State
from .decode import quiet_decoding
from .facts import ROW, PictureFacts
from .preprocess import Preprocess

Sink = Callable[[Event], None]
_CHUNK_PICTURES, _CHUNK_BYTES = 64, 16_000_000
"""At most so much is decoded before it is written; what a kill may cost."""
_EVENT_SECONDS = 0.2


def filled(
    cache: PictureCache, listing: Listing, geometry: Preprocess, on_event: Sink
) -> PictureFacts:
    """The facts of all pictures, after decoding those that are not in the cache."""
    sealed = cache.sealed_facts()
    if sealed is not None and not sealed.faults:
        return sealed
    if sealed is not None:
        state = State.of(sealed)
    else:
        state = cache.recovered(lambda text: on_event(Note(text)))
    missing = np.flatnonzero(~state.done)
    if sealed is not None and not _readable_now(listing, geometry, missing, state):
        return sealed
    if not len(missing):
        # Whole, but for its seal.
        cache.mend_frame()
        cache.seal(state.facts())
        return state.facts()
    begun, copied = time.perf_counter(), 0
    pace = Pace("decoding", len(listing), on_event, done=len(listing) - len(missing))
    decoder = _Decoder(pictures=listing.pictures, geometry=geometry, donor=_Donor.of(cache))
    with cache.filling(state) as keep, closing(_decoded(decoder, missing)) as chunks:
        for chunk in chunks:
            state.update(chunk.indices, chunk.rows, chunk.faults)
            keep(chunk.indices, chunk.images, state)
            copied += chunk.copied
            pace.add(len(chunk.indices))
    facts = state.facts()
    cache.seal(facts)
    on_event(
        PreparationDone(
            decoded=len(missing) - copied,
            copied=copied,
            unreadable=len(facts.faults),
            seconds=time.perf_counter() - begun,
        )
    )
    return facts


def _readable_now(
    listing: Listing, geometry: Preprocess, indices: Int64Array, state: State
) -> bool:
    """Whether a picture that could not be read can be read now, or for another reason not."""
    with quiet_decoding():
        for index in indices.tolist():
            try:
                geometry.seen(listing.pictures.read(index), listing.pictures.names[index])
            except PictureError as error:
                if error.message == state.faults.get(index):
                    continue
            return True
    return False


def decoded_with_facts(
    pictures: PictureStore, geometry: Preprocess, *, threads: int | None = None
) -> Generator[Seen, None, None]:
    """All pictures of a store, some at a time and in order, with what was seen of them; to be
    closed by whoever stops before the end.

    Args:
        threads: that decode; by default as many as this process may use.
    """
    decoder = _Decoder(pictures=pictures, geometry=geometry, donor=None)
    return _decoded(decoder, np.arange(len(pictures.names)), threads)


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen:
    """Some pictures, decoded."""

    indices: Int64Array
    images: UInt8Array
    """uint8 (M, C, H, W); zeros for those that cannot be read."""
    rows: AnyArray
    """Facts of the type `ROW`, (M,)."""
    faults: dict[int, str]
    """Why pictures cannot be read, by their index."""
    copied: int


@dataclass(frozen=True, eq=False, kw_only=True)
class _Decoder:
    """What the threads share: nothing of it changes but the wish to stop."""

    pictures: PictureStore
    geometry: Preprocess
    donor: _Donor | None

    def chunk(self, indices: Int64Array, stop: threading.Event) -> Seen:
        images = np.zeros((len(indices), *self.geometry.input_shape), np.uint8)
        rows, faults, copied = np.zeros(len(indices), ROW), {}, 0
        for place, index in enumerate(indices.tolist()):
            if stop.is_set():
                break
            try:
                content = self.pictures.read(index)
                digest = hashlib.sha256(content).digest()
                given = self.donor and self.donor.image_of(digest)
                if given:
                    images[place], rows[place] = given
                    copied += 1
                    continue
                rows[place]["file_bytes"] = len(content)
                rows[place]["file_sha256"] = np.frombuffer(digest, np.uint8)
                self._decode(index, content, images[place], rows[place])
            except PictureError as error:
                faults[index] = error.message
        return Seen(indices=indices, images=images, rows=rows, faults=faults, copied=copied)

    def _decode(self, index: int, content: bytes, image: UInt8Array, row: np.void) -> None:
        pixels, header = self.geometry.seen(content, self.pictures.names[index])
        image[:] = pixels
        for fact in ("format", "mode", "width", "height", "orientation", "bits", "frames"):
            row[fact] = getattr(header, fact)
        row["gray"] = all(np.array_equal(pixels[0], other) for other in pixels[1:])
        row["pixels_sha256"] = np.frombuffer(hashlib.sha256(pixels.data).digest(), np.uint8)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Donor:
    """An earlier preparation of the source, before pictures were added, moved or touched."""

    images: UInt8Array
    rows: AnyArray
    order: Int64Array
    """Sorts `starts`."""
    starts: npt.NDArray[np.uint64]
    """The first eight bytes of each file's SHA-256, sorted."""

    @classmethod
    def of(cls, cache: PictureCache) -> _Donor | None:
        """The newest other state of the same source."""
        for other in cache.relatives():
            facts = other.sealed_facts(verified=False)  # each row that is taken is checked
            if facts is None:
                continue
            starts = np.ascontiguousarray(facts.file_sha256[:, :8]).view(np.uint64)[:, 0]
            order = np.argsort(starts, kind="stable")
            return cls(images=other.images(), rows=facts.rows, order=order, starts=starts[order])
        return None

    def image_of(self, file_sha256: bytes) -> tuple[UInt8Array, np.void] | None:
        """Image and facts of the file with that content."""
        start = np.frombuffer(file_sha256[:8], np.uint64)[0]
        place = int(np.searchsorted(self.starts, start))
        if place == len(self.starts):
            return None
        index = int(self.order[place])
        facts = self.rows[index]
        if facts["file_sha256"].tobytes() != file_sha256:
            return None
        pixels = self.images[index]
        whole = hashlib.sha256(pixels.data).digest() == facts["pixels_sha256"].tobytes()
        return (pixels, facts) if whole else None


def _decoded(
    decoder: _Decoder, indices: Int64Array, threads: int | None = None
) -> Generator[Seen, None, None]:
    """Chunks in order, decoded by threads: Pillow lets go of Python's lock while it decodes."""
    size = max(1, min(_CHUNK_PICTURES, _CHUNK_BYTES // int(np.prod(decoder.geometry.input_shape))))
    parts = (indices[start : start + size] for start in range(0, len(indices), size))
    workers = threads or available_cores()
    waiting: deque[Future[Seen]] = deque()
    with quiet_decoding(), _stoppable(workers) as (pool, stop):
        for part in parts:
            waiting.append(pool.submit(decoder.chunk, part, stop))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _stoppable(workers: int) -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Threads that end soon after whatever happens."""
    pool, stop = ThreadPoolExecutor(workers, thread_name_prefix="sartor-decode"), threading.Event()
    try:
        yield pool, stop
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


class Pace:
    """Says how far it is a few times a second, and how long it will take."""

    def __init__(self, activity: str, total: int, on_event: Sink, *, done: int = 0) -> None:
        self._activity, self._total, self._on_event = activity, total, on_event
        self._done = self._done_before = done
        self._begun = self._said = time.perf_counter()

    def add(self, count: int) -> None:
        """So many more are done."""
        self.at(self._done + count)

    def at(self, done: int) -> None:
        """So many are done."""
        self._done, now = done, time.perf_counter()
        if now - self._said < _EVENT_SECONDS:
            return
        self._said = now
        pace = max(done - self._done_before, 1) / (now - self._begun)
        self._on_event(
            Preparing(
                activity=self._activity,
                done=done,
                total=self._total,
                pictures_per_second=pace,
                seconds_left=(self._total - done) / pace,
            )
        )
