"""Notes and warnings that the verbs give besides their results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

from ..errors import SartorWarning
from ..events import Event, Note

Sink = Callable[[Event], None]
"""Called with every event of a training."""


def noting(on_event: Sink | None) -> Callable[[str], None]:
    """A function that passes each text on as a note."""
    return lambda text: note(on_event, text)


def note(on_event: Sink | None, text: str) -> None:
    """Pass a text on as a note, if somebody listens."""
    if on_event is not None:
        on_event(Note(text))


def warn(texts: Iterable[str]) -> None:
    for text in texts:
        warnings.warn(text, SartorWarning, stacklevel=3)
