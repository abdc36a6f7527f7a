"""Fit and resume: from a recipe and a dataset to a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import assembly
from ..data.dataset import Dataset
from ..data.pictures.exclude import exclusion_list
from ..data.splits.split import Split
from ..errors import FileError, Interrupted, RunError, SartorError, TrainingError, UsageError
from ..events import Ended, Event, Started
from ..files import write_bytes, write_json, write_json_lines, write_text
from ..interrupts import stop_requests
from ..models.custom import is_custom, reason_of, source_of
from ..recipe import Recipe, load_recipe
from ..runs.environment import describe_environment
from ..runs.folder import RunFolder, create_run
from ..runs.sinks import Recorder
from ..runs.store import RUNS
from ..training import range_test as training_range
from ..training.engines import hardware as engine
from ..training.loop import Job, train
from ..training.objective import untrained_loss
from ..training.overfit import OverfitResult
from ..training.overfit import overfit_batch as learn_by_heart
from ..training.preflight import check_model, count_parameters
from ..training.range_test import range_test
from ..training.state import Checkpoint, Progress
from .looking import dataset_for
from .notes import Sink, tell, warn
from .run import Run, as_run, load_checkpoint, with_weights
from .splitting import doubts, imbalanced, split_of, unsettled
from .suiting import suited
from .tuning import Tuning, tune

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RangeTest(training_range.RangeTest):
    """The loss over rising learning rates, and what it suggests."""

    def plot(self) -> Figure:
        """Loss over learning rates, with the suggestion where there is one."""
        from ..reports.figures import range_test_figure

        return range_test_figure(self)


def fit(
    data: str | Path | Dataset | None = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    check: bool = True,
    report: bool = True,
    on_event: Sink | None = None,
    **settings: Any,
) -> Run:
    """Train a classifier and keep all that comes of it in a run's folder.

    Args:
        data: a named set, the path of your own (see `load`) or a `Dataset`; by default that of the
            recipe.
        model: a registered name, "path/file.py:Name", or any network (B, C, H, W) -> (B, classes).
        recipe: a shipped recipe's name, a TOML file or a `Recipe` to start from; by default what
            suits the data: "pictures" for colour or larger images, else "plain".
        out: the run's folder; by default the next free runs/NAME.
        check: look for the faults of the data that are found fast, before the first step.
        report: write report.html and report.json, which judge the validation split, at the end.
        on_event: called with every event of the training.
        settings: anything that `sartor fit --help-all` lists, such as epochs=5, lr=0.01, seed=1.

    Raises:
        RecipeError: every problem of the settings at once. Interrupted: by a signal, after saving.
        DataError, ModelError, TrainingError, FileError: as their sentences say.
    """
    dataset, wanted = _wanted(data, model, recipe, settings, on_event)
    ready = time.perf_counter()
    job, resolved, material = _assemble(wanted, dataset, model)
    loss, warned = _checked(job, resolved)
    warn([*doubts(resolved, dataset, material.split), *warned])
    tuning = tune(wanted, job, resolved, material)
    if tuning:
        job, resolved = _with_engine(tuning, job, resolved, material)
    folder = create_run(
        None if out is None else Path(out), f"{dataset.name}-{_short_name(resolved)}", RUNS
    )
    with folder.locked():
        # Another process may have come first since the folder was made.
        folder.refuse_unless_empty()
        if check:
            _check(folder, resolved, dataset, material.split, on_event)
        resolved = _keep_exclusions(folder, resolved, dataset)
        _write_beginnings(folder, resolved, material.split, tuning)
        sink = _sink(folder, on_event)
        progress = Progress(seconds=time.perf_counter() - ready)
        sink(_started(folder, job, resolved, material, progress, loss, tuning))
        _train(folder, job, progress, sink)
        run = Run(folder, dataset=dataset, network=model if isinstance(model, nn.Module) else None)
        if report:
            _report(run)
    return run


def resume(
    run: str | Path | Run,
    *,
    epochs: int | None = None,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    report: bool = True,
    on_event: Sink | None = None,
) -> Run:
    """Go on where a run stopped, or train a finished one for more epochs.

    On the processor the weights end bit for bit as if nothing had happened. `data` and `model` are
    needed only by runs that were given these as Python objects.

    Raises:
        RunError: no such run, broken, in use, or from another version. Others as `fit`.
    """
    before = as_run(run, data, model)
    with before.folder.locked():
        before.folder.settle()
        checkpoint = _checkpoint_or_none(before.folder)
        progress = checkpoint.progress if checkpoint else Progress()
        recipe = _extended(before, progress, epochs)
        if progress.epoch >= recipe.training.last_epoch or progress.stopped_early:
            _close(before, recipe, progress)
            tell(on_event, f"{before.path} is finished; train it longer with --epochs N.")
            return before
        _continue(before, recipe, checkpoint, progress, on_event)
        if report:
            _report(before)
    return before


def overfit_batch(
    data: str | Path | Dataset | None = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    said: Callable[[int, float, float], None] = lambda _step, _loss, _accuracy: None,
    **settings: Any,
) -> OverfitResult:
    """Train on the first batch alone, not augmented, until it is learnt by heart; makes no run.

    A network that cannot do this has a mistake in it, or a learning rate that is far off.
    """
    dataset, wanted = _wanted(data, model, recipe, settings, None)
    job, resolved, _ = _assemble(wanted, dataset, model)
    _, warned = _checked(job, resolved)
    warn(warned)
    with engine.tuned(resolved.training):
        return learn_by_heart(job, assembly.first_batch(job), resolved.training.lr, said)


def find_learning_rate(
    data: str | Path | Dataset | None = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    said: Callable[[int, float, float], None] | None = None,
    **settings: Any,
) -> RangeTest:
    """The loss over rising learning rates, and a rate that it suggests; makes no run.

    Trains a copy of the network for at most 100 steps: a network given as an object, the random
    numbers and the data stay as they are.
    """
    dataset, wanted = _wanted(data, model, recipe, settings, None)
    job, resolved, _ = _assemble(wanted, dataset, model)
    _checked(job, resolved)
    with engine.tuned(resolved.training):
        return RangeTest(**vars(range_test(job, said=said)))


def compose_recipe(
    recipe: str | Path | Recipe | None,
    model: str | nn.Module | None,
    settings: Mapping[str, Any],
) -> Recipe:
    """The recipe to start from with all that was said besides."""
    base = recipe if isinstance(recipe, Recipe) else load_recipe(recipe) if recipe else Recipe()
    changes = unsettled(settings)
    if isinstance(model, nn.Module):
        changes |= {"model": assembly.IN_MEMORY + type(model).__name__, "model_kwargs": {}}
    elif model is not None:
        changes["model"] = model
        if model != base.model.model:
            # Another network has other settings.
            changes.setdefault("model_kwargs", {})
    return base.with_settings(changes)


def _wanted(
    data: str | Path | Dataset | None,
    model: str | nn.Module | None,
    recipe: str | Path | Recipe | None,
    settings: Mapping[str, Any],
    on_event: Sink | None,
) -> tuple[Dataset, Recipe]:
    """The data, and the recipe for it: the one that is named, else the one that suits the data."""
    wanted = compose_recipe(recipe, model, settings)
    dataset, wanted = dataset_for(
        data, wanted, on_event, resize_given=recipe is not None or "resize" in settings
    )
    if recipe is not None:
        return dataset, wanted
    said = dict(settings) if model is None else {**settings, "model": model}
    return dataset, suited(wanted, dataset, said, on_event)


def _assemble(
    recipe: Recipe,
    dataset: Dataset,
    model: str | nn.Module | None,
    split: Split | None = None,
    model_file: Path | None = None,
) -> tuple[Job, Recipe, assembly.Material]:
    parts = split or split_of(recipe, dataset)
    resolved = assembly.resolve(recipe, dataset, parts, model_file)
    material, resolved = assembly.prepare_material(resolved, dataset, parts)
    network = (
        model
        if isinstance(model, nn.Module)
        else assembly.build_network(resolved, len(dataset.classes), model_file)
    )
    network, resolved = assembly.place_network(network, resolved)
    if not isinstance(model, nn.Module):
        assembly.fit_whitening(network, material)
    return assembly.make_job(resolved, material, network), resolved, material


def _checked(job: Job, recipe: Recipe) -> tuple[float, list[str]]:
    with engine.tuned(recipe.training):
        return check_model(job, assembly.first_batch(job))


def _with_engine(
    tuning: Tuning, job: Job, recipe: Recipe, material: assembly.Material
) -> tuple[Job, Recipe]:
    """The same job with the engine that was chosen."""
    network, recipe = assembly.place_network(job.model, recipe.with_settings(vars(tuning.engine)))
    return assembly.make_job(recipe, material, network), recipe


def _continue(
    run: Run,
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    progress: Progress,
    on_event: Sink | None,
) -> None:
    dataset = run.dataset(on_event=on_event)
    ready = time.perf_counter()
    source = run.folder.model_source_path
    job, resolved, material = _assemble(
        recipe, dataset, run._network, run.split(), source if source.is_file() else None
    )
    if checkpoint:
        with_weights(job.model, checkpoint, run.path)
        _load_optimizer(job, checkpoint, run.path)
    _keep_recipe(run, recipe)
    write_json_lines(run.folder.history_path, progress.history)
    progress.seconds += time.perf_counter() - ready
    sink = _sink(run.folder, on_event)
    sink(_started(run.folder, job, resolved, material, progress, None))
    _train(run.folder, job, progress, sink)


def _load_optimizer(job: Job, checkpoint: Checkpoint, run: Path) -> None:
    try:
        job.optimizer.load(checkpoint.optimizer)
    except ValueError as error:
        raise RunError(
            f"The state in {run} does not fit its model: {error}.",
            "Give the network that was trained, with the same layers frozen.",
        ) from error


def _train(folder: RunFolder, job: Job, progress: Progress, sink: Sink) -> None:
    """Run the loop, keep what it says, and leave the run's status true however it ends."""
    reason = "failed"
    folder.write_status("running")
    try:
        with (
            stop_requests() as request,
            engine.tuned(job.settings, job.model),
            assembly.batches_ahead(job) as job,
        ):
            for event in _explained(train(job, progress, request.asked), progress):
                sink(event)
                if isinstance(event, Ended):
                    reason = event.reason
    except BaseException as error:
        state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(FileError):
            folder.write_status(state, reason=str(error) or type(error).__name__)
        raise
    folder.write_status(reason)
    if reason == "interrupted":
        raise Interrupted(
            request.signal_number,
            f"Stopped after step {progress.step}, in epoch {progress.epoch + 1}; all is saved.",
            f"Go on with: sartor resume {folder.path}",
        )


def _check(
    folder: RunFolder, recipe: Recipe, dataset: Dataset, split: Split, on_event: Sink | None
) -> None:
    from .precheck import check_before, grave_lines

    findings = check_before(dataset, split)
    write_json(folder.findings_path, findings)
    for line in grave_lines(findings, recipe.data.source):
        tell(on_event, line)
    if on_event is None:
        warn(found["summary"] for found in findings if found["severity"] == "error")


def _report(run: Run) -> None:
    from .reporting import report_of_training

    report_of_training(run)


def _explained(events: Iterator[Event], progress: Progress) -> Iterator[Event]:
    """The same events; what a network of the user's own raises becomes an error with its step."""
    try:
        yield from events
    except (SartorError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise TrainingError(
            f"{type(error).__name__} after step {progress.step}, in epoch {progress.epoch + 1}: "
            f"{reason_of(error)}.",
            "Correct the model and train anew; SARTOR_DEBUG=1 shows where it happened.",
        ) from error


def _extended(run: Run, progress: Progress, epochs: int | None) -> Recipe:
    """The run's recipe, with the epochs that are asked for."""
    recipe = run.recipe
    if epochs is None:
        return recipe
    begun = progress.epoch + (progress.position > 0)
    if 1 <= epochs < begun:
        raise UsageError(
            f"{run.path} is in epoch {begun} already, beyond --epochs {epochs}."
            if progress.position
            else f"{run.path} has {begun} epochs already, more than --epochs {epochs}.",
            "Name the number of epochs that it shall have in the end.",
        )
    extended = recipe.with_settings({"epochs": epochs})
    if progress.stopped_early and epochs > progress.epoch:
        progress.stopped_early, progress.patience_from = False, progress.epoch
    return extended


def _keep_recipe(run: Run, recipe: Recipe) -> None:
    """Make it the run's recipe; where it differs from the one before, that one is kept too."""
    before = run.recipe
    if recipe == before:
        return
    number = len(list(run.path.glob("recipe-before-*.toml"))) + 1
    write_text(run.path / f"recipe-before-{number}.toml", before.to_toml())
    write_text(run.folder.recipe_path, recipe.to_toml())


def _close(run: Run, recipe: Recipe, progress: Progress) -> None:
    """Say that a run is over which was killed before it could say so itself."""
    _keep_recipe(run, recipe)
    state = "stopped early" if progress.stopped_early else "finished"
    if run.status["state"] != state:
        write_json_lines(run.folder.history_path, progress.history)
        run.folder.write_status(state)


def _keep_exclusions(folder: RunFolder, recipe: Recipe, dataset: Dataset) -> Recipe:
    """Write what was left out into the run; the recipe that names that list."""
    if not dataset.excluded:
        return recipe.with_settings({"exclude": None})
    write_text(folder.excluded_path, exclusion_list(dataset.excluded))
    return recipe.with_settings({"exclude": str(folder.excluded_path.absolute())})


def _write_beginnings(
    folder: RunFolder, recipe: Recipe, split: Split, tuning: Tuning | None
) -> None:
    """Everything from which the run could be made again, before its first step."""
    if is_custom(recipe.model.model):
        write_bytes(folder.model_source_path, source_of(recipe.model.model))
    write_bytes(folder.split_path, split.to_bytes())
    write_json(folder.path / "environment.json", describe_environment())
    if tuning:
        write_json(folder.engine_path, tuning.document)
    folder.write_status("running")
    # Last, for it makes the folder a run.
    write_text(folder.recipe_path, recipe.to_toml())


def _started(
    folder: RunFolder,
    job: Job,
    recipe: Recipe,
    material: assembly.Material,
    progress: Progress,
    loss: float | None,
    tuning: Tuning | None = None,
) -> Started:
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
        epochs=training.last_epoch,
        steps_per_epoch=len(job.batches),
        device=training.device,
        threads=training.threads or 1,
        memory_format=training.memory_format,
        amp_dtype=training.amp_dtype,
        step=progress.step,
        untrained_loss=loss,
        expected_loss=untrained_loss(training.loss, job.num_classes),
        imbalanced=imbalanced(material.dataset, split),
        engine=tuning.line if tuning else "",
    )


def _checkpoint_or_none(folder: RunFolder) -> Checkpoint | None:
    """The newest whole checkpoint; None for a run that was killed before its first."""
    if not folder.checkpoints("last"):
        return None
    return load_checkpoint(folder, "last")


def _sink(folder: RunFolder, on_event: Sink | None) -> Sink:
    recorder = Recorder(folder)

    def both(event: Event) -> None:
        recorder(event)
        if on_event is not None:
            on_event(event)

    return both


def _short_name(recipe: Recipe) -> str:
    """The model's name as a part of a folder's name."""
    name = recipe.model.model.removeprefix(assembly.IN_MEMORY)
    return name.rpartition(":")[2].lower() if is_custom(name) else name.lower()
