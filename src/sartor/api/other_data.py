"""A run and data from somewhere else: its own that moved, or other pictures of its classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Int64Array
from ..data.dataset import Dataset
from ..data.objects import dataset_of
from ..data.settings import DataSettings, SourceSettings
from ..data.sources import open_source
from ..errors import DataError, UsageError, unknown
from ..evaluation.metrics import Evaluation
from ..evaluation.metrics import evaluate as judge
from ..evaluation.predictions import Predictions
from ..evaluation.unmatched import LeftOut, Unmatched
from ..inference.calibration import Calibration
from ..recipe import ResolvedRecipe
from .dataset_predictions import predictions_for
from .kept_calibration import calibration_in_use
from .notes import Sink, noting
from .opened import OpenedRun, load_checkpoint, open_run, with_lists
from .promises import with_promises

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """Other data, as a network with these classes can be judged on it."""

    dataset: Dataset
    """With the classes of the network, in their order."""
    part: str
    """What the judged images are called."""
    indices: Int64Array
    """The images of classes that the network knows."""
    strange: Mapping[str, Int64Array]
    """The images of each class that it does not know."""
    absent: tuple[str, ...]
    """Its classes without an image."""


def matched(dataset: Dataset, split: str, classes: tuple[str, ...], name: str) -> Matched:
    """The part of a dataset that is judged, its classes found by their names.

    Args:
        split: the part that the data itself has; for "test" all images where it has no parts.
        name: what the network is called in messages.

    Raises:
        DataError: no class that the network knows, or one that is only spelled otherwise.
        UsageError: the data has no such part.
    """
    part, indices = _part_of(dataset, split)
    number = {one: place for place, one in enumerate(classes)}
    labels = dataset.labels[indices]
    present = {dataset.classes[label]: label for label in np.unique(labels).tolist()}
    strange = {one: indices[labels == label] for one, label in present.items() if one not in number}
    _refuse_strange(dataset, strange, classes, name)
    known = np.array([dataset.classes[label] in number for label in labels.tolist()], bool)
    places = np.array([number.get(one, 0) for one in dataset.classes], dtype=np.int64)
    return Matched(
        dataset=replace(dataset, labels=places[dataset.labels], classes=classes),
        part=part,
        indices=indices[known],
        strange=strange,
        absent=tuple(one for one in classes if one not in present),
    )


def _refuse_strange(
    dataset: Dataset, strange: Mapping[str, Int64Array], classes: tuple[str, ...], name: str
) -> None:
    """Refuse classes of which some are known but for their spelling, or none is known.

    Raises:
        DataError: naming them.
    """
    spelled = {_plainly(one) for one in classes}
    doubtful = [one for one in strange if _plainly(one) in spelled]
    shared = set(classes) & set(dataset.classes)
    if not strange or (shared and not doubtful):
        return
    listed = doubtful or list(strange)
    more = len(listed) - _NAMED
    named = ", ".join(listed[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    raise DataError(
        f"{dataset.name} has classes that {name} does not know: {named}. For one of them: "
        f"{unknown('class', listed[0], classes)}.".replace("?.", "?"),
        "Call them as the network does, or leave them out."
        if doubtful
        else "Give pictures of the classes that it knows, called as it calls them.",
    )


def _plainly(name: str) -> str:
    """A name without what people write differently."""
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def evaluation_on(
    run: OpenedRun, dataset: Dataset, split: str, *, checkpoint: str = "best"
) -> tuple[Evaluation, Predictions]:
    """Judge a run on other data, whose classes are matched by name; nothing is saved.

    Raises:
        DataError: no class that the run knows, or images that do not fit its network.
        UsageError: the data has no such part.
    """
    kept = load_checkpoint(run.folder, checkpoint)
    _refuse_other_shape(run, dataset)
    found = matched(dataset, split, kept.classes, str(run.path))
    calibration = calibration_in_use(run, checkpoint)

    def predicted(indices: Int64Array) -> Predictions:
        return predictions_for(run, found.dataset, indices, split=found.part, checkpoint=checkpoint)

    return judged(found, predicted, calibration)


def judged(
    found: Matched, predicted: Callable[[Int64Array], Predictions], calibration: Calibration
) -> tuple[Evaluation, Predictions]:
    """The evaluation of other data, with what the two sides do not share."""
    predictions = predicted(found.indices)
    score = calibration.novelty
    left_out = []
    for name, indices in found.strange.items():
        scores = None if score is None or score.threshold is None else predicted(indices).novelty
        called = None if score is None or scores is None else int(score.unknown(scores).sum())
        left_out.append(LeftOut(class_name=name, count=len(indices), unknown=called))
    unmatched = Unmatched(left_out=tuple(left_out), absent=found.absent)
    evaluation = with_promises(judge(predictions), predictions, calibration)
    return replace(evaluation, unmatched=unmatched), predictions


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
