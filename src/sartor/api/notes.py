"""What the verbs say besides their results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

from ..errors import SartorWarning
from ..events import Event, Note

Sink = Callable[[Event], None]
"""Called with every event of a training."""


def noting(on_event: Sink | None) -> Callable[[str], None]:
    return lambda text: tell(on_event, text)


def tell(on_event: Sink | None, text: str) -> None:
    if on_event is not None:
        on_event(Note(text))


def warn(texts: Iterable[str]) -> None:
    for text in texts:
        warnings.warn(text, SartorWarning, stacklevel=3)
