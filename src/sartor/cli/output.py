"""What every verb prints and refuses in the same way."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import tables
from .progress import PlainProgress, progress_for_stderr
from .streams import say

if TYPE_CHECKING:
    from ..api import Run


@contextmanager
def progress_shown(quiet: bool) -> Iterator[PlainProgress | None]:
    """Progress on stderr, unless quiet; as bars in a terminal, else as lines."""
    progress = None if quiet else progress_for_stderr()
    try:
        yield progress
    finally:
        if progress:
            progress.close()


def print_run(run: Run, as_json: bool) -> int:
    """The figures of a training that has ended; returns the exit code."""
    if as_json:
        print_json(run.result())
    else:
        page = run.folder.report_path
        tables.print_result(run.result(), page if page.is_file() else None)
    return 0


def check_count(flag: str, count: int | None) -> None:
    """Refuse a count below 1.

    Raises:
        UsageError: with the flag's name.
    """
    if count is not None and count < 1:
        raise UsageError(f"{flag} must be at least 1, not {count}.", "Give a larger number.")


def note(text: str) -> None:
    """One line on stderr, where results do not go."""
    say(text)


def print_json(value: Any) -> None:
    """One JSON document on one line, on stdout."""
    print(json.dumps(_strict(value), allow_nan=False), flush=True)


def _strict(value: Any) -> Any:
    """The same with null for infinities and NaN, which JSON cannot express."""
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
