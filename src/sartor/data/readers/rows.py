"""What the rows of a table say of pictures, and the listing that comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ...errors import DataError
from ..listing import Listing, PictureStore
from .columns import Choice, Table
from .labels import (
    SPLIT_WORDS,
    check_trainable,
    class_numbers,
    cleaned,
    indices_of,
    missing_classes,
    named_by_source,
    numbered,
    part_counts,
    split_of,
)
from .tree import FileTree, PictureFiles, some


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What each row of a table says of a picture."""

    paths: Sequence[str]
    labels: Sequence[str]
    splits: Sequence[str | None]
    groups: Sequence[str] | None = None


class Below(NamedTuple):
    """The folder of a tree in which the paths of a table begin."""

    tree: FileTree
    folder: str

    def path(self, written: str) -> str:
        """The path in the tree of one as the table writes it."""
        return written if not self.folder or written.startswith("/") else f"{self.folder}/{written}"

    def holds(self, written: str) -> bool:
        """Whether there is a file."""
        return any(map(self.tree.holds, spellings(self.path(written))))


def read_rows(table: Table, choice: Choice) -> tuple[Rows, list[str]]:
    """What the rows say under that choice, and remarks.

    Raises:
        DataError: a row without path or label, or an unknown split; the lines are named.
    """
    _refuse_empty(table, choice.image, "path")
    _refuse_empty(table, choice.label, "label")
    paths = [row[choice.image].strip() for row in table.rows]
    groups, remarks = None, list(choice.remarks)
    if choice.group is not None:
        groups = [row[choice.group].strip() for row in table.rows]
        alone = groups.count("")
        if alone:
            remarks.append(f"{_rows(alone)} without a group: each picture stands for itself.")
            groups = [group or path for group, path in zip(groups, paths, strict=True)]
    splits: list[str | None] = [None] * len(paths)
    if choice.split is not None:
        splits = _split_cells(table, choice.split)
    labels = cleaned(row[choice.label] for row in table.rows)
    return Rows(paths=paths, labels=labels, splits=splits, groups=groups), remarks


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a source says of its rows as a whole."""

    name: str
    source: str
    """What messages call it."""
    shape: str
    """How the rows were read; what they hold is added."""
    remarks: tuple[str, ...] = ()
    class_names: Sequence[str] = ()
    """Where the labels are numbers of classes with these names."""


def list_rows(rows: Rows, tree: FileTree, described: Described) -> Listing:
    """The pictures whose paths rows name, each once; see `listing_of`.

    Raises:
        DataError: files that are missing, named all at once; rows that contradict each other.
    """
    source = described.source
    rows = replace(rows, paths=_existing(rows.paths, tree, source))
    if not any(rows.splits):
        rows = replace(rows, splits=_splits_of_folders(rows.paths))
    rows, repeated = _without_repetition(rows, source)
    described = replace(described, remarks=(*described.remarks, repeated))
    return listing_of(rows, PictureFiles(tree=tree, names=tuple(rows.paths)), described)


def listing_of(rows: Rows, pictures: PictureStore, described: Described) -> Listing:
    """A listing of pictures, one per row.

    Raises:
        DataError: invalid labels; nothing for training, or fewer than two classes.
    """
    source, class_names = described.source, described.class_names
    check_trainable(rows.splits, source)
    unused = ""
    if class_names:
        numbers = class_numbers(rows.labels, source)
        labels, classes, unused = named_by_source(numbers, class_names, source=source)
    else:
        labels, classes = numbered(rows.labels, source=source)
        refuse_one_class(classes, source)
    divided = any(rows.splits)
    counts = f" ({part_counts(rows.splits)})" if divided else ""
    held = f"{len(labels):,} pictures{counts} of {len(classes):,} classes"
    missing = missing_classes(labels, classes, rows.splits) if divided else []
    return Listing(
        name=described.name,
        shape=f"{held} ({described.shape})",
        pictures=pictures,
        labels=labels,
        classes=classes,
        val=indices_of(rows.splits, "val"),
        test=indices_of(rows.splits, "test"),
        groups=None if rows.groups is None else tuple(rows.groups),
        remarks=tuple(filter(None, (*described.remarks, unused, *missing))),
    )


def refuse_one_class(classes: Sequence[str], source: str) -> None:
    """Raise where nothing can be told apart."""
    if len(classes) < 2:
        raise DataError(
            f"Every picture of {source} has the same label: {some(classes)}.",
            "Is it the right column? --label-column names another.",
        )


def common_folder(paths: Sequence[str]) -> list[str]:
    """The folders that all paths begin with."""
    if not paths:
        return []
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    for depth, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:depth]
    return min(first, last, key=len)


def spellings(path: str) -> Iterable[str]:
    """A path as it stands, and as another system would write it."""
    plain = "/".join(part for part in path.split("/") if part not in ("", "."))
    yield f"/{plain}" if path.startswith("/") else plain
    if "\\" in path:
        yield "/".join(part for part in path.split("\\") if part not in ("", "."))


def _refuse_empty(table: Table, column: int, what: str) -> None:
    empty = [
        line for line, row in zip(table.lines, table.rows, strict=True) if not row[column].strip()
    ]
    if empty:
        raise DataError(
            f"{_rows(len(empty))} of {table.source} without a {what}: line {some(empty)}.",
            "Fill them in, or take them out.",
        )


def _split_cells(table: Table, column: int) -> list[str | None]:
    splits = [split_of(row[column]) for row in table.rows]
    if None in splits:
        words = dict.fromkeys(row[column].strip() for row in table.rows)
        odd = [word or "nothing" for word in words if not split_of(word)]
        raise DataError(
            f"The column {table.column_name(column)} of {table.source} says {some(odd)}, "
            "which is not a split.",
            f"The words for splits are {', '.join(SPLIT_WORDS)}.",
        )
    return list(splits)


def _existing(paths: Sequence[str], tree: FileTree, source: str) -> list[str]:
    """The paths in the tree's own spelling.

    Raises:
        DataError: some do not exist.
    """
    found, missing = [], []
    for path in paths:
        spelling = next((one for one in spellings(path) if tree.holds(one)), None)
        if spelling is None:
            missing.append(path)
        else:
            found.append(spelling)
    if missing:
        how_many = "all" if len(missing) == len(paths) else f"{len(missing):,} of the"
        raise DataError(
            f"Missing are {how_many} {len(paths):,} files that {source} names: "
            f"{some(dict.fromkeys(missing))}.",
            f"Its paths are looked for in {tree.name}; --image-root names another folder.",
        )
    return found


def _splits_of_folders(paths: Sequence[str]) -> list[str | None]:
    """The split of each path, where all lie below train/, val/ or test/; else none."""
    depth = len(common_folder(paths))
    splits = [split_of(path.split("/")[depth]) for path in paths]
    if None in splits or len(set(splits)) < 2 or "train" not in splits:
        return [None] * len(paths)
    return list(splits)


def _without_repetition(rows: Rows, source: str) -> tuple[Rows, str]:
    """The rows with every path once, and a remark on those that stood there twice.

    Raises:
        DataError: a picture has two labels, or is in two splits.
    """
    groups = rows.groups if rows.groups is not None else [""] * len(rows.paths)
    kept: dict[str, int] = {}
    for at, path in enumerate(rows.paths):
        first = kept.setdefault(path, at)
        for what, cells in (("label", rows.labels), ("split", rows.splits), ("group", groups)):
            if cells[first] != cells[at]:
                raise DataError(
                    f"{source} names {some([path])} twice, with the {what} {some([cells[first]])} "
                    f"and {some([cells[at]])}.",
                    f"A picture has one {what}: correct one of the rows.",
                )
    repeated = len(rows.paths) - len(kept)
    if not repeated:
        return rows, ""
    order = list(kept.values())
    unique = Rows(
        paths=[rows.paths[at] for at in order],
        labels=[rows.labels[at] for at in order],
        splits=[rows.splits[at] for at in order],
        groups=None if rows.groups is None else [groups[at] for at in order],
    )
    return unique, f"Left out {_rows(repeated)} that name a picture which stands there already."


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
