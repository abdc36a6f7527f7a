"""Labels as a column for each class, with a 1 in one of them: the lists of ISIC, for example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import DataError
from ..settings import COLUMN_SETTINGS, SourceSettings
from .columns import KNOWN_COLUMNS, ONE_HOT, Table, known_columns, plain_name
from .tree import some

_TRUE = frozenset(("1", "1.0", "true"))
_FALSE = frozenset(("0", "0.0", "false", ""))
_OTHERS = KNOWN_COLUMNS["image_column"] + KNOWN_COLUMNS["group_column"]


def with_one_label(table: Table, settings: SourceSettings) -> Table:
    """The table with one column for the label, where it has one for each class; else as it is.

    Raises:
        DataError: a row has several classes, or none.
    """
    if settings.label_column is not None or known_columns(table.header or (), "label_column"):
        return table
    given = {getattr(settings, setting) for setting in COLUMN_SETTINGS}
    columns = [
        column
        for column, name in enumerate(table.header or ())
        if name not in given and plain_name(name) not in _OTHERS and _is_flag(table, column)
    ]
    free = table.width - len(columns) - 1
    if len(columns) < (3 if free > 0 else 2):
        return table
    chosen = [[column for column in columns if _is_true(row[column])] for row in table.rows]
    odd = next((number for number, ones in enumerate(chosen) if len(ones) != 1), None)
    if odd is None:
        labels = [table.column_name(ones[0]) for ones in chosen]
        return _with_column(table, columns, labels)
    if free > 0 and not all(len(ones) < 2 for ones in chosen):
        # Yes and no of other things, perhaps; the label is among the other columns.
        return table
    names = [table.column_name(column) for column in chosen[odd]]
    raise DataError(
        f"Line {table.lines[odd]:,} of {table.source} has "
        f"{f'several classes: {some(names)}' if names else 'no class: only zeros'}.",
        "Here each picture belongs to one class: leave such rows out, or name a single column by "
        "--label-column.",
    )


def _is_flag(table: Table, column: int) -> bool:
    return all(row[column].strip().casefold() in _TRUE | _FALSE for row in table.rows)


def _is_true(cell: str) -> bool:
    return cell.strip().casefold() in _TRUE


def _with_column(table: Table, columns: Sequence[int], labels: Sequence[str]) -> Table:
    """The table with these labels as a column, in place of those columns."""
    kept = [column for column in range(table.width) if column not in columns]
    assert table.header is not None
    return replace(
        table,
        header=(*(table.header[column] for column in kept), ONE_HOT),
        rows=[
            (*(row[column] for column in kept), label)
            for row, label in zip(table.rows, labels, strict=True)
        ],
    )
