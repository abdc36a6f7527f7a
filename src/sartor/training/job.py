"""What one training needs, and what one update gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ..data.feed.batches import Batch, Feed
from .objective import Objective
from .optim import Optimizer
from .settings import ResolvedTraining


class BatchSource(Protocol):
    """Training batches by epoch and position; see `data.feed.batches.Batches`."""

    def __len__(self) -> int: ...

    def batch(self, epoch: int, position: int) -> Batch: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """Everything that one training needs; none of it knows of files."""

    model: nn.Module
    batches: BatchSource
    """A batch is one update's worth of images."""
    val: Feed | None
    objective: Objective
    optimizer: Optimizer
    settings: ResolvedTraining
    """Resolved: no "auto" left."""
    classes: tuple[str, ...]
    engine_update: Update | None = None
    """Replaces `loop.update` where an engine has its own; see `engines.updates.update_for`."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)


class Outcome(NamedTuple):
    """What one update computed; still on the device, as reading a number waits for it."""

    loss: Tensor
    """Sum of the images' losses."""
    weight: Tensor | int
    """What the sum was divided by."""
    logits: Tensor
    """(B, K)."""
    labels: Tensor
    """int64 (B,), or float32 (B, K) for mixed images."""


Update = Callable[[Job, Batch, float], Outcome]
"""One update of the weights from a batch, at a learning rate."""

Passes = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Forward and backward pass: images, labels and the gradient with respect to the sum of their
losses -> that sum, and logits (B, K). Gradients are added to those of the parameters."""
