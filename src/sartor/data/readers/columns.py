"""Which column of a table says what: as the user says, or as names and contents tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import DataError, UsageError, unknown
from ..settings import COLUMN_SETTINGS, SourceSettings
from .labels import (
    split_of,
)
from .tree import is_picture, shown, some

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
class Choice:
    """Which column says what, by number from 0; None where none does."""

    image: int
    label: int
    group: int | None
    split: int | None
    remarks: tuple[str, ...] = ()


def plain_name(name: str) -> str:
    """A column's name without what differs by habit: "File Name" is "file_name"."""
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def choose_columns(table: Table, settings: SourceSettings, holds: Holds) -> Choice:
    """The columns that the settings name; for the others those whose name or content tells.

    Raises:
        UsageError: a column that is not there, or unclear which it is; with the flag.
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


def known_columns(header: Sequence[str], setting: str) -> list[int]:
    """Columns called as such columns usually are, the most usual name first."""
    plain = [plain_name(name) for name in header]
    names = KNOWN_COLUMNS[setting]
    found = [column for column, name in enumerate(plain) if name in names]
    return sorted(found, key=lambda column: names.index(plain[column]))


def flag(setting: str) -> str:
    """The flag of a setting."""
    return f"--{setting.replace('_', '-')}"


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
        f"It is unclear which column of {table.source} holds the paths of the pictures: "
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
                f"It is unclear which column of {table.source} holds the label: "
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


def _listed(table: Table, columns: Iterable[int]) -> str:
    return some([table.column_name(column) for column in columns], 30)
