"""The learning rate range test (Smith, 2017): raise the rate step by step, watch the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...models.copying import copied_network
from ...training.loop import Job, update
from ...training.optim import Optimizer
from ...training.seeding import may_draw_elsewhere, random_numbers_kept, seed_random_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = 100
LOWEST, HIGHEST = 1e-6, 10.0
_BLOWN_UP = 4.0
_SMOOTHING = 0.9
_LEAST_FALL = 0.05


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """The loss over rising learning rates, and what it suggests."""

    rates: tuple[float, ...]
    """Learning rate of each step, rising geometrically."""
    losses: tuple[float, ...]
    """Mean loss of each step's batch, before its update."""
    smoothed: tuple[float, ...]
    """The losses' running mean, corrected for its beginning."""
    suggestion: float | None
    """Where the smoothed loss falls steepest; None where it never fell by 5 %."""
    blew_up_at: float | None
    """The rate at which the loss passed four times its lowest, or left the finite numbers."""

    def plot(self) -> Figure:
        """Loss against learning rate, with the suggestion if there is one."""
        from ...reports.figures import range_test_figure

        return range_test_figure(self)


def range_test(
    job: Job, *, steps: int = STEPS, on_step: Callable[[int, float, float], None] | None = None
) -> RangeTest:
    """Train a copy of the network at rising rates; the job and all random state stay unchanged.

    The rates rise from 1e-6 to 10 in `steps` steps; the test ends when the loss blows up.
    `on_step(step, rate, loss)` is called after every step.
    """
    model = copied_network(job.model).train()
    trial = replace(job, model=model, optimizer=Optimizer(model, job.settings))
    growth = (HIGHEST / LOWEST) ** (1 / max(steps - 1, 1))
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    blew_up_at = None
    everywhere = may_draw_elsewhere(model)
    with torch.random.fork_rng(), random_numbers_kept():
        for step in range(steps):
            rate = LOWEST * growth**step
            seed_random_numbers(job.settings.seed, step, everywhere=everywhere)
            batch = job.batches.batch(*divmod(step, len(job.batches)))
            outcome = update(trial, batch, rate)
            loss = float(outcome.loss) / float(outcome.weight)
            if not math.isfinite(loss):
                blew_up_at = rate
                break
            rates.append(rate)
            losses.append(loss)
            smoothed.append(_running_mean(losses))
            if on_step:
                on_step(step + 1, rate, loss)
            if smoothed[-1] > _BLOWN_UP * min(smoothed):
                blew_up_at = rate
                break
    return RangeTest(
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        suggestion=_steepest(rates, smoothed),
        blew_up_at=blew_up_at,
    )


def _running_mean(losses: list[float]) -> float:
    """The exponential mean of all losses, divided by the sum of its weights (Kingma, Ba 2015)."""
    weights = _SMOOTHING ** np.arange(len(losses) - 1, -1, -1, dtype=np.float64)
    return float(weights @ np.asarray(losses) / weights.sum())


def _steepest(rates: list[float], smoothed: list[float]) -> float | None:
    """The rate where the loss falls fastest, by its gradient over the rate's logarithm."""
    if len(rates) < 5:
        return None
    lowest = int(np.argmin(smoothed))
    if lowest < 2 or smoothed[lowest] > (1 - _LEAST_FALL) * smoothed[0]:
        return None
    gradients = np.gradient(np.asarray(smoothed), np.log(rates))
    return float(f"{rates[int(np.argmin(gradients[: lowest + 1]))]:.1e}")
