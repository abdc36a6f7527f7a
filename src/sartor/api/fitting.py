"""Fit and resume: from a recipe and a dataset to a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import assembly
from ..arrays import UInt8Array
from ..assembly import Assembly, Material, assemble
from ..console.watching import shown
from ..data.dataset import Dataset
from ..data.pictures.exclude import exclusion_list
from ..data.sources import as_asked
from ..data.splits.split import Split
from ..errors import FileError, RunError, UsageError
from ..events import Started
from ..files import write_bytes, write_json, write_json_lines, write_text
from ..home import tidy_cache
from ..inference import familiarity
from ..inspection.probes.memory import check_memory
from ..inspection.probes.overfit import OverfitResult
from ..inspection.probes.overfit import overfit_batch as learn_by_heart
from ..inspection.probes.preflight import check_model, count_parameters
from ..inspection.probes.range_test import RangeTest as RangeTest
from ..inspection.probes.range_test import range_test
from ..models.custom import is_custom, source_of
from ..recipe import Recipe, ResolvedRecipe, load_recipe
from ..runs.environment import describe_environment
from ..runs.folder import RunFolder, create_run
from ..runs.store import RUNS
from ..runs.trust import mark_as_ours
from ..training.engines import hardware
from ..training.loop import Job
from ..training.objective import chance_level
from ..training.schedule import extended_at, learning_rate, planned_epochs
from ..training.state import Checkpoint, Progress
from . import starting
from .default_recipe import default_recipe
from .foreign_code import refuse_foreign_code
from .looking import dataset_for
from .notes import Sink, note, warn
from .opened import OpenedRun, load_checkpoint, open_run, with_weights
from .other_data import recipe_at, run_with
from .running import Training, keep_recipe, run_training
from .splitting import (
    imbalanced,
    split_of,
    split_warnings,
    touched_parts,
    without_stale_split,
)
from .transferring import offered, with_transfer
from .tuning import Tuning, tune

_JUMP = 2
"""A learning rate that grows by more than this factor where a run is extended is warned of."""
_MAKING_STEPS = {
    *("epochs", "batch_size", "grad_accum_steps", "drop_last", "sched"),
    *("val_fraction", "test_fraction", "duplicates", "limit_per_class", "exclude"),
}
"""Settings that decide what an extension's step means."""
_ENGINE = {"engine", "threads", "memory_format", "amp_dtype", "device"}
"""Who names one of these wants that engine from the first step."""


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
    tidy_cache()
    with shown(progress, on_event) as sink:
        return _fit(data, model, recipe, out, check, report, trust, sink, settings)


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
    dataset, wanted = _dataset_and_recipe(data, model, recipe, settings, on_event, trust)
    ready = time.perf_counter()
    assembled = _assembled(wanted, dataset, model)
    for line in assembled.remarks:
        note(on_event, line)
    on_features = assembled.recipe.training.transfer == "features"
    # A backbone that somebody else has trained needs no trial of its gradients.
    loss, warned = (None, []) if on_features else _check_model(assembled)
    warn([*split_warnings(assembled.recipe, dataset, assembled.material.split), *warned])
    for line in touched_parts(dataset, assembled.material.split):
        note(on_event, line)
    tuning = None if on_features else tune(wanted, assembled)
    if tuning:
        assembled = assembled.with_engine(tuning.engine)
    material = assembled.material
    folder = create_run(
        None if out is None else Path(out), f"{dataset.name}-{_short_name(assembled.recipe)}", RUNS
    )
    with folder.locked():
        # Another process may have come first since the folder was made.
        folder.refuse_unless_empty()
        folder.begin()
        if check:
            _check_data(folder, assembled.recipe, dataset, material.split, on_event)
        resolved = _keep_lists(folder, assembled.recipe, dataset)
        promise = "due" if report else "none"
        _write_beginnings(folder, resolved, material, tuning, promise)
        progress = Progress(seconds=time.perf_counter() - ready)
        if on_event is not None:
            on_event(_started(folder, assembled, progress, loss, tuning))
        run_training(
            Training(
                folder=folder,
                assembled=replace(assembled, recipe=resolved),
                progress=progress,
                on_event=on_event,
                promise=promise,
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
        if report:
            _report(run)
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
    with shown(progress, on_event) as sink:
        opened = open_run(run, None, model, device=device, trust=trust)
        moved = Path(data) if isinstance(data, str | Path) else None
        return _resume(run_with(opened, data, on_event=sink), epochs, report, moved, sink)


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
        progress = checkpoint.progress if checkpoint else Progress()
        recipe = _extended(before, progress, epochs)
        if progress.position == 0 and extended_at(recipe.training.extensions, progress.step):
            # As the loop does where it meets the extension in a training from the start.
            progress.stopped_early, progress.patience_from = False, progress.epoch
        if progress.epoch >= recipe.training.epochs or progress.stopped_early:
            _close(before, recipe, progress)
            note(on_event, f"{before.path} is finished; train it longer with --epochs N.")
            if report and promised == "due":
                note(on_event, "Its report was not made yet: making it now.")
                _report(before)
            return before
        if moved is not None:
            recipe = recipe_at(before, recipe, moved)
        _continue(before, recipe, checkpoint, progress, "due" if report else "none", on_event)
        if report:
            _report(before)
    return before


def overfit_batch(
    data: str | Path | Dataset | None = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    trust: bool = False,
    on_step: Callable[[int, float, float], None] = lambda _step, _loss, _accuracy: None,
    **settings: Any,
) -> OverfitResult:
    """Train on only the first batch, not augmented, until it is memorised; makes no run.

    A network that cannot do this has a bug, or its learning rate is far off.
    """
    dataset, wanted = _dataset_and_recipe(
        data, model, recipe, settings, None, trust, step_by_step=True
    )
    assembled = _assembled(wanted, dataset, model)
    job = assembled.job
    _, warned = _check_model(assembled)
    warn(warned)
    with hardware.tuned(job.settings):
        return learn_by_heart(job, assembly.first_batch(job), job.settings.lr, on_step)


def find_learning_rate(
    data: str | Path | Dataset | None = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    trust: bool = False,
    on_step: Callable[[int, float, float], None] | None = None,
    **settings: Any,
) -> RangeTest:
    """The loss over rising learning rates, and a rate that it suggests; makes no run.

    Trains a copy of the network for at most 100 steps: a network given as an object, the random
    numbers and the data stay as they are.
    """
    dataset, wanted = _dataset_and_recipe(
        data, model, recipe, settings, None, trust, step_by_step=True
    )
    assembled = _assembled(wanted, dataset, model)
    job = assembled.job
    _check_model(assembled)
    with hardware.tuned(job.settings):
        return range_test(job, on_step=on_step)


def compose_recipe(
    recipe: str | Path | Recipe | None,
    model: str | nn.Module | None,
    settings: Mapping[str, Any],
    *,
    trust: bool = False,
) -> Recipe:
    """The recipe to start from, with the settings that were given besides.

    Raises:
        UsageError: its file names Python code, which nobody vouches for.
    """
    base = recipe if isinstance(recipe, Recipe) else load_recipe(recipe) if recipe else Recipe()
    if not (trust or model is not None or recipe is None or isinstance(recipe, Recipe)):
        refuse_foreign_code(Path(recipe), base)
    changes = without_stale_split(settings)
    if {"weights", "model_kwargs"} & set(settings):
        changes.setdefault("weights_sha256", None)
    if changes.get("weights") is not None:
        changes["weights"] = starting.place_of(str(changes["weights"]))
    if _MAKING_STEPS & set(settings):
        changes["extensions"] = ()
    if (_MAKING_STEPS | _ENGINE) & set(settings):
        changes["engine_changes"] = ()
    if isinstance(model, nn.Module):
        changes |= {"model": assembly.IN_MEMORY + type(model).__name__, "model_kwargs": {}}
    elif model is not None and (run := starting.run_of(model)) is not None:
        changes = {**starting.network_of_run(run), **changes}
    elif model is not None:
        starting.refuse_strange_path(model)
        changes["model"] = model
        if model != base.model.model:
            # Another network has other settings and other weights.
            for name, value in (("model_kwargs", {}), ("weights", None), ("weights_sha256", None)):
                changes.setdefault(name, value)
    return base.with_settings(changes)


def _dataset_and_recipe(
    data: str | Path | Dataset | None,
    model: str | nn.Module | None,
    recipe: str | Path | Recipe | None,
    settings: Mapping[str, Any],
    on_event: Sink | None,
    trust: bool,
    *,
    step_by_step: bool = False,
) -> tuple[Dataset, Recipe]:
    """The data, and its recipe: the one that was named, else the default for such images.

    Args:
        step_by_step: the training is to be one by the loop.
    """
    wanted = compose_recipe(recipe, model, settings, trust=trust)
    by_loop = step_by_step or recipe is not None
    wanted = with_transfer(wanted, settings, by_loop=by_loop)
    wanted = starting.as_the_weights_want(wanted, settings)
    dataset, wanted = dataset_for(
        data, wanted, on_event, resize_given=recipe is not None or "resize" in settings
    )
    training = wanted.training
    recorded = training.extensions or training.engine_changes
    if recorded and wanted.data.fingerprint != dataset.fingerprint:
        # Steps of other data.
        wanted = wanted.with_settings({"extensions": (), "engine_changes": ()})
    if recipe is not None or wanted.training.transfer == "features":
        return dataset, wanted
    given = dict(settings) if model is None else {**settings, "model": model}
    if with_features := None if by_loop else offered(wanted, dataset, given, on_event):
        wanted = starting.as_the_weights_want(with_features, settings)
        # The recipe goes on naming the source, from which the run is read back.
        return as_asked(dataset, wanted.data, wanted.preprocess, on_event=on_event), wanted
    pretrained = starting.pretrained_backbone(wanted) is not None
    return dataset, default_recipe(wanted, dataset, given, on_event, pretrained=pretrained)


def _assembled(recipe: Recipe, dataset: Dataset, model: str | nn.Module | None) -> Assembly:
    network = model if isinstance(model, nn.Module) else None
    weights = starting.starting_weights(recipe)
    return assemble(recipe, dataset, split_of(recipe, dataset), network, weights=weights)


def _check_model(assembled: Assembly) -> tuple[float, list[str]]:
    """The loss before training, and what is suspicious about the network."""
    job = assembled.job
    with hardware.tuned(job.settings):
        batch = assembly.first_batch(job)
        found = check_model(job, batch, untrained=not assembled.remarks)
        parts = job.settings.grad_accum_steps
        check_memory(job, assembled.material.preprocess.input_shape, -(-len(batch.labels) // parts))
    return found


def _continue(
    run: OpenedRun,
    recipe: ResolvedRecipe,
    checkpoint: Checkpoint | None,
    progress: Progress,
    promise: str,
    on_event: Sink | None,
) -> None:
    model_file, recipe = run.model_file(), run.here(recipe)
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
    _say_new_rates(job, progress.step, on_event)
    # First, for a run whose recipe has more epochs than its weights is not finished.
    run.folder.write_status("running", report=promise)
    keep_recipe(run.folder, run.recipe, recipe)
    write_json_lines(run.folder.history_path, progress.history)
    progress.seconds += time.perf_counter() - ready
    if on_event is not None:
        on_event(_started(run.folder, assembled, progress, None))
    run_training(
        Training(
            folder=run.folder,
            assembled=assembled,
            progress=progress,
            on_event=on_event,
            promise=promise,
        )
    )


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


def _write_beginnings(
    folder: RunFolder,
    recipe: ResolvedRecipe,
    material: Material,
    tuning: Tuning | None,
    promise: str,
) -> None:
    """Write everything that reproduces the run, before its first step."""
    if is_custom(recipe.model.model):
        write_bytes(folder.model_source_path, source_of(recipe.model.model))
        try:
            mark_as_ours(folder, recipe.to_tables()["model"])
        except FileError as error:
            warn([f"The run will ask for --trust, for it could not be marked: {error.message}"])
    write_bytes(folder.split_path, material.split.to_bytes())
    write_json(folder.path / "environment.json", describe_environment())
    if tuning:
        write_json(folder.engine_path, tuning.document)
    folder.write_status("running", report=promise)
    # This makes the folder a run; what follows it can do without.
    write_text(folder.recipe_path, recipe.to_toml())
    write_json(folder.input_ranges_path, familiarity.ranges_of(_some_training_images(material)))


def _some_training_images(material: Material) -> UInt8Array:
    """Evenly chosen, uint8 (N, C, H, W)."""
    train = material.split.train
    chosen = torch.from_numpy(train[:: len(train) // familiarity.MOST_IMAGES + 1])
    images: UInt8Array = material.images[chosen.to(material.images.device)].cpu().numpy()
    return images


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
    """The newest intact checkpoint; None for a run that was killed before its first."""
    if not folder.checkpoints("last"):
        return None
    return load_checkpoint(folder, "last")


def _short_name(recipe: Recipe) -> str:
    """The model's name as part of a folder's name."""
    name = recipe.model.model.removeprefix(assembly.IN_MEMORY)
    return name.rpartition(":")[2].lower() if is_custom(name) else name.lower()
