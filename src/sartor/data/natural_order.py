"""The order in which people sort names with numbers in them."""

from __future__ import annotations

import re
from pathlib import Path


def natural_key(path: Path | str) -> tuple[list[tuple[int, int | str]], str]:
    """Sort key under which img2 comes before img10, and img1 always on the same side of img01."""
    pieces = re.split(r"(\d+)", str(path))
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in pieces], str(path)
