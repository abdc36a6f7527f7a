"""Randomness as a pure function, pinned: another stream would change every training."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.data.feed.order import balanced_order, epoch_order
from sartor.randomness import keys


class TestGoldenValues:
    """Whoever changes these makes every run of the past unrepeatable, and must say so."""

    @pytest.mark.parametrize(
        ("place", "order"),
        [
            ((10, 0, 0), [0, 8, 9, 3, 7, 5, 1, 2, 6, 4]),
            ((10, 0, 1), [4, 7, 8, 6, 1, 2, 9, 0, 5, 3]),
            ((10, 1, 0), [2, 0, 1, 4, 5, 6, 7, 8, 3, 9]),
            ((7, 2**32 - 1, 999_999), [3, 5, 6, 2, 1, 0, 4]),
        ],
    )
    def test_epoch_order(self, place: tuple[int, int, int], order: list[int]) -> None:
        assert epoch_order(*place).tolist() == order

    def test_epoch_order_of_many(self) -> None:
        order = epoch_order(60_000, 7, 3)
        assert order[-5:].tolist() == [22231, 54759, 46301, 37966, 31754]
        assert hashlib.sha256(order.tobytes()).hexdigest()[:16] == "37bd149ce1b0a45f"

    def test_keys(self) -> None:
        assert keys(3, 0, 1).tolist() == [
            0x9B7C56721DC8CD50,
            0x80F47C00870D0663,
            0x6DDD2F0EA3556E93,
        ]
        assert keys(2, 123, 2).tolist() == [6746663493725606371, 1804625515081088080]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3_000), st.integers(0, 2**32 - 1), st.integers(0, 10**6))
def test_every_epoch_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed, epoch)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(count))


def test_seed_and_epoch_matter() -> None:
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


def test_every_image_comes_to_every_place_equally_often() -> None:
    counts = np.zeros((6, 6))
    for epoch in range(6_000):
        counts[np.arange(6), epoch_order(6, 0, epoch)] += 1
    # A thousand expected in each cell, standard deviation 29; six of them never happen by chance.
    assert np.abs(counts - 1_000).max() < 6 * 29


def test_keys_do_not_depend_on_how_many_are_drawn() -> None:
    assert keys(5, 9, 1).tolist() == keys(500, 9, 1)[:5].tolist()


def test_streams_are_apart() -> None:
    drawn = [keys(100, 3, *stream) for stream in [(1,), (2,), (0, 1), (0, 2), (1, 1)]]
    assert len(np.unique(np.concatenate(drawn))) == 500


class TestBalanced:
    LABELS = np.repeat([0, 1, 3], [30, 5, 2])[np.random.default_rng(0).permutation(37)]

    def drawn(self, first: int, last: int, labels: np.ndarray = LABELS) -> np.ndarray:  # type: ignore[type-arg]
        """How often each image comes in some epochs."""
        orders = [balanced_order(labels, 5, epoch) for epoch in range(first, last)]
        return np.bincount(np.concatenate(orders), minlength=len(labels))

    def test_golden_values(self) -> None:
        assert balanced_order(np.array([0, 0, 0, 0, 0, 1]), 0, 0).tolist() == [1, 5, 5, 4, 3, 5]
        assert balanced_order(np.array([0, 0, 0, 0, 0, 1]), 0, 1).tolist() == [5, 0, 1, 2, 5, 5]

    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(st.integers(0, 4), min_size=1, max_size=60),
        st.integers(0, 2**32 - 1),
        st.integers(0, 1000),
    )
    def test_classes_are_equal_at_every_time(
        self, labels: list[int], seed: int, epoch: int
    ) -> None:
        array = np.array(labels)
        order = balanced_order(array, seed, epoch)
        assert order.dtype == np.int64
        assert len(order) == len(labels)
        counts = np.bincount(array[order], minlength=5)[np.unique(array)]
        assert counts.max() - counts.min() <= 1

    @pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 7), (3, 40), (999, 1040)])
    def test_images_of_a_class_are_drawn_equally_often(self, first: int, last: int) -> None:
        """Rounds cut at both ends differ by one at each; from the first epoch on, at one."""
        times = self.drawn(first, last)
        for label in (0, 1, 3):
            of_class = times[np.flatnonzero(label == self.LABELS)]
            assert of_class.max() - of_class.min() <= (1 if first == 0 else 2)
        sums = np.bincount(self.LABELS, weights=times)[[0, 1, 3]]
        assert sums.max() - sums.min() <= (1 if first == 0 else 2)

    def test_blocks_of_rounds_join(self) -> None:
        """A large class takes blocks of one round, a small one many epochs to end one."""
        labels = np.repeat([0, 1], [1500, 1500])
        times = self.drawn(0, 5, labels)
        assert times.tolist() == [5] * 3000
        assert self.drawn(0, 400)[self.LABELS == 3].tolist() == [2467, 2467]

    def test_order_is_mixed_and_new_every_epoch(self) -> None:
        orders = {tuple(balanced_order(self.LABELS, 1, epoch)) for epoch in range(30)}
        assert len(orders) == 30
        labels = np.repeat([0, 1], [50, 50])
        classes = labels[balanced_order(labels, 0, 0)]
        assert 20 < (np.diff(classes) != 0).sum() < 80
