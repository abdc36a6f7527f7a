"""What one training needs, and what one update gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ..data.feed.batches import Batch, Feed
from ..distributed import Team
from .objective import Objective
from .optim import Optimizer
from .settings import ResolvedTraining
from .state import Progress


class BatchSource(Protocol):
    """Training batches by epoch and position; see `data.feed.batches.Batches`."""

    def __len__(self) -> int: ...

    def batch(self, epoch: int, position: int) -> Batch: ...


class Agreement(Protocol):
    """What all of several processes do alike; see `together.Agreement`."""

    team: Team
    is_due: Callable[[], bool]
    """Whether figures are to be reported now, by this process's clock."""
    due: bool
    """Whether all report after the last step."""

    def stretch(self, steps: int) -> int:
        """How many of the next steps all make in one go, of so many that are left to make."""

    def begin(self, job: Job, progress: Progress) -> None:
        """Begin at all processes with the first one's state."""

    def keep_alike(self, model: nn.Module) -> None:
        """Make sure that all have the same weights."""


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
    """Replaces `loop.update` where an engine has its own; see `engines.updates.with_engine`."""
    engine_steps: Steps | None = None
    """Makes several steps at once, where an engine does."""

    agreement: Agreement | None = None
    """Of the processes that train together, each with its share of every batch; None where this
    one is alone."""

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


class Figures(NamedTuple):
    """What several updates computed."""

    losses: list[float]
    """Of each update the sum of its images' losses."""
    weights: list[float]
    """Of each update what that sum was divided by."""
    correct: int
    """Images whose label has the highest output, in all updates."""
    images: int
    """In all updates."""


Update = Callable[[Job, Batch, float], Outcome]
"""One update of the weights from a batch, at a learning rate."""

Steps = Callable[[Job, Progress, int], Figures | Outcome]
"""The next updates of the present epoch: as many as the number says, or fewer, but one at least."""
