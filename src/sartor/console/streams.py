"""Streams whose reader may vanish: a closed terminal or pipe must not end what is at work."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO, cast

from ..wording import message

_NOBODY_READS = (errno.EIO, errno.EPIPE, errno.EBADF, errno.ENXIO)


class Unfailing:
    """A text stream; what it cannot write goes nowhere, and nobody hears of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As `TextIO.write`."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            _forget_if_vanished(self._stream, error)
            return len(text)

    def flush(self) -> None:
        """As `TextIO.flush`."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            _forget_if_vanished(self._stream, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Plain:
    """A text stream for what is printed, a line at a time: text from outside is shown as
    `wording.message` shows it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """As `TextIO.write`."""
        self.stream.write(message(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def plain_stdout() -> Iterator[None]:
    """Inside, all that is printed goes through `Plain`."""
    before = sys.stdout
    sys.stdout = cast(TextIO, Plain(before))
    try:
        yield
    finally:
        sys.stdout = before


def print_text(text: str) -> None:
    """Print text of several lines, in which names are escaped already."""
    for line in text.split("\n"):
        sys.stdout.write(line)
        sys.stdout.write("\n")


def say(text: str) -> None:
    """One line on stderr, where results do not go; nothing where nobody reads it any more."""
    stream = Unfailing(sys.stderr)
    stream.write(f"{message(text)}\n")
    stream.flush()


def has_vanished(error: OSError) -> bool:
    """Whether an error of a write to stdout says that nobody reads it any more."""
    return error.filename is None and error.errno in _NOBODY_READS


def forget(stream: IO[str]) -> None:
    """Let what is still buffered, and all that follows, go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _forget_if_vanished(stream: TextIO, error: OSError | ValueError) -> None:
    # A full disk may have room again, but a terminal does not come back.
    if isinstance(error, OSError) and has_vanished(error):
        forget(stream)
