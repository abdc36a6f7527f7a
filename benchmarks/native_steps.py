"""Bare steps of the engine `native`: microseconds, by threads and instruction sets.

    python benchmarks/native_steps.py

Prints a table in Markdown: for each network of the walk-through the least of many stretches of
steps on random images, alone and beside two busy processes (there the median, for a process that
competes has no least), and the share of the operations per second that the machine reaches at best.

    python benchmarks/native_steps.py --bfloat16

Prints what bfloat16 brings: processor milliseconds of a step of fashion-best's network on one
thread, and of narrower ones; the least of several turns, which the engines take one by one.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from step_cost import job_of, operations_of, peak_operations, prepared

import sartor
from sartor import native_module
from sartor.models.summary import summarize
from sartor.training.job import Job
from sartor.training.loop import update
from sartor.training.state import Progress

RECIPES = ("mnist-logistic", "fashion-mlp", "mnist-mlp", "fashion-cnn")
IMAGES = 12_800
SECONDS = 3.0
STRETCH = 50
BUSY = "while True: pass"


def main() -> None:
    """Measure each network in each way; print the table."""
    sets = native_module.instruction_sets()
    peak = peak_operations(5)
    names = [*sets[::-1], f"{sets[-1]}, 1 thread", "busy", "of peak"]
    print(f"Peak: {peak / 1e9:.0f} GFLOP/s. Microseconds a step.\n")
    print("| network | " + " | ".join(names) + " |")
    print("| --- |" + " ---: |" * len(names))
    for recipe in RECIPES:
        alone = {name: _stretches(_job(recipe, instructions=name, threads=2)) for name in sets}
        one_thread = _stretches(_job(recipe, threads=1))
        with _busy(2):
            crowded = _stretches(_job(recipe, threads=2))
        best = min(alone[sets[-1]])
        cells = [f"{min(alone[name]):.0f}" for name in sets[::-1]]
        cells += [f"{min(one_thread):.0f}", f"{statistics.median(crowded):.0f}"]
        share = _operations(_job(recipe)) / (best * 1e-6) / peak
        print(f"| {recipe} | " + " | ".join(cells) + f" | {share:.0%} |", flush=True)


WIDTHS = ((24, 48), (32, 64), (48, 96), (64, 128), (96, 192))
TURNS, STEPS_A_TURN = 4, 3


def bfloat16() -> None:
    """Print the table of engines and widths."""
    ways: dict[str, dict[str, object]] = {"native, float32": {"engine": "native"}}
    for name in native_module.bfloat16_sets():
        ways[f"native, {name}"] = {"engine": "native", "instructions": name}
    ways["PyTorch, bfloat16"] = {"engine": "plain", "memory_format": "channels-last"}
    print("| widths | " + " | ".join(ways) + " |\n| --- |" + " ---: |" * len(ways))
    for widths in WIDTHS:
        jobs = {
            name: _job(
                "fashion-best",
                **way,
                threads=1,
                augment=(),
                amp_dtype="float32" if name.endswith("float32") else "bfloat16",
                model_kwargs={"widths": widths, "depth": 2},
            )
            for name, way in ways.items()
        }
        turns = [[_turn(job) for job in jobs.values()] for _ in range(TURNS)]
        cells = [f"{min(column):.1f}" for column in zip(*turns, strict=True)]
        print(f"| {', '.join(map(str, widths))} | " + " | ".join(cells) + " |", flush=True)


def _turn(job: Job) -> float:
    """Processor milliseconds of a step."""
    with prepared(job):
        job.model.train()
        batch = job.batches.batch(0, 0)
        for steps in (1, STEPS_A_TURN):
            began = time.process_time()
            for _ in range(steps):
                if job.engine_steps is not None:
                    job.engine_steps(job, Progress(), 1)
                else:
                    update(job, batch, 1e-6)
        return (time.process_time() - began) * 1e3 / STEPS_A_TURN


def _job(recipe: str, **settings: object) -> Job:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 28, 28), np.uint8)
    labels = rng.permutation(np.arange(IMAGES) % 10)
    dataset = sartor.Dataset(images, labels, tuple("0123456789"))
    return job_of(recipe, dataset, **{"engine": "native", "lr": 1e-6, **settings})


def _operations(job: Job) -> int:
    shape = job.batches.batch(0, 0).images.shape
    return operations_of(summarize(job.model, tuple(shape[1:])), shape[0])


def _stretches(job: Job) -> list[float]:
    """Microseconds of a step, of each stretch."""
    make_steps = job.engine_steps
    assert make_steps is not None, "the engine native"
    found: list[float] = []
    began = time.perf_counter()
    with prepared(job):
        while time.perf_counter() - began < SECONDS:
            progress = Progress()
            start = time.perf_counter()
            for _ in range(2):
                progress.position = 0
                make_steps(job, progress, STRETCH)
            found.append((time.perf_counter() - start) * 1e6 / (2 * STRETCH))
    # The first makes room and starts threads.
    return found[1:]


@contextmanager
def _busy(count: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


if __name__ == "__main__":
    bfloat16() if "--bfloat16" in sys.argv[1:] else main()
