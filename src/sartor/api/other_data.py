"""A run and data from somewhere else: its own that moved, or other pictures of its classes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Int64Array
from ..data.dataset import Dataset
from ..data.objects import dataset_of
from ..data.settings import DataSettings, SourceSettings
from ..data.sources import open_source
from ..errors import DataError, UsageError, unknown
from ..evaluation.predictions import Predictions
from ..recipe import ResolvedRecipe
from .dataset_predictions import predictions_for
from .notes import Sink, noting
from .opened import OpenedRun, load_checkpoint, open_run, with_lists

EVERYTHING = "all"
"""What stands in place of a split's name where all images of other data are judged."""
_NAMED = 5


def data_at(run: OpenedRun, path: Any, *, on_event: Sink | None = None) -> Dataset:
    """The data at a path, or of a program, read and prepared as that of the run.

    Where the run's way of reading does not fit what lies there, the shape is recognised.

    Raises:
        DataError, UsageError: it cannot be read.
    """
    preprocess, note = run.recipe.preprocess, noting(on_event)
    if not isinstance(path, str | Path):
        given = dataset_of(path, run.recipe.data, preprocess, on_event=on_event)
        own = with_lists(given, run.recipe, run.folder, on_event)
        return own if is_own(run, own) else given
    moved = _moved(run, Path(path))
    reading = {name: getattr(moved, name) for name in vars(SourceSettings())}
    # What was left out or corrected of the run's own data has no meaning for other pictures.
    alike, plain = DataSettings(**reading), DataSettings(source=str(path))
    for settings in (moved, alike):
        try:
            dataset = open_source(settings, preprocess, note=note, on_event=on_event)
        except UsageError:
            continue
        untouched = not dataset.excluded and not settings.fixes
        if settings is alike or is_own(run, dataset) or untouched:
            return dataset
    return open_source(plain, preprocess, note=note, on_event=on_event)


def run_with(run: str | Path | OpenedRun, data: Any, *, on_event: Sink | None = None) -> OpenedRun:
    """The run with its own data, where this is a path to it; it is compared when it is used."""
    opened = open_run(run)
    if data is not None and not isinstance(data, Dataset | str | Path):
        recipe = opened.recipe
        data = dataset_of(data, recipe.data, recipe.preprocess, on_event=on_event)
    if data is None or isinstance(data, Dataset):
        return open_run(opened, data)
    return open_run(opened, data_at(opened, data, on_event=on_event))


def is_own(run: OpenedRun, dataset: Dataset) -> bool:
    """Whether these are the very images and labels that the run was made from."""
    return dataset.fingerprint == run.recipe.data.fingerprint


def predictions_on(
    run: OpenedRun, dataset: Dataset, split: str, *, checkpoint: str = "best"
) -> Predictions:
    """Predict other data, whose classes are matched by name; nothing is saved.

    Args:
        split: the part that the data itself has; for "test" all images where it has no parts.

    Raises:
        DataError: classes that the run does not know, or images that do not fit its network.
        UsageError: the data has no such part.
    """
    kept = load_checkpoint(run.folder, checkpoint)
    _refuse_other_shape(run, dataset)
    part, indices = _part_of(dataset, split)
    matched = _with_classes(dataset, indices, kept.classes, run.path)
    return predictions_for(run, matched, indices, split=part, checkpoint=checkpoint)


def recipe_at(run: OpenedRun, recipe: ResolvedRecipe, path: Path) -> ResolvedRecipe:
    """A recipe of the run whose data lies at another place now."""
    moved = _moved(run, path)
    return recipe.with_data_at(moved.source, moved.image_root)


def _moved(run: OpenedRun, path: Path) -> DataSettings:
    """How the run's data is read, from another place."""
    data = run.recipe.data.with_lists_at(run.folder.excluded_path, run.folder.fixes_path)
    root = data.image_root
    if root is not None and not Path(root).exists():
        # Where pictures and list moved together.
        root = str(path.parent / os.path.relpath(root, Path(data.source).parent))
    return replace(data, source=str(path), image_root=root)


def _refuse_other_shape(run: OpenedRun, dataset: Dataset) -> None:
    preprocess = run.recipe.preprocess
    wanted = (preprocess.channels, *preprocess.image_size)
    if dataset.origin is None and dataset.shape[0] != preprocess.channels:
        sizes = ["x".join(map(str, shape)) for shape in (dataset.shape, wanted)]
        raise DataError(
            f"The images of {dataset.name} are {sizes[0]}, and {run.path} takes {sizes[1]}.",
            "Convert them to gray or colour as in training.",
        )


def _part_of(dataset: Dataset, split: str) -> tuple[str, Int64Array]:
    """The name and the images of the part that is judged."""
    everything = np.arange(len(dataset), dtype=np.int64)
    given = {part: getattr(dataset, part) for part in ("val", "test")}
    if split in given and given[split] is not None:
        return split, given[split]
    if split == "test" and given["val"] is None:
        return EVERYTHING, everything
    held_out = [indices for indices in given.values() if indices is not None]
    if split == "train" and held_out:
        return split, np.setdiff1d(everything, np.concatenate(held_out))
    raise UsageError(
        f"{dataset.name} has no {split} part.",
        "Choose another with --split, or name the folder of one part.",
    )


def _with_classes(
    dataset: Dataset, indices: Int64Array, classes: tuple[str, ...], run: Path
) -> Dataset:
    """The dataset with the classes of the run, each found by its name."""
    number = {name: place for place, name in enumerate(classes)}
    present = np.unique(dataset.labels[indices]).tolist()
    strange = [dataset.classes[label] for label in present if dataset.classes[label] not in number]
    if strange:
        listed = ", ".join(strange[:_NAMED]) + (", ..." if len(strange) > _NAMED else "")
        raise DataError(
            f"{dataset.name} has classes that {run} does not know: {listed}. For one of them: "
            f"{unknown('class', strange[0], classes)}.".replace("?.", "?"),
            "Call them as the run does, or leave them out: an image of another class can only be "
            "answered wrongly.",
        )
    places = np.array([number.get(name, 0) for name in dataset.classes], dtype=np.int64)
    return replace(dataset, labels=places[dataset.labels], classes=classes)
