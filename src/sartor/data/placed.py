"""Pictures by their places: where those of a listing lie, and how another process gets at them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, FileError, PictureError
from .listing import Listing, PictureStore
from .pictures.stream import Place, Undecoded
from .readers.archive import TarTree, ZipTree, open_tar
from .readers.parquet import ParquetFile, PictureCells
from .readers.tables import picture_column
from .readers.tree import FileTree, FolderTree, PictureFiles
from .readers.webdataset import Shards
from .unlabelled import cell_content, file_content, member_content

_KEPT_OPEN = 4
_GROUPS_KEPT = 2


def places_of(listing: Listing) -> list[Place]:
    """Where each picture of a listing lies.

    Raises:
        DataError: in memory, or in an archive within an archive.
    """
    places = [_place(listing.pictures, index) for index in range(len(listing))]
    found = [place for place in places if place is not None]
    if len(found) < len(places):
        raise DataError(
            f"The pictures of {listing.name} lie neither in files nor in archives or tables of "
            "their own, so other processes cannot find them.",
            "Unpack what holds them, and name the folder.",
        )
    return found


def column_of(listing: Listing) -> str | None:
    """The column of the tables that hold the pictures of a listing."""
    store = listing.pictures
    return store.column if isinstance(store, PictureCells) else None


def _place(store: PictureStore, index: int) -> Place | None:
    if isinstance(store, PictureCells):
        file, row = store.places[index]
        return None if file.place is None else Place(_full(file.place), row=row)
    if isinstance(store, PictureFiles):
        return _in_tree(store.tree, store.names[index])
    return None


def _in_tree(tree: FileTree, name: str) -> Place | None:
    if isinstance(tree, Shards):
        tree, name = tree.holder(name)
    if isinstance(tree, ZipTree | TarTree):
        # What a compressed archive was unpacked to is this machine's own.
        return Place(_full(Path(tree.name)), name)
    file = tree.place(name)
    return None if file is None else Place(_full(file))


def _full(path: Path) -> str:
    return str(path.absolute())


class _Table(NamedTuple):
    """A parquet file, and its row groups that were read last."""

    file: ParquetFile
    column: str
    groups: OrderedDict[int, Any]


class PlacedPictures:
    """Gets at pictures by their places; keeps the archives and tables open that were used last."""

    def __init__(self, *, column: str | None = None) -> None:
        """
        Args:
            column: of tables that have several columns with pictures.
        """
        self._column = column
        self._lock = threading.Lock()
        self._trees: OrderedDict[str, FileTree] = OrderedDict()
        self._tables: OrderedDict[str, _Table] = OrderedDict()

    def at(self, name: str, place: Place) -> Undecoded:
        """The picture at a place; what is the matter with it shows when its content is asked for.

        Args:
            name: what it is called towards the user.
        """
        return Undecoded(name, partial(self._content, name, place), place)

    def _content(self, name: str, place: Place) -> bytes:
        if place.member is None and place.row is None:
            return file_content(place.path)
        try:
            if place.member is not None:
                return member_content(self._tree(place.path), place.member, name)
            assert place.row is not None
            cells, offset = self._cells(place.path, place.row)
        except PictureError:
            raise
        except KeyError:
            raise PictureError(
                f"{name} is not there any more.", "Plan again, with what is there now."
            ) from None
        except (DataError, FileError) as error:
            raise PictureError(error.message, error.hint) from error
        return cell_content(cells, offset, name)

    def _tree(self, path: str) -> FileTree:
        with self._lock:
            if path not in self._trees:
                _refuse_missing(path)
                with Path(path).open("rb") as stream:
                    is_zip = stream.read(4) == b"PK\3\4"
                self._trees[path] = ZipTree(Path(path)) if is_zip else open_tar(Path(path))
                while len(self._trees) > _KEPT_OPEN:
                    self._trees.popitem(last=False)
            self._trees.move_to_end(path)
            return self._trees[path]

    def _cells(self, path: str, row: int) -> tuple[Any, int]:
        """The column of a row group, and the place of a row in it. One thread reads it."""
        with self._lock:
            if path not in self._tables:
                _refuse_missing(path)
                file = ParquetFile(FolderTree(Path(path).parent), Path(path).name)
                column = self._column or picture_column(file, None, path).name
                self._tables[path] = _Table(file, column, OrderedDict())
                while len(self._tables) > _KEPT_OPEN:
                    self._tables.popitem(last=False)
            self._tables.move_to_end(path)
            table = self._tables[path]
            if row >= table.file.count:
                raise KeyError(row)
            group, offset = table.file.group_of(row)
            if group not in table.groups:
                table.groups[group] = table.file.cells(group, table.column)
                while len(table.groups) > _GROUPS_KEPT:
                    table.groups.popitem(last=False)
            return table.groups[group], offset


def _refuse_missing(path: str) -> None:
    if not os.path.isfile(path):  # noqa: PTH113  (Path refuses what holds a NUL)
        raise FileError(f"Cannot read {path}: no such file or directory.", "Check the path.")
