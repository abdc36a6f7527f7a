"""Seconds of the default training on a quiet machine, and beside other programs.

    python benchmarks/busy_fit.py --page                       # Fashion-MNIST, one epoch
    python benchmarks/busy_fit.py --data digits --rounds 1     # a try

Each round trains once alone and once beside as many processes that only compute as `--busy` says,
in turn, so that a change of the machine's pace meets both. Measurements of engines made before do
not count: each training has a cache of its own, in which the set lies already. Every round is
printed, then a table as Markdown with medians and ranges, and what each training chose; `--page`
puts it into docs/native.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import machine

from sartor.home import cache_home

BEGIN, END = "<!-- busy: begin -->", "<!-- busy: end -->"


class Training(NamedTuple):
    """One training, as a whole process."""

    seconds: float
    """Wall time, start of the program included."""
    images_per_second: float
    engine: str
    """What was chosen, in the run's words."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure in turn, print each and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, os.cpu_count() or 1])
    parser.add_argument("--patience", type=float, default=900, help="seconds for one training")
    parser.add_argument("--page", action="store_true", help="write the table into docs/native.md")
    given = parser.parse_args(words)
    described = machine.describe(machine.command_of("busy_fit"))
    measured: dict[int, list[Training]] = {count: [] for count in given.busy}
    for number in range(given.rounds):
        for count in given.busy:
            with busy(count):
                one = training(given.data, given.epochs, given.patience)
            measured[count].append(one)
            print(f"round {number + 1}, {count} busy: {one}", flush=True)
    lines = table(measured)
    print("\n".join(lines))
    if given.page:
        shown = ("command", "processor", "system", "torch", "sartor", "load before", "date")
        told = "; ".join(f"{name} {described[name]}" for name in shown)
        lines += ["", *textwrap.wrap(f"Measured with: {told}.", 100)]
        machine.written_into(machine.DOCS / "native.md", BEGIN, END, lines)
    return 0


def training(data: str, epochs: int, patience: float) -> Training:
    """Of the default recipe, with nothing remembered of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        home, out = Path(folder) / "home", Path(folder) / "run"
        home.mkdir()
        (home / "sets").symlink_to(cache_home().absolute() / "sets")
        command = [sys.executable, "-m", "sartor", "fit", data, "--epochs", str(epochs)]
        began = time.perf_counter()
        done = subprocess.run(
            [*command, "--quiet", "--json", "--out", str(out)],
            env={**os.environ, "SARTOR_HOME": str(home)},
            stdout=subprocess.PIPE,
            timeout=patience,
            check=True,
        )
        seconds = time.perf_counter() - began
        engine = out / "engine.json"
        line = json.loads(engine.read_text())["line"] if engine.exists() else "engine: default"
    return Training(seconds, float(json.loads(done.stdout)["images_per_second"]), line)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def table(measured: dict[int, list[Training]]) -> list[str]:
    """Medians and ranges, and how much longer it takes beside others."""
    quiet = statistics.median(one.seconds for one in measured[min(measured)])
    lines = [
        "| busy processes | runs | seconds, median | range | times as long | images/s | engine |",
        "|--:|--:|--:|--:|--:|--:|---|",
    ]
    for count, found in measured.items():
        seconds = [one.seconds for one in found]
        median = statistics.median(seconds)
        speed = statistics.median(one.images_per_second for one in found)
        chosen = "; ".join(dict.fromkeys(one.engine.removeprefix("engine: ") for one in found))
        lines.append(
            f"| {count} | {len(found)} | {median:.1f} | {min(seconds):.1f} to {max(seconds):.1f} | "
            f"{median / quiet:.1f} | {speed:,.0f} | {chosen} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
