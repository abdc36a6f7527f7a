"""What a checkpoint knows of the other files of its run, and whether they still say the same.

Each checkpoint holds, under its own checksum, the recipe's text, the SHA-256 of the files that stay
as they are, and the history up to its epoch. The status is written more often than checkpoints; it
is held against the progress. The split is held by the hash in the recipe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..errors import RunError
from .folder import STATUS_KEYS, RunFolder, read_tables

_RECIPE = "recipe.toml"
_BY_HASH = ("model.py", "excluded.txt", "fixes.csv")
_CHANGED_BY_RESUME = {
    *("source", "image_root", "epochs", "extensions", "device", "amp_dtype"),
    *("engine", "instructions", "threads", "memory_format", "engine_changes"),
}
_PLACES = {"source", "exclude", "workers", "device", "checkpoint_seconds"}
"""Where things lie and are computed: at most the last digits of a result depend on it."""
_LARGEST_HEADER = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Differences:
    """How the files of a run differ from what its checkpoint knows of them."""

    recipe: tuple[str, ...] = ()
    """Settings that were changed and decide what the run does, such as "lr 0.1 (was 0.002)"."""
    others: tuple[str, ...] = ()
    """A sentence about each other file."""

    def recipe_sentence(self, path: Path) -> str:
        """What was changed in the recipe, as a sentence."""
        shown = ", ".join(self.recipe[:5]) + (", ..." if len(self.recipe) > 5 else "")
        return f"{path} is not what the run was trained with: {shown}."

    def sentences(self, path: Path) -> list[str]:
        """All of them."""
        return [*((self.recipe_sentence(path),) if self.recipe else ()), *self.others]


def seals_of(folder: RunFolder) -> dict[str, str]:
    """What every checkpoint of a run has to hold; for who is about to train it."""
    hashes = {name: files.sha256_of_file(folder.path / name) for name in _BY_HASH}
    sealed = {name: sha256 for name, sha256 in hashes.items() if sha256}
    return {_RECIPE: folder.read_recipe_text(), **sealed}


def differences(folder: RunFolder) -> Differences:
    """What was changed since; nothing for runs whose checkpoints do not say, or cannot be read."""
    state = newest_state(folder)
    if state is None:
        return Differences()
    sealed, progress = _table(state.get("sealed")), _table(state.get("progress"))
    changed = _recipe_changes(folder, sealed)
    grave = tuple(text for name, text in changed.items() if name not in _PLACES)
    return Differences(
        recipe=grave,
        others=(
            *(
                f"{folder.path / _RECIPE}: {changed[name]}."
                for name in sorted(_PLACES & set(changed))
            ),
            *_changed_files(folder, sealed),
            *_changed_history(folder, progress),
            *_changed_status(folder, progress),
            *_unknown_status(folder),
        ),
    )


def _recipe_changes(folder: RunFolder, sealed: Mapping[str, Any]) -> dict[str, str]:
    """Settings by name, each with what it is and what it was."""
    if not isinstance(sealed.get(_RECIPE), str):
        return {}
    was, now = _settings(sealed[_RECIPE]), _settings(_text(folder.recipe_path))
    if not now:  # whoever reads it will say why
        return {}
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    # Between an extension and its first checkpoint; what it was lies beside it.
    if set(names) <= _CHANGED_BY_RESUME and was in _earlier(folder):
        return {}
    return {name: f"{name} {_shown(now.get(name))} (was {_shown(was.get(name))})" for name in names}


def _earlier(folder: RunFolder) -> list[dict[str, Any]]:
    return [_settings(_text(path)) for path in sorted(folder.path.glob("recipe-before-*.toml"))]


def _changed_files(folder: RunFolder, sealed: Mapping[str, Any]) -> Iterator[str]:
    for name in _BY_HASH:
        if name in sealed and files.sha256_of_file(folder.path / name) != sealed[name]:
            yield f"{folder.path / name} is not the file that the run was trained with."


def _changed_history(folder: RunFolder, progress: Mapping[str, Any]) -> Iterator[str]:
    kept = progress.get("history")
    if not isinstance(kept, list):
        return
    for was, now in zip(kept, folder.history(), strict=False):
        names = [name for name in _table(was) if was[name] != now.get(name)]
        if names:
            name = names[0]
            yield (
                f"{folder.history_path} does not agree with the checkpoint: {name} of epoch "
                f"{was.get('epoch')} is {_shown(now.get(name))} (was {_shown(was[name])})."
            )
            return


def _changed_status(folder: RunFolder, progress: Mapping[str, Any]) -> Iterator[str]:
    try:
        state = folder.status()["state"]
    except RunError:
        return
    epochs = _settings(_text(folder.recipe_path)).get("epochs")
    done, stopped = progress.get("epoch"), progress.get("stopped_early")
    if state not in ("finished", "stopped early") or not isinstance(done, int):
        return
    if not (stopped or (isinstance(epochs, int) and done >= epochs)):
        yield (
            f"{folder.path / 'status.json'} says {state}, but the checkpoint has {done} of "
            f"{epochs} epochs."
        )


def _unknown_status(folder: RunFolder) -> Iterator[str]:
    unknown = sorted(set(_table(folder.status_document())) - STATUS_KEYS)
    if unknown:
        yield (
            f"{folder.path / 'status.json'} holds {', '.join(unknown[:5])}, which this version of "
            "sartor does not know: a newer one may have written it."
        )


def newest_state(folder: RunFolder) -> dict[str, Any] | None:
    """Everything but the tensors of the newest checkpoint whose header can be read."""
    for path in folder.checkpoints("last"):
        try:
            with path.open("rb") as stream:
                # The layout of safetensors: eight bytes with the length of a JSON header.
                length = int.from_bytes(stream.read(8), "little")
                header = json.loads(stream.read(min(length, _LARGEST_HEADER)))
            state = json.loads(json.loads(header["__metadata__"]["sartor"])["state"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(state, dict):
            return state
    return None


def _settings(text: str) -> dict[str, Any]:
    """Every setting of a recipe's TOML by its flat name."""
    tables = [table for table in read_tables(text).values() if isinstance(table, dict)]
    return {name: value for table in tables for name, value in table.items()}


def _text(path: Path) -> str:
    try:
        return files.read_regular(path).decode()
    except (OSError, UnicodeDecodeError):
        return ""


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
