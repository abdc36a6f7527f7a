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
_BEGUN = "beginning"
_BEGINNINGS = (
    "findings.json",
    "excluded.txt",
    "fixes.csv",
    "model.py",
    "split.npz",
    "environment.json",
    "engine.json",
    # Last, since it says that the others are ours.
    "status.json",
)
"""What a fit writes before its recipe, which makes a run of the folder."""
_LOCK_PATIENCE_SECONDS = 1.0
REPORT_STATES = ("due", "made", "none")
STATUS_KEYS = frozenset({"format", "state", "report", "reason"})
_LARGEST = 1e15
_SPECIAL = frozenset('/\\:*?[]"<>|')
_LONGEST_NAME = 60
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

    @property
    def source_path(self) -> Path:
        """How the source was read, and what was said of it, a sentence a line; for files only."""
        return self.path / "source.txt"

    def predictions_path(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.npz"

    def history(self) -> list[dict[str, Any]]:
        """One row per epoch, as far as the file can be read."""
        rows = files.read_json_lines(self.history_path)
        return list(itertools.takewhile(_is_row, rows))

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
    def input_ranges_path(self) -> Path:
        """What is usual among the training images, in a few figures."""
        return self.path / "input_ranges.json"

    def input_ranges(self) -> Any:
        """What `input_ranges_path` holds; None where it cannot be read."""
        return _read_json(self.input_ranges_path)

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
            return files.read_regular(self.recipe_path).decode()
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
            return files.read_regular(path)
        except OSError as error:
            raise RunError(
                f"{what} is missing from the run {self.path}.", "Train again from its recipe.toml."
            ) from error

    def write_status(self, state: str, **more: Any) -> None:
        """Say how the run stands: running, finished, stopped early, interrupted or failed."""
        files.write_json(self.path / "status.json", {"format": FORMAT, "state": state, **more})

    def report_state(self) -> str:
        """The report that training ends with: due, made or none; "" where the run does not say."""
        state = self.status().get("report")
        return state if state in REPORT_STATES else ""

    def write_report_is_made(self) -> None:
        """Say that the report which training ends with is there."""
        status = self.status() | {"report": "made"}
        self.write_status(**{key: value for key, value in status.items() if key != "format"})

    def status(self) -> dict[str, Any]:
        """`state` and what goes with it; a run that says running but holds no lock was killed.

        Raises:
            RunError: the folder was made by a newer sartor.
        """
        status = self.status_document()
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
        if not isinstance(status.get("state"), str):
            status["state"] = "broken"
        return status

    def status_document(self) -> Any:
        """What status.json holds; None where it cannot be read."""
        return _read_json(self.path / "status.json")

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

    def own_folder(self, name: str) -> Path:
        """A folder within the run, to write into.

        Raises:
            RunError: it is a link to somewhere else.
        """
        folder = self.path / name
        if folder.is_symlink():
            raise RunError(
                f"{folder} is a link to {folder.readlink()}; a run writes into no other folder.",
                "Put the folder itself there, or use a copy of the run.",
            )
        return folder

    def save_checkpoint(self, content: bytes) -> None:
        """Keep the newest state; the one before it stays as `previous`."""
        folder = files.make_folder(self.own_folder("checkpoints"))
        files.write_bytes(folder / _NEW, content)
        files.replace_keeping_previous(folder / _NEW, folder / _LAST, folder / _PREVIOUS)

    def save_best(self, content: bytes) -> None:
        """Keep the best epoch's weights."""
        files.write_bytes(files.make_folder(self.own_folder("checkpoints")) / _BEST, content)

    def refuse_unless_empty(self) -> None:
        """Raise a RunError where something stands in the folder that a new run would overwrite.

        What a fit leaves that is killed before its recipe is written counts as nothing.
        """
        with files.explain_os_errors(f"read the folder {self.path}"):
            entries = list(self.path.iterdir())
        if not _is_abandoned(entries):
            raise RunError(
                f"{self.path} exists and is not empty; runs are never overwritten.",
                "Choose another --out, `sartor resume` the run in it, or delete the folder.",
            )

    def begin(self) -> None:
        """Make an empty run of the folder; only for who holds it, after `refuse_unless_empty`."""
        files.remove_temporary(self.path)
        for name in _BEGINNINGS:
            files.remove(self.path / name)
        self.write_status(_BEGUN)

    def settle(self) -> None:
        """End what a killed process left half done; only for who holds the run.

        Raises:
            RunError: its checkpoints are a link to somewhere else.
        """
        folder = self.own_folder("checkpoints")
        files.remove_temporary(self.path)
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
    stem = _as_folder_name(stem)
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


def _as_folder_name(stem: str) -> str:
    """A name that stays within its folder and is no pattern, whatever a data set is called."""
    plain = "".join(one if one.isprintable() and one not in _SPECIAL else "-" for one in stem)
    return plain.lstrip(".- ")[:_LONGEST_NAME].rstrip() or "run"


def _is_row(row: dict[str, Any]) -> bool:
    """Whether a row of the history has its columns, and numbers in them; validation may lack.

    JSON as Python reads it has NaN, which means that a figure could not be computed.
    """
    return row.keys() >= _HISTORY_COLUMNS and all(
        isinstance(row[name], float)
        or (type(row[name]) is int and abs(row[name]) < _LARGEST)
        or (row[name] is None and name.startswith("val_"))
        for name in _HISTORY_COLUMNS
    )


def _is_abandoned(entries: list[Path]) -> bool:
    """Whether a folder is empty, or holds only what a fit writes before its recipe."""
    names = {entry.name for entry in entries if not files.is_temporary(entry)} - {_LOCK}
    if not names:
        return all(entry.name.startswith((_LOCK, ".status.json.")) for entry in entries)
    status = next((_read_json(entry) for entry in entries if entry.name == "status.json"), None)
    begun = isinstance(status, dict) and status.get("state") in (_BEGUN, "running")
    return begun and names <= set(_BEGINNINGS)


def _read_json(path: Path) -> Any:
    """The document in a file; None where it cannot be read."""
    try:
        return json.loads(files.read_regular(path))
    # Thousands of brackets within each other are more than the parser can count.
    except (OSError, ValueError, RecursionError):
        return None


def read_tables(text: str) -> dict[str, Any]:
    """TOML as far as it can be parsed; nothing of it where it cannot."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        # Mostly TOMLDecodeError; a number of 5,000 digits or 1,000 brackets fail differently.
        return {}
