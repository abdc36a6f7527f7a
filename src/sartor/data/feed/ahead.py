"""Batches made ahead of their use, by threads of their own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch

from ...machine import available_cores
from .batches import Batch, Batches


class Ahead:
    """The same batches, prepared by threads before they are asked for.

    Since a batch is a pure function of its place, it matters to no bit which thread made it when.
    """

    def __init__(self, batches: Batches, workers: int) -> None:
        self.source = batches
        # One core each: an operation split among cores would wait for those that the step holds.
        self._pool = ThreadPoolExecutor(
            workers, "sartor-batch", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._coming: dict[tuple[int, int], Future[dict[int, Batch]]] = {}
        # Single batches where a group is no more than one, else as many batches as in the groups.
        self._depth = workers * (2 if batches.together == 1 else 1)
        self._groups = -(-len(batches) // batches.together)

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, epoch: int, position: int) -> Batch:
        """As `Batches.batch`."""
        now = epoch, position // self.source.together
        for ahead in range(self._depth + 1):
            group = now[1] + ahead
            place = epoch + group // self._groups, group % self._groups
            if place not in self._coming:
                self._coming[place] = self._pool.submit(self._made, *place)
        # Handed out once: who has it may change it.
        made = self._coming[now].result()
        batch = made.pop(position, None)
        self._coming = {
            place: task
            for place, task in self._coming.items()
            if place > now or (place == now and made)
        }
        return self.source.batch(epoch, position) if batch is None else batch

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _made(self, epoch: int, group: int) -> dict[int, Batch]:
        return dict(enumerate(self.source.group(epoch, group), group * self.source.together))


@contextmanager
def prepared_ahead(batches: Batches, workers: int) -> Iterator[Batches | Ahead]:
    """The batches, made by `workers` threads ahead of their use; by none, when they are needed."""
    if not workers:
        yield batches
        return
    ahead = Ahead(batches, workers)
    try:
        yield ahead
    finally:
        ahead.close()


def chosen_workers(
    wish: int | str, batches: Batches, threads: int | None, *, yielding: bool = False
) -> int:
    """For "auto": one where the step, which takes `threads` cores, leaves one idle, or has threads
    that are `yielding`: when one has no core, the others do its part.

    That pays for batches that are augmented; handing over others costs as much as making them. A
    set that is too large for memory is always read by a thread of its own, for a disk takes time
    but no core.
    """
    if wish != "auto":
        return int(wish)
    if batches.feed.read_ahead is not None:
        return 1
    if batches.augmentation is None or batches.feed.images.device.type != "cpu":
        return 0
    needed = 1 if yielding else threads or torch.get_num_threads()
    return 1 if available_cores() > needed else 0
