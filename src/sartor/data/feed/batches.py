"""Batches as a pure function of (seed, epoch, position)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ...arrays import Int64Array
from ..augment import mixing
from ..augment.pipeline import Augmentation
from .mapped import MappedFile, ReadAhead
from .order import balanced_order, epoch_order, repeats
from .shares import Rows, Share

_BYTES_TOGETHER = 1 << 20
"""Neighbouring batches are gathered and changed together up to this size, which fits a core's
cache: a hundred calls of PyTorch for each small batch would take longer than their work."""
_BYTES_TOGETHER_ON_DEVICE = 1 << 24


class Order(NamedTuple):
    """What an epoch gives out, from its first sample to its last."""

    rows: Tensor | slice
    """Indices into the dataset, int64 (M,)."""
    repeats: Tensor | None = None
    """How often each came before in the epoch, int64 (M,); None where none comes twice."""

    def part(self, start: int, stop: int) -> Order:
        """Some of it."""
        repeats = None if self.repeats is None else self.repeats[start:stop]
        return Order(_part(self.rows, start, stop), repeats)

    def at(self, places: Tensor) -> Order:
        """What stands at these places, int64 (B,)."""
        assert isinstance(self.rows, Tensor)
        repeats = None if self.repeats is None else self.repeats.index_select(0, places)
        return Order(self.rows.index_select(0, places), repeats)


class Batch(NamedTuple):
    """What the model sees in one step."""

    images: Tensor
    """float32 (B, C, H, W), normalised, on the device."""
    labels: Tensor
    """int64 (B,), on the device; where pictures are mixed, float32 (B, num_classes): the share of
    each class."""


class SharedBatch(Batch):
    """What one of several processes sees of a batch."""

    rows: tuple[Rows, ...]
    """Which rows of each part of the batch these are, one part after the other."""

    @property
    def whole(self) -> int:
        """Images of the batch, in all processes."""
        return sum(rows.whole for rows in self.rows)

    @property
    def own(self) -> Batch:
        """The images that count."""
        if all(rows.counts for rows in self.rows):
            return Batch(self.images, self.labels)
        kept = [mark for rows in self.rows for mark in [rows.counts] * rows.number]
        chosen = torch.tensor(kept, device=self.images.device)
        return Batch(self.images[chosen], self.labels[chosen])


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
    read_ahead: ReadAhead | None = None
    """How the images are read where they lie in a file too large for memory."""
    mapped_file: MappedFile | None = None
    """The file that they are mapped from, which must stay as it is."""

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, rows: Tensor | slice) -> Batch:
        """The batch of the dataset's images at `rows`."""
        images, labels = self.bytes_at(rows)
        return Batch(self.floats(images), labels)

    def bytes_at(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The images at `rows` as they are, uint8 (B, C, H, W), and their labels (B,)."""
        if self.mapped_file is not None:
            self.mapped_file.check()
        if self.read_ahead is not None:
            self.read_ahead.of_rows(rows if isinstance(rows, slice) else rows.numpy())
        if isinstance(rows, slice):
            return self.images[rows], self.labels[rows]
        return self.images.index_select(0, rows), self.labels.index_select(0, rows)

    def floats(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, W) as the model takes them."""
        return self.laid_out(self.normalize(images))

    def laid_out(self, images: Tensor) -> Tensor:
        """Images in the layout that the model likes."""
        return images.contiguous(memory_format=self.memory_format)

    def in_order(self, batch_size: int, share: Share | None = None) -> Iterator[Batch]:
        """Every image once, in the order of `indices`, for evaluation.

        Args:
            share: gives out only the batches of one of several processes.
        """
        rows = self.rows(self.indices)
        starts = range(0, len(self), batch_size)
        if share is not None:
            mine = share.of_blocks(len(starts))
            starts = starts[mine.start : mine.stop]
        for start in starts:
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
    share: Share | None = None
    """Give out only the rows of one of several processes, as `SharedBatch`."""
    # Caches, not states: each value follows from its key.
    _orders: dict[int, Order] = field(default_factory=dict, init=False, repr=False)
    _made: dict[tuple[int, int], Batch] = field(default_factory=dict, init=False, repr=False)
    _asked: set[int] = field(default_factory=set, init=False, repr=False)

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.feed), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def batch(self, epoch: int, position: int) -> Batch:
        """Batch `position` of `epoch`, both counted from 0."""
        # Handed out once: who has it may change it.
        made = self._made.pop((epoch, position), None)
        if made is None:
            group, place = divmod(position, self.together)
            first = position - place
            batches = enumerate(self.group(epoch, group), first)
            rest = {(epoch, number): one for number, one in batches}
            made = rest.pop((epoch, position))
            # The rest of another group would most likely not be asked for any more.
            self._made.clear()
            self._made.update(rest)
        return made

    @cached_property
    def together(self) -> int:
        """How many neighbouring batches, a group, are drawn at once."""
        images = self.feed.images
        limit = _BYTES_TOGETHER if images.device.type == "cpu" else _BYTES_TOGETHER_ON_DEVICE
        return max(1, limit // (self.batch_size * images.shape[1:].numel()))

    def group(self, epoch: int, group: int) -> list[Batch]:
        """The batches `group` * `together` and following of `epoch`.

        Finished together, not when they are needed, so that what a core has just written is not
        read by another one in the step.
        """
        size = self.together * self.batch_size
        stop = min((group + 1) * size, len(self.feed))
        part = self._order(epoch).part(group * size, stop)
        if self.share is not None:
            return self._shared(self.share, part, epoch, stop - group * size)
        whole = self.samples(part.rows, epoch, part.repeats)
        parts = (torch.split(tensor, self.batch_size) for tensor in whole)
        count = min(self.together, len(self) - group * self.together)
        return [Batch(*each) for each in islice(zip(*parts, strict=True), count)]

    def _shared(self, share: Share, part: Order, epoch: int, images: int) -> list[Batch]:
        """As `group`, of the same images, the rows that are one process's share."""
        device = self.feed.images.device
        starts = range(0, images, self.batch_size)
        if self.drop_last:
            starts = range(0, images - self.batch_size + 1, self.batch_size)
        shares = [share.of_batch(min(self.batch_size, images - start)) for start in starts]
        places = [
            torch.arange(start + rows.start, start + rows.start + rows.number, device=device)
            for start, own in zip(starts, shares, strict=True)
            for rows in own
        ]
        drawn = Order(_as_tensor(part.rows, device), part.repeats).at(torch.cat(places))
        made = self.samples(drawn.rows, epoch, drawn.repeats)
        counts = [sum(rows.number for rows in own) for own in shares]
        split = (torch.split(tensor, counts) for tensor in made)
        found: list[Batch] = []
        for own, images_and_labels in zip(shares, zip(*split, strict=True), strict=True):
            batch = SharedBatch(*images_and_labels)
            batch.rows = own
            found.append(batch)
        return found

    def samples(self, rows: Tensor | slice, epoch: int, repeats: Tensor | None = None) -> Batch:
        """The dataset's images at `rows` as training sees them in `epoch`.

        `repeats` says how often each came before in the epoch, int64 (B,); None: not at all.
        """
        feed, augmentation = self.feed, self.augmentation
        if augmentation is None:
            return feed.take(rows)
        indices = _as_tensor(rows, feed.images.device)
        images, labels = self._changed(augmentation, Order(indices, repeats), epoch)
        if augmentation.mixing is None:
            return Batch(feed.floats(images), labels)
        chance = augmentation.chance(indices, epoch, mixing.DRAWS, repeats=repeats)
        members = Order(self._members) if self.balance is None else self._order(epoch)
        places = augmentation.mixing.partners(chance, len(self.feed))
        others, their_labels = self._changed(augmentation, members.at(places), epoch)
        mixed = augmentation.mixing.blend(
            (feed.normalize(images), feed.normalize(others)), (labels, their_labels), chance
        )
        return Batch(feed.laid_out(mixed.images), mixed.labels)

    def rows(self, epoch: int, start: int, stop: int) -> Tensor:
        """The rows of the dataset that batches `start` to `stop` of `epoch` have, int64 (M,)."""
        if self.feed.mapped_file is not None:
            self.feed.mapped_file.check()
        first, last = start * self.batch_size, min(stop * self.batch_size, len(self.feed))
        rows = self._order(epoch).part(first, last).rows
        return _as_tensor(rows, self.feed.images.device)

    def order_ahead(self, epoch: int) -> None:
        """Have a thread draw the order of `epoch`, which will be asked for."""
        if self.shuffle and epoch not in self._orders and epoch not in self._asked:
            self._asked.clear()
            self._asked.add(epoch)
            _thread(os.getpid()).submit(self._order, epoch)

    def plain(self) -> Batches:
        """The same batches without augmentation."""
        return replace(self, augmentation=None)

    def _changed(
        self, augmentation: Augmentation, drawn: Order, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Images uint8 (B, C, H, W), changed, and labels (B,)."""
        assert isinstance(drawn.rows, Tensor)
        images, labels = self.feed.bytes_at(drawn.rows)
        return augmentation.images(images, drawn.rows, epoch, drawn.repeats), labels

    @cached_property
    def _members(self) -> Tensor:
        """Every training image, int64 (M,)."""
        return torch.from_numpy(self.feed.indices).to(self.feed.images.device)

    def _order(self, epoch: int) -> Order:
        key = epoch if self.shuffle else 0
        order = self._orders.get(key)
        if order is None:
            # list() in one go: other threads may add to the cache meanwhile.
            for old in [other for other in list(self._orders) if other < key - 1]:
                self._orders.pop(old, None)
            order = self._orders[key] = self._made_order(key)
        return order

    def _made_order(self, epoch: int) -> Order:
        if not self.shuffle:
            return Order(self.feed.rows(self.feed.indices))
        device = self.feed.images.device
        if self.balance is None:
            order = epoch_order(len(self.feed), self.seed, epoch)
            return Order(torch.from_numpy(self.feed.indices[order]).to(device))
        order = balanced_order(self.balance, self.seed, epoch)
        before = torch.from_numpy(repeats(order)).to(device)
        return Order(torch.from_numpy(self.feed.indices[order]).to(device), before)


@functools.cache
def _thread(_process: int) -> ThreadPoolExecutor:
    """Draws orders ahead, in this process; nobody waits for it, since an order that is not there
    yet is drawn by who needs it."""
    return ThreadPoolExecutor(1, "sartor-order")


def _part(rows: Tensor | slice, start: int, stop: int) -> Tensor | slice:
    if isinstance(rows, slice):
        return slice(rows.start + start, rows.start + stop)
    return rows[start:stop]


def _as_tensor(rows: Tensor | slice, device: torch.device) -> Tensor:
    return torch.arange(rows.start, rows.stop, device=device) if isinstance(rows, slice) else rows
