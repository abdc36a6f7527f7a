"""Two processes of one thread against one process of one thread, and what many more would take.

    python benchmarks/scaling.py                 # all of it, about six minutes
    python benchmarks/scaling.py --part native   # of it native, plain, machines or sums

Writes the measured part of docs/scaling.md, and every single result to docs/scaling.json, where the
parts that are not measured stay what they were. One process and two take turns within the same
processes, and each is compared with the other in the same round, so that what disturbs the machine
disturbs both. A quiet machine with at least two cores is needed all the same: of a busy one only
the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import machine
import numpy as np
import scaling_model
import torch

import sartor
from sartor import assembly, distributed, files
from sartor.api.splitting import split_of
from sartor.data.dataset import Dataset
from sartor.distributed import Team
from sartor.interrupts import StopRequest
from sartor.recipe import Recipe
from sartor.training.engines import hardware
from sartor.training.loop import Job, update
from sartor.training.seeding import seed_random_numbers
from sartor.training.state import Progress
from sartor.training.together import shared

BATCH, SMALLER = 512, 256
ROUNDS = 15
SECONDS_A_TURN = 0.2
GOAL = 1.7
ENGINES = ("native", "plain")
PARTS = (*ENGINES, "machines", "sums")
CASES: dict[str, dict[str, Any]] = {
    "cnn": {"model": "lenet", "model_kwargs": {"channels": [6, 12], "hidden": [120, 60]}},
    "resnet8": {"model": "resnet8"},
}
"""The walk-through's CNN (recipe fashion-cnn) on fashion-mnist, and a residual network with batch
normalisation on noise of 32 x 32 pixels in colour, whose values change no time."""
SIZES = (1 << 10, 1 << 16, 1 << 20, 1 << 22)
"""Numbers of four bytes that are added up."""
PROCESSES = (2, 3, 4)
BEGIN, END = "<!-- measured by benchmarks/scaling.py -->", "<!-- measured, end -->"


def main() -> None:
    """Measure, write page and numbers; or, in a process that was started, take part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--part", choices=PARTS, help="measure only this")
    parser.add_argument("--no-page", action="store_true", help="print the tables only")
    parser.add_argument("--member", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.member:
        kind, detail = given.member
        result = steps(detail, given.rounds) if kind == "steps" else sums(given.rounds)
        if os.environ["RANK"] == "0":
            print(json.dumps(result))
        return
    path = machine.DOCS / "scaling.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and given.part else {}
    for part in [given.part] if given.part else PARTS:
        found[part] = {
            "machine": machine.describe(machine.command_of("scaling")) | {"nice": str(os.nice(0))},
            "found": measured(part, given.rounds),
        }
    lines = [part for line in page(found) for part in wrapped(line)]
    if given.no_page:
        print("\n".join(lines))
        return
    files.write_json(path, found)
    machine.written_into(machine.DOCS / "scaling.md", BEGIN, END, lines)


def measured(part: str, rounds: int) -> Any:
    """One of the parts."""
    if part in ENGINES:
        return together(2, ["steps", part], rounds)
    if part == "machines":
        return {one: together(2, ["steps", one], rounds, machines=2) for one in ENGINES}
    return {
        way: {
            str(size): together(size, ["sums", ""], rounds, machines=machines) for size in PROCESSES
        }
        for way, machines in (("memory", 1), ("network", 2))
    }


def together(size: int, what: list[str], rounds: int, machines: int = 1) -> Any:
    """What the first of so many processes comes to.

    Args:
        machines: with more than one, they are told that none shares its machine with another, and
            exchange over the network as machines do, though over that of this machine.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    line = [sys.executable, __file__, "--rounds", str(rounds), "--member", *what]
    local = size if machines == 1 else 1
    with ExitStack() as stack:
        started = []
        for rank in range(size):
            said = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": local}
            said["LOCAL_RANK"] = rank if machines == 1 else 0
            environment = {name: str(number) for name, number in said.items()}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            environment |= {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
            process = subprocess.Popen(
                line, env=os.environ | environment, stdout=subprocess.PIPE, text=True
            )
            started.append(process)
            stack.callback(process.kill)
        answers = [process.communicate()[0] for process in started]
        if any(process.returncode for process in started):
            raise SystemExit(f"a process of {size} failed at {what}")
    return json.loads(answers[0])


def steps(engine: str, rounds: int) -> dict[str, Any]:
    """Seconds of a training step: alone, together, and alone with two threads and with a smaller
    batch; between machines also without an order of sums."""
    team = joined()
    ways = [("alone", BATCH, ""), ("together", BATCH, "ordered")]
    if team.local_size == team.size:
        ways += [("threads", BATCH, ""), ("smaller", SMALLER, "")]
    else:
        ways += [("fast", BATCH, "fast")]
    found = {}
    for name, settings in CASES.items():
        dataset = sartor.load("fashion-mnist") if name == "cnn" else noise()
        turns: dict[str, Turn] = {}
        with ExitStack() as stack:
            for way, batch, how in ways:
                own = {"batch_size": batch, "threads": 2 if way == "threads" else 1}
                job = job_of(dataset, engine, settings | own, how or "ordered")
                count = Turn(job).steps_in(SECONDS_A_TURN)
                if how:
                    job = stack.enter_context(shared(job, team, StopRequest()))
                # As many for all.
                count = int(team.gather(torch.tensor([count]))[0, 0])
                turns[way] = Turn(job, count)
            rows: dict[str, list[tuple[float, float]]] = {way: [] for way in turns}
            for _ in range(rounds + 1):
                for way, turn in turns.items():
                    if way in ("together", "fast"):
                        # Both are awake when the clock starts.
                        team.gather(torch.zeros(1))
                        rows[way].append(turn())
                    elif team.leads:
                        rows[way].append(turn())
                    # Alone is alone: the other process sleeps meanwhile.
                    rest(team)
        numbers = sum(p.numel() for p in job.model.parameters())
        norms = sum("Norm" in type(one).__name__ for one in job.model.modules())
        # The first round warms up.
        found[name] = {
            "seconds": {way: [wall for wall, _ in row[1:]] for way, row in rows.items()},
            "processor_seconds": {way: [busy for _, busy in row[1:]] for way, row in rows.items()},
            "parameters": numbers,
            "norms": norms,
        }
    team.close()
    return found


class Turn:
    """Some steps of a training."""

    def __init__(self, job: Job, count: int = 1) -> None:
        self._job, self._step, self._count = job, 0, count

    def steps_in(self, seconds: float) -> int:
        """How many steps take about so long."""
        self()
        return max(1, round(seconds / self()[0]))

    def __call__(self) -> tuple[float, float]:
        """Seconds of one step, batch included: by the clock, and of the processor."""
        with hardware.tuned(self._job.settings):
            began, busy = time.perf_counter(), time.process_time()
            left = self._count
            while left:
                made = self._make(left)
                left, self._step = left - made, self._step + made
            took = time.perf_counter() - began, time.process_time() - busy
            return took[0] / self._count, took[1] / self._count

    def _make(self, most: int) -> int:
        """Make some steps, at most so many."""
        job, per_epoch = self._job, len(self._job.batches) - 1
        position = self._step % per_epoch
        if job.engine_steps is not None:
            progress = Progress(step=self._step, position=position)
            made = job.engine_steps(job, progress, min(most, per_epoch - position))
            return len(made.losses)
        seed_random_numbers(0, self._step)
        outcome = (job.engine_update or update)(job, job.batches.batch(0, position), 1e-3)
        float(outcome.loss)
        return 1


def noise() -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20 * BATCH, 3, 32, 32), np.uint8)
    return sartor.load((images, np.arange(len(images)) % 10))


def job_of(dataset: Dataset, engine: str, settings: dict[str, Any], how: str) -> Job:
    """As `fit` makes it."""
    changes = {"engine": engine, "gradient_sum": how, "val_fraction": 0.0}
    recipe = Recipe().with_settings({**settings, **changes, "shuffle": False})
    job = assembly.assemble(recipe, dataset, split_of(recipe, dataset)).job
    job.model.train()
    return job


def rest(team: Team) -> None:
    """Meet without keeping a core busy."""
    if team.leads:
        team.post(do="turn")
    else:
        team.next_message()


def joined() -> Team:
    team = distributed.team()
    assert team is not None
    if team.leads:
        team.meet()
    team.open("cpu")
    return team


def sums(rounds: int) -> list[dict[str, Any]]:
    """Seconds of adding up so many numbers, in order and as the library does it, and of exchanging
    64 of them."""
    team = joined()
    found = []
    for length in SIZES:
        values = torch.ones(length)
        row: dict[str, Any] = {"numbers": length, "ordered": [], "fast": [], "gather": []}
        times = max(2, min(200, (1 << 22) // length))
        few = values[:64]
        for _ in range(rounds + 1):
            for way in ("ordered", "fast"):
                row[way].append(seconds_of(partial(team.add_up, values, way), times))
            if length <= 1 << 10:
                row["gather"].append(seconds_of(partial(team.gather, few), times))
        found.append({key: one[1:] if isinstance(one, list) else one for key, one in row.items()})
    team.close()
    return found


def seconds_of(work: Callable[[], Any], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


@dataclass(frozen=True)
class Ratio:
    """How many times as fast, round by round."""

    values: list[float]

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return f"{statistics.median(self.values):.2f} | {low:.2f} to {high:.2f}"


def page(found: dict[str, Any]) -> list[str]:
    """The measured part of docs/scaling.md."""
    by_part = {part: one["found"] for part, one in found.items()}
    lines = [
        "Written by `benchmarks/scaling.py`; every single result is in "
        f"[scaling.json](scaling.json). A batch has {BATCH} images, each process one thread; cnn "
        "trains on fashion-mnist, resnet8 on noise of 32 x 32 pixels in colour. One process and "
        "two take turns; the ratios are those within a round, a turn being about "
        f"{SECONDS_A_TURN} s.",
        "",
        "On one machine, through shared memory:",
        "",
        *table({engine: by_part[engine] for engine in ENGINES if engine in by_part}),
    ]
    if "machines" in by_part:
        lines += [
            "",
            "As between machines, over gloo, though both are on this one:",
            "",
            *table(by_part["machines"]),
            "",
            "What the order of sums costs there (`--gradient-sum ordered` against `fast`, of a "
            f"step, medians of the same rounds): {costs_of_order(by_part['machines'])}. In shared "
            "memory they are always added up in order.",
        ]
    if "sums" in by_part:
        lines += ["", *sums_table(by_part["sums"])]
    lines += [
        "",
        "By processor time: what the first process computes in a step alone, over what it computes "
        "together with the second; it leaves out sleeping, and what other programs took.",
    ]
    if {"sums", *ENGINES} <= set(by_part):
        lines += ["", *scaling_model.lines(by_part, BATCH, SMALLER)]
    return [*lines, "", *machines_table({part: one["machine"] for part, one in found.items()})]


def machines_table(found: dict[str, dict[str, str]]) -> list[str]:
    """Where and when the parts were measured: what all have in common, and what is each one's."""
    first, *others = found.values()
    own = [name for name, value in first.items() if any(one[name] != value for one in others)]
    common = {name: value for name, value in first.items() if name not in own}
    if not own:
        return machine.markdown_of(common)
    lines = [f"| part | {' | '.join(own)} |", "|---|" + "---|" * len(own)]
    for part, one in found.items():
        lines.append(f"| {part} | {' | '.join(one[name] for name in own)} |")
    return [*machine.markdown_of(common), "", *lines]


def table(found: dict[str, Any]) -> list[str]:
    """Steps by one process and by two, by engine and network."""
    lines = [
        "| engine | network | parameters | rounds | one process, ms | two, ms | times as fast | "
        f"lowest to highest | goal {GOAL} | by processor time | one of two threads, ms |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for engine, networks in found.items():
        for name, one in networks.items():
            seconds, busy = one["seconds"], one["processor_seconds"]
            by_processor = statistics.median(ratios(busy["alone"], busy["together"]))
            ratio = Ratio(ratios(seconds["alone"], seconds["together"]))
            reached = "reached" if statistics.median(ratio.values) >= GOAL else "not reached"
            lines.append(
                f"| {engine} | {name} | {one['parameters']:,} | {len(ratio.values)} | "
                f"{ms(seconds['alone'])} | {ms(seconds['together'])} | {ratio} | {reached} | "
                f"{by_processor:.2f} | {ms(seconds['threads']) if 'threads' in seconds else ''} |"
            )
    return lines


def costs_of_order(found: dict[str, Any]) -> str:
    costs = [
        (
            engine,
            name,
            statistics.median(ratios(one["seconds"]["together"], one["seconds"]["fast"])),
        )
        for engine, networks in found.items()
        for name, one in networks.items()
    ]
    return ", ".join(
        f"{name} with {engine} {100 * (ratio - 1):+.1f} %" for engine, name, ratio in costs
    )


def sums_table(found: dict[str, Any]) -> list[str]:
    memory, network = found["memory"], found["network"]
    lines = [
        "Adding up only, microseconds, least of the rounds, all processes on this machine:",
        "",
        "| processes | numbers | shared memory | gloo, ordered | gloo, fast |",
        "|--:|--:|--:|--:|--:|",
    ]
    for size, rows in memory.items():
        for row, other in zip(rows, network[size], strict=True):
            least = [min(row["ordered"]), min(other["ordered"]), min(other["fast"])]
            shown = " | ".join(f"{1e6 * one:,.0f}" for one in least)
            lines.append(f"| {size} | {row['numbers']:,} | {shown} |")
    return lines


def wrapped(line: str) -> list[str]:
    """Prose in lines of a page's width; tables as they are."""
    return [line] if line.startswith("|") or not line else textwrap.wrap(line, 100)


def ratios(slow: Sequence[float], quick: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(slow, quick, strict=True)]


def ms(seconds: Sequence[float]) -> str:
    return f"{1e3 * statistics.median(seconds):.2f}"


if __name__ == "__main__":
    main()
