"""Several processes divide each batch exactly, for any number of images, processes and parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.data.feed.batches import Batches, Feed

shares = pytest.importorskip("sartor.data.feed.shares")
WORLD, PARTS = st.integers(1, 9), st.integers(1, 4)


def made(count: int, size: int, seed: int, balanced: bool, share: Any = None) -> Batches:
    """Batches of images that say their own number."""
    numbers = np.arange(count, dtype="<u4")
    labels = np.random.default_rng(seed).integers(0, 3, count)
    more = {} if share is None else {"share": share}
    return Batches(
        feed=Feed(
            images=torch.from_numpy(numbers.view(np.uint8).reshape(-1, 1, 2, 2).copy()),
            labels=torch.from_numpy(labels),
            indices=np.arange(count),
            normalize=lambda images: images.float(),
        ),
        batch_size=size,
        shuffle=True,
        drop_last=False,
        seed=seed,
        balance=labels if balanced else None,
        **more,
    )


@given(st.integers(1, 500), WORLD, PARTS)
def test_the_rows_of_a_batch_are_divided_exactly(images: int, world: int, parts: int) -> None:
    rows = [shares.Share(rank, world, parts).of_batch(images) for rank in range(world)]
    counted = [
        row
        for own in rows
        for part in own
        if part.counts
        for row in range(part.start, part.start + part.number)
    ]
    assert sorted(counted) == list(range(images))
    assert len({len(own) for own in rows}) == 1, "all make as many passes"
    for own in zip(*rows, strict=True):
        numbers = [part.number for part in own]
        assert min(numbers) >= 1, "each takes part in what all do"
        assert max(numbers) - min(numbers) <= 1
        assert len({part.whole for part in own}) == 1


@given(st.integers(0, 300), WORLD)
def test_blocks_are_divided_exactly_and_in_order(count: int, world: int) -> None:
    blocks = [shares.Share(rank, world).of_blocks(count) for rank in range(world)]
    assert [block for own in blocks for block in own] == list(range(count))


@settings(max_examples=60)
@given(
    st.integers(1, 200),
    st.integers(1, 70),
    st.integers(0, 2**32 - 1),
    st.integers(0, 10**6),
    WORLD,
    PARTS,
    st.booleans(),
)
def test_together_they_see_the_batch_of_one_process(
    count: int, size: int, seed: int, epoch: int, world: int, parts: int, balanced: bool
) -> None:
    alone = made(count, size, seed, balanced)
    several = [
        made(count, size, seed, balanced, shares.Share(rank, world, parts)) for rank in range(world)
    ]
    assert {len(one) for one in several} == {len(alone)}
    for position in range(len(alone)):
        whole = alone.batch(epoch, position)
        images, labels = torch.empty_like(whole.images), torch.empty_like(whole.labels)
        seen = torch.zeros(len(labels), dtype=torch.int64)
        for one in several:
            batch: Any = one.batch(epoch, position)
            place = 0
            for rows in batch.rows:
                stop = place + rows.number
                if rows.counts:
                    target = slice(rows.start, rows.start + rows.number)
                    images[target], labels[target] = (
                        batch.images[place:stop],
                        batch.labels[place:stop],
                    )
                    seen[target] += 1
                place = stop
            assert place == len(batch.labels)
        assert (seen == 1).all()
        assert torch.equal(images, whole.images)
        assert torch.equal(labels, whole.labels)
