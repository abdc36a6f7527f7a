"""Networks whose last layer is linear on features; the rest may be left as it is in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from torch import Tensor, nn


class HeadedNetwork(nn.Module, ABC):
    """Features, dropout, and a linear head: images -> logits.

    Who inherits makes the layers, in its own order: first weights are drawn in that order.
    """

    dropout: nn.Module
    head: nn.Linear

    def __init__(self) -> None:
        super().__init__()
        self.frozen: tuple[nn.Module, ...] = ()
        """Parts that training leaves as they are, statistics of normalisation included."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """float (B, C, H, W) -> (B, F): what the head is given."""

    def forward(self, images: Tensor) -> Tensor:
        """float (B, C, H, W) -> logits (B, num_classes)."""
        logits: Tensor = self.head(self.dropout(self.features(images)))
        return logits

    def train(self, mode: bool = True) -> Self:
        """As for any module; what is frozen stays in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self
