"""One parquet file, read one row group at a time, and the pictures in its cells."""

from __future__ import annotations

import io
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from ...errors import CorruptDataError, DataError, MissingExtraError, PictureError, SartorError
from .tree import FileTree, inside, shown

MAX_ROWS = 50_000_000
_MAX_GROUP_BYTES = 4 << 30
_KEPT_BYTES = 512 << 20
_FIRST_ROWS = 16
_FETCH_AGAIN = "Fetch the file again from where it came from."


class ParquetFile:
    """One parquet file."""

    def __init__(self, tree: FileTree, path: str) -> None:
        parquet = _pyarrow_parquet()
        self.path = path
        self.source = inside(tree, path)
        self.version = tree.stamp(path)
        self.place = tree.place(path)
        """Where it lies on the disk; None in an archive."""
        with _explained(self.source):
            self._file = parquet.ParquetFile(tree.place(path) or io.BytesIO(tree.read(path)))
            self.schema = self._file.schema_arrow
            self._groups = [
                self._file.metadata.row_group(number) for number in range(self._file.num_row_groups)
            ]
            counts = [group.num_rows for group in self._groups]
            claimed = self._file.metadata.num_rows
        self.count = sum(counts)
        self._refuse_other_count(self.count, claimed)
        if min(counts, default=0) < 0 or not 0 < self.count <= MAX_ROWS:
            raise DataError(
                f"{self.source} has {self.count:,} rows; 1 to {MAX_ROWS:,} can be read.",
                "Name another file.",
            )
        self._starts = list(accumulate(counts, initial=0))[:-1]

    @property
    def group_sizes(self) -> list[int]:
        """Rows in each row group."""
        return [group.num_rows for group in self._groups]

    def group_of(self, row: int) -> tuple[int, int]:
        """The row group of a row, and its place in there."""
        group = bisect_right(self._starts, row) - 1
        return group, row - self._starts[group]

    def cells(self, group: int, column: str) -> Any:
        """A column of one row group, as an Arrow array in pieces."""
        self._refuse_large(group)
        with _explained(self.source):
            table = self._file.read_row_group(group, columns=self._leaves(column, "bytes"))
            table.validate(full=True)
            cells = table.column(column)
        self._refuse_other_count(len(cells), self._groups[group].num_rows)
        return cells

    def values(self, column: str, leaf: str = "") -> list[Any]:
        """A column of the whole file, as Python objects."""
        with _explained(self.source):
            table = self._file.read(columns=self._leaves(column, leaf))
            table.validate(full=True)
            values: list[Any] = table.column(column).to_pylist()
        self._refuse_other_count(len(values), self.count)
        return [value and value.get(leaf) for value in values] if leaf else values

    def begins_empty(self, column: str, leaf: str) -> bool:
        """Whether the first rows of a part of a column are empty.

        The file's own statistics would tell of all rows, but Arrow ends the process where the
        statistics are damaged.
        """
        with _explained(self.source):
            batches = self._file.iter_batches(
                batch_size=_FIRST_ROWS, columns=self._leaves(column, leaf)
            )
            first = next(batches).column(0).to_pylist()
        return not any(cell and cell.get(leaf) for cell in first)

    def _leaves(self, column: str, leaf: str) -> list[str]:
        from pyarrow import types

        kind = self.schema.field(column).type
        return [f"{column}.{leaf}"] if leaf and types.is_struct(kind) else [column]

    def _refuse_other_count(self, found: int, claimed: int) -> None:
        if found != claimed:
            raise CorruptDataError(
                f"{self.source} claims {claimed:,} rows where there are {found:,}.", _FETCH_AGAIN
            )

    def _refuse_large(self, group: int) -> None:
        size = self._groups[group].total_byte_size
        if size > _MAX_GROUP_BYTES:
            raise DataError(
                f"A row group of {self.source} holds {size:,} bytes, which are read at once.",
                "Write the file again with smaller row groups.",
            )


class PictureCells:
    """Pictures as cells of parquet files.

    The row groups that were read last are kept, up to half a GiB of them.
    """

    def __init__(
        self, *, names: tuple[str, ...], places: Sequence[tuple[ParquetFile, int]], column: str
    ) -> None:
        self.names = names
        self.places = places
        """The file of each picture, and its row in there."""
        self.column = column
        self._kept: OrderedDict[tuple[str, int], tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, index: int) -> bytes:
        """See `PictureStore`."""
        file, row = self.places[index]
        try:
            group, offset = file.group_of(row)
            cell = self._cells(file, group)[offset].as_py()
        except SartorError as error:
            raise PictureError(error.message, error.hint) from error
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise PictureError(
                f"{self.names[index]} ({file.source}, row {row + 1:,}) is empty.",
                "Leave it out or replace it.",
            )
        return content

    def stamp(self, index: int) -> str:
        """See `PictureStore`."""
        file, row = self.places[index]
        return f"{file.version} {row}"

    def _cells(self, file: ParquetFile, group: int) -> Any:
        """The column of one row group. One thread reads it, the others wait for the same."""
        key = (file.path, group)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
            cells = file.cells(group, self.column)
            self._kept[key] = cells, cells.nbytes
            while len(self._kept) > 1 and self._kept_bytes() > _KEPT_BYTES:
                self._kept.popitem(last=False)
            return cells

    def _kept_bytes(self) -> int:
        return sum(size for _, size in self._kept.values())


def _pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Reading parquet", "pyarrow", "parquet") from error
    return pyarrow.parquet


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn what Arrow leaves with on damaged bytes into one sentence."""
    try:
        yield
    except (SartorError, MemoryError):
        raise
    except Exception as error:  # Arrow's own, and a dozen of Python's
        reason = shown((str(error).strip().splitlines() or [type(error).__name__])[0]).rstrip(".")
        raise CorruptDataError(f"{source} is damaged: {reason}.", _FETCH_AGAIN) from error
