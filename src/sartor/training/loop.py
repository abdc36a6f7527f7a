"""The training loop, from top to bottom: batch, forward, loss, backward, step.

Figures, the clock and events are in `progress`; other ways to make an update are in `engines`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..averages import balanced_accuracy, macro_f1
from ..data.feed.batches import Batch
from ..events import Ended, Event
from ..inference.forward import Forward, precision
from .job import Job as Job
from .job import Outcome as Outcome
from .job import Passes
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
    # An engine takes the place of `update` here; autograd is replaced or recorded inside it.
    make_update = job.engine_update or update
    tracker = Tracker(job, progress)
    everywhere = may_draw_elsewhere(job.model)
    if progress.step == 0:
        yield from tracker.checkpoint()
    while progress.epoch < settings.epochs and not progress.stopped_early:
        job.model.train()
        tracker.start_clock()
        while progress.position < steps_per_epoch:
            seed_random_numbers(settings.seed, progress.step, everywhere=everywhere)
            lr = learning_rate(settings, progress.step, steps_per_epoch)
            batch = job.batches.batch(progress.epoch, progress.position)
            outcome = make_update(job, batch, lr)
            progress.step += 1
            progress.position += 1
            tracker.record(outcome)
            if tracker.is_due:
                yield from tracker.report()
            if stop_asked():
                yield from tracker.checkpoint()
                yield Ended(reason="interrupted")
                return
        seed_random_numbers(settings.seed, progress.step, everywhere=everywhere)
        yield from tracker.end_epoch(validate(job))
        if progress.epoch < settings.epochs and not progress.stopped_early and pause_asked():
            yield from tracker.checkpoint()
            return
    yield from tracker.checkpoint()
    yield Ended(reason="stopped early" if progress.stopped_early else "finished")


def update(job: Job, batch: Batch, lr: float | Tensor, passes: Passes | None = None) -> Outcome:
    """One update of the weights: forward, loss, backward, step."""
    # The engine direct takes autograd's place here, with `passes` of its own.
    passes = passes or functools.partial(passes_by_autograd, job)
    job.optimizer.zero_grad()
    weight = job.objective.weight(batch.labels)
    losses, parts_logits = [], []
    for images, labels in _parts(batch, job.settings.grad_accum_steps):
        # Divided by the weight of the whole update, so that parts of unequal size count right.
        loss_gradient = job.optimizer.scaled(_inverse(weight, images.device))
        loss, logits = passes(images, labels, loss_gradient)
        losses.append(loss)
        parts_logits.append(logits)
    job.optimizer.unscale()
    if job.settings.clip_grad is not None:
        nn.utils.clip_grad_norm_(job.optimizer.parameters, job.settings.clip_grad)
    job.optimizer.step(lr)
    if len(losses) == 1:
        return Outcome(losses[0], weight, parts_logits[0], batch.labels)
    return Outcome(torch.stack(losses).sum(), weight, torch.cat(parts_logits), batch.labels)


def passes_by_autograd(
    job: Job, images: Tensor, labels: Tensor, loss_gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Forward and backward pass of a part of a batch; see `job.Passes`."""
    with precision(job.settings.device, job.settings.amp_dtype):
        logits = job.model(images)
    loss = job.objective.sum(logits, labels)
    torch.autograd.backward(loss, loss_gradient)
    return loss.detach(), logits.detach()


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


def validate(job: Job) -> Validation | None:
    """Judge the present weights on the validation split, where there is one."""
    if job.val is None:
        return None
    return judged(Forward.of(job.model, job.settings).over(job.val), job)


def judged(outputs: Iterable[tuple[Tensor, Tensor]], job: Job) -> Validation:
    """Figures of logits (B, K) and labels (B,), batch by batch."""
    objective = job.objective.plain()
    losses, truths, predicted = [], [], []
    for logits, labels in outputs:
        losses.append(objective.sum(logits, labels))
        truths.append(labels)
        predicted.append(_predicted(logits))
    # Read all at once, for reading waits for the device; added up one by one, in double precision.
    loss = functools.reduce(operator.add, torch.stack(losses).tolist(), 0.0)
    counts, correct, named = _tallies(truths, predicted, job.num_classes)
    total = sum(counts)
    return Validation(
        loss=loss / total,
        accuracy=sum(correct) / total,
        balanced_accuracy=balanced_accuracy(counts, correct),
        macro_f1=macro_f1(counts, correct, named),
    )


def _predicted(logits: Tensor) -> Tensor:
    """The class with the highest output, int64 (B,); -1, which is always wrong, if not finite."""
    return torch.where(logits.amax(1).isfinite(), logits.argmax(1), -1)


def _tallies(truths: list[Tensor], predictions: list[Tensor], num_classes: int) -> list[list[int]]:
    """Images of each class, those of them that are correct, and images predicted as each class.

    The sums of a confusion matrix, which for 10,000 classes would not fit into memory.
    """
    labels, predicted = torch.cat(truths), torch.cat(predictions)
    columns = (labels, labels[labels == predicted], predicted[predicted >= 0])
    return [torch.bincount(column, minlength=num_classes).tolist() for column in columns]
