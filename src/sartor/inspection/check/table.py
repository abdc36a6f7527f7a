"""Every check that has a name. Reading the table imports neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ...errors import UsageError, unknown


class Entry(NamedTuple):
    """One row of the table."""

    function: str
    """module:function, which takes a `Subject` and gives findings."""
    looks_for: str
    """One line for those who choose."""
    fast: bool
    """Whether `fit` runs it before the first step."""


CHECKS: Mapping[str, Entry] = {
    "files": Entry("files:find", "unreadable, truncated, empty and misnamed files", True),
    "formats": Entry("formats:find", "rotated, 16-bit, transparent and animated images", True),
    "geometry": Entry("geometry:find", "what letterboxing, cropping or enlarging loses", True),
    "classes": Entry("classes:find", "class sizes and names, small splits", True),
    "groups": Entry("groups:find", "groups on both sides of a split", True),
    "duplicates": Entry(
        "duplicates:find", "identical images, their labels, leakage between splits", True
    ),
    "near-duplicates": Entry(
        "near_duplicates:find", "nearly identical images, also mirrored", False
    ),
    "appearance": Entry(
        "appearance:find", "blank, very dark, very bright and blurred images", False
    ),
    "outliers": Entry(
        "outliers:find", "images unlike their class, by a pretrained backbone", False
    ),
    "shortcuts": Entry("shortcuts:find", "size, format or colour that reveals the class", False),
    "labels": Entry("labels:find", "probable label errors, by confident learning", False),
    "baselines": Entry("simple_methods:find", "what simple methods reach", False),
}
FAST = tuple(name for name, entry in CHECKS.items() if entry.fast)


def chosen(
    only: Iterable[str] = (), skip: Iterable[str] = (), *, fast: bool = False
) -> tuple[str, ...]:
    """The checks to run, in the order of the table.

    Raises:
        UsageError: an unknown name, or nothing is left.
    """
    only, skip = tuple(only), tuple(skip)
    for name in (*only, *skip):
        if name not in CHECKS:
            sentence = unknown("check", name, CHECKS)
            raise UsageError(sentence[0].upper() + sentence[1:] + ".", "Correct --only or --skip.")
    wanted = only or tuple(FAST if fast else CHECKS)
    names = tuple(name for name in CHECKS if name in wanted and name not in skip)
    if not names:
        raise UsageError("No checks are left to run.", "List fewer in --skip.")
    return names
