"""Pictures without labels, as somebody names them who wants to know what they show.

Files, folders, patterns, archives and parquet files, walked as they are asked for: of a million
pictures only the names in one folder are in memory at a time.
"""

from __future__ import annotations

import glob
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from ..errors import DataError, FileError, PictureError, SartorError
from .natural_order import natural_key, sort_naturally
from .pictures.decode import read_content, refuse_huge
from .pictures.formats import HEAD_BYTES, format_of
from .pictures.stream import Place, Undecoded, unreadable
from .readers.archive import ZipTree, inflated_head, is_tar, open_tar
from .readers.parquet import ParquetFile
from .readers.tables import PictureColumn, picture_column
from .readers.tree import PICTURE_SUFFIXES, FileTree, FolderTree

Picture = str | Path | Image.Image
"""A file, a folder, a pattern, an archive, a parquet file, or a picture in memory."""
Note = Callable[[str], None]

_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".parquet")
_NEVER = (".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".md", ".cls", ".html", *_ARCHIVES)
"""What lies beside pictures and is not looked into, to save the time."""
_OF_OTHERS = ("EPS", "WMF", "HDF5", "GRIB", "BUFR", "MPEG")
_KEPT_OPEN = 2
_BLOCK = 1 << 16


class Unlabelled:
    """The pictures that were named, in their order; folders and archives in natural order.

    What cannot be read is in its place, with the reason: a folder, too, and a pattern without
    match.
    """

    def __init__(
        self,
        named: Iterable[Picture],
        *,
        image_column: str | None = None,
        note: Note | None = None,
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        """What is named, an iterator for one pass or a sequence for any number.

        Args:
            image_column: of parquet files that have several columns with pictures.
            note: is told of what takes a while, such as unpacking.
            idle: whether the next name would have to be waited for.
        """
        self._idle, self._at_end = idle, False
        self._named = named
        self._column = image_column
        self._note = note
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Archive | _Table] = OrderedDict()

    def __iter__(self) -> Iterator[Undecoded]:
        for one in self._named:
            if isinstance(one, Image.Image):
                yield Undecoded(getattr(one, "filename", "") or "picture", partial(_same, one))
            else:
                yield from self._at(str(one))

    def idle(self) -> bool:
        """Whether the next picture would have to be waited for, since its name would."""
        return self._at_end and self._idle()

    def count(self, stopped: Callable[[], bool]) -> int | None:
        """How many there are, where they can be counted before they are read; None if `stopped`.

        It may run in another thread beside the iteration.
        """
        if not isinstance(self._named, Sequence):
            return None
        total = 0
        for one in self._named:
            for number in (1,) if isinstance(one, Image.Image) else self._counts(str(one)):
                total += number
                if stopped():
                    return None
        return total

    def _at(self, argument: str) -> Iterator[Undecoded]:
        try:
            yield from self._found(argument)
        except PictureError as fault:
            yield unreadable(spelled(argument), fault)
        except (DataError, FileError) as error:
            yield unreadable(spelled(argument), PictureError(error.message, error.hint))

    def _found(self, argument: str) -> Iterator[Undecoded]:
        if os.path.isdir(argument):  # noqa: PTH112  (Path refuses what holds a NUL)
            yield from _in_folder(argument)
            return
        for path in _files(argument):
            opened = self._opened(path)
            if opened is None:
                # Of folders, archives and patterns nobody knows here whether more follow.
                self._at_end = not glob.has_magic(argument)
                yield _file(path)
                self._at_end = False
            else:
                yield from opened.pictures()

    def _counts(self, argument: str) -> Iterator[int]:
        """Numbers that add up to the pictures of one argument."""
        try:
            if os.path.isdir(argument):  # noqa: PTH112
                yield from (len(folder.files) + bool(folder.fault) for folder in _walk(argument))
                return
            for path in _files(argument):
                opened = self._opened(path)
                yield 1 if opened is None else len(opened)
        except SartorError:
            yield 1

    def _opened(self, path: str) -> _Archive | _Table | None:
        """The archive or the table at a path; None for any other file."""
        if _has_suffix_of_picture(path):
            return None
        with self._lock:
            found = self._open.get(path)
            if found is None:
                found = _open(Path(path), self._column, self._note)
                if found is None:
                    return None
                self._open[path] = found
                # Whoever reads one that is closed here holds it for as long.
                while len(self._open) > _KEPT_OPEN:
                    self._open.popitem(last=False)
            return found


class NameList:
    """The names in a list, one per line, or between NULs as `find -print0` writes them."""

    def __init__(self, stream: BinaryIO, *, ready: Callable[[], bool] = lambda: True) -> None:
        """
        Args:
            ready: is called before each reading; where it returns False the list ends.
        """
        self._read = getattr(stream, "read1", stream.read)
        self._ready = ready
        self.at_hand = 0
        """Names that were read and not given yet."""

    def __iter__(self) -> Iterator[str]:
        end, rest, first = b"\n", b"", True
        while True:
            block = self._read(_BLOCK) if self._ready() else b""
            if first:
                block = block.removeprefix(b"\xef\xbb\xbf")
                end, first = (b"\0" if b"\0" in block else end), False
            *lines, rest = (rest + block).split(end) if block else (rest, b"")
            # Lists that were made on Windows end their lines with two signs.
            names = (line if end == b"\0" else line.removesuffix(b"\r") for line in lines)
            waiting = deque(filter(None, names))
            while waiting:
                name = waiting.popleft()
                self.at_hand = len(waiting)
                yield os.fsdecode(name)
            if not block:
                return


def spelled(path: str) -> str:
    """A path as text: bytes that are not UTF-8 are written out, such as \\xff."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    return path


class _Archive:
    """The pictures in a zip or tar file."""

    def __init__(self, path: Path, tree: FileTree) -> None:
        self._path, self._tree = path, tree
        self._members = [name for name in tree.files if _is_picture_in(tree, name)]
        if not self._members:
            hint = "Name an archive of pictures."
            if any(name.lower().endswith(_ARCHIVES) for name in tree.files):
                hint = "It holds archives: unpack it, and name them."
            raise PictureError(f"No picture in {path}.", hint)

    def __len__(self) -> int:
        return len(self._members)

    def pictures(self) -> Iterator[Undecoded]:
        for member in self._members:
            name = f"{spelled(str(self._path))}/{member}"
            place = Place(str(self._path), member)
            yield Undecoded(name, partial(member_content, self._tree, member, name), place)


class _Table:
    """The pictures in a parquet file, one a row, called by the number of the row from 0."""

    def __init__(self, path: Path, column: str | None) -> None:
        self._path = path
        self._file = ParquetFile(FolderTree(path.parent), path.name)
        self._column = picture_column(self._file, column, str(path))

    def __len__(self) -> int:
        return int(self._file.count)

    def pictures(self) -> Iterator[Undecoded]:
        if not self._column.in_cells:
            yield from self._by_path(self._column)
            return
        row = 0
        for group, count in enumerate(self._file.group_sizes):
            cells: Any = None
            try:
                cells = self._file.cells(group, self._column.name)
            except (DataError, FileError) as error:
                fault = PictureError(error.message, error.hint)
            for offset in range(count):
                name = f"{spelled(str(self._path))}/{row}"
                yield (
                    unreadable(name, fault)
                    if cells is None
                    else Undecoded(
                        name,
                        partial(cell_content, cells, offset, name),
                        Place(str(self._path), row=row),
                    )
                )
                row += 1

    def _by_path(self, column: PictureColumn) -> Iterator[Undecoded]:
        for row, written in enumerate(self._file.values(column.name, column.path_leaf)):
            if isinstance(written, str) and written:
                yield _file(os.path.join(self._path.parent, written))  # noqa: PTH118
            else:
                name = f"{spelled(str(self._path))}/{row}"
                yield unreadable(name, PictureError(f"{name} is empty.", "Leave it out."))


class _Folder(NamedTuple):
    """A folder below one that was named."""

    path: str
    files: list[str]
    """Names of the pictures in it, in reversed natural order."""
    fault: PictureError | None = None
    """Why it cannot be read; then there are no files."""
    holds_archives: bool = False


def _in_folder(root: str) -> Iterator[Undecoded]:
    found = archives = False
    for folder in _walk(root):
        archives |= folder.holds_archives
        if folder.fault:
            found = True
            yield unreadable(spelled(folder.path), folder.fault)
        prefix = "" if folder.path == "." else os.path.join(folder.path, "")  # noqa: PTH118
        while folder.files:
            found = True
            # Taken out one by one, so that the names that are done take no room.
            yield _file(prefix + folder.files.pop())
    if not found:
        hint = "Name files, folders or a pattern such as 'in/*.png'."
        if archives:
            hint = "It holds archives, which are read when they are named, such as 'in/*.tar'."
        raise PictureError(f"No picture at {root}.", hint)


def _walk(root: str) -> Iterator[_Folder]:
    """A folder and all below it, in natural order, without hidden ones.

    Links are followed, but no folder is walked twice: a link may lead in a circle.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [str(Path(root))]
    while waiting:
        path = waiting.pop()
        try:
            status = os.stat(path)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            folder, below = _scanned(path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            fault = PictureError(f"Cannot read {path}: {reason}.", "Check the path.")
            yield _Folder(path, [], fault)
            continue
        yield folder
        prefix = "" if path == "." else os.path.join(path, "")  # noqa: PTH118
        waiting += [prefix + name for name in sorted(below, key=natural_key, reverse=True)]


def _scanned(path: str) -> tuple[_Folder, list[str]]:
    """The pictures directly in a folder, and the names of the folders in it."""
    files: list[str] = []
    below: list[str] = []
    archives = False
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_file():
                if _has_suffix_of_picture(entry.name) or _begins_like_picture(entry.path):
                    files.append(entry.name)
                else:
                    archives |= entry.name.lower().endswith(_ARCHIVES)
            elif entry.is_dir():
                below.append(entry.name)
    sort_naturally(files)
    files.reverse()
    return _Folder(path, files, holds_archives=archives), below


def _files(argument: str) -> Iterator[str]:
    """The file that an argument names, or those that match it as a pattern."""
    path = str(Path(argument))
    if os.path.lexists(path) or not glob.has_magic(argument):
        yield path
        return
    # Path.glob takes no absolute pattern.
    matches = [match for match in glob.iglob(argument, recursive=True) if os.path.isfile(match)]  # noqa: PTH113, PTH207
    sort_naturally(matches)
    if not matches:
        raise PictureError(
            f"No picture at {argument}.", "Name files, folders or a pattern such as 'in/*.png'."
        )
    yield from (str(Path(match)) for match in matches)


def _file(path: str) -> Undecoded:
    return Undecoded(spelled(path), partial(file_content, path), Place(path))


def file_content(path: str) -> bytes:
    """The bytes of a picture's file.

    Raises:
        PictureError: they cannot be read.
    """
    try:
        return read_content(Path(path))
    except ValueError:
        raise PictureError(f"{path} holds a NUL, as no path does.", "Check the list.") from None


def _same(picture: Image.Image) -> Image.Image:
    return picture


def member_content(tree: FileTree, member: str, name: str) -> bytes:
    """The bytes of a picture in an archive.

    Raises:
        PictureError: they cannot be read.
    """
    try:
        refuse_huge(name, tree.size(member))
        return tree.read(member)
    except PictureError:
        raise
    except (DataError, FileError) as error:
        raise PictureError(error.message, error.hint) from error


def cell_content(cells: Any, offset: int, name: str) -> bytes:
    """The bytes of a picture in a table.

    Raises:
        PictureError: there are none.
    """
    cell = cells[offset].as_py()
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise PictureError(f"{name} is empty.", "Leave it out or replace it.")
    return content


def _open(path: Path, column: str | None, note: Note | None) -> _Archive | _Table | None:
    """By the first bytes, whatever it is called."""
    try:
        # A pipe that nobody writes into would keep us waiting.
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except (OSError, ValueError):
        # What is the matter is said where the file is read as a picture.
        return None
    if format_of(head):
        return None
    if head.startswith(b"PK\3\4"):
        return _Archive(path, ZipTree(path))
    if head.startswith(b"PAR1"):
        return _Table(path, column)
    return _Archive(path, open_tar(path, note=note)) if is_tar(inflated_head(path, head)) else None


def _is_picture_in(tree: FileTree, member: str) -> bool:
    if _has_suffix_of_picture(member):
        return True
    return not member.lower().endswith(_NEVER) and bool(format_of(tree.head(member)))


def _has_suffix_of_picture(name: str) -> bool:
    return name[name.rfind(".") :].lower() in _suffixes()


@cache
def _suffixes() -> frozenset[str]:
    """Of every picture that Pillow reads, but for those that other programs would have to."""
    readable = {
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in _OF_OTHERS
    }
    return PICTURE_SUFFIXES | readable


def _begins_like_picture(path: str) -> bool:
    """Whether the first bytes of a file are those of a picture; False where it cannot be read."""
    if path.lower().endswith(_NEVER):
        return False
    try:
        with open(path, "rb") as stream:  # noqa: PTH123
            return bool(format_of(stream.read(HEAD_BYTES)))
    except OSError:
        return False
