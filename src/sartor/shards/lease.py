"""Leases: which worker is at which shard, so that no two compute the same.

A lease is a file that one worker of many can create. Its owner touches it now and then; one that
was not touched for a while belongs to nobody any more. Age is told by the clock of whoever keeps
the files, since those of the machines differ. Leases only save work: what counts of a shard is the
result that is there first, whoever made it, so a worker that slept through the end of its lease
does no harm.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileError
from ..files import (
    atomic_write,
    json_line,
    read_document,
    remove,
    take_once,
    touched,
    write_bytes,
)

CLOCK = ".clock"
"""The file that tells the time of whoever keeps the files."""
_MOST_TOLD = 1 << 16
"""Bytes of a lease, or of what a worker says."""
_BEATS = 4
"""Signs of life in the time of a lease."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that works, by a name that no other has."""

    name: str
    host: str
    pid: int
    machine: str
    """The same for processes that see each other's numbers; "" where nothing tells."""
    born: str
    """When the process began, by the system's count: numbers of processes come again."""

    @classmethod
    def here(cls) -> Worker:
        """This process."""
        host, pid = socket.gethostname(), os.getpid()
        return cls(
            name=f"{host.split('.')[0][:40] or 'worker'}-{pid}-{uuid.uuid4().hex[:8]}",
            host=host,
            pid=pid,
            machine=_machine(),
            born=_born(pid) or "",
        )


def _machine() -> str:
    """This boot of this machine, and which processes are seen; "" where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return ""


def _born(pid: int) -> str | None:
    """When a process began; None where there is none, or only what remains of it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def is_gone(owner: dict[str, Any]) -> bool:
    """Whether a process is known to have ended, since it was one of this machine."""
    machine = _machine()
    if not machine or owner.get("machine") != machine:
        return False
    try:
        return _born(int(owner["pid"])) != str(owner["born"])
    except (KeyError, TypeError, ValueError):
        return False


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _is_something_else(path: Path) -> bool:
    """Whether there is something that is not a file; asked once, for it may be gone any moment."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


class Lease:
    """A lease that this process has taken; kept alive until it is released."""

    def __init__(
        self,
        path: Path,
        content: bytes,
        *,
        taken: int,
        seconds: float,
        beat: Callable[[], None],
    ) -> None:
        self._path, self._content, self._seconds, self._beat = path, content, seconds, beat
        self.taken = taken
        """How often it was taken since anybody released it: once, and once for each who died."""
        self._over = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="sartor-lease", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another worker has taken it, as from one that was dead."""
        return self._lost.is_set()

    def leave(self) -> None:
        """Keep it alive no more, as if its owner had died."""
        self._over.set()
        self._thread.join()

    def release(self) -> None:
        """Give it back."""
        self.leave()
        if self._is_ours():
            remove(self._path)

    def _keep(self) -> None:
        while not self._over.wait(self._seconds / _BEATS):
            with suppress(OSError, FileError):  # a disk that is full, a server that is slow
                if not self._is_ours():
                    self._lost.set()
                    return
                touched(self._path)
                self._beat()

    def _is_ours(self) -> bool:
        try:
            return self._path.read_bytes() == self._content
        except FileNotFoundError:
            return False


@dataclass(frozen=True, kw_only=True)
class Leases:
    """The leases of a folder, as one worker sees them."""

    folder: Path
    workers: Path
    """The folder in which each worker has a file that says what it does."""
    worker: Worker
    seconds: float

    @property
    def own_file(self) -> Path:
        """What this worker says of itself."""
        return self.workers / f"{self.worker.name}.json"

    def tell(self, **facts: Any) -> None:
        """Say what this worker does, for those who ask how far it is."""
        told = {"worker": self.worker.name, "host": self.worker.host, **facts}
        # Of no use to anybody after a power failure, so nothing waits for the disk.
        with atomic_write(self.own_file, durable=False) as stream:
            stream.write(json_line(told).encode())

    def take(self, name: str, beat: Callable[[], None]) -> Lease | None:
        """The lease of that name; None where another worker has it, and lives."""
        path = self.folder / name
        if path.exists():
            return self._take_over(path, beat)
        content = self._content(1)
        return self._held(path, content, 1, beat) if take_once(path, content) else None

    def _take_over(self, path: Path, beat: Callable[[], None]) -> Lease | None:
        owner = self._read(path)
        if owner is None or not self._is_over(path, owner[1]):
            return None
        before, mark = owner
        taken = _count(mark.get("taken")) + 1
        content = self._content(taken)
        # No two leases have the same content, so only one worker has this file, and no other may
        # put its own in the place of that lease. At no time is there none in its place.
        claim = path.with_name(f".{path.name}.{hashlib.sha256(before).hexdigest()[:16]}")
        if not take_once(claim, content):
            self._remove_if_over(claim)
            return None
        try:
            if self._read(path) != owner:
                # Another worker was faster, and its claim is gone already.
                return None
            with atomic_write(path, durable=False) as stream:
                stream.write(content)
        finally:
            remove(claim)
        return self._held(path, content, taken, beat)

    def _remove_if_over(self, claim: Path) -> None:
        """Of a worker that died before it had the lease, so that the next try has it."""
        owner = self._read(claim)
        if owner is not None and self._is_over(claim, owner[1]):
            remove(claim)

    def _held(self, path: Path, content: bytes, taken: int, beat: Callable[[], None]) -> Lease:
        return Lease(path, content, taken=taken, seconds=self.seconds, beat=beat)

    def owners(self) -> dict[str, dict[str, Any]]:
        """Who has which lease at the moment, the dead among them."""
        found = {}
        for path in sorted(self.folder.iterdir()):
            if not path.name.startswith(".") and (owner := self._read(path)) is not None:
                found[path.name] = {**owner[1], "over": self._is_over(path, owner[1])}
        return found

    def told(self, worker: str) -> dict[str, Any]:
        """What a worker said of itself; nothing where it cannot be read."""
        try:
            # Somebody may have named it, and a name with a slash is none of a worker.
            path = self.workers / f"{Path(worker).name}.json"
            found = json.loads(read_document(path, _MOST_TOLD))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def forgive(self, deaths: int) -> None:
        """Remove the leases that were taken more often than so many times."""
        for name, owner in self.owners().items():
            if _count(owner.get("taken")) > deaths:
                remove(self.folder / name)

    def _content(self, taken: int) -> bytes:
        facts = {**vars(self.worker), "taken": taken, "lease": uuid.uuid4().hex}
        return json.dumps(facts).encode()

    def _read(self, path: Path) -> tuple[bytes, dict[str, Any]] | None:
        try:
            content = read_document(path, _MOST_TOLD)
        except OSError:
            if _is_something_else(path):
                raise FileError(f"{path} is not a file, as a lease is.", "Remove it.") from None
            return None
        try:
            mark = json.loads(content)
        except (ValueError, RecursionError):
            mark = {}
        return content, mark if isinstance(mark, dict) else {}

    def _is_over(self, path: Path, mark: dict[str, Any]) -> bool:
        if is_gone(mark):
            return True
        try:
            # Opened, so that a file system over the network asks again.
            with path.open("rb") as stream:  # `_read` saw that it is a file
                seen = os.fstat(stream.fileno()).st_mtime
            return self.now() - seen > self.seconds
        except OSError:
            return False

    def now(self) -> float:
        """By the clock that the leases are marked with; by our own where nothing can be written."""
        clock = self.folder / CLOCK
        try:
            if not clock.exists():
                write_bytes(clock, b"")
            return touched(clock)
        except (OSError, FileError):
            return time.time()
