"""A worker: takes shards that nobody has, makes their results, and leaves when all are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import DataError, FileError
from ..events import Event, Working
from ..files import remove_temporary
from .folder import MERGING, LostResultError, WorkFolder
from .lease import Lease, Worker
from .manifest import Listed, Manifest

Sink = Callable[[Event], None]
MOST_DEATHS = 8
"""A shard at which so many workers ended is left: something in it may end every one."""
_EVENT_SECONDS = 0.2
_LOOK_SECONDS = 5.0
"""Between two looks at what others have done."""
_SLICE_SECONDS = 0.1


class Task(Protocol):
    """What is done with the pictures of a plan."""

    def table(
        self, pictures: Sequence[Listed], done: Callable[[int], None], stopped: Callable[[], bool]
    ) -> Any:
        """What comes of the pictures of a shard, as an Arrow table with a row for each, with the
        columns `file` and `error` among others; the same wherever and whenever it is made.

        None if it was stopped.

        Args:
            done: to be told of so many more pictures.
            stopped: to be asked now and then.
        """

    def finish(self, folder: WorkFolder, stopped: Callable[[], bool]) -> dict[str, Any] | None:
        """Join the results; what is to be said of them, None if it was stopped.

        Raises:
            LostResultError: one is missing or damaged.
        """


@dataclass(kw_only=True)
class Worked:
    """What a worker did."""

    worker: str
    shards: int = 0
    """That it finished."""
    pictures: int = 0
    seconds: float = 0.0
    complete: bool = False
    """Whether the work as a whole is done, results joined."""
    stopped: bool = False
    """Whether it was asked to stop before."""
    summary: dict[str, Any] = field(default_factory=dict)
    """What came of the whole work, where it is complete."""

    def to_json(self) -> dict[str, Any]:
        """The keys of `sartor work --json`."""
        return {**vars(self), "summary": self.summary or None}


def work(
    folder: WorkFolder,
    manifest: Manifest,
    task: Task,
    *,
    wait: bool = True,
    stopped: Callable[[], bool] = lambda: False,
    on_event: Sink | None = None,
) -> Worked:
    """Work until all shards are done.

    Args:
        wait: stay until the last shard of the others is done, in case one of them dies.
        stopped: asked now and then; return True to stop early.

    Raises:
        DataError: shards are left at which worker after worker ended.
        FileError: the disk is full, or refuses for another reason.
    """
    return _Working(folder, manifest, task, wait, stopped, on_event or _nowhere).run()


def _nowhere(_event: Event) -> None:
    """A sink that nobody reads."""


class _Working:
    def __init__(
        self,
        folder: WorkFolder,
        manifest: Manifest,
        task: Task,
        wait: bool,
        stopped: Callable[[], bool],
        sink: Sink,
    ) -> None:
        self._folder, self._plan, self._manifest, self._task = folder, folder.plan, manifest, task
        self._wait, self._stopped, self._sink = wait, stopped, sink
        worker = Worker.here()
        self._leases = folder.leases(worker)
        self._worked = Worked(worker=worker.name)
        self._finished: set[int] = set()
        self._given_up: set[int] = set()
        self._state, self._shard, self._in_shard = "working", "", 0
        self._begun = self._said = self._looked = time.monotonic()
        self._pictures_before, self._patience = 0, _SLICE_SECONDS
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="sartor-keep")
        self._kept: Future[None] | None = None
        # Workers that come at once begin at different places.
        self._next = int(worker.name.rpartition("-")[2], 16) % self._plan.shards

    def run(self) -> Worked:
        """See `work`."""
        try:
            self._tell()
            self._look()
            self._pictures_before = self._pictures_done()
            while not self._ended():
                if self._did_a_shard():
                    self._patience = _SLICE_SECONDS
                    continue
                self._settle()
                self._look()
                left = self._plan.shards - len(self._finished)
                if not left:
                    if self._merged():
                        continue
                elif left == len(self._given_up - self._finished):
                    self._refuse()
                if self._ended() or not self._wait:
                    break
                self._pause()
            self._settle()
        finally:
            # Also where something else ended the work: the lease is given back.
            self._keeper.shutdown()
            self._state, self._shard = "left", ""
            self._worked.seconds = time.monotonic() - self._begun
            with suppress(FileError):
                self._tell()
        self._worked.stopped = self._stopped() and not self._worked.complete
        self._say(ended=True)
        return self._worked

    def _ended(self) -> bool:
        if not self._worked.complete:
            summary = self._folder.summary()
            if summary is not None:
                self._worked.complete, self._worked.summary = True, summary
                self._finished = set(range(self._plan.shards))
        return self._worked.complete or self._stopped()

    def _did_a_shard(self) -> bool:
        """Do one that nobody does; False where there is none."""
        for offset in range(self._plan.shards):
            shard = (self._next + offset) % self._plan.shards
            if shard in self._finished or shard in self._given_up:
                continue
            if self._stopped():
                return False
            if self._folder.result_path(shard).exists():
                self._finished.add(shard)
                continue
            lease = self._leases.take(f"{shard:05}", self._tell)
            if lease is None:
                continue
            if lease.taken > MOST_DEATHS:
                self._given_up.add(shard)
                lease.leave()
                continue
            self._do(shard, lease)
            self._next = (shard + 1) % self._plan.shards
            return True
        return False

    def _do(self, shard: int, lease: Lease) -> None:
        """Make the result of a shard; it is written while the next one is made."""
        self._shard, self._in_shard = f"{shard:05}", 0
        with ExitStack() as otherwise:
            otherwise.callback(lease.release)
            # It may have been done since we looked.
            if self._folder.result_path(shard).exists():
                self._finished.add(shard)
                return
            pictures = self._manifest.shard(shard)
            table = self._task.table(pictures, self._add, lambda: self._stopped() or lease.lost)
            self._settle()
            if table is None:
                return
            otherwise.pop_all()
        self._worked.pictures += len(pictures)
        self._shard, self._in_shard = "", 0
        self._kept = self._keeper.submit(self._keep, shard, table, lease)

    def _keep(self, shard: int, table: Any, lease: Lease) -> None:
        try:
            self._folder.keep(shard, table)
            self._worked.shards += 1
            self._finished.add(shard)
        finally:
            lease.release()

    def _settle(self) -> None:
        """Wait until the result at hand is written.

        Raises:
            FileError: the disk is full, or refuses for another reason.
        """
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.result()

    def _merged(self) -> bool:
        """Join the results; False where another worker does."""
        lease = self._leases.take(MERGING, self._tell)
        if lease is None:
            return False
        self._shard = MERGING
        try:
            if self._folder.summary() is not None:
                return True
            stop = lambda: self._stopped() or lease.lost  # noqa: E731
            summary = self._task.finish(self._folder, stop)
            if summary is not None:
                self._folder.end(summary)
                remove_temporary(self._folder.path)
        except LostResultError:
            self._finished -= self._folder.without_unsound(self._manifest)
        finally:
            lease.release()
            self._shard = ""
        return True

    def _refuse(self) -> None:
        """Say which shards nobody could do.

        Raises:
            DataError: always.
        """
        left = sorted(self._given_up - self._finished)
        pictures = self._manifest.shard(left[0])
        raise DataError(
            f"{len(left):,} of {self._plan.shards:,} shards are left, at each of which "
            f"{MOST_DEATHS} workers ended: the first holds {pictures[0].file} to "
            f"{pictures[-1].file}.",
            "Find out what ends them (memory?); sartor work FOLDER --retry tries them again.",
        )

    def _pause(self) -> None:
        """Longer each time, as others may be at the last shards for a moment or for hours."""
        until = time.monotonic() + self._patience
        self._patience = min(2 * self._patience, _LOOK_SECONDS, self._plan.lease_seconds / 4)
        while time.monotonic() < until and not self._stopped():
            time.sleep(min(_SLICE_SECONDS, self._patience))

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._finished |= self._folder.finished()

    def _add(self, count: int) -> None:
        self._in_shard += count
        now = time.monotonic()
        if now - self._said >= _EVENT_SECONDS:
            if now - self._looked >= _LOOK_SECONDS:
                self._look()
            self._say(ended=False)

    def _say(self, *, ended: bool) -> None:
        self._said = now = time.monotonic()
        done, total = self._pictures_done() + self._in_shard, self._plan.pictures
        pace = (done - self._pictures_before) / max(now - self._begun, 1e-9)
        self._sink(
            Working(
                task=self._plan.task,
                done=min(done, total),
                total=total,
                shards_done=len(self._finished),
                shards=self._plan.shards,
                pictures_per_second=pace,
                seconds_left=None if ended or pace <= 0 else (total - done) / pace,
                ended=ended,
            )
        )

    def _pictures_done(self) -> int:
        done = len(self._finished) * self._plan.shard_size
        last = self._plan.shards - 1
        return done - (self._plan.shard_size - self._plan.rows_of(last)) * (last in self._finished)

    def _tell(self) -> None:
        self._leases.tell(
            pid=self._leases.worker.pid,
            state=self._state,
            shard=self._shard,
            shards=self._worked.shards,
            pictures=self._worked.pictures + self._in_shard,
            seconds=round(time.monotonic() - self._begun, 3),
        )
