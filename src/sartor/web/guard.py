"""Who may ask: a token where one is set, and no page of another site through a browser."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from .problems import Problem
from .reading import Headers

WITHOUT_TOKEN = ("/health", "/ready")
"""What those ask that watch over the server, and hold no token."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is asked of each request."""

    token: str | None = None
    """None where everybody may ask."""
    loopback_only: bool = True
    """Whether the server listens only to this machine."""
    without_token: tuple[str, ...] = WITHOUT_TOKEN
    """Paths, and beginnings of paths that end in a slash, for which no token is needed."""

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Let a request pass.

        Raises:
            Problem: 401 or 403.
        """
        if self.token is not None:
            if not self._is_free(path):
                self._check_token(headers.get("authorization", ""), self.token)
        elif self.loopback_only and not _is_local(_hostname(headers.get("host", "localhost"))):
            # The page of another site may give its own name this machine's address.
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "This server answers only to names of this machine.",
                "Ask for http://localhost or http://127.0.0.1, or start it with --token.",
            )
        origin = headers.get("origin", "")
        if method != "GET" and origin and _authority(origin) != headers.get("host", ""):
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "The request comes from a page of another site.",
                "Send it from the server's own page, or from a program.",
            )

    def _is_free(self, path: str) -> bool:
        return any(
            path == free or (free.endswith("/") and len(free) > 1 and path.startswith(free))
            for free in self.without_token
        )

    def _check_token(self, given: str, token: str) -> None:
        kind, _, value = given.partition(" ")
        # Hashes have one length, so the time says nothing of the token's.
        same = hmac.compare_digest(_digest(value.strip()), _digest(token))
        if kind.lower() != "bearer" or not same:
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "The token is wrong." if given else "A token is needed.",
                "Send the header: Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )


def check_local(client: tuple[str, int] | None, headers: Headers) -> None:
    """Let only requests of this machine pass that no proxy forwarded.

    Raises:
        Problem: 403.
    """
    forwarded = "forwarded" in headers or "x-forwarded-for" in headers
    if forwarded or client is None or not _is_local(client[0]):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "Models are reloaded only from the machine that serves them.",
            "Ask there, or send SIGHUP to the server.",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    return _is_local(host)


@lru_cache(maxsize=1024)
def _is_local(host: str) -> bool:
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _hostname(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.rpartition(":")[0] if ":" in authority else authority


def _authority(origin: str) -> str:
    return origin.partition("://")[2]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
