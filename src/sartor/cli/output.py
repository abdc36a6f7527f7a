"""What every verb prints and refuses in the same way."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..console.progress import PlainProgress, progress_for_stderr
from ..console.streams import say
from ..errors import UsageError
from ..files import json_line
from . import tables

if TYPE_CHECKING:
    from ..api import Run


@contextmanager
def progress_shown(quiet: bool, *, verbose: bool = False) -> Iterator[PlainProgress | None]:
    """Progress on stderr, unless quiet; as bars in a terminal, else as lines."""
    progress = None if quiet else progress_for_stderr(verbose=verbose)
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
        written = page if page.is_file() else None
        tables.print_result(run.result(), written, _following(run, reported=bool(written)))
    return 0


def _following(run: Run, *, reported: bool) -> str | None:
    """What to type next: choices are made on validation, so the test split comes only without."""
    parts, path = run.split(), shlex.quote(str(run.path))
    if reported:
        return f"sartor predict {path} PICTURE"
    if len(parts.val):
        return f"sartor report {path} --split val"
    return f"sartor evaluate {path}" if len(parts.test) else None


def check_count(flag: str, count: int | None) -> None:
    """Refuse a count below 1.

    Raises:
        UsageError: with the flag's name.
    """
    if count is not None and count < 1:
        raise UsageError(f"{flag} must be at least 1, not {count}.", "Give a larger number.")


def refuse_for_bundle(bundle: str, given: Mapping[str, bool]) -> None:
    """Refuse flags that mean something for runs only.

    Args:
        given: whether each flag was given.

    Raises:
        UsageError: one was.
    """
    for flag, is_given in given.items():
        if is_given:
            raise UsageError(
                f"{flag} means nothing for the bundle {bundle}.", "Leave it out, or name a run."
            )


def note(text: str) -> None:
    """One line on stderr, where results do not go."""
    say(text)


def print_json(value: Any) -> None:
    """One JSON document on one line, on stdout."""
    print(json_line(value), flush=True)
