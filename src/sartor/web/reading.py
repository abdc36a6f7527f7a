"""From the body of a request to the pictures in it, never holding more than the limits say."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from python_multipart.multipart import parse_options_header

from ..data.pictures.formats import HEAD_BYTES, format_of
from .limits import MEBIBYTE, Limits
from .problems import Problem, bad_request, busy, stopping, too_large

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = Mapping[str, str]

PART = "file"
"""The name that each part of a form has."""
_LONGEST_NAME = 255
_DRAINED_SECONDS, _DRAINED_BODIES = 2.0, 4
"""What a client that sends too much may still send before it is answered, since most read nothing
before they have sent all."""
_SIGNS_PER_PICTURE = 64
"""Brackets and commas in JSON for each picture; base64 has none of them."""
_SMALL_BODY = 1 << 16
"""Parsed at once; what is larger would keep others waiting, and is parsed in a thread."""
_FORM = "multipart/form-data"
_OF_CURL = "application/x-www-form-urlencoded"
"""What curl says of every body of which it is told nothing."""
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_LONGEST_HEAD = 2048
"""Bytes of a part's headers that are looked at."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as a client sent it."""

    file: str
    """Its name, for the answer."""
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A picture that cannot be answered, beside others that can."""

    file: str
    error: str
    hint: str
    too_large: bool = False


class Budget:
    """Bytes of all requests together; used in the loop's thread only."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    def take(self, count: int) -> None:
        """Count so many more.

        Raises:
            Problem: 429, they would be too many.
        """
        if self.taken + count > self._most:
            raise busy("The server holds as much data of other requests as it may.")
        self.taken += count

    def give_back(self, count: int) -> None:
        """Count so many less."""
        self.taken -= count


class Disconnected(Exception):  # noqa: N818  (what it says)
    """The client has gone; nobody waits for an answer."""


class Arrivals:
    """The requests whose body is on its way."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._timeouts: set[asyncio.Timeout] = set()
        self._stopping = False

    def stop(self) -> None:
        """From now on they have no more than the time of grace."""
        self._stopping = True
        end = asyncio.get_running_loop().time() + self._limits.grace_seconds
        for timeout in self._timeouts:
            if (timeout.when() or end) >= end:
                timeout.reschedule(end)

    async def body(self, receive: Receive, headers: Headers, budget: Budget) -> bytes:
        """All of it; its bytes are taken from the budget, for the caller to give back.

        Raises:
            Problem: too large, too slow, or the server stops. Disconnected: it ended too early.
        """
        self._refuse_by_headers(headers)
        if _announced(headers) > self._limits.body_bytes:
            # Who asks before sending is answered at once.
            if "expect" not in headers:
                await self._drain(receive)
            raise self._too_large()
        taken = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds) as timeout:
                self._timeouts.add(timeout)
                parts: list[bytes] = []
                async for part in _parts(receive):
                    if taken + len(part) > self._limits.body_bytes:
                        break
                    budget.take(len(part))
                    taken += len(part)
                    parts.append(part)
                else:
                    return parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            budget.give_back(taken)
            raise stopping() if self._stopping else self._too_slow() from None
        except BaseException:
            budget.give_back(taken)
            raise
        finally:
            self._timeouts.discard(timeout)
        parts.clear()
        budget.give_back(taken)
        await self._drain(receive)
        raise self._too_large()

    def _refuse_by_headers(self, headers: Headers) -> None:
        if self._stopping:
            raise stopping()
        if headers.get("content-encoding", "identity") != "identity":
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "The body is compressed.",
                "Send it as it is: pictures are compressed already.",
                headers={"Connection": "close"},
            )

    def _too_large(self) -> Problem:
        most = self._limits.body_bytes / MEBIBYTE
        return too_large(
            f"The body is larger than {most:g} MiB.", "Send fewer or smaller pictures at once."
        )

    def _too_slow(self) -> Problem:
        return Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            f"The body did not arrive within {self._limits.body_seconds:g} seconds.",
            "Send fewer or smaller pictures at once.",
            headers={"Connection": "close"},
        )

    async def _drain(self, receive: Receive) -> None:
        left = _DRAINED_BODIES * self._limits.body_bytes
        try:
            async with asyncio.timeout(_DRAINED_SECONDS):
                async for part in _parts(receive):
                    left -= len(part)
                    if left < 0:
                        return
        except TimeoutError:
            return


async def _parts(receive: Receive) -> Any:
    """The pieces of a body.

    Raises:
        Disconnected: it ended too early.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        more = message.get("more_body", False)
        yield message.get("body", b"")


def _announced(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


async def pictures_of(body: bytes, headers: Headers, most: int) -> list[Picture | Fault]:
    """The pictures of a request in their order, at most so many.

    Raises:
        Problem: it is not what the interface describes, or has too many.
    """
    if len(body) <= _SMALL_BODY:
        return _parsed(body, headers, most)
    return await asyncio.to_thread(_parsed, body, headers, most)


def _parsed(body: bytes, headers: Headers, most: int) -> list[Picture | Fault]:
    given = headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind == _FORM:
        boundary = _BOUNDARY.search(given)
        found = _of_form(
            body, (boundary[1] or boundary[2]).encode("latin-1") if boundary else b"", most
        )
    elif kind == "application/json":
        found = _of_json(body, most)
    elif (
        kind in ("", "application/octet-stream")
        or kind.startswith("image/")
        or (kind == _OF_CURL and format_of(body[:HEAD_BYTES]))
    ):
        found = [Picture(file="body", content=body)] if body else []
    else:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"A body of the type {given[:100]} is not read.",
            f"Send {_FORM} with parts named {PART}, application/json, or a picture's own bytes.",
        )
    if not found:
        raise bad_request("The request holds no picture.", f"Send one in a part named {PART}.")
    return found


def _of_form(body: bytes, boundary: bytes, most: int) -> list[Picture | Fault]:
    """RFC 7578, strictly. Of a body that is there already only its parts are copied; a library's
    callbacks for each header take as long as a small network."""
    if not boundary:
        raise bad_request(
            "The form's type names no boundary.", "Let the client library set Content-Type."
        )
    first = b"--" + boundary
    if not body.startswith(first):
        # What stands before the first boundary means nothing.
        body = body[body.find(b"\r\n" + first) + 2 :] if b"\r\n" + first in body else b""
    parts = body[len(first) :].split(b"\r\n" + first, most + 1)
    if len(parts) > most + 1:
        raise _too_many(most)
    *parts, after = parts
    if not after.startswith(b"--"):
        raise bad_request("The form ends too early.", "Send it to its closing boundary.")
    return [_of_part(part, place) for place, part in enumerate(parts)]


def _of_part(part: bytes, place: int) -> Picture:
    head, found, content = part.partition(b"\r\n\r\n")
    # Spaces may follow a boundary.
    space, _, lines = head.partition(b"\r\n")
    if not found or space.strip(b" \t"):
        raise bad_request("The form is malformed.", "Let a client library write it.")
    name, file = _disposition(lines)
    if name != PART:
        raise bad_request(f'A part of the form is named "{name[:50]}".', f"Name each part {PART}.")
    return Picture(file=_name(file, place), content=content)


@lru_cache(maxsize=1024)
def _disposition(lines: bytes) -> tuple[str, str]:
    """The names that the headers of a part give it and its file."""
    for line in lines[:_LONGEST_HEAD].split(b"\r\n"):
        field, _, value = line.partition(b":")
        if field.strip().lower() == b"content-disposition":
            _, options = parse_options_header(value)
            name, file = (options.get(key, b"") for key in (b"name", b"filename"))
            return name.decode("utf-8", "replace"), file.decode("utf-8", "replace")
    return "", ""


def _of_json(body: bytes, most: int) -> list[Picture | Fault]:
    # Before anything is made of it: a small text may become large objects.
    signs = sum(body.count(sign) for sign in (b",", b"[", b"{"))
    if signs > _SIGNS_PER_PICTURE * (most + 1):
        raise _too_many(most)
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "" if isinstance(error, RecursionError) else f": {str(error)[:100]}"
        raise bad_request(f"The body is not JSON{reason}.", _JSON) from None
    entries = document.get("pictures") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise bad_request('The JSON has no list "pictures".', _JSON)
    if len(entries) > most:
        raise _too_many(most)
    return [_of_entry(entry, place) for place, entry in enumerate(entries)]


_JSON = 'Send {"pictures": [{"file": "name.png", "data": "... base64 ..."}]}.'


def _of_entry(entry: object, place: int) -> Picture | Fault:
    if isinstance(entry, str):
        entry = {"data": entry}
    if not isinstance(entry, dict) or set(entry) - {"file", "data"}:
        raise bad_request(f"pictures[{place}] is not a picture.", _JSON)
    file, data = entry.get("file", ""), entry.get("data")
    if not (isinstance(file, str) and isinstance(data, str)):
        raise bad_request(f'"file" or "data" of pictures[{place}] is not a text.', _JSON)
    name = _name(file, place)
    if data.startswith("data:"):
        _, _, data = data.partition(",")
    try:
        return Picture(file=name, content=base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        what = "an address, which a server does not open" if "://" in data[:20] else "not base64"
        return Fault(
            file=name, error=f"The data of {name} is {what}.", hint="Send the picture's bytes."
        )


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _too_many(most: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The request has more than {most:,} pictures.",
        "Send them in several requests.",
    )


def _name(given: str, place: int) -> str:
    """What a picture is called in the answer: as the client says, or by its place."""
    name = given.encode("utf-8", "replace").decode()[:_LONGEST_NAME]
    return name or f"picture {place + 1}"
