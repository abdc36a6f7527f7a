"""How fast sartor trains beside the plain PyTorch loop of `tutorial.py`, and how fast it starts.

    python benchmarks/bench.py                          all of it; writes docs/benchmarks.md
    python benchmarks/bench.py --only mnist-mlp         one training; writes nothing
    python benchmarks/bench.py --only mnist-mlp --save part.json
    python benchmarks/bench.py --page *.json            the page from parts that were measured apart

In each round the loop trains an epoch, then sartor as many as its recipe says, with the same
hyper-parameters on the same images lying in memory; a round gives one ratio of the times of an
epoch. The first round only warms up, and is where `--engine auto` measures and chooses. Timed of
the loop are only its epochs; of sartor `sartor.fit` without what the loop has no part of, the
check of the data and the report, from the call until it returns: looking at data it has not seen,
building the network, training, checkpoints on disk, history. Beside it stands a whole `sartor.fit`.
Then a step of the loop is compared with a bare step on one batch and with the machine's peak, also
for a residual network on colour images; a training is made beside busy processes, as `beside.py`
says, and a long one looked at as `long_run.py` does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import beside
import long_run
import machine
import numpy as np
import torch
import tutorial
from bench_page import (
    Case,
    Found,
    Limit,
    Round,
    document,
)
from beside import Beside
from long_run import LongRun
from step_cost import StepCost, cost_of, job_of, measure_pairs, peak_operations

import sartor
from sartor.files import write_json, write_text
from sartor.training.engines.hardware import chosen_threads

OTHERS = "others"
"""The long training, the busy machine, the residual network and the waiting times."""
CASES = (
    Case(name="fashion-cnn", source="fashion-mnist", target=7, peak_share=0.5, sartor_epochs=5),
    Case(
        name="mnist-mlp",
        source="mnist",
        target=5,
        peak_share=0.55,
        sartor_epochs=3,
        pooled=True,
        settings={"val_fraction": 1 / 7},
    ),
    Case(name="mnist-logistic", source="mnist", target=35, peak_share=0.3, sartor_epochs=5),
    Case(name="fashion-mlp", source="fashion-mnist", target=14, peak_share=0.55, sartor_epochs=10),
)
RESIDUAL: Mapping[str, Any] = {"model": "resnet8", "batch_size": 128}
"""A residual network on colour images, of which only the step is measured."""
RESIDUAL_SHAPE, RESIDUAL_STEPS, RESIDUAL_SHARE = (3, 32, 32), 20, 0.4
MOST_ROUNDS_BESIDE = 3
STEP_ROUNDS = 3
"""Epochs whose steps are compared, for each round of the trainings: one epoch differs from the next
by more than the few per cent that are looked for."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    given = parsed_arguments(words)
    if given.page:
        found = joined([json.loads(part.read_bytes()) for part in given.page])
    else:
        found = measure(given.only, given.rounds)
    print("\n\n".join("\n".join(table) for table in found.tables() if len(table) > 2))
    if given.save:
        write_json(given.save, found.to_json())
    elif not (given.only or given.no_write):
        write_json(machine.DOCS / "benchmarks.json", found.to_json())
        write_text(machine.DOCS / "benchmarks.md", document(found))
    return 0


def measure(only: str | None, count: int) -> Found:
    """All of it, or of one training what its rounds say, or what is not of the four trainings."""
    described = machine.describe(machine.command_of("bench"))
    torch.set_num_threads(chosen_threads(None))
    cases = [case for case in CASES if only in (None, case.name)]
    datasets = {case.name: dataset_of(case) for case in cases}
    others = only in (None, OTHERS)
    rounds = measure_rounds(cases, datasets, count)
    peak = peak_operations(10)
    steps = measure_steps(cases, datasets, rounds, peak)
    crowded: list[Beside] = []
    if others:
        steps.append(measure_residual(count, peak))
        dataset = sartor.load("fashion-mnist", on_event=sartor.PlainProgress())
        crowded = beside.measure(dataset, min(count, MOST_ROUNDS_BESIDE))
    return Found(
        described=described,
        cases=cases,
        rounds=rounds,
        steps=steps,
        beside=crowded,
        long_runs=[long_run.measure()] if others else [],
        limits=[measure_help(10), measure_first_step(5)] if others else [],
    )


def joined(parts: Sequence[Mapping[str, Any]]) -> Found:
    """What was measured in parts; the machine is that of the first."""
    dates = [part["machine"]["date"] for part in parts]
    rounds = {name: pairs for part in parts for name, pairs in part["rounds"].items()}
    return Found(
        described={
            **parts[0]["machine"],
            "date": " to ".join(dict.fromkeys((min(dates), max(dates)))),
            "command": "; ".join(part["machine"]["command"].split(" --save")[0] for part in parts),
        },
        cases=[case for case in CASES if case.name in rounds],
        rounds={name: [Round(**pair) for pair in pairs] for name, pairs in rounds.items()},
        steps=[StepCost(**one) for part in parts for one in part["steps"]],
        beside=[Beside.from_json(one) for part in parts for one in part["beside"]],
        long_runs=[LongRun.from_json(one) for part in parts for one in part["long_runs"]],
        limits=[
            Limit(**{**one, "seconds": tuple(one["seconds"])})
            for part in parts
            for one in part["limits"]
        ],
    )


def parsed_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [*(case.name for case in CASES), OTHERS]
    parser.add_argument("--rounds", type=int, default=5, help="after the one that warms up")
    parser.add_argument("--only", choices=names, help="one training, or what is none of them")
    parser.add_argument("--no-write", action="store_true", help="leave the documents as they are")
    parser.add_argument("--save", type=Path, help="write what was measured into this file")
    parser.add_argument("--page", type=Path, nargs="+", help="make the page of files so written")
    given = parser.parse_args(words)
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return given


def dataset_of(case: Case) -> sartor.Dataset:
    """The images that both sides are given."""
    dataset = sartor.load(case.source, on_event=sartor.PlainProgress())
    if not case.pooled:
        return dataset
    return replace(dataset, test=np.empty(0, np.int64), name=f"{dataset.name}, all images")


def samples_of(dataset: sartor.Dataset) -> tutorial.ImageSet:
    """The same images for the loop, without those set aside for testing."""
    everything = np.arange(len(dataset))
    kept = everything if dataset.test is None else np.setdiff1d(everything, dataset.test)
    return tutorial.ImageSet(
        torch.from_numpy(dataset.images[kept, 0]), torch.from_numpy(dataset.labels[kept])
    )


def measure_rounds(
    cases: Sequence[Case], datasets: Mapping[str, sartor.Dataset], count: int
) -> dict[str, list[Round]]:
    """`count` rounds of every case, one case after the other in each round, after a warm-up."""
    samples = {case.name: samples_of(datasets[case.name]) for case in cases}
    measured: dict[str, list[Round]] = {case.name: [] for case in cases}
    for number in range(count + 1):
        for case in cases:
            pair = measure_pair(case, datasets[case.name], samples[case.name])
            say(number, case, pair)
            if number:
                measured[case.name].append(pair)
    return measured


def measure_pair(case: Case, dataset: sartor.Dataset, samples: tutorial.ImageSet) -> Round:
    """One epoch of the loop, then sartor's."""
    training = tutorial.TRAININGS[case.name]
    network = training.network()
    loop_seconds = timed(lambda: tutorial.fit(training, network, samples, 1))
    with tempfile.TemporaryDirectory(prefix="sartor-bench-") as folder:
        train_seconds, run = timed_fit(case, dataset, Path(folder) / "trained", whole=False)
        history, engine = run.history, run.recipe.training.engine
        fit_seconds, _ = timed_fit(case, dataset, Path(folder) / "whole", whole=True)
    return Round(
        engine=engine,
        train_images=len(samples) - training.val_images,
        loop_seconds=loop_seconds,
        train_seconds=train_seconds / case.sartor_epochs,
        fit_seconds=fit_seconds,
        history_seconds=history[-1]["seconds"] / case.sartor_epochs,
        images_per_second=statistics.harmonic_mean(row["images_per_second"] for row in history),
    )


def timed_fit(
    case: Case, dataset: sartor.Dataset, out: Path, *, whole: bool
) -> tuple[float, sartor.Run]:
    """Seconds of `sartor.fit` and its run; without check and report unless it is the whole."""
    # A copy, since a dataset remembers its fingerprint, and the first fit has to make it.
    fresh = replace(dataset)
    began = time.perf_counter()
    run = sartor.fit(
        fresh,
        recipe=case.name,
        out=out,
        epochs=case.sartor_epochs,
        device="cpu",
        check=whole,
        report=whole,
        **case.settings,
    )
    return time.perf_counter() - began, run


def measure_steps(
    cases: Sequence[Case],
    datasets: Mapping[str, sartor.Dataset],
    rounds: Mapping[str, Sequence[Round]],
    peak: float,
) -> list[StepCost]:
    """What a step of each case costs beside a bare one, by the engine that the rounds took."""
    costs = []
    for case in cases:
        done = rounds[case.name]
        job, plain = (
            job_of(case.name, datasets[case.name], **case.settings, engine=engine)
            for engine in (done[-1].engine, "plain")
        )
        pairs = measure_pairs(job, plain, STEP_ROUNDS * len(done))
        costs.append(cost_of(case.name, job, pairs, peak, case.peak_share))
    return costs


def measure_residual(rounds: int, peak: float) -> StepCost:
    """What a step of a residual network costs, on random images."""
    rng, count = np.random.default_rng(0), RESIDUAL_STEPS * RESIDUAL["batch_size"]
    images = rng.integers(0, 256, (count, *RESIDUAL_SHAPE), np.uint8)
    dataset = sartor.Dataset(images, rng.permutation(np.arange(count) % 10), tuple("0123456789"))
    job, plain = (
        job_of("plain", dataset, **RESIDUAL, val_fraction=0.0, test_fraction=0.0, engine=engine)
        for engine in ("native", "plain")
    )
    size = "x".join(map(str, RESIDUAL_SHAPE[1:] + RESIDUAL_SHAPE[:1]))
    name = f"{RESIDUAL['model']}, {size}"
    return cost_of(name, job, measure_pairs(job, plain, STEP_ROUNDS * rounds), peak, RESIDUAL_SHARE)


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def say(number: int, case: Case, pair: Round) -> None:
    """Tell how it goes, on stderr."""
    title = f"round {number}" if number else "warm-up"
    print(
        f"{title:<8} {case.name:<15} loop {pair.loop_seconds:6.2f} s  "
        f"sartor {pair.train_seconds:6.3f} s  ratio {pair.ratio:5.2f}",
        file=sys.stderr,
        flush=True,
    )


def measure_help(count: int) -> Limit:
    """`sartor --help`, from start to end of the process."""
    command = [str(Path(sysconfig.get_path("scripts")) / "sartor"), "--help"]

    def show_help() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    times = tuple(timed(show_help) for _ in range(count))
    return Limit(what="`sartor --help`, until its process has ended", limit=0.25, seconds=times)


def measure_first_step(count: int) -> Limit:
    """`sartor fit`, from the start of its process until its first step is done."""
    times = []
    with tempfile.TemporaryDirectory(prefix="sartor-bench-") as folder:
        for number in range(count + 1):
            times.append(seconds_to_first_step(Path(folder) / str(number)))
    what = "`sartor fit fashion-mnist --recipe fashion-cnn`, until its first step is done"
    # The first start reads the files of the libraries from the disk.
    return Limit(what=what, limit=2.5, seconds=tuple(times[1:]))


def seconds_to_first_step(out: Path) -> float:
    """One start in a fresh process; the set must be on the disk already."""
    driver = str(Path(__file__).with_name("first_step.py"))
    words = ["fit", "fashion-mnist", "--recipe", "fashion-cnn", "--epochs", "1", "--out", str(out)]
    began = time.time()
    answer = subprocess.run(
        [sys.executable, driver, *words], check=True, capture_output=True, text=True
    )
    return float(answer.stdout) - began


if __name__ == "__main__":
    sys.exit(main())
