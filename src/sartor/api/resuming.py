"""Go on with a run from its last checkpoint, or train it for more epochs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from .. import native_module
from ..assembly import assemble
from ..console.watching import shown
from ..distributed import follows, processes
from ..errors import CheckpointError, RunError, UsageError
from ..files import write_json, write_json_lines
from ..home import tidy_cache
from ..recipe import ResolvedRecipe
from ..runs.environment import describe_environment, differences
from ..runs.folder import RunFolder
from ..training.engine_changes import plans_from
from ..training.engines import hardware
from ..training.loop import Job
from ..training.schedule import extended_at, learning_rate, planned_epochs
from ..training.settings import RETIRED_ENGINES
from ..training.state import Checkpoint, Progress
from . import starting
from .beginnings import started_event
from .calibrating import calibrate
from .calling import called_together, heard_by_all, packed
from .finishing import judge, make_report
from .following import follow_fit
from .kept_checkpoints import checkpoint_at
from .notes import Sink, note, warn
from .opened import OpenedRun, find_checkpoint, open_run, with_weights
from .other_data import recipe_at, run_with
from .running import Training, keep_recipe, refuse_small_disk, run_training

_JUMP = 2
"""A learning rate that grows by more than this factor where a run is extended is warned of."""


def resume(
    run: str | Path | OpenedRun,
    *,
    epochs: int | None = None,
    data: Any = None,
    model: nn.Module | None = None,
    report: bool | None = None,
    device: str | None = None,
    trust: bool = False,
    progress: bool | None = None,
    on_event: Sink | None = None,
) -> OpenedRun:
    """Continue a run where it stopped, or train a finished one for more epochs.

    On the processor the weights end bit for bit as if it had never stopped. `data` says where
    the data lies now, if it moved. Runs that were given data or a model as Python objects need
    these again.

    Args:
        report: write the report of the validation split at the end; by default as `fit` was told,
            and for more epochs always. A finished run whose report is still due gets it.
        device: auto, cpu, cuda or mps; by default the device that it was on, if it is here.
        trust: let the run's own Python file run, whoever wrote it.
        progress: as for `fit`.

    Raises:
        RunError: no such run, broken, in use, or from another version. Others as `fit`.
    """
    if follows():
        return follow_fit(data, model)
    with shown(progress, on_event) as sink, heard_by_all() as told:
        opened = open_run(run, None, model, device=device, trust=trust)
        moved = Path(data) if isinstance(data, str | Path) else None
        over = resumed(run_with(opened, data, on_event=sink), epochs, report, moved, sink)
        told["run"] = str(over.path.absolute())
        return over


def resumed(
    before: OpenedRun,
    epochs: int | None,
    report: bool | None,
    moved: Path | None,
    on_event: Sink | None,
) -> OpenedRun:
    """As `resume`; `moved` is where the data lies now, if that was said."""
    tidy_cache()
    with before.folder.locked():
        before.folder.settle()
        promised = before.folder.report_state()
        if report is None:
            report = promised != "none" or epochs is not None
        checkpoint = _checkpoint_or_none(before.folder)
        progress = checkpoint.progress.copy() if checkpoint else Progress()
        recipe = _extended(before, progress, epochs)
        if progress.position == 0 and extended_at(recipe.training.extensions, progress.step):
            # As the loop does where it meets the extension in a training from the start.
            progress.stopped_early, progress.patience_from = False, progress.epoch
        if progress.epoch >= recipe.training.epochs or progress.stopped_early:
            _close(before, recipe, progress)
            note(on_event, f"{before.path} is finished; train it longer with --epochs N.")
            # It may have been killed just before.
            calibrate(before)
            if report and promised == "due":
                note(on_event, "Its report was not made yet: making it now.")
                make_report(before)
            return before
        if moved is not None:
            recipe = recipe_at(before, recipe, moved)
        _continue(before, recipe, checkpoint, progress, "due" if report else "none", on_event)
        judge(before, report=report)
    return before


def _continue(
    run: OpenedRun,
    recipe: ResolvedRecipe,
    checkpoint: Checkpoint | None,
    progress: Progress,
    promise: str,
    on_event: Sink | None,
) -> None:
    recipe = _with_engine_of_here(run, recipe, progress, on_event)
    model_file = run.model_file()
    dataset = run.dataset(on_event=on_event)
    ready = time.perf_counter()
    # A checkpoint has weights of its own.
    weights = starting.starting_weights(recipe) if checkpoint is None else None
    assembled = assemble(recipe, dataset, run.split(), run.given_network, model_file, weights)
    job = assembled.job
    if checkpoint:
        with_weights(job.model, checkpoint, run.path)
        if recipe.training.transfer != "features":
            _load_optimizer(job, checkpoint, run.path)
    refuse_small_disk(run.path, job, credit=run.folder.checkpoint_bytes())
    _say_new_rates(job, progress.step, on_event)
    _say_new_number(run, on_event)
    _say_other_environment(run, progress.step)
    others = partial(packed, run.folder, recipe)
    with called_together(assembled, others, progress.step, on_event) as team:
        # First, for a run whose recipe has more epochs than its weights is not finished.
        run.folder.write_status("running", report=promise)
        keep_recipe(run.folder, run.recipe, recipe)
        write_json_lines(run.folder.history_path, progress.history)
        progress.seconds += time.perf_counter() - ready
        if on_event is not None:
            on_event(started_event(run.folder, assembled, progress, None))
        run.folder = run_training(
            Training(
                folder=run.folder,
                assembled=assembled,
                progress=progress,
                on_event=on_event,
                promise=promise,
                team=team,
            )
        )


def _checkpoint_or_none(folder: RunFolder) -> Checkpoint | None:
    """The newest intact checkpoint; None for a run that was killed before its first.

    Raises:
        CheckpointError: none is whole, or the best epoch's weights are not.
    """
    if not folder.checkpoints("last"):
        return None
    kept, path = find_checkpoint(folder, "last")
    _refuse_damaged_best(folder, kept.progress)
    folder.go_on_from(path)
    return kept


def _refuse_damaged_best(folder: RunFolder, progress: Progress) -> None:
    """The end would be another one, for the best weights are not made again.

    Raises:
        CheckpointError: the best epoch's weights are damaged.
    """
    path = folder.best_path
    if progress.best_value is None or not path.is_file():
        return
    try:
        checkpoint_at(folder, path)
    except RunError as error:
        again = f"sartor fit --recipe {shlex.quote(str(folder.recipe_path))}"
        raise CheckpointError(
            f"{error.message} The weights of epoch {progress.best_epoch}, the best, are lost.",
            f"Train again for the same result: {again}; or delete the file to go on without it.",
        ) from error


def _load_optimizer(job: Job, checkpoint: Checkpoint, run: Path) -> None:
    try:
        job.optimizer.load(checkpoint.optimizer)
    except ValueError as error:
        raise RunError(
            f"The state in {run} does not fit its model: {error}.",
            "Give the network that was trained, with the same layers frozen.",
        ) from error


def _with_engine_of_here(
    run: OpenedRun, recipe: ResolvedRecipe, progress: Progress, on_event: Sink | None
) -> ResolvedRecipe:
    """The recipe as this machine can go on with it; where that is with another engine, it says
    from which step on."""
    step, device = progress.step, run.here(recipe).training.device
    reasons = [_why_gone(run, plan, device) for plan in plans_from(recipe.training, step)]
    reason = next(filter(None, reasons), None)
    if reason is None:
        return run.here(recipe)
    before = recipe.without_engines_after(step)
    here = run.here(before)
    if here.training.engine in RETIRED_ENGINES:
        here = here.to_run_here({"engine": "plain"})
    plan = hardware.ExecutionPlan.of(here.training)
    changed = before.with_engine_from(step, **vars(plan))
    if step and hardware.ExecutionPlan.of(before.training) != plan:
        note(
            on_event,
            f"{reason}: from step {step} on, in epoch {progress.epoch + 1}, with {plan.engine}. "
            "recipe.toml records the change; weights differ from those without it by rounding.",
        )
    return changed.to_run_here(
        {name: getattr(here.training, name) for name in ("device", "instructions")}
    )


def _why_gone(run: OpenedRun, plan: Mapping[str, str | int], device: str) -> str | None:
    """Why a run cannot go on with an engine of its own, as the beginning of a sentence."""
    engine, instructions = str(plan["engine"]), plan.get("instructions")
    if engine in RETIRED_ENGINES:
        return f"The engine {engine} that {run.path} was trained with is gone"
    problem = hardware.problem(engine, device, str(plan["amp_dtype"]))
    if problem is None and instructions not in (None, *native_module.bfloat16_sets()):
        problem = f"instructions {instructions} are not available"
    return problem and f"{problem[0].upper()}{problem[1:]}"


def _extended(run: OpenedRun, progress: Progress, epochs: int | None) -> ResolvedRecipe:
    """The run's recipe, with the number of epochs that was asked for."""
    recipe = run.recipe
    if epochs is None:
        return recipe
    begun = progress.epoch + (progress.position > 0)
    if 1 <= epochs < begun:
        raise UsageError(
            f"{run.path} is in epoch {begun} already, beyond --epochs {epochs}."
            if progress.position
            else f"{run.path} has {begun} epochs already, more than --epochs {epochs}.",
            "Give the total number of epochs.",
        )
    extended = recipe.extended(epochs, progress.step)
    planned = progress.epoch if progress.stopped_early else recipe.training.epochs
    return recipe if epochs == planned else extended


def _close(run: OpenedRun, recipe: ResolvedRecipe, progress: Progress) -> None:
    """Mark a run as over that was killed before it could do so itself; its history is that of its
    checkpoint, as it is for a run that goes on."""
    keep_recipe(run.folder, run.recipe, recipe)
    state = "stopped early" if progress.stopped_early else "finished"
    if run.folder.history() != progress.history:
        write_json_lines(run.folder.history_path, progress.history)
    if run.status["state"] != state:
        report = {"report": promised} if (promised := run.folder.report_state()) else {}
        run.folder.write_status(state, **report)


def _say_new_rates(job: Job, step: int, on_event: Sink | None) -> None:
    """Before a longer training begins: that its learning rates are not those of a single plan."""
    settings, steps_per_epoch = job.settings, len(job.batches)
    if not extended_at(settings.extensions, step):
        return
    last = learning_rate(settings, step - 1, steps_per_epoch)
    following = learning_rate(settings, step, steps_per_epoch)
    if following == last:
        return
    sentence = (
        f"After step {step} the learning rate goes {'up' if following > last else 'down'} from "
        f"{last:.3g} to {following:.3g}: the {settings.sched} schedule, planned over "
        f"{_epochs(planned_epochs(settings, step - 1))} until here, continues as one over "
        f"{_epochs(settings.epochs)}. Training {_epochs(settings.epochs)} from the start gives "
        "other weights."
    )
    note(on_event, sentence)
    if on_event is None and following > _JUMP * last:
        warn([sentence])


def _say_other_environment(run: OpenedRun, step: int) -> None:
    """Name what has changed since the run was begun and may change bits; the run remembers it."""
    then, now = run.folder.environment(), describe_environment()
    found = differences(_table(then.get("now")) or then, now)
    if not found:
        return
    run.say_once(
        f"Since {run.path} was trained last, something has changed that results may depend on in "
        f"their last digits: {', '.join(found)}."
    )
    before = then.get("changes")
    changes = [*(before if isinstance(before, list) else ()), {"step": step, "differences": found}]
    kept = {name: value for name, value in then.items() if name != "now"}
    write_json(run.folder.environment_path, {**kept, "changes": changes, "now": now})


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _say_new_number(run: OpenedRun, on_event: Sink | None) -> None:
    """That another number of processes goes on than began."""
    began = run.folder.environment().get("processes")
    before = began.get("count") if isinstance(began, dict) else 1
    if before != processes():
        note(
            on_event,
            f"{run.path} was begun by {before} process{'es' if before != 1 else ''}, and "
            f"{processes()} {'go' if processes() != 1 else 'goes'} on: weights differ by rounding "
            "from those without the change.",
        )


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"
