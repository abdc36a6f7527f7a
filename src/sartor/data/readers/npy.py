"""Arrays in .npy files that belong together: X_train.npy and y_train.npy, for example.

No object is ever unpickled. Which array is what, `keyed_arrays` finds by the names.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np

from ...arrays import AnyArray
from ...errors import CorruptDataError, DataError, SartorError
from ...machine import available_memory
from ..feed.mapped import mapped_file
from ..settings import SourceSettings
from .keyed_arrays import Arrays, dataset_of, kinds_of, parts_of
from .tree import FileTree, inside, shown

_ENDING = ".npy"
_MEMORY_SHARE = 0.25
"""Arrays of up to this share of the free memory are read: a file that is only mapped must not
change while it is used."""


def find_npy(paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """By folder, the .npy files of which one is called as images are, and one as labels are."""
    folders: dict[str, dict[str, str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name.lower().endswith(_ENDING):
            folders.setdefault(folder, {})[name[: -len(_ENDING)]] = path
    return {
        folder: files
        for folder, files in folders.items()
        if kinds_of(files) >= {"images", "labels"}
    }


def load_npy(
    tree: FileTree, folder: str, files: dict[str, str], settings: SourceSettings, *, name: str
) -> Arrays:
    """The dataset in the .npy files of a folder.

    Args:
        files: the path of each, by its name without the ending.

    Raises:
        CorruptDataError: a file is damaged.
        UsageError, DataError: arrays that make no dataset; the sentence says why.
    """
    source = inside(tree, folder) if folder else tree.name
    parts = parts_of(list(files), settings, source)
    wanted = {
        key for keys in parts.values() for key in (keys.images, keys.labels, keys.groups) if key
    }
    loaded = {key: _read(tree, files[key]) for key in sorted(wanted)}
    return dataset_of(parts, loaded, None, source, name)


def _read(tree: FileTree, path: str) -> AnyArray:
    """One array; mapped where it lies in a file of its own that would take much memory."""
    source, place = inside(tree, path), tree.place(path)
    try:
        if place is None:
            array: AnyArray = np.load(io.BytesIO(tree.read(path)), allow_pickle=False)
        elif tree.size(path) < _MEMORY_SHARE * available_memory():
            array = np.load(place, allow_pickle=False)
        else:
            array = np.load(place, mmap_mode="r", allow_pickle=False)
            mapped_file(array)  # as it is now
    except (SartorError, MemoryError):
        raise
    except Exception as error:  # NumPy leaves with half a dozen kinds on damaged bytes
        if "object" in str(error).lower():
            raise DataError(
                f"{source} holds Python objects, which could run programs: they are not read.",
                "Save it again as an array of one type, such as uint8.",
            ) from error
        reason = shown(str(error) or type(error).__name__).rstrip(".")
        raise CorruptDataError(
            f"{source} is damaged: {reason}.", "Fetch or save the file again."
        ) from error
    return array
