"""Everything random in a step as a function of (seed, step)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

_KNOWN = ("torch", "sartor")
"""Packages whose layers draw from PyTorch's generator only."""


def seed_random_numbers(seed: int, step: int, *, everywhere: bool = False) -> None:
    """Make everything random in a step, such as dropout, a function of (seed, step).

    Args:
        everywhere: the generators of Python and NumPy, too. It takes 10 microseconds, which only
            networks of a user's own need; see `may_draw_elsewhere`.
    """
    mixed = step_seed(seed, step)
    torch.default_generator.manual_seed(mixed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(mixed)
    if everywhere:
        random.seed(mixed)
        np.random.seed(mixed >> 31)


def step_seed(seed: int, step: int) -> int:
    """What PyTorch's generator is seeded with before a step, in 63 bits."""
    # SplitMix64 (Steele et al., 2014) maps neighbouring steps to unrelated seeds.
    mixed = (seed * 0xD1342543DE82EF95 + (step + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return mixed >> 1


def may_draw_elsewhere(model: nn.Module) -> bool:
    """Whether a network has code of a user's own, which may draw random numbers of any kind."""
    return any(type(one).__module__.partition(".")[0] not in _KNOWN for one in model.modules())


def step_seeds(seed: int, first: int, count: int) -> npt.NDArray[np.uint64]:
    """`step_seed` of so many steps from `first` on."""
    steps = np.arange(first + 1, first + 1 + count, dtype=np.uint64)
    mixed = steps * np.uint64(0x9E3779B97F4A7C15)
    mixed += np.uint64(seed * 0xD1342543DE82EF95 & 0xFFFFFFFFFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed >> np.uint64(1)


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Afterwards the generators of Python and NumPy are as they were before."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
