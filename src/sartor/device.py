"""Which device computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import UsageError


def choose_device(wish: str) -> str:
    """The device to use: `wish`, or for "auto" cuda, else mps, else cpu.

    Raises:
        UsageError: this machine has no such device.
    """
    present = [name for name, there in _present().items() if there]
    if wish == "auto":
        return present[0]
    if wish not in present:
        raise UsageError(
            f"There is no {wish} device here.", f"Use --device {' or '.join(present)}."
        )
    return wish


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch computes with so many threads; afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_present(device: str) -> bool:
    """Whether this machine has such a device."""
    return _present().get(device, False)


def synchronize(device: str) -> None:
    """Wait until the device has done all it was told, so that a clock can be read."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def _present() -> dict[str, bool]:
    return {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }


def torch_memory_format(name: str) -> torch.memory_format:
    """PyTorch's constant for a resolved memory format."""
    return torch.channels_last if name == "channels-last" else torch.contiguous_format
