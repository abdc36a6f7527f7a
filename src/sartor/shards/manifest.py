"""The manifest: every picture of a plan, in order; its row groups are the shards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..data.pictures.stream import Place
from ..errors import CorruptDataError, MissingExtraError
from ..files import atomic_write, explain_os_errors


class Listed(NamedTuple):
    """A picture of the manifest."""

    file: str
    """What it is called in the results."""
    place: Place | None
    """None where the manifest has a reason instead of it."""
    label: int | None = None
    """Its class by number, where there are labels."""
    part: str | None = None
    """val or test, where the source says so."""
    group: str | None = None
    fault: str | None = None
    """Why there is no picture."""
    hint: str = ""


class Written(NamedTuple):
    """What came of writing a manifest."""

    pictures: int
    root: str
    """The folder below which all pictures lie; "" where there is none."""


def arrow() -> Any:
    """The library that reads and writes parquet.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Working in shards", "pyarrow", "parquet") from error
    return pyarrow


def write_manifest(path: Path, pictures: Iterable[Listed], shard_size: int) -> Written:
    """Write a manifest; no more than a shard is in memory at a time."""
    pyarrow = arrow()
    schema = _schema(pyarrow)
    rest = iter(pictures)
    count, folder = 0, None
    with (
        atomic_write(path) as stream,
        pyarrow.parquet.ParquetWriter(stream, schema, write_page_checksum=True) as writer,
    ):
        while shard := list(islice(rest, shard_size)):
            folder = _common(folder, shard)
            count += len(shard)
            columns = zip(*map(_cells, shard), strict=True)
            arrays = [
                pyarrow.array(column, field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            table = pyarrow.Table.from_arrays(arrays, schema=schema)
            writer.write_table(table, row_group_size=shard_size)
    return Written(count, folder or "")


def _schema(pyarrow: Any) -> Any:
    text = pyarrow.string()
    return pyarrow.schema(
        [
            # Not every path is text.
            ("file", text),
            ("path", pyarrow.binary()),
            ("member", text),
            ("row", pyarrow.int64()),
            ("label", pyarrow.int32()),
            ("part", text),
            ("group", text),
            ("fault", text),
            ("hint", text),
        ]
    )


def _cells(one: Listed) -> tuple[Any, ...]:
    place = one.place
    where = (None, None, None)
    if place is not None:
        where = (os.fsencode(place.path), place.member, place.row)  # type: ignore[assignment]
    return (one.file, *where, one.label, one.part, one.group, one.fault, one.hint)


def _common(folder: str | None, shard: list[Listed]) -> str | None:
    """The folder that holds a folder and the pictures of a shard; "" where there is none."""
    holding = {os.path.dirname(one.place.path) for one in shard if one.place}  # noqa: PTH120
    if not holding:
        return folder
    try:
        return os.path.commonpath(holding if folder is None else holding | {folder})
    except ValueError:  # drives of Windows
        return ""


class Manifest:
    """A manifest that was written."""

    def __init__(self, path: Path, *, root: str = "", here: Path | None = None) -> None:
        """
        Args:
            root: the folder below which all pictures lay when it was written.
            here: where that folder lies on this machine, if elsewhere.

        Raises:
            FileError: it cannot be read. CorruptDataError: it is not a manifest.
        """
        self._path = path
        self._root, self._here = root, here
        pyarrow = arrow()
        with explain_os_errors(f"read {path}"), _explained(path):
            self._file = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)

    def shard(self, number: int) -> list[Listed]:
        """The pictures of a shard.

        Raises:
            FileError: it cannot be read. CorruptDataError: it is damaged.
        """
        with explain_os_errors(f"read {self._path}"), _explained(self._path):
            columns = self._file.read_row_group(number).to_pydict()
        return [self._listed(row) for row in zip(*columns.values(), strict=True)]

    def __iter__(self) -> Iterator[Listed]:
        for number in range(self._file.num_row_groups):
            yield from self.shard(number)

    def _listed(self, row: tuple[Any, ...]) -> Listed:
        file, path, member, number, *rest = row
        place = None if path is None else Place(self._at(os.fsdecode(path)), member, number)
        return Listed(file, place, *rest)

    def _at(self, path: str) -> str:
        if self._here is None or not self._root:
            return path
        return os.path.join(self._here, os.path.relpath(path, self._root))  # noqa: PTH118


class _explained:  # noqa: N801  (a context manager, used as one)
    """Turn what Arrow leaves with on damaged bytes into one sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CorruptDataError(
                f"{self._path} is damaged: {reason.rstrip('.')}.", "Plan again, in a new folder."
            ) from error
