"""How the machine is used: threads, and the layout of images in memory.

Tiny numbers are not flushed to zero: PyTorch can ask that of one thread alone, so the bits would
depend on which threads of the process are older than the wish.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .settings import TrainingSettings


def chosen_memory_format(wish: str, model: nn.Module) -> str:
    """For "auto": channels-last for convolutions, whose kernels and pooling like it best."""
    if wish != "auto":
        return wish
    return (
        "channels-last" if any(isinstance(m, nn.Conv2d) for m in model.modules()) else "contiguous"
    )


def chosen_threads(wish: int | None) -> int:
    """As many as PyTorch would use, which honours OMP_NUM_THREADS, unless told otherwise."""
    return wish or torch.get_num_threads()


def torch_memory_format(name: str) -> torch.memory_format:
    """The constant of PyTorch's for a resolved memory format."""
    return torch.channels_last if name == "channels-last" else torch.contiguous_format


@contextmanager
def tuned(settings: TrainingSettings) -> Iterator[None]:
    """Use the machine as the resolved settings say; afterwards all is as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads or threads)
    try:
        with torch.random.fork_rng(devices=_used_gpus(settings)):
            yield
    finally:
        torch.set_num_threads(threads)


def _used_gpus(settings: TrainingSettings) -> list[int]:
    return [torch.cuda.current_device()] if settings.device == "cuda" else []
