"""Connections of strangers: bounded in number, in time and in what they may leave unsaid.

uvicorn bounds none of these. All that is its own, and may change with its versions, is here.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .limits import Limits
from .problems import Problem

_CLOSE_SECONDS = 5.0
"""How long a client may take for the last it is sent."""
_IS_GONE = "sartor.is_gone"


def protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The class that uvicorn makes one of for each connection."""

    class Bounded(_Bounded):
        bounds = limits

    return Bounded


class _Bounded(HttpToolsProtocol):
    bounds: Limits
    _timer: asyncio.TimerHandle | None = None
    """Runs while something is awaited of the client: the rest of its headers."""
    _sending: asyncio.TimerHandle | None = None
    """Runs while it takes nothing of what it was sent."""
    _head_bytes = 0
    _in_head = True
    """Whether a request's headers are on their way, or awaited."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.bounds.connections:
            self._refuse(503, "Too many connections are open.", "Try again in a second.")
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel(self._timer)
        self._cancel(self._sending)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        if self._head_bytes > self.bounds.head_bytes:
            self._refuse(431, "The headers are too long.", "Send shorter ones.")
        elif self._timer is None:
            self._await_head()

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel(self._timer)
        self._timer = None
        super().on_headers_complete()
        # So that work is spared whose answer nobody will take.
        self.scope[_IS_GONE] = self.transport.is_closing  # type: ignore[literal-required]

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        self._refuse(400, "This is not a request of HTTP.", "Send one of HTTP/1.1.")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending = self.loop.call_later(self.bounds.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._cancel(self._sending)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # What a client does not take keeps a closed connection open.
        self.loop.call_later(_CLOSE_SECONDS, self.transport.abort)

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self.bounds.head_seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self._head_bytes or self.headers:
            self._refuse(
                408,
                f"The headers did not arrive within {self.bounds.head_seconds:g} seconds.",
                "Send them at once.",
            )
        else:
            self.transport.close()

    def _refuse(self, status: int, error: str, hint: str) -> None:
        """Answer without the application, and close."""
        if self.cycle is not None and not self.cycle.response_complete:
            # Another request's answer is on its way.
            self.transport.close()
            return
        kind = HTTPStatus(status)
        body = json.dumps(Problem(kind, error, hint).document).encode()
        retry = "retry-after: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {kind.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        self.loop.call_later(_CLOSE_SECONDS, self.transport.abort)

    @staticmethod
    def _cancel(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


def is_gone(scope: Any) -> Any:
    """A function that says whether the client of a request has hung up."""
    return scope.get(_IS_GONE, _never)


def _never() -> bool:
    return False
