"""Which column of a table says what: as the user says, or as names and contents tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote

from ...errors import DataError, UsageError, unknown
from ..settings import COLUMN_SETTINGS, SourceSettings
from .split_columns import SPLIT_NAMES, SplitColumn, divides, find_split_column, mapped_words
from .tree import is_picture, shown, some

Holds = Callable[[str], bool]
"""Whether there is a file at a path as a table writes it."""

ONE_HOT = "one-hot columns"
"""What the column is called that a column for each class becomes; see `one_hot`."""
KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image_column": (
        *("file_name", "filename", "file", "path", "file_path", "filepath", "image", "image_path"),
        *("image_file", "image_name", "img", "img_path", "picture", "image_id", "img_name"),
        *("image_filename", "filepaths", "image_url", "id", "uuid"),
    ),
    "label_column": (
        *("label", "labels", "class", "class_name", "category", "target", "y", "label_name"),
        *("class_label", "category_name", "breed", "species", "diagnosis", "dx", "emotion"),
        "one_hot_columns",
    ),
    "group_column": ("group", "group_id", "groups"),
    "split_column": SPLIT_NAMES,
}
"""What columns are called where nobody says; see `plain_name`."""
COLUMN_NAMES = frozenset(name for names in KNOWN_COLUMNS.values() for name in names)
GROUP_LIKE = frozenset(
    (
        *("patient", "patient_id", "subject", "subject_id", "session", "session_id", "author"),
        *("author_id", "person", "person_id", "user_id", "writer", "writer_id", "camera"),
        *("lesion", "patientid", "subjectid", "case", "video", "scene", "animal", "plant", "site"),
    )
)
"""What columns are called that may say what belongs together; so may those that end in _id."""
CAPTION_NAMES = frozenset(
    ("text", "caption", "captions", "description", "prompt", "sentence", "comment", "alt_text")
)
"""What columns are called that describe a picture in words of its own: never found as labels."""
_WEAK_IMAGE_NAMES = frozenset(("image_id", "image_url", "id", "uuid"))
"""Names that say of a column that it holds pictures only where no other does."""
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
    remarks: tuple[str, ...] = ()
    """What was left out of the list, or is odd about it."""

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
    label: int | None
    """None where the folder of each picture is its class."""
    group: int | None
    split: int | None
    words: Mapping[str, str] = field(default_factory=dict)
    """What the words in the split column mean."""
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
    words, remarks = mapped_words(settings), []
    group = given["group_column"]
    group = _group_column(table, {*taken, image}, words) if group is None else group
    label = given["label_column"]
    sure = _only_known(table, "label_column", {*taken, image}) if label is None else label
    split = given["split_column"]
    if split is None:
        found = _split_column(table, {image, group, sure} | taken, words, sure is None)
        split, remarks = found.column, list(found.remarks)
    if label is None:
        label = _label_column(table, {image, group, split} | taken)
    _refuse_sharing(table, dict(zip(COLUMN_SETTINGS, (image, label, group, split), strict=True)))
    if group is None:
        remarks += _group_advice(table, label, {image, label, split})
    return Choice(
        image=image, label=label, group=group, split=split, words=words, remarks=tuple(remarks)
    )


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
    strong = [c for c in known if plain_name(table.column_name(c)) not in _WEAK_IMAGE_NAMES]
    existing = [column for column in free if any(holds(row[column].strip()) for row in sample)]
    likely = [column for column in free if any(is_picture(row[column].strip()) for row in sample)]
    first = [column for column in known if column in existing] or strong
    if first:
        return first[0]
    for columns in (existing, likely, known):
        if len(columns) == 1:
            return columns[0]
    if table.header is None and table.width == 2 and free and not existing:
        return free[0]
    raise UsageError(
        f"It is unclear which column of {table.source} holds the paths of the pictures: "
        f"{_listed(table, existing or likely or free)}.",
        f"Say --image-column {_naming(table)}.",
    )


def _split_column(
    table: Table, taken: set[int | None], words: Mapping[str, str], needs_label: bool
) -> SplitColumn:
    """The column of the splits among those that are not taken, which leaves one for the label."""
    free = [column for column in range(table.width) if column not in taken]
    names = [plain_name(name) for name in table.header or [""] * table.width]
    # One column cannot be both.
    if needs_label and len(free) == 1:
        free = [column for column in free if names[column] == "split"]
    cells = {column: [row[column] for row in table.rows] for column in free}
    return find_split_column(names, cells, words)


def _label_column(table: Table, taken: set[int | None]) -> int | None:
    free = [column for column in range(table.width) if column not in taken]
    known = [one for one in known_columns(table.header or (), "label_column") if one in free]
    captions = [c for c in free if plain_name(table.column_name(c)) in CAPTION_NAMES]
    if captions and len(captions) == len(free):
        return None
    free = [column for column in free if column not in captions]
    for columns in (_one_of_equals(table, known), free):
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
    return None


def _one_of_equals(table: Table, columns: Sequence[int]) -> Sequence[int]:
    """One of several columns that divide the pictures alike: that of names rather than numbers."""
    cells = [[row[column].strip() for row in table.rows] for column in columns]
    together = len(set(zip(*cells, strict=True)))
    names = {table.column_name(column) for column in columns}
    if len(names) < 2 or any(len(set(words)) != together for words in cells):
        return columns
    named = [c for c, words in zip(columns, cells, strict=True) if not all(map(str.isdigit, words))]
    return [(named or columns)[0]]


def _naming(table: Table) -> str:
    return "NAME" if table.header else "NUMBER, counted from 1"


def _only_known(table: Table, setting: str, taken: set[int]) -> int | None:
    known = [column for column in known_columns(table.header or (), setting) if column not in taken]
    return known[0] if len(known) == 1 else None


def _group_column(table: Table, taken: set[int], words: Mapping[str, str]) -> int | None:
    """The column called as a group's, unless it says train, val and test."""
    column = _only_known(table, "group_column", taken)
    if column is None or divides([row[column] for row in table.rows], words):
        return None
    return column


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


def _group_advice(table: Table, label: int | None, taken: set[int | None]) -> list[str]:
    """A sentence where a column looks as if it said what belongs together."""
    for column, name in enumerate(table.header or ()):
        if column not in taken and _may_group(table, column, label):
            return [
                f"Do pictures with the same {name} belong together? --group-column {quote(name)} "
                "keeps them in one split."
            ]
    return []


def _may_group(table: Table, column: int, label: int | None) -> bool:
    """Whether values of a column recur, but are not another name of the classes."""
    name = plain_name(table.column_name(column))
    if name not in GROUP_LIKE and not name.endswith("_id"):
        return False
    cells = [row[column].strip() for row in table.rows]
    distinct = set(cells)
    if name in GROUP_LIKE:
        return len(distinct) > 1
    if label is None or not 1 < len(distinct) < len(cells):
        return False
    pairs = {(cell, row[label].strip()) for cell, row in zip(cells, table.rows, strict=True)}
    labels = {row[label].strip() for row in table.rows}
    return not len(pairs) == len(distinct) == len(labels)


def _listed(table: Table, columns: Iterable[int]) -> str:
    return some([table.column_name(column) for column in columns], 30)
