"""Batches divide the images of an epoch exactly, for any number, size, seed and order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.data.feed.batches import Batches, Feed


def made(
    count: int, size: int, seed: int, *, shuffle: bool, drop_last: bool, balanced: bool, **more: Any
) -> Batches:
    """Batches of images that say their own number."""
    chance = np.random.default_rng(seed)
    numbers = np.arange(2 * count, dtype="<u4")
    images = torch.from_numpy(numbers.view(np.uint8).reshape(-1, 1, 2, 2).copy())
    indices = np.sort(chance.choice(2 * count, count, replace=False)).astype(np.int64)
    labels = torch.from_numpy(chance.integers(0, 3, 2 * count))
    return Batches(
        feed=Feed(images=images, labels=labels, indices=indices, normalize=lambda one: one.float()),
        batch_size=size,
        shuffle=shuffle or balanced,
        drop_last=drop_last,
        seed=seed,
        balance=labels.numpy()[indices] if balanced else None,
        **more,
    )


def numbers_in(images: torch.Tensor) -> list[int]:
    bytes_ = images.to(torch.uint8).reshape(len(images), 4).numpy()
    return np.ascontiguousarray(bytes_).view("<u4")[:, 0].tolist()  # type: ignore[no-any-return]


ANY = {
    "count": st.integers(1, 300) | st.sampled_from([1, 2, 63, 64, 65, 1000]),
    "size": st.integers(1, 80) | st.sampled_from([1, 64, 2000]),
    "seed": st.integers(0, 2**32 - 1),
    "epoch": st.integers(0, 10**6),
    "shuffle": st.booleans(),
    "drop_last": st.booleans(),
    "balanced": st.booleans(),
}


@settings(max_examples=100)
@given(**ANY, chance=st.randoms(use_true_random=False))
def test_an_epoch_is_divided_exactly(
    count: int,
    size: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    drop_last: bool,
    balanced: bool,
    chance: Any,
) -> None:
    flags = {"shuffle": shuffle, "drop_last": drop_last, "balanced": balanced}
    batches = made(count, size, seed, **flags)
    places = list(range(len(batches)))
    assert len(batches) == (count // size if drop_last else -(-count // size))
    found = {place: batches.batch(epoch, place) for place in places}
    sizes = [len(found[place].labels) for place in places]
    assert all(length == size for length in sizes[:-1])
    assert sum(sizes) == (count // size * size if drop_last else count)
    together = [number for place in places for number in numbers_in(found[place].images)]
    if not balanced:
        assert len(set(together)) == len(together), "no image twice"
        assert set(together) <= set(batches.feed.indices.tolist())
    for place in places:
        numbers = numbers_in(found[place].images)
        assert found[place].labels.tolist() == batches.feed.labels[numbers].tolist()
    # Asked for in any order, and of a feed made again, they are the same: a pure function.
    again = made(count, size, seed, **flags)
    chance.shuffle(places)
    for place in places[:5]:
        other = again.batch(epoch, place)
        assert torch.equal(other.images, found[place].images)
        assert torch.equal(other.labels, found[place].labels)


@settings(max_examples=60)
@given(st.integers(1, 200), st.integers(1, 70))
def test_evaluation_sees_every_image_once(count: int, size: int) -> None:
    batches = made(count, size, 0, shuffle=False, drop_last=False, balanced=False)
    seen = [number for one in batches.feed.in_order(size) for number in numbers_in(one.images)]
    assert seen == batches.feed.indices.tolist()
