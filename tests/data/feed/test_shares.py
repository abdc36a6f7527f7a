"""Law 1 across processes: whatever their number, together they see the batches that one sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.data.augment.pipeline import augmentation_of
from sartor.data.feed.ahead import prepared_ahead
from sartor.data.feed.batches import Batches, Feed, SharedBatch
from sartor.data.feed.shares import Share

COUNT = 47
IMAGES = torch.from_numpy(
    np.random.default_rng(0).integers(0, 255, (COUNT + 3, 1, 6, 6)).astype(np.uint8)
)
LABELS = torch.arange(COUNT + 3) ** 2 % 3


@given(images=st.integers(1, 300), size=st.integers(1, 40), parts=st.integers(1, 7))
def test_shares_are_an_exact_partition_of_every_part(images: int, size: int, parts: int) -> None:
    shares = [Share(rank, size, parts).of_batch(images) for rank in range(size)]
    starts = [start for start, *_ in torch.arange(images).split(-(-images // parts))]
    assert {len(own) for own in shares} == {len(starts)}
    seen = []
    for place, start in enumerate(starts):
        taken = []
        for own in shares:
            rows = own[place]
            assert rows.start - rows.first == start
            assert rows.number >= 1
            assert rows.first + rows.number <= rows.whole
            if rows.counts:
                taken.append(rows.number)
                seen += range(rows.start, rows.start + rows.number)
        assert max(taken) - min(taken) <= 1
        assert len(taken) == min(size, own[place].whole), "nobody idles who could work"
    assert seen == list(range(images))


@given(count=st.integers(0, 100), size=st.integers(1, 12))
def test_blocks_are_left_whole_and_given_out_once(count: int, size: int) -> None:
    given_out = [block for rank in range(size) for block in Share(rank, size).of_blocks(count)]
    assert given_out == list(range(count))


def batches(**changes: Any) -> Batches:
    settings: dict[str, Any] = {"batch_size": 8, "shuffle": True, "drop_last": False, "seed": 5}
    feed = Feed(
        images=IMAGES,
        labels=LABELS,
        indices=np.arange(3, COUNT + 3),
        normalize=lambda images: images.float() / 255,
    )
    return Batches(feed=feed, **settings | changes)


@pytest.mark.parametrize("size", [1, 2, 3, 11])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shuffle": False, "batch_size": 5},
        {"drop_last": True},
        {"batch_size": 100},
        {"balance": LABELS[3:].numpy(), "augment": ["flip", "crop=1"]},
        {"augment": ["shift=1", "mixup", "cutmix"], "batch_size": 15},
    ],
)
@pytest.mark.parametrize("parts", [1, 3])
def test_rows_of_all_processes_are_the_batch_of_one(
    changes: dict[str, Any], size: int, parts: int
) -> None:
    words = changes.get("augment", [])
    augmentation = augmentation_of(words, seed=5, num_classes=3, mean=[0.5])
    rest = {key: value for key, value in changes.items() if key != "augment"}
    one = batches(augmentation=augmentation, **rest)
    shared = [replace(one, share=Share(rank, size, parts)) for rank in range(size)]
    for epoch in (0, 1):
        for position in reversed(range(len(one))):
            whole = one.batch(epoch, position)
            images, labels = torch.full_like(whole.images, -1), torch.full_like(whole.labels, -1)
            for rank, source in enumerate(shared):
                with prepared_ahead(source, workers=rank % 2) as made:
                    batch = made.batch(epoch, position)
                assert isinstance(batch, SharedBatch)
                place = 0
                for rows in batch.rows:
                    own = slice(rows.start, rows.start + rows.number)
                    images[own] = batch.images[place : place + rows.number]
                    labels[own] = batch.labels[place : place + rows.number]
                    place += rows.number
                assert place == len(batch.images) == len(batch.labels)
            assert torch.equal(images, whole.images)
            assert torch.equal(labels, whole.labels)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_evaluation_gives_out_each_image_once_in_the_batches_of_one(size: int) -> None:
    feed = batches().feed
    found = [batch.images for rank in range(size) for batch in feed.in_order(7, Share(rank, size))]
    expected = [batch.images for batch in feed.in_order(7)]
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
