"""The pictures of a tree: by their suffix, and without a known one by their first bytes."""

from __future__ import annotations

import os
from weakref import WeakKeyDictionary

from ...errors import DataError, FileError
from ..pictures.formats import format_of
from .tree import FileTree, is_picture, some

_SURELY_NONE = frozenset(
    (
        *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".html", ".htm", ".md", ".rst"),
        *(".yaml", ".yml", ".toml", ".ini", ".cfg", ".log", ".py", ".ipynb", ".sh", ".js"),
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"),
        *(".npy", ".npz", ".parquet", ".arrow", ".feather", ".h5", ".hdf5", ".mat", ".pkl"),
        *(".pt", ".pth", ".onnx", ".safetensors", ".db", ".sqlite", ".xlsx", ".docx", ".pdf"),
        *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".wav", ".mp3", ".cls", ".tfrecord"),
    )
)
"""Suffixes of files that are not opened, to see whether they are pictures."""
_found: WeakKeyDictionary[FileTree, tuple[str, ...]] = WeakKeyDictionary()


def pictures_in(tree: FileTree) -> tuple[str, ...]:
    """The paths of all pictures, in natural order."""
    pictures = _found.get(tree)
    if pictures is None:
        pictures = tuple(p for p in tree.files if is_picture(p) or _looks_like_one(tree, p))
        _found[tree] = pictures
    return pictures


def taken_by_content(tree: FileTree) -> str:
    """A sentence about pictures whose name does not say so, or nothing."""
    odd = [path for path in pictures_in(tree) if not is_picture(path)]
    if not odd:
        return ""
    what = "file" if len(odd) == 1 else "files"
    return f"Took {len(odd):,} {what} for pictures by their content: {some(odd, 3)}."


def _looks_like_one(tree: FileTree, path: str) -> bool:
    if os.path.splitext(path)[1].lower() in _SURELY_NONE:  # noqa: PTH122
        return False
    try:
        return bool(format_of(tree.head(path)))
    except (DataError, FileError):
        return False
