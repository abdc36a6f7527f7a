"""Networks that tests of tracing share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.data.feed.batches import Batch
from sartor.inspection.microscope import Plan, trace_batch
from sartor.inspection.trace import About, Trace
from sartor.training.objective import Objective
from sartor.training.settings import ResolvedTraining


class Tutorial(nn.Module):
    """A small CNN as walk-throughs write it: layers as attributes, the rest as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 12, 5)
        self.fc1 = nn.Linear(12 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 60)
        self.out = nn.Linear(60, 10)

    def forward(self, images: Tensor) -> Tensor:
        images = F.max_pool2d(F.relu(self.conv1(images)), 2, 2)
        images = F.max_pool2d(F.relu(self.conv2(images)), 2, 2)
        images = F.relu(self.fc1(images.reshape(-1, 12 * 4 * 4)))
        images = F.relu(self.fc2(images))
        logits: Tensor = self.out(images)
        return logits


def batch(count: int = 20, *shape: int, classes: int = 10, seed: int = 0) -> Batch:
    """Random images (count, *shape), by default of 1x28x28, and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, *(shape or (1, 28, 28)), generator=generator)
    return Batch(images, torch.randint(classes, (count,), generator=generator))


def plan(lr: float = 0.01, **settings: object) -> Plan:
    """A step of Adam with cross-entropy, unless told otherwise."""
    chosen: dict[str, Any] = {
        "opt": "adam",
        "epochs": 10,
        "batch_size": 64,
        "device": "cpu",
        "amp_dtype": "float32",
        "memory_format": "contiguous",
        "threads": 1,
        "engine": "plain",
    }
    training = ResolvedTraining(**(chosen | settings))
    objective = Objective(loss=training.loss, smoothing=training.smoothing)
    return Plan(objective=objective, settings=training, learning_rate=lr)


def traced(
    model: nn.Module,
    given: Batch | None = None,
    *,
    step: Plan | None = None,
    untrained: bool | None = True,
    labelled: bool = True,
    training_mode: bool = False,
) -> Trace:
    """A trace of a random batch."""
    return trace_batch(
        model,
        given or batch(),
        step or plan(),
        about=About(network="a network", images="a batch", untrained=untrained),
        labelled=labelled,
        training_mode=training_mode,
    )
