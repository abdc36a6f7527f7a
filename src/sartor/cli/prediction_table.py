"""Predictions on a terminal: a table of at most 80 columns, printed as its rows come in."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from ..inference.answers import Prediction, Row, Unreadable
from ..inference.calibration import Calibration
from ..wording import one_line
from .tables import percent, print_line

_ROWS_MEASURED = 256
"""As many rows decide how wide the columns are."""
_COLUMNS = 80
_NAME = 26
_GAP = "   "
_MISSING = "error"
_UNKNOWN = "unknown"
_MOST_OF_SET = 3
"""Classes of a set that are named beside the label."""


class PredictionTable:
    """One line per picture, with what else it might be where that fits; else a line for each.

    What it might be are the other classes of its set, or so many classes as are asked for; and that
    it is unknown.
    """

    def __init__(self, topk: int | None, shown: str, calibration: Calibration) -> None:
        """With `topk` classes; `shown` says what the numbers are: a probability, or a score."""
        self._sets = topk is None and calibration.set_threshold is not None
        self._sets = self._sets and not calibration.every_class
        self._topk = topk or 3
        self._shown = shown
        self._head = "next" if self._topk > 1 else ""
        if self._sets:
            self._head = f"or, at {percent(calibration.coverage or 1)}"
        self._may_be_unknown = calibration.novelty_threshold is not None
        self._waiting: list[Row] = []
        self._widths: tuple[int, int] | None = None
        self._beside = False

    def add(self, rows: Sequence[Row]) -> None:
        """Print some more rows, once the widths are known."""
        self._waiting += rows
        if self._widths is None and len(self._waiting) < _ROWS_MEASURED:
            return
        self._print()

    def flush(self) -> None:
        """Print what there is, since more will take a while."""
        if self._widths or any(isinstance(row, Prediction) for row in self._waiting):
            self._print(more=True)
            sys.stdout.flush()

    def end(self) -> None:
        """Print what is left; nothing where no picture has a prediction."""
        if self._widths or any(isinstance(row, Prediction) for row in self._waiting):
            self._print()

    def _print(self, *, more: bool = False) -> None:
        if self._widths is None:
            self._measure(more)
        for row in self._waiting:
            self._print_row(row)
        self._waiting = []

    def _measure(self, more: bool) -> None:
        """How wide columns are; where `more` rows will come, wide enough for any class."""
        found = [row for row in self._waiting if isinstance(row, Prediction)]
        names = [min(_NAME, cell_len(one_line(row.file))) for row in self._waiting]
        name = max(len("picture"), *names, *[_NAME] * more)
        most = _COLUMNS - name - len(self._shown) - 2 * len(_GAP)
        labels = list(found[0].probabilities) if more else [row.label for row in found]
        label = min(most, max(len("label"), *(cell_len(one_line(one)) for one in labels), 0))
        self._widths = name, label
        others = max((cell_len(self._beside_label(row)) for row in found), default=0)
        if self._sets or self._may_be_unknown:
            others = max(others, len(self._head))
        used = name + label + len(self._shown) + 3 * len(_GAP)
        self._beside = others > 0 and used + others <= _COLUMNS
        heads = ["picture".ljust(name), "label".ljust(label), self._shown]
        heads += [self._head] if self._beside and self._head else []
        print_line(_GAP.join(heads), bold=True)
        print_line("─" * min(_COLUMNS, used - len(_GAP) + (len(_GAP) + others) * self._beside))

    def _others(self, row: Prediction) -> list[tuple[str, float]]:
        """Other classes than the label, with their probabilities."""
        if self._sets and row.set is not None:
            first = 0 if row.abstained else 1
            return [(label, row.probabilities[label]) for label in row.set[first:][:_MOST_OF_SET]]
        return row.top(self._topk)[0 if row.abstained else 1 :]

    def _beside_label(self, row: Prediction) -> str:
        others = self._others(row)
        text = ", ".join(f"{one_line(label)} {p:.1%}" for label, p in others)
        if self._sets and row.set is not None:
            left = len(row.set) - len(others) - (not row.abstained)
            text += f", {left} more" if left > 0 else ""
        return ", ".join(part for part in (_UNKNOWN if row.unknown else "", text) if part)

    def _print_row(self, row: Row) -> None:
        assert self._widths
        name, label = self._widths
        first = set_cell_size(_end(one_line(row.file), name), name)
        if isinstance(row, Unreadable):
            reason = row.error.removeprefix(f"Cannot read {row.file}:").removeprefix(row.file)
            reason = one_line(reason.strip().rstrip("."))
            print_line(_cut(f"{first}{_GAP}{_MISSING}: {reason}", _COLUMNS))
            return
        told = self._label("none" if row.abstained else row.label, label)
        number = " " * len(self._shown) if row.abstained else self._number(row.probability)
        line = [first, told, number, *([self._beside_label(row)] if self._beside else ())]
        print_line(_cut(_GAP.join(line), _COLUMNS).rstrip())
        if row.unknown and not self._beside:
            print_line(f"{' ' * name}{_GAP}{_UNKNOWN}")
        for other, probability in () if self._beside else self._others(row):
            line = [" " * name, self._label(other, label), self._number(probability)]
            print_line(_GAP.join(line))

    def _label(self, text: str, columns: int) -> str:
        return set_cell_size(_cut(one_line(text), columns), columns)

    def _number(self, probability: float) -> str:
        return f"{probability:.1%}".rjust(len(self._shown))


def _cut(text: str, columns: int) -> str:
    """The beginning of a text that is too wide; some signs are two columns wide."""
    return text if cell_len(text) <= columns else f"{set_cell_size(text, columns - 1).rstrip()}…"


def _end(text: str, columns: int) -> str:
    """The end of a text that is too wide: what tells paths apart."""
    if cell_len(text) <= columns:
        return text
    while cell_len(text) > columns - 1:
        text = text[1:]
    return f"…{text}"
