"""A dataset in figures, against NumPy in double precision."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.data.dataset import Dataset
from sartor.data.description import channel_statistics, describe


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(0, 255))
def test_statistics_are_those_of_numpy(seed: int, channels: int, count: int, high: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, high + 1, (50, channels, 3, 4)).astype(np.uint8)
    indices = rng.choice(50, count, replace=False)
    mean, std = channel_statistics(images, indices)
    exact = images[indices].astype(np.float64) / 255
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), atol=5.1e-7)
    spread = exact.std((0, 2, 3))
    np.testing.assert_allclose(std, np.where(spread < 5e-7, 1.0, spread), atol=5.1e-7)


def test_statistics_of_many_parts_depend_on_no_order() -> None:
    """Enough pixels for several parts, with a part left over."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2_100, 1, 50, 50), np.uint8)
    statistics = channel_statistics(images, np.arange(2_100))
    assert channel_statistics(images, rng.permutation(2_100)) == statistics
    np.testing.assert_allclose(statistics[0], images.mean() / 255, atol=5.1e-7)
    np.testing.assert_allclose(statistics[1], images.std() / 255, atol=5.1e-7)


def test_statistics_of_large_images_take_little_memory() -> None:
    images = np.zeros((200, 3, 224, 224), np.uint8)
    tracemalloc.start()
    channel_statistics(images, np.arange(200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000


@pytest.mark.parametrize("value", [0, 1, 77, 200, 255])
def test_a_constant_channel_can_be_divided_by(value: int) -> None:
    images = np.full((7, 1, 3, 3), value, np.uint8)
    assert channel_statistics(images, np.arange(7)) == ((round(value / 255, 6),), (1.0,))


class TestDescribe:
    IMAGES = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    LABELS = np.array([0, 1, 1, 2, 2, 2])

    def test_without_a_test_part(self) -> None:
        figures = describe(Dataset(self.IMAGES, self.LABELS, ("a", "b", "c"), name="toys"))
        assert json.loads(json.dumps(figures)) == figures
        assert figures["set"] == "toys"
        assert figures["count"] == 6
        assert figures["parts"] == {"all": 6}
        assert figures["shape"] == [1, 2, 2]
        assert figures["classes"] == [
            {"class": "a", "all": 1},
            {"class": "b", "all": 2},
            {"class": "c", "all": 3},
        ]
        assert figures["mean"] == pytest.approx([self.IMAGES.mean() / 255], abs=5e-7)
        assert figures["std"] == pytest.approx([self.IMAGES.std() / 255], abs=5e-7)

    def test_mean_and_spread_do_not_see_the_test_part(self) -> None:
        dataset = Dataset(self.IMAGES, self.LABELS, test=np.array([5, 0]))
        figures = describe(dataset)
        assert figures["parts"] == {"train": 4, "test": 2}
        assert [(row["train"], row["test"]) for row in figures["classes"]] == [
            (0, 1),
            (2, 0),
            (2, 1),
        ]
        assert figures["mean"] == pytest.approx([self.IMAGES[1:5].mean() / 255], abs=5e-7)
        assert figures["fingerprint"] == dataset.fingerprint

    def test_where_everything_is_for_testing(self) -> None:
        figures = describe(Dataset(self.IMAGES, self.LABELS, test=np.arange(6)))
        assert figures["parts"] == {"train": 0, "test": 6}
        assert json.dumps(figures, allow_nan=False)
