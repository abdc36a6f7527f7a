"""The scripts in benchmarks/ are no package: they find each other in their own folder."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sartor.data.dataset import Dataset

# Behind all else, so that none of them can stand for a library.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from long_run import LongRun

TRAIN, TEST = 600, 200


def first_images(dataset: Dataset) -> Dataset:
    """A few of the training images and a few of the test images."""
    assert dataset.test is not None
    kept = np.concatenate([np.arange(TRAIN), dataset.test[:TEST]])
    return Dataset(
        dataset.images[kept],
        dataset.labels[kept],
        dataset.classes,
        test=np.arange(TRAIN, TRAIN + TEST),
        name=dataset.name,
    )


@pytest.fixture(scope="session")
def small_sets(mnist: Dataset, fashion_mnist: Dataset) -> dict[str, Dataset]:
    """Both named sets, reduced."""
    return {"mnist": first_images(mnist), "fashion-mnist": first_images(fashion_mnist)}


@pytest.fixture
def some_long_run() -> LongRun:
    return LongRun(
        recipe="some-recipe",
        epochs=100,
        memory={10: 100, 50: 150, 100: 110},
        first_us=200,
        last_us=202,
        seconds=10,
        keeping=0.015,
        checkpoints=7,
    )
