"""Many runs: find one, list all. Nothing here imports torch, so a listing is instant."""

from __future__ import annotations

import math
import shlex
import zipfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RunError, unknown
from ..files import can_only_be_a_path, explain_os_errors
from .containment import leads_out, refuse_ways_out
from .folder import RunFolder, read_tables
from .history import best_row

RUNS = Path("runs")
_LARGEST = 1e15
_SEED = "seed-"
_BUNDLE = "bundle.json"
_DIGITS = 20


def seed_folders(path: Path) -> list[RunFolder]:
    """The runs in a folder that `fit --seeds N --out` made, by their seeds; of another, none."""
    if (path / RunFolder(path).recipe_path.name).exists() or not path.is_dir():
        return []
    # Not links: a folder that is linked into itself would be listed without end.
    entries = [entry for entry in path.iterdir() if entry.is_dir() and not entry.is_symlink()]
    numbers = {
        int(number): entry
        for entry in entries
        if (number := entry.name.removeprefix(_SEED)).isdecimal() and len(number) < _DIGITS
        if entry.name.startswith(_SEED)
    }
    return [RunFolder(numbers[seed]) for seed in sorted(numbers)]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A line of the list of runs."""

    name: str
    path: str
    state: str
    """finished, stopped early, interrupted, killed, running, failed or broken; of a folder of
    seeds, the state that its runs share, else each with its number."""
    source: str
    model: str
    epochs_done: int
    epochs: int
    best_epoch: int | None
    """None without a validation split."""
    val_accuracy: float | None
    """Of the best epoch, where there is a validation split."""
    train_accuracy: float | None
    seconds: float | None
    seeds: int | None = None
    """Of a folder of runs that differ only in the seed, how many; the figures are then means."""


LATEST = "latest"
"""Stands for the newest run, wherever a run is asked for."""


def find_run(name_or_path: str | Path, runs: Path = RUNS) -> RunFolder:
    """A run by path, by its name in `runs`, or "latest" for the newest one there.

    Raises:
        RunError: there is none, with the nearest name; or something in it leads out of it.
    """
    _refuse_bundle(Path(name_or_path))
    for path in (Path(name_or_path), runs / name_or_path):
        if path.is_dir():
            _refuse_seeds(path)
            refuse_ways_out(path)
            return RunFolder(path)
    _refuse_missing_bundle(Path(name_or_path))
    _refuse_path(str(name_or_path))
    folders = run_folders(runs)
    if str(name_or_path) == LATEST and folders:
        newest = max(
            seed_folders(folders[0].path) or folders[:1], key=lambda one: _newest(one.path)
        )
        refuse_ways_out(newest.path)
        return newest
    names = [folder.name for folder in folders]
    if not names:
        raise RunError(
            f"There is no run at {name_or_path}, and none in {runs}.", "Train one: sartor fit."
        )
    sentence = unknown("run", str(name_or_path), names)
    raise RunError(sentence[0].upper() + sentence[1:], "`sartor runs` lists all.")


def _refuse_seeds(path: Path) -> None:
    """Say of a folder of runs that it is none.

    Raises:
        RunError: `path` was made by `fit --seeds`.
    """
    seeds = seed_folders(path)
    if seeds:
        one = shlex.quote(str(seeds[0].path))
        raise RunError(
            f"{path} holds {len(seeds)} run{'' if len(seeds) == 1 else 's'}, one per seed.",
            f"Name one of them, such as {one}; sartor compare {shlex.quote(str(path))} shows all.",
        )


def _refuse_bundle(path: Path) -> None:
    """Say of a bundle that it is not a run.

    Raises:
        RunError: it is one, as far as a look tells.
    """
    folder = (path / _BUNDLE).is_file() and not RunFolder(path).recipe_path.exists()
    archive = path.suffix.lower() == ".zip" and zipfile.is_zipfile(path)
    if folder or (archive and _holds(path, _BUNDLE)):
        raise RunError(
            f"{path} is a bundle, not a run.",
            "Name the run that the bundle was exported from; predict, evaluate, verify and serve "
            "take bundles, too.",
        )
    if archive:
        raise RunError(
            f"{path} is neither a run nor a bundle: it holds no {_BUNDLE}.",
            "Name a run (`sartor runs` lists them), or make a bundle of one: sartor export RUN "
            "--out NAME.zip",
        )


def _holds(archive: Path, name: str) -> bool:
    """Whether a .zip file has a member of that name, as far as its directory can be read."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return name in opened.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def _refuse_missing_bundle(path: Path) -> None:
    """Say of what has the name of a bundle that there is none.

    Raises:
        RunError: `path` ends in .zip.
    """
    if path.suffix.lower() != ".zip":
        return
    again = f"sartor export RUN --out {shlex.quote(str(path))}"
    if path.exists():
        raise RunError(
            f"{path} is not a bundle: it cannot be read as a .zip archive.",
            f"Copy it again, or export it again: {again}",
        )
    raise RunError(f"There is no bundle at {path}.", f"Check the path, or make one: {again}")


def _refuse_path(given: str) -> None:
    """Say of what can only be a path what is there, instead of offering names of runs.

    Raises:
        RunError: `given` has a separator or a leading tilde, or is a file.
    """
    path = Path(given)
    if path.is_file():
        raise RunError(f"{given} is a file, not the folder of a run.", "Name a run's folder.")
    if can_only_be_a_path(given):
        raise RunError(
            f"There is nothing at {given}.",
            "Check the path; `sartor runs` lists the runs in runs/.",
        )


def run_folders(runs: Path = RUNS) -> list[RunFolder]:
    """The runs in a folder, the one trained last first."""
    if not runs.is_dir():
        return []
    with explain_os_errors(f"read the folder {runs}"):
        paths = [path for path in runs.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [
        RunFolder(path) for path in sorted(paths, key=lambda p: (_newest(p), p.name), reverse=True)
    ]


def _newest(path: Path) -> float:
    """When a run, or the newest of a folder of seeds, was made or trained last."""
    inside = [_last_trained(folder.path) for folder in seed_folders(path)]
    return max(inside, default=_last_trained(path))


def _last_trained(path: Path) -> float:
    """When a run was made or trained last; judging it or looking at it does not count."""
    times = []
    for name in ("environment.json", "history.jsonl"):
        with suppress(OSError):  # not there, or in a folder that nobody may look into
            times.append((path / name).stat().st_mtime)
    return max(times, default=0.0)


def summarize_run(folder: RunFolder) -> RunSummary:
    """What can be said of a run, even a broken one, or of a folder of seeds."""
    seeds = [summarize_run(one) for one in seed_folders(folder.path)]
    return _summary_of_seeds(folder, seeds) if seeds else _summary_of_run(folder)


def _summary_of_seeds(folder: RunFolder, seeds: list[RunSummary]) -> RunSummary:
    states = Counter(run.state for run in seeds)
    one_state = len(states) == 1
    return RunSummary(
        name=folder.name,
        path=str(folder.path),
        state=", ".join(name if one_state else f"{n} {name}" for name, n in states.items()),
        source=seeds[0].source,
        model=seeds[0].model,
        epochs_done=min(run.epochs_done for run in seeds),
        epochs=max(run.epochs for run in seeds),
        best_epoch=None,
        val_accuracy=_mean([run.val_accuracy for run in seeds]),
        train_accuracy=_mean([run.train_accuracy for run in seeds]),
        seconds=sum(run.seconds or 0.0 for run in seeds),
        seeds=len(seeds),
    )


def _mean(values: list[float | None]) -> float | None:
    """Of all; None where one is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _summary_of_run(folder: RunFolder) -> RunSummary:
    if leads_out(folder.path):
        return _nothing_of(folder)
    recipe = _tables(folder)
    history = folder.history()
    last: dict[str, Any] = history[-1] if history else {}
    training = recipe.get("training", {})
    epochs = training.get("epochs")
    best = best_row(history, str(training.get("monitor", "val_accuracy"))) or {}
    if training.get("transfer") == "ladder":
        # The better rung is taken, not the best epoch; before there are two, it is the head.
        taken = (folder.transfer() or {}).get("epoch", 0)
        best = next((row for row in history if row.get("epoch") == taken), best)
    return RunSummary(
        name=folder.name,
        path=str(folder.path),
        state=_state(folder, recipe),
        source=str(recipe.get("data", {}).get("source", "?")),
        model=str(recipe.get("model", {}).get("model", "?")),
        # A head on features is there before the first of them.
        epochs_done=sum(row.get("epoch") != 0 for row in history),
        epochs=epochs if isinstance(epochs, int) and epochs > 0 else 0,
        best_epoch=best["epoch"] if isinstance(best.get("epoch"), int) else None,
        val_accuracy=_number(best.get("val_accuracy")),
        train_accuracy=_number(last.get("train_accuracy")),
        seconds=_number(last.get("seconds")),
    )


def _nothing_of(folder: RunFolder) -> RunSummary:
    """Of a run of which nothing is read; the other verbs say why."""
    return RunSummary(
        name=folder.name,
        path=str(folder.path),
        state="broken",
        source="?",
        model="?",
        epochs_done=0,
        epochs=0,
        best_epoch=None,
        val_accuracy=None,
        train_accuracy=None,
        seconds=None,
    )


def _number(value: object) -> float | None:
    """A finite number as it is; None for anything else that stands where a number belongs."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Whole numbers may be too large for a float.
    return value if abs(value) < _LARGEST and math.isfinite(value) else None


def _tables(folder: RunFolder) -> dict[str, dict[str, Any]]:
    try:
        tables = read_tables(folder.read_recipe_text())
    except RunError:
        return {}
    return {name: table for name, table in tables.items() if isinstance(table, dict)}


def _state(folder: RunFolder, recipe: dict[str, Any]) -> str:
    if not recipe:
        return "broken"
    try:
        return str(folder.status()["state"])
    except RunError:
        return "other version"
