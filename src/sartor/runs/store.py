"""Many runs: find one, list all. Nothing here imports torch, so a listing is instant."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RunError, unknown
from ..files import can_only_be_a_path, explain_os_errors
from .folder import RunFolder, read_tables

RUNS = Path("runs")
_LARGEST = 1e15


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A line of the list of runs."""

    name: str
    path: str
    state: str
    """finished, stopped early, interrupted, killed, running, failed or broken."""
    source: str
    model: str
    epochs_done: int
    epochs: int
    val_accuracy: float | None
    """Of the best epoch, where there is a validation split."""
    train_accuracy: float | None
    seconds: float | None


LATEST = "latest"
"""Stands for the newest run, wherever a run is asked for."""


def find_run(name_or_path: str | Path, runs: Path = RUNS) -> RunFolder:
    """A run by path, by its name in `runs`, or "latest" for the newest one there.

    Raises:
        RunError: there is none; with the nearest name.
    """
    for path in (Path(name_or_path), runs / name_or_path):
        if path.is_dir():
            return RunFolder(path)
    _refuse_path(str(name_or_path))
    folders = run_folders(runs)
    if str(name_or_path) == LATEST and folders:
        return folders[0]
    names = [folder.name for folder in folders]
    if not names:
        raise RunError(
            f"There is no run at {name_or_path}, and none in {runs}.", "Train one: sartor fit."
        )
    sentence = unknown("run", str(name_or_path), names)
    raise RunError(sentence[0].upper() + sentence[1:], "`sartor runs` lists all.")


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
        RunFolder(path)
        for path in sorted(paths, key=lambda p: (_last_trained(p), p.name), reverse=True)
    ]


def _last_trained(path: Path) -> float:
    """When a run was made or trained last; judging it or looking at it does not count."""
    times = []
    for name in ("environment.json", "history.jsonl"):
        with suppress(OSError):  # not there, or in a folder that nobody may look into
            times.append((path / name).stat().st_mtime)
    return max(times, default=0.0)


def summarize_run(folder: RunFolder) -> RunSummary:
    """What can be said of a run, even a broken one."""
    recipe = _tables(folder)
    history = folder.history()
    accuracies = [_number(row.get("val_accuracy")) for row in history]
    last: dict[str, Any] = history[-1] if history else {}
    epochs = recipe.get("training", {}).get("epochs")
    return RunSummary(
        name=folder.name,
        path=str(folder.path),
        state=_state(folder, recipe),
        source=str(recipe.get("data", {}).get("source", "?")),
        model=str(recipe.get("model", {}).get("model", "?")),
        epochs_done=len(history),
        epochs=epochs if isinstance(epochs, int) and epochs > 0 else 0,
        val_accuracy=max((one for one in accuracies if one is not None), default=None),
        train_accuracy=_number(last.get("train_accuracy")),
        seconds=_number(last.get("seconds")),
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
