"""Folders of pictures: ROOT/CLASS/picture, or ROOT/{train,val,test}/CLASS/picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...errors import DataError, UsageError
from ..listing import Listing
from .by_content import pictures_in, taken_by_content
from .labels import (
    ALMOST_SPLIT_WORDS,
    SPLITS,
    check_trainable,
    indices_of,
    missing_classes,
    numbered,
    part_counts,
    several_in_one,
    sorted_names,
    split_of,
)
from .tree import FileTree, PictureFiles, left_out, shown, some

GIVE_CLASSES = (
    "Give each class a folder of its own (ROOT/cat/1.jpg), or name a list of paths and labels."
)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the class folders lie in a tree."""

    base: str
    """The folder that holds them, or the split folders: "" or a path with "/" at its end."""
    splits: tuple[str, ...] = ()
    """The folders of the splits that hold class folders; none where there are no splits."""


def find_layout(tree: FileTree, wanted: str = "auto") -> Layout | None:
    """Where class folders lie, as the structure shows; None where all pictures lie loose.

    A folder that holds all there is, is looked through. A folder means a split if it is called so
    and holds class folders; `wanted` ("folder" or "split-folders") decides where that is in doubt.

    Raises:
        DataError, UsageError: it looks like both, or like splits without classes.
    """
    pictures = list(pictures_in(tree))
    if not pictures:
        return None
    base = _base(tree, pictures)
    below = [path.removeprefix(base).split("/") for path in pictures]
    holding = {parts[0] for parts in below if len(parts) > 1}
    deep = {parts[0] for parts in below if len(parts) > 2}
    if not holding:
        return None
    splits = sorted_names(folder for folder in deep if split_of(folder))
    if wanted == "folder":
        return Layout(base=base)
    if wanted == "split-folders":
        if not splits:
            raise DataError(
                f"{tree.name} has no train/, val/ or test/ that holds class folders.",
                "Such a folder looks like ROOT/train/cat/1.jpg.",
            )
    elif not splits:
        _refuse_splits_without_classes(tree, holding)
        return Layout(base=base)
    else:
        _refuse_doubt(tree, splits, holding)
    _refuse_two_of_a_kind(tree, splits)
    return Layout(base=base, splits=splits)


def class_folders(tree: FileTree, layout: Layout) -> set[str]:
    """The names of the classes that have pictures."""
    return {name for name, _, _ in _placed(tree, layout) if name}


def list_layout(tree: FileTree, layout: Layout, *, name: str) -> Listing:
    """The pictures in class folders; what is left out stands in the remarks.

    Raises:
        DataError: there is no picture for training.
    """
    placed = list(_placed(tree, layout))
    pictures = set(pictures_in(tree))
    loose = [path for name, _, path in placed if not name]
    names = [path for name, _, path in placed if name]
    splits = [split for name, split, _ in placed if name]
    class_names = [name for name, _, _ in placed if name]
    check_trainable(splits, tree.name)
    labels, classes = numbered(class_names, source=tree.name)
    remarks = [
        *tree.remarks,
        _empty_splits(tree, layout),
        _empty_classes(tree, layout, set(classes)),
        *(missing_classes(labels, classes, splits) if layout.splits else ()),
        several_in_one(classes),
        left_out(loose, "picture that lies in no class folder", "pictures in no class folder"),
        taken_by_content(tree),
        _no_pictures(path for path in tree.files if path not in pictures),
    ]
    return Listing(
        name=name,
        shape=_shape(layout, len(classes), splits),
        pictures=PictureFiles(tree=tree, names=tuple(names)),
        labels=labels,
        classes=classes,
        val=indices_of(splits, "val"),
        test=indices_of(splits, "test"),
        remarks=tuple(filter(None, remarks)),
    )


def _placed(tree: FileTree, layout: Layout) -> Iterator[tuple[str, str | None, str]]:
    """Class, split and path of each picture; of one that lies outside of them "" as its class."""
    depth = 2 if layout.splits else 1
    for path in pictures_in(tree):
        parts = path.removeprefix(layout.base).split("/")
        inside = path.startswith(layout.base) and len(parts) > depth
        if inside and (not layout.splits or parts[0] in layout.splits):
            yield parts[depth - 1], split_of(parts[0]) if layout.splits else None, path
        else:
            yield "", None, path


def _base(tree: FileTree, pictures: list[str]) -> str:
    """The folder in which class folders or split folders begin: "" or with "/" at its end.

    A folder that holds all pictures in folders of its own is looked through; not so beside an
    empty folder, which is a class without pictures.
    """
    base, filled = "", _filled(tree.files)
    while True:
        below = [path.removeprefix(base).split("/") for path in pictures]
        holding = {parts[0] for parts in below}
        if len(holding) > 1 or min(map(len, below)) < 3:
            return base
        (top,) = holding
        if split_of(top) or not filled.issuperset(_folders_in(tree, base)):
            return base
        base += f"{top}/"


def _folders_in(tree: FileTree, base: str) -> list[str]:
    """Path of each folder directly in `base`."""
    below = (folder for folder in tree.folders if folder.startswith(base))
    return [folder for folder in below if "/" not in folder.removeprefix(base)]


def _filled(paths: Iterable[str]) -> set[str]:
    """Every folder that has a file in it, or in a folder below."""
    filled: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in filled:
            filled.add(folder)
            folder = folder.rpartition("/")[0]
    return filled


def _refuse_splits_without_classes(tree: FileTree, holding: set[str]) -> None:
    if all(map(split_of, holding)):
        raise DataError(
            f"{tree.name} holds pictures in {_listed(holding)}, but no class folders in there.",
            f"{GIVE_CLASSES} If these are the classes, say --format folder.",
        )


def _refuse_doubt(tree: FileTree, splits: tuple[str, ...], holding: set[str]) -> None:
    """Raise where folders that are not splits lie beside those of the splits."""
    others = holding.difference(splits)
    if not others:
        return
    loose = {folder for folder in others if split_of(folder)}
    if loose:
        raise DataError(
            f"{tree.name} has class folders in {_listed(splits)}, but none in {_listed(loose)}.",
            f"Say --format split-folders to go without {_listed(loose)}.",
        )
    almost = {folder for folder in others if folder.casefold() in ALMOST_SPLIT_WORDS}
    if almost:
        raise DataError(
            f"{tree.name} holds {_listed(splits)} beside {_listed(almost)}, "
            "which is not a known name of a split.",
            "Rename it to train, val or test; or say --format split-folders to leave it out.",
        )
    raise UsageError(
        f"{tree.name} holds {_listed(splits)} beside {_listed(others)}: splits or classes?",
        "Say --format split-folders to leave the latter out, or --format folder to have a class "
        "for each folder.",
    )


def _refuse_two_of_a_kind(tree: FileTree, splits: tuple[str, ...]) -> None:
    for part in SPLITS:
        alike = [folder for folder in splits if split_of(folder) == part]
        if len(alike) > 1:
            raise DataError(
                f"{tree.name} has {_listed(alike)}, which mean the same split.",
                "Keep one of them, or put the pictures together.",
            )


def _empty_classes(tree: FileTree, layout: Layout, classes: set[str]) -> str:
    """A sentence that names the class folders in which no picture lies."""
    roots = [f"{layout.base}{folder}/" for folder in layout.splits] or [layout.base]
    folders = {path.rpartition("/")[2] for root in roots for path in _folders_in(tree, root)}
    empty = sorted_names(folders - classes)
    if not empty:
        return ""
    what = "class folder without a picture" if len(empty) == 1 else "class folders without pictures"
    return f"Left out {len(empty):,} {what}: {some(empty)}."


def _empty_splits(tree: FileTree, layout: Layout) -> str:
    """A sentence that names the folders of splits without any class folder."""
    folders = [path.removeprefix(layout.base) for path in _folders_in(tree, layout.base)]
    empty = [one for one in folders if split_of(one) and one not in layout.splits]
    if not layout.splits or not empty:
        return ""
    return f"Left out {_listed(empty)} without class folders."


def _no_pictures(paths: Iterable[str]) -> str:
    """A sentence that counts files by their suffix."""
    endings = Counter(os.path.splitext(path)[1].lower() or "without a suffix" for path in paths)  # noqa: PTH122
    if not endings:
        return ""
    count = endings.total()
    kinds = [f"{number:,} {ending}" for ending, number in endings.most_common()]
    what = "file that is not a picture by its name" if count == 1 else "files that are not pictures"
    return f"Left out {count:,} {what}: {some(kinds)}."


def _shape(layout: Layout, num_classes: int, splits: list[str | None]) -> str:
    where = f" below {shown(layout.base)}" if layout.base else ""
    counts, folders = "", f"{num_classes:,} class folders"
    if layout.splits:
        counts = f" ({part_counts(splits)})"
        folders += " of 1 split" if len(layout.splits) == 1 else f" of {len(layout.splits)} splits"
    return f"{len(splits):,} pictures{counts} in {folders}{where}"


def _listed(folders: Iterable[str]) -> str:
    return some(f"{folder}/" for folder in sorted_names(folders))
