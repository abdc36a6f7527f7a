"""Batches as a pure function of (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .augment import mixing
from .augment.chance import Chance
from .augment.pipeline import Augmentation
from .dataset import Int64Array
from .mapped import ReadAhead
from .order import balanced_order, epoch_order

_BYTES_TOGETHER = 1 << 20
"""Neighbouring batches are gathered and changed together up to this size, which fits a core's
cache: a hundred calls of PyTorch for each small batch would take longer than their work."""
_BYTES_TOGETHER_ON_DEVICE = 1 << 24


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
    read_ahead: ReadAhead | None = None
    """How the images are read where they lie in a file too large for memory."""

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, rows: Tensor | slice) -> Batch:
        """The batch of the dataset's images at `rows`."""
        images, labels = self.bytes_at(rows)
        return Batch(self.floats(images), labels)

    def bytes_at(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The images at `rows` as they are, uint8 (B, C, H, W), and their labels (B,)."""
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


class Drawn(NamedTuple):
    """Samples of an epoch as bytes: changed as augmentation says, but not mixed yet."""

    images: Tensor
    """uint8 (B, C, H, W)."""
    labels: Tensor
    """int64 (B,)."""
    partners: Drawn | None = None
    """What each is mixed with, where pictures are mixed."""
    chance: Chance | None = None
    """How they are mixed."""

    def part(self, start: int, stop: int) -> Drawn:
        """Some of the samples."""
        images, labels = self.images[start:stop], self.labels[start:stop]
        if self.partners is None or self.chance is None:
            return Drawn(images, labels)
        partners = self.partners.part(start, stop)
        return Drawn(images, labels, partners, self.chance.of(start, stop))


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
    # Caches, not states: each value follows from its key.
    _orders: dict[int, Tensor | slice] = field(default_factory=dict, init=False, repr=False)
    _drawn: dict[tuple[int, int], Drawn] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.feed), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def batch(self, epoch: int, position: int) -> Batch:
        """Batch `position` of `epoch`, both counted from 0."""
        group, place = divmod(position, self.together)
        drawn = self._drawn.get((epoch, group))
        if drawn is None:
            # The one before it would most likely not be asked for again.
            self._drawn.clear()
            drawn = self._drawn[epoch, group] = self._group(epoch, group)
        return self._finished(drawn, place)

    @cached_property
    def together(self) -> int:
        """How many neighbouring batches, a group, are drawn at once."""
        images = self.feed.images
        limit = _BYTES_TOGETHER if images.device.type == "cpu" else _BYTES_TOGETHER_ON_DEVICE
        return max(1, limit // (self.batch_size * images.shape[1:].numel()))

    def group(self, epoch: int, group: int) -> list[Batch]:
        """The batches `group` * `together` and following of `epoch`."""
        drawn = self._group(epoch, group)
        count = min(self.together, len(self) - group * self.together)
        return [self._finished(drawn, place) for place in range(count)]

    def samples(self, rows: Tensor | slice, epoch: int) -> Batch:
        """The dataset's images at `rows` as training sees them in `epoch`."""
        return self._mixed(self._draw(rows, epoch))

    def plain(self) -> Batches:
        """The same batches without augmentation."""
        return replace(self, augmentation=None)

    def _group(self, epoch: int, group: int) -> Drawn:
        size = self.together * self.batch_size
        start = group * size
        return self._draw(
            _part(self._order(epoch), start, min(start + size, len(self.feed))), epoch
        )

    def _finished(self, drawn: Drawn, place: int) -> Batch:
        start = place * self.batch_size
        return self._mixed(drawn.part(start, start + self.batch_size))

    def _mixed(self, drawn: Drawn) -> Batch:
        feed = self.feed
        if drawn.partners is None or drawn.chance is None:
            return Batch(feed.floats(drawn.images), drawn.labels)
        assert self.augmentation is not None, "who mixes augments"
        assert self.augmentation.mixing is not None, "it found the partners"
        images = (feed.normalize(drawn.images), feed.normalize(drawn.partners.images))
        labels = (drawn.labels, drawn.partners.labels)
        mixed = self.augmentation.mixing.blend(images, labels, drawn.chance)
        return Batch(feed.laid_out(mixed.images), mixed.labels)

    def _draw(self, rows: Tensor | slice, epoch: int) -> Drawn:
        augmentation = self.augmentation
        if augmentation is None:
            return Drawn(*self.feed.bytes_at(rows))
        rows = _as_tensor(rows, self.feed.images.device)
        drawn = self._changed(augmentation, rows, epoch)
        if augmentation.mixing is None:
            return drawn
        chance = augmentation.chance(rows, epoch, mixing.DRAWS)
        partners = augmentation.mixing.partners(chance, self._members)
        return drawn._replace(partners=self._changed(augmentation, partners, epoch), chance=chance)

    def _changed(self, augmentation: Augmentation, rows: Tensor, epoch: int) -> Drawn:
        images, labels = self.feed.bytes_at(rows)
        return Drawn(augmentation.images(images, rows, epoch), labels)

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
