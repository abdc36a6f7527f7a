"""The bridge to PyTorch's own loaders, for those who write their own loop."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from .dataset import Dataset


class TorchImages(TorchDataset[tuple[Tensor, int]]):
    """A `sartor.Dataset` as a map-style `torch.utils.data.Dataset`."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Float image (C, H, W) in 0..1, and its label."""
        image, label, _ = self.dataset[index]
        return torch.tensor(image).to(torch.float32).div(255), label
