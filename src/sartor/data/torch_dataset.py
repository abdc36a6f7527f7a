"""The bridge to PyTorch's own loaders, for those who write their own loop."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ..arrays import UInt8Array


class Samples(Protocol):
    """Labelled images, such as a `sartor.Dataset`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[UInt8Array, int, str]:
        """uint8 (C, H, W), its label, and the name of its class."""


class TorchImages(TorchDataset[tuple[Tensor, int]]):
    """A `sartor.Dataset` as a map-style `torch.utils.data.Dataset`."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Float image (C, H, W) in 0..1, and its label."""
        image, label, _ = self.samples[index]
        return torch.tensor(image).to(torch.float32).div(255), label
