"""Names of classes that lie beside lists, folders and arrays of numbers: classes.txt and others."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...errors import CorruptDataError
from .text import text_of
from .tree import FileTree, inside, is_picture, some

_STEMS = ("classes", "class_names", "classnames", "labels", "label_names", "names", "categories")
_FILES = frozenset(
    (
        *(f"{stem}{ending}" for stem in _STEMS for ending in (".txt", ".names", ".json")),
        *("classes.csv", "class_names.csv", "signnames.csv", "cat_to_name.json", "label_map.json"),
        *("class_to_idx.json", "idx_to_class.json", "label_num_to_disease_map.json"),
    )
)
_MOST_BYTES = 4 << 20
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_NUMBERED = re.compile(r"(\d{1,9})(?:\s*[,;:\t]\s*|\s+)(\S.*)", re.ASCII)
_NUMBER_LAST = re.compile(r"(.*\S)(?:\s*[,;:\t]\s*|\s+)(\d{1,9})", re.ASCII)


class ClassNames(NamedTuple):
    """What a file says the numbers of classes are called."""

    source: str
    """What messages call the file."""
    names: Mapping[int, str]
    counted: bool
    """Whether the file has only names, in order, so that they may count from 0 or from 1."""


def may_name_classes(path: str) -> bool:
    """Whether a file is called as those that name classes are."""
    return path.rpartition("/")[2].lower() in _FILES


def read_class_names(tree: FileTree, path: str) -> ClassNames | None:
    """What a file says; None where it says something else."""
    if tree.size(path) > _MOST_BYTES:
        return None
    try:
        text, _ = text_of(tree.read(path), path)
        found = _of_json(text) if path.lower().endswith(".json") else _of_lines(text)
    except (CorruptDataError, ValueError, RecursionError):
        return None
    if found is None:
        return None
    names, counted = found
    distinct = set(names.values())
    usable = len(names) > 1 and len(distinct) == len(names) and all(distinct)
    if not usable or all(map(_WHOLE.fullmatch, distinct)) or any(map(is_picture, distinct)):
        return None
    return ClassNames(inside(tree, path), names, counted)


def renamed(classes: Sequence[str], known: ClassNames) -> tuple[tuple[str, ...], str]:
    """The classes under their names, and a remark; as they were where the names do not fit."""
    numbers = [int(name) for name in classes]
    names = known.names
    first = 0
    if known.counted and min(numbers) >= 1 and max(numbers) == len(names):
        first, names = 1, {number + 1: name for number, name in names.items()}
    nameless = [number for number in numbers if number not in names]
    if nameless:
        return tuple(classes), (
            f"{known.source} names {len(names):,} classes, but not {some(nameless, 3)}: not used."
        )
    counted = f", counted from {first}" if known.counted else ""
    shown = some([f"{number} is {names[number]}" for number in numbers], 3)
    return (
        tuple(names[number] for number in numbers),
        f"Classes are called as {known.source} says{counted}: {shown}.",
    )


def are_numbers(classes: Sequence[str]) -> bool:
    """Whether classes have numbers instead of names."""
    return all(map(_WHOLE.fullmatch, classes))


def _of_lines(text: str) -> tuple[dict[int, str], bool] | None:
    """Names by number, and whether they are only counted."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(is_picture(word) for line in lines for word in re.split(r"[\s,;]+", line)):
        return None
    for pattern, number, name in ((_NUMBERED, 1, 2), (_NUMBER_LAST, 2, 1)):
        for rows in (lines, lines[1:]):
            matches = [pattern.fullmatch(line) for line in rows]
            found = {int(match[number]): _plain(match[name]) for match in matches if match}
            if len(found) == len(rows) > 1:
                return found, False
    return {number: _plain(line) for number, line in enumerate(lines)}, True


def _plain(name: str) -> str:
    """A name without the quotes that a table puts around it."""
    cells = next(csv.reader([name]), [name])
    return cells[0].strip() if len(cells) == 1 else name.strip()


def _of_json(text: str) -> tuple[dict[int, str], bool] | None:
    document = json.loads(text)
    if isinstance(document, list) and all(isinstance(name, str) for name in document):
        return dict(enumerate(document)), True
    if not isinstance(document, dict):
        return None
    pairs = list(document.items())
    if all(_WHOLE.fullmatch(key) and isinstance(name, str) for key, name in pairs):
        return {int(key): name for key, name in pairs}, False
    if all(isinstance(number, int) and not isinstance(number, bool) for _, number in pairs):
        return {number: key for key, number in pairs}, False
    return None
