"""Decoding and answering in threads: the loop is never blocked, the network never waits.

A request's pictures go into one queue. A thread takes some, decodes them, and puts them where the
network takes them from. Then it lets the network answer for all that lie there, its own and those
of others, unless another thread is doing so already, which will then take these too. So batches
grow with the load by themselves, nobody waits for a batch to fill, and a single request goes from
the loop to one thread and back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from ..api.serving import Servable
from ..arrays import UInt8Array
from ..data.pictures.decode import LARGE, TooManyPixels
from ..errors import PictureError
from ..inference.answers import Prediction, Unreadable
from .limits import Limits
from .problems import busy
from .reading import Fault, Picture

_MOST_TAKEN = 16
"""Pictures that a thread decodes before it looks after the network again."""


class Observer(Protocol):
    """Who wants to know what the threads do; called in any of them."""

    def batch(self, model: str, size: int, seconds: float) -> None: ...
    def fault(self, model: str, error: Exception) -> None: ...


@dataclass(eq=False)
class Live:
    """A classifier with what waits for it."""

    servable: Servable
    batch: int
    """Images at once."""
    ready: deque[_Item] = field(default_factory=deque)
    """Decoded, not answered yet."""
    running: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.running = threading.Semaphore(self.servable.at_once)

    @classmethod
    def of(cls, servable: Servable, limits: Limits) -> Live:
        """With the batch that suits this machine."""
        return cls(servable, servable.best_batch(limits.batch))


class _Job:
    """The pictures of one request."""

    __slots__ = ("answers", "future", "is_gone", "keep_inputs", "left", "model")

    def __init__(
        self,
        model: Live,
        count: int,
        future: asyncio.Future[list[Any]],
        is_gone: Callable[[], bool],
        keep_inputs: bool,
    ) -> None:
        self.model = model
        self.answers: list[Any] = [None] * count
        self.left = count
        self.future = future
        self.is_gone = is_gone
        self.keep_inputs = keep_inputs

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return self.future.done() or self.is_gone()


class _Item:
    """One picture of them."""

    __slots__ = ("content", "file", "image", "job", "place")

    def __init__(self, job: _Job, place: int, picture: Picture) -> None:
        self.job = job
        self.place = place
        self.file = picture.file
        self.content = picture.content
        self.image: UInt8Array | None = None


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What is said of a picture, and what the network saw of it where that was asked for."""

    said: Prediction
    image: UInt8Array | None = None


class Pool:
    """The threads, and the queues before them."""

    def __init__(self, limits: Limits, threads: int, observer: Observer) -> None:
        self._limits = limits
        self._observer = observer
        self._threads = threads
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._large: SimpleQueue[_Item | None] = SimpleQueue()
        """Pictures that take long to decode, and much memory: one after the other."""
        self._lock = threading.Lock()
        self.waiting = 0
        """Pictures without an answer."""
        self._workers = [
            threading.Thread(target=self._work, args=lane, name=name, daemon=True)
            for name, lane in (
                *((f"sartor-serve-{number}", (self._queue, LARGE)) for number in range(threads)),
                ("sartor-serve-large", (self._large, limits.pixels)),
            )
        ]
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """End the threads once what they have is done."""
        for _ in range(self._threads):
            self._queue.put(None)
        self._large.put(None)
        for worker in self._workers:
            worker.join(self._limits.answer_seconds)

    def submit(
        self,
        model: Live,
        pictures: Sequence[Picture | Fault],
        *,
        is_gone: Callable[[], bool],
        keep_inputs: bool = False,
    ) -> asyncio.Future[list[Answered | Fault]]:
        """Their answers, in their order.

        Raises:
            Problem: 429, too many wait already.
        """
        if self.waiting and self.waiting + len(pictures) > self._limits.queue:
            raise busy(f"{self.waiting:,} pictures wait for their answer already.")
        loop = asyncio.get_running_loop()
        job = _Job(model, len(pictures), loop.create_future(), is_gone, keep_inputs)
        self.waiting += len(pictures)
        for place, picture in enumerate(pictures):
            if isinstance(picture, Fault):
                job.answers[place] = picture
                job.left -= 1
        if not job.left:
            self._settle([job])
        for place, picture in enumerate(pictures):
            if isinstance(picture, Picture):
                self._queue.put(_Item(job, place, picture))
        return job.future

    def _work(self, queue: SimpleQueue[_Item | None], max_pixels: int) -> None:
        while (first := queue.get()) is not None:
            items = self._some(queue, first)
            models = []
            for item in items:
                self._decode(item, min(max_pixels, self._limits.pixels))
                if item.job.model not in models:
                    models.append(item.job.model)
            del items, first
            for model in models:
                self._answer_all(model)

    def _some(self, queue: SimpleQueue[_Item | None], first: _Item) -> list[_Item]:
        """A fair share of what waits."""
        items = [first]
        share = min(_MOST_TAKEN, queue.qsize() // self._threads)
        try:
            while len(items) <= share:
                item = queue.get_nowait()
                if item is None:
                    queue.put(None)
                    break
                items.append(item)
        except Empty:
            pass
        return items

    def _decode(self, item: _Item, max_pixels: int) -> None:
        content, item.content = item.content, b""
        if item.job.abandoned:
            self._finish([(item, None)])
            return
        preprocess = item.job.model.servable.preprocess
        try:
            item.image = preprocess.from_stranger(content, item.file, max_pixels=max_pixels)
        except TooManyPixels as error:
            if max_pixels < self._limits.pixels:
                item.content = content
                self._large.put(item)
                return
            self._finish([(item, _fault(item, error, too_large=True))])
        except PictureError as error:
            self._finish([(item, _fault(item, error))])
        else:
            item.job.model.ready.append(item)

    def _answer_all(self, model: Live) -> None:
        """Let the network answer until nothing is left, unless other threads do so already."""
        while model.ready and model.running.acquire(blocking=False):
            try:
                self._answer(model, self._batch(model))
            finally:
                model.running.release()

    def _batch(self, model: Live) -> list[_Item]:
        batch: list[_Item] = []
        try:
            while len(batch) < model.batch:
                item = model.ready.popleft()
                if item.job.abandoned:
                    self._finish([(item, None)])
                else:
                    batch.append(item)
        except IndexError:
            pass
        return batch

    def _answer(self, model: Live, batch: list[_Item]) -> None:
        if not batch:
            return
        begun = time.perf_counter()
        try:
            images = [item.image for item in batch if item.image is not None]
            said = model.servable.answers([item.file for item in batch], images)
        except Exception as error:  # of whatever runs the network
            if len(batch) > 1:
                # So that the others have their answer.
                for item in batch:
                    self._answer(model, [item])
                return
            self._observer.fault(model.servable.name, error)
            (item,) = batch
            self._finish([(item, Fault(file=item.file, error=_NO_ANSWER, hint=_TRY_ANOTHER))])
            return
        seconds = time.perf_counter() - begun
        self._finish([(item, _kept(item, one)) for item, one in zip(batch, said, strict=True)])
        self._observer.batch(model.servable.name, len(batch), seconds)

    def _finish(self, answered: Sequence[tuple[_Item, Answered | Fault | None]]) -> None:
        """Note answers, and hand those requests over that are complete now."""
        complete = []
        with self._lock:
            for item, answer in answered:
                job = item.job
                job.answers[item.place] = answer
                job.left -= 1
                if not job.left:
                    complete.append(job)
        if complete:
            loop = complete[0].future.get_loop()
            try:
                loop.call_soon_threadsafe(self._settle, complete)
            except RuntimeError:  # the server has ended meanwhile
                return

    def _settle(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            self.waiting -= len(job.answers)
            if not job.future.done():
                job.future.set_result(job.answers)


_NO_ANSWER = "The network gave no answer."
_TRY_ANOTHER = "Try another picture; the server's log has the reason."


def _kept(item: _Item, said: Prediction | Unreadable) -> Answered | Fault:
    if isinstance(said, Unreadable):
        return Fault(file=item.file, error=said.error, hint=_TRY_ANOTHER)
    return Answered(said=said, image=item.image if item.job.keep_inputs else None)


def _fault(item: _Item, error: PictureError, *, too_large: bool = False) -> Fault:
    return Fault(file=item.file, error=error.message, hint=error.hint, too_large=too_large)
