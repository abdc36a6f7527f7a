"""The golden examples through a running server, as any client would send them."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import PurePosixPath
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np

from ..errors import UsageError
from .verify import LOOSE, TOLERANCE, Check, Replay, differences, other_words

SECONDS = 60.0
"""For all requests together."""
_PRINTABLE = re.compile(r"[!-~]+")
_AT_ONCE = 16
_MOST_BYTES = 4_000_000
_LARGEST_ANSWER = 64_000_000


def checked_url(url: str) -> str:
    """Where pictures are posted to.

    Raises:
        UsageError: it is not the address of a server.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is not a number, or half an IPv6 address
        known = False
    if not known or not _PRINTABLE.fullmatch(url):
        raise UsageError(
            f"{url} is not the address of a server.", "Give one such as http://127.0.0.1:8000"
        )
    return url if parts.path.endswith("/predict") else f"{url.rstrip('/')}/v1/predict"


class Server:
    """A path for `verify`: what a server answers against the golden answers."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        """
        Args:
            url: of the server, or its whole address that takes pictures.
            token: where it wants one.

        Raises:
            UsageError: no such address.
        """
        self._url = checked_url(url)
        self._token = token

    def __call__(self, replay: Replay) -> Check:
        """Whether it answers as the bundle does; whatever keeps it from that is in the check."""
        try:
            return self._check(replay, list(self._answers(replay)))
        except _NoAnswer as error:
            return Check(name="server", ok=False, detail=f"{self._url}: {error}")

    def _check(self, replay: Replay, answers: Sequence[Any]) -> Check:
        classes, golden = replay.bundle.classes, replay.golden
        rows, faults = [], []
        for name, answer in zip(golden.names, answers, strict=True):
            found = answer if isinstance(answer, dict) else {}
            row = found.get("probabilities")
            if not isinstance(row, dict) or set(row) != set(classes):
                faults.append(f"{name}: {found.get('error') or 'its classes are others'}.")
                rows.append([np.nan] * len(classes))
            elif not all(isinstance(one, int | float) for one in row.values()):
                faults.append(f"{name}: its probabilities are not numbers.")
                rows.append([np.nan] * len(classes))
            else:
                rows.append([row[one] for one in classes])
                if np.isfinite(rows[-1]).all():
                    faults += other_words(replay, name, found)
        apart = differences(rows, golden.probabilities).max(axis=1)
        exact = np.array(replay.exact)
        answered = np.isfinite(np.array(rows, np.float64)).all(axis=1)
        other = answered & (apart > np.where(exact, TOLERANCE, LOOSE))
        faults += [
            f"{name}: its probabilities differ by up to {difference:.2g}."
            for name, difference, differs in zip(golden.names, apart, other, strict=True)
            if differs
        ]
        largest = float(apart[answered].max()) if answered.any() else None
        if faults:
            shown = " ".join(faults[:3])
            more = f" And {len(faults) - 3:,} more." if len(faults) > 3 else ""
            return Check(
                name="server",
                ok=False,
                largest_difference=largest,
                detail=f"{self._url}: {shown}{more}",
            )
        return Check(
            name="server",
            ok=True,
            largest_difference=largest,
            detail=f"{len(golden):,} pictures posted to {self._url}; {TOLERANCE:g} is allowed"
            + ("" if exact.all() else f", {LOOSE:g} where decoders may differ"),
        )

    def _answers(self, replay: Replay) -> Iterator[Any]:
        """One for each picture, in order."""
        end = time.monotonic() + SECONDS
        for names in _portions(replay):
            contents = [(PurePosixPath(name).name, replay.contents[name]) for name in names]
            document = self._posted(contents, end - time.monotonic())
            found = document.get("predictions") if isinstance(document, dict) else None
            if not isinstance(found, list) or len(found) != len(names):
                raise _NoAnswer(f"it does not answer with {len(names)} predictions")
            yield from found

    def _posted(self, contents: Sequence[tuple[str, bytes]], seconds: float) -> Any:
        if seconds <= 0:
            raise _NoAnswer(f"it took more than {SECONDS:g} s")
        boundary = secrets.token_hex(16)
        request = Request(
            self._url,
            data=_multipart(contents, boundary),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urlopen(request, timeout=seconds) as response:
                content = response.read(_LARGEST_ANSWER + 1)
        except HTTPError as error:
            with error:
                said = error.read(300).decode("utf-8", "replace")
            raise _NoAnswer(f"it answers {error.code} {error.reason}: {said}") from error
        except TimeoutError as error:
            raise _NoAnswer("it does not answer in time") from error
        except URLError as error:
            raise _NoAnswer(f"it cannot be reached: {error.reason}") from error
        except HTTPException as error:
            raise _NoAnswer(f"its answer is not HTTP, or broke off: {error!r}") from error
        except (OSError, ValueError) as error:
            raise _NoAnswer(f"its answer broke off: {error}") from error
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _NoAnswer("its answer is not JSON") from error


class _NoAnswer(Exception):  # noqa: N818  (it never leaves this module)
    """Why a server gave none."""


def _portions(replay: Replay) -> Iterator[list[str]]:
    """Names of pictures for one request each, neither many nor large."""
    waiting: list[str] = []
    size = 0
    for name in replay.golden.names:
        length = len(replay.contents[name])
        if waiting and (len(waiting) == _AT_ONCE or size + length > _MOST_BYTES):
            yield waiting
            waiting, size = [], 0
        waiting.append(name)
        size += length
    yield waiting


def _multipart(contents: Sequence[tuple[str, bytes]], boundary: str) -> bytes:
    parts = []
    for name, content in contents:
        head = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()
