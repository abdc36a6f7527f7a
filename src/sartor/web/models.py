"""The classifiers of a server by their names, and how one takes the place of another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus

from ..api.serving import Servable
from ..errors import SartorError, unknown
from .limits import Limits
from .problems import Problem
from .work import Live

Open = Callable[[Servable], Servable]
"""Reads a classifier again from where it was read from."""


class Models:
    """Those that answer now; used in the loop's thread only."""

    def __init__(self, servables: Sequence[Servable], limits: Limits, reopen: Open) -> None:
        """The first of them answers where no name is given."""
        self._limits = limits
        self._reopen = reopen
        self._live = {one.name: Live.of(one, limits) for one in servables}
        self._reloading: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the first, then the others."""
        return tuple(self._live)

    def find(self, name: str | None) -> Live:
        """The one of a name, or the first.

        Raises:
            Problem: 404, there is none.
        """
        if name is None:
            return self._live[self.names[0]]
        if name not in self._live:
            sentence = unknown("model", name[:100], self.names)
            raise Problem(
                HTTPStatus.NOT_FOUND,
                f"{sentence[0].upper()}{sentence[1:]}",
                "GET /v1/models lists all.",
            )
        return self._live[name]

    async def reload(self, name: str) -> Live:
        """Read it again, and once it has proved itself let it answer in the old one's place.

        Requests that were taken before are answered by the old one.

        Raises:
            Problem: 404, 409: it is being read already, or is not fit; then the old one stays.
        """
        before = self.find(name)
        if name in self._reloading:
            raise Problem(
                HTTPStatus.CONFLICT, f"{name} is being read already.", "Wait until it is."
            )
        self._reloading.add(name)
        try:
            fresh = await asyncio.to_thread(self._opened, before)
        except SartorError as error:
            raise Problem(
                HTTPStatus.CONFLICT,
                f"{name} stays as it was: {error.message}",
                error.hint or "Put a whole one in its place, then ask again.",
            ) from error
        finally:
            self._reloading.discard(name)
        self._live[name] = fresh
        return fresh

    def _opened(self, before: Live) -> Live:
        return Live.of(self._reopen(before.servable), self._limits)
