"""The only module that writes: atomic, flushed to the disk, with errors that say what to do."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .errors import FileError

try:
    import fcntl
except ImportError:  # on Windows, where a file cannot be removed while it is open
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = ".tmp"
_SECONDS_HELD = 7 * 24 * 3600
"""After so long a file is abandoned, also where the file system does not tell."""
_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, then try again.",
    errno.EDQUOT: "Your disk quota is used up: free some space, then try again.",
    errno.EFBIG: "The file would exceed the size limit set for this process: raise it (ulimit -f).",
    errno.EACCES: "Choose a folder that you may write to, or change its permissions.",
    errno.EPERM: "Choose a folder that you may write to, or change its permissions.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.ENOTDIR: "A part of the path is a file, not a folder: choose another folder.",
    errno.EEXIST: "Something of that name is in the way: choose another name.",
}


@contextmanager
def explain_os_errors(action: str) -> Iterator[None]:
    """Turn an `OSError` inside into a `FileError`: "cannot `action`: reason"."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        hint = _ADVICE.get(error.errno or 0, "Check the path and the disk.")
        raise FileError(f"Cannot {action}: {reason.lower()}.", hint) from error


def make_folder(path: Path, *, exist_ok: bool = True) -> Path:
    """Create a folder and its parents."""
    with explain_os_errors(f"create the folder {path}"):
        path.mkdir(parents=True, exist_ok=exist_ok)
    return path


@contextmanager
def atomic_write(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` whole or not at all, even if the power fails.

    Written under a temporary name beside it, flushed to the disk, then renamed. A private file can
    be read by its owner only.
    """
    with explain_os_errors(f"write {path}"):
        handle, temporary = _new_temporary(path)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                # mkstemp makes files private; a result is as readable as any file of its owner.
                if not private:
                    temporary.chmod(0o666 & ~_umask())
                if fcntl:  # so that nobody takes it for abandoned before it has its name
                    temporary.replace(path)
            if not fcntl:
                temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _new_temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, open and held for as long as it is open."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent)
        if fcntl:
            with suppress(OSError):  # file systems without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        # Another process took it for abandoned before it was held.
        os.close(handle)


@contextmanager
def write_in_place(path: Path) -> Iterator[Callable[[int, bytes | memoryview], None]]:
    """A function (offset, content) that writes into a file; flushed to the disk at the end.

    For what is too large to be written twice, and has checksums elsewhere that say which parts are
    whole. Not through a mapping, which would end the process where the disk is full.
    """
    with explain_os_errors(f"write {path}"):
        stream = path.open("r+b" if path.exists() else "x+b", buffering=0)

    def write(offset: int, content: bytes | memoryview) -> None:
        with explain_os_errors(f"write {path}"):
            stream.seek(offset)
            rest = memoryview(content).cast("B")
            while rest:
                rest = rest[stream.write(rest) :]

    with stream:
        yield write
        with explain_os_errors(f"write {path}"):
            os.fsync(stream.fileno())


def set_length(path: Path, length: int) -> None:
    """Make a file so long; what is added reads as zeros and takes no room until it is written."""
    with explain_os_errors(f"write {path}"):
        path.touch()
        os.truncate(path, length)


def free_bytes(folder: Path) -> int:
    """How much can still be written to the disk of a folder."""
    with explain_os_errors(f"read the folder {folder}"):
        return shutil.disk_usage(folder).free


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    with explain_os_errors(f"remove {path}"):
        path.unlink(missing_ok=True)


def remove_temporary(folder: Path) -> None:
    """Remove what `atomic_write` left in a folder and below it when its process was killed.

    What a living process is writing stays; links to other folders are not followed.
    """
    for inside, _, names in os.walk(folder):
        for path in (Path(inside, name) for name in names):
            if is_temporary(path):
                _remove_if_abandoned(path)


def is_temporary(path: Path) -> bool:
    """Whether a file has the name of one that `atomic_write` has not finished."""
    return path.name.startswith(".") and path.name.endswith(_TEMPORARY)


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):  # held, gone, not ours: then it stays
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            if fcntl and time.time() - os.fstat(handle).st_mtime < _SECONDS_HELD:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write `content` to `path`, atomically."""
    with atomic_write(path, private=private) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace `path` by one JSON document per line, atomically."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def append_json_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line to a JSON-lines file; a torn last line is what `read_json_lines` tolerates."""
    with explain_os_errors(f"write {path}"), path.open("ab") as stream:
        stream.write(json.dumps(row).encode() + b"\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file up to the first that is damaged; no readable file, no rows."""
    return list(each_json_line(path))


def each_json_line(path: Path) -> Iterator[dict[str, Any]]:
    """As `read_json_lines`, one after the other, for files that are larger than memory."""
    try:
        with _open_regular(path) as stream:
            for line in stream:
                row = json.loads(line)
                if not isinstance(row, dict):
                    return
                yield row
    except (OSError, ValueError, RecursionError):
        return


def read_regular(path: Path) -> bytes:
    """The content of a file; a pipe or a device, which may never end, is refused as not there.

    Raises:
        OSError: it cannot be read.
    """
    with _open_regular(path) as stream:
        return stream.read()


def _open_regular(path: Path) -> io.BufferedReader:
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.open("rb")


def replace_keeping_previous(new: Path, current: Path, previous: Path) -> None:
    """Move `new` to `current`; what stood there stays as `previous`. At no moment are both gone."""
    with explain_os_errors(f"write {current}"):
        if current.exists():
            current.replace(previous)
        new.replace(current)
        _sync_folder(current.parent)


def sha256_of(content: bytes | memoryview) -> str:
    """SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str | None:
    """SHA-256 of a file's content as 64 hexadecimal digits; None where it cannot be read."""
    try:
        with _open_regular(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    # A rename is only durable once its folder is on the disk; Windows has no such call.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def can_only_be_a_path(text: str) -> bool:
    """Whether a word is not a plain name: it has a separator, or begins with a tilde."""
    path = Path(text)
    return path.name != text or text in (".", "..") or text.startswith("~")
