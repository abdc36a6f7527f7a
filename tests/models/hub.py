"""A hub's cache made by hand, and servers that stand for a hub; imported by its neighbours."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "a" * 40


def put_into_hub_cache(
    hub: Path, repository: str, content: bytes, *, revision: str = REVISION, main: bool = True
) -> Path:
    """A file as huggingface_hub keeps it: a link in a snapshot to a blob named by its SHA-256."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot, sha256 = folder / "snapshots" / revision, hashlib.sha256(content).hexdigest()
    for one in (folder / "blobs", folder / "refs", snapshot):
        one.mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / sha256).write_bytes(content)
    if main:
        (folder / "refs" / "main").write_text(revision)
    path = snapshot / "model.safetensors"
    path.symlink_to(f"../../blobs/{sha256}")
    return path


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=32) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def server(files: Mapping[str, tuple[bytes, Mapping[str, str]]]) -> Iterator[tuple[str, list[str]]]:
    """A server of files by path, each with its headers; its address, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            content, headers = files.get(self.path, (b"", {}))
            self.send_response(200 if self.path in files else 404)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", asked
        finally:
            running.shutdown()
            thread.join()
