"""Real servers on real ports of this machine, and classifiers whose answers are known."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from sartor.api.serving import Servable
from sartor.arrays import UInt8Array
from sartor.bundle.sessions import Outputs
from sartor.data.pictures.preprocess import Preprocess
from sartor.inference.calibration import Calibration

LIMITS = {
    "pictures": 8,
    "body_bytes": 1 << 20,
    "bytes_in_flight": 4 << 20,
    "pixels": 1_000_000,
    "head_seconds": 100,
    "body_seconds": 100,
    "head_bytes": 4096,
    "idle_seconds": 100,
    "grace_seconds": 0.5,
    "connections": 40,
}
"""Small, but for time, of which a busy machine may take any."""
HASTY = LIMITS | {"head_seconds": 0.6, "body_seconds": 0.6, "idle_seconds": 1}


@dataclass(frozen=True)
class Address:
    """Where a server of a test listens, and what it wrote."""

    port: int
    process: subprocess.Popen[str]
    lines: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def logged(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def awaited(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The line of a request that is as wanted; lines come a little after the answers."""
        for _ in range(3000):
            for line in self.logged("request"):
                if wanted(line):
                    return line
            time.sleep(0.02)
        raise AssertionError("no such request was logged")

    def send(self, *pieces: bytes, pause: float = 0.0, end: bool = False) -> bytes:
        """All that comes back for some bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            answer = b""
            try:
                while part := connection.recv(1 << 16):
                    answer += part
            except ConnectionResetError:
                pass
            return answer


@contextmanager
def serving(run: Path, limits: dict[str, Any], *token: str) -> Iterator[Address]:
    line = [sys.executable, str(Path(__file__).with_name("server.py")), str(run)]
    process = subprocess.Popen(
        [*line, json.dumps(limits), *token],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        yield Address(int(process.stdout.readline() or 0), process, lines)
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="session")
def address(trained: Path) -> Iterator[Address]:
    """A server with small limits, for all tests."""
    with serving(trained, LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def hasty(trained: Path) -> Iterator[Address]:
    """A server that waits for nobody."""
    with serving(trained, HASTY) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(trained: Path) -> Iterator[Address]:
    """A server that wants a token."""
    with serving(trained, {}, "secret") as found:
        yield found


@pytest.fixture
def client(address: Address) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address.url, timeout=60, trust_env=False) as found:
        yield found


def encoded(pixels: UInt8Array, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def gray(value: int, side: int = 8) -> bytes:
    return encoded(np.full((side, side), value, np.uint8))


def by_brightness(images: UInt8Array) -> Outputs:
    """The probability of "bright" is the mean of the image."""
    bright = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32) / 255
    return Outputs(np.stack([1 - bright, bright], axis=1), None)


@pytest.fixture
def judge() -> Callable[..., Servable]:
    """A classifier of 8x8 images by their brightness, or by another function of theirs."""

    def make(session: Any = by_brightness, name: str = "judge", at_once: int = 1) -> Servable:
        return Servable(
            name=name,
            source=Path("nowhere"),
            classes=("dark", "bright"),
            preprocess=Preprocess(
                channels=1, height=8, width=8, resize="stretch", mean=(0.0,), std=(1.0,)
            ),
            calibration=Calibration(),
            input_ranges={},
            session=session,
            at_once=at_once,
            public={},
        )

    return make
