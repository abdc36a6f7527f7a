"""What a step of training costs beside a bare step on one batch, and beside the machine's peak.

A bare step is an update again and again on one batch that lies ready, by the same engine; beside it
stands that of plain PyTorch: forward, loss, backward and the optimizer's update, written down. The
loop's step has all that training adds: a batch of shuffled images, learning rate, seed, figures,
events, the state that would be saved.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

import sartor
from sartor import assembly
from sartor.data.feed.batches import Batch
from sartor.data.splits.split import make_split
from sartor.models.summary import Summary, summarize
from sartor.training.engines import hardware
from sartor.training.job import Figures, Steps
from sartor.training.loop import Job, train, update
from sartor.training.state import Progress

BARE_LR = 1e-6
PEAK_SIDE = 2048


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One epoch of the loop, and as many bare steps of both kinds."""

    plain_us: float
    """Microseconds of a bare step of plain PyTorch."""
    bare_us: float
    """Of one by the loop's engine."""
    loop_us: float
    """Microseconds of a step of the loop."""


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """A training's step; medians over the rounds."""

    name: str
    engine: str
    rounds: int
    plain_us: float
    bare_us: float
    loop_us: float
    overhead_us: float
    """The median of the differences within a round."""
    overhead: float
    """The median of the differences as a share of the bare step."""
    operations: int
    """Additions and multiplications of its convolutions and linear layers, forward and backward."""
    share_target: float
    """What `peak_share` is to reach."""
    peak_share: float
    """Share of the operations per second that the machine reaches at best, in the loop."""


def job_of(name: str, dataset: sartor.Dataset, **settings: Any) -> Job:
    """The training of a shipped recipe, without validation."""
    recipe = sartor.load_recipe(name).with_settings({"device": "cpu", **settings})
    data = recipe.data
    split = make_split(
        dataset, val_fraction=data.val_fraction, test_fraction=data.test_fraction, seed=0
    )
    return replace(assembly.assemble(recipe, dataset, split).job, val=None)


def measure_pairs(job: Job, plain: Job, rounds: int) -> list[Pair]:
    """In each round an epoch of the loop and as many bare steps; the first round warms up.

    `plain` is the same training by the plain engine.
    """
    pairs, steps = [], len(job.batches)
    batch, plain_batch = job.batches.batch(0, 0), plain.batches.batch(0, 0)
    for _ in range(rounds + 1):
        with prepared(job):
            # So that the caches are as for the bare steps, and no thread of PyTorch's still spins.
            job.model.train()
            _bare(job, batch)
            loop_us = _microseconds(lambda: _epoch(job), steps)
            job.model.train()
            bare_us = _microseconds(lambda: _bare(job, batch), steps)
        with prepared(plain):
            plain.model.train()
            plain_us = _microseconds(lambda: _written_down(plain, plain_batch), steps)
        pairs.append(Pair(plain_us=plain_us, bare_us=bare_us, loop_us=loop_us))
    return pairs[1:]


def prepared(job: Job) -> AbstractContextManager[None]:
    """The machine used as the job's settings say."""
    return hardware.tuned(job.settings)


def cost_of(
    name: str, job: Job, pairs: Sequence[Pair], peak: float, share_target: float
) -> StepCost:
    """What the rounds say; `peak` in operations per second."""
    loop_us = statistics.median(pair.loop_us for pair in pairs)
    shape = job.batches.batch(0, 0).images.shape
    with prepared(job):
        operations = operations_of(summarize(job.model, tuple(shape[1:])), shape[0])
    return StepCost(
        name=name,
        engine=job.settings.engine,
        rounds=len(pairs),
        plain_us=statistics.median(pair.plain_us for pair in pairs),
        bare_us=statistics.median(pair.bare_us for pair in pairs),
        loop_us=loop_us,
        overhead_us=statistics.median(pair.loop_us - pair.bare_us for pair in pairs),
        overhead=statistics.median(pair.loop_us / pair.bare_us - 1 for pair in pairs),
        operations=operations,
        share_target=share_target,
        peak_share=operations / (loop_us * 1e-6) / peak,
    )


def operations_of(summary: Summary, batch_size: int) -> int:
    """Of a step: forward, gradients of the weights and, but for the first layer, of the inputs."""
    products = [row.multiply_adds for row in summary.rows if row.multiply_adds]
    return 2 * batch_size * (3 * sum(products) - products[0])


def peak_operations(rounds: int, side: int = PEAK_SIDE) -> float:
    """Operations per second of a square product in single precision, by the best library here."""
    left, right = torch.rand(side, side), torch.rand(side, side)
    ways: list[Callable[[], object]] = [lambda: torch.mm(left, right)]
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if linear is not None:
        ways.append(lambda: linear(left, right, None, "none", [], ""))
    seconds = min(_microseconds(way, 1) for way in ways for _ in range(rounds + 1)) * 1e-6
    return 2 * side**3 / seconds


def _epoch(job: Job) -> None:
    once = replace(job, settings=replace(job.settings, epochs=1))
    for _ in train(once, Progress(), lambda: False):
        pass


def _bare(job: Job, batch: Batch) -> None:
    if job.engine_steps is not None:
        _bare_steps(job, job.engine_steps)
        return
    make_step = job.engine_update or update
    for _ in range(len(job.batches)):
        make_step(job, batch, BARE_LR)


def _bare_steps(job: Job, make_steps: Steps) -> None:
    """All of an epoch at once, as far as the engine makes them so."""
    progress = Progress()
    while progress.position < len(job.batches):
        made = make_steps(job, progress, len(job.batches))
        progress.position += len(made.losses) if isinstance(made, Figures) else 1


def _written_down(job: Job, batch: Batch) -> None:
    """By hand; the optimizer is the loop's own, which is cheaper than those of `torch.optim`."""
    for _ in range(len(job.batches)):
        job.optimizer.zero_grad()
        loss = F.cross_entropy(job.model(batch.images), batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        job.optimizer.step(BARE_LR)


def _microseconds(action: Callable[[], object], steps: int) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1e6 / steps
