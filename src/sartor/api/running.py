"""Runs the loop for a run's folder: in one stretch, or in several where the engine changes."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .. import assembly
from ..assembly import Assembly
from ..distributed import Team
from ..errors import FileError, Interrupted, RunError, SartorError, TrainingError
from ..events import CheckpointDue, Ended, Event
from ..files import free_bytes, write_text
from ..interrupts import StopRequest, stop_requests
from ..models.custom import reason_of
from ..recipe import ResolvedRecipe
from ..runs.folder import RunFolder
from ..runs.place import Place
from ..runs.seals import seals_of
from ..runs.sinks import Recorder
from ..training.engine_changes import next_change, plan_at
from ..training.engines import hardware
from ..training.loop import Job
from ..training.state import Progress, snapshot
from ..training.together import shared
from .notes import Sink, note
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
    team: Team | None = None
    """The processes that train together; None where this one is alone."""
    steps_per_second: float = 0.0
    """As measured before; 0 where nothing was."""


def recording_sink(place: Place, on_event: Sink | None) -> Sink:
    """Keeps the events of a training in its folder, and passes them on."""
    recorder = Recorder(place, seals_of(place.now()))

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


def run_training(training: Training) -> RunFolder:
    """Train to the end, record all events, and leave a true status however it ends.

    Returns:
        The run's folder, which may have been moved meanwhile.

    Raises:
        Interrupted: by a signal, after saving. TrainingError: as its sentence says. RunError: the
            folder was deleted.
    """
    progress, promise = training.progress, training.promise
    reason = "failed"
    training.folder.write_status("running", report=promise)
    with Place.of(training.folder) as place:
        try:
            with stop_requests() as request:
                reason = _all_stretches(training, place, request)
            folder = place.now()
        except BaseException as error:
            state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            said = str(error) or type(error).__name__
            with suppress(FileError, RunError):
                place.now().write_status(state, report=promise, reason=said)
            raise
    folder.write_status(reason, report=promise)
    if folder != training.folder:
        note(training.on_event, f"{training.folder.path} was moved: the run is in {folder.path}")
    if reason == "interrupted":
        raise Interrupted(
            request.number,
            f"Stopped after step {progress.step}, in epoch {progress.epoch + 1}; all is saved.",
            f"Go on with: sartor resume {shlex.quote(str(folder.path))}",
        )
    return folder


def refuse_small_disk(path: Path, job: Job, *, credit: int = 0) -> None:
    """Raise where the checkpoints of a training will not fit on the disk, before its first step.

    Args:
        path: the run's folder, which may not be there yet.
        credit: bytes of its checkpoints that are there already, and are replaced.

    Raises:
        FileError: too little is free.
    """
    weights = _bytes(job.model.state_dict())
    state = 0 if job.settings.transfer == "features" else _bytes(job.optimizer.tensors)
    # The last, the one before it, one being written, and the best epoch's weights, twice for the
    # same reason; they have to fit beside each other.
    wanted = 3 * (weights + state) + 2 * weights - credit
    folder = next(one for one in (path, *path.absolute().parents) if one.is_dir())
    free = free_bytes(folder)
    if wanted > free:
        raise FileError(
            f"Checkpoints in {path} take up to {wanted / 1e6:,.1f} MB; its disk has "
            f"{free / 1e6:,.1f} MB left.",
            "Free some space, or choose a folder on another disk with --out.",
        )


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _all_stretches(training: Training, place: Place, request: StopRequest) -> str:
    """Train with one engine after the other; how it ended, as `Ended` says it."""
    assembled, progress = training.assembled, training.progress
    job = with_plan_of_now(assembled, assembled.job, progress)
    remarks = Remarks(
        job,
        progress,
        training.on_event,
        steps_per_second=training.steps_per_second,
        # Several processes would have to measure together.
        can_measure_again=training.team is None
        and can_measure_again(training.folder, job.settings),
    )
    while True:
        reason = _stretch(training, place, assembled, job, remarks, request)
        if reason is not None:
            return reason
        planned = next_change(assembled.recipe.training, progress.step - 1) is not None
        if remarks.wants_another_engine and not planned:
            assembled = _with_faster_engine(training, place, assembled, job, remarks)
        job = with_plan_of_now(assembled, job, progress)


def _stretch(
    training: Training,
    place: Place,
    assembled: Assembly,
    job: Job,
    remarks: Remarks,
    request: StopRequest,
) -> str | None:
    """Train with one engine; how it ended, None where the next one's turn is."""
    progress = training.progress
    sink = recording_sink(place, training.on_event)
    change, reason = next_change(assembled.recipe.training, progress.step), None

    def pause_asked() -> bool:
        if change is None:
            return remarks.wants_another_engine
        # One in the middle of an epoch is made at its end.
        return progress.step >= change

    with (
        hardware.tuned(job.settings),
        shared(job, training.team, request) as own,
        assembly.batches_ahead(own) as fed,
    ):
        events = loop_of(assembled)(fed, progress, request.asked, pause_asked)
        for event in _explained(events, progress):
            if isinstance(event, Ended):
                assembly.check_unchanged(job)
                reason = event.reason
            sink(event)
            remarks.look(event)
    return reason


def with_plan_of_now(assembled: Assembly, before: Job, progress: Progress) -> Job:
    """The job with the engine whose turn is, the same network and the state of its optimizer."""
    plan = plan_at(assembled.recipe.training, progress.step)
    if all(getattr(before.settings, name) == value for name, value in plan.items()):
        return before
    instructions = plan.get("instructions")
    changed = assembled.with_engine(
        hardware.ExecutionPlan.from_settings(plan), str(instructions) if instructions else None
    )
    changed.job.optimizer.load(before.optimizer.tensors)
    return changed.job


def _with_faster_engine(
    training: Training, place: Place, assembled: Assembly, job: Job, remarks: Remarks
) -> Assembly:
    """Measure again; with the engine that is far faster, which the recipe says from here on."""
    folder, progress = place.now(), training.progress
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
        recording_sink(place, None)(CheckpointDue(last=kept, best=None))
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
