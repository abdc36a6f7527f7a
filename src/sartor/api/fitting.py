"""Fit: from a recipe and a dataset to a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from .. import assembly
from ..console.watching import shown
from ..data.dataset import Dataset
from ..data.splits.split import Split
from ..distributed import follows
from ..files import write_json
from ..home import tidy_cache
from ..models.custom import is_custom
from ..recipe import Recipe
from ..runs.folder import RunFolder, create_run
from ..runs.store import RUNS
from ..training.state import Progress
from .beginnings import RangesAhead, keep_lists, packed_beginnings, started_event, write_beginnings
from .calling import called_together, heard_by_all, run_of_this_launch
from .composing import assembled_from, dataset_and_recipe, refuse_small_memory, try_model
from .finishing import judge
from .following import follow_fit
from .native_engine import facts, reason_without, say_once_how_to_have_it
from .notes import Sink, note, warn
from .opened import OpenedRun, open_run
from .other_data import run_with
from .resuming import resumed
from .running import Training, refuse_small_disk, run_training
from .splitting import split_warnings, touched_parts
from .tuning import how_chosen, tune


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
    return resumed(run_with(run, given, on_event=on_event), None, None, None, on_event)


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
    ranges = RangesAhead()
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
    others = partial(packed_beginnings, assembled, dataset)
    with called_together(assembled, others, 0, on_event) as team:
        stem = f"{dataset.name}-{_short_name(assembled.recipe)}"
        folder = create_run(None if out is None else Path(out), stem, RUNS)
        with folder.locked():
            # Another process may have come first since the folder was made.
            folder.refuse_unless_empty()
            folder.begin()
            if check:
                _check_data(folder, assembled.recipe, dataset, material.split, on_event)
            resolved = keep_lists(folder, assembled.recipe, dataset)
            promise = "due" if report else "none"
            engine = facts(without_native, assembled, how_chosen(wanted, assembled, tuning))
            write_beginnings(folder, resolved, material, tuning, promise, engine, ranges.result())
            progress = Progress(seconds=time.perf_counter() - ready)
            if on_event is not None:
                started = started_event(folder, assembled, progress, loss, tuning)
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
            judge(run, report=report, split=material.split)
        return run


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


def _short_name(recipe: Recipe) -> str:
    """The model's name as part of a folder's name."""
    name = recipe.model.model.removeprefix(assembly.IN_MEMORY)
    return name.rpartition(":")[2].lower() if is_custom(name) else name.lower()
