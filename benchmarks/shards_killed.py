"""Workers killed at random moments, and whether what they made is the same.

    python benchmarks/shards_killed.py                       # 100 kills in each of two tasks
    python benchmarks/shards_killed.py --kills 5 --tasks decode --json

A plan is followed twice: by one worker that nobody disturbs; and by three at a time, each of which
is killed (SIGKILL) or put to sleep for longer than its lease (SIGSTOP, later SIGCONT) at a random
moment and replaced, until all is done. The joined results are compared byte for byte, and this is
repeated until so many workers were disturbed. Workers are forks of a process that has imported
everything, so that they are killed at work and not while they start.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LEASE_SECONDS = 1.0
WORKERS = 3
PICTURES, SHARD = 240, 4


def main() -> None:
    """Make pictures and a bundle, kill, compare, print a row for each task."""
    options = parsed()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [
            measured(Path(scratch), task, options.kills, options.seed, options.pictures)
            for task in options.tasks
        ]
    if options.json:
        print(json.dumps(rows))
        return
    print("\n".join(table(rows)))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each task."""
    lines = [
        "| task | pictures | shards | rounds | killed | put to sleep | results equal |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        equal = "yes, byte for byte" if row["equal"] else "NO"
        counts = (row[name] for name in ("pictures", "shards", "rounds", "killed", "slept"))
        lines.append(f"| {row['task']} | {' | '.join(map(str, counts))} | {equal} |")
    return lines


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--tasks", nargs="+", default=["check", "decode"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    return parser.parse_args()


def measured(scratch: Path, task: str, kills: int, seed: int, count: int) -> dict[str, Any]:
    """Follow one plan undisturbed and disturbed."""
    from sartor import api

    scratch.mkdir(exist_ok=True)
    source = photographs(scratch / "pictures", count)
    planned, quiet = scratch / f"{task}-planned", scratch / f"{task}-quiet"
    plan = api.plan_work(
        planned, task, source, lease_seconds=LEASE_SECONDS, image_size=24, shard_size=SHARD
    )
    shutil.copytree(planned, quiet)
    expected = api.work(quiet, threads=1).summary
    chance = random.Random(seed)
    killed = slept = rounds = 0
    equal = True
    while killed + slept < kills and equal:
        folder = scratch / f"{task}-{rounds}"
        shutil.copytree(planned, folder)
        counts = disturbed(folder, kills - killed - slept, chance)
        killed, slept, rounds = killed + counts[0], slept + counts[1], rounds + 1
        found = api.work(folder, threads=1, retry=True).summary
        contents = [(one / expected["file"]).read_bytes() for one in (quiet, folder)]
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        equal = contents[0] == contents[1] and found == expected and not left
        shutil.rmtree(folder)
    return {
        "task": task,
        "pictures": plan.pictures,
        "shards": plan.shards,
        "rounds": rounds,
        "killed": killed,
        "slept": slept,
        "equal": equal,
    }


def photographs(folder: Path, count: int) -> Path:
    """JPEGs of noise in two classes, of which a few are cut short or equal."""
    import numpy as np
    from PIL import Image

    if folder.exists():
        return folder
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = generator.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(small).resize((640, 480)).save(path, quality=90)
        if number % 23 == 0:
            path.write_bytes(path.read_bytes()[:-4_000])
        if number % 29 == 28:
            shutil.copy(folder / "a" / "2.jpg", path)
    return folder


def disturbed(folder: Path, kills: int, chance: random.Random) -> tuple[int, int]:
    """How many workers were killed, and how many were put to sleep and woken up."""
    killed = slept = 0
    workers: dict[int, float] = {}
    asleep: dict[int, float] = {}
    while killed + slept < kills and not (folder / "summary.json").exists():
        while len(workers) < WORKERS:
            workers[worker(folder)] = time.monotonic()
        time.sleep(chance.uniform(0.0, 0.06))
        victim = chance.choice(list(workers))
        del workers[victim]
        if chance.random() < 0.15 and len(asleep) < WORKERS:
            os.kill(victim, signal.SIGSTOP)
            asleep[victim] = time.monotonic()
            slept += 1
        else:
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            killed += 1
        for pid, since in list(asleep.items()):
            if time.monotonic() - since > 1.5 * LEASE_SECONDS:
                del asleep[pid]
                os.kill(pid, signal.SIGCONT)
                workers[pid] = time.monotonic()
    for pid in asleep:
        os.kill(pid, signal.SIGCONT)
    for pid in (*workers, *asleep):
        os.waitpid(pid, 0)
    return killed, slept


def worker(folder: Path) -> int:
    """The process number of a new worker."""
    from sartor.api.working import follow

    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = 0 if follow(folder, threads=1, retry=True).complete else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
