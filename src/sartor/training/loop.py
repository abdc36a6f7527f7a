"""The training loop: forward, loss, backward, step, in sight and in one place."""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..averages import balanced_accuracy, macro_f1
from ..data.feed.batches import Batch, Feed
from ..errors import TrainingError
from ..events import CheckpointDue, Ended, EpochDone, Event, StepDone
from .objective import Objective
from .optim import Optimizer
from .schedule import learning_rate
from .settings import ResolvedTraining, TrainingSettings
from .state import Checkpoint, Progress, Sums, copied, snapshot
from .views import mean_logits

_SECONDS_BETWEEN_STEP_EVENTS = 0.1
_CHECKPOINT_SHARE = 0.008
"""Of the time; with the log it is to stay below a hundredth."""


class BatchSource(Protocol):
    """Training batches by place; see `data.batches.Batches`."""

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
    classes: tuple[str, ...]
    step: Step | None = None
    """What makes an update where that is not `update` itself; see `steps`."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def train(job: Job, progress: Progress, stop_asked: Callable[[], bool]) -> Iterator[Event]:
    """Train from `progress` to the last epoch, saying events; `progress` moves along.

    Raises:
        TrainingError: the loss or a weight is not finite any more.
    """
    settings, steps_per_epoch = job.settings, len(job.batches)
    make_step = job.step or update
    watch = _Watch(job, progress)
    if progress.step == 0:
        yield from watch.checkpoint()
    while progress.epoch < settings.epochs and not progress.stopped_early:
        job.model.train()
        watch.start()
        while progress.position < steps_per_epoch:
            seed_random_numbers(settings.seed, progress.step)
            lr = learning_rate(settings, progress.step, steps_per_epoch)
            batch = job.batches.batch(progress.epoch, progress.position)
            outcome = make_step(job, batch, lr)
            progress.step += 1
            progress.position += 1
            if watch.has_to_speak(outcome):
                yield from watch.speak()
            if stop_asked():
                yield from watch.checkpoint()
                yield Ended(reason="interrupted")
                return
        yield from watch.after_epoch(validate(job))
    yield from watch.checkpoint()
    yield Ended(reason="stopped early" if progress.stopped_early else "finished")


class Outcome(NamedTuple):
    """What one update saw; still on the device, for reading a number waits for it."""

    loss: Tensor
    """Sum of the images' losses."""
    weight: Tensor | int
    """What the sum was divided by."""
    logits: Tensor
    """(B, K)."""
    labels: Tensor
    """int64 (B,), or of mixed pictures float32 (B, K)."""


Step = Callable[[Job, Batch, float], Outcome]


Passes = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Forward and back: images, labels and what goes back from the sum of their losses -> the sum, and
logits (B, K). Gradients are added to those of the parameters."""


def update(job: Job, batch: Batch, lr: float | Tensor, passes: Passes | None = None) -> Outcome:
    """One update of the weights, with the gradients of autograd or those of `passes`."""
    passes = passes or functools.partial(_by_autograd, job)
    job.optimizer.zero_grad()
    weight = job.objective.weight(batch.labels)
    losses, answers = [], []
    for images, labels in _parts(batch, job.settings.grad_accum_steps):
        # Divided by the weight of the whole update, so that parts of unequal size count right.
        slope = job.optimizer.scaled(_inverse(weight, images.device))
        loss, logits = passes(images, labels, slope)
        losses.append(loss)
        answers.append(logits)
    job.optimizer.unscale()
    if job.settings.clip_grad is not None:
        nn.utils.clip_grad_norm_(job.optimizer.parameters, job.settings.clip_grad)
    job.optimizer.step(lr)
    if len(losses) == 1:
        return Outcome(losses[0], weight, answers[0], batch.labels)
    return Outcome(torch.stack(losses).sum(), weight, torch.cat(answers), batch.labels)


def _by_autograd(job: Job, images: Tensor, labels: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    with precision(job.settings):
        logits = job.model(images)
    loss = job.objective.sum(logits, labels)
    torch.autograd.backward(loss, slope)
    return loss.detach(), logits.detach()


def _inverse(weight: Tensor | int, device: torch.device) -> Tensor:
    """1 / weight: the slope of loss / weight over the loss, without an operation of its own."""
    return weight.reciprocal() if isinstance(weight, Tensor) else _inverse_of(weight, device)


@functools.lru_cache(maxsize=16)
def _inverse_of(count: int, device: torch.device) -> Tensor:
    return torch.tensor(1 / count, device=device)


def count_correct(logits: Tensor, labels: Tensor) -> int:
    """How many of the labels have the highest logit; of a mixed picture the larger share counts."""
    if labels.ndim == 2:
        labels = labels.argmax(1)
    return int((logits.argmax(1) == labels).sum())


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
    objective = job.objective.plain()
    losses, truths, answers = [], [], []
    for logits, labels in logits_of(job.model, job.val, job.settings):
        losses.append(objective.sum(logits, labels))
        truths.append(labels)
        answers.append(logits.argmax(1))
    # Read all at once, for reading waits for the device; added up one by one, in double precision.
    loss = functools.reduce(operator.add, torch.stack(losses).tolist(), 0.0)
    counts, correct, predicted = _tallies(truths, answers, job.num_classes)
    return Validation(
        loss=loss / len(job.val),
        accuracy=sum(correct) / len(job.val),
        balanced_accuracy=balanced_accuracy(counts, correct),
        macro_f1=macro_f1(counts, correct, predicted),
    )


def _tallies(truths: list[Tensor], answers: list[Tensor], num_classes: int) -> list[list[int]]:
    """Images of each class, those of them that are right, and images taken for each class.

    The sums of a confusion matrix, which for 10,000 classes would not fit into memory.
    """
    labels, predicted = torch.cat(truths), torch.cat(answers)
    columns = (labels, labels[labels == predicted], predicted)
    return [torch.bincount(column, minlength=num_classes).tolist() for column in columns]


def logits_of(
    model: nn.Module, feed: Feed, settings: TrainingSettings
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits float32 (B, K) and labels of every image of `feed`, in order, in evaluation mode."""
    was_training = model.training
    model.eval()
    try:
        for images, labels in feed.in_order(_evaluation_batch(feed)):
            yield answers(model, images, settings), labels
    finally:
        model.train(was_training)


@torch.inference_mode()
def answers(model: nn.Module, images: Tensor, settings: TrainingSettings) -> Tensor:
    """Logits float32 (B, K) of a batch, by a model in evaluation mode."""
    with precision(settings):
        return mean_logits(model, images, settings.tta)


def precision(settings: TrainingSettings) -> AbstractContextManager[object]:
    """The arithmetic of the forward pass."""
    if settings.amp_dtype in ("float32", "auto"):
        return nullcontext()
    return torch.autocast(settings.device, dtype=getattr(torch, settings.amp_dtype))


def seed_random_numbers(seed: int, step: int) -> None:
    """Make everything random in a step, such as dropout, a function of (seed, step)."""
    # SplitMix64 (Steele et al., 2014) spreads neighbouring steps over all seeds.
    mixed = (seed * 0xD1342543DE82EF95 + (step + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    torch.default_generator.manual_seed(mixed >> 1)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(mixed >> 1)


class _Watch:
    """Adds up figures, reads the clock, and decides what is said when."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job = job
        self._progress = progress
        self._waiting: list[Outcome] = []
        self._began = time.perf_counter() - progress.seconds
        self._steps_per_epoch = len(job.batches)
        self._next_event = 0.0
        self._next_checkpoint = 0.0
        self._best: Checkpoint | None = None

    def start(self) -> None:
        """The next step begins now."""
        self._clock = time.perf_counter()

    def has_to_speak(self, outcome: Outcome) -> bool:
        """Note a step; whether something is to be said or kept, which most steps need not wait for.

        Figures are added up many steps at once: a few calls instead of a few a step, and a GPU is
        not waited for.
        """
        self._waiting.append(outcome)
        self._take_time()
        return (
            self._clock >= min(self._next_event, self._next_checkpoint)
            or self._progress.position == self._steps_per_epoch
        )

    def speak(self) -> Iterator[Event]:
        self._add_up()
        self._take_time()
        if self._clock >= self._next_event:
            self._next_event = self._clock + _SECONDS_BETWEEN_STEP_EVENTS
            yield self._step_event()
        if self._clock >= self._next_checkpoint:
            yield from self.checkpoint()
        self.start()

    def _take_time(self) -> None:
        now = time.perf_counter()
        self._progress.sums.seconds += now - self._clock
        self._clock = now

    def after_epoch(self, validation: Validation | None) -> Iterator[Event]:
        progress, settings = self._progress, self._job.settings
        progress.epoch += 1
        row = self._row(validation)
        progress.history.append(row)
        better = self._is_better(row)
        if better:
            progress.best_epoch = progress.patience_from = progress.epoch
            progress.best_value = row[settings.monitor]
            weights = copied(self._job.model.state_dict())
            self._best = Checkpoint(
                weights=weights,
                optimizer={},
                progress=progress.copy(),
                classes=self._job.classes,
            )
        progress.position, progress.sums = 0, Sums()
        if settings.patience is not None:
            progress.stopped_early = progress.epoch - progress.patience_from >= settings.patience
        yield EpochDone(row=row, best=better)

    def checkpoint(self) -> Iterator[Event]:
        self._add_up()
        began = time.perf_counter()
        self._progress.seconds = began - self._began
        last = snapshot(self._job.model, self._job.optimizer, self._progress, self._job.classes)
        self._refuse_broken(last)
        yield CheckpointDue(last=last, best=self._best)
        self._best = None
        saved = time.perf_counter()
        self._next_checkpoint = saved + (saved - began) / _CHECKPOINT_SHARE

    def _add_up(self) -> None:
        if not self._waiting:
            return
        sums, waiting = self._progress.sums, self._waiting
        losses = torch.stack([outcome.loss for outcome in waiting]).tolist()
        first = self._progress.step - len(waiting) + 1
        for step, (loss, outcome) in enumerate(zip(losses, waiting, strict=True), first):
            if not math.isfinite(loss):
                self._not_finite(f"The loss is {loss}", step)
            sums.loss += loss
            sums.weight += float(outcome.weight)
            sums.count += outcome.labels.shape[0]
        sums.correct += count_correct(
            torch.cat([outcome.logits for outcome in waiting]),
            torch.cat([outcome.labels for outcome in waiting]),
        )
        waiting.clear()

    def _refuse_broken(self, checkpoint: Checkpoint) -> None:
        broken = [
            name
            for name, tensor in checkpoint.weights.items()
            if tensor.is_floating_point() and not tensor.isfinite().all()
        ]
        if broken:
            self._not_finite(f"Weights of {broken[0]} are not finite", self._progress.step)

    def _not_finite(self, what: str, step: int) -> None:
        lr = learning_rate(self._job.settings, max(step - 1, 0), len(self._job.batches))
        raise TrainingError(
            f"{what} at step {step} (epoch {self._progress.epoch + 1}), learning rate {lr:g}.",
            "Lower --lr, add --warmup-epochs or set --clip-grad; the last good checkpoint is kept.",
        )

    def _is_better(self, row: dict[str, float | None]) -> bool:
        value, best = row[self._job.settings.monitor], self._progress.best_value
        if value is None or not math.isfinite(value):
            return False
        if best is None:
            return True
        return value < best if self._job.settings.monitor == "val_loss" else value > best

    def _row(self, validation: Validation | None) -> dict[str, float | None]:
        progress, sums = self._progress, self._progress.sums
        return {
            "epoch": progress.epoch,
            "step": progress.step,
            "seconds": round(time.perf_counter() - self._began, 4),
            "learning_rate": learning_rate_of(progress, self._job),
            "train_loss": sums.loss / sums.weight,
            "train_accuracy": sums.correct / sums.count,
            "val_loss": _finite(validation.loss) if validation else None,
            "val_accuracy": validation.accuracy if validation else None,
            "images_per_second": round(sums.count / sums.seconds, 1),
            "val_balanced_accuracy": validation.balanced_accuracy if validation else None,
            "val_macro_f1": validation.macro_f1 if validation else None,
        }

    def _step_event(self) -> StepDone:
        progress, sums = self._progress, self._progress.sums
        steps_per_epoch = len(self._job.batches)
        total = steps_per_epoch * self._job.settings.epochs
        return StepDone(
            step=progress.step,
            total_steps=total,
            epoch=progress.epoch + 1,
            epochs=self._job.settings.epochs,
            position=progress.position,
            steps_per_epoch=steps_per_epoch,
            learning_rate=learning_rate_of(progress, self._job),
            train_loss=sums.loss / sums.weight,
            train_accuracy=sums.correct / sums.count,
            images_per_second=sums.count / sums.seconds,
            seconds_left=(total - progress.step) * sums.seconds / progress.position,
        )


def learning_rate_of(progress: Progress, job: Job) -> float:
    """The learning rate of the step made last."""
    return learning_rate(job.settings, max(progress.step - 1, 0), len(job.batches))


def _parts(batch: Batch, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    if count == 1:
        return iter([batch])
    size = math.ceil(len(batch.labels) / count)
    return zip(torch.split(batch.images, size), torch.split(batch.labels, size), strict=True)


def _finite(value: float) -> float | None:
    # JSON has no word for the others.
    return value if math.isfinite(value) else None


def _evaluation_batch(feed: Feed) -> int:
    """At most four million pixels and 500 images, which suits a processor's cache.

    As measured on two cores with 28x28: 1,000 images at once are 2 % faster for small networks, and
    up to a quarter slower for those with large maps. Not measured for each run, so that figures can
    be made again.
    """
    _, channels, height, width = feed.images.shape
    return max(1, min(500, 4_000_000 // (channels * height * width)))
