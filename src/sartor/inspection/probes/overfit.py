"""The classic check of a new model: can it overfit one batch?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from ...data.feed.batches import Batch
from ...training.loop import Job, count_correct, update
from ...training.seeding import seed_random_numbers

MAX_STEPS = 2_000
LEARNT_LOSS_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class OverfitResult:
    """Result of overfitting one batch."""

    learnt: bool
    """Every image classified correctly, and the loss below a twentieth of its first value."""
    steps: int
    images: int
    first_loss: float
    loss: float
    accuracy: float


def overfit_batch(
    job: Job, batch: Batch, lr: float, on_step: Callable[[int, float, float], None]
) -> OverfitResult:
    """Train on one batch until it is learned, at most `MAX_STEPS` steps.

    `on_step(step, loss, accuracy)` is called after every step. The loss is the plain one: smoothing
    would keep it from ever coming near 0.
    """
    job = replace(job, objective=job.objective.plain())
    job.model.train()
    count = len(batch.labels)
    first_loss = loss = accuracy = float("nan")
    step, learnt = 0, False
    for step in range(1, MAX_STEPS + 1):
        seed_random_numbers(job.settings.seed, step, everywhere=True)
        outcome = update(job, batch, lr)
        loss = float(outcome.loss) / float(outcome.weight)
        accuracy = count_correct(outcome.logits, outcome.labels) / count
        if step == 1:
            first_loss = loss
        on_step(step, loss, accuracy)
        learnt = accuracy == 1 and loss <= LEARNT_LOSS_SHARE * first_loss
        if learnt or not math.isfinite(loss):
            break
    return OverfitResult(
        learnt=learnt,
        steps=step,
        images=count,
        first_loss=first_loss,
        loss=loss,
        accuracy=accuracy,
    )
