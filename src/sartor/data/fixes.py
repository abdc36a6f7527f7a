"""Corrections of labels, as a person edits them: a table with a row per picture, over the data.

    file,given,suggested,reason,confidence
    cats/17.jpg,cats,dogs,"looks like dogs (0.97), unlike cats (0.01)",0.97
    cats/18.jpg,cats,exclude,blank,

The pictures and their labels stay as they are: `fit --fixes` reads the table beside them, and
without it they are what they were. `given` is the label in the data, so that a table that no longer
fits them is noticed. `suggested` is a class, or "exclude"; where it is the given label, somebody
looked and found it right. A name that a spreadsheet would take for a formula, or that would be
misread, stands in quotes, as in JSON.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..arrays import Int64Array
from ..errors import UsageError, unknown
from ..files import read_regular
from .pictures.exclude import nearest, spellings
from .roster import Changes, NewLabel

EXCLUDE = "exclude"
"""What stands under `suggested` for a picture that is to be left out."""
COLUMNS = ("file", "given", "suggested", "reason", "confidence")
_NEEDED = ("file", "given", "suggested")
_SHOWN = 5
_FORMULAS = ("=", "+", "-", "@", '"')


@dataclass(frozen=True, kw_only=True)
class Fix:
    """One row: what to do about one picture."""

    file: str
    """Path below the data's root; the image's number where there are no files."""
    given: str
    """The label in the data."""
    suggested: str
    """The class that it should have, or `EXCLUDE`."""
    reason: str = ""
    confidence: float | None = None
    """Of the suggestion, 0 to 1; None where nothing is known."""


def fixes_table(fixes: Iterable[Fix]) -> str:
    """The text of a table that `read_fixes` reads back to the same fixes."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for fix in fixes:
        words = (fix.file, fix.given, fix.suggested, " ".join(fix.reason.split()))
        confidence = "" if fix.confidence is None else f"{fix.confidence:.4g}"
        writer.writerow([*map(_cell, words), confidence])
    return stream.getvalue()


def read_fixes(path: Path) -> tuple[Fix, ...]:
    """The rows of a table, separated by commas, semicolons or tabs.

    Raises:
        UsageError: it cannot be read, or rows are damaged; with every problem at once.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"Cannot read the fixes {path}: {reason}.", "Check the path.") from None
    return parse_fixes(_decoded(content), str(path))


def parse_fixes(text: str, name: str) -> tuple[Fix, ...]:
    """The rows of a table's text; `name` is what messages call it.

    Raises:
        As `read_fixes`.
    """
    head = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    fixes: list[Fix] = []
    problems: list[str] = []
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        missing = [column for column in _NEEDED if column not in columns]
        if missing:
            raise UsageError(
                f"{name} has no column {', '.join(missing)}.",
                f"The first line names the columns: {','.join(COLUMNS)}.",
            )
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            try:
                fixes.append(_fix(columns, row))
            except ValueError as error:
                problems.append(f"line {reader.line_num}: {error}")
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
    _refuse(problems, name, "Correct these lines, or delete them.")
    return tuple(fixes)


def changes(
    fixes: Iterable[Fix],
    names: Sequence[str],
    labels: Int64Array,
    classes: Sequence[str],
    *,
    root: str = "",
    name: str = "The fixes",
) -> Changes:
    """What the fixes mean for these pictures. A fix that suggests the given label changes nothing.

    Args:
        names: of the pictures, as `Fix.file` says them.
        labels: as given in the data, int64 (N,), each an index into `classes`.
        root: folder in which the names lie; a fix may name a path into it.
        name: what messages call the table.

    Raises:
        UsageError: with every row that fits no picture, whose given label is another one, or that
            suggests no class; and rows that contradict each other.
    """
    places = {one: index for index, one in enumerate(names)}
    numbers = {one: number for number, one in enumerate(classes)}
    found: dict[int, Fix] = {}
    problems: list[str] = []
    for fix in fixes:
        index = next((places[one] for one in spellings(fix.file, root) if one in places), None)
        if index is None:
            problems.append(f"no picture {nearest(fix.file, names)}")
            continue
        problem = _contradiction(fix, classes[labels[index]], classes, found.get(index))
        if problem:
            problems.append(f"{fix.file}: {problem}")
        else:
            found.setdefault(index, fix)
    _refuse(problems, name, "Correct these rows, or delete them.")
    return Changes(
        excluded={i: fix.reason for i, fix in found.items() if fix.suggested == EXCLUDE},
        labels={
            index: NewLabel(numbers[fix.suggested], fix.reason)
            for index, fix in found.items()
            if fix.suggested not in (EXCLUDE, fix.given)
        },
    )


def _contradiction(fix: Fix, given: str, classes: Sequence[str], before: Fix | None) -> str:
    """What is wrong with a row for a picture that is labelled `given`; "" where nothing is."""
    if fix.given != given:
        return f'given is "{fix.given}", but the data says "{given}"'
    if fix.suggested == EXCLUDE and EXCLUDE in classes:
        return f'"{EXCLUDE}" is also a class, so it is not clear what is meant; use --exclude'
    if fix.suggested != EXCLUDE and fix.suggested not in classes:
        return unknown("class", fix.suggested, [*classes, EXCLUDE])
    if before is not None and before.suggested != fix.suggested:
        return f'one row suggests "{before.suggested}", another "{fix.suggested}"'
    return ""


def _decoded(content: bytes) -> str:
    """Text as editors and spreadsheets save it."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Names that are not UTF-8 stand in quotes, so that these bytes come from a spreadsheet.
        return content.decode("cp1252", "replace")


def _fix(columns: Sequence[str], row: Sequence[str]) -> Fix:
    """One row.

    Raises:
        ValueError: a cell is missing, damaged or one too many.
    """
    if any(cell.strip() for cell in row[len(columns) :]):
        raise ValueError(f"{len(row)} cells for {len(columns)} columns; quote text with commas")
    cells = dict(zip(columns, row, strict=False))
    for column in _NEEDED:
        if not cells.get(column, "").strip():
            raise ValueError(f"{column} is empty")
    return Fix(
        file=_plain(cells["file"]),
        given=_plain(cells["given"]),
        suggested=_plain(cells["suggested"]),
        reason=_reason(cells.get("reason", "")),
        confidence=_confidence(cells.get("confidence", "")),
    )


def _confidence(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        # Spreadsheets write 0,97 in many countries.
        value = float(text.strip().replace(",", "."))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f'the confidence "{text.strip()}" is not a number from 0 to 1')
    return value


def _cell(text: str) -> str:
    strange = text != text.strip() or text.startswith(_FORMULAS) or not text.isprintable()
    return json.dumps(text) if strange else text


def _plain(text: str) -> str:
    text = text.strip()
    if not text.startswith('"'):
        return text
    try:
        plain = json.loads(text)
    except ValueError:
        plain = None
    if not isinstance(plain, str):
        raise ValueError(f"the text {text} is damaged")
    return plain


def _reason(text: str) -> str:
    """As written: what a person says needs no form."""
    try:
        return _plain(text)
    except ValueError:
        return text.strip()


def _refuse(problems: Sequence[str], name: str, hint: str) -> None:
    if not problems:
        return
    shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
    rows = "row does" if len(problems) == 1 else "rows do"
    raise UsageError(f"{name}: {len(problems):,} {rows} not fit.{shown}{more}", hint)
