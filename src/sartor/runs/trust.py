"""Whose Python file it is that a run brings along: this user's own fit's, or anybody's.

Under `SARTOR_HOME` lies a random key that only this user can read. A fit keeps a mark there: a
keyed hash of the run's place, its model.py and the settings that the file is called with. A run
that was copied, moved, edited or made by somebody else has no such mark. What is known by a hash of
all its content, such as a bundle, is marked by that hash, wherever it lies.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import files
from ..errors import FileError
from ..home import cache_home, explain_cache_errors, locked
from .folder import RunFolder

_KEY_BYTES = 32
_IMPORTABLE = (".py", ".pyc", ".so", ".pyd")


def mark_as_ours(folder: RunFolder, model: Mapping[str, Any]) -> None:
    """Remember that a fit of this user wrote the run's model.py.

    Args:
        model: the recipe's table of that name.

    Raises:
        FileError: `SARTOR_HOME` cannot be written to.
    """
    with explain_cache_errors():
        home, key = _home_with_key()
        files.write_text(home / _mark(folder, model, key), f"{folder.path.resolve()}\n")


def is_ours(folder: RunFolder, model: Mapping[str, Any]) -> bool:
    """Whether a fit of this user wrote the run's model.py, here, to be called like this."""
    key = _key()
    if key is None or _importable(folder.path):
        return False
    try:
        return (_home() / _mark(folder, model, key)).is_file()
    except FileError:
        return False


def mark_content_as_ours(sha256: str) -> None:
    """Remember that this user made what has this hash, wherever it lies.

    Raises:
        FileError: `SARTOR_HOME` cannot be written to.
    """
    with explain_cache_errors():
        home, key = _home_with_key()
        files.write_text(home / _content_mark(sha256, key), f"{sha256}\n")


def is_our_content(sha256: str) -> bool:
    """Whether this user made what has this hash."""
    key = _key()
    return key is not None and (_home() / _content_mark(sha256, key)).is_file()


def _content_mark(sha256: str, key: bytes) -> str:
    return hmac.new(key, f"content {sha256}".encode(), hashlib.sha256).hexdigest()


def _home_with_key() -> tuple[Path, bytes]:
    home = files.make_folder(_home())
    with locked(home / ".lock", what=f"the folder {home}"):
        key = _key()
        if key is None:
            key = secrets.token_bytes(_KEY_BYTES)
            files.write_bytes(_key_path(), key, private=True)
    return home, key


def _home() -> Path:
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return cache_home() / "trust" / user


def _key_path() -> Path:
    return _home() / "key"


def _key() -> bytes | None:
    """This user's key; None where there is none, or others may have read or written it."""
    try:
        status = _key_path().lstat()
        key = _key_path().read_bytes()
    except OSError:
        return None
    private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077
    if os.name == "posix" and not (private and status.st_uid == os.getuid()):
        return None
    return key if len(key) == _KEY_BYTES else None


def _mark(folder: RunFolder, model: Mapping[str, Any], key: bytes) -> str:
    source = files.sha256_of_file(folder.model_source_path)
    if source is None:
        raise FileError(f"Cannot read {folder.model_source_path}.", "Check its permissions.")
    facts = [str(folder.path.resolve()), source, dict(model)]
    text = json.dumps(facts, sort_keys=True, default=str)
    return hmac.new(key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def _importable(folder: Path) -> list[str]:
    """What model.py could import from the run's folder, which no fit puts there."""
    try:
        return [
            path.name
            for path in (*folder.iterdir(), *folder.glob("*/*"))
            if path.suffix in _IMPORTABLE and path != folder / "model.py"
        ]
    except OSError:
        return ["?"]
