"""Everything random in a step as a function of (seed, step)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
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
    # SplitMix64 (Steele et al., 2014) maps neighbouring steps to unrelated seeds.
    mixed = (seed * 0xD1342543DE82EF95 + (step + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    torch.default_generator.manual_seed(mixed >> 1)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(mixed >> 1)
    if everywhere:
        random.seed(mixed >> 1)
        np.random.seed(mixed >> 32)


def may_draw_elsewhere(model: nn.Module) -> bool:
    """Whether a network has code of a user's own, which may draw random numbers of any kind."""
    return any(type(one).__module__.partition(".")[0] not in _KNOWN for one in model.modules())


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Afterwards the generators of Python and NumPy are as they were before."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
