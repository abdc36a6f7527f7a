"""Fit and resume: from a recipe and a dataset to a run."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from .. import assembly
from ..arrays import Int64Array, UInt8Array
from ..assembly import Assembly, Material, assemble
from ..console.watching import shown
from ..data.dataset import Dataset
from ..data.pictures.exclude import exclusion_list
from ..data.splits.split import Split
from ..distributed import follows, processes
from ..errors import CheckpointError, FileError, RunError, SartorError, UsageError
from ..events import Started
from ..files import write_bytes, write_json, write_json_lines, write_text
from ..home import tidy_cache
from ..inference import familiarity
from ..inspection.probes.preflight import count_parameters
from ..models.custom import is_custom, source_of
from ..recipe import Recipe, ResolvedRecipe
from ..runs.environment import describe_environment, differences
from ..runs.folder import RunFolder, create_run
from ..runs.place import Place
from ..runs.store import RUNS
from ..runs.trust import mark_as_ours
from ..training.engine_changes import engines_from
from ..training.engines import hardware
from ..training.loop import Job
from ..training.objective import chance_level
from ..training.schedule import extended_at, learning_rate, planned_epochs
from ..training.settings import RETIRED_ENGINES
from ..training.state import Checkpoint, Progress
from . import starting
from .calibrating import calibrate
from .calling import called_together, heard_by_all, packed, run_of_this_launch
from .composing import assembled_from, dataset_and_recipe, refuse_small_memory, try_model
from .following import follow_fit
from .kept_checkpoints import checkpoint_at
from .native_engine import facts, reason_without, say_once_how_to_have_it
from .notes import Sink, note, warn
from .opened import OpenedRun, find_checkpoint, open_run, with_weights
from .other_data import recipe_at, run_with
from .running import Training, keep_recipe, refuse_small_disk, run_training
from .splitting import (
    imbalanced,
    split_warnings,
    touched_parts,
)
from .tuning import Tuning, how_chosen, tune

_JUMP = 2
"""A learning rate that grows by more than this factor where a run is extended is warned of."""


def fit(
    data: Any = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    check: bool = True,
    report: bool = True,
    trust: bool = False,
    progress: bool | None = None,
    on_event: Sink | None = None,
    **settings: Any,
) -> OpenedRun:
    """Train a classifier and keep the results in a run's folder.

    Args:
        data: a named set, the path of your own (see `load`), a `Dataset`, (images, labels), a torch
            or Hugging Face dataset, or a DataFrame; by default the recipe's.
        model: a registered name, "path/file.py:Name", or any network (B, C, H, W) -> (B, classes).
        recipe: a shipped recipe's name, a TOML file or a `Recipe` to start from; by default
            "pictures" for colour or larger images, "digits" for gray ones of at most 12 pixels,
            else "plain".
        out: the run's folder; by default the next free runs/NAME.
        check: run the fast checks of the data before the first step.
        report: write report.html and report.json, which evaluate the validation split, at the end.
        trust: let a Python file run that only the recipe's file names, whoever wrote it.
        progress: show how training goes, on stderr or below the cell of a notebook; by default in
            a terminal and in a notebook, unless `on_event` is given.
        on_event: called with every event of the training.
        settings: anything that `sartor fit --help-all` lists, such as epochs=5, lr=0.01, seed=1.

    Raises:
        RecipeError: every problem of the settings at once. Interrupted: by a signal, after saving.
        DataError, ModelError, TrainingError, FileError: as their sentences say.
    """
    if follows():
        return follow_fit(data, model)
    tidy_cache()
    with shown(progress, on_event) as sink, heard_by_all() as told:
        begun = run_of_this_launch(None if out is None else Path(out))
        if begun is not None:
            run = _taken_up(begun, data, model, trust, sink)
        else:
            run = _fit(data, model, recipe, out, check, report, trust, sink, settings)
        told["run"] = str(run.path.absolute())
        return run


def _taken_up(
    folder: RunFolder, data: Any, model: str | nn.Module | None, trust: bool, on_event: Sink | None
) -> OpenedRun:
    """Go on with a run whose processes were started again, since one of them had ended."""
    note(on_event, f"A process ended; all go on with {folder.path} from its last checkpoint.")
    network = model if isinstance(model, nn.Module) else None
    run = open_run(folder.path, None, network, trust=trust)
    given = None if isinstance(data, str | Path) else data
    return _resume(run_with(run, given, on_event=on_event), None, None, None, on_event)


def _fit(
    data: Any,
    model: str | nn.Module | None,
    recipe: str | Path | Recipe | None,
    out: str | Path | None,
    check: bool,
    report: bool,
    trust: bool,
    on_event: Sink | None,
    settings: Mapping[str, Any],
) -> OpenedRun:
    dataset, wanted = dataset_and_recipe(data, model, recipe, settings, on_event, trust)
    ready = time.perf_counter()
    ranges = _RangesAhead()
    assembled = assembled_from(wanted, dataset, model, ranges.begin)
    for line in assembled.remarks:
        note(on_event, line)
    way = assembled.recipe.training.transfer
    # A backbone that somebody else has trained needs no trial of its gradients.
    loss, warned = (None, []) if way in ("features", "ladder") else try_model(assembled)
    if way == "ladder":
        refuse_small_memory(assembled)
    warn([*split_warnings(assembled.recipe, dataset, assembled.material.split), *warned])
    for line in touched_parts(dataset, assembled.material.split):
        note(on_event, line)
    tuning = None if way == "features" else tune(wanted, assembled)
    if tuning:
        assembled = assembled.with_engine(tuning.engine)
    material, without_native = assembled.material, reason_without(wanted, assembled)
    say_once_how_to_have_it(on_event)
    refuse_small_disk(RUNS if out is None else Path(out), assembled.job)
    others = partial(_beginnings, assembled, dataset)
    with called_together(assembled, others, 0, on_event) as team:
        stem = f"{dataset.name}-{_short_name(assembled.recipe)}"
        folder = create_run(None if out is None else Path(out), stem, RUNS)
        with folder.locked():
            # Another process may have come first since the folder was made.
            folder.refuse_unless_empty()
            folder.begin()
            if check:
                _check_data(folder, assembled.recipe, dataset, material.split, on_event)
            resolved = _keep_lists(folder, assembled.recipe, dataset)
            promise = "due" if report else "none"
            engine = facts(without_native, assembled, how_chosen(wanted, assembled, tuning))
            _write_beginnings(folder, resolved, material, tuning, promise, engine)
            write_json(folder.input_ranges_path, ranges.result())
            progress = Progress(seconds=time.perf_counter() - ready)
            if on_event is not None:
                started = _started(folder, assembled, progress, loss, tuning)
                on_event(replace(started, without_native=without_native))
            folder = run_training(
                Training(
                    folder=folder,
                    assembled=replace(assembled, recipe=resolved),
                    progress=progress,
                    on_event=on_event,
                    promise=promise,
                    team=team,
                    steps_per_second=tuning.steps_per_second if tuning else 0.0,
                )
            )
            run = OpenedRun(
                folder,
                dataset=dataset,
                network=model if isinstance(model, nn.Module) else None,
                # Its Python file ran in this process already.
                trust=is_custom(assembled.recipe.model.model),
            )
            _judge(run, report=report, split=material.split)
        return run


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
        resumed = _resume(run_with(opened, data, on_event=sink), epochs, report, moved, sink)
        told["run"] = str(resumed.path.absolute())
        return resumed


def _resume(
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
                _report(before)
            return before
        if moved is not None:
            recipe = recipe_at(before, recipe, moved)
        _continue(before, recipe, checkpoint, progress, "due" if report else "none", on_event)
        _judge(before, report=report)
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
            on_event(_started(run.folder, assembled, progress, None))
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


def _with_engine_of_here(
    run: OpenedRun, recipe: ResolvedRecipe, progress: Progress, on_event: Sink | None
) -> ResolvedRecipe:
    """The recipe as this machine can go on with it; where that is with another engine, it says
    from which step on."""
    step, device = progress.step, run.here(recipe).training.device
    reasons = [_why_gone(run, engine, device) for engine in engines_from(recipe.training, step)]
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


def _why_gone(run: OpenedRun, engine: str, device: str) -> str | None:
    """Why a run cannot go on with an engine of its own, as the beginning of a sentence."""
    if engine in RETIRED_ENGINES:
        return f"The engine {engine} that {run.path} was trained with is gone"
    problem = hardware.problem(engine, device)
    return problem and f"{problem[0].upper()}{problem[1:]}"


def _load_optimizer(job: Job, checkpoint: Checkpoint, run: Path) -> None:
    try:
        job.optimizer.load(checkpoint.optimizer)
    except ValueError as error:
        raise RunError(
            f"The state in {run} does not fit its model: {error}.",
            "Give the network that was trained, with the same layers frozen.",
        ) from error


def _check_data(
    folder: RunFolder, recipe: Recipe, dataset: Dataset, split: Split, on_event: Sink | None
) -> None:
    from .precheck import check_before, grave_lines

    findings = check_before(dataset, split)
    write_json(folder.findings_path, findings)
    for line in grave_lines(findings, recipe.data.source):
        note(on_event, line)
    if on_event is None:
        warn(found["summary"] for found in findings if found["severity"] == "error")


def _judge(run: OpenedRun, *, report: bool, split: Split | None = None) -> None:
    """What follows a training: its calibration and its report, wherever the run is moved to.

    Args:
        split: the run's, where it is known already.
    """
    with Place.of(run.folder) as place:
        while True:
            try:
                with run.kept_at_hand(split):
                    calibrate(run)
                    if report:
                        _report(run)
            except SartorError:
                if place.now() == run.folder:
                    raise
            moved = place.now()
            if moved == run.folder:
                return
            # What was written just now may lie nowhere.
            run.folder = moved
            run.calibrations.clear()


def _report(run: OpenedRun) -> None:
    from .reporting import report_of_training

    if report_of_training(run):
        with suppress(FileError):  # the training and its report are there
            run.folder.write_report_is_made()


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


def _close(run: OpenedRun, recipe: ResolvedRecipe, progress: Progress) -> None:
    """Mark a run as over that was killed before it could do so itself."""
    keep_recipe(run.folder, run.recipe, recipe)
    state = "stopped early" if progress.stopped_early else "finished"
    if run.status["state"] != state:
        write_json_lines(run.folder.history_path, progress.history)
        report = {"report": promised} if (promised := run.folder.report_state()) else {}
        run.folder.write_status(state, **report)


def _keep_lists(folder: RunFolder, recipe: ResolvedRecipe, dataset: Dataset) -> ResolvedRecipe:
    """Write what was left out and corrected into the run; the recipe that names these lists.

    What the reader said of the source is written too, such as rows of a list that were left out.
    """
    if dataset.origin is not None:
        listing = dataset.origin.listing
        write_text(folder.source_path, "\n".join((listing.shape, *listing.remarks, "")))
    roster, paths = dataset.everything(), {}
    if roster.by_list:
        excluded = {roster.names[index]: reason for index, reason in roster.by_list.items()}
        write_text(folder.excluded_path, exclusion_list(excluded))
        paths["exclude"] = folder.excluded_path.absolute()
    if recipe.data.fixes:
        write_bytes(folder.fixes_path, Path(recipe.data.fixes).read_bytes())
        paths["fixes"] = folder.fixes_path.absolute()
    return recipe.with_lists(**paths) if paths else recipe


def _beginnings(assembled: Assembly, dataset: Dataset) -> bytes:
    """What other processes need of a run that has no folder yet."""
    with tempfile.TemporaryDirectory(prefix="sartor-") as place:
        folder = RunFolder(Path(place))
        recipe = _keep_lists(folder, assembled.recipe, dataset)
        if is_custom(recipe.model.model):
            write_bytes(folder.model_source_path, source_of(recipe.model.model))
        write_bytes(folder.split_path, assembled.material.split.to_bytes())
        return packed(folder, recipe)


def _write_beginnings(
    folder: RunFolder,
    recipe: ResolvedRecipe,
    material: Material,
    tuning: Tuning | None,
    promise: str,
    engine: Mapping[str, Any],
) -> None:
    """Write everything that reproduces the run, before its first step."""
    if is_custom(recipe.model.model):
        write_bytes(folder.model_source_path, source_of(recipe.model.model))
        try:
            mark_as_ours(folder, recipe.to_tables()["model"])
        except FileError as error:
            warn([f"The run will ask for --trust, for it could not be marked: {error.message}"])
    write_bytes(folder.split_path, material.split.to_bytes())
    write_json(folder.environment_path, {**describe_environment(), **engine})
    if tuning:
        write_json(folder.engine_path, tuning.document)
    folder.write_status("running", report=promise)
    # This makes the folder a run; what follows it can do without.
    write_text(folder.recipe_path, recipe.to_toml())


class _RangesAhead:
    """The input ranges of the training images, computed by a thread while other things are done."""

    def begin(self, images: UInt8Array, train: Int64Array) -> None:
        """Images uint8 (N, C, H, W), and which of them are for training (M,)."""
        rows = train[:: len(train) // familiarity.MOST_IMAGES + 1]
        pool = ThreadPoolExecutor(1, "sartor-ranges")
        self._coming = pool.submit(lambda: familiarity.ranges_of(images[rows]))
        pool.shutdown(wait=False)

    def result(self) -> familiarity.Ranges:
        """As `familiarity.ranges_of`, of evenly chosen images."""
        return self._coming.result()


def _started(
    folder: RunFolder,
    assembled: Assembly,
    progress: Progress,
    loss: float | None,
    tuning: Tuning | None = None,
) -> Started:
    job, recipe, material = assembled.job, assembled.recipe, assembled.material
    training, split = recipe.training, material.split
    return Started(
        run=str(folder.path),
        source=recipe.data.source,
        train_images=len(split.train),
        val_images=len(split.val),
        test_images=len(split.test),
        num_classes=job.num_classes,
        model=recipe.model.model,
        parameters=count_parameters(job.model),
        epochs=training.epochs,
        steps_per_epoch=len(job.batches),
        device=training.device,
        threads=training.threads,
        memory_format=training.memory_format,
        amp_dtype=training.amp_dtype,
        step=progress.step,
        untrained_loss=loss,
        expected_loss=chance_level(training.loss, job.num_classes),
        imbalanced=imbalanced(material.dataset, split),
        engine=tuning.line if tuning else "",
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


def _short_name(recipe: Recipe) -> str:
    """The model's name as part of a folder's name."""
    name = recipe.model.model.removeprefix(assembly.IN_MEMORY)
    return name.rpartition(":")[2].lower() if is_custom(name) else name.lower()
