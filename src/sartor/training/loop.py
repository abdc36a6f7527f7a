"""The training loop, from top to bottom: batch, forward, loss, backward, step.

Figures, the clock and events are in `progress`; other ways to make an update are in `engines`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..averages import balanced_accuracy, macro_f1
from ..data.feed.batches import Batch
from ..data.feed.shares import Share
from ..events import Ended, Event
from ..inference.forward import Forward, precision
from .finetuning import begin_epoch, end_epoch
from .job import Job as Job
from .job import Outcome as Outcome
from .progress import Tracker
from .progress import count_correct as count_correct
from .schedule import learning_rate
from .seeding import may_draw_elsewhere
from .seeding import seed_random_numbers as seed_random_numbers
from .state import Progress


def train(
    job: Job,
    progress: Progress,
    stop_asked: Callable[[], bool],
    pause_asked: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train from `progress` to the last epoch and yield events; `progress` is updated in place.

    After an epoch at whose end a pause is asked, all is saved and the events end without `Ended`:
    another job, with another engine, can go on from `progress`.

    Raises:
        TrainingError: the loss or a weight is no longer finite.
    """
    settings, steps_per_epoch = job.settings, len(job.batches)
    # An engine may make one step, or several at once; see `engines`.
    make_update = job.engine_update or update
    if job.agreement is not None:
        # One of several processes: it has its share of each batch, and `together` adds up.
        job.agreement.begin(job, progress)
    tracker = Tracker(job, progress)
    everywhere = may_draw_elsewhere(job.model)
    forward = Forward.of(job.model, job.settings)
    if progress.step == 0:
        yield from tracker.checkpoint()
    while progress.epoch < settings.epochs and not progress.stopped_early:
        begin_epoch(job, progress.epoch)
        tracker.start_clock()
        while progress.position < steps_per_epoch:
            if job.engine_steps is not None:
                # A stretch of steps in one call, until something has to be said, saved or stopped.
                tracker.record(job.engine_steps(job, progress, tracker.steps_ahead))
            else:
                seed_random_numbers(settings.seed, progress.step, everywhere=everywhere)
                lr = learning_rate(settings, progress.step, steps_per_epoch)
                batch = job.batches.batch(progress.epoch, progress.position)
                tracker.record(make_update(job, batch, lr))
            if tracker.is_due:
                yield from tracker.report()
            if stop_asked():
                yield from tracker.checkpoint()
                yield Ended(reason="interrupted")
                return
        end_epoch(job)
        if job.agreement is not None:
            job.agreement.keep_alike(job.model)
        seed_random_numbers(settings.seed, progress.step, everywhere=everywhere)
        yield from tracker.end_epoch(validate(job, forward))
        if progress.epoch < settings.epochs and not progress.stopped_early and pause_asked():
            yield from tracker.checkpoint()
            return
    yield from tracker.checkpoint()
    yield Ended(reason="stopped early" if progress.stopped_early else "finished")


def update(job: Job, batch: Batch, lr: float | Tensor) -> Outcome:
    """One update of the weights: forward, loss, backward, step."""
    job.optimizer.zero_grad()
    weight = job.objective.weight(batch.labels)
    losses, parts_logits = [], []
    for images, labels in _parts(batch, job.settings.grad_accum_steps):
        # Divided by the weight of the whole update, so that parts of unequal size count right.
        loss_gradient = job.optimizer.scaled(_inverse(weight, images.device))
        with precision(job.settings.device, job.settings.amp_dtype):
            logits = job.model(images)
        loss = job.objective.sum(logits, labels)
        torch.autograd.backward(loss, loss_gradient)
        losses.append(loss.detach())
        parts_logits.append(logits.detach())
    job.optimizer.unscale()
    if job.settings.clip_grad is not None:
        nn.utils.clip_grad_norm_(job.optimizer.parameters, job.settings.clip_grad)
    job.optimizer.step(lr)
    if len(losses) == 1:
        return Outcome(losses[0], weight, parts_logits[0], batch.labels)
    return Outcome(torch.stack(losses).sum(), weight, torch.cat(parts_logits), batch.labels)


def _parts(batch: Batch, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    if count == 1:
        return iter([batch])
    size = math.ceil(len(batch.labels) / count)
    return zip(torch.split(batch.images, size), torch.split(batch.labels, size), strict=True)


def _inverse(weight: Tensor | int, device: torch.device) -> Tensor:
    """1 / weight: the gradient of loss / weight with respect to the loss, without autograd."""
    return weight.reciprocal() if isinstance(weight, Tensor) else _inverse_of(weight, device)


@functools.lru_cache(maxsize=16)
def _inverse_of(count: int, device: torch.device) -> Tensor:
    return torch.tensor(1 / count, device=device)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Figures of the validation split."""

    loss: float
    """Mean over its images, as `accuracy`."""
    accuracy: float
    balanced_accuracy: float
    """Mean over its classes, as `macro_f1`."""
    macro_f1: float


def validate(job: Job, forward: Forward | None = None) -> Validation | None:
    """Judge the present weights on the validation split, where there is one.

    Args:
        forward: of the job's network, where one was made before.
    """
    if job.val is None:
        return None
    forward = forward or Forward.of(job.model, job.settings)
    if job.agreement is None:
        with forward.own_threads():
            return judged(forward.over(job.val), job)
    team = job.agreement.team
    own = _sums(forward.over(job.val, Share(team.rank, team.size)), job)
    # The losses of all batches in their order, which is that of one process.
    losses = [one for part in team.gather_lists(own.losses) for one in part]
    tallies = team.add_up(torch.tensor(own.tallies).view(-1)).view(3, -1)
    return _figures(_Sums(losses, tallies.tolist()))


def judged(outputs: Iterable[tuple[Tensor, Tensor]], job: Job) -> Validation:
    """Figures of logits (B, K) and labels (B,), batch by batch."""
    return _figures(_sums(outputs, job))


class _Sums(NamedTuple):
    losses: list[float]
    """Of each batch, the sum of its images' losses."""
    tallies: list[list[int]]
    """As `_tallies` gives them."""


def _sums(outputs: Iterable[tuple[Tensor, Tensor]], job: Job) -> _Sums:
    objective = job.objective.plain()
    losses, truths, found = [], [], []
    for logits, labels in outputs:
        losses.append(objective.sum(logits, labels))
        truths.append(labels)
        found.append(predicted(logits))
    if not losses:
        return _Sums([], [[0] * job.num_classes] * 3)
    # Read all at once, for reading waits for the device.
    return _Sums(torch.stack(losses).tolist(), _tallies(truths, found, job.num_classes))


def _figures(sums: _Sums) -> Validation:
    # Added up one by one, in double precision.
    loss = functools.reduce(operator.add, sums.losses, 0.0)
    counts, correct, named = sums.tallies
    total = sum(counts)
    return Validation(
        loss=loss / total,
        accuracy=sum(correct) / total,
        balanced_accuracy=balanced_accuracy(counts, correct),
        macro_f1=macro_f1(counts, correct, named),
    )


def predicted(logits: Tensor) -> Tensor:
    """The class with the highest output, int64 (B,); -1, which is always wrong, if not finite."""
    return torch.where(logits.amax(1).isfinite(), logits.argmax(1), -1)


def _tallies(truths: list[Tensor], predictions: list[Tensor], num_classes: int) -> list[list[int]]:
    """Images of each class, those of them that are correct, and images predicted as each class.

    The sums of a confusion matrix, which for 10,000 classes would not fit into memory.
    """
    labels, found = torch.cat(truths), torch.cat(predictions)
    columns = (labels, labels[labels == found], found[found >= 0])
    return [torch.bincount(column, minlength=num_classes).tolist() for column in columns]
