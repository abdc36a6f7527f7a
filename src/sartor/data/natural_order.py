"""The order in which people sort names with numbers in them."""

from __future__ import annotations

import re
from pathlib import Path


def natural_key(path: Path | str) -> tuple[list[tuple[int, int | str]], str]:
    """Sort key under which img2 comes before img10, and img1 always on the same side of img01."""
    pieces = re.split(r"(\d+)", str(path))
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in pieces], str(path)


def sort_naturally(names: list[str]) -> None:
    """Sort a list of a million names in place by `natural_key`, in a fifth of the memory.

    No name holds a NUL, which no file system allows.
    """
    names.sort()
    names.sort(key=_compact_key)


def _compact_key(name: str) -> str:
    """A text that sorts as the first part of `natural_key`: of a number, its length comes first."""
    return _NUMBER.sub(_number, name)


_NUMBER = re.compile(r"\d+")


def _number(found: re.Match[str]) -> str:
    digits = str(int(found[0]))
    return f"\0{chr(len(digits))}{digits}"
