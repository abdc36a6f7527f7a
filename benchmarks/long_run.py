"""What a long training costs besides its steps: memory, pace, the log and the checkpoints.

    python benchmarks/long_run.py                100 epochs of fashion-mlp; prints a table
    python benchmarks/long_run.py --epochs 20

One `sartor.fit` in a process of its own, with checkpoints and history on the disk. Memory is the
resident set after an epoch. Pace is the time of a training step, the median over the epochs of a
tenth. Kept apart are the copy of the state that a checkpoint needs and the writing of log and
checkpoints.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine

import sartor
from sartor.events import EpochDone
from sartor.runs.sinks import Recorder
from sartor.training import progress

RECIPE, EPOCHS = "fashion-mlp", 100
SHARE = 0.01
"""What log and checkpoints may take of the training."""
GROWTH = 0.02
"""What may be called flat."""


@dataclass(frozen=True, kw_only=True)
class LongRun:
    """What a long training came to."""

    recipe: str
    epochs: int
    memory: dict[int, float]
    """MiB after some of the epochs."""
    first_us: float
    """Microseconds of a step in the first tenth of the epochs."""
    last_us: float
    """In the last tenth."""
    seconds: float
    """From the first step to the last."""
    keeping: float
    """Share of it that log and checkpoints took, in memory and on the disk."""
    checkpoints: int

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> LongRun:
        """From what `asdict` gave; JSON has no keys but text."""
        memory = {int(epoch): mib for epoch, mib in found["memory"].items()}
        return cls(**{**found, "memory": memory})

    @property
    def memory_growth(self) -> float:
        """From the first of the epochs looked at to the last, as a share."""
        first, *_, last = self.memory.values()
        return last / first - 1

    @property
    def pace_growth(self) -> float:
        """Of the time of a step, from the first tenth to the last, as a share."""
        return self.last_us / self.first_us - 1


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print."""
    given = _parse(words)
    if given.inside:
        print(json.dumps(asdict(train(given.recipe, given.epochs))))
        return 0
    described = machine.describe(machine.command_of("long_run"))
    print(
        "\n".join(
            [*machine.markdown_of(described), "", *table(measure(given.recipe, given.epochs))]
        )
    )
    return 0


def measure(recipe: str = RECIPE, epochs: int = EPOCHS) -> LongRun:
    """In a fresh process, whose memory holds nothing else."""
    words = ["--inside", "--recipe", recipe, "--epochs", str(epochs)]
    answer = subprocess.run(
        [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True
    )
    return LongRun.from_json(json.loads(answer.stdout))


def train(recipe: str, epochs: int) -> LongRun:
    """Here and now."""
    looked_at = {max(1, epochs // 10), max(1, epochs // 2), epochs}
    memory: dict[int, float] = {}

    def look(event: object) -> None:
        if isinstance(event, EpochDone) and event.row["epoch"] in looked_at:
            memory[int(event.row["epoch"])] = resident_mib()

    with tempfile.TemporaryDirectory() as folder, keeping_timed() as kept:
        run = sartor.fit(
            recipe=recipe,
            epochs=epochs,
            device="cpu",
            out=Path(folder) / "run",
            check=False,
            report=False,
            on_event=look,
        )
        history, images = run.history, len(run.split().train)
    steps = history[0]["step"]
    paces = [images / row["images_per_second"] / steps * 1e6 for row in history]
    tenth = max(1, epochs // 10)
    return LongRun(
        recipe=recipe,
        epochs=epochs,
        memory=memory,
        first_us=statistics.median(paces[:tenth]),
        last_us=statistics.median(paces[-tenth:]),
        seconds=history[-1]["seconds"],
        keeping=kept.seconds / history[-1]["seconds"],
        checkpoints=kept.checkpoints,
    )


@dataclass
class _Kept:
    seconds: float = 0.0
    checkpoints: int = 0


@contextmanager
def keeping_timed() -> Iterator[_Kept]:
    """Add up how long the loop copies its state, and its recorder writes."""
    kept = _Kept()
    snapshot, record = progress.snapshot, Recorder.__call__

    def timed(action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return action(*arguments)
            finally:
                kept.seconds += time.perf_counter() - began
                kept.checkpoints += action is snapshot

        return act

    progress.snapshot, Recorder.__call__ = timed(snapshot), timed(record)  # type: ignore[method-assign]
    try:
        yield kept
    finally:
        progress.snapshot, Recorder.__call__ = snapshot, record  # type: ignore[method-assign]


def resident_mib() -> float:
    """Memory of this process: what it has now where the system tells, else the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def table(found: Sequence[LongRun]) -> list[str]:
    """In Markdown."""
    return [
        "| training | what | value | growth or share | at most | reached |",
        "|---|---|--:|--:|--:|---|",
        *(row for one in found for row in _rows(one)),
    ]


def _rows(found: LongRun) -> Iterator[str]:
    memory = ", ".join(f"{value:,.0f}" for value in found.memory.values())
    pace = f"{found.first_us:,.1f}, {found.last_us:,.1f}"
    kept = f"{found.keeping * found.seconds:.2f} of {found.seconds:.1f}"
    epochs = ", ".join(map(str, found.memory))
    for what, value, share, limit in (
        (f"memory after epochs {epochs}, MiB", memory, found.memory_growth, GROWTH),
        ("a step in the first and the last tenth, µs", pace, found.pace_growth, GROWTH),
        (f"log and {found.checkpoints} checkpoints, s", kept, found.keeping, SHARE),
    ):
        yield (
            f"| {found.recipe}, {found.epochs} epochs | {what} | {value} | {100 * share:+.2f} % "
            f"| {100 * limit:g} % | {'yes' if share <= limit else 'no'} |"
        )


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default=RECIPE, help="a shipped one")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="at least 3")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.epochs < 3:
        parser.error("--epochs must be at least 3")
    return given


if __name__ == "__main__":
    sys.exit(main())
