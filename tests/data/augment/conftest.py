"""What the tests of augmentation share: pictures of noise, and chance as it comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from sartor.data.augment.chance import Chance, Draws, chance_for, keys_of

CPU = torch.device("cpu")

shapes = st.tuples(st.integers(1, 6), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
"""(B, C, H, W), single pixels included."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """uint8 of this shape."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def chance_of(count: int, *, draws: int = 9, seed: int = 0, epoch: int = 0) -> Chance:
    """For samples 0, 1, 2, ..."""
    keys = keys_of(seed, epoch, (Draws("test", draws),), CPU)
    return chance_for(torch.arange(count), keys, epoch)
