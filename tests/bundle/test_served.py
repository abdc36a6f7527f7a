"""The golden examples through a server: what it answers, and all the ways in which it does not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sartor.bundle import served
from sartor.bundle.golden import Golden
from sartor.bundle.served import Server, checked_url
from sartor.bundle.verify import Check, Replay
from sartor.errors import UsageError
from sartor.inference.answers import answers
from sartor.inference.calibration import Calibration

CLASSES = ("cat", "dog")
COUNT = 20
Answering = Callable[[list[tuple[str, bytes]]], tuple[int, bytes]]


def replay() -> Replay:
    """20 pictures of two classes; every second is of a format that decoders read differently."""
    names = tuple(f"golden/pictures/{number:03d}.png" for number in range(COUNT))
    rows = np.random.default_rng(0).dirichlet((1, 1), COUNT).astype(np.float32)
    golden = Golden(
        names=names,
        labels=("cat",) * COUNT,
        answers=({},) * COUNT,
        images=np.zeros((COUNT, 2, 2, 1), np.uint8),
        probabilities=rows,
        novelty=None,
    )
    return Replay(
        bundle=SimpleNamespace(  # type: ignore[arg-type]
            classes=CLASSES, calibration=Calibration(coverage=0.8, set_threshold=0.8)
        ),
        golden=golden,
        contents={name: name.encode() * 3 for name in names},
        images=golden.images,
        exact=[number % 2 == 0 for number in range(COUNT)],
    )


def predictions(parts: list[tuple[str, bytes]], *, off: float = 0.0) -> list[dict[str, Any]]:
    """What a right server answers; with `off`, another probability of the first class."""
    golden = replay().golden
    found = []
    for name, content in parts:
        number = int(name.removesuffix(".png"))
        assert content == golden.names[number].encode() * 3
        row = golden.probabilities[number].astype(float) + np.array([off, -off])
        (said,) = answers([name], row[None], None, replay().bundle.calibration, CLASSES)
        found.append(said.to_json())
    return found


def right(parts: list[tuple[str, bytes]]) -> tuple[int, bytes]:
    return 200, json.dumps({"model": "m", "predictions": predictions(parts)}).encode()


@pytest.fixture
def serving() -> Iterator[Callable[[Answering], tuple[str, list[Any]]]]:
    """A server on loopback for an answer; its address, and the headers that it was sent."""
    started: list[ThreadingHTTPServer] = []

    def start(answer: Answering) -> tuple[str, list[Any]]:
        headers: list[Any] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                headers.append((self.path, dict(self.headers)))
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kind = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                parts = [
                    (part.get_filename(), part.get_payload(decode=True))
                    for part in message_from_bytes(kind + body).get_payload()
                ]
                code, content = answer(parts)
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """Of a client that has gone."""

        server = Quiet(("127.0.0.1", 0), Handler)
        started.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", headers

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def test_a_right_server_passes_in_several_requests(
    serving: Callable[[Answering], tuple[str, list[Any]]],
) -> None:
    url, headers = serving(right)
    check = Server(url, token="secret")(replay())
    assert check.ok, check.detail
    assert check.largest_difference is not None
    assert check.largest_difference < 1e-7
    assert len(headers) == 2
    path, sent = headers[0]
    assert path == "/v1/predict"
    assert sent["Authorization"] == "Bearer secret"


def test_probabilities_may_differ_a_little_only_where_decoders_do(
    serving: Callable[[Answering], tuple[str, list[Any]]],
) -> None:
    def a_little(parts: list[tuple[str, bytes]], where: int) -> tuple[int, bytes]:
        found = [
            predictions([part], off=0.01 * (int(part[0][:3]) % 2 == where))[0] for part in parts
        ]
        return 200, json.dumps({"predictions": found}).encode()

    url, _ = serving(lambda parts: a_little(parts, 1))
    assert Server(url)(replay()).ok
    url, _ = serving(lambda parts: a_little(parts, 0))
    check = Server(url)(replay())
    assert not check.ok
    assert check.largest_difference == pytest.approx(0.01, abs=1e-6)
    assert "000.png" in check.detail


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _: (500, b"oh"), "it answers 500"),
        (lambda _: (401, b'{"detail": "token"}'), "it answers 401"),
        (
            lambda parts: (
                200,
                json.dumps(
                    {"predictions": [{**one, "set": ["bird"]} for one in predictions(parts)]}
                ).encode(),
            ),
            "set is ['bird'], not ['",
        ),
        (lambda _: (200, b"{"), "not JSON"),
        (lambda _: (200, b"[" * 100_000), "not JSON"),
        (lambda _: (200, b"[]"), "does not answer with 16"),
        (lambda _: (200, b'{"predictions": []}'), "does not answer with 16"),
        (lambda parts: (200, json.dumps({"predictions": [1] * len(parts)}).encode()), "classes"),
        (
            lambda parts: (
                200,
                json.dumps({"predictions": [{"error": "bad"}] * len(parts)}).encode(),
            ),
            "bad",
        ),
        (
            lambda parts: (
                200,
                json.dumps(
                    {"predictions": [{"probabilities": {"cat": "x", "dog": None}}] * len(parts)}
                ).encode(),
            ),
            "not numbers",
        ),
    ],
)
def test_whatever_a_server_does_is_a_failed_check(
    answer: Answering, said: str, serving: Callable[[Answering], tuple[str, list[Any]]]
) -> None:
    url, _ = serving(answer)
    check = Server(url)(replay())
    assert not check.ok
    assert said in check.detail
    assert url in check.detail


def test_a_server_that_is_not_there_or_too_slow(
    serving: Callable[[Answering], tuple[str, list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "SECONDS", 0.3)

    given_up = threading.Event()

    def slow(parts: list[tuple[str, bytes]]) -> tuple[int, bytes]:
        assert given_up.wait(60), "it waited for the answer"
        return right(parts)

    url, _ = serving(slow)
    check: Check = Server(url)(replay())
    given_up.set()
    assert not check.ok
    assert "in time" in check.detail
    assert "cannot be reached" in Server("http://127.0.0.1:9")(replay()).detail


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz", "broke off"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"', "not JSON"),
        (b"", "broke off"),
    ],
)
def test_what_does_not_speak_http(said: bytes, why: str) -> None:
    class Other(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(said)
            self.request.shutdown(socket.SHUT_WR)
            while self.request.recv(1 << 16):
                """Until the client has gone."""

    with ThreadingTCPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        check = Server(f"http://127.0.0.1:{server.server_address[1]}")(replay())
        server.shutdown()
    assert not check.ok
    assert why in check.detail


def test_addresses() -> None:
    assert checked_url("http://h:1/") == "http://h:1/v1/predict"
    assert checked_url("http://h/v1/models/a/predict") == "http://h/v1/models/a/predict"
    for bad in (
        "h:8000",
        "ftp://h",
        "file:///etc/passwd",
        "",
        "http://",
        "http://h:x",
        "http://[h",
        "http://h/a b",
    ):
        with pytest.raises(UsageError, match="not the address"):
            checked_url(bad)
