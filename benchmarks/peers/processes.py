"""One process for each contender, all alive during a round; only the one with an order works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from .contenders import CONTENDERS

_BENCHMARKS = Path(__file__).resolve().parents[1]


class WorkerError(Exception):
    """A process ended before it answered."""


class Worker:
    """The process of one contender."""

    def __init__(self, name: str, material: Path, folder: Path) -> None:
        """Wait until the tool is imported; `folder` takes what it prints and writes."""
        folder.mkdir(parents=True)
        began = time.perf_counter()
        self._name, self._folder = name, folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "peers.worker", name, str(material)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": _path()} | dict(CONTENDERS[name].environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()
        self.start_seconds = time.perf_counter() - began

    def ask(self, **order: Any) -> dict[str, Any]:
        """Its answer to one order.

        Raises:
            WorkerError: it ended instead; with the last lines that it wrote.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """No more orders; wait for its end."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            errors = (self._folder / "stderr.txt").read_text().splitlines()[-15:]
            raise WorkerError("\n".join([f"{self._name} ended:", *errors]))
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def workers(names: Sequence[str], material: Path, folder: Path) -> Iterator[dict[str, Worker]]:
    """Fresh processes, started one after the other."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Worker(name, material, folder / name)) for name in names}


def _path() -> str:
    """Where a process finds this package, and what this process finds by the caller's variable."""
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    # Relative folders would be looked for where the other process works.
    return os.pathsep.join([str(_BENCHMARKS), *(str(Path(one).resolve()) for one in given)])


def pin(cores: int = 2) -> list[int]:
    """Keep this process and those that it starts on the first cores; which these are."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, chosen)
    return chosen
