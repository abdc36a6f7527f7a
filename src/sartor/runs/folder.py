"""One run: a folder with everything that came of a recipe."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..errors import RunError
from ..home import is_locked, locked

FORMAT = 1
_LAST, _PREVIOUS, _BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
_NEW, _LOCK = "new.safetensors", ".lock"
_LOCK_PATIENCE_SECONDS = 1.0
_HISTORY_COLUMNS = {
    "epoch",
    "step",
    "seconds",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "images_per_second",
}


@dataclass(frozen=True)
class RunFolder:
    """Paths and contents of a run's folder. Reading tolerates what is missing."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe_path(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def history_path(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def split_path(self) -> Path:
        return self.path / "split.npz"

    @property
    def model_source_path(self) -> Path:
        """The user's own model file, where there was one."""
        return self.path / "model.py"

    @property
    def report_path(self) -> Path:
        """The page; what it says stands as JSON beside it."""
        return self.path / "report.html"

    @property
    def excluded_path(self) -> Path:
        """What was left out of the data and why, where something was."""
        return self.path / "excluded.txt"

    @property
    def fixes_path(self) -> Path:
        """The corrected labels that it was trained with, where there were some."""
        return self.path / "fixes.csv"

    def predictions_path(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.npz"

    def history(self) -> list[dict[str, Any]]:
        """One row per epoch, as far as the file can be read."""
        rows = files.read_json_lines(self.history_path)
        return list(itertools.takewhile(_HISTORY_COLUMNS.issubset, rows))

    @property
    def findings_path(self) -> Path:
        """What the fast checks of the data found before the first step."""
        return self.path / "findings.json"

    def findings(self) -> list[dict[str, Any]] | None:
        """What a check of the data found; None where there was none that can be read."""
        found = _read_json(self.findings_path)
        return found if isinstance(found, list) else None

    def environment(self) -> dict[str, Any]:
        """Versions and machine, as far as they can be read."""
        found = _read_json(self.path / "environment.json")
        return found if isinstance(found, dict) else {}

    @property
    def engine_path(self) -> Path:
        """What was measured before the first step, and which engine was chosen."""
        return self.path / "engine.json"

    def engine(self) -> dict[str, Any] | None:
        """What `engine_path` holds; None where nothing was measured or it cannot be read."""
        found = _read_json(self.engine_path)
        return found if isinstance(found, dict) else None

    def read_recipe_text(self) -> str:
        """The resolved recipe's TOML.

        Raises:
            RunError: there is none: this is not a run, or it was killed while being created.
        """
        try:
            return self.recipe_path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(
                f"{self.path} is not a complete run: its recipe.toml cannot be read.",
                "Name another run (`sartor runs` lists them), or delete the folder and train "
                "again.",
            ) from error

    def read_bytes(self, path: Path, what: str) -> bytes:
        """The contents of a file of the run.

        Raises:
            RunError: it is not there or cannot be read.
        """
        try:
            return path.read_bytes()
        except OSError as error:
            raise RunError(
                f"{what} is missing from the run {self.path}.", "Train again from its recipe.toml."
            ) from error

    def write_status(self, state: str, **more: Any) -> None:
        """Say how the run stands: running, finished, stopped early, interrupted or failed."""
        files.write_json(self.path / "status.json", {"format": FORMAT, "state": state, **more})

    def status(self) -> dict[str, Any]:
        """`state` and what goes with it; a run that says running but holds no lock was killed.

        Raises:
            RunError: the folder was made by a newer sartor.
        """
        try:
            status = json.loads((self.path / "status.json").read_bytes())
        except (OSError, ValueError):
            return {"state": "broken"}
        if not isinstance(status, dict) or "format" not in status:
            return {"state": "broken"}
        if status["format"] != FORMAT:
            raise RunError(
                f"{self.path} has format {status['format']}; this version of sartor reads format "
                f"{FORMAT}.",
                "Use the version of sartor named in its environment.json.",
            )
        if status.get("state") == "running" and not self.is_locked():
            status["state"] = "killed"
        return {"state": "broken"} | status

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run; a second process that wants to is refused.

        Raises:
            RunError: another process trains this run.
        """

        def refuse() -> None:
            raise RunError(
                f"Another process is training {self.path}.", "Wait for it, or stop it first."
            )

        # Whoever asks whether the run is locked holds it for a moment.
        patience = _LOCK_PATIENCE_SECONDS
        what = f"the run {self.path}"
        with locked(self.path / _LOCK, what=what, patience=patience, when_busy=refuse):
            yield

    def is_locked(self) -> bool:
        """Whether a process trains this run at the moment."""
        return is_locked(self.path / _LOCK)

    def save_checkpoint(self, content: bytes) -> None:
        """Keep the newest state; the one before it stays as `previous`."""
        folder = files.make_folder(self.path / "checkpoints")
        files.write_bytes(folder / _NEW, content)
        files.replace_keeping_previous(folder / _NEW, folder / _LAST, folder / _PREVIOUS)

    def save_best(self, content: bytes) -> None:
        """Keep the best epoch's weights."""
        files.write_bytes(files.make_folder(self.path / "checkpoints") / _BEST, content)

    def refuse_unless_empty(self) -> None:
        """Raise a RunError where something stands in the folder that a new run would overwrite."""
        with files.explain_os_errors(f"read the folder {self.path}"):
            occupied = any(entry.name != _LOCK for entry in self.path.iterdir())
        if occupied:
            raise RunError(
                f"{self.path} exists and is not empty; runs are never overwritten.",
                "Choose another --out, `sartor resume` the run in it, or delete the folder.",
            )

    def settle(self) -> None:
        """End what a killed process left half done; only for who holds the run."""
        folder = self.path / "checkpoints"
        files.remove_temporary(folder)
        if (folder / _NEW).is_file() and not (folder / _LAST).is_file():
            files.replace_keeping_previous(folder / _NEW, folder / _LAST, folder / _PREVIOUS)

    def checkpoints(self, which: str) -> list[Path]:
        """Files that may hold the "last" or "best" checkpoint, the most wanted first."""
        # `new` is there only where a run was killed before it became `last`.
        last = (_LAST, _NEW, _PREVIOUS)
        names = {"last": last, "best": (_BEST, *last)}[which]
        paths = [self.path / "checkpoints" / name for name in names]
        return [path for path in paths if path.is_file()]


def create_run(out: Path | None, stem: str, runs: Path) -> RunFolder:
    """A new, empty run folder: exactly `out`, or the next free `runs`/`stem`-N.

    Raises:
        FileError: it cannot be made.
        RunError: `out` is not empty.
    """
    if out is not None:
        folder = RunFolder(files.make_folder(out))
        folder.refuse_unless_empty()
        return folder
    files.make_folder(runs)
    taken = (
        int(p.name.removeprefix(f"{stem}-"))
        for p in runs.glob(f"{stem}-*")
        if p.name.removeprefix(f"{stem}-").isdecimal()
    )
    for number in itertools.count(max(taken, default=0) + 1):
        path = runs / f"{stem}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError:
            files.make_folder(path)
        return RunFolder(path)
    raise AssertionError("numbers do not end")


def _read_json(path: Path) -> Any:
    """The document in a file; None where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def read_tables(text: str) -> dict[str, Any]:
    """TOML as far as it can be parsed; nothing of it where it cannot."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
