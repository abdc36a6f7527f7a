"""How much of a source may be unreadable: that is named and left out, and more stops."""

from __future__ import annotations

import math


def tolerable(bad: int, count: int, most: float) -> bool:
    """Whether so many of `count` may be left out, where at most the share `most` may."""
    return bad <= most * count and bad < count


def percent(most: float) -> str:
    """The share that may be left out, in words: "1 %"."""
    return f"{100 * most:.3g} %"


def flag_for(bad: int, count: int) -> str:
    """The flag with which so many are left out."""
    return f"--max-unreadable {math.ceil(1000 * bad / count) / 1000:g}"
