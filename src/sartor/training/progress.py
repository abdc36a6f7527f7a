"""Figures, the clock and events: what a training reports, and when."""

from __future__ import annotations

import functools
import itertools
import math
import operator
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ..device import torch_threads
from ..distributed import Team
from ..errors import TrainingError
from ..events import CheckpointDue, EpochDone, Event, StepDone
from .job import Figures, Job, Outcome
from .schedule import extended_at, learning_rate
from .state import Checkpoint, Progress, Sums, copied, snapshot

_SECONDS_BETWEEN_STEP_EVENTS = 0.1
_CHECKPOINT_SHARE = 0.008
"""Of the time; together with the log it has to stay below 1 %."""
_LONGEST_SECONDS = 60.0
"""Between two checkpoints, where the usual one is cheap enough for that."""


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
        self._pending: list[Outcome | Figures] = []
        self._began = time.perf_counter() - progress.seconds
        self._steps_per_epoch = len(job.batches)
        self._next_event = 0.0
        self._next_checkpoint = 0.0
        self._pace = 0.0
        self._costs: deque[float] = deque(maxlen=5)
        self._best: Checkpoint | None = None
        self._agreement = job.agreement
        if self._agreement is not None:
            self._agreement.is_due = self._is_due_by_clock

    def start_clock(self) -> None:
        """The next step begins now."""
        self._clock = time.perf_counter()

    @property
    def steps_ahead(self) -> int:
        """Steps until something is due, at the pace of the last ones; at least one."""
        left = min(self._next_event, self._next_checkpoint) - self._clock
        return max(1, int(left / self._pace)) if self._pace else 1

    def record(self, outcome: Outcome | Figures) -> None:
        """Count the steps that were made, keep what they computed, and add their time.

        Figures are added up many steps at once, which takes fewer calls and does not wait for a
        GPU at every step.
        """
        made = 1 if isinstance(outcome, Outcome) else len(outcome.losses)
        self._progress.step += made
        self._progress.position += made
        self._pending.append(outcome)
        self._pace = self._add_time() / made

    @property
    def is_due(self) -> bool:
        """Whether `report` has to be called: for an event, a checkpoint or the end of an epoch."""
        due = self._is_due_by_clock() if self._agreement is None else self._agreement.due
        return due or self._progress.position == self._steps_per_epoch

    def _is_due_by_clock(self) -> bool:
        return self._clock >= min(self._next_event, self._next_checkpoint)

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

    def _add_time(self) -> float:
        before, self._clock = self._clock, time.perf_counter()
        self._progress.sums.seconds += self._clock - before
        return self._clock - before

    def end_epoch(self, validation: ValidationFigures | None) -> Iterator[Event]:
        """Add the epoch's row to the history, and keep the weights if they are the best so far."""
        progress, settings = self._progress, self._job.settings
        progress.epoch += 1
        row = self._row(validation)
        progress.history.append(row)
        # The last epoch of a ladder is compared with the head that it began with, in the end.
        chooses = settings.transfer != "ladder"
        improved = chooses and self._has_improved(row)
        better = improved or (chooses and self._breaks_a_tie(row))
        if improved or extended_at(settings.extensions, progress.step):
            progress.patience_from = progress.epoch
        if better:
            progress.best_epoch = progress.epoch
            progress.best_value = row[settings.monitor]
        if better and self._writes:
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
        if not self._writes:
            self._check_finite(self._job.model.state_dict())
            return
        began = time.perf_counter()
        self._progress.seconds = began - self._began
        job = self._job
        # One thread beside an engine with threads of its own: waiting for others takes longer.
        with nullcontext() if job.engine_steps is None else torch_threads(1):
            last = snapshot(job.model, job.optimizer, self._progress, job.classes)
            self._check_finite(last.weights)
        yield CheckpointDue(last=last, best=self._best)
        self._best = None
        saved = time.perf_counter()
        self._next_checkpoint = saved + self._seconds_between(saved - began)

    def _seconds_between(self, cost: float) -> float:
        """How long to wait with the next checkpoint after one that took `cost` seconds."""
        asked = self._job.settings.checkpoint_seconds
        if asked != "auto":
            return asked
        self._costs.append(cost)
        # One that waited for a busy disk must not put the next one off for many minutes.
        usual = statistics.median_low(self._costs)
        return min(cost / _CHECKPOINT_SHARE, max(_LONGEST_SECONDS, usual / _CHECKPOINT_SHARE))

    def _add_up(self) -> None:
        if not self._pending:
            return
        sums, figures = self._progress.sums, list(_as_figures(self._pending))
        self._pending.clear()
        if self._agreement is not None:
            figures = [_added_up(figures, self._agreement.team)]
        step = self._progress.step - sum(len(one.losses) for one in figures)
        for one in figures:
            # One by one, in this order, so that a sum does not depend on how steps were divided.
            loss = functools.reduce(operator.add, one.losses, sums.loss)
            if not math.isfinite(loss):
                self._refuse_infinite(one.losses, step)
            step += len(one.losses)
            sums.loss = loss
            sums.weight = functools.reduce(operator.add, one.weights, sums.weight)
            sums.correct += one.correct
            sums.count += one.images

    def _refuse_infinite(self, losses: Sequence[float], before: int) -> None:
        """Raise for the first loss that is not finite, of the steps that follow step `before`."""
        for step, loss in enumerate(losses, before + 1):
            if not math.isfinite(loss):
                self._raise_not_finite(f"The loss is {loss}", step)

    @property
    def _writes(self) -> bool:
        """Whether checkpoints are kept here; of several processes the first one keeps them."""
        return self._agreement is None or self._agreement.team.leads

    def _check_finite(self, weights: Mapping[str, Tensor]) -> None:
        broken = [
            name
            for name, tensor in weights.items()
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
        if progress.best_value is None or row[self._job.settings.monitor] != progress.best_value:
            return False
        best_loss = row_of(progress.history, progress.best_epoch)["val_loss"]
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


def _as_figures(pending: Sequence[Outcome | Figures]) -> Iterator[Figures]:
    """The same in numbers, which waits for the device: for outcomes in a row only once."""
    for kind, alike in itertools.groupby(pending, type):
        if kind is Figures:
            yield from cast(Iterator[Figures], alike)
            continue
        outcomes = cast(list[Outcome], list(alike))
        labels = torch.cat([outcome.labels for outcome in outcomes])
        yield Figures(
            losses=torch.stack([outcome.loss for outcome in outcomes]).tolist(),
            weights=[float(outcome.weight) for outcome in outcomes],
            correct=count_correct(torch.cat([outcome.logits for outcome in outcomes]), labels),
            images=labels.shape[0],
        )


def _added_up(figures: Sequence[Figures], team: Team) -> Figures:
    """The same steps over all of several processes."""
    losses = [loss for one in figures for loss in one.losses]
    weights = [weight for one in figures for weight in one.weights]
    counts = [sum(one.correct for one in figures), sum(one.images for one in figures)]
    *added, correct, images = team.add_up(
        torch.tensor([*losses, *weights, *counts], dtype=torch.float64)
    ).tolist()
    return Figures(added[: len(losses)], added[len(losses) :], int(correct), int(images))


def row_of(history: Sequence[dict[str, Any]], epoch: int) -> dict[str, Any]:
    """The row of an epoch; that of a fitted head is epoch 0."""
    return next(row for row in history if row["epoch"] == epoch)


def count_correct(logits: Tensor, labels: Tensor) -> int:
    """How many labels have the highest logit; a mixed image has its largest share."""
    if labels.ndim == 2:
        labels = labels.argmax(1)
    return int((logits.argmax(1) == labels).sum())


def _finite(value: float) -> float | None:
    # JSON has no infinities and no NaN.
    return value if math.isfinite(value) else None
