"""The only module that writes: atomic, flushed to the disk, with errors that say what to do."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import shutil
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from .errors import FileError

try:
    import fcntl
except ImportError:  # on Windows, where a file cannot be removed while it is open
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = ".tmp"
# Neither is known to Windows.
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)
_LONGEST_LINE = 64 << 20
"""Of JSON lines; what is longer counts as damaged."""
_MOST_ARRAYS = 1_000
_SECONDS_HELD = 7 * 24 * 3600
"""After so long a file is abandoned, also where the file system does not tell."""
_NO_FOLDERS_SYNCED = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that keep the names of files in their own way."""
_WITHOUT_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
"""What file systems say on which a file can have one name only."""
_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, then try again.",
    errno.EDQUOT: "Your disk quota is used up: free some space, then try again.",
    errno.EFBIG: "The file would exceed the size limit set for this process: raise it (ulimit -f).",
    errno.EACCES: "Choose a folder that you may write to, or change its permissions.",
    errno.EPERM: "Choose a folder that you may write to, or change its permissions.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.ENOTDIR: "A part of the path is a file, not a folder: choose another folder.",
    errno.ELOOP: "It is a link, or the path has too many: put a file there, or choose another.",
    errno.ENXIO: "It is a pipe or a device: put a file there, or choose another name.",
    errno.EEXIST: "Something of that name is in the way: choose another name.",
}


_ADVICE_ON_READING = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), "Change its permissions, or ask its owner to do so."
    ),
    errno.EIO: "The disk is at fault: look for another copy.",
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE), "Too many files are open: raise the limit (ulimit -n)."
    ),
    errno.ESTALE: "The file server has another one now: try again.",
}
"""Where a file is there, and it says nothing of its content that it cannot be read."""


@contextmanager
def explain_os_errors(action: str) -> Iterator[None]:
    """Turn an `OSError` inside into a `FileError`: "cannot `action`: reason"."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        advice = {**_ADVICE, **_ADVICE_ON_READING} if action.startswith("read ") else _ADVICE
        hint = advice.get(error.errno or 0, "Check the path and the disk.")
        raise FileError(f"Cannot {action}: {reason.lower()}.", hint) from error


def unreadable(path: Path, error: BaseException) -> tuple[str, str] | None:
    """A sentence and a hint where a file is there and cannot be read, as without the right to; None
    where it is missing, or damaged for all that is known."""
    if not isinstance(error, OSError) or error.errno not in _ADVICE_ON_READING:
        return None
    reason = os.strerror(error.errno).lower()
    return f"Cannot read {path}: {reason}.", _ADVICE_ON_READING[error.errno]


def refuse_unwritable(path: Path) -> None:
    """Raise where nothing can be written at `path`, as far as that can be told without trying: for
    what takes long to make.

    Raises:
        FileError: the folder that is to hold it is a file, read-only, or somebody else's.
    """
    with explain_os_errors(f"write {path}"):
        parent = path.absolute().parent
        while not parent.exists() and parent != parent.parent:
            parent = parent.parent
        if not parent.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(parent, os.W_OK | os.X_OK):
            whole = hasattr(os, "statvfs") and os.statvfs(parent).f_flag & os.ST_RDONLY
            code = errno.EROFS if whole else errno.EACCES
            raise OSError(code, os.strerror(code))


def make_folder(path: Path, *, exist_ok: bool = True) -> Path:
    """Create a folder and its parents; what is new is on the disk afterwards."""
    with explain_os_errors(f"create the folder {path}"):
        missing = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(parents=True, exist_ok=exist_ok)
        for one in missing:
            _sync_folder(one.parent)
    return path


@contextmanager
def atomic_write(path: Path, *, private: bool = False, durable: bool = True) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` whole or not at all, even if the power fails.

    Written under a temporary name beside it, flushed to the disk, then renamed. A private file can
    be read by its owner only. What is not durable may be lost where the power fails.
    """
    with explain_os_errors(f"write {path}"):
        handle, temporary = _new_temporary(path)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
                # mkstemp makes files private; a result is as readable as any file of its owner.
                if not private:
                    temporary.chmod(0o666 & ~_umask())
                if fcntl:  # so that nobody takes it for abandoned before it has its name
                    temporary.replace(path)
            if not fcntl:
                temporary.replace(path)
            if durable:
                _sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


_postponed: ContextVar[Path | None] = ContextVar("postponed", default=None)
"""The folder whose names are flushed to the disk later."""


@contextmanager
def names_flushed_together(folder: Path) -> Iterator[None]:
    """Flush the names of all files that are written to a folder meanwhile once, at the end.

    Until then they may be lost where the power fails. Not for what depends on their order.
    """
    before = _postponed.set(folder)
    try:
        yield
    finally:
        _postponed.reset(before)
    with explain_os_errors(f"write {folder}"):
        _sync_folder(folder)


@contextmanager
def write_once(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """As `atomic_write`, but what stands at `path` already stays, and what is written then is
    dropped: of several processes that make the same file, the first one counts.

    What is not durable may be lost where the power fails.
    """
    with explain_os_errors(f"write {path}"):
        handle, temporary = _new_temporary(path)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
                temporary.chmod(0o666 & ~_umask())
                _link_once(temporary, path)
            if durable:
                _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _link_once(temporary: Path, path: Path) -> None:
    """Give a file its name, unless another has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        # Where a file has one name only, the moment between the two calls is not covered.
        if not path.exists():
            temporary.replace(path)


def take_once(path: Path, content: bytes) -> bool:
    """Write a small file, unless there is one; whether it is ours.

    Of several processes that try at once, on one machine or on a shared file system, one has it.
    What a power failure leaves of it is of no use to anybody, so nothing waits for the disk.
    """
    with write_once(path, durable=False) as stream:
        stream.write(content)
    with explain_os_errors(f"read {path}"):
        try:
            return path.read_bytes() == content
        except FileNotFoundError:
            return False


def touched(path: Path) -> float:
    """Mark a file as used now; the time by the clock of whoever keeps the file, in seconds.

    Raises:
        OSError: it is not there.
    """
    os.utime(path)
    return path.stat().st_mtime


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


@contextmanager
def append_to(path: Path, *, keep: int) -> Iterator[Callable[[bytes], None]]:
    """A function that adds to the end of a file, of which the first `keep` bytes stay.

    For results that come in over hours: what is there is of use before the end, and a process that
    is killed leaves all but its last line whole. The file is held against other processes, created
    where there is none, and flushed to the disk at the end.
    """
    with explain_os_errors(f"write {path}"):
        stream = path.open("ab", buffering=0)

    def append(content: bytes) -> None:
        with explain_os_errors(f"write {path}"):
            rest = memoryview(content)
            while rest:
                rest = rest[stream.write(rest) :]

    with stream:
        with explain_os_errors(f"write {path}"):
            _hold(stream, path)
            stream.truncate(keep)
        yield append
        with explain_os_errors(f"write {path}"):
            os.fsync(stream.fileno())


def _hold(stream: io.FileIO, path: Path) -> None:
    if not fcntl:
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileError(
            f"Another process is writing {path}.", "Wait for it, or name another file."
        ) from None
    except OSError:  # file systems without locks
        return


def set_length(path: Path, length: int) -> None:
    """Make a file so long; what is added reads as zeros and takes no room until it is written."""
    with explain_os_errors(f"write {path}"):
        path.touch()
        os.truncate(path, length)


def free_bytes(folder: Path) -> int:
    """How much can still be written to the disk of a folder; no limit where it does not say."""
    with explain_os_errors(f"read the folder {folder}"):
        room = shutil.disk_usage(folder)
    # Some file systems, such as those over objects or of the kernel, count nothing.
    return room.free if room.total else sys.maxsize


def move(path: Path, new: Path) -> None:
    """Give a file another name in its folder, for good; a file that has it is replaced."""
    with explain_os_errors(f"write {new}"):
        path.replace(new)
        _sync_folder(path.parent)


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
            if not _is_held(handle):
                path.unlink()
        finally:
            os.close(handle)


def _is_held(handle: int) -> bool:
    """Whether another process is writing a file: it holds it, however old the file looks by a clock
    that may have been set. Only where nothing can be held does age decide."""
    if not fcntl:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # file systems without locks
        return time.time() - os.fstat(handle).st_mtime < _SECONDS_HELD
    return False


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write `content` to `path`, atomically."""
    with atomic_write(path, private=private) as stream:
        stream.write(content)


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """A folder of files, by their names in it, that appears whole or not at all.

    A folder that is there is replaced; what it held stays until the new one is complete.
    """
    make_folder(path.parent)
    with explain_os_errors(f"write {path}"):
        new = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent))
        try:
            for name, content in contents.items():
                make_folder((new / name).parent)
                write_bytes(new / name, content)
            new.chmod(0o777 & ~_umask())
            _put_in_place(new, path)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise


def _put_in_place(new: Path, path: Path) -> None:
    """Give a folder its name; one that has it goes out of the way, and back where this fails."""
    old = new.with_name(f"{new.name}.old{_TEMPORARY}")
    if path.exists():
        path.replace(old)
    try:
        new.replace(path)
    except OSError:
        if old.exists():
            old.replace(path)
        raise
    _sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write `value` as indented JSON to `path`, atomically; `durable` is as for `atomic_write`."""
    with atomic_write(path, durable=durable) as stream:
        stream.write((json.dumps(value, indent=2) + "\n").encode())


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace `path` by one JSON document per line, atomically."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def json_line(value: Any) -> str:
    """Strict JSON on one line: null for infinities and NaN, which JSON cannot express."""
    return json.dumps(strict(value), allow_nan=False)


def strict(value: Any) -> Any:
    """The same as JSON can express it: null for infinities and NaN, lists for tuples."""
    if isinstance(value, dict):
        return {key: strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_json_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line to a JSON-lines file; a torn last line is what `read_json_lines` tolerates.

    Readers see the line at once; it is on the disk after `sync`. Whoever made the folder may have
    put a link there, or a pipe that nobody reads: neither is written to.
    """
    with explain_os_errors(f"write {path}"):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINKS | _NO_WAITING
        with os.fdopen(os.open(path, flags, 0o666), "ab") as stream:
            stream.write(json.dumps(row).encode() + b"\n")


def sync(path: Path) -> None:
    """Have what was written to a file or folder, and its name, on the disk, if it is there."""
    with explain_os_errors(f"write {path}"):
        if path.is_dir():
            _sync_folder(path)
            _sync_folder(path.parent)
            return
        try:
            # Windows flushes only what may be written.
            handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        _sync_folder(path.parent)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file up to the first that is damaged; no readable file, no rows."""
    return list(each_json_line(path))


def each_json_line(path: Path) -> Iterator[dict[str, Any]]:
    """As `read_json_lines`, one after the other, for files that are larger than memory."""
    try:
        with _open_regular(path) as stream:
            while line := stream.readline(_LONGEST_LINE):
                row = json.loads(line)
                if not isinstance(row, dict):
                    return
                yield row
    except (OSError, ValueError, RecursionError):
        return


def read_regular(path: Path, most: int = -1) -> bytes:
    """The content of a file, its first `most` bytes where that is given; a pipe or a device, which
    may never end, is refused as not there.

    Raises:
        OSError: it cannot be read.
    """
    with _open_regular(path) as stream:
        if most >= 0:
            # Reading takes as much memory as is asked for, whatever there is.
            most = min(most, os.fstat(stream.fileno()).st_size + 1)
        return stream.read(most)


def read_document(path: Path, most: int = 256 << 20) -> bytes:
    """As `read_regular`, for what is parsed as a whole.

    Raises:
        OSError: it cannot be read, or has more than `most` bytes.
    """
    content = read_regular(path, most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def whole_arrays(file: Path | BinaryIO) -> set[str]:
    """The names of the arrays in an .npz of sartor's own, which packs none: all are held against
    their checksums, and take no more memory than the file.

    Raises:
        ValueError: one is damaged or packed. OSError, zipfile.BadZipFile: it cannot be read.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        packed = [one.filename for one in entries if one.compress_type != zipfile.ZIP_STORED]
        if packed or len(entries) > _MOST_ARRAYS:
            raise ValueError(f"{packed[0]} is packed" if packed else "it has too many parts")
        damaged = archive.testzip()
        if damaged:
            raise ValueError(f"the checksum of {damaged} does not match")
        return {name.removesuffix(".npy") for name in archive.namelist()}


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


_asking = threading.Lock()


def _umask() -> int:
    # It can only be read by changing it, for all threads of the process.
    with _asking:
        mask = os.umask(0)
        os.umask(mask)
        return mask


def _sync_folder(folder: Path) -> None:
    # A rename is only durable once its folder is on the disk; Windows has no such call.
    if os.name != "posix" or folder == _postponed.get():
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # it may be written to, but not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDERS_SYNCED:
            raise
    finally:
        os.close(handle)


def can_only_be_a_path(text: str) -> bool:
    """Whether a word is not a plain name: it has a separator, or begins with a tilde."""
    path = Path(text)
    return path.name != text or text in (".", "..") or text.startswith("~")
