"""How training looks in a terminal, and without one."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, TextIO, cast

from ..events import (
    Ended,
    EpochDone,
    Event,
    Note,
    Predicting,
    PreparationDone,
    Preparing,
    RungChosen,
    Started,
    StepDone,
    Working,
)
from ..wording import message
from .streams import Unfailing, say

_SECONDS_BETWEEN_LINES = 10.0
_ACTIVITIES = {"sizes": "reading sizes", "decoding": "decoding", "features": "features"}


class PlainProgress:
    """One line per epoch on stderr, for logs and pipes."""

    def __init__(self, *, verbose: bool = False) -> None:
        """
        Args:
            verbose: say also what only few want to know.
        """
        self._verbose = verbose
        self._epochs = 0
        self._told_at = time.monotonic()
        self._balanced = False

    def __call__(self, event: Event) -> None:
        """Say what the event says."""
        if isinstance(event, Note):
            self.line(event.text)
        elif isinstance(event, Preparing):
            self._prepare(event)
        elif isinstance(event, PreparationDone):
            self.line(preparation_line(event))
        elif isinstance(event, Predicting):
            self._predict(event)
        elif isinstance(event, Working):
            self._work(event)
        elif isinstance(event, Started):
            self._epochs = event.epochs
            self._balanced = event.imbalanced
            for text in opening_lines(event):
                self.line(text)
            if self._verbose and event.without_native:
                self.line(f"without the engine native: {event.without_native}")
        elif isinstance(event, EpochDone):
            line = epoch_line(event.row, self._epochs, balanced=self._balanced)
            self.line(line + (" *" if event.best else ""))
        elif isinstance(event, RungChosen):
            self.line(event.sentence)
        elif isinstance(event, Ended) and event.reason == "stopped early":
            self.line("Stopped early: no improvement within --patience epochs.")

    def line(self, text: str) -> None:
        """Print one line; training goes on where nobody reads it any more."""
        say(text)

    def _prepare(self, event: Preparing) -> None:
        """A line now and then, of what takes long."""
        now = time.monotonic()
        if now - self._told_at >= _SECONDS_BETWEEN_LINES:
            self._told_at = now
            self.line(f"{_ACTIVITIES[event.activity]}: {preparing_figures(event)}")

    def _predict(self, event: Predicting) -> None:
        """A line now and then, and one at the end."""
        now = time.monotonic()
        if event.ended or now - self._told_at >= _SECONDS_BETWEEN_LINES:
            self._told_at = now
            self.line(f"predicted {predicting_figures(event)}")

    def _work(self, event: Working) -> None:
        """A line now and then, and one at the end."""
        now = time.monotonic()
        if event.ended or now - self._told_at >= _SECONDS_BETWEEN_LINES:
            self._told_at = now
            self.line(f"{event.task}: {working_figures(event)}")

    def close(self) -> None:
        """Leave the terminal as it was."""


class BarProgress(PlainProgress):
    """A bar for the present epoch under the lines of those that are over."""

    def __init__(self, *, verbose: bool = False) -> None:
        super().__init__(verbose=verbose)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        # The bar is drawn by a thread of its own, too, whose fault would end the training.
        self._console = Console(file=cast(TextIO, Unfailing(sys.stderr)), highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=1, figures="")

    def __call__(self, event: Event) -> None:
        """Say what the event says."""
        if isinstance(event, StepDone):
            self._bar.update(
                self._task,
                description=f"epoch {event.epoch:>{len(str(event.epochs))}}/{event.epochs}",
                completed=event.position,
                total=event.steps_per_epoch,
                figures=step_figures(event),
            )
            return
        super().__call__(event)
        if isinstance(event, PreparationDone):
            self._bar.stop()
        elif isinstance(event, Started):
            self._bar.start()
        elif isinstance(event, Ended):
            self.close()

    def _prepare(self, event: Preparing) -> None:
        self._bar.start()
        self._bar.update(
            self._task,
            description=_ACTIVITIES[event.activity],
            completed=event.done,
            total=event.total,
            figures=preparing_figures(event),
        )

    def _predict(self, event: Predicting) -> None:
        if event.ended:
            self._bar.stop()
            self.line(f"predicted {predicting_figures(event)}")
            return
        self._bar.start()
        self._bar.update(
            self._task,
            description="predicting",
            completed=event.done,
            total=event.total,
            figures=predicting_figures(event),
        )

    def _work(self, event: Working) -> None:
        if event.ended:
            self._bar.stop()
            self.line(f"{event.task}: {working_figures(event)}")
            return
        self._bar.start()
        self._bar.update(
            self._task,
            description=event.task,
            completed=event.done,
            total=event.total,
            figures=working_figures(event),
        )

    def line(self, text: str) -> None:
        """Print one line above the bar."""
        self._console.print(message(text), markup=False, emoji=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def progress_for_stderr(*, verbose: bool = False) -> PlainProgress:
    """A bar in a terminal, plain lines elsewhere."""
    kind = BarProgress if sys.stderr.isatty() else PlainProgress
    return kind(verbose=verbose)


def opening_lines(started: Started) -> list[str]:
    """What is about to be trained on what, and the chance level."""
    machine = f"{started.device}, {started.amp_dtype}, {started.memory_format}"
    if started.device == "cpu":
        machine += f", {started.threads} thread{'s' if started.threads > 1 else ''}"
    lines = [
        f"{started.source}: {started.train_images:,} images to train on, "
        f"{started.val_images:,} to validate, {started.test_images:,} to test; "
        f"{started.num_classes} classes",
        f"{started.model}: {started.parameters:,} parameters; {machine}",
    ]
    if started.engine:
        lines.append(started.engine)
    if started.untrained_loss is not None:
        line = f"loss before training: {started.untrained_loss:.3f}"
        if started.expected_loss is not None:
            line += f"; chance level for {started.num_classes} classes: {started.expected_loss:.3f}"
        lines.append(line)
    if started.step:
        lines.append(f"resuming after step {started.step:,}")
    lines.append(f"run: {started.run}")
    return lines


def epoch_line(row: dict[str, Any], epochs: int, *, balanced: bool = False) -> str:
    """One epoch's figures, at most 80 columns; with `balanced`, a figure more and fewer digits."""
    width = len(str(epochs))
    loss, share = (".3f", "5.1%") if balanced else (".4f", "6.2%")
    text = (
        f"epoch {row['epoch']:>{width}}/{epochs}  loss {row['train_loss']:{loss}}  "
        f"{'acc' if balanced else 'accuracy'} {row['train_accuracy']:{share}}"
    )
    if row["val_loss"] is not None:
        text += f"  val {row['val_loss']:{loss}} {row['val_accuracy']:{share}}"
        # Runs from before it was noted have none.
        if balanced and row.get("val_balanced_accuracy") is not None:
            text += f" bal {row['val_balanced_accuracy']:{share}}"
    return f"{text}  {row['images_per_second']:,.0f}/s"


def preparing_figures(event: Preparing) -> str:
    """How far it is, how fast, how long."""
    return (
        f"{event.done:,}/{event.total:,}  {event.pictures_per_second:,.0f}/s  "
        f"{duration(event.seconds_left)} left"
    )


def predicting_figures(event: Predicting) -> str:
    """How far it is, how fast, how long where that is known, and what could not be read."""
    total = "" if event.total is None or event.ended else f"/{event.total:,}"
    left = "" if event.seconds_left is None else f"  {duration(event.seconds_left)} left"
    unreadable = f"  {event.unreadable:,} without prediction" if event.unreadable else ""
    return f"{event.done:,}{total}  {event.pictures_per_second:,.0f}/s{left}{unreadable}"


def working_figures(event: Working) -> str:
    """How far all workers are, how fast, how long where that is known."""
    left = "" if event.seconds_left is None else f"  {duration(event.seconds_left)} left"
    return (
        f"{event.done:,}/{event.total:,} pictures, {event.shards_done:,}/{event.shards:,} shards  "
        f"{event.pictures_per_second:,.0f}/s{left}"
    )


def preparation_line(done: PreparationDone) -> str:
    """What came of it."""
    pace = (done.decoded + done.copied) / max(done.seconds, 1e-9)
    copied = f", {done.copied:,} of them from the cache" if done.copied else ""
    unreadable = f"; {done.unreadable:,} unreadable" if done.unreadable else ""
    return (
        f"prepared {done.decoded + done.copied:,} pictures in {done.seconds:.1f} s "
        f"({pace:,.0f}/s){copied}{unreadable}"
    )


def step_figures(step: StepDone) -> str:
    """What stands right of the bar."""
    return (
        f"{step.images_per_second:,.0f}/s  loss {step.train_loss:.3f}  "
        f"acc {step.train_accuracy:.1%}  {duration(step.seconds_left)} left"
    )


def duration(seconds: float) -> str:
    """Seconds in the form 0:42 or 1:02:03."""
    whole = math.ceil(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
