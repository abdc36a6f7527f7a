"""What the tests of training share: toy images, toy networks, and jobs made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sartor import assembly
from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.recipe import Recipe
from sartor.training.job import Job

MakeJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and on a busy machine wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Everything(nn.Module):
    """Convolution, batch normalization, dropout: all that a step could leave behind."""

    def __init__(self, num_classes: int = 3, size: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4 * (size // 2) ** 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(nn.functional.max_pool2d(self.norm(self.conv(images)), 2))
        return self.head(self.drop(features.flatten(1)))


@pytest.fixture
def everything() -> Callable[[], nn.Module]:
    """A function that builds `Everything` with the same first weights every time."""

    def build() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(11)
            return Everything()

    return build


@pytest.fixture
def toys() -> Dataset:
    """46 noisy images of 6x6: three classes of unequal size, each bright in its own rows."""
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], [20, 16, 10])[rng.permutation(46)]
    images = rng.integers(0, 90, (46, 6, 6))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 100
    return Dataset(images.astype(np.uint8), labels, ("top", "middle", "bottom"))


@pytest.fixture
def toy_split() -> Split:
    """31 for training, 9 for validation, 6 for testing."""
    return Split(np.arange(31), np.arange(31, 40), np.arange(40, 46))


@pytest.fixture
def make_job(toys: Dataset, toy_split: Split) -> MakeJob:
    """A job as `fit` makes it, from flat settings; `network` is a model in memory."""

    def make(network: nn.Module | None = None, *, split: Split = toy_split, **settings: Any) -> Job:
        defaults = {"model": "linear", "device": "cpu", "threads": 1, "sched": "constant"}
        if network is not None:
            defaults["model"] = assembly.IN_MEMORY + type(network).__name__
        recipe = Recipe().with_settings({**defaults, **settings})
        return assembly.assemble(recipe, toys, split, network).job

    return make
