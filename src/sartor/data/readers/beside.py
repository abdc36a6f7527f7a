"""Lists that lie beside folders of pictures: whether they, or the folders, tell the classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import SartorError
from ...files import explain_os_errors
from .columns import Table
from .locate import Locator
from .manifest import MAX_LIST_BYTES, read_table
from .tree import FileTree, shown

_SAMPLE_ROWS = 100
_HEAD_BYTES = 1 << 20
_PART = re.compile(r"[-_ ]?(part|batch|chunk|shard|fold|images?)?[-_ ]?(\d+|[a-h])", re.IGNORECASE)


def lists_of_pictures(tree: FileTree, paths: Sequence[str]) -> dict[str, str]:
    """The files among `paths` in which most rows name a picture of the tree, with that column."""
    locator = Locator(tree)
    found = {}
    for path in paths:
        table = _first_rows(tree, path, locator)
        column = None if table is None else _column_of_pictures(table, locator)
        if table is not None and column is not None:
            found[path] = table.column_name(column)
    return found


def head_of(tree: FileTree, path: str, count: int) -> bytes:
    """The first bytes of a file."""
    place = tree.place(path)
    if place is None:
        return tree.read(path)[:count]
    with explain_os_errors(f"read {shown(str(place))}"), place.open("rb") as stream:
        return stream.read(count)


def look_like_parts(folders: Sequence[str]) -> bool:
    """Whether folders are called as parts of one: images_part_1 and images_part_2."""
    stems = {_PART.sub("", folder) if _PART.search(folder) else folder for folder in folders}
    return len(folders) > 1 and len(stems) == 1 and "" not in stems


def _first_rows(tree: FileTree, path: str, locator: Locator) -> Table | None:
    """The beginning of a list; None where it is not one."""
    if tree.size(path) > MAX_LIST_BYTES:
        return None
    try:
        head = head_of(tree, path, _HEAD_BYTES)
        if len(head) == _HEAD_BYTES:
            head = head[: head.rfind(b"\n") + 1]
        return read_table(head, source=path, holds=locator.holds)
    except SartorError:
        return None


def _column_of_pictures(table: Table, locator: Locator) -> int | None:
    rows = table.rows[:_SAMPLE_ROWS]
    held = [sum(locator.holds(row[c].strip()) for row in rows) for c in range(table.width)]
    most = max(held)
    return held.index(most) if 2 * most > len(rows) else None
