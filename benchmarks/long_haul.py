"""A hundred thousand steps in one training: what grows on the way.

    python benchmarks/long_haul.py                 # 100,000 steps; prints a table
    python benchmarks/long_haul.py --steps 5000

A small network on the digits, in a process of its own, with a checkpoint as often as it is due.
Twenty times on the way it is looked at: memory, open files, threads, files of the run and their
bytes, and the pace of the last steps. All the while another thread reads the history from the disk;
it must always be that of the epochs from the first on, without a gap or a row that is half there.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import machine
from long_run import resident_mib

import sartor
from sartor.events import EpochDone, Event
from sartor.runs.folder import RunFolder

STEPS, LOOKS = 100_000, 20
BATCH, IMAGES = 16, 1078
"""Training images of the digits, with a fifth for validation and a fifth for testing."""
MEMORY_GROWTH, PACE_GROWTH = 0.03, 0.25
"""From the second tenth to the last. The pace is that of single epochs on whatever else runs."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How things stood after so many steps."""

    step: int
    mib: float
    """Resident memory."""
    open_files: int
    threads: int
    files: int
    bytes: int
    """Of the run's folder, without the history."""
    history_bytes: int
    step_us: float
    """Median over the epochs since the last look."""


@dataclass(frozen=True, kw_only=True)
class Haul:
    """A long training, and what was seen on the way."""

    steps: int
    seconds: float
    looks: tuple[Look, ...]
    reads: int
    """How often the history was read while it was written."""
    torn_reads: int
    """How often it was not what it has to be."""

    @property
    def problems(self) -> list[str]:
        """What grew that should not, as sentences."""
        # What a first look sees, the libraries have only begun to keep.
        first, last = self.looks[max(1, len(self.looks) // 10)], self.looks[-1]
        found = []
        if last.mib > first.mib * (1 + MEMORY_GROWTH):
            found.append(f"memory grew from {first.mib:.0f} to {last.mib:.0f} MiB")
        for name in ("open_files", "threads", "files"):
            before, after = getattr(first, name), getattr(last, name)
            if after > before:
                found.append(f"{name.replace('_', ' ')} grew from {before} to {after}")
        # A checkpoint holds the history, so that each is whole by itself: last, the one before it
        # and the best.
        rows = last.history_bytes - first.history_bytes
        if last.bytes - first.bytes > 6 * rows + 4096:
            found.append(f"the folder grew from {first.bytes:,} to {last.bytes:,} bytes")
        early = statistics.median(one.step_us for one in self.looks[1 : len(self.looks) // 2])
        late = statistics.median(one.step_us for one in self.looks[len(self.looks) // 2 :])
        if late > early * (1 + PACE_GROWTH):
            found.append(f"a step grew from {early:.0f} to {late:.0f} µs")
        if self.torn_reads:
            found.append(f"{self.torn_reads} of {self.reads} times the history was not whole")
        return found


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print."""
    given = _parse(words)
    if given.inside:
        print(json.dumps(asdict(haul(given.steps))))
        return 0
    line = [sys.executable, __file__, "--inside", "--steps", str(given.steps)]
    answer = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
    found = from_json(answer.stdout)
    described = machine.describe(machine.command_of("long_haul"))
    print("\n".join([*machine.markdown_of(described), "", *table(found)]))
    for problem in found.problems:
        print(f"GREW: {problem}", file=sys.stderr)
    return 1 if found.problems else 0


def from_json(text: str) -> Haul:
    """What `--inside` printed."""
    found = json.loads(text)
    return Haul(**{**found, "looks": tuple(Look(**one) for one in found["looks"])})


def haul(steps: int) -> Haul:
    """Here and now."""
    per_epoch = -(-IMAGES // BATCH)
    epochs = max(LOOKS, -(-steps // per_epoch))
    looks: list[Look] = []
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="sartor-long-") as scratch:
        out = Path(scratch) / "run"
        reader = _Reader(RunFolder(out))

        def look(event: Event) -> None:
            if not isinstance(event, EpochDone):
                return
            rates.append(BATCH / event.row["images_per_second"] * 1e6)
            if int(event.row["epoch"]) * LOOKS // epochs > len(looks):
                looks.append(_look(out, int(event.row["step"]), statistics.median(rates)))
                rates.clear()

        began = time.monotonic()
        with reader:
            run = sartor.fit(
                "digits",
                model="mlp",
                model_kwargs={"hidden": (16,)},
                epochs=epochs,
                batch_size=BATCH,
                engine="plain",
                threads=1,
                workers=0,
                test_fraction=0.2,
                val_fraction=0.25,
                report=False,
                check=False,
                out=out,
                on_event=look,
            )
        seconds = time.monotonic() - began
        made = run.history[-1]["step"]
    return Haul(
        steps=made,
        seconds=seconds,
        looks=tuple(looks),
        reads=reader.reads,
        torn_reads=reader.torn,
    )


def _look(out: Path, step: int, step_us: float) -> Look:
    gc.collect()
    history = out / "history.jsonl"
    there = [path for path in out.rglob("*") if path.is_file()]
    sizes = {path: path.stat().st_size for path in there}
    return Look(
        step=step,
        mib=resident_mib(),
        open_files=len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0,  # noqa: PTH208
        threads=threading.active_count(),
        files=len(there),
        bytes=sum(sizes.values()) - sizes.get(history, 0),
        history_bytes=sizes.get(history, 0),
        step_us=step_us,
    )


class _Reader:
    """Reads the history of a run again and again, as another process would."""

    def __init__(self, folder: RunFolder) -> None:
        self.reads = self.torn = 0
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> _Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        longest = 0
        while not self._over.wait(0.02):
            epochs = [row["epoch"] for row in self._folder.history()]
            self.reads += 1
            # What was seen once must not go again.
            self.torn += epochs != list(range(1, len(epochs) + 1)) or len(epochs) < longest
            longest = max(longest, len(epochs))


def table(found: Haul) -> list[str]:
    """In Markdown."""
    lines = [
        f"{found.steps:,} steps in {found.seconds:.0f} s; the history was read {found.reads:,} "
        f"times meanwhile, {found.torn_reads} times it was not whole.",
        "",
        "| after steps | memory, MiB | open files | threads | files of the run | bytes without "
        "history | of the history | a step, µs |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    step = max(1, len(found.looks) // 5)
    for one in (*found.looks[:-1:step], found.looks[-1]):
        lines.append(
            f"| {one.step:,} | {one.mib:.0f} | {one.open_files} | {one.threads} | {one.files} "
            f"| {one.bytes:,} | {one.history_bytes:,} | {one.step_us:.0f} |"
        )
    return lines


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
