"""The same training with several seeds: a run for each, and how far the figures move."""

from __future__ import annotations

import html
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ..data.dataset import Dataset
from ..errors import Interrupted, RunError, UsageError
from ..evaluation.over_seeds import MeanOverSeeds, mean_over_seeds
from ..evaluation.seed_statistics import SeedStatistics, statistics_over_seeds
from ..recipe import Recipe
from ..runs.folder import RunFolder
from ..runs.store import summarize_run
from .composing import compose_recipe
from .judging import predictions_of
from .notes import Sink
from .run import Run, fit

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESUMABLE = ("interrupted", "killed", "failed")
FIGURES = ("val_accuracy", "val_loss", "train_accuracy", "train_loss")


@dataclass(frozen=True, kw_only=True)
class SeedTest:
    """The runs on the test images, the same for all."""

    accuracies: tuple[float, ...]
    """Of each run, in their order."""
    accuracy: SeedStatistics
    loss: SeedStatistics | None
    """None where a loss is not finite."""
    mean: MeanOverSeeds
    """With an interval for other seeds and other images."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "count": self.mean.count,
            "accuracies": list(self.accuracies),
            "accuracy": self.accuracy.to_json(),
            "interval_new_images": list(self.mean.interval),
            "loss": self.loss and self.loss.to_json(),
        }


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SeedRuns:
    """Runs that share everything but the seed, and the statistics of their last epochs' figures."""

    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    results: tuple[dict[str, Any], ...]
    """What each training came to, as `fit --json` gives it."""
    summary: dict[str, SeedStatistics | None]
    """Of val_accuracy, val_loss, train_accuracy and train_loss; None where there is no such figure.

    Each seed validates on images of its own."""
    best: dict[str, SeedStatistics | None]
    """Of val_accuracy and val_loss in the best epochs, whose weights are judged."""
    test: SeedTest | None
    """On the test images, each seed judged once; None where there are none."""

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, as `sartor fit --seeds N --json` gives them."""
        return {
            "runs": list(self.results),
            "seeds": list(self.seeds),
            "summary": {name: one and one.to_json() for name, one in self.summary.items()},
            "best": {name: one and one.to_json() for name, one in self.best.items()},
            "test": self.test and self.test.to_json(),
        }

    def __repr__(self) -> str:
        val, train = self.best["val_accuracy"], self.summary["train_accuracy"]
        test = self.test and self.test.accuracy
        name = "test" if test else "val" if val else "train"
        statistics = test or val or train
        assert statistics is not None, "every training has a figure"
        low, high = statistics.interval
        return (
            f"<SeedRuns: {len(self)} seeds, {name} accuracy {statistics.mean:.2%} "
            f"(95 % interval of the mean {low:.2%} to {high:.2%}), std {statistics.std:.2%}>"
        )

    def _repr_html_(self) -> str:
        """One row per seed and their statistics, for notebooks."""
        titles = ("seed", "run", *(name.replace("_", " ") for name in FIGURES))
        rows = [
            (str(seed), str(run.path), *(_shown(name, result[name]) for name in FIGURES))
            for seed, run, result in zip(self.seeds, self.runs, self.results, strict=True)
        ]
        statistics = self.summary.items()
        means = (_shown(name, one.mean if one else None) for name, one in statistics)
        stds = (_shown(name, one.std if one else None) for name, one in statistics)
        rows += [("mean", "", *means), ("std", "", *stds)]
        head = "".join(f"<th>{title}</th>" for title in titles)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        return (
            f"<table><caption>{html.escape(repr(self)[1:-1])}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def fit_seeds(
    data: str | Path | Dataset | None = None,
    *,
    seeds: int = 5,
    model: str | None = None,
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    check: bool = True,
    report: bool = True,
    trust: bool = False,
    on_event: Sink | None = None,
    on_run: Callable[[int, dict[str, Any]], None] | None = None,
    **settings: Any,
) -> SeedRuns:
    """Train the same recipe with `seeds` seeds, counted up from its own, and keep every run.

    At the end each is judged once on the test images, which are the same for all.

    Args:
        data, model, recipe, check, report, trust, settings: as `fit`; a network that exists
            already has its first weights, and so cannot be trained with several seeds.
        out: a folder for the runs seed-0, seed-1, ...; by default each is the next free runs/NAME.
        on_event: called with every event of every training.
        on_run: called with the seed and the result of each training that ends.

    Raises:
        UsageError: fewer than two seeds, or a network. RunError: a run's folder holds something.
        Interrupted: by a signal, after saving; the runs before stay. Others as `fit`.
    """
    if isinstance(model, nn.Module):
        raise UsageError(
            "A network that exists already has its first weights; each seed needs its own.",
            'Give a name, "path/file.py:Name", or call fit once for each network.',
        )
    if seeds < 2:
        raise UsageError(
            f"{seeds} seed{'' if seeds == 1 else 's'} cannot give a standard deviation.",
            "Give at least two, or leave --seeds out.",
        )
    first = compose_recipe(recipe, model, settings, trust=trust).training.seed
    chosen = tuple(range(first, first + seeds))
    # Both ends are checked now, and not after hours.
    compose_recipe(recipe, model, {**settings, "seed": chosen[-1]}, trust=trust)
    folders = _folders(out, chosen)
    runs: list[Run] = []
    results: list[dict[str, Any]] = []
    for seed, folder in zip(chosen, folders, strict=True):
        try:
            run = fit(
                data,
                progress=False,
                model=model,
                recipe=recipe,
                out=folder,
                check=check,
                report=report,
                trust=trust,
                on_event=on_event,
                **{**settings, "seed": seed},
            )
        except Interrupted as stopped:
            raise _with_the_rest(stopped, seed, chosen, folders[-1]) from None
        # A run that can open its data again does not keep it in memory.
        runs.append(run if isinstance(data, Dataset) else Run(run.folder))
        results.append(run.result())
        if on_run is not None:
            on_run(seed, results[-1])
    return SeedRuns(
        seeds=chosen,
        runs=tuple(runs),
        results=tuple(results),
        summary={name: _statistics_of(results, name) for name in FIGURES},
        best={
            name: _statistics_of([result["best"] or {} for result in results], name)
            for name in ("val_accuracy", "val_loss")
        },
        test=_tested(runs),
    )


def _tested(runs: list[Run]) -> SeedTest | None:
    """Every run judged on the test images."""
    if not all(len(run.split().test) for run in runs):
        return None
    each = [predictions_of(run, "test", verb="fit --seeds") for run in runs]
    losses = [float(one.example_losses().mean()) for one in each]
    right = np.array([one.predicted() == one.labels for one in each], dtype=np.float64)
    accuracies = tuple(right.mean(axis=1).tolist())
    return SeedTest(
        accuracies=accuracies,
        accuracy=statistics_over_seeds(accuracies, highest=1),
        loss=statistics_over_seeds(losses) if np.isfinite(losses).all() else None,
        mean=mean_over_seeds(right, each[0].groups),
    )


def _folders(out: str | Path | None, seeds: tuple[int, ...]) -> list[Path | None]:
    """Where each run goes; all are looked at before the first is trained."""
    if out is None:
        return [None] * len(seeds)
    folders = [Path(out) / f"seed-{seed}" for seed in seeds]
    taken = [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]
    if taken:
        states = {folder: summarize_run(RunFolder(folder)).state for folder in taken}
        listed = ", ".join(f"{folder.name} ({state})" for folder, state in states.items())
        unfinished = next((f for f, state in states.items() if state in _RESUMABLE), None)
        raise RunError(
            f"{out} holds {listed} already; a run is never overwritten.",
            "Choose another --out, or train the seeds that are missing with --seed and --seeds."
            if unfinished is None
            else f"Go on with: sartor resume {shlex.quote(str(unfinished))}; then train the seeds "
            "that are missing with --seed and --seeds.",
        )
    return list(folders)


def _with_the_rest(
    stopped: Interrupted, seed: int, seeds: tuple[int, ...], last: Path | None
) -> Interrupted:
    """The same interruption, which says besides what is done and what is missing."""
    done, missing = seeds.index(seed), seeds[-1] - seed
    finished = ("", "; the one before it is finished", f"; the {done} before it are finished")
    message = f"{stopped.message} That was seed {seed}, number {done + 1} of {len(seeds)}"
    hint = stopped.hint
    if missing == 1:
        place = "" if last is None else f" --out {shlex.quote(str(last))}"
        hint += f" and then train the last with --seed {seeds[-1]}{place} instead of --seeds."
    elif missing:
        hint += f" and then train the other {missing} with --seed {seed + 1} --seeds {missing}."
    return Interrupted(stopped.exit_code - 128, f"{message}{finished[min(done, 2)]}.", hint)


def _statistics_of(results: list[dict[str, Any]], name: str) -> SeedStatistics | None:
    values = [result.get(name) for result in results]
    highest = 1 if name.endswith("accuracy") else math.inf
    known = [value for value in values if value is not None]
    return statistics_over_seeds(known, highest=highest) if len(known) == len(values) else None


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4f}"
