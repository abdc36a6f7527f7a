"""Labels as a column for each class, with a 1 in one of them: the lists of ISIC, for example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from ...errors import DataError
from ..settings import COLUMN_SETTINGS, SourceSettings
from .columns import KNOWN_COLUMNS, ONE_HOT, Table, known_columns, plain_name
from .tree import some

_TRUE = frozenset(("1", "1.0", "true"))
_FALSE = frozenset(("0", "0.0", "false", ""))
_FEWEST_CLASSES = 3
"""Where there is another column of zeros and ones beside those of the classes."""
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
    beside = () if odd is None else _beside_the_classes(columns, chosen)
    if odd is None or beside:
        labels = [
            next(table.column_name(one) for one in ones if one not in beside) for ones in chosen
        ]
        return _with_column(table, [one for one in columns if one not in beside], labels, beside)
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


def _beside_the_classes(columns: Sequence[int], chosen: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The one or two columns of zeros and ones that are no classes, such as the sex of a patient:
    without them each row has exactly one class. Empty where there are none, or several ways."""
    ones = np.zeros((len(chosen), len(columns)), bool)
    for row, marked in enumerate(chosen):
        ones[row, np.searchsorted(columns, marked)] = True
    totals = ones.sum(axis=1)
    for count in (1, 2):
        if len(columns) - count < _FEWEST_CLASSES:
            break
        found = [
            left_out
            for left_out in combinations(range(len(columns)), count)
            if (totals - ones[:, left_out].sum(axis=1) == 1).all()
        ]
        if found:
            return tuple(columns[one] for one in found[0]) if len(found) == 1 else ()
    return ()


def _with_column(
    table: Table, columns: Sequence[int], labels: Sequence[str], beside: Sequence[int]
) -> Table:
    """The table with these labels as a column, in place of those columns; `beside` are others with
    zeros and ones."""
    kept = [column for column in range(table.width) if column not in columns]
    assert table.header is not None
    names = some([table.column_name(column) for column in beside])
    remark = f"Read {len(columns)} columns as classes, but not {names}: a row may have both."
    return replace(
        table,
        remarks=(*table.remarks, remark) if beside else table.remarks,
        header=(*(table.header[column] for column in kept), ONE_HOT),
        rows=[
            (*(row[column] for column in kept), label)
            for row, label in zip(table.rows, labels, strict=True)
        ],
    )
