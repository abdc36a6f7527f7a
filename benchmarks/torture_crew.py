"""Trainings that faults can be put into: a process that forks them, and how a run came out."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sartor
from sartor import api

FAULTS = Path(__file__).parent / "faults" / "faults.c"
CHILD = Path(__file__).parent / "torture_child.py"
TIMES = ("seconds", "images_per_second")
PATIENCE_SECONDS = 120.0
"""After so long a process counts as one that hangs."""
HUNG = 999


def compiler() -> str | None:
    """A C compiler, which the layer of faults needs."""
    from shutil import which

    return next((found for name in ("cc", "gcc", "clang") if (found := which(name))), None)


def compiled_faults(folder: Path) -> Path:
    """The library that is preloaded into what is to be tormented."""
    library = folder / "faults.so"
    command = compiler()
    assert command is not None, "asked for before"
    words = [command, "-O1", "-shared", "-fPIC", str(FAULTS), "-o", str(library), "-ldl"]
    subprocess.run(words, check=True)
    return library


@dataclass
class Started:
    """A process at work."""

    crew: Crew
    process: int
    said: Path

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        try:
            os.kill(self.process, number)
        except ProcessLookupError:
            return

    def wait(self) -> Ended:
        """Until it has ended; one that never does is killed."""
        timer = threading.Timer(PATIENCE_SECONDS, lambda: self._give_up())
        timer.start()
        hung = False
        try:
            code = self.crew.answer()["ended"]
        finally:
            hung = not timer.is_alive()
            timer.cancel()
        out, err = (_text(Path(f"{self.said}.{name}")) for name in ("out", "err"))
        return Ended(HUNG if hung else code, out, err)

    def _give_up(self) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)


@dataclass(frozen=True)
class Ended:
    """What a process left behind."""

    code: int
    out: str
    err: str

    @property
    def is_broken(self) -> bool:
        """Whether it ended as no program should: by a traceback, or not at all."""
        words = ("Traceback", "should not have happened")
        return self.code == HUNG or any(word in self.err for word in words)

    @property
    def is_sentence(self) -> bool:
        """Whether it says what is wrong in one sentence and what to do in another."""
        # Behind warnings, where there are some.
        lines = [line for line in self.err.strip().splitlines() if line.startswith("sartor: ")]
        return self.code in (1, 2) and len(lines) == 1


class Crew:
    """One process that forks trainings, one at a time; to be closed, or used as a context."""

    def __init__(self, folder: Path, library: Path | None) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        variables = os.environ | {
            "OMP_NUM_THREADS": "1",
            "SARTOR_HOME": str(self.home),
            "HOME": str(self.home),
            "NO_COLOR": "1",
        }
        if library is not None:
            variables["LD_PRELOAD"] = str(library)
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
            cwd=folder,
        )
        self._count = 0
        self.answer()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(
        self, words: Sequence[object], fault: Mapping[str, Any] | None = None, **more: Any
    ) -> Started:
        """Start `sartor WORDS` in a fork."""
        self._count += 1
        said = self.folder / f"said-{self._count}"
        order = {"words": [str(word) for word in words], "said": str(said), **more}
        if fault is not None:
            order["fault"] = dict(fault)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Started(self, self.answer()["process"], said)

    def run(self, words: Sequence[object], fault: Mapping[str, Any] | None = None) -> Ended:
        """Start, and wait."""
        return self.begin(words, fault).wait()

    def answer(self) -> dict[str, int]:
        """The next line of the process."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that forks trainings has died")
        found: dict[str, int] = json.loads(line)
        return found

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def outcome(path: Path) -> dict[str, Any]:
    """All of a run that must not depend on what happened to it."""
    run = sartor.Run.open(path, trust=False)
    calibrated = sorted((path / "calibration").glob("*.safetensors"))
    rows = run.history
    return {
        "weights": run.weights_sha256,
        "best weights": api.load_checkpoint(run.folder, "best").weights_sha256,
        "history": [{key: row[key] for key in row if key not in TIMES} for row in rows],
        "kept history": [
            {key: row[key] for key in row if key not in TIMES}
            for row in api.load_checkpoint(run.folder, "last").progress.history
        ],
        "split": run.split_sha256,
        "state": run.status["state"],
        "recipe": {k: v for k, v in run.recipe.settings().items() if k != "image_root"},
        "calibration": [hashlib.sha256(one.read_bytes()).hexdigest() for one in calibrated],
        "left over": sorted(
            str(one.relative_to(path)) for one in path.rglob("*") if one.name.endswith(".tmp")
        ),
    }


def differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What of two outcomes differs."""
    return [name for name in expected if found.get(name) != expected[name]]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
