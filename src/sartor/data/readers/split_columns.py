"""Which column of a table divides the pictures, and what its words mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote
from typing import NamedTuple

from ...errors import UsageError
from ..settings import SourceSettings
from .labels import SPLIT_WORDS, SPLITS, split_of
from .tree import some

SPLIT_NAMES = (
    *("split", "usage", "ml_use", "subset", "data_set", "dataset", "set", "partition", "phase"),
    *("data_split", "dataset_split", "train_val_test", "train_test_split", "train_test", "fold"),
)
"""What columns are called that divide pictures; see `columns.plain_name`."""
_OPEN_WORDS = frozenset(("unassigned",))
"""Words by which a row leaves to others which split it belongs to, as AutoML's lists have it."""
_FLAG = re.compile(r"(is_)?(train(ing)?|test(ing)?|val(id|idation)?)(_(image|set|flag))*")
_MOST_WORDS = 12


class SplitColumn(NamedTuple):
    """The column that divides the pictures, if there is one, and what to say of it."""

    column: int | None
    remarks: tuple[str, ...] = ()


def mapped_words(settings: SourceSettings) -> dict[str, str]:
    """The split that each word means, by its spelling in lower case.

    Raises:
        UsageError: --split-words says something that is not a split.
    """
    words = dict(SPLIT_WORDS)
    for pair in settings.split_words:
        word, _, part = pair.rpartition("=")
        if not word or part not in SPLITS:
            raise UsageError(
                f'--split-words takes WORD=PART, and a part is train, val or test, not "{pair}".',
                "Such as: --split-words dev=val eval=test",
            )
        words[word.strip().casefold()] = part
    return words


def splits_of_cells(cells: Iterable[str], words: Mapping[str, str]) -> list[str | None]:
    """The split of each cell; None where it says none, or leaves it open."""
    return [words.get(cell.strip().casefold()) for cell in cells]


def unknown_words(cells: Iterable[str], words: Mapping[str, str]) -> list[str]:
    """The different words that mean no split, as they are written."""
    distinct = dict.fromkeys(cell.strip() for cell in cells)
    known = words.keys() | _OPEN_WORDS
    return [word for word in distinct if word.casefold() not in known]


def find_split_column(
    names: Sequence[str], columns: Mapping[int, Sequence[str]], words: Mapping[str, str]
) -> SplitColumn:
    """The one of these columns that says train, val or test, by its name or its content.

    Args:
        names: what each column of the table is called, in plain form; "" without a header.
        columns: the cells of those that may be it.
    """
    named = [c for c, cells in columns.items() if names[c] in SPLIT_NAMES and _means(cells, words)]
    dividing = [column for column, cells in columns.items() if divides(cells, words)]
    for found in (named, dividing):
        if len(found) == 1:
            return SplitColumn(found[0])
    remarks = [
        _advice(names[column], cells, words)
        for column, cells in columns.items()
        if _seems_to_divide(names[column], cells, words)
    ]
    if len(dividing) > 1:
        listed = some(names[column] or f"column {column + 1}" for column in dividing)
        remarks.append(
            f"Several columns say train, val or test ({listed}): none is used; "
            "--split-column names one."
        )
    return SplitColumn(None, tuple(remarks))


def _means(cells: Sequence[str], words: Mapping[str, str]) -> bool:
    """Whether all cells are words for splits."""
    return not unknown_words(cells, words) and any(splits_of_cells(cells, words))


def divides(cells: Sequence[str], words: Mapping[str, str]) -> bool:
    """Whether they say train, and something else besides, so that it cannot be a matter of luck."""
    splits = set(splits_of_cells(cells, words)) if _means(cells, words) else set()
    return "train" in splits and len(splits) > 1


def _seems_to_divide(name: str, cells: Sequence[str], words: Mapping[str, str]) -> bool:
    """Whether a column is called, or partly filled, as one that divides pictures."""
    distinct = {cell.strip().casefold() for cell in cells}
    if len(distinct) > _MOST_WORDS or not unknown_words(cells, words):
        return False
    if name == "split" or _FLAG.fullmatch(name) or any(map(split_of, distinct)):
        return True
    return name in SPLIT_NAMES and len(distinct) < len(cells)


def _advice(name: str, cells: Sequence[str], words: Mapping[str, str]) -> str:
    odd = unknown_words(cells, words)
    mapping = " ".join(f"{quote(word or 'WORD')}=PART" for word in odd[:3])
    return (
        f"The column {name} says other words than train, val, test: not used. If {some(odd, 3)} "
        f"mean splits: --split-column {quote(name)} --split-words {mapping}, where a PART is one "
        "of them."
    )
