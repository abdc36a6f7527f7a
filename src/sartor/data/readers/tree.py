"""The files of a source, seen alike whether they lie in a folder or in an archive."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from ...errors import DataError, FileError, PictureError
from ...files import explain_os_errors
from ..natural_order import natural_key
from ..pictures.decode import no_memory_for, refuse_huge
from ..pictures.formats import HEAD_BYTES

PICTURE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".tga", ".heic", ".heif", ".hif"),
    )
)
_OF_THE_SYSTEM = frozenset(("__macosx", "__pycache__", "thumbs.db", "desktop.ini", "@eadir"))
_OF_TOOLS = frozenset(
    (
        *(".git", ".svn", ".hg", ".dvc", ".ipynb_checkpoints", ".thumbnails", ".cache", ".trash"),
        *(".venv", ".tox", ".idea", ".vscode", ".trashes", ".fseventsd", ".spotlight-v100"),
    )
)
"""Hidden folders whose pictures nobody means."""
_MAX_FILES = 5_000_000


class FileTree(Protocol):
    """Files by their path below one place, with "/" between its parts."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file, in natural order; those of the system and those whose name begins with a dot
        are left out, and so is all that lies in such folders."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder, likewise; some may hold nothing."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out and why, a sentence each."""

    def holds(self, path: str) -> bool:
        """Whether there is a file at `path`; in a folder it may be absolute, or lead outside."""

    def size(self, path: str) -> int:
        """Bytes of the file at `path`; of one that does not exist, an error as `read`."""

    def read(self, path: str) -> bytes:
        """The content of the file at `path`; safe to call from several threads.

        Raises:
            FileError, CorruptDataError: it is not available; the sentence names it.
        """

    def head(self, path: str) -> bytes:
        """The first bytes of the file at `path`, enough to know what it is; errors as `read`."""

    def place(self, path: str) -> Path | None:
        """Where the file lies on the disk by itself; None in an archive."""

    def stamp(self, path: str) -> str:
        """What changes when the content changes, had without reading it."""


@dataclass(frozen=True, kw_only=True)
class PictureFiles:
    """Pictures as files of a tree."""

    tree: FileTree
    names: tuple[str, ...]
    """The path of each in the tree."""

    def read(self, index: int) -> bytes:
        """See `PictureStore`."""
        name = self.names[index]
        try:
            refuse_huge(name, self.tree.size(name))
            return self.tree.read(name)
        except MemoryError:
            raise no_memory_for(name) from None
        except PictureError:
            raise
        except (DataError, FileError) as error:
            raise PictureError(error.message, error.hint) from error

    def stamp(self, index: int) -> str:
        """See `PictureStore`."""
        try:
            return self.tree.stamp(self.names[index])
        except (DataError, FileError) as error:
            raise PictureError(error.message, error.hint) from error


class FolderTree:
    """A folder on the disk; it is walked when its files are asked for, and not before.

    Links are followed, but no folder is read twice: a link that leads in a circle ends there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[str, frozenset[str]] = {}

    @property
    def name(self) -> str:
        """See `FileTree`, as the rest."""
        return str(self.root)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(self._walked.files)

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(self._walked.folders)

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._walked.remarks

    def holds(self, path: str) -> bool:
        # A folder is listed once instead of asking for each of a hundred thousand files in it.
        folder, _, name = path.rpartition("/")
        return name in self._names_in(folder) or _is_file(self.root / path)

    def size(self, path: str) -> int:
        return self._status(path).st_size

    def read(self, path: str) -> bytes:
        place = self.place(path)
        with explain_os_errors(f"read {shown(str(place))}"):
            return place.read_bytes()

    def head(self, path: str) -> bytes:
        place = self.place(path)
        with explain_os_errors(f"read {shown(str(place))}"), place.open("rb") as stream:
            return stream.read(HEAD_BYTES)

    def stamp(self, path: str) -> str:
        status = self._status(path)
        return f"{status.st_size} {status.st_mtime_ns}"

    def _status(self, path: str) -> os.stat_result:
        place = self.place(path)
        with explain_os_errors(f"read {shown(str(place))}"):
            return place.stat()

    def place(self, path: str) -> Path:
        walked = self.__dict__.get("_walked")
        return self.root / (walked.spelling.get(path, path) if walked else path)

    def _names_in(self, folder: str) -> frozenset[str]:
        if folder not in self._listed:
            try:
                with os.scandir(self.root / folder) as entries:
                    names = frozenset(entry.name for entry in entries if entry.is_file())
            except (OSError, ValueError):
                names = frozenset()
            self._listed[folder] = names
        return self._listed[folder]

    @cached_property
    def _walked(self) -> _Walked:
        return _walk(self.root)


class _Walked(NamedTuple):
    files: list[str]
    folders: list[str]
    spelling: dict[str, str]
    """How the disk spells a path that is no text as it stands there."""
    remarks: tuple[str, ...]


def _walk(root: Path) -> _Walked:
    found = _Walked([], [], {}, ())
    lost: list[str] = []
    hidden: list[str] = []
    twice: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        place = root / folder
        try:
            status = place.stat()
            with os.scandir(place) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise DataError(
                f"Cannot read the folder {shown(str(place))}: "
                f"{(error.strerror or str(error)).lower()}.",
                "Change its permissions, or move it elsewhere.",
            ) from error
        if (status.st_dev, status.st_ino) in seen:
            twice.append(_spelled(folder))
            continue
        seen.add((status.st_dev, status.st_ino))
        if folder:
            found.folders.append(_spelled(folder))
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if is_hidden(entry.name):
                if may_be_a_class(entry.name) and _holds_pictures(entry):
                    hidden.append(_spelled(path))
                continue
            kind = _kind(entry)
            if kind == "folder":
                waiting.append(path)
            elif kind == "file":
                found.files.append(_noted(path, found.spelling))
            else:
                lost.append(_spelled(path))
        check_count(len(found.files), str(root))
    found.files.sort(key=natural_key)
    found.folders.sort(key=natural_key)
    remarks = (
        hidden_folders(hidden),
        left_out(
            lost, "entry that is not a file, such as a broken link", "entries that are not files"
        ),
        left_out(twice, "link to a folder that is read already", "links to folders read already"),
    )
    return found._replace(remarks=tuple(filter(None, remarks)))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's data."""
    return name.startswith(".") or name.casefold() in _OF_THE_SYSTEM


def may_be_a_class(name: str) -> bool:
    """Whether a hidden folder of this name may be meant as a class: .NET, but not .git."""
    return name.startswith(".") and not name.startswith("._") and name.casefold() not in _OF_TOOLS


def hidden_folders(paths: Iterable[str]) -> str:
    """A sentence on folders with pictures that are left out for their names, or nothing."""
    listed = sorted_naturally(paths)
    if not listed:
        return ""
    what = "1 folder" if len(listed) == 1 else f"{len(listed):,} folders"
    return (
        f"Left out {what} with pictures whose name begins with a dot: {some(listed)}. "
        "Without the dot it would be read."
    )


def is_picture(path: str) -> bool:
    """Whether a file of this name should be a picture."""
    # Asked so often that splitext would be felt.
    return path[path.rfind(".") :].lower() in PICTURE_SUFFIXES


def check_count(count: int, name: str) -> None:
    """Refuse more files than could be trained on."""
    if count > _MAX_FILES:
        raise DataError(
            f"{shown(name)} holds more than {_MAX_FILES:,} files.", "Name the folder of the data."
        )


def inside(tree: FileTree, path: str) -> str:
    """What messages call a file of a tree."""
    return shown(path if tree.name == "." else f"{tree.name}/{path}")


def sorted_naturally(names: Iterable[str]) -> list[str]:
    """In natural order."""
    return sorted(names, key=lambda name: natural_key(name))


def left_out(paths: list[str], one: str, several: str) -> str:
    """A sentence about what was left out, or nothing."""
    if not paths:
        return ""
    what = one if len(paths) == 1 else several
    return f"Left out {len(paths):,} {what}: {some(sorted_naturally(paths))}."


def some(names: Iterable[object], most: int = 10) -> str:
    """The first few names, and how many more there are."""
    listed = [shown(str(name)) for name in names]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def shown(name: str) -> str:
    """A name fit for a line of a message: control characters escaped, the middle left out."""
    line = "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name
    )
    return line if len(line) <= 200 else f"{line[:120]}...{line[-70:]}"


def _noted(path: str, spelling: dict[str, str]) -> str:
    spelled = _spelled(path)
    if spelled != path:
        spelling[spelled] = path
    return spelled


def _spelled(path: str) -> str:
    """The path as text: bytes of the disk that are no UTF-8 are written out."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    return path


def _holds_pictures(entry: os.DirEntry[str]) -> bool:
    """Whether a picture lies directly in a folder."""
    try:
        with os.scandir(entry) as entries:
            return any(is_picture(one.name) for one in entries)
    except OSError:
        return False


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "neither"
    except OSError:
        # A link to itself.
        return "neither"


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except (OSError, ValueError):
        # A name that is too long, or holds a NUL.
        return False
