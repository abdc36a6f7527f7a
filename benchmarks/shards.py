"""How much of the speed of decoding is left when it is done in shards by two workers.

    python benchmarks/shards.py --write         # measure, and write the figures into docs/work.md
    python benchmarks/shards.py --quick         # few pictures and rounds, for a busy machine
    python benchmarks/shards.py --json          # the figures as one line of JSON

The pictures are JPEGs of 500x375, those of benchmarks/pictures.py. In each round all contenders
take turns, since other programs may be at work: two processes that prepare half of the pictures
each and do nothing else, which is the ceiling; then two workers that follow a plan, from the first
lease to the last result. How long one of them then joins the results is measured once. All are
forks of a process that has imported everything; what a process needs to start is said beside the
table. A ratio is that of the medians of all rounds, once by wall time and once by processor time,
which says most on a busy machine. Afterwards workers are killed at random, as
benchmarks/shards_killed.py does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import pictures
import shards_killed

WORKERS = 2
ROUNDS, PICTURES = 4, 8_192
QUICK_ROUNDS, QUICK_PICTURES = 3, 600
SHARD = 512
PAGE = machine.DOCS / "work.md"
HEADING = "## Measured"


def main() -> None:
    """Make the pictures, measure, print a table or write it into the page."""
    options = parsed()
    described = machine.describe(machine.command_of("shards"))
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    count = options.pictures or (QUICK_PICTURES if options.quick else PICTURES)
    kills = options.kills if options.kills is not None else (10 if options.quick else 100)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        found = measured(Path(scratch), count, rounds)
        killed = [
            shards_killed.measured(Path(scratch) / "killed", task, kills, 0, shards_killed.PICTURES)
            for task in ("check", "decode")
            if kills
        ]
    document = {"machine": described, **found, "killed": killed}
    if options.json:
        print(json.dumps(document))
        return
    text = "\n".join(page(document))
    print(text)
    if options.write:
        whole = PAGE.read_text()
        PAGE.write_text(re.sub(rf"{HEADING}\n.*", lambda _: text + "\n", whole, flags=re.DOTALL))


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/work.md")
    parser.add_argument("--quick", action="store_true", help="fewer pictures and rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--kills", type=int, help="workers to kill in each task; 0 for none")
    parser.add_argument("--scratch", help="folder for the pictures and the results")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    return parser.parse_args()


def measured(scratch: Path, count: int, rounds: int) -> dict[str, Any]:
    """The rates of all contenders, and what a process needs to start."""
    from sartor import api

    source = photographs(scratch / "pictures", count)
    bundle = network(scratch, source)
    plans = {}
    for task in ("check", "decode", "predict"):
        plans[task] = scratch / f"{task}-planned"
        own: dict[str, Any] = {"model": bundle} if task == "predict" else {"image_size": 64}
        api.plan_work(plans[task], task, source, shard_size=SHARD, **own)
    contenders: dict[str, Callable[[], list[float]]] = {
        "ceiling": lambda: ceiling(source),
        **{task: lambda planned=planned: worked(planned) for task, planned in plans.items()},
    }
    times: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender()  # so that the disk's cache is the same for all
    for _ in range(rounds):
        for name, contender in contenders.items():
            times[name].append(contender())
    joining = {task: joined(planned) for task, planned in plans.items()}
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    walls = {name: [row[0] for row in rows] for name, rows in times.items()}
    return {
        "pictures": count,
        "rounds": rounds,
        "workers": WORKERS,
        "shard_size": SHARD,
        "start_seconds": started(plans["check"]),
        "rows": [
            {
                "what": name,
                "pictures_per_second": count / wall,
                "range": [count / max(walls[name]), count / min(walls[name])],
                "cpu_microseconds": cpu / count * 1e6,
                "of_ceiling": medians["ceiling"][0] / wall,
                "of_ceiling_by_cpu": medians["ceiling"][1] / cpu,
                "join_seconds": joining.get(name),
            }
            for name, (wall, cpu) in medians.items()
        ],
    }


def photographs(folder: Path, count: int) -> Path:
    """JPEGs in two classes; copies of a few hundred, as files of their own."""
    originals = pictures.photographs(min(count, 300))
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(originals[number % len(originals)])
    return folder


def network(scratch: Path, source: Path) -> Path:
    """A small network for such pictures, as a bundle."""
    import sartor

    settings: dict[str, Any] = {"model": "lenet", "recipe": "plain", "image_size": 64}
    run = sartor.fit(
        source, epochs=1, limit_per_class=60, out=scratch / "run", report=False, **settings
    )
    out = scratch / "bundle.zip"
    run.export(out)
    return out


def forked(works: list[Callable[[], object]], until: Callable[[], bool]) -> list[float]:
    """Seconds until `until` holds, and processor seconds of all."""
    before, began = os.times(), time.perf_counter()
    processes = []
    for work in works:
        pid = os.fork()
        if not pid:
            try:
                work()
            finally:
                os._exit(0)
        processes.append(pid)
    while not until():
        time.sleep(0.005)
    reached = time.perf_counter()
    for pid in processes:
        os.waitpid(pid, 0)
    after = os.times()
    cpu = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return [reached - began, cpu]


def ceiling(source: Path) -> list[float]:
    """Every picture read and prepared, and nothing else: each of the processes has its part."""
    from sartor.data.pictures.decode import quiet_decoding
    from sartor.data.pictures.preprocess import Preprocess

    files = sorted(source.glob("*/*.jpg"))
    geometry = Preprocess(
        channels=3, height=64, width=64, resize="letterbox", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    marks = [source / f".done{number}" for number in range(WORKERS)]

    def part(number: int) -> None:
        with quiet_decoding():
            for file in files[number::WORKERS]:
                geometry.seen(file.read_bytes(), file.name)
        marks[number].touch()

    for mark in marks:
        mark.unlink(missing_ok=True)
    works = [lambda number=number: part(number) for number in range(WORKERS)]
    return forked(works, lambda: all(mark.exists() for mark in marks))


def worked(planned: Path) -> list[float]:
    """A plan followed by two workers of one thread each, up to the last result."""
    from sartor.api.working import follow
    from sartor.shards.folder import WorkFolder

    folder = planned.with_name(f"{planned.name}-followed")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(planned, folder)
    shards = WorkFolder.open(folder).plan.shards

    def all_done() -> bool:
        return len(list((folder / "results").glob("[0-9]*.parquet"))) == shards

    return forked([lambda: follow(folder, threads=1, stopped=all_done)] * WORKERS, all_done)


def joined(planned: Path) -> float:
    """Seconds to join the results that were made last."""
    from sartor.api.working import follow

    folder = planned.with_name(f"{planned.name}-followed")
    return forked([lambda: follow(folder, threads=1)], (folder / "summary.json").exists)[0]


def started(planned: Path) -> float:
    """Seconds from the start of `sartor work` to its first lease; the least of three."""
    seconds = []
    for _ in range(3):
        folder = planned.with_name(f"{planned.name}-started")
        shutil.copytree(planned, folder)
        began = time.perf_counter()
        words = [sys.executable, "-m", "sartor", "work", str(folder), "--quiet"]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as worker:
            while not list((folder / "leases").glob("[0-9]*")) and worker.poll() is None:
                time.sleep(0.005)
            seconds.append(time.perf_counter() - began)
            worker.kill()
        shutil.rmtree(folder)
    return min(seconds)


def page(found: dict[str, Any]) -> list[str]:
    """The section of the page."""
    about = found["machine"]
    names = {
        "ceiling": "ceiling: two processes that only read and prepare",
        "check": "check, two workers",
        "decode": "decode to PNG, two workers",
        "predict": "predict with a lenet at 64x64, two workers",
    }
    lines = [
        HEADING,
        "",
        f"JPEGs of 500x375, {found['pictures']:,} of them in shards of {found['shard_size']}, "
        f"medians of {found['rounds']} rounds in which all take turns; two workers of one thread.",
        "",
        "| | pictures/s (range) | CPU time per picture | of the ceiling | by CPU time | joining |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in found["rows"]:
        low, high = row["range"]
        joining = "" if row["join_seconds"] is None else f"{row['join_seconds']:.2f} s"
        pace = f"{row['pictures_per_second']:,.0f} ({low:,.0f} to {high:,.0f})"
        lines.append(
            f"| {names[row['what']]} | {pace} | {row['cpu_microseconds']:,.0f} µs | "
            f"{row['of_ceiling']:.0%} | {row['of_ceiling_by_cpu']:.0%} | {joining} |"
        )
    lines += [
        "",
        "Beside what the ceiling does, `check` hashes every file and its pixels, `decode` "
        "compresses a PNG, and `predict` computes a network.",
        "",
        f"`sartor work` takes {found['start_seconds']:.1f} s from its start to the first lease.",
    ]
    if found["killed"]:
        lines += [
            "",
            "Workers killed (SIGKILL) or put to sleep beyond their lease (SIGSTOP) at random "
            "moments, three at a time:",
            "",
            *shards_killed.table(found["killed"]),
        ]
    lines += ["", *[f"- {name}: {text}" for name, text in about.items()]]
    return lines


if __name__ == "__main__":
    main()
