"""Which epoch of a history is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def best_row(history: Sequence[Row], monitor: str) -> Row | None:
    """The epoch whose weights are kept as the best; None where no figure was validated.

    Decided as in training: by the monitored figure, and among equal ones by the validation loss.
    """
    best: Row | None = None
    for row in history:
        if _number(row, monitor) is not None and (best is None or _is_better(row, best, monitor)):
            best = row
    return best


def _is_better(row: Row, best: Row, monitor: str) -> bool:
    value, highest = row[monitor], best[monitor]
    if value != highest:
        return bool(value < highest) if monitor == "val_loss" else bool(value > highest)
    loss, lowest = _number(row, "val_loss"), _number(best, "val_loss")
    return loss is not None and (lowest is None or loss < lowest)


def _number(row: Row, name: str) -> float | None:
    """A figure of a row that may have been written by anything."""
    value = row.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]
