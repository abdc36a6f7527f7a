"""Whether the progress of a training is shown where a program calls for one, and how."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..events import Event
from .progress import PlainProgress, progress_for_stderr

Sink = Callable[[Event], None]
"""Called with every event."""


class NotebookProgress(PlainProgress):
    """One line an epoch below the cell, where output of any kind belongs."""

    def line(self, text: str) -> None:
        """Print one line."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@contextmanager
def shown(progress: bool | None, on_event: Sink | None) -> Iterator[Sink | None]:
    """The sink for the events of a training: who listens, and the progress that is shown.

    Args:
        progress: show it or not; None to show it in a terminal or a notebook, where nobody else
            listens.
    """
    wanted = (on_event is None and _somebody_looks()) if progress is None else progress
    if not wanted:
        yield on_event
        return
    display = NotebookProgress() if _in_notebook() else progress_for_stderr()

    def both(event: Event) -> None:
        display(event)
        if on_event is not None:
            on_event(event)

    try:
        yield both
    finally:
        display.close()


def _somebody_looks() -> bool:
    return _in_notebook() or sys.stderr.isatty()


def _in_notebook() -> bool:
    """Whether this runs in a kernel of Jupyter; IPython in a terminal is a terminal."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and hasattr(shell, "kernel")
