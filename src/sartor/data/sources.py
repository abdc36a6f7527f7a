"""From what a user names to a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import UsageError, unknown
from .catalogue import NAMES, load_named
from .dataset import Dataset
from .idx import load_idx_folder


def open_source(source: str, *, note: Callable[[str], None] | None = None) -> Dataset:
    """The dataset that a name or a path stands for.

    Raises:
        UsageError: no named set and no folder; with the nearest name.
        DataError: it cannot be had, or cannot be read.
    """
    if source in NAMES:
        return load_named(source, note=note)
    if Path(source).is_dir():
        return load_idx_folder(Path(source))
    sentence = unknown("set", source, NAMES)
    raise UsageError(
        sentence[0].upper() + sentence[1:], "Or give the path of a folder of IDX files."
    )
