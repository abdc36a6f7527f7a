"""Law 1: a batch is a pure function of (seed, epoch, position)."""

from __future__ import annotations

import signal
import sys
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import enumerate as enumerate_threads

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sartor.data.augment.pipeline import augmentation_of
from sartor.data.feed.ahead import Ahead, prepared_ahead
from sartor.data.feed.batches import Batch, Batches, Feed
from sartor.data.feed.order import balanced_order, epoch_order, repeats

COUNT = 53


def halved(images: Tensor) -> Tensor:
    return images.to(torch.float32).mul_(0.5)


def feed_of(indices: object = None, count: int = COUNT) -> Feed:
    """A dataset whose image k is filled with k, and whose label k is 1000 + k."""
    indices = np.arange(count) if indices is None else np.array(indices, np.int64)
    return Feed(
        images=torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 2, 2),
        labels=torch.arange(1000, 1000 + count),
        indices=indices,
        normalize=halved,
    )


def batches_of(**changes: object) -> Batches:
    plain = Batches(feed=feed_of(), batch_size=8, shuffle=True, drop_last=False, seed=5)
    return replace(plain, **changes)  # type: ignore[arg-type]


def grouped(batches: Batches, together: int) -> Batches:
    """The same, drawing so many batches at once."""
    vars(batches)["together"] = together
    return batches


def shown(batch: Batch) -> list[int]:
    """The dataset's indices in a batch, and proof that images and labels belong together."""
    rows = batch.labels - 1000
    assert torch.equal(batch.images, (rows / 2).view(-1, 1, 1, 1).expand(-1, 3, 2, 2))
    return rows.tolist()


def epoch_of(batches: Batches | Ahead, epoch: int) -> list[list[int]]:
    return [shown(batches.batch(epoch, position)) for position in range(len(batches))]


PLACES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), max_size=40)
REFERENCE = {
    (epoch, position): grouped(batches_of(), 1).batch(epoch, position)
    for epoch in range(10)
    for position in range(7)
}


def assert_same_bits(batch: Batch, place: tuple[int, int]) -> None:
    assert torch.equal(batch.images, REFERENCE[place].images)
    assert torch.equal(batch.labels, REFERENCE[place].labels)


class TestPurity:
    @settings(deadline=None, max_examples=50)
    @given(PLACES, st.integers(1, 8))
    def test_no_order_of_calls_matters(self, places: list[tuple[int, int]], together: int) -> None:
        batches = grouped(batches_of(), together)
        for place in places:
            assert_same_bits(batches.batch(*place), place)

    @settings(deadline=None, max_examples=25)
    @given(PLACES, st.integers(1, 4), st.integers(1, 8))
    def test_no_worker_matters(
        self, places: list[tuple[int, int]], workers: int, together: int
    ) -> None:
        ahead = Ahead(grouped(batches_of(), together), workers)
        try:
            for place in places:
                assert_same_bits(ahead.batch(*place), place)
        finally:
            ahead.close()

    def test_no_thread_matters(self) -> None:
        places = [place for _ in range(10) for place in REFERENCE]
        batches = grouped(batches_of(), 2)
        with often_switching(), ThreadPoolExecutor(8) as pool:
            for place, batch in zip(
                places, pool.map(lambda p: batches.batch(*p), places), strict=True
            ):
                assert_same_bits(batch, place)

    def test_the_order_is_that_of_seed_and_epoch(self) -> None:
        for epoch in range(3):
            order = [row for batch in epoch_of(batches_of(), epoch) for row in batch]
            assert order == epoch_order(COUNT, 5, epoch).tolist()

    def test_a_subset_is_shuffled_within_itself(self) -> None:
        indices = [40, 3, 17, 8, 52]
        batches = batches_of(feed=feed_of(indices), batch_size=2)
        order = [row for batch in epoch_of(batches, 4) for row in batch]
        assert order == [indices[k] for k in epoch_order(5, 5, 4)]

    def test_a_batch_handed_out_may_be_changed(self) -> None:
        """Augmentation in place must not reach the dataset, nor the next epoch."""
        batches = batches_of(shuffle=False)
        batches.batch(0, 0).images.zero_()
        assert shown(batches.batch(1, 0)) == list(range(8))

    def test_golden_values(self) -> None:
        """Whoever changes these makes every run of the past unrepeatable, and must say so."""
        batches = Batches(
            feed=feed_of(count=10), batch_size=4, shuffle=True, drop_last=False, seed=0
        )
        assert epoch_of(batches, 0) == [[0, 8, 9, 3], [7, 5, 1, 2], [6, 4]]
        assert epoch_of(batches, 1) == [[4, 7, 8, 6], [1, 2, 9, 0], [5, 3]]


class often_switching:  # noqa: N801
    """Inside, threads take turns as often as possible, so that races show."""

    def __enter__(self) -> None:
        self.before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)

    def __exit__(self, *_: object) -> None:
        sys.setswitchinterval(self.before)


class TestEpoch:
    @settings(deadline=None, max_examples=60)
    @given(st.integers(1, COUNT), st.integers(1, 60), st.booleans(), st.booleans())
    def test_every_image_exactly_once(
        self, count: int, batch_size: int, shuffle: bool, drop_last: bool
    ) -> None:
        feed = feed_of(np.random.default_rng(count).permutation(COUNT)[:count])
        batches = batches_of(feed=feed, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last)
        epoch = epoch_of(batches, 2)
        rows = [row for batch in epoch for row in batch]
        assert len(rows) == len(set(rows)) == min(len(batches) * batch_size, count)
        assert set(rows) <= set(feed.indices.tolist())
        whole, rest = divmod(count, batch_size)
        if drop_last:
            assert [len(batch) for batch in epoch] == [batch_size] * whole
        else:
            assert [len(batch) for batch in epoch] == [batch_size] * whole + [rest] * (rest > 0)

    def test_order_of_the_files(self) -> None:
        batches = batches_of(shuffle=False, batch_size=20)
        for epoch in (0, 3):
            assert [row for batch in epoch_of(batches, epoch) for row in batch] == list(
                range(COUNT)
            )

    def test_order_of_the_files_within_a_subset(self) -> None:
        batches = batches_of(feed=feed_of([9, 2, 30, 31]), shuffle=False, batch_size=3)
        assert epoch_of(batches, 7) == [[9, 2, 30], [31]]

    def test_ahead_says_the_same_of_its_size(self) -> None:
        batches = batches_of(drop_last=True)
        ahead = Ahead(batches, 2)
        assert len(ahead) == len(batches) == 6
        ahead.close()


class TestFeed:
    INDICES = st.one_of(
        st.tuples(st.integers(0, COUNT - 1), st.integers(1, COUNT)).map(
            lambda p: list(range(p[0], min(COUNT, p[0] + p[1])))
        ),
        st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=COUNT),
    )

    @settings(deadline=None, max_examples=60)
    @given(INDICES, st.integers(1, 20))
    @example([3, 5, 4, 6], 2)
    def test_in_order_shows_each_index_once_in_its_place(
        self, indices: list[int], batch_size: int
    ) -> None:
        feed = feed_of(indices)
        parts = [shown(batch) for batch in feed.in_order(batch_size)]
        assert [row for part in parts for row in part] == indices
        assert {len(part) for part in parts[:-1]} <= {batch_size}

    @settings(deadline=None, max_examples=60)
    @given(INDICES)
    @example([3, 5, 4, 6])
    @example([3, 3, 5])
    def test_slices_equal_gathers(self, indices: list[int]) -> None:
        feed = feed_of()
        rows = feed.rows(np.array(indices))
        gathered, direct = feed.take(torch.tensor(indices)), feed.take(rows)
        assert torch.equal(gathered.images, direct.images)
        assert torch.equal(gathered.labels, direct.labels)

    def test_neighbours_are_a_slice(self) -> None:
        assert feed_of().rows(np.arange(5, 20)) == slice(5, 20)

    def test_no_index_gives_no_batch(self) -> None:
        assert list(feed_of([]).in_order(4)) == []

    @pytest.mark.parametrize("rows", [slice(2, 9), torch.tensor([8, 0, 3])])
    def test_layout_changes_no_value(self, rows: Tensor | slice) -> None:
        plain, last = feed_of().take(rows), channels_last(feed_of()).take(rows)
        assert last.images.is_contiguous(memory_format=torch.channels_last)
        assert not last.images.is_contiguous()
        assert torch.equal(plain.images, last.images)


def channels_last(feed: Feed) -> Feed:
    return replace(feed, memory_format=torch.channels_last)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own answer to Ctrl-C, which a shell's background jobs begin without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestAhead:
    def test_prepares_batches_before_they_are_asked_for(self) -> None:
        made: list[int] = []
        ahead = Ahead(grouped(batches_of(feed=recording(feed_of(), made)), 1), workers=2)
        ahead.batch(0, 5)
        # Four more, across the end of the epoch, which has seven.
        assert sorted(ahead._coming) == [(0, 6), (1, 0), (1, 1), (1, 2)]
        coming = [task.result() for task in ahead._coming.values()]
        assert [len(batch.labels) for group in coming for batch in group.values()] == [5, 8, 8, 8]
        assert sum(made) == 8 + 5 + 3 * 8
        ahead.close()

    def test_prepares_groups_of_batches(self) -> None:
        made: list[int] = []
        ahead = Ahead(grouped(batches_of(feed=recording(feed_of(), made)), 3), workers=1)
        ahead.batch(0, 4)
        assert sorted(ahead._coming) == [(0, 1), (0, 2)]
        coming = [sorted(task.result()) for _, task in sorted(ahead._coming.items())]
        assert coming == [[3, 5], [6]]
        assert made == [24, 5], "each group at once"
        ahead.close()

    def test_a_batch_handed_out_may_be_changed(self) -> None:
        ahead = Ahead(batches_of(), workers=1)
        ahead.batch(0, 0).images.zero_()
        assert_same_bits(ahead.batch(0, 0), (0, 0))
        ahead.close()

    def test_a_fault_in_a_thread_comes_out_where_the_batch_is_asked_for(self) -> None:
        ahead = Ahead(batches_of(feed=replace(feed_of(), normalize=failing)), workers=1)
        with pytest.raises(ValueError, match="no such image"):
            ahead.batch(0, 0)
        ahead.close()

    @pytest.mark.usefixtures("interruptible")
    def test_an_interruption_waits_for_one_group_at_most(self) -> None:
        made: list[int] = []

        def normalize(images: Tensor) -> Tensor:
            made.append(1)
            if len(made) == 2:
                interrupt_main()
            time.sleep(0.1)
            return halved(images)

        batches = grouped(batches_of(feed=replace(feed_of(), normalize=normalize)), 1)

        def train() -> None:
            with prepared_ahead(batches, 1) as ahead:
                for position in range(len(ahead)):
                    ahead.batch(0, position)
                    time.sleep(0.15)

        with pytest.raises(KeyboardInterrupt):
            train()
        assert len(made) <= 4
        assert not [thread for thread in enumerate_threads() if "sartor-batch" in thread.name]

    def test_takes_one_core_a_thread_and_leaves_the_others_to_training(self) -> None:
        threads: list[int] = []

        def normalize(images: Tensor) -> Tensor:
            threads.append(torch.get_num_threads())
            return halved(images)

        torch.set_num_threads(2)
        ahead = Ahead(batches_of(feed=replace(feed_of(), normalize=normalize)), workers=2)
        ahead.batch(0, 0)
        ahead.close()
        assert set(threads) == {1}
        assert torch.get_num_threads() == 2

    def test_forgets_batches_that_are_past(self) -> None:
        ahead = Ahead(batches_of(), workers=2)
        for epoch in range(3):
            epoch_of(ahead, epoch)
            assert len(ahead._coming) <= 3
        ahead.close()


def recording(feed: Feed, made: list[int]) -> Feed:
    def normalize(images: Tensor) -> Tensor:
        made.append(len(images))
        return halved(images)

    return replace(feed, normalize=normalize)


def failing(_: Tensor) -> Tensor:
    raise ValueError("no such image")


def test_no_more_than_a_few_orders_are_remembered() -> None:
    """An order of a million images takes 8 MB; a thousand epochs must not keep them all."""
    batches = batches_of()
    for epoch in range(50):
        batches.batch(epoch, 0)
    assert len(batches._orders) <= 3
    assert {epoch for epoch, _ in batches._made} <= {49}


def test_an_order_drawn_ahead_is_the_same() -> None:
    batches, others = batches_of(), batches_of()
    for epoch in range(4):
        batches.order_ahead(epoch + 1)
        ours, theirs = batches.rows(epoch, 0, len(batches)), others.rows(epoch, 0, len(others))
        assert torch.equal(ours, theirs)
        batches.order_ahead(epoch + 1)
    assert len(batches._orders) <= 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_cache_of_orders_survives_many_threads() -> None:
    """Every thread adds an order while others look for old ones to drop."""
    places = [(epoch, 0) for epoch in range(600)]
    batches = batches_of()
    call: Callable[[tuple[int, int]], Batch] = lambda place: batches.batch(*place)  # noqa: E731
    with often_switching(), ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(call, places))) == 600


class TestAugmented:
    """What augmentation does to a sample depends neither on the batch nor on who makes it."""

    @staticmethod
    def batches(**changes: object) -> Batches:
        generator = torch.Generator().manual_seed(2)
        feed = Feed(
            images=torch.randint(0, 256, (COUNT, 3, 6, 5), dtype=torch.uint8, generator=generator),
            labels=torch.arange(COUNT) % 4,
            indices=np.arange(3, COUNT),
            normalize=halved,
        )
        words = ["flip", "crop=2", "rotate=20", "erase=0.5", "mixup", "cutmix"]
        augmentation = augmentation_of(words, seed=5, num_classes=4, mean=(0.5, 0.5, 0.5))
        plain = Batches(
            feed=feed,
            batch_size=8,
            shuffle=True,
            drop_last=False,
            seed=5,
            augmentation=augmentation,
        )
        return replace(plain, **changes)  # type: ignore[arg-type]

    @staticmethod
    def epoch(batches: Batches | Ahead, epoch: int) -> Batch:
        parts = [batches.batch(epoch, position) for position in range(len(batches))]
        images, labels = zip(*parts, strict=True)
        return Batch(torch.cat(images), torch.cat(labels))

    @pytest.mark.parametrize("together", [1, 2, 50])
    @pytest.mark.parametrize("batch_size", [1, 7, 50])
    def test_no_size_of_batch_matters(self, batch_size: int, together: int) -> None:
        expected = self.epoch(grouped(self.batches(), 1), 2)
        epoch = self.epoch(grouped(self.batches(batch_size=batch_size), together), 2)
        assert torch.equal(epoch.images, expected.images)
        assert torch.equal(epoch.labels, expected.labels)

    def test_neither_does_the_order(self) -> None:
        order = self.batches().feed.indices[epoch_order(COUNT - 3, 5, 2)] - 3
        shuffled = self.epoch(self.batches(), 2)
        in_order = self.epoch(self.batches(shuffle=False), 2)
        assert torch.equal(shuffled.images, in_order.images[order])
        assert torch.equal(shuffled.labels, in_order.labels[order])

    @pytest.mark.parametrize("workers", [1, 3])
    def test_nor_the_threads(self, workers: int) -> None:
        expected = [self.epoch(self.batches(), epoch) for epoch in range(3)]
        ahead = Ahead(self.batches(), workers)
        with often_switching():
            for epoch, batch in enumerate(expected):
                again = self.epoch(ahead, epoch)
                assert torch.equal(again.images, batch.images)
                assert torch.equal(again.labels, batch.labels)
        ahead.close()

    def test_epochs_differ_and_the_images_stay(self) -> None:
        batches = self.batches(shuffle=False)
        before = batches.feed.images.clone()
        one, other = self.epoch(batches, 0), self.epoch(batches, 1)
        assert (one.images != other.images).flatten(1).any(1).float().mean() > 0.9
        assert torch.equal(batches.feed.images, before)

    def test_alternating_flips_mirror_every_second_epoch(self) -> None:
        flips = augmentation_of(["flip=alternating"], seed=5, num_classes=4, mean=(0.5,) * 3)
        batches = self.batches(augmentation=flips, shuffle=False)
        first, second, third = (self.epoch(grouped(batches, 3), epoch).images for epoch in range(3))
        assert torch.equal(second, first.flip(3))
        assert torch.equal(third, first)
        plain = self.epoch(batches.plain(), 0).images
        mirrored = (first != plain).flatten(1).any(1)
        assert 0.2 < mirrored.float().mean() < 0.8
        assert torch.equal(first[mirrored], plain[mirrored].flip(3))

    def test_plain_ones_are_as_without(self) -> None:
        plain = self.batches().plain()
        without = self.batches(augmentation=None)
        assert torch.equal(plain.batch(1, 2).images, without.batch(1, 2).images)

    def test_mixed_with_training_images_alone(self) -> None:
        """The first three stand for the validation split: white, they would shine through."""
        batches = self.batches(
            augmentation=augmentation_of(["mixup=1"], seed=0, num_classes=4, mean=(0.5,) * 3)
        )
        batches.feed.images[:3] = 255
        batches.feed.images[3:] = 0
        assert all(self.epoch(batches, epoch).images.max() == 0 for epoch in range(5))

    def test_layout_changes_no_value(self) -> None:
        batches = self.batches()
        last = replace(batches, feed=channels_last(batches.feed))
        assert torch.equal(last.batch(0, 1).images, batches.batch(0, 1).images)
        assert last.batch(0, 1).images.is_contiguous(memory_format=torch.channels_last)


def test_balanced_batches_follow_their_order() -> None:
    labels = np.repeat([0, 1], [13, 7])
    chosen = np.arange(10, 30)
    batches = batches_of(feed=feed_of(chosen), balance=labels)
    for epoch in (2, 0):
        order = balanced_order(labels, 5, epoch)
        given_out = [row for batch in epoch_of(batches, epoch) for row in batch]
        assert given_out == chosen[order].tolist()
        assert len(batches) == 3


class TestBalanced:
    """A class of 20 pictures among 480: each is drawn a dozen times in an epoch."""

    LABELS = np.arange(500) >= 480

    def batches(self, augment: str, batch_size: int = 50) -> Batches:
        rng = np.random.default_rng(0)
        feed = Feed(
            images=torch.from_numpy(rng.integers(0, 255, (500, 1, 12, 12), np.uint8)),
            labels=torch.from_numpy(self.LABELS.astype(np.int64)),
            indices=np.arange(500),
            normalize=halved,
        )
        return Batches(
            feed=feed,
            batch_size=batch_size,
            shuffle=True,
            drop_last=False,
            seed=3,
            augmentation=augmentation_of([augment], seed=3, num_classes=2, mean=(0.5,)),
            balance=self.LABELS.astype(np.int64),
        )

    def epoch(self, batches: Batches, epoch: int = 0) -> Batch:
        made = [batches.batch(epoch, position) for position in range(len(batches))]
        return Batch(*(torch.cat(parts) for parts in zip(*made, strict=True)))

    def test_no_repeated_picture_is_a_copy(self) -> None:
        images, labels = self.epoch(self.batches("rotate=180"))
        rare = images[labels == 1]
        assert len(rare) == 250
        assert len(torch.unique(rare.flatten(1), dim=0)) > 240

    def test_the_first_time_it_looks_as_without_repeats(self) -> None:
        batches = self.batches("rotate=180")
        rows = torch.arange(500)
        zeros = torch.zeros(500, dtype=torch.int64)
        first, again = batches.samples(rows, 2), batches.samples(rows, 2, zeros)
        assert torch.equal(first.images, again.images)
        assert not torch.equal(first.images, batches.samples(rows, 2, zeros + 1).images)

    def test_the_batch_in_which_it_comes_does_not_matter(self) -> None:
        one, other = (self.epoch(self.batches("crop=3", size), 1) for size in (50, 7))
        assert torch.equal(one.images, other.images)

    @pytest.mark.parametrize("word", ["mixup", "cutmix"])
    def test_half_of_the_label_mass_is_of_each_class(self, word: str) -> None:
        batches = self.batches(word)
        shares = torch.cat([self.epoch(batches, epoch).labels for epoch in range(4)]).mean(dim=0)
        assert shares.tolist() == pytest.approx([0.5, 0.5], abs=0.03)

    def test_partners_look_as_they_do_in_their_own_right(self) -> None:
        """A row's partner is one of the epoch's own samples."""
        batches = self.batches("mixup")
        order = batches._order(0)
        assert order.repeats is not None
        pairs = set(zip(order.rows.tolist(), order.repeats.tolist(), strict=True))  # type: ignore[union-attr]
        assert len(pairs) == 500


@given(st.lists(st.integers(-3, 6), max_size=40))
def test_repeats_are_counted(order: list[int]) -> None:
    expected = [order[:place].count(value) for place, value in enumerate(order)]
    assert repeats(np.array(order, np.int64)).tolist() == expected
