"""Runs the loop for a run's folder: in one stretch, or in several where the engine changes."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from .. import assembly
from ..assembly import Assembly
from ..errors import FileError, Interrupted, SartorError, TrainingError
from ..events import CheckpointDue, Ended, Event
from ..files import write_text
from ..interrupts import StopRequest, stop_requests
from ..models.custom import reason_of
from ..recipe import ResolvedRecipe
from ..runs.folder import RunFolder
from ..runs.seals import seals_of
from ..runs.sinks import Recorder
from ..training.engine_changes import next_change, plan_at
from ..training.engines import hardware
from ..training.loop import Job
from ..training.state import Progress, snapshot
from .notes import Sink
from .remarks import Remarks
from .transferring import loop_of
from .tuning import can_measure_again, faster_engine


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """What is trained, where it is kept, and who is told."""

    folder: RunFolder
    assembled: Assembly
    """With the engine that the recipe ends with."""
    progress: Progress
    on_event: Sink | None
    promise: str
    """Whether a report follows, as `RunFolder.report_state` says it."""
    steps_per_second: float = 0.0
    """As measured before; 0 where nothing was."""


def recording_sink(folder: RunFolder, on_event: Sink | None) -> Sink:
    """Keeps the events of a training in its folder, and passes them on."""
    recorder = Recorder(folder, seals_of(folder))

    def both(event: Event) -> None:
        recorder(event)
        if on_event is not None:
            on_event(event)

    return both


def keep_recipe(folder: RunFolder, before: ResolvedRecipe, recipe: ResolvedRecipe) -> None:
    """Make this the run's recipe; a different one before it is kept beside it."""
    if recipe == before:
        return
    number = len(list(folder.path.glob("recipe-before-*.toml"))) + 1
    write_text(folder.path / f"recipe-before-{number}.toml", before.to_toml())
    write_text(folder.recipe_path, recipe.to_toml())


def run_training(training: Training) -> None:
    """Train to the end, record all events, and leave a true status however it ends.

    Raises:
        Interrupted: by a signal, after saving. TrainingError: as its sentence says.
    """
    folder, progress, promise = training.folder, training.progress, training.promise
    reason = "failed"
    folder.write_status("running", report=promise)
    try:
        with stop_requests() as request:
            reason = _all_stretches(training, request)
    except BaseException as error:
        state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(FileError):
            folder.write_status(state, report=promise, reason=str(error) or type(error).__name__)
        raise
    folder.write_status(reason, report=promise)
    if reason == "interrupted":
        raise Interrupted(
            request.signal_number,
            f"Stopped after step {progress.step}, in epoch {progress.epoch + 1}; all is saved.",
            f"Go on with: sartor resume {shlex.quote(str(folder.path))}",
        )


def _all_stretches(training: Training, request: StopRequest) -> str:
    """Train with one engine after the other; how it ended, as `Ended` says it."""
    assembled, progress = training.assembled, training.progress
    job = _with_plan_of_now(assembled, assembled.job, progress)
    remarks = Remarks(
        job,
        progress,
        training.on_event,
        steps_per_second=training.steps_per_second,
        can_measure_again=can_measure_again(training.folder, job.settings),
    )
    while True:
        reason = _stretch(training, assembled, job, remarks, request.asked)
        if reason is not None:
            return reason
        planned = next_change(assembled.recipe.training, progress.step - 1) is not None
        if remarks.wants_another_engine and not planned:
            assembled = _with_faster_engine(training, assembled, job, remarks)
        job = _with_plan_of_now(assembled, job, progress)


def _stretch(
    training: Training,
    assembled: Assembly,
    job: Job,
    remarks: Remarks,
    stop_asked: Callable[[], bool],
) -> str | None:
    """Train with one engine; how it ended, None where the next one's turn is."""
    progress = training.progress
    sink = recording_sink(training.folder, training.on_event)
    change, reason = next_change(assembled.recipe.training, progress.step), None

    def pause_asked() -> bool:
        return progress.step == change or (change is None and remarks.wants_another_engine)

    with hardware.tuned(job.settings, job.model), assembly.batches_ahead(job) as fed:
        events = loop_of(assembled)(fed, progress, stop_asked, pause_asked)
        for event in _explained(events, progress):
            if isinstance(event, Ended):
                assembly.check_unchanged(job)
                reason = event.reason
            sink(event)
            remarks.look(event)
    return reason


def _with_plan_of_now(assembled: Assembly, before: Job, progress: Progress) -> Job:
    """The job with the engine whose turn is, the same network and the state of its optimizer."""
    plan = plan_at(assembled.recipe.training, progress.step)
    if all(getattr(before.settings, name) == value for name, value in plan.items()):
        return before
    changed = assembled.with_engine(hardware.ExecutionPlan.from_settings(plan))
    changed.job.optimizer.load(before.optimizer.tensors)
    return changed.job


def _with_faster_engine(
    training: Training, assembled: Assembly, job: Job, remarks: Remarks
) -> Assembly:
    """Measure again; with the engine that is far faster, which the recipe says from here on."""
    folder, progress = training.folder, training.progress
    began = time.perf_counter()
    chosen, sentence = faster_engine(folder, replace(assembled, job=job), progress.step)
    remarks.measured(sentence)
    if chosen is not None:
        recipe = assembled.recipe.with_engine_from(progress.step, **vars(chosen))
        keep_recipe(folder, assembled.recipe, recipe)
        assembled = replace(assembled, recipe=recipe)
    progress.seconds += time.perf_counter() - began
    if chosen is not None:
        # Its checkpoint vouches for the changed recipe.
        kept = snapshot(job.model, job.optimizer, progress, job.classes)
        recording_sink(folder, None)(CheckpointDue(last=kept, best=None))
    return assembled


def _explained(events: Iterator[Event], progress: Progress) -> Iterator[Event]:
    """The same events; what a user's own network raises becomes an error that names the step."""
    try:
        yield from events
    except (SartorError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise TrainingError(
            f"{type(error).__name__} after step {progress.step}, in epoch {progress.epoch + 1}: "
            f"{reason_of(error)}.",
            "Correct the model and train again; SARTOR_DEBUG=1 shows where it happened.",
        ) from error
