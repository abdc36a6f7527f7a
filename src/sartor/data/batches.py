"""Batches as a pure function of (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .augment import mixing
from .augment.pipeline import Augmentation
from .dataset import Int64Array
from .order import balanced_order, epoch_order


class Batch(NamedTuple):
    """What the model sees in one step."""

    images: Tensor
    """float32 (B, C, H, W), normalised, on the device."""
    labels: Tensor
    """int64 (B,), on the device; where pictures are mixed, float32 (B, num_classes): the share of
    each class."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Feed:
    """Some images of a dataset, resident on the device as bytes, and their way into batches."""

    images: Tensor
    """uint8 (N, C, H, W), the whole dataset."""
    labels: Tensor
    """int64 (N,)."""
    indices: Int64Array
    """The images that this feed gives out, int64 (M,)."""
    normalize: Callable[[Tensor], Tensor]
    """uint8 images -> float32 images."""
    memory_format: torch.memory_format = torch.contiguous_format

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, rows: Tensor | slice) -> Batch:
        """The batch of the dataset's images at `rows`."""
        if isinstance(rows, slice):
            images, labels = self.images[rows], self.labels[rows]
        else:
            images, labels = self.images.index_select(0, rows), self.labels.index_select(0, rows)
        return Batch(self.floats(images), labels)

    def floats(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, W) as the model takes them."""
        return self.laid_out(self.normalize(images))

    def laid_out(self, images: Tensor) -> Tensor:
        """Images in the layout that the model likes."""
        return images.contiguous(memory_format=self.memory_format)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Every image once, in the order of `indices`, for evaluation."""
        rows = self.rows(self.indices)
        for start in range(0, len(self), batch_size):
            yield self.take(_part(rows, start, min(start + batch_size, len(self))))

    def rows(self, indices: Int64Array) -> Tensor | slice:
        """The same indices in the form that gathers fastest."""
        if (
            len(indices)
            and indices[-1] - indices[0] + 1 == len(indices)
            and (indices[1:] > indices[:-1]).all()
        ):
            # Neighbours in the right order need no gather.
            return slice(int(indices[0]), int(indices[-1]) + 1)
        return torch.from_numpy(indices).to(self.images.device)


@dataclass(frozen=True, eq=False, kw_only=True)
class Batches:
    """The training batches of every epoch: `batch(epoch, position)` is a pure function."""

    feed: Feed
    batch_size: int
    """Images a batch."""
    shuffle: bool
    drop_last: bool
    seed: int
    augmentation: Augmentation | None = None
    balance: Int64Array | None = None
    """Classes of the feed's images, int64 (M,), to give out each class equally often; None gives
    out each image once."""
    # A cache, not a state: each value follows from its key, the epoch.
    _orders: dict[int, Tensor | slice] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.feed), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def batch(self, epoch: int, position: int) -> Batch:
        """Batch `position` of `epoch`, both counted from 0."""
        start = position * self.batch_size
        rows = _part(self._order(epoch), start, min(start + self.batch_size, len(self.feed)))
        return self.samples(rows, epoch)

    def samples(self, rows: Tensor | slice, epoch: int) -> Batch:
        """The dataset's images at `rows` as training sees them in `epoch`."""
        if self.augmentation is None:
            return self.feed.take(rows)
        return self._augmented(self.augmentation, _as_tensor(rows, self.feed.images.device), epoch)

    def plain(self) -> Batches:
        """The same batches without augmentation."""
        return replace(self, augmentation=None)

    def _augmented(self, augmentation: Augmentation, rows: Tensor, epoch: int) -> Batch:
        feed, mixes = self.feed, augmentation.mixing
        if mixes is not None:
            chance = augmentation.chance(rows, epoch, mixing.DRAWS)
            rows = torch.cat([rows, mixes.partners(chance, self._members)])
        labels = feed.labels.index_select(0, rows)
        images = augmentation.images(feed.images.index_select(0, rows), rows, epoch)
        if mixes is None:
            return Batch(feed.floats(images), labels)
        mixed = mixes.blend(feed.normalize(images), labels, chance)
        return Batch(feed.laid_out(mixed.images), mixed.labels)

    @cached_property
    def _members(self) -> Tensor:
        """Every training image, int64 (M,)."""
        return torch.from_numpy(self.feed.indices).to(self.feed.images.device)

    def _order(self, epoch: int) -> Tensor | slice:
        key = epoch if self.shuffle else 0
        rows = self._orders.get(key)
        if rows is None:
            # list() in one go: other threads may add to the cache meanwhile.
            for old in [other for other in list(self._orders) if other < key - 1]:
                self._orders.pop(old, None)
            rows = self._orders[key] = self._made_order(key)
        return rows

    def _made_order(self, epoch: int) -> Tensor | slice:
        if not self.shuffle:
            return self.feed.rows(self.feed.indices)
        if self.balance is None:
            order = epoch_order(len(self.feed), self.seed, epoch)
        else:
            order = balanced_order(self.balance, self.seed, epoch)
        return torch.from_numpy(self.feed.indices[order]).to(self.feed.images.device)


def _part(rows: Tensor | slice, start: int, stop: int) -> Tensor | slice:
    if isinstance(rows, slice):
        return slice(rows.start + start, rows.start + stop)
    return rows[start:stop]


def _as_tensor(rows: Tensor | slice, device: torch.device) -> Tensor:
    return torch.arange(rows.start, rows.stop, device=device) if isinstance(rows, slice) else rows


class Ahead:
    """The same batches, prepared by threads before they are asked for.

    Since a batch is a pure function of its place, it matters to no bit which thread made it when.
    """

    def __init__(self, batches: Batches, workers: int) -> None:
        self._batches = batches
        # One core each: an operation split among cores would wait for those that the step holds.
        self._pool = ThreadPoolExecutor(
            workers, "sartor-batch", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._coming: dict[tuple[int, int], Future[Batch]] = {}
        self._depth = 2 * workers

    def __len__(self) -> int:
        return len(self._batches)

    def batch(self, epoch: int, position: int) -> Batch:
        """As `Batches.batch`."""
        for ahead in range(self._depth + 1):
            place = (epoch + (position + ahead) // len(self), (position + ahead) % len(self))
            if place not in self._coming:
                self._coming[place] = self._pool.submit(self._batches.batch, *place)
        batch = self._coming.pop((epoch, position)).result()
        self._coming = {
            place: task for place, task in self._coming.items() if place > (epoch, position)
        }
        return batch

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)


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
