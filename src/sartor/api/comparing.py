"""Compare: runs on the same images, from saved predictions, without torch where all are saved."""

from __future__ import annotations

import html
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Float64Array
from ..errors import DataError, RunError, UsageError
from ..evaluation.common_pictures import on_common_pictures
from ..evaluation.comparison import (
    Flip,
    Pair,
    Standing,
    compare_pairs,
    on_same_images,
    standing,
)
from ..evaluation.over_seeds import (
    MeanOverSeeds,
    RecipePair,
    compare_recipes,
    mean_over_seeds,
)
from ..evaluation.paired import holm
from ..evaluation.predictions import Predictions
from ..evaluation.seed_statistics import SeedStatistics, statistics_over_seeds
from ..recipe import Recipe
from ..runs.folder import RunFolder
from ..runs.seals import differences
from ..runs.store import RUNS, find_run, seed_folders
from ..runs.weights_file import stored_weights_sha256
from ..wording import plain
from . import looks
from .notes import Sink, note, warn
from .recipes import differing_settings, seed_groups, settings_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..data.dataset import Dataset
    from .opened import OpenedRun

SPLITS = ("test", "val")


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Runs that share a recipe but for the seed."""

    label: str
    """The folder of the runs where they have one of their own, else their names."""
    names: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracy: SeedStatistics
    """Over these runs, on the images of the comparison."""
    mean: MeanOverSeeds
    """Their mean, with an interval for other seeds and other images."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "label": self.label,
            "runs": list(self.names),
            "seeds": list(self.seeds),
            "accuracy": self.accuracy.to_json(),
            "interval_new_images": list(self.mean.interval),
        }


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Comparison:
    """Runs on the same images: how each does, every pair in words and figures, what differs."""

    split: str
    """test or val."""
    count: int
    """Images, the same for every run."""
    left_out: int
    """Pictures that only some runs judged, because lists left them out of the data of others."""
    dataset_fingerprint: str
    paths: tuple[Path, ...]
    """Folder of each run."""
    runs: tuple[Standing, ...]
    """How each run does by itself."""
    pairs: tuple[Pair, ...]
    """Every pair of runs; of more than six runs, each with the first."""
    recipe_differences: dict[str, list[Any]]
    """Settings that are not the same in all runs, with the value of each run."""
    seed_groups: tuple[SeedGroup, ...]
    """Statistics over runs that share a recipe but for the seed."""
    recipe_pairs: tuple[RecipePair, ...]
    """Every two of these groups, by their means over seeds."""
    _data: Callable[[], Dataset] = field(repr=False)

    def figure(self, most: int = 24) -> Figure:
        """The images that flip between the first run and each other, at most so many each way.

        Raises:
            DataError: the data is not at hand, or not the same any more.
        """
        from ..reports.flips import grouped_grid

        groups: dict[str, tuple[list[int], list[str]]] = {}
        for pair in self.pairs:
            if pair.first != self.runs[0].name:
                continue
            for right, wrong, flips in (
                (pair.second, pair.first, pair.only_second),
                (pair.first, pair.second, pair.only_first),
            ):
                heading = f"{right} is correct, {wrong} is not: {_some_of(flips, most)}"
                shown = flips[:most]
                captions = [
                    f"true: {flip.class_name}\npredicted: {flip.predicted}" for flip in shown
                ]
                groups[heading] = [flip.index for flip in shown], captions
        return grouped_grid(self._data(), groups)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, as `sartor compare --json` gives them."""
        return {
            "split": self.split,
            "count": self.count,
            "left_out": self.left_out,
            "dataset_fingerprint": self.dataset_fingerprint,
            "runs": [
                {"run": str(path), **run.to_json()}
                for path, run in zip(self.paths, self.runs, strict=True)
            ],
            "correction": "holm" if len(self.pairs) > 1 else None,
            "pairs": [pair.to_json() for pair in self.pairs],
            "recipe_differences": self.recipe_differences,
            "seed_groups": [group.to_json() for group in self.seed_groups],
            "recipe_pairs": [pair.to_json() for pair in self.recipe_pairs],
        }

    def __repr__(self) -> str:
        pairs: tuple[Pair | RecipePair, ...] = (*self.recipe_pairs, *self.pairs)
        verdicts = "; ".join(pair.verdict for pair in pairs[:3])
        more = len(pairs) - 3
        return plain(f"<Comparison on {self.split}: {verdicts}{f'; and {more} more' * (more > 0)}>")

    def _repr_html_(self) -> str:
        """Verdicts and a table for notebooks."""
        pairs: tuple[Pair | RecipePair, ...] = (*self.recipe_pairs, *self.pairs)
        verdicts = "".join(f"<li>{html.escape(pair.verdict)}</li>" for pair in pairs)
        titles = ("run", "accuracy", "95 % interval", "loss")
        head = "".join(f"<th>{title}</th>" for title in titles)
        body = "".join(_html_row(run) for run in self.runs)
        caption = html.escape(f"{self.split}: {self.count:,} images, the same for every run")
        return (
            f"<ul>{verdicts}</ul><table><caption>{caption}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def compare(
    *runs: str | Path | OpenedRun | Sequence[str | Path | OpenedRun],
    split: str = "test",
    trust: bool = False,
    on_event: Sink | None = None,
) -> Comparison:
    """Compare runs on the same images, pair by pair, with an interval and a verdict on each.

    Predictions that `evaluate` saved are read; where a run has none, or has some of other weights
    than its best, they are made as `evaluate` makes them, and `on_event` is told so.

    Where runs share a recipe but for the seed, their mean is compared with that of others, with an
    interval for other seeds and other images; a pair of such runs is about their weights only.

    Args:
        runs: at least two, one by one or as a list, the one to compare with first; a folder that
            `fit --seeds N --out` made stands for all its runs.
        split: "test" or "val"; the two are never mixed.
        trust: where predictions have to be made, let the runs' own Python files run, whoever wrote
            them.

    Raises:
        UsageError: fewer than two runs, one named twice, or an unknown split.
        DataError: they were not judged on the same images, or do not tell the same classes apart.
        RunError: a run that is missing or broken.
    """
    if split not in SPLITS:
        raise UsageError(f'Runs cannot be compared on the split "{split}".', "Choose test or val.")
    each_run = tuple(_each_run(_one_by_one(runs)))
    folders = [_folder(run) for run in each_run]
    names = _names(folders)
    settings = [settings_of(folder) for folder in folders]
    each = [
        _predictions(run, folder, split, trust, on_event)
        for run, folder in zip(each_run, folders, strict=True)
    ]
    common, left_out = on_common_pictures(dict(zip(names, each, strict=True)))
    if left_out:
        note(on_event, _left_out_sentence(left_out, len(common[names[0]])))
    aligned = on_same_images(common)
    first = common[names[0]]
    standings = tuple(standing(name, predictions) for name, predictions in aligned.items())
    grouped = seed_groups(settings)
    groups = _seed_groups(grouped, standings, settings, folders, tuple(aligned.values()))
    recipe_of = {names[member]: place for place, group in enumerate(grouped) for member in group}
    return Comparison(
        split=split,
        count=len(first),
        left_out=left_out,
        dataset_fingerprint=first.dataset_fingerprint,
        paths=tuple(folder.path for folder in folders),
        runs=standings,
        pairs=tuple(
            replace(pair, same_recipe=_are_one(recipe_of, pair)) for pair in compare_pairs(aligned)
        ),
        recipe_differences=differing_settings(settings),
        seed_groups=groups,
        recipe_pairs=_recipe_pairs(groups, aligned),
        _data=lambda: _dataset(each_run[0], folders[0], first.dataset_fingerprint),
    )


def _left_out_sentence(left_out: int, count: int) -> str:
    those = "picture was" if left_out == 1 else "pictures were"
    return (
        f"{left_out:,} {those} not judged by all of these runs (lists left them out of the data): "
        f"the comparison is on the {count:,} that were."
    )


def _one_by_one(
    runs: Sequence[str | Path | OpenedRun | Sequence[str | Path | OpenedRun]],
) -> list[str | Path | OpenedRun]:
    """The runs, those of lists too.

    Raises:
        UsageError: one of them is something else.
    """
    found: list[str | Path | OpenedRun] = []
    for given in runs:
        for run in given if isinstance(given, list | tuple) else (given,):
            is_run = isinstance(getattr(run, "folder", None), RunFolder)
            if not (is_run or isinstance(run, str | Path)):
                raise UsageError(
                    f"A run is a folder, the name of one, or what fit gave, not "
                    f"{type(run).__name__}.",
                    "Give runs one by one, or as a list: sartor.compare(one, other).",
                )
            found.append(run)
    return found


def _each_run(runs: Sequence[str | Path | OpenedRun]) -> Iterator[str | Path | OpenedRun]:
    """The runs, those of a folder of seeds one by one."""
    for run in runs:
        places = () if not isinstance(run, str | Path) else (Path(run), RUNS / run)
        seeds = next((found for place in places if (found := seed_folders(place))), [])
        yield from (folder.path for folder in seeds) if seeds else (run,)


def _are_one(recipe_of: Mapping[str, int], pair: Pair) -> bool:
    """Whether both runs of a pair belong to one group of seeds."""
    first = recipe_of.get(pair.first)
    return first is not None and first == recipe_of.get(pair.second)


def _folder(run: str | Path | OpenedRun) -> RunFolder:
    folder = find_run(run) if isinstance(run, str | Path) else run.folder
    folder.status()
    warn(differences(folder).sentences(folder.recipe_path))
    return folder


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """The shortest name of each run that tells it from the others."""
    if len(folders) < 2:
        raise UsageError(
            "A comparison takes at least two runs.",
            "Name another one: sartor compare RUN RUN; `sartor runs` lists them.",
        )
    paths = [folder.path.resolve() for folder in folders]
    twice = next((path for path, times in Counter(paths).items() if times > 1), None)
    if twice is not None:
        raise UsageError(f"{twice.name} is named twice.", "Name different runs.")
    short = Counter(path.name for path in paths)
    return [
        path.name if short[path.name] == 1 else str(folder.path)
        for path, folder in zip(paths, folders, strict=True)
    ]


def _predictions(
    run: str | Path | OpenedRun,
    folder: RunFolder,
    split: str,
    trust: bool,
    on_event: Sink | None,
) -> Predictions:
    """The saved predictions of the run's best weights, or new ones."""
    path = folder.predictions_path(split)
    if not path.is_file():
        reason = f"has no saved predictions on {split}"
        return _made(run, folder, split, trust, reason, on_event)
    saved = Predictions.load(path)
    if saved.split != split:
        raise RunError(
            f"{path} holds predictions on {saved.split}, not on {split}.",
            f"Make them again: sartor evaluate {shlex.quote(str(folder.path))} --split {split}",
        )
    checkpoints = folder.checkpoints("best")
    if not checkpoints:
        warn([f"{folder.path} has no checkpoint to hold its predictions against."])
    elif stored_weights_sha256(checkpoints[0]) != saved.weights_sha256:
        reason = f"has predictions on {split} that its best weights did not make"
        return _made(run, folder, split, trust, reason, on_event)
    looks.judged(folder, saved, "compare")
    return saved


def _made(
    run: str | Path | OpenedRun,
    folder: RunFolder,
    split: str,
    trust: bool,
    reason: str,
    on_event: Sink | None,
) -> Predictions:
    note(on_event, f"{folder.path} {reason}: evaluating it now.")
    # Only here is torch needed.
    from .judging import predictions_of
    from .opened import open_run

    return predictions_of(open_run(run, trust=trust), split, verb="compare")


def _seed_groups(
    groups: Sequence[Sequence[int]],
    standings: Sequence[Standing],
    settings: Sequence[dict[str, Any]],
    folders: Sequence[RunFolder],
    predictions: Sequence[Predictions],
) -> tuple[SeedGroup, ...]:
    """Groups of positions, each with its figures."""
    labels = _labels([[folders[position].path for position in group] for group in groups])
    return tuple(
        SeedGroup(
            label=label,
            names=tuple(standings[position].name for position in group),
            seeds=tuple(settings[position]["seed"] for position in group),
            accuracy=statistics_over_seeds(
                [standings[position].accuracy for position in group], highest=1
            ),
            mean=mean_over_seeds(
                _right([predictions[position] for position in group]), predictions[0].groups
            ),
        )
        for label, group in zip(labels, groups, strict=True)
    )


def _labels(groups: Sequence[Sequence[Path]]) -> list[str]:
    """The folder of each group's runs, where no other group has runs in it; else their names."""
    parents = [{path.resolve().parent for path in group} for group in groups]
    return [
        next(iter(one)).name
        if len(one) == 1 and sum(bool(one & other) for other in parents) == 1 and len(groups) > 1
        else ", ".join(path.name for path in group)
        for one, group in zip(parents, groups, strict=True)
    ]


def _right(predictions: Sequence[Predictions]) -> Float64Array:
    """float64 (runs, images): 1 where a run classifies an image correctly."""
    return np.array([one.predicted() == one.labels for one in predictions], dtype=np.float64)


def _recipe_pairs(
    groups: Sequence[SeedGroup], aligned: Mapping[str, Predictions]
) -> tuple[RecipePair, ...]:
    right = [_right([aligned[name] for name in group.names]) for group in groups]
    clusters = next(iter(aligned.values())).groups
    pairs = [
        compare_recipes(groups[one].label, right[one], groups[other].label, right[other], clusters)
        for one, other in combinations(range(len(groups)), 2)
    ]
    corrected = holm([pair.p_value for pair in pairs])
    return tuple(
        replace(pair, p_adjusted=p_value) for pair, p_value in zip(pairs, corrected, strict=True)
    )


def _dataset(run: str | Path | OpenedRun, folder: RunFolder, fingerprint: str) -> Dataset:
    """The data that the runs were judged on; opened without torch for a run that has none."""
    if not isinstance(run, str | Path):
        return run.dataset()
    from ..data.sources import open_source

    recipe = Recipe.from_toml(folder.read_recipe_text())
    try:
        data = recipe.data.with_lists_at(folder.excluded_path, folder.fixes_path)
        dataset = open_source(data, recipe.preprocess)
    except UsageError as error:
        raise DataError(
            f"The data {recipe.data.source} of {folder.path} is not at hand.",
            "Put it back where it was; the comparison itself does not need it.",
        ) from error
    if dataset.fingerprint != fingerprint:
        raise DataError(
            f"The data {recipe.data.source} is not what {folder.path} was judged on.",
            "Give the original data; the comparison itself does not need it.",
        )
    return dataset


def _some_of(flips: Sequence[Flip], most: int) -> str:
    images = f"{len(flips):,} image{'' if len(flips) == 1 else 's'}"
    return images if len(flips) <= most else f"{images}, the {most} clearest"


def _html_row(run: Standing) -> str:
    low, high = run.interval
    cells = (
        html.escape(run.name),
        f"{run.accuracy:.2%}",
        f"{low:.2%} to {high:.2%}",
        f"{run.loss:.4f} {html.escape(run.loss_kind)}",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
