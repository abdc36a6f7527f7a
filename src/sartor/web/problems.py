"""What is wrong with a request: a status, a sentence about it and one about what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus


class Problem(Exception):  # noqa: N818  (the word of RFC 9457)
    """A request that gets no answer; every one has the same shape."""

    def __init__(
        self,
        status: HTTPStatus,
        error: str,
        hint: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        """
        Args:
            more: what stands in the document beside `error` and `hint`.
        """
        super().__init__(f"{error} {hint}")
        self.status = status
        self.error = error
        self.hint = hint
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    @property
    def document(self) -> dict[str, object]:
        """What the client is sent."""
        return {"error": self.error, "hint": self.hint, **self.more}


def bad_request(error: str, hint: str) -> Problem:
    """400: it is not what the interface describes."""
    return Problem(HTTPStatus.BAD_REQUEST, error, hint)


def too_large(error: str, hint: str) -> Problem:
    """413: the rest of it is not read, so the connection ends with the answer."""
    close = {"Connection": "close"}
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error, hint, headers=close)


def busy(error: str) -> Problem:
    """429: the same request may succeed in a second."""
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS, error, "Try again in a second.", headers={"Retry-After": "1"}
    )


def stopping() -> Problem:
    """503: the server takes no new work."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The server is stopping.",
        "Try again in a few seconds.",
        headers={"Retry-After": "5", "Connection": "close"},
    )
