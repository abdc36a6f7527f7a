"""One run: a folder with everything that came of a recipe."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import platform
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..errors import FileError, RunError
from ..events import is_history_row
from ..home import is_locked, locked

FORMAT = 1
_LAST, _PREVIOUS, _BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
_NEW, _LOCK = "new.safetensors", ".lock"
_HOLDER = ".lock.json"
_DAMAGED = ".damaged"
_BEGUN = "beginning"
_BEGINNINGS = (
    "findings.json",
    "source.txt",
    "excluded.txt",
    "fixes.csv",
    "model.py",
    "split.npz",
    "environment.json",
    "engine.json",
    "input_ranges.json",
    # Last, since it says that the others are ours.
    "status.json",
)
"""What a fit writes before its recipe, which makes a run of the folder."""
_LOCK_PATIENCE_SECONDS = 1.0
REPORT_STATES = ("due", "made", "none")
STATUS_KEYS = frozenset({"format", "state", "report", "reason"})
_LARGEST_RECIPE = 16 << 20
_SPECIAL = frozenset('/\\:*?[]"<>|')
_LONGEST_NAME = 60


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

    def calibration_path(self, which: str) -> Path:
        """What was fitted on the validation images for the "best" or "last" weights."""
        return self.path / "calibration" / f"{which}.safetensors"

    def history(self) -> list[dict[str, Any]]:
        """One row per epoch, as far as the file can be read."""
        rows = files.read_json_lines(self.history_path)
        return list(itertools.takewhile(is_history_row, rows))

    @property
    def findings_path(self) -> Path:
        """What the fast checks of the data found before the first step."""
        return self.path / "findings.json"

    def findings(self) -> list[dict[str, Any]] | None:
        """What a check of the data found; None where there was none that can be read."""
        found = _read_json(self.findings_path)
        rows = isinstance(found, list) and all(isinstance(one, dict) for one in found)
        return found if rows else None

    @property
    def environment_path(self) -> Path:
        """What the run was made with."""
        return self.path / "environment.json"

    def environment(self) -> dict[str, Any]:
        """Versions and machine, as far as they can be read."""
        found = _read_json(self.environment_path)
        return found if isinstance(found, dict) else {}

    @property
    def input_ranges_path(self) -> Path:
        """What is usual among the training images, in a few figures."""
        return self.path / "input_ranges.json"

    def input_ranges(self) -> Any:
        """What `input_ranges_path` holds; None where it cannot be read."""
        return _read_json(self.input_ranges_path)

    @property
    def transfer_path(self) -> Path:
        """How a fine-tuned network compared with the head on features that it began with."""
        return self.path / "transfer.json"

    def transfer(self) -> dict[str, Any] | None:
        """What `transfer_path` holds; None where nothing was compared or it cannot be read."""
        found = _read_json(self.transfer_path)
        told = isinstance(found, dict) and isinstance(found.get("sentence"), str)
        return found if told else None

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
            return files.read_document(self.recipe_path, _LARGEST_RECIPE).decode()
        except (OSError, UnicodeDecodeError) as error:
            sentence, hint = files.unreadable(self.recipe_path, error) or (
                f"{self.path} is not a complete run: its recipe.toml cannot be read.",
                "Name another run (`sartor runs` lists them), or delete the folder and train "
                "again.",
            )
            raise RunError(sentence, hint) from error

    def read_bytes(self, path: Path, what: str) -> bytes:
        """The contents of a file of the run.

        Raises:
            RunError: it is not there or cannot be read.
        """
        try:
            return files.read_regular(path)
        except OSError as error:
            sentence, hint = files.unreadable(path, error) or (
                f"{what} is missing from the run {self.path}.",
                "Train again from its recipe.toml.",
            )
            raise RunError(sentence, hint) from error

    def write_status(self, state: str, **more: Any) -> None:
        """Say how the run stands: running, finished, stopped early, interrupted or failed."""
        document = {"format": FORMAT, "state": state, **more}
        if self.status_document() != document:
            files.write_json(self.path / "status.json", document)

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
                f"Another process is training {self.path}.",
                f"Wait for {self._holder()}, or stop it first.",
            )

        # Whoever asks whether the run is locked holds it for a moment.
        patience = _LOCK_PATIENCE_SECONDS
        what = f"the run {self.path}"
        holder = self.path / _HOLDER
        with locked(self.path / _LOCK, what=what, patience=patience, when_busy=refuse):
            # The lock is the file's and ends with the process; this only says whose it is, so
            # nothing waits for the disk.
            with suppress(FileError):
                files.write_json(holder, _this_process(), durable=False)
            try:
                yield
            finally:
                with suppress(FileError):
                    files.remove(holder)

    def _holder(self) -> str:
        """The process that trains this run, as far as it said so."""
        found = _read_json(self.path / _HOLDER)
        if not isinstance(found, dict) or not isinstance(found.get("process"), int):
            return "it"
        machine = "" if found.get("machine") == platform.node() else f" on {found.get('machine')}"
        return f"process {found['process']}{machine} (since {found.get('since')})"

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
        folder = self.made_folder("checkpoints")
        files.write_bytes(folder / _NEW, content)
        files.replace_keeping_previous(folder / _NEW, folder / _LAST, folder / _PREVIOUS)

    def save_best(self, content: bytes) -> None:
        """Keep the best epoch's weights."""
        files.write_bytes(self.made_folder("checkpoints") / _BEST, content)

    def made_folder(self, name: str) -> Path:
        """As `own_folder`, made where there is none.

        Only within the run: where that was moved or deleted, nothing is to stand in its place.

        Raises:
            RunError: it is a link, or the run is gone.
        """
        folder = self.own_folder(name)
        if not folder.is_dir():
            if not self.path.is_dir():
                raise RunError(f"There is no run at {self.path} any more.", "Look where it went.")
            files.make_folder(folder)
        return folder

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

    def go_on_from(self, path: Path) -> None:
        """Let a whole checkpoint be the newest, and the next one not replace it by a damaged one;
        only for who holds the run.

        Those that are preferred to it, which are damaged, are set aside.
        """
        for one in itertools.takewhile(lambda one: one != path, self.checkpoints("last")):
            files.move(one, one.with_name(one.name + _DAMAGED))
        if path.name != _LAST:
            files.move(path, path.with_name(_LAST))

    @property
    def best_path(self) -> Path:
        """The best epoch's weights."""
        return self.path / "checkpoints" / _BEST

    def checkpoint_bytes(self) -> int:
        """What the checkpoints take on the disk."""
        paths = {*self.checkpoints("best"), *self.checkpoints("last")}
        return sum(path.stat().st_size for path in paths)

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
        files.sync(path)
        return RunFolder(path)
    raise AssertionError("numbers do not end")


def _as_folder_name(stem: str) -> str:
    """A name that stays within its folder and is no pattern, whatever a data set is called."""
    plain = "".join(one if one.isprintable() and one not in _SPECIAL else "-" for one in stem)
    return plain.lstrip(".- ")[:_LONGEST_NAME].rstrip() or "run"


def _is_abandoned(entries: list[Path]) -> bool:
    """Whether a folder is empty, or holds only what a fit writes before its recipe."""
    names = {entry.name for entry in entries if not files.is_temporary(entry)}
    names -= {_LOCK, _HOLDER}
    if not names:
        ours = (_LOCK, f".{_HOLDER}.", ".status.json.")
        return all(entry.name.startswith(ours) for entry in entries)
    status = next((_read_json(entry) for entry in entries if entry.name == "status.json"), None)
    begun = isinstance(status, dict) and status.get("state") in (_BEGUN, "running")
    return begun and names <= set(_BEGINNINGS)


def _this_process() -> dict[str, Any]:
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return {"process": os.getpid(), "machine": platform.node(), "since": since}


def _read_json(path: Path) -> Any:
    """The document in a file; None where it cannot be read."""
    try:
        return files.strict(json.loads(files.read_document(path)))
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
