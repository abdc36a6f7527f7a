"""What another program on the same cores costs, with and without OpenMP's default of spinning.

    python benchmarks/busy.py

Trains one epoch of fashion-mlp with the command line, alone and beside as many busy processes as
there are cores, in turn; prints images per second.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROUNDS = 3
SPINNING = "300000"
"""What libgomp does unless it is told otherwise."""
SECONDS = 180
SLOW_ENOUGH = "no result within three minutes"


def main() -> None:
    """Measure in turn, print medians."""
    speeds: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for wait in ("default", "sartor"):
            speeds.setdefault(("alone", wait), []).append(images_per_second(wait))
            with busy_cores():
                speeds.setdefault(("busy", wait), []).append(images_per_second(wait))
    for (machine, wait), values in sorted(speeds.items()):
        spread = ", ".join(f"{value:,.0f}" for value in values)
        median = statistics.median(values)
        print(f"{machine:<6} {wait:<8} {median:>8,.0f} images/s, median of {spread}")
    print(f"(0: {SLOW_ENOUGH})")


def images_per_second(wait: str) -> float:
    """Of one epoch; 0 where it takes too long."""
    environment = dict(os.environ)
    if wait == "default":
        environment["GOMP_SPINCOUNT"] = SPINNING
    with tempfile.TemporaryDirectory() as folder:
        words = ["fit", "--recipe", "fashion-mlp", "--epochs", "1", "--quiet", "--json"]
        command = [sys.executable, "-m", "sartor", *words, "--out", str(Path(folder) / "run")]
        try:
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, timeout=SECONDS, check=True
            )
        except subprocess.TimeoutExpired:
            return 0.0
    return float(json.loads(done.stdout)["images_per_second"])


@contextmanager
def busy_cores() -> Iterator[None]:
    """One process a core that does nothing but compute."""
    loop = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(loop) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


if __name__ == "__main__":
    main()
