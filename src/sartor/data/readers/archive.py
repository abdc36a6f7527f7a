"""Archives read in place: nothing is unpacked beside the user's files, and nothing outside is read.

A member that points elsewhere, links, devices, encryption and bombs are refused with their name.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import re
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from ...errors import CorruptDataError, DataError
from ...files import atomic_write, explain_os_errors, make_folder
from ...home import Note, cache_home, explain_cache_errors
from ...wording import reason
from ..natural_order import natural_key
from ..pictures.formats import HEAD_BYTES
from .tree import (
    check_count,
    hidden_folders,
    is_hidden,
    is_picture,
    may_be_a_class,
    shown,
)

_MAX_RATIO = 100
_HARMLESS_BYTES = 64 << 20
_HARMLESS_TOTAL = 4 << 30
_MAX_PATH = 4_096
_BLOCK = 512
_CHUNK_BYTES = 1 << 20
_END_BYTES = 22 + (1 << 16)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_PACK_AGAIN = "Pack it again from the folder itself, or unpack it and name the folder."
_FETCH_AGAIN = "Fetch the file again from where it came from, or unpack it and name the folder."
_OPENERS: Mapping[bytes, Callable[[BinaryIO], BinaryIO]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),  # type: ignore[dict-item, return-value]
    b"BZh": bz2.BZ2File,  # type: ignore[dict-item]
    b"\xfd7zXZ\0": lzma.LZMAFile,  # type: ignore[dict-item]
}
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(OSError, EOFError, ValueError, OverflowError, RuntimeError, IndexError, AssertionError),
)
"""What the readers of archives leave with where bytes are damaged."""


Member = TypeVar("Member")


class _Members(Generic[Member]):
    """What archives have in common: their members by cleaned path; see `FileTree`."""

    def __init__(
        self, path: Path, name: str, every: Mapping[str, Member], folders: list[str]
    ) -> None:
        members = {member: at for member, at in every.items() if not _in_hidden(member)}
        self.path = path
        self.name = name
        self.files = tuple(sorted(members, key=natural_key))
        self.folders = tuple(sorted(_with_parents(members, folders), key=natural_key))
        self.remarks = tuple(filter(None, (hidden_folders(_hidden_classes(every)),)))
        self._members = members

    def holds(self, path: str) -> bool:
        """See `FileTree`, as the rest."""
        return path in self._members

    def place(self, path: str) -> None:  # noqa: ARG002
        return None


class ZipTree(_Members[zipfile.ZipInfo]):
    """The members of a zip file, read in place."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        with _explained(path):
            self._archive = zipfile.ZipFile(path)
            _refuse_lost_members(self._archive, path)
            members = _zip_members(self._archive, path)
        super().__init__(path, str(path), members, _zip_folders(self._archive))

    def size(self, path: str) -> int:
        return self._members[path].file_size

    def read(self, path: str) -> bytes:
        return self._read(path, -1)

    def head(self, path: str) -> bytes:
        return self._read(path, HEAD_BYTES)

    def _read(self, path: str, count: int) -> bytes:
        member = self._members[path]
        with _explained(self.path, path):
            with self._lock:
                stream = self._archive.open(member)
            try:
                # Inflating needs no lock: the stream takes it for each piece that it reads.
                return stream.read(count)
            finally:
                with self._lock:
                    stream.close()

    def stamp(self, path: str) -> str:
        member = self._members[path]
        return f"{member.file_size} {member.CRC:08x}"


class TarTree(_Members[tuple[int, int]]):
    """The members of a tar file that is not compressed, read in place."""

    def __init__(self, path: Path, *, name: str = "") -> None:
        name = name or str(path)
        with _explained(path), path.open("rb") as stream:
            status = path.stat()
            members, folders = _tar_members(stream, status.st_size, name)
        self._version = f"{status.st_size} {status.st_mtime_ns}"
        super().__init__(path, name, members, folders)

    def size(self, path: str) -> int:
        return self._members[path][1]

    def read(self, path: str) -> bytes:
        return self._read(*self._members[path])

    def head(self, path: str) -> bytes:
        start, size = self._members[path]
        return self._read(start, min(size, HEAD_BYTES))

    def _read(self, start: int, size: int) -> bytes:
        with explain_os_errors(f"read {shown(self.name)}"), self.path.open("rb") as stream:
            stream.seek(start)
            content = stream.read(size)
        if len(content) < size:
            raise CorruptDataError(f"{shown(self.name)} is cut short.", _FETCH_AGAIN)
        return content

    def stamp(self, path: str) -> str:
        start, size = self._members[path]
        return f"{self._version} {start} {size}"


def open_tar(path: Path, *, note: Note | None = None) -> TarTree:
    """A tar file, compressed or not; a compressed one is unpacked into the cache the first time.

    Raises:
        CorruptDataError, DataError: it is damaged, or holds what no data set holds.
        FileError: the cache cannot be written.
    """
    with explain_os_errors(f"read {path}"), path.open("rb") as stream:
        head = stream.read(8)
        status = path.stat()
    opener = next((one for magic, one in _OPENERS.items() if head.startswith(magic)), None)
    if opener is None:
        return TarTree(path)
    place = hashlib.sha256(str(path.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
    version = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    with explain_cache_errors():
        folder = make_folder(cache_home() / "unpacked")
    unpacked = folder / f"{place}-{version}.tar"
    if not unpacked.is_file():
        if note:
            note(f"{path} is compressed as a whole: unpacking it once into {folder}")
        with explain_cache_errors():
            _inflate(path, status.st_size, opener, unpacked)
        for older in folder.glob(f"{place}-*.tar"):
            if older != unpacked:
                with suppress(OSError):
                    older.unlink()
    return TarTree(unpacked, name=str(path))


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so is a tar file: its first block has the right checksum."""
    try:
        tarfile.TarInfo.frombuf(head[:_BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def inflated_head(path: Path, head: bytes) -> bytes:
    """The first block of what a compressed file holds; as it is where it is not compressed.

    Raises:
        CorruptDataError: it is damaged.
    """
    opener = next((one for magic, one in _OPENERS.items() if head.startswith(magic)), None)
    if opener is None:
        return head
    with _explained(path), path.open("rb") as raw, opener(raw) as stream:
        return stream.read(_BLOCK)


def _inflate(path: Path, size: int, opener: Callable[[BinaryIO], BinaryIO], target: Path) -> None:
    most = max(_HARMLESS_TOTAL, _MAX_RATIO * size)
    with atomic_write(target) as unpacked:
        written = 0
        with _explained(path), path.open("rb") as raw, opener(raw) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                written += len(chunk)
                if written > most:
                    raise DataError(
                        f"{path} inflates to more than {most >> 30} GiB, "
                        f"{_MAX_RATIO} times its size.",
                        "If you trust it, unpack it yourself and name the folder.",
                    )
                unpacked.write(chunk)


def _refuse_lost_members(archive: zipfile.ZipFile, path: Path) -> None:
    """zipfile reads as many members as it finds; the file says at its end how many there are."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _END_BYTES))
        tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 12:
        raise zipfile.BadZipFile("its end is missing")
    claimed = int.from_bytes(tail[at + 10 : at + 12], "little")
    # More than 65,534 are counted elsewhere.
    found = len(archive.infolist())
    if claimed not in (found, 0xFFFF):
        raise zipfile.BadZipFile(f"it claims {claimed:,} members where there are {found:,}")


def _zip_members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    check_count(len(archive.infolist()), str(path))
    total = 0
    for info in archive.infolist():
        member = _clean(info.filename.replace("\\", "/"), path)
        mode = info.external_attr >> 16
        if info.create_system == 3 and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(
                f"{path} holds {shown(info.filename)}, which is a link or a device.", _PACK_AGAIN
            )
        if info.is_dir() or not member:
            continue
        if info.flag_bits & 1:
            raise DataError(
                f"{path} is encrypted: {shown(info.filename)} needs a password.",
                "Unpack it yourself and name the folder.",
            )
        _refuse_bomb(path, info.filename, info.file_size, info.compress_size, _HARMLESS_BYTES)
        total += info.file_size
        if member in members:
            raise CorruptDataError(f"{path} holds {shown(member)} twice.", _PACK_AGAIN)
        members[member] = info
    _refuse_bomb(path, "all in all", total, path.stat().st_size, _HARMLESS_TOTAL)
    return members


def _zip_folders(archive: zipfile.ZipFile) -> list[str]:
    names = (info.filename.replace("\\", "/") for info in archive.infolist() if info.is_dir())
    return [_parts(name) for name in names]


def _refuse_bomb(path: Path, what: str, inflated: int, packed: int, harmless: int) -> None:
    if inflated > harmless and inflated > _MAX_RATIO * packed:
        raise DataError(
            f"{path}: {shown(what)} inflates to {inflated:,} bytes from {packed:,}.",
            "If you trust it, unpack it yourself and name the folder.",
        )


def _tar_members(
    stream: BinaryIO, size: int, name: str
) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Start and length of each file, by its path, and the folders."""
    members: dict[str, tuple[int, int]] = {}
    folders: list[str] = []
    with tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as archive:
        before = -1
        while info := archive.next():
            if info.offset <= before or info.size < 0:
                raise tarfile.ReadError("its members do not follow one another")
            before = info.offset
            member = _clean(info.name, Path(name))
            if info.isdir():
                folders.append(member)
                continue
            if info.islnk() and (target := _clean(info.linkname, Path(name))) in members:
                # The same file under another name.
                start, length = members[target]
            elif info.isreg() and not info.issparse():
                start, length = info.offset_data, info.size
            else:
                raise DataError(
                    f"{name} holds {shown(info.name)}, which is a link or a device.", _PACK_AGAIN
                )
            if start + length > size:
                raise tarfile.ReadError(f"{shown(info.name)} is cut short")
            if member in members:
                raise CorruptDataError(f"{name} holds {shown(member)} twice.", _PACK_AGAIN)
            members[member] = start, length
            # tarfile keeps every member, which here are in `members` already.
            archive.members = []  # type: ignore[attr-defined]
            check_count(len(members), name)
        _refuse_rest(stream, archive.offset)
    return members, folders


def _refuse_rest(stream: BinaryIO, end: int) -> None:
    """A block that is not a header ends the reading as if it were the end: look what it is."""
    stream.seek(end)
    rest = stream.read(_CHUNK_BYTES)
    if not rest:
        raise tarfile.ReadError("its end is missing")
    if rest.strip(b"\0"):
        raise tarfile.ReadError(f"there is no header at byte {end:,}")


def _clean(name: str, archive: Path) -> str:
    """The path of a member without what is superfluous.

    Raises:
        DataError: it leads out of the archive.
    """
    if name.startswith(("/", "\\")) or _DRIVE.match(name) or ".." in re.split(r"[\\/]", name):
        raise DataError(
            f"{archive} holds {shown(name)}, which points outside of it.",
            "Do not trust this archive; if you packed it, pack the folder itself.",
        )
    if len(name) > _MAX_PATH:
        raise DataError(f"{archive} holds a path of {len(name):,} characters.", _PACK_AGAIN)
    return _parts(name)


def _parts(name: str) -> str:
    spelled = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "/".join(part for part in spelled.split("/") if part not in ("", "."))


def _in_hidden(path: str) -> bool:
    return any(map(is_hidden, path.split("/")))


def _hidden_classes(paths: Iterable[str]) -> set[str]:
    """The hidden folders in which pictures lie, and that may be meant as classes."""
    found = set()
    for folder in {path.rpartition("/")[0] for path in paths if is_picture(path)}:
        *above, name = folder.split("/")
        if may_be_a_class(name) and not any(map(is_hidden, above)):
            found.add(folder)
    return found


def _with_parents(members: Iterable[str], folders: Iterable[str]) -> set[str]:
    """The folders that are shown, with every folder that a file lies in."""
    every = {folder for folder in folders if folder and not _in_hidden(folder)}
    for path in [*members, *every]:
        folder = path.rpartition("/")[0]
        while folder and folder not in every:
            every.add(folder)
            folder = folder.rpartition("/")[0]
    return every


@contextmanager
def _explained(path: Path, member: str = "") -> Iterator[None]:
    """Turn whatever a damaged archive leaves with into one sentence."""
    what = shown(f"{path}/{member}") if member else shown(str(path))
    try:
        yield
    except (DataError, MemoryError):
        raise
    except NotImplementedError as error:
        raise DataError(
            f"{what} is packed in a way that cannot be read: {error}.",
            "Unpack it yourself and name the folder.",
        ) from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            with explain_os_errors(f"read {what}"):
                raise
        raise CorruptDataError(
            f"{what} is damaged: {shown(reason(error))}.", _FETCH_AGAIN
        ) from error
