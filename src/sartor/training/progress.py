"""Figures, the clock and events: what a training reports, and when."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from ..errors import TrainingError
from ..events import CheckpointDue, EpochDone, Event, StepDone
from .job import Job, Outcome
from .schedule import extended_at, learning_rate
from .state import Checkpoint, Progress, Sums, copied, snapshot

_SECONDS_BETWEEN_STEP_EVENTS = 0.1
_CHECKPOINT_SHARE = 0.008
"""Of the time; together with the log it has to stay below 1 %."""


class ValidationFigures(Protocol):
    """What an epoch's row needs of the validation split."""

    @property
    def loss(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def balanced_accuracy(self) -> float: ...
    @property
    def macro_f1(self) -> float: ...


class Tracker:
    """Adds up figures, reads the clock, and decides which event is due when."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job = job
        self._progress = progress
        self._pending: list[Outcome] = []
        self._began = time.perf_counter() - progress.seconds
        self._steps_per_epoch = len(job.batches)
        self._next_event = 0.0
        self._next_checkpoint = 0.0
        self._best: Checkpoint | None = None

    def start_clock(self) -> None:
        """The next step begins now."""
        self._clock = time.perf_counter()

    def record(self, outcome: Outcome) -> None:
        """Keep what a step computed, and add its time.

        Figures are added up many steps at once, which takes fewer calls and does not wait for a
        GPU at every step.
        """
        self._pending.append(outcome)
        self._add_time()

    @property
    def is_due(self) -> bool:
        """Whether `report` has to be called: for an event, a checkpoint or the end of an epoch."""
        return (
            self._clock >= min(self._next_event, self._next_checkpoint)
            or self._progress.position == self._steps_per_epoch
        )

    def report(self) -> Iterator[Event]:
        """Add up the figures of the recorded steps, and yield the events that are due."""
        self._add_up()
        self._add_time()
        if self._clock >= self._next_event:
            self._next_event = self._clock + _SECONDS_BETWEEN_STEP_EVENTS
            yield self._step_event()
        if self._clock >= self._next_checkpoint:
            yield from self.checkpoint()
        self.start_clock()

    def _add_time(self) -> None:
        now = time.perf_counter()
        self._progress.sums.seconds += now - self._clock
        self._clock = now

    def end_epoch(self, validation: ValidationFigures | None) -> Iterator[Event]:
        """Add the epoch's row to the history, and keep the weights if they are the best so far."""
        progress, settings = self._progress, self._job.settings
        progress.epoch += 1
        row = self._row(validation)
        progress.history.append(row)
        improved = self._has_improved(row)
        better = improved or self._breaks_a_tie(row)
        if improved or extended_at(settings.extensions, progress.step):
            progress.patience_from = progress.epoch
        if better:
            progress.best_epoch = progress.epoch
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
        """Yield a checkpoint of the present state, and of the best since the last one.

        Raises:
            TrainingError: a loss or a weight is not finite.
        """
        self._add_up()
        began = time.perf_counter()
        self._progress.seconds = began - self._began
        last = snapshot(self._job.model, self._job.optimizer, self._progress, self._job.classes)
        self._check_finite(last)
        yield CheckpointDue(last=last, best=self._best)
        self._best = None
        saved = time.perf_counter()
        self._next_checkpoint = saved + (saved - began) / _CHECKPOINT_SHARE

    def _add_up(self) -> None:
        if not self._pending:
            return
        sums, pending = self._progress.sums, self._pending
        losses = torch.stack([outcome.loss for outcome in pending]).tolist()
        first = self._progress.step - len(pending) + 1
        for step, (loss, outcome) in enumerate(zip(losses, pending, strict=True), first):
            if not math.isfinite(loss):
                self._raise_not_finite(f"The loss is {loss}", step)
            sums.loss += loss
            sums.weight += float(outcome.weight)
            sums.count += outcome.labels.shape[0]
        sums.correct += count_correct(
            torch.cat([outcome.logits for outcome in pending]),
            torch.cat([outcome.labels for outcome in pending]),
        )
        pending.clear()

    def _check_finite(self, checkpoint: Checkpoint) -> None:
        broken = [
            name
            for name, tensor in checkpoint.weights.items()
            if tensor.is_floating_point() and not tensor.isfinite().all()
        ]
        if broken:
            self._raise_not_finite(f"Weights of {broken[0]} are not finite", self._progress.step)

    def _raise_not_finite(self, what: str, step: int) -> None:
        lr = self._last_learning_rate(step)
        raise TrainingError(
            f"{what} at step {step} (epoch {self._progress.epoch + 1}), learning rate {lr:g}.",
            "Lower --lr, add --warmup-epochs or set --clip-grad; the last good checkpoint is kept.",
        )

    def _breaks_a_tie(self, row: dict[str, float | None]) -> bool:
        """Whether an epoch as good as the best one has a lower validation loss than it."""
        progress, loss = self._progress, row["val_loss"]
        if not progress.best_epoch or row[self._job.settings.monitor] != progress.best_value:
            return False
        best_loss = progress.history[progress.best_epoch - 1]["val_loss"]
        return loss is not None and (best_loss is None or loss < best_loss)

    def _has_improved(self, row: dict[str, float | None]) -> bool:
        value, best = row[self._job.settings.monitor], self._progress.best_value
        if value is None or not math.isfinite(value):
            return False
        if best is None:
            return True
        return value < best if self._job.settings.monitor == "val_loss" else value > best

    def _row(self, validation: ValidationFigures | None) -> dict[str, float | None]:
        progress, sums = self._progress, self._progress.sums
        return {
            "epoch": progress.epoch,
            "step": progress.step,
            "seconds": round(time.perf_counter() - self._began, 4),
            "learning_rate": self._last_learning_rate(progress.step),
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
        steps_per_epoch = self._steps_per_epoch
        total = steps_per_epoch * self._job.settings.epochs
        return StepDone(
            step=progress.step,
            total_steps=total,
            epoch=progress.epoch + 1,
            epochs=self._job.settings.epochs,
            position=progress.position,
            steps_per_epoch=steps_per_epoch,
            learning_rate=self._last_learning_rate(progress.step),
            train_loss=sums.loss / sums.weight,
            train_accuracy=sums.correct / sums.count,
            images_per_second=sums.count / sums.seconds,
            seconds_left=(total - progress.step) * sums.seconds / progress.position,
        )

    def _last_learning_rate(self, step: int) -> float:
        """The learning rate of the last of `step` updates."""
        return learning_rate(self._job.settings, max(step - 1, 0), self._steps_per_epoch)


def count_correct(logits: Tensor, labels: Tensor) -> int:
    """How many labels have the highest logit; a mixed image has its largest share."""
    if labels.ndim == 2:
        labels = labels.argmax(1)
    return int((logits.argmax(1) == labels).sum())


def _finite(value: float) -> float | None:
    # JSON has no infinities and no NaN.
    return value if math.isfinite(value) else None
