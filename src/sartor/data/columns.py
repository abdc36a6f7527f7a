"""Which column of a table says what, and the listing that follows from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..errors import DataError, UsageError, unknown
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
from .listing import Listing, PictureStore
from .settings import COLUMN_SETTINGS, SourceSettings
from .tree import FileTree, PictureFiles, is_picture, shown, some

Holds = Callable[[str], bool]
"""Whether there is a file at a path as a table writes it."""

KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image_column": (
        *("file_name", "filename", "file", "path", "file_path", "filepath", "image", "image_path"),
        *("image_file", "image_name", "img", "img_path", "picture"),
    ),
    "label_column": ("label", "labels", "class", "class_name", "category", "target", "y"),
    "group_column": ("group", "group_id", "groups"),
    "split_column": ("split",),
}
"""What columns are called where nobody says; see `plain_name`."""
COLUMN_NAMES = frozenset(name for names in KNOWN_COLUMNS.values() for name in names)
GROUP_LIKE = frozenset(
    (
        *("patient", "patient_id", "subject", "subject_id", "session", "session_id", "author"),
        *("author_id", "person", "person_id", "user_id", "writer", "writer_id", "camera"),
    )
)
"""What columns are called that may say what belongs together."""
_SAMPLE_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class Table:
    """A list as rows of text, before anyone knows which column is which."""

    source: str
    """What messages call it."""
    written: str
    """How it is written, for the line about the source."""
    header: tuple[str, ...] | None
    """Names of the columns; None where there are none."""
    rows: Sequence[tuple[str, ...]]
    """At least one; all of the same width."""
    lines: Sequence[int]
    """Where each row stands, counted from 1."""
    structured: frozenset[str] = frozenset()
    """Columns with lists or tables in their cells."""

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.rows[0])

    def column_name(self, column: int) -> str:
        """What messages call a column."""
        return self.header[column] if self.header else f"column {column + 1}"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What each row of a table says of a picture."""

    paths: Sequence[str]
    labels: Sequence[str]
    splits: Sequence[str | None]
    groups: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which column says what, by number from 0; None where none does."""

    image: int
    label: int
    group: int | None
    split: int | None
    remarks: tuple[str, ...] = ()


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


def plain_name(name: str) -> str:
    """A column's name without what differs by habit: "File Name" is "file_name"."""
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def choose_columns(table: Table, settings: SourceSettings, holds: Holds) -> Choice:
    """The columns that the settings name; for the others those whose name or content tells.

    Raises:
        UsageError: a column that is not there, or no telling which it is; with the flag.
    """
    given = {name: _named(table, settings, name) for name in COLUMN_SETTINGS}
    taken = {column for column in given.values() if column is not None}
    image = given["image_column"]
    image = _image_column(table, taken, holds) if image is None else image
    group = given["group_column"]
    group = _only_known(table, "group_column", {*taken, image}) if group is None else group
    split = given["split_column"]
    remarks = []
    if split is None:
        split = _only_known(table, "split_column", {*taken, image})
        if split is not None and not all(split_of(row[split]) for row in table.rows):
            name = table.column_name(split)
            remarks.append(f"The column {name} says other words than train, val, test: not used.")
            split = None
    label = given["label_column"]
    if label is None:
        label = _label_column(table, {image, group, split} | taken)
    _refuse_sharing(table, dict(zip(COLUMN_SETTINGS, (image, label, group, split), strict=True)))
    if group is None:
        remarks += _group_advice(table, {image, label, split})
    return Choice(image=image, label=label, group=group, split=split, remarks=tuple(remarks))


def read_rows(table: Table, choice: Choice) -> tuple[Rows, list[str]]:
    """What the rows say under that choice, and remarks.

    Raises:
        DataError: a row without path or label, or a split that is none; the lines are named.
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


def described(table: Table, choice: Choice) -> str:
    """The table in a few words: "comma-separated list: path in file_name, label in kind"."""
    if table.header is None and table.width == 2:
        return table.written
    columns = {
        "path": choice.image,
        "label": choice.label,
        "group": choice.group,
        "split": choice.split,
    }
    said = [
        f"{what} in {shown(table.column_name(column))}"
        for what, column in columns.items()
        if column is not None
    ]
    return f"{table.written}, {', '.join(said)}"


def list_rows(
    rows: Rows,
    tree: FileTree,
    *,
    name: str,
    source: str,
    shape: str,
    remarks: Iterable[str] = (),
    class_names: Sequence[str] = (),
) -> Listing:
    """The pictures whose paths rows name, each once; see `listing_of`.

    Raises:
        DataError: files that are missing, named all at once; rows that contradict each other.
    """
    rows = replace(rows, paths=_existing(rows.paths, tree, source))
    if not any(rows.splits):
        rows = replace(rows, splits=_splits_of_folders(rows.paths))
    rows, repeated = _without_repetition(rows, source)
    return listing_of(
        rows,
        PictureFiles(tree=tree, names=tuple(rows.paths)),
        name=name,
        source=source,
        shape=shape,
        remarks=[*remarks, repeated],
        class_names=class_names,
    )


def listing_of(
    rows: Rows,
    pictures: PictureStore,
    *,
    name: str,
    source: str,
    shape: str,
    remarks: Iterable[str] = (),
    class_names: Sequence[str] = (),
) -> Listing:
    """A listing of pictures, one a row.

    Args:
        shape: how the rows were read; what they hold is added.
        class_names: where the labels are numbers of classes with these names.

    Raises:
        DataError: labels that are none; nothing for training, or nothing to tell apart.
    """
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
        name=name,
        shape=f"{held} ({shape})",
        pictures=pictures,
        labels=labels,
        classes=classes,
        val=indices_of(rows.splits, "val"),
        test=indices_of(rows.splits, "test"),
        groups=None if rows.groups is None else tuple(rows.groups),
        remarks=tuple(filter(None, (*remarks, unused, *missing))),
    )


def refuse_one_class(classes: Sequence[str], source: str) -> None:
    """Raise where nothing can be told apart."""
    if len(classes) < 2:
        raise DataError(
            f"Every picture of {source} has the same label: {some(classes)}.",
            "Is it the right column? --label-column names another.",
        )


def known_columns(header: Sequence[str], setting: str) -> list[int]:
    """Columns called as such columns usually are, the most usual name first."""
    plain = [plain_name(name) for name in header]
    names = KNOWN_COLUMNS[setting]
    found = [column for column, name in enumerate(plain) if name in names]
    return sorted(found, key=lambda column: names.index(plain[column]))


def common_folder(paths: Sequence[str]) -> list[str]:
    """The folders that all paths begin with."""
    if not paths:
        return []
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    for depth, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:depth]
    return min(first, last, key=len)


def flag(setting: str) -> str:
    """The flag of a setting."""
    return f"--{setting.replace('_', '-')}"


def spellings(path: str) -> Iterable[str]:
    """A path as it stands, and as another system would write it."""
    plain = "/".join(part for part in path.split("/") if part not in ("", "."))
    yield f"/{plain}" if path.startswith("/") else plain
    if "\\" in path:
        yield "/".join(part for part in path.split("\\") if part not in ("", "."))


def _named(table: Table, settings: SourceSettings, setting: str) -> int | None:
    """The number of the column that the user names."""
    name = getattr(settings, setting)
    if name is None:
        return None
    if table.header is None:
        if name.isascii() and name.isdecimal() and len(name) < 9 and 1 <= int(name) <= table.width:
            return int(name) - 1
        raise UsageError(
            f'{table.source} has no header, so it has no column "{name}".',
            f"Name the column by its number, from 1 to {table.width}.",
        )
    if name not in table.header:
        raise UsageError(
            f"{table.source}: {unknown('column', name, table.header)}",
            f"{flag(setting)} takes one of: {some(table.header, 30)}.",
        )
    if table.header.count(name) > 1:
        raise UsageError(
            f"{table.source} has several columns called {name}.", "Give each a name of its own."
        )
    if name in table.structured:
        raise DataError(
            f"The column {name} of {table.source} holds lists or tables, not single words.",
            "A picture has one path and one label here.",
        )
    return table.header.index(name)


def _image_column(table: Table, taken: set[int], holds: Holds) -> int:
    free = [column for column in range(table.width) if column not in taken]
    sample = table.rows[:_SAMPLE_ROWS]
    known = [one for one in known_columns(table.header or (), "image_column") if one in free]
    existing = [column for column in free if any(holds(row[column].strip()) for row in sample)]
    likely = [column for column in free if any(is_picture(row[column].strip()) for row in sample)]
    first = [column for column in known if column in existing] or known
    if first:
        return first[0]
    for columns in (existing, likely):
        if len(columns) == 1:
            return columns[0]
    if table.header is None and table.width == 2 and free and not existing:
        return free[0]
    raise UsageError(
        f"There is no telling which column of {table.source} holds the paths of the pictures: "
        f"{_listed(table, existing or likely or free)}.",
        f"Say --image-column {_naming(table)}.",
    )


def _label_column(table: Table, taken: set[int | None]) -> int:
    free = [column for column in range(table.width) if column not in taken]
    known = [one for one in known_columns(table.header or (), "label_column") if one in free]
    for columns in (known, free):
        if len(columns) == 1:
            if table.column_name(columns[0]) in table.structured:
                raise DataError(
                    f"The labels of {table.source} are lists: a picture has several.",
                    "Here each picture belongs to one class; write one label.",
                )
            return columns[0]
        if len(columns) > 1:
            raise UsageError(
                f"There is no telling which column of {table.source} holds the label: "
                f"{_listed(table, columns)}.",
                f"Say --label-column {_naming(table)}.",
            )
    raise DataError(
        f"{table.source} has no column for the label.",
        "Add one; or name a folder in which each class has a folder of its own.",
    )


def _naming(table: Table) -> str:
    return "NAME" if table.header else "NUMBER, counted from 1"


def _only_known(table: Table, setting: str, taken: set[int]) -> int | None:
    known = [column for column in known_columns(table.header or (), setting) if column not in taken]
    return known[0] if len(known) == 1 else None


def _refuse_sharing(table: Table, columns: Mapping[str, int | None]) -> None:
    first: dict[int, str] = {}
    for setting, column in columns.items():
        if column is None:
            continue
        if column in first:
            raise UsageError(
                f"{table.column_name(column)} of {table.source} cannot be {first[column]} and "
                f"{setting} at once.",
                "Name two columns.",
            )
        first[column] = setting


def _group_advice(table: Table, taken: set[int | None]) -> list[str]:
    """A sentence where a column looks as if it said what belongs together."""
    for column, name in enumerate(table.header or ()):
        if plain_name(name) in GROUP_LIKE and column not in taken:
            return [
                f"Do pictures with the same {name} belong together? --group-column {name} keeps "
                "them in one split."
            ]
    return []


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
            "which is no split.",
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


def _listed(table: Table, columns: Iterable[int]) -> str:
    return some([table.column_name(column) for column in columns], 30)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
