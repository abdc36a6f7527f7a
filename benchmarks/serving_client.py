"""A client that asks as fast as a server answers, or at a pace; bounded in time and in requests.

    python benchmarks/serving_client.py PORT PICTURE CONNECTIONS SECONDS [PACE]

Prints one line of JSON: how many answers came, how many were not 200, and every latency. With PACE,
so many requests per second are sent at even times, whether or not earlier ones were answered, and
latencies count from the time that a request was due.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path

import uvloop

MOST_REQUESTS = 200_000
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_BOUNDARY = b"----benchmark"


def request(picture: bytes) -> bytes:
    """A form with one part, as curl sends it."""
    body = (
        b"--" + _BOUNDARY + b'\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + picture + b"\r\n--" + _BOUNDARY + b"--\r\n"
    )
    head = (
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nContent-Type: multipart/"
        b"form-data; boundary=" + _BOUNDARY + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    return head + body


class Connection(asyncio.Protocol):
    """One connection, which waits for an answer before it asks again."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._load.free(self)

    def ask(self, due: float) -> None:
        """Send the request."""
        self._due = due
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._received, 0, head)
        assert length is not None, "an answer without a length"
        if len(self._received) >= head + 4 + int(length[1]):
            good = self._received.startswith(b"HTTP/1.1 200 ")
            self._received = b""
            self._load.answered(time.perf_counter() - self._due, good)
            self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._load.end()


class Load:
    """What is asked, and what came back."""

    def __init__(self, picture: bytes, seconds: float, pace: float | None) -> None:
        self.request = request(picture)
        self.latencies: list[float] = []
        self.failed = 0
        self._pace = pace
        self._begun = time.perf_counter()
        self._until = self._begun + seconds
        self._idle: list[Connection] = []
        self._waiting: list[float] = []
        self.done = asyncio.get_running_loop().create_future()

    def free(self, connection: Connection) -> None:
        """A connection can ask again."""
        now = time.perf_counter()
        if now >= self._until or len(self.latencies) >= MOST_REQUESTS:
            self.end()
        elif self._pace is None:
            connection.ask(now)
        elif self._waiting:
            connection.ask(self._waiting.pop(0))
        else:
            self._idle.append(connection)

    async def send_at_pace(self) -> None:
        """A request becomes due at even times."""
        assert self._pace is not None
        number = 0
        while not self.done.done():
            due = self._begun + number / self._pace
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if self._idle:
                self._idle.pop().ask(due)
            else:
                self._waiting.append(due)
            number += 1

    def answered(self, seconds: float, good: bool) -> None:
        """An answer has come."""
        self.latencies.append(seconds)
        self.failed += not good

    def end(self) -> None:
        """The time is over, or the server has hung up."""
        if not self.done.done():
            self.done.set_result(None)


async def run(
    port: int, picture: bytes, connections: int, seconds: float, pace: float | None
) -> Load:
    """Ask for so many seconds."""
    loop = asyncio.get_running_loop()
    load = Load(picture, seconds, pace)
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
    pacing = asyncio.create_task(load.send_at_pace()) if pace else None
    await asyncio.wait_for(load.done, seconds + 30)
    if pacing:
        await pacing
    return load


if __name__ == "__main__":
    port, path, connections, seconds, *pace = sys.argv[1:]
    load = uvloop.run(
        run(
            int(port),
            Path(path).read_bytes(),
            int(connections),
            float(seconds),
            float(pace[0]) if pace else None,
        )
    )
    found = {"answers": len(load.latencies), "failed": load.failed}
    sys.stdout.write(json.dumps(found | {"latencies": [round(x, 6) for x in load.latencies]}))
