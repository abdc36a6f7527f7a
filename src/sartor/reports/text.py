"""Text graphics for terminals."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ..errors import DataError

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_NARROWEST = 20


def text_histogram(
    counts: Sequence[int], classes: Sequence[str], width: int = 80, *, ascii_only: bool = False
) -> str:
    """One line per class: its name, its number of images, and a bar; lines joined by newlines.

    No line takes more than `width` columns (at least 20). A class with any image has a bar.
    With `ascii_only`, bars are made of "#", and letters outside ASCII become "?".

    Raises:
        DataError: there is not one count for each class.
    """
    if not classes or len(counts) != len(classes):
        raise DataError(
            f"{len(counts)} counts cannot be drawn for {len(classes)} classes.",
            "Give one count per class.",
        )
    width = max(width, _NARROWEST)
    names = [fitted(name, width // 3, ascii_only) for name in classes]
    numbers = [f"{count:,}" for count in counts]
    name_columns = max(map(_columns, names))
    number_columns = max(map(len, numbers))
    bar_columns = max(width - name_columns - number_columns - 3, 1)
    highest = max(*counts, 1)
    return "\n".join(
        f"{name}{' ' * (name_columns - _columns(name))}  {number:>{number_columns}} "
        f"{_bar(count / highest, bar_columns, ascii_only)}".rstrip()
        for name, number, count in zip(names, numbers, counts, strict=True)
    )


def _bar(share: float, columns: int, ascii_only: bool) -> str:
    if ascii_only:
        return "#" * _at_least_one(share, columns)
    whole, eighths = divmod(_at_least_one(share, columns * 8), 8)
    return ("█" * whole + _EIGHTHS[eighths]).rstrip()


def _at_least_one(share: float, units: int) -> int:
    return max(round(share * units), 1) if share > 0 else 0


def fitted(name: str, columns: int, ascii_only: bool = False) -> str:
    """`name` in at most `columns`, shortened at its end; nothing in it can steer the terminal."""
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    if ascii_only:
        name = name.encode("ascii", "replace").decode()
    if _columns(name) <= columns:
        return name
    mark = "..." if ascii_only else "…"
    while _columns(name + mark) > columns:
        name = name[:-1]
    return name + mark


def _columns(text: str) -> int:
    """Columns of a terminal: East Asian letters take two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)
