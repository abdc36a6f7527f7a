"""Lists of pictures: CSV, TSV, JSON lines, or lines of path and label.

How a list is written is found by looking: the right reading is the one under which its first rows
name files that exist. Which column is which, `columns` decides.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import CorruptDataError, DataError
from ..listing import Listing
from ..settings import COLUMN_SETTINGS, SourceSettings
from ..tolerance import flag_for, percent, tolerable
from .columns import (
    COLUMN_NAMES,
    Holds,
    Table,
    choose_columns,
    described,
    plain_name,
)
from .labels import split_of
from .locate import Locator
from .one_hot import with_one_label
from .rows import Below, Described, Rows, common_folder, list_rows, read_rows
from .text import text_of
from .tree import FileTree, FolderTree, inside, is_picture, shown, some

MANIFEST_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".lst")

MAX_LIST_BYTES = 512 << 20
_DELIMITERS = {
    ",": "comma-separated list",
    "\t": "tab-separated list",
    ";": "semicolon-separated list",
    "|": "bar-separated list",
}
_SAMPLE_ROWS = 100
_ASK_FOR_ROWS = "Write a row for each picture: its path, a comma, its label."
_NO_LIST = "A list of pictures is text: a path and a label in each line."
_WRITE_OBJECT = 'Write an object in each line: {"file_name": "1.png", "label": "cat"}.'
_CORRECT = "Correct that line, or take it out."

_SPLIT_LIST = re.compile(
    r"(?P<split>[a-z]+)([-_.](labels?|list|files|images|annotations|set|split))?"
)
_NO_LISTS = re.compile(
    r"read.?me|licen[cs]e|copying|requirements|classes|class_names|label_names|(sample.?)?submission"
)

_JSON = re.compile(r'\s*\{\s*("|\}|$)')

Row = tuple[int, tuple[str, ...]]
"""The line that a row begins in, counted from 1, and its cells."""


class Lists(NamedTuple):
    """Which files of a tree may be lists of its pictures."""

    sure: Mapping[str, str | None]
    """Those whose name says so, by path, and the split that each holds."""
    of_hub: bool
    """Whether these are called metadata, as the Hugging Face hub has it."""
    others: tuple[str, ...]
    """Those that only end as a list may."""


def find_lists(paths: Sequence[str]) -> Lists:
    """The lists at the top, and metadata in the folders of splits."""
    base = "".join(f"{folder}/" for folder in common_folder(paths))
    hub: dict[str, str | None] = {}
    of_splits: dict[str, str | None] = {}
    others: list[str] = []
    for path in paths:
        *folders, name = path.removeprefix(base).split("/")
        stem, ending = os.path.splitext(name.lower())  # noqa: PTH122
        if ending not in MANIFEST_SUFFIXES or len(folders) > 1:
            continue
        if stem == "metadata" and (not folders or split_of(folders[0])):
            hub[path] = split_of(folders[0]) if folders else None
        elif not folders and (match := _SPLIT_LIST.fullmatch(stem)) and split_of(match["split"]):
            of_splits[path] = split_of(match["split"])
        elif not folders and not _NO_LISTS.match(stem):
            others.append(path)
    return Lists(hub or of_splits, bool(hub), tuple(others))


def list_manifests(
    tree: FileTree, files: Mapping[str, str | None], settings: SourceSettings, *, name: str
) -> Listing:
    """The pictures that one list names, or one list for each split.

    Args:
        tree: where the lists lie, and the pictures unless the settings name another folder.
        files: the path of each list, and the split that it holds; None where its rows say it.

    Raises:
        DataError, UsageError: as `read_table`, `choose_columns`, `read_rows` and `list_rows`.
    """
    root = settings.image_root
    pictures = tree if root is None else FolderTree(Path(root))
    locator = Locator(pictures)
    named = frozenset(getattr(settings, one) for one in COLUMN_SETTINGS) - {None}
    parts: list[Rows] = []
    remarks: list[str] = []
    shapes: list[str] = []
    for path, split in files.items():
        source = inside(tree, path)
        if tree.size(path) > MAX_LIST_BYTES:
            raise CorruptDataError(f"{source} is larger than {MAX_LIST_BYTES >> 20} MiB.", _NO_LIST)
        below = Below(pictures, "" if root is not None else path.rpartition("/")[0])
        content, holds = tree.read(path), below.holds
        most = settings.max_unreadable
        if not _holds_paths(content, source, holds, named, most):
            holds = locator.holds
        table = read_table(content, source=source, holds=holds, named=named, most=most)
        table = with_one_label(table, settings)
        choice = choose_columns(table, settings, holds)
        rows, said = read_rows(table, choice, most=most)
        splits = [split] * len(rows.paths) if split else rows.splits
        parts.append(replace(rows, paths=[below.path(one) for one in rows.paths], splits=splits))
        remarks += said
        shapes.append(described(table, choice))
    if any(part.labels for part in parts) and not all(part.labels for part in parts):
        # Lists of what is to be answered in a competition; the others say what is what.
        lost = [path for path, part in zip(files, parts, strict=True) if not part.labels]
        parts = [part for part in parts if part.labels]
        remarks.append(f"Left out {', '.join(lost)}: no column for the label.")
    shape = shapes[0] if len(shapes) == 1 else f"{len(shapes)} lists; the first: {shapes[0]}"
    source = inside(tree, next(iter(files))) if len(files) == 1 else tree.name
    facts = Described(
        name=name,
        source=source,
        shape=shape,
        remarks=tuple(remarks),
        max_missing=settings.max_unreadable,
    )
    return list_rows(_together(parts), pictures, facts, locator)


def _holds_paths(
    content: bytes, source: str, holds: Holds, named: frozenset[str], most: float
) -> bool:
    """Whether a list can be read, and any cell of its first rows names a picture that is there."""
    try:
        table = read_table(content, source=source, holds=holds, named=named, most=most)
    except CorruptDataError:
        return False
    return any(holds(cell.strip()) for row in table.rows[:_SAMPLE_ROWS] for cell in row)


def read_table(
    content: bytes,
    *,
    source: str,
    holds: Holds,
    named: frozenset[str] = frozenset(),
    most: float = 0.0,
) -> Table:
    """The rows of a list.

    Args:
        content: the whole file.
        source: what errors call it.
        holds: whether there is a file at a path as the list writes it.
        named: columns that the user names, by which a header is known.
        most: share of the rows that may not fit, and are left out.

    Raises:
        CorruptDataError: it is not text, or its rows do not fit together; the line is named.
        DataError: it has no rows.
    """
    text, told = text_of(content, source)
    if not text.strip():
        raise DataError(f"{source} is empty.", _ASK_FOR_ROWS)
    if _JSON.match(text):
        return _json_table(text, source, told, most)
    written, rows, misfits = _right_reading(text, source, holds, most)
    header = _has_header([cells for _, cells in rows[:_SAMPLE_ROWS]], holds, named)
    if len(rows) == header:
        raise DataError(f"{source} has a header and no rows.", _ASK_FOR_ROWS)
    return Table(
        source=source,
        written=written,
        header=tuple(name.strip() for name in rows[0][1]) if header else None,
        rows=[cells for _, cells in rows[header:]],
        lines=[line for line, _ in rows[header:]],
        remarks=tuple(filter(None, (told, _about_misfits(misfits, len(rows), source, most)))),
    )


def _about_misfits(lines: Sequence[int], fitting: int, source: str, most: float) -> str:
    """A remark on rows that were left out, since they do not fit."""
    if not lines:
        return ""
    what = "1 row" if len(lines) == 1 else f"{len(lines):,} rows"
    return (
        f"Left out {what} of {source} unlike the others: line {some(lines)}, of "
        f"{fitting + len(lines):,}; more than {percent(most)} would stop."
    )


def _right_reading(
    text: str, source: str, holds: Holds, most: float
) -> tuple[str, list[Row], list[int]]:
    """How the list is written, its rows (at least one, all of the same width), and the lines of
    those that are not."""
    readings: list[tuple[str, list[Row], list[int]]] = []
    faults: list[CorruptDataError] = []
    for delimiter, written in _DELIMITERS.items():
        if _usual(text, delimiter):
            try:
                readings.append((written, *_delimited(text, delimiter, source, most)))
            except CorruptDataError as fault:
                faults.append(fault)
    words, odd_line = _words(text)
    if not odd_line:
        readings.append(("lines of path and label", words, []))
    elif not readings and not faults and (paths := _paths(text, holds)):
        readings.append(("lines of paths", paths, []))
    for reading in readings:
        if any(holds(cell.strip()) for _, cells in reading[1][:_SAMPLE_ROWS] for cell in cells):
            return reading
    if readings and (not faults or readings[0][1] is not words):
        return readings[0]
    if faults:
        raise faults[0]
    line = _lines(text)[odd_line - 1]
    raise CorruptDataError(
        f"Line {odd_line:,} of {source} has no path and label: {shown(line)}", _ASK_FOR_ROWS
    )


def _usual(text: str, delimiter: str) -> bool:
    """Whether the delimiter divides most of the first rows into as many cells as the first row."""
    widths = []
    try:
        for _, cells in islice(_rows(text, delimiter), _SAMPLE_ROWS):
            widths.append(len(cells))
    except csv.Error:
        # Whoever reads on is told where.
        return delimiter in text
    return bool(widths) and widths[0] > 1 and 2 * widths.count(widths[0]) > len(widths)


def _delimited(text: str, delimiter: str, source: str, most: float) -> tuple[list[Row], list[int]]:
    """The rows that are as wide as the first, and the lines of the others."""
    fitting: list[Row] = []
    odd: list[Row] = []
    line = 1
    try:
        for line, cells in _rows(text, delimiter):
            width = len(fitting[0][1]) if fitting else len(cells)
            (fitting if len(cells) == width else odd).append((line, cells))
        if odd and not tolerable(len(odd), len(fitting) + len(odd), most):
            line, cells = odd[0]
            raise CorruptDataError(
                f"Line {line:,} of {source} has {_columns(len(cells))} where the lines before "
                f"have {len(fitting[0][1])}.",
                'Correct it; text that holds the delimiter stands in quotes: "a, b". Or go on '
                f"without: {flag_for(len(odd), len(fitting) + len(odd))}",
            )
        return fitting, [line for line, _ in odd]
    except csv.Error as error:
        raise CorruptDataError(
            f"{source} cannot be read beyond line {line:,}: {error}.",
            "A quote may be missing thereafter.",
        ) from None


def _rows(text: str, delimiter: str) -> Iterator[Row]:
    """Rows with anything in them."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begin, in_comments = 1, True
    for cells in reader:
        in_comments = in_comments and _is_comment(cells[0] if cells else "#")
        if not in_comments and any(cell.strip() for cell in cells):
            yield begin, tuple(cells)
        begin = reader.line_num + 1


def _words(text: str) -> tuple[list[Row], int]:
    """Path and label of each line, and the first line that does not have them, else 0.

    The label is the last word, so that a path may hold spaces.
    """
    rows: list[Row] = []
    for number, line in enumerate(_lines(text), 1):
        if not line.strip() or _is_comment(line):
            continue
        cells = line.strip().rsplit(None, 1)
        if len(cells) < 2:
            return [], number
        path, label = cells
        if len(path) > 2 and path[0] == path[-1] and path[0] in "\"'":
            path = path[1:-1]
        rows.append((number, (path, label)))
    # Only comments, no rows.
    return rows, 0 if rows else 1


def _paths(text: str, holds: Holds) -> list[Row]:
    """The path in each line, where all of the first lines have nothing but a picture's path."""
    rows: list[Row] = [
        (number, (line.strip(),))
        for number, line in enumerate(_lines(text), 1)
        if line.strip() and not _is_comment(line)
    ]
    first = [cells[0] for _, cells in rows[:_SAMPLE_ROWS]]
    if len(first) > 1 and plain_name(first[0]) in COLUMN_NAMES:
        first = first[1:]
    return rows if all(is_picture(path) or holds(path) for path in first) else []


def _lines(text: str) -> list[str]:
    # Not splitlines, which breaks lines at characters that a path may hold.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _is_comment(line: str) -> bool:
    # "#1.png" may be a picture.
    return line.strip() == "#" or line.lstrip().startswith("# ")


def _has_header(rows: list[tuple[str, ...]], holds: Holds, named: frozenset[str]) -> bool:
    """Whether the first row names columns: it must not name a picture, while others do.

    A first picture that is missing is not a header: it would vanish without a word.
    """
    first, *others = [[cell.strip() for cell in row] for row in rows]
    if any(is_picture(cell) or holds(cell) for cell in first):
        return False
    if any(cell in named or plain_name(cell) in COLUMN_NAMES for cell in first):
        return True
    if any(is_picture(cell) for row in others for cell in row):
        return True
    # Without a suffix, a first picture that is missing is told from a header by its numbers.
    return any(
        holds(row[column]) and not (re.search(r"\d", cell) and re.search(r"\d", row[column]))
        for row in others
        for column, cell in enumerate(first)
    )


def _json_table(text: str, source: str, told: str, most: float) -> Table:
    """Rows of one JSON object a line; a cell that is not there is empty."""
    documents: list[tuple[int, dict[str, Any]]] = []
    faults: list[tuple[int, CorruptDataError]] = []
    for number, line in enumerate(_lines(text), 1):
        if line.strip():
            try:
                documents.append((number, _json_object(line, f"line {number:,} of {source}")))
            except CorruptDataError as fault:
                faults.append((number, fault))
    if faults and not tolerable(len(faults), len(documents) + len(faults), most):
        raise faults[0][1]
    misfits = [number for number, _ in faults]
    header = tuple(dict.fromkeys(key for _, document in documents for key in document))
    if not header:
        raise DataError(f"{source} has objects without keys.", _WRITE_OBJECT)
    structured = {
        key
        for _, document in documents
        for key, value in document.items()
        if isinstance(value, dict | list)
    }
    return Table(
        source=source,
        written="JSON lines",
        header=header,
        rows=[tuple(_cell(document.get(key)) for key in header) for _, document in documents],
        lines=[number for number, _ in documents],
        structured=frozenset(structured),
        remarks=tuple(filter(None, (told, _about_misfits(misfits, len(documents), source, most)))),
    )


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(line, object_pairs_hook=_without_repetition, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise CorruptDataError(f"Not JSON: {where}: {error}.", _CORRECT) from None
    if not isinstance(document, dict):
        raise CorruptDataError(f"No JSON object: {where}.", _WRITE_OBJECT)
    return document


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice")
    return document


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not a value")


def _cell(value: Any) -> str:
    """A value as a table without types would have it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _together(parts: list[Rows]) -> Rows:
    groups = [part.groups for part in parts if part.groups is not None]
    return Rows(
        paths=[path for part in parts for path in part.paths],
        labels=[label for part in parts for label in part.labels],
        splits=[split for part in parts for split in part.splits],
        groups=[one for group in groups for one in group] if len(groups) == len(parts) else None,
    )
