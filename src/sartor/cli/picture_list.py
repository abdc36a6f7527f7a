"""Lists of pictures on stdin, for the verbs that take any number of them."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .output import note

if TYPE_CHECKING:
    from ..data.unlabelled import NameList

LIST = "-"
_SECONDS_BETWEEN_LOOKS = 0.2


class Named:
    """The pictures that are named on the command line; some may be names in the list on stdin."""

    def __init__(self, pictures: tuple[str, ...], stopped: Callable[[], bool]) -> None:
        """
        Raises:
            UsageError: the list is named twice.
        """
        if pictures.count(LIST) > 1:
            raise UsageError("The list on stdin can be read only once.", "Give one - only.")
        self._pictures, self._stopped = pictures, stopped
        self._list: NameList | None = None

    @property
    def pictures(self) -> Any:
        """A sequence, which can be counted; with a list on stdin, an iterator that reads it."""
        return self._with_list() if LIST in self._pictures else self._pictures

    def idle(self) -> bool:
        """Whether whoever writes the list is still to write the next name."""
        if self._list is None or self._list.at_hand or sys.platform == "win32":
            return False
        return not select.select([sys.stdin.buffer], [], [], 0)[0]

    def _with_list(self) -> Iterator[str]:
        from ..data.unlabelled import NameList

        for one in self._pictures:
            if one != LIST:
                yield one
                continue
            if sys.stdin is None or sys.stdin.closed:
                raise UsageError(
                    "There is no list on stdin.", "Pipe one in: find DIR | sartor ... -"
                )
            if sys.stdin.isatty():
                note("Reading a list of pictures, one per line; Ctrl-D ends it.")
            self._list = NameList(sys.stdin.buffer, ready=lambda: _input_or_stop(self._stopped))
            yield from self._list
            self._list = None


def _input_or_stop(stopped: Callable[[], bool]) -> bool:
    """Wait until stdin can be read; False where somebody asked to stop before."""
    if sys.platform == "win32":
        return not stopped()
    while not stopped():
        if select.select([sys.stdin.buffer], [], [], _SECONDS_BETWEEN_LOOKS)[0]:
            return True
    return False
