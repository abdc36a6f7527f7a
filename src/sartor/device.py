"""Which device computes."""

from __future__ import annotations

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
