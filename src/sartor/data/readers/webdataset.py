"""WebDataset: tar files in which a picture and its class have one name, such as 000.jpg, 000.cls.

Files with the same path up to the first dot of their name belong to one sample. Where no sample has
a .cls file, the class is looked for in 000.json, under "label" and the like.
https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...errors import CorruptDataError, DataError
from ...home import Note
from ..listing import Listing
from .archive import open_tar
from .columns import known_columns
from .labels import cleaned, split_in
from .rows import Described, Rows, listing_of
from .tree import FileTree, PictureFiles, is_picture, left_out, some

_CLASS = (".cls", ".cls.txt")
_JSON = ".json"
_JSON_SHOWN = 8
"""Documents that are read to see whether they give a class."""
_TAR = (".tar", ".tar.gz", ".tgz")
_LONGEST = 4_096


def holds_samples(paths: Iterable[str]) -> bool:
    """Whether there is a picture with its class beside it, by their names."""
    return _pictures_with(paths, _CLASS)


def holds_described_samples(tree: FileTree) -> bool:
    """Whether pictures have a .json beside them instead, the first of which give a class."""
    if not _pictures_with(tree.files, (_JSON,)):
        return False
    keys = {_key(path) for path in tree.files if is_picture(path)}
    beside = [path for path in _of_class(tree.files, (_JSON,)).values() if _key(path) in keys]
    return all(_class_in(tree, path) is not None for path in beside[:_JSON_SHOWN])


def _pictures_with(paths: Iterable[str], endings: tuple[str, ...]) -> bool:
    pictures, classes = set(), set()
    for path in paths:
        if path.lower().endswith(endings):
            classes.add(_key(path))
        elif is_picture(path):
            pictures.add(_key(path))
    return not pictures.isdisjoint(classes)


def _of_class(paths: Iterable[str], endings: tuple[str, ...]) -> dict[str, str]:
    """The file that tells the class, by the sample's key."""
    return {_key(path): path for path in paths if path.lower().endswith(endings)}


def shards_of(paths: Sequence[str]) -> list[str]:
    """The tar files of a folder that holds nothing else that could be data."""
    shards = [path for path in paths if path.lower().endswith(_TAR)]
    return [] if any(map(is_picture, paths)) else shards


def open_shards(tree: FileTree, paths: Sequence[str], note: Note | None) -> Shards | None:
    """The files of these tar files together; None where they do not hold samples."""
    shards: dict[str, FileTree] = {}
    for path in paths:
        place = tree.place(path)
        if place is None:
            return None
        shards[path] = open_tar(place, note=note)
        if not (holds_samples(shards[path].files) or holds_described_samples(shards[path])):
            return None
    return Shards(tree, shards)


class Shards:
    """Several tar files as one tree, each as a folder of its name; see `FileTree`."""

    def __init__(self, folder: FileTree, shards: Mapping[str, FileTree]) -> None:
        self.name = folder.name
        self._shards = shards
        self.files = tuple(
            f"{path}/{member}" for path, shard in shards.items() for member in shard.files
        )
        self.folders: tuple[str, ...] = tuple(shards)
        self.remarks = tuple(remark for shard in shards.values() for remark in shard.remarks)

    def holder(self, path: str) -> tuple[FileTree, str]:
        """The tar file that holds a path, and the path in there."""
        for shard, tree in self._shards.items():
            if path.startswith(f"{shard}/"):
                return tree, path[len(shard) + 1 :]
        raise DataError(f"There is nothing at {path}.", "Name another folder.")

    def holds(self, path: str) -> bool:
        """See `FileTree`, as the rest."""
        return path in self.files

    def size(self, path: str) -> int:
        tree, member = self.holder(path)
        return tree.size(member)

    def read(self, path: str) -> bytes:
        tree, member = self.holder(path)
        return tree.read(member)

    def head(self, path: str) -> bytes:
        tree, member = self.holder(path)
        return tree.head(member)

    def stamp(self, path: str) -> str:
        tree, member = self.holder(path)
        return tree.stamp(member)

    def place(self, path: str) -> Path | None:  # noqa: ARG002
        return None


def list_samples(tree: FileTree, *, name: str) -> Listing:
    """The pictures with their classes; the name of a tar file may tell the split.

    Raises:
        DataError: labels that make no dataset. CorruptDataError: a class is not text.
    """
    by_class = holds_samples(tree.files)
    classes = _of_class(tree.files, _CLASS if by_class else (_JSON,))
    pictures: dict[str, str] = {}
    for path in filter(is_picture, tree.files):
        # Of 0.jpg and 0.mask.png the first is the picture.
        key = _key(path)
        if key not in pictures or path.count(".") < pictures[key].count("."):
            pictures[key] = path
    labelled = {key: path for key, path in pictures.items() if key in classes}
    unlabelled = [path for key, path in pictures.items() if key not in classes]
    label_of = _label if by_class else _described
    labels = cleaned(label_of(tree, classes[key]) for key in labelled)
    paths = list(labelled.values())
    rows = Rows(paths=paths, labels=labels, splits=_splits(paths))
    facts = Described(
        name=name,
        source=tree.name,
        shape=f"WebDataset: class in {'.cls' if by_class else _JSON}",
        remarks=tuple(filter(None, (*tree.remarks, left_out(unlabelled, *_without(by_class))))),
    )
    return listing_of(rows, PictureFiles(tree=tree, names=tuple(paths)), facts)


def _without(by_class: bool) -> tuple[str, str]:
    ending = ".cls" if by_class else _JSON
    return f"picture without a {ending} file", f"pictures without a {ending} file"


def _splits(paths: Sequence[str]) -> list[str | None]:
    """By the names of the tar files, where all of them tell."""
    named = {path.partition("/")[0] for path in paths}
    found = {name: split_in(name.partition(".")[0]) for name in named}
    splits = [found[path.partition("/")[0]] for path in paths]
    return [None] * len(paths) if None in splits or len(set(splits)) < 2 else list(splits)


def _label(tree: FileTree, path: str) -> str:
    if tree.size(path) > _LONGEST:
        raise CorruptDataError(f"{path} of {tree.name} is too long for a class.", "Correct it.")
    try:
        label = tree.read(path).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise CorruptDataError(f"{path} of {tree.name} is not text.", "Correct it.") from None
    if not label:
        raise DataError(f"{some([path])} of {tree.name} is empty.", "Write the class into it.")
    return label


def _described(tree: FileTree, path: str) -> str:
    label = _class_in(tree, path)
    if label is None:
        raise DataError(
            f"{path} of {tree.name} gives no class.",
            'Each needs one, as {"label": "cat"}, like the others.',
        )
    return label


def _class_in(tree: FileTree, path: str) -> str | None:
    """The class that a document gives; None where it gives none, or is none."""
    if tree.size(path) > _LONGEST:
        return None
    try:
        document = json.loads(tree.read(path))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    keys = [str(key) for key in document]
    named = known_columns(keys, "label_column")
    label = document[keys[named[0]]] if named else None
    known = isinstance(label, str | int) and not isinstance(label, bool)
    return str(label) if known and str(label).strip() else None


def _key(path: str) -> str:
    """The path up to the first dot of the name."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"
