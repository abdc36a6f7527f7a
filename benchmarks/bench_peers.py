"""sartor beside Lightning, fastai, skorch, Keras and the loop of `tutorial.py`.

    python benchmarks/bench_peers.py                       five rounds; writes docs/peers.md
    python benchmarks/bench_peers.py --rounds 1 --append   one more round
    python benchmarks/bench_peers.py --rounds 0 --append   the page again, from what was measured
    python benchmarks/bench_peers.py --quick               a little of everything; writes nothing

In each round every contender has a fresh process, and all train one after the other, task by task;
the next round begins with another contender.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import machine
from peers.contenders import CONTENDERS
from peers.disturbance import ALLOWED_OTHERS
from peers.material import write_material
from peers.page import document
from peers.peak import peak_flops
from peers.processes import Worker, pin, workers
from peers.results import Results
from peers.tasks import TASKS, Task

from sartor.files import write_text

SAME_PLACE = ("processor", "Python", "torch", "sartor")
"""What must not change between rounds, as `machine.describe` names it."""
RETRIES = 2
"""Of a measurement in which others disturbed."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    given = parsed_arguments(words)
    cores = pin()
    path = Path(given.results)
    results = results_to_fill(given, path, described(cores))
    tasks = [task.quick() if given.quick else task for task in TASKS if chosen(task, given)]
    with tempfile.TemporaryDirectory(prefix="sartor-peers-") as folder:
        material = Path(folder) / "material"
        material.mkdir()
        if given.rounds:
            write_material(material, tasks)
        for _ in range(given.rounds):
            measure_round(given, tasks, material, results)
    text = document(results)
    print(text)
    if not given.quick:
        write_text(path.with_suffix(".md"), text)
    return 0


def parsed_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a training, a table or table/training")
    parser.add_argument(
        "--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS)
    )
    parser.add_argument("--append", action="store_true", help="keep the rounds measured before")
    parser.add_argument("--quick", action="store_true", help="one short round; write nothing")
    parser.add_argument("--results", default=str(machine.DOCS / "peers.json"))
    given = parser.parse_args(words)
    if given.rounds < 0:
        parser.error("--rounds must be at least 0")
    if given.quick:
        given.rounds = 1
    return given


def results_to_fill(given: argparse.Namespace, path: Path, place: dict[str, str]) -> Results:
    """Empty, or with the rounds that were measured before in the same place."""
    if not (given.append and path.exists()):
        return Results(machine=place)
    found = Results.load(path)
    for key in SAME_PLACE:
        # The file that is added to is a change, too.
        before, here = (one[key].removesuffix("-dirty") for one in (found.machine, place))
        if given.rounds and before != here:
            sys.exit(
                f"{path} was measured with {key} {before}, this is {here}: leave out --append."
            )
    return found


def chosen(task: Task, given: argparse.Namespace) -> bool:
    """Whether the task is asked for."""
    return not given.only or any(one in (task.name, task.table, task.key) for one in given.only)


def described(cores: Sequence[int]) -> dict[str, str]:
    """Machine, versions, date and command."""
    found = machine.describe(machine.command_of("bench_peers"))
    return found | {"pinned to cores": ", ".join(map(str, cores)) or "none"}


def measure_round(
    given: argparse.Namespace, tasks: Sequence[Task], material: Path, results: Results
) -> None:
    """All contenders in all tasks; who begins changes from round to round."""
    number, tables = len(results.rounds), {task.table for task in tasks}
    names = [name for name in given.contenders if tables & CONTENDERS[name].makers.keys()]
    start = number % len(names)
    order = [*names[start:], *names[:start]]
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    found: dict[str, Any] = {"date": date, "peak_flops": peak_flops(), "rows": {}}
    with workers(order, material, material.parent / str(number)) as alive:
        found["start_seconds"] = {name: alive[name].start_seconds for name in names}
        results.rounds.append(found)
        for task in tasks:
            found["rows"][task.key] = measure_task(task, alive, 0 if given.quick else RETRIES)
            if not given.quick:
                results.save(Path(given.results))


def measure_task(task: Task, alive: dict[str, Worker], retries: int) -> dict[str, Any]:
    """One contender after the other."""
    found = {}
    for name, worker in alive.items():
        if task.table in CONTENDERS[name].makers:
            found[name] = measure_undisturbed(task, name, worker, retries)
    return found


def measure_undisturbed(task: Task, name: str, worker: Worker, retries: int) -> dict[str, Any]:
    """Again, as often as is said, while others take more of the processor than is allowed."""
    found = ask_and_say(task, name, worker)
    first_seconds = found["first_seconds"]
    for _ in range(retries):
        if found["others"] <= ALLOWED_OTHERS:
            break
        found = ask_and_say(task, name, worker)
    # Later ones find the tool loaded.
    return found | {"first_seconds": first_seconds}


def ask_and_say(task: Task, name: str, worker: Worker) -> dict[str, Any]:
    """What it measured; told on stderr, too."""
    order = "predict" if task.table == "predict" else "train"
    found = worker.ask(order=order, task=asdict(task))
    say(task, name, found)
    return found


def say(task: Task, name: str, row: dict[str, Any]) -> None:
    """Tell how it goes, on stderr."""
    figures = "  ".join(f"{key} {value:.4g}" for key, value in row.items())
    print(f"{task.key:<24} {name:<12} {figures}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
