"""The golden examples in a real browser: the exported page in headless Chromium."""

from __future__ import annotations

import json
import mimetypes
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from ..errors import SartorError
from . import golden as examples
from .site import site_to_check
from .verify import LOOSE, TOLERANCE, Check, Replay, differences, other_words

SECONDS = 120.0
"""For the browser, from its start to the last answer."""
MOST_LEVELS = 6.0
"""Mean absolute difference, in levels of 255, where the browser decodes and not this package."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
_LARGEST_REPORT = 1 << 26


class Browser:
    """A path for `verify`: what the page answers in a browser against the golden answers."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        """A browser that is given up after so many seconds."""
        self._seconds = seconds

    def __call__(self, replay: Replay) -> Check:
        """Whether it answers as the bundle does; whatever keeps it from that is in the check."""
        try:
            report = self._report(replay)
            return _check(replay, report)
        except SartorError as error:
            return _failed(f"{error.message} {error.hint}".strip())
        except _NoReport as error:
            return _failed(str(error))

    def _report(self, replay: Replay) -> Sequence[Mapping[str, Any]]:
        chromium = next(filter(None, map(shutil.which, _NAMES)), None)
        if chromium is None:
            raise _NoReport("There is no Chromium here: install it, or leave --browser out.")
        golden = {
            **replay.contents,
            **{name: replay.bundle.read(name) for name in (examples.DOCUMENT, examples.PIXELS)},
        }
        with _Served(site_to_check(replay.bundle, golden)) as served:
            return _examples(_ran(chromium, served, self._seconds))


def _failed(detail: str) -> Check:
    return Check(name="browser", ok=False, detail=detail)


class _NoReport(Exception):  # noqa: N818  (it never leaves this module)
    """Why a browser said nothing."""


class _Served:
    """Files on this machine's own address, and the report that their page sends back."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self.arrived = threading.Event()
        self.report = b""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(contents, self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/check.html"

    def __enter__(self) -> _Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(contents: Mapping[str, bytes], served: _Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            name = self.path.partition("?")[0].lstrip("/")
            content = contents.get(name)
            self._answer(200 if content is not None else 404, content or b"", name)

        def do_POST(self) -> None:
            length = min(int(self.headers.get("Content-Length") or 0), _LARGEST_REPORT)
            served.report = self.rfile.read(length)
            self._answer(204, b"", "")
            served.arrived.set()

        def _answer(self, status: int, content: bytes, name: str) -> None:
            kind = "text/javascript" if name.endswith((".js", ".mjs")) else None
            kind = kind or mimetypes.guess_type(name)[0] or "application/octet-stream"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _ran(chromium: str, served: _Served, seconds: float) -> bytes:
    """What the page reported."""
    with tempfile.TemporaryDirectory(prefix="sartor-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                chromium,
                *_FLAGS,
                f"--user-data-dir={profile}",
                "--remote-debugging-port=0",
                served.url,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if not served.arrived.wait(seconds):
                ended = process.poll() is not None
                how = "ended" if ended else f"did not answer within {seconds:g} seconds"
                raise _NoReport(f"{chromium} {how}.")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return served.report


def _examples(content: bytes) -> Sequence[Mapping[str, Any]]:
    report = json.loads(content)
    if report.get("error"):
        raise _NoReport(f"The page failed: {report['error']}")
    found: Sequence[Mapping[str, Any]] = report["examples"]
    return found


def _check(replay: Replay, found: Sequence[Mapping[str, Any]]) -> Check:
    golden, classes = replay.golden, replay.bundle.classes
    faults: list[str] = []
    largest, pixels = 0.0, 0
    for place, (name, one) in enumerate(zip(golden.names, found, strict=True)):
        row = [np.nan if value is None else value for value in one["probabilities"]]
        apart = float(differences([row], golden.probabilities[place : place + 1]).max())
        largest = max(largest, apart)
        answer, exact = one["answer"], one["exact"]
        if not apart <= TOLERANCE:
            faults.append(f"{name}: its probabilities differ by up to {apart:.2g}.")
        elif "error" in answer:
            faults.append(f"{name}: {answer['error']}")
        elif one["levels"]["largest"] and (exact or one["levels"]["mean"] > MOST_LEVELS):
            faults.append(
                f"{name} becomes other pixels, by up to {one['levels']['largest']} levels."
            )
        else:
            pixels += exact
            said = [answer["probabilities"][name_] for name_ in classes]
            gone = float(differences([said], golden.probabilities[place : place + 1]).max())
            if not gone <= (TOLERANCE if exact else LOOSE):
                faults.append(f"{name}: from file to answer it differs by up to {gone:.2g}.")
            faults += other_words(replay, name, answer)
    if faults:
        more = f" And {len(faults) - 3:,} more." if len(faults) > 3 else ""
        return Check(
            name="browser",
            ok=False,
            largest_difference=largest,
            detail=" ".join(faults[:3]) + more,
        )
    return Check(
        name="browser",
        ok=True,
        largest_difference=largest,
        detail=f"{len(golden):,} pictures in the exported page; {TOLERANCE:g} is allowed. "
        f"{pixels:,} PNG pictures give the same pixels, bit for bit",
    )
