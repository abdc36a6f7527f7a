"""WebDataset: tar files in which a picture and its class have one name, such as 000.jpg, 000.cls.

Files with the same path up to the first dot of their name belong to one sample.
https://github.com/webdataset/webdataset
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...errors import CorruptDataError, DataError
from ...home import Note
from ..listing import Listing
from .archive import open_tar
from .labels import cleaned, split_in
from .rows import Described, Rows, listing_of
from .tree import FileTree, PictureFiles, is_picture, left_out, some

_CLASS = (".cls", ".cls.txt")
_TAR = (".tar", ".tar.gz", ".tgz")
_LONGEST = 4_096


def holds_samples(paths: Iterable[str]) -> bool:
    """Whether there is a picture with its class beside it, by their names."""
    pictures, classes = set(), set()
    for path in paths:
        if path.lower().endswith(_CLASS):
            classes.add(_key(path))
        elif is_picture(path):
            pictures.add(_key(path))
    return not pictures.isdisjoint(classes)


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
        if not holds_samples(shards[path].files):
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

    def _at(self, path: str) -> tuple[FileTree, str]:
        for shard, tree in self._shards.items():
            if path.startswith(f"{shard}/"):
                return tree, path[len(shard) + 1 :]
        raise DataError(f"There is nothing at {path}.", "Name another folder.")

    def holds(self, path: str) -> bool:
        """See `FileTree`, as the rest."""
        return path in self.files

    def size(self, path: str) -> int:
        tree, member = self._at(path)
        return tree.size(member)

    def read(self, path: str) -> bytes:
        tree, member = self._at(path)
        return tree.read(member)

    def head(self, path: str) -> bytes:
        tree, member = self._at(path)
        return tree.head(member)

    def stamp(self, path: str) -> str:
        tree, member = self._at(path)
        return tree.stamp(member)

    def place(self, path: str) -> Path | None:  # noqa: ARG002
        return None


def list_samples(tree: FileTree, *, name: str) -> Listing:
    """The pictures with their classes; the name of a tar file may tell the split.

    Raises:
        DataError: labels that make no dataset. CorruptDataError: a class is not text.
    """
    classes = {_key(path): path for path in tree.files if path.lower().endswith(_CLASS)}
    pictures: dict[str, str] = {}
    for path in filter(is_picture, tree.files):
        # Of 0.jpg and 0.mask.png the first is the picture.
        key = _key(path)
        if key not in pictures or path.count(".") < pictures[key].count("."):
            pictures[key] = path
    labelled = {key: path for key, path in pictures.items() if key in classes}
    unlabelled = [path for key, path in pictures.items() if key not in classes]
    labels = cleaned(_label(tree, classes[key]) for key in labelled)
    paths = list(labelled.values())
    rows = Rows(paths=paths, labels=labels, splits=_splits(paths))
    facts = Described(
        name=name,
        source=tree.name,
        shape="WebDataset: class in .cls",
        remarks=tuple(filter(None, (*tree.remarks, left_out(unlabelled, *_WITHOUT_CLASS)))),
    )
    return listing_of(rows, PictureFiles(tree=tree, names=tuple(paths)), facts)


_WITHOUT_CLASS = ("picture without a .cls file", "pictures without a .cls file")


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


def _key(path: str) -> str:
    """The path up to the first dot of the name."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"
