"""Where a picture lies that a list names otherwise than the disk does.

Lists are written on other machines: with a folder of theirs before the path, with another case,
without the suffix, with the signs of Windows, as web addresses. A picture is taken for the one
meant only where no other could be, and only where folders do not contradict.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from urllib.parse import unquote, urlsplit

from ...errors import DataError
from .tree import FileTree, is_picture, some

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,9}://", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:(?=[\\/])")


class Locator:
    """The files of a tree by the ends of their paths; nothing is read before it is asked for."""

    def __init__(self, tree: FileTree) -> None:
        self._tree = tree

    def holds(self, written: str) -> bool:
        """Whether a picture is meant by a path, without doubt."""
        return len(self.find(written)) == 1

    def find(self, written: str, *, same_folder: bool = False) -> tuple[str, ...]:
        """The pictures that a path may mean; several where it is unclear, none where none fits.

        With `same_folder` only those whose folders are the same, whatever their case.
        """
        parts = _parts(written)
        if not parts:
            return ()
        by_name, by_stem = self._names
        named = by_name.get(parts[-1], ()) or by_stem.get(parts[-1], ())
        address = bool(_ADDRESS.match(written))
        fitting = {
            path: shared for path in named if (shared := _shared(parts, path, address)) is not None
        }
        most = max(fitting.values(), default=0)
        return tuple(
            path
            for path, shared in fitting.items()
            if shared == most and (not same_folder or shared == len(parts) == path.count("/") + 1)
        )

    @cached_property
    def _names(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Pictures by their name, and by their name without suffix, in lower case."""
        by_name: dict[str, list[str]] = defaultdict(list)
        by_stem: dict[str, list[str]] = defaultdict(list)
        try:
            files = self._tree.files
        except DataError:
            return {}, {}
        for path in files:
            name = path.rpartition("/")[2].casefold()
            by_name[name].append(path)
            if is_picture(path):
                by_stem[name.rpartition(".")[0]].append(path)
        return by_name, by_stem


def is_address(written: str) -> bool:
    """Whether a path is an address in the web."""
    return bool(_ADDRESS.match(written))


def is_foreign(written: str) -> bool:
    """Whether a path begins at a place of its own: an address, a drive or a share of Windows."""
    return bool(_ADDRESS.match(written) or _DRIVE.match(written)) or written.startswith("\\")


def unclear(written: str, paths: Sequence[str], source: str) -> DataError:
    """What to say of a path that may mean several pictures."""
    return DataError(
        f"{source} names {some([written])}, which may be {some(paths, 3)}.",
        "Write the path with its folder, or say --image-root FOLDER.",
    )


def _parts(written: str) -> list[str]:
    """Folders and name of a path, in lower case, without what only its own machine knows."""
    if _ADDRESS.match(written):
        address = urlsplit(written)
        written = unquote(address.path)
    written = _DRIVE.sub("", written).replace("\\", "/")
    return [part for part in written.casefold().split("/") if part not in ("", ".")]


def _shared(parts: Sequence[str], path: str, address: bool) -> int | None:
    """How many parts at the end are the same; None where the folders before contradict.

    They do not where one of the two paths ends with the other, nor where a folder is shared besides
    the name; the folders of an address mean nothing.
    """
    own = path.casefold().split("/")
    shared = 1
    limit = min(len(parts), len(own))
    while shared < limit and parts[-1 - shared] == own[-1 - shared]:
        shared += 1
    return shared if address or shared > 1 or shared == limit else None
