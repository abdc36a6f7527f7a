"""What the rows of a table say of pictures, and the listing that comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import NamedTuple

from ...errors import DataError
from ..listing import Listing, PictureStore
from ..tolerance import flag_for, percent, tolerable
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
    several_in_one,
    split_of,
)
from .locate import Locator, is_address, is_foreign, unclear
from .split_columns import splits_of_cells, unknown_words
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
        elsewhere = written.startswith("/") or is_foreign(written)
        return written if not self.folder or elsewhere else f"{self.folder}/{written}"

    def holds(self, written: str) -> bool:
        """Whether there is a file."""
        return any(map(self.tree.holds, spellings(self.path(written))))


def read_rows(table: Table, choice: Choice, *, most: float = 0.0) -> tuple[Rows, list[str]]:
    """What the rows say under that choice, and remarks.

    Args:
        most: share of the rows that may be without path or label, and are left out.

    Raises:
        DataError: a row without path or label, or an unknown split; the lines are named.
    """
    table = _without_empty(table, choice.image, "path", most)
    if choice.label is not None:
        table = _without_empty(table, choice.label, "label", most)
    paths = [row[choice.image].strip() for row in table.rows]
    groups, remarks = None, [*table.remarks, *choice.remarks]
    if choice.group is not None:
        groups = [row[choice.group].strip() for row in table.rows]
        alone = groups.count("")
        if alone:
            remarks.append(f"{_rows(alone)} without a group: each picture stands for itself.")
            groups = [group or path for group, path in zip(groups, paths, strict=True)]
    splits: list[str | None] = [None] * len(paths)
    if choice.split is not None:
        splits, open_rows = _split_cells(table, choice.split, choice.words)
        remarks += [open_rows] if open_rows else []
    labels = [] if choice.label is None else cleaned(row[choice.label] for row in table.rows)
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
    max_missing: float = 0.0
    """Share of the pictures that may be missing, and are left out."""


def list_rows(
    rows: Rows, tree: FileTree, described: Described, locator: Locator | None = None
) -> Listing:
    """The pictures whose paths rows name, each once; see `listing_of`.

    `locator` has the places of pictures that are not where their paths say; by default that of
    `tree`.

    Raises:
        DataError: files that are missing, named all at once; rows that contradict each other.
    """
    source = described.source
    found, moved = _existing(rows.paths, tree, source, locator or Locator(tree))
    rows, missing = _without_missing(rows, found, tree, described)
    described = replace(described, remarks=(*described.remarks, moved, missing))
    if not any(rows.splits):
        rows = replace(rows, splits=_splits_of_folders(rows.paths))
    if not rows.labels:
        rows = replace(rows, labels=_labels_of_folders(rows.paths, source))
        remark = f"{source} has no column for the label: each picture's folder is its class."
        described = replace(described, remarks=(*described.remarks, remark))
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
        remarks=tuple(
            filter(None, (*described.remarks, unused, *missing, several_in_one(classes)))
        ),
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


def _without_empty(table: Table, column: int, what: str, most: float) -> Table:
    """The table without rows that say nothing in a column.

    Raises:
        DataError: there are too many of them.
    """
    filled = [at for at, row in enumerate(table.rows) if row[column].strip()]
    count = len(table.rows)
    empty = count - len(filled)
    if not empty:
        return table
    lines = some([table.lines[at] for at in sorted(set(range(count)).difference(filled))])
    sentence = f"{_rows(empty)} of {table.source} without a {what}: line {lines}"
    if not tolerable(empty, count, most):
        other = f", or go on without: {flag_for(empty, count)}" if filled else ""
        raise DataError(f"{sentence}.", f"Fill them in, or take them out{other}.")
    remark = f"Left out {sentence}; more than {percent(most)} would stop."
    return replace(
        table,
        rows=[table.rows[at] for at in filled],
        lines=[table.lines[at] for at in filled],
        remarks=(*table.remarks, remark),
    )


def _split_cells(
    table: Table, column: int, words: Mapping[str, str]
) -> tuple[list[str | None], str]:
    """The split of each row, and a sentence on rows that leave it open: these are trained on."""
    cells = [row[column].strip() for row in table.rows]
    name, odd = table.column_name(column), unknown_words(cells, words)
    if odd:
        raise DataError(
            f"The column {name} of {table.source} says "
            f"{some([word or 'nothing' for word in odd])}, which is not a split.",
            f"The words for splits are {', '.join(SPLIT_WORDS)}; others are given a meaning by "
            f"--split-words {quote(odd[0] or 'WORD')}=train.",
        )
    splits = splits_of_cells(cells, words)
    left_open = splits.count(None)
    if not left_open or left_open == len(splits):
        return splits, ""
    word = cells[splits.index(None)]
    return (
        [split or "train" for split in splits],
        f"{_rows(left_open)} of {name} {'says' if left_open == 1 else 'say'} {word}: for training.",
    )


def _existing(
    paths: Sequence[str], tree: FileTree, source: str, locator: Locator
) -> tuple[list[str | None], str]:
    """The paths in the tree's own spelling, None for those that do not exist; and a remark on
    those that are spelled otherwise.

    Raises:
        DataError: some may be several.
    """
    found: list[str | None] = []
    moved: list[tuple[str, str]] = []
    exact = [next((one for one in spellings(path) if tree.holds(one)), None) for path in paths]
    # Where some pictures are where their paths say, the others are not to be had from elsewhere.
    same_folder = any(exact)
    for path, spelling in zip(paths, exact, strict=True):
        if spelling is None:
            candidates = locator.find(path, same_folder=same_folder)
            if len(candidates) > 1:
                raise unclear(path, candidates, source)
            if candidates:
                spelling = candidates[0]
                moved.append((path, spelling))
        found.append(spelling)
    if not moved:
        return found, ""
    written, there = moved[0]
    which = "1 path is" if len(moved) == 1 else f"{len(moved):,} paths are"
    return (
        found,
        f"{which} spelled otherwise on the disk, such as {some([written])}: {some([there])}.",
    )


def _without_missing(
    rows: Rows, found: Sequence[str | None], tree: FileTree, described: Described
) -> tuple[Rows, str]:
    """The rows whose pictures exist, and a remark on the others.

    Raises:
        DataError: too many do not exist.
    """
    kept = [at for at, path in enumerate(found) if path is not None]
    missing = [rows.paths[at] for at, path in enumerate(found) if path is None]
    if missing and not tolerable(len(missing), len(found), described.max_missing):
        raise _missing(missing, len(found), tree, described.source)
    rows = replace(
        rows, paths=[path or written for path, written in zip(found, rows.paths, strict=True)]
    )
    if not missing:
        return rows, ""
    return _picked(rows, kept), (
        f"Left out {_rows(len(missing))} of {described.source} whose picture is missing: "
        f"{some(dict.fromkeys(missing))}; more than {percent(described.max_missing)} would stop."
    )


def _picked(rows: Rows, kept: Sequence[int]) -> Rows:
    """Some of the rows."""
    return Rows(
        paths=[rows.paths[at] for at in kept],
        labels=[rows.labels[at] for at in kept] if rows.labels else [],
        splits=[rows.splits[at] for at in kept],
        groups=None if rows.groups is None else [rows.groups[at] for at in kept],
    )


def _missing(missing: Sequence[str], count: int, tree: FileTree, source: str) -> DataError:
    how_many = "all" if len(missing) == count else f"{len(missing):,} of the"
    where = f"Its paths are looked for in {tree.name}; --image-root names another folder."
    if any(map(is_address, missing)):
        where = (
            "Web addresses are not fetched here: download the pictures into a folder, and name it "
            "by --image-root."
        )
    if len(missing) < count:
        where += f" Or go on without them: {flag_for(len(missing), count)}"
    return DataError(
        f"Missing are {how_many} {count:,} files that {source} names: "
        f"{some(dict.fromkeys(missing))}.",
        where,
    )


def _splits_of_folders(paths: Sequence[str]) -> list[str | None]:
    """The split of each path, where all lie below train/, val/ or test/; else none."""
    depth = len(common_folder(paths))
    splits = [split_of(path.split("/")[depth]) for path in paths]
    if None in splits or len(set(splits)) < 2 or "train" not in splits:
        return [None] * len(paths)
    return list(splits)


def _labels_of_folders(paths: Sequence[str], source: str) -> list[str]:
    """The class folder of each path, below the folder that all have in common and any split.

    Raises:
        DataError: they do not lie in class folders.
    """
    depth = len(common_folder(paths))
    below = [path.split("/")[depth:] for path in paths]
    if all(len(parts) > 2 and split_of(parts[0]) for parts in below):
        below = [parts[1:] for parts in below]
    if all(len(parts) > 1 for parts in below):
        return [parts[0] for parts in below]
    raise refuse_without_label(source)


def refuse_without_label(source: str) -> DataError:
    """What to say of a table that tells no labels."""
    return DataError(
        f"{source} has no column for the label.",
        "Add one; or name a folder in which each class has a folder of its own.",
    )


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
