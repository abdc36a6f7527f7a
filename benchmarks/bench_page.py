"""What `bench.py` writes: its results as numbers, as tables and as docs/benchmarks.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import beside
import long_run
import machine
from beside import Beside
from long_run import LongRun
from step_cost import StepCost

OVERHEAD_US = 25
OVERHEAD = 0.03
"""What a step of the loop may cost beyond a bare one, in microseconds and as a share."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training, done both ways."""

    name: str
    """Of the recipe and of the training in `tutorial.TRAININGS`."""
    source: str
    """Named set."""
    target: float
    """The ratio that sartor is to reach."""
    peak_share: float
    """The share of the machine's peak that a step is to reach."""
    sartor_epochs: int
    """Epochs of sartor's in a round, against one of the loop's."""
    pooled: bool = False
    """Whether the set's test images are used too, as the split that is judged every epoch."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the recipe."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One pair of measurements; times in seconds per epoch."""

    engine: str
    """Which sartor took."""
    train_images: int
    """Images an epoch trains on; the same for both."""
    loop_seconds: float
    train_seconds: float
    """From the call of `sartor.fit` until it returns, without check and report."""
    fit_seconds: float
    """Of all its epochs with check and report: what a user waits for."""
    history_seconds: float
    """`seconds` of the history's last row: from the images that lie ready to the last epoch's end,
    without the last checkpoint."""
    images_per_second: float
    """As the history has it: only training, no validation and no checkpoint."""

    @property
    def ratio(self) -> float:
        """How many times as fast sartor is."""
        return self.loop_seconds / self.train_seconds


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A waiting time, measured several times."""

    what: str
    limit: float
    """Seconds that the median may take."""
    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the rounds of a case say; medians."""

    case: Case
    engines: str
    rounds: int
    ratio: float
    lowest: float
    highest: float
    loop_seconds: float
    train_seconds: float
    fit_seconds: float
    """Of all epochs of a round, with check and report."""
    history_seconds: float
    loop_images_per_second: float
    train_images_per_second: float
    images_per_second: float
    """Of the training steps only."""

    @property
    def reached(self) -> bool:
        return self.ratio >= self.case.target


def result_of(case: Case, rounds: Sequence[Round]) -> Result:
    """Medians over the rounds, and the lowest and highest ratio."""
    ratios = [pair.ratio for pair in rounds]
    loop_seconds = statistics.median(pair.loop_seconds for pair in rounds)
    train_seconds = statistics.median(pair.train_seconds for pair in rounds)
    return Result(
        case=case,
        engines=", ".join(dict.fromkeys(pair.engine for pair in rounds)),
        rounds=len(rounds),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        loop_seconds=loop_seconds,
        train_seconds=train_seconds,
        fit_seconds=statistics.median(pair.fit_seconds for pair in rounds),
        history_seconds=statistics.median(pair.history_seconds for pair in rounds),
        loop_images_per_second=rounds[0].train_images / loop_seconds,
        train_images_per_second=rounds[0].train_images / train_seconds,
        images_per_second=statistics.median(pair.images_per_second for pair in rounds),
    )


def ratio_table(results: Sequence[Result]) -> list[str]:
    """How many times as fast, in Markdown."""
    head = "| training | times as fast (median) | lowest to highest | target | reached |"
    rows = [
        f"| {r.case.name} | {r.ratio:.2f} | {r.lowest:.2f} to {r.highest:.2f} "
        f"| {r.case.target:g} | {'yes' if r.reached else 'no'} |"
        for r in results
    ]
    return [head, "|---|--:|--:|--:|---|", *rows]


def time_table(results: Sequence[Result]) -> list[str]:
    """Seconds per epoch and images per second, medians, in Markdown."""
    head = (
        "| training | its engine | epochs per round: loop, sartor | loop, s | sartor, s "
        "| its `seconds` | loop, images/s | sartor, images/s "
        "| its `images_per_second` | whole `sartor.fit`, s |"
    )
    rows = [
        f"| {r.case.name} | {r.engines} | 1, {r.case.sartor_epochs} "
        f"| {r.loop_seconds:.2f} "
        f"| {r.train_seconds:.3f} | {r.history_seconds:.3f} | {r.loop_images_per_second:,.0f} "
        f"| {r.train_images_per_second:,.0f} | {r.images_per_second:,.0f} | {r.fit_seconds:.2f} |"
        for r in results
    ]
    return [head, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|", *rows]


def step_table(steps: Sequence[StepCost]) -> list[str]:
    """What a step costs beside a bare one, in Markdown."""
    head = (
        "| training | engine | bare step of PyTorch, µs | of the engine, µs "
        "| step of the loop, µs | overhead, µs | overhead | reached "
        "| operations per step | of the machine's peak | target | reached |"
    )
    rows = [
        f"| {s.name} | {s.engine} | {s.plain_us:,.0f} | {s.bare_us:,.0f} "
        f"| {s.loop_us:,.0f} | {s.overhead_us:,.1f} "
        f"| {100 * s.overhead:.1f} % | {'yes' if within_limits(s) else 'no'} "
        f"| {s.operations / 1e6:,.0f} million | {100 * s.peak_share:.1f} % "
        f"| {100 * s.share_target:.0f} % | {'yes' if s.peak_share >= s.share_target else 'no'} |"
        for s in steps
    ]
    return [head, "|---|---|--:|--:|--:|--:|--:|---|--:|--:|--:|---|", *rows]


def within_limits(step: StepCost) -> bool:
    """Whether the loop adds as little as it is to."""
    return step.overhead_us <= OVERHEAD_US and step.overhead <= OVERHEAD


def limit_table(limits: Sequence[Limit]) -> list[str]:
    """Waiting times, in Markdown."""
    head = "| waiting for | median, s | lowest to highest | target, s | reached |"
    rows = []
    for one in limits:
        median = statistics.median(one.seconds)
        rows.append(
            f"| {one.what} | {median:.2f} | {min(one.seconds):.2f} to {max(one.seconds):.2f} "
            f"({len(one.seconds)} times) | {one.limit:g} "
            f"| {'yes' if median <= one.limit else 'no'} |"
        )
    return [head, "|---|--:|--:|--:|---|", *rows]


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that was measured, or a part of it."""

    described: Mapping[str, str]
    """The machine."""
    cases: Sequence[Case]
    rounds: Mapping[str, Sequence[Round]]
    """By the case's name."""
    steps: Sequence[StepCost]
    beside: Sequence[Beside]
    long_runs: Sequence[LongRun]
    limits: Sequence[Limit]

    def tables(self) -> list[list[str]]:
        """In the order of the page, in Markdown."""
        results = [result_of(case, self.rounds[case.name]) for case in self.cases]
        return [
            ratio_table(results),
            time_table(results),
            step_table(self.steps),
            beside.table(self.beside),
            long_run.table(self.long_runs),
            limit_table(self.limits),
        ]

    def to_json(self) -> dict[str, Any]:
        """Every single result."""
        return {
            "machine": dict(self.described),
            "rounds": {
                name: [asdict(pair) for pair in pairs] for name, pairs in self.rounds.items()
            },
            "steps": [asdict(one) for one in self.steps],
            "beside": [asdict(one) for one in self.beside],
            "long_runs": [asdict(one) for one in self.long_runs],
            "limits": [asdict(one) for one in self.limits],
        }


def document(found: Found) -> str:
    """docs/benchmarks.md."""
    ratios, times, steps, crowded, long, limits = map("\n".join, found.tables())
    return _PAGE.format(
        ratios=ratios,
        rounds=min(map(len, found.rounds.values())),
        step_rounds=min((one.rounds for one in found.steps), default=0),
        times=times,
        steps=steps,
        crowded=crowded,
        long=long,
        overhead_us=OVERHEAD_US,
        overhead=f"{100 * OVERHEAD:.0f}",
        limits=limits,
        machine="\n".join(machine.markdown_of(found.described)),
    )


_PAGE = """\
# How fast sartor is

Written by `benchmarks/bench.py` (`make bench`); every single result is in
[benchmarks.json](benchmarks.json).

## Compared with a plain PyTorch loop

{ratios}

Rounds: {rounds}, after one warm-up round. In each round the loop trains one epoch, then sartor
trains all epochs of the recipe, and the ratio compares their times per epoch. Time of the loop:
only its epoch. Time of sartor: `sartor.fit(..., check=False, report=False)`, from the call until it
returns, including the data's fingerprint, the checkpoints on disk and the history, divided by its
epochs. Both have the same hyper-parameters, the images in memory, and all cores.

The loop is [tutorial.py](../benchmarks/tutorial.py): a `Dataset` that turns every sample into a
Pillow picture and a tensor, a `DataLoader` without workers, networks and optimizers of `torch` with
default flags, `.item()` for the loss and the number of correct images of every batch. Both evaluate
10,000 images after every epoch, except for fashion-cnn, whose walk-through evaluates none. For
mnist-mlp these are drawn from all 70,000 images, since its recipe has no validation split; 60,000
remain for training.

Seconds per epoch and images per second, medians over the rounds:

{times}

`seconds` and `images_per_second` are those of the run's history: the first leaves out the last
checkpoint, the second counts only the training steps. The last column is what a user waits for: all
epochs of a round with the data check before and the report after them, neither of which the loop
has. The engine is what `--engine auto` chose; where it measured, it did so before these rounds.

## What a step costs

{steps}

A bare step is forward, loss, backward and update on one prepared batch, and nothing else, in
handwritten PyTorch, or by the engine that the rounds above used; a step of the loop uses that
engine, and also draws its batch and converts it to floats, sets seed and learning rate, and keeps
figures, events and the state for a checkpoint. Medians over {step_rounds} rounds of one epoch each,
after one warm-up round; the overhead, the loop's step minus the engine's, is the median of the
differences within a round, and should be at most {overhead_us} µs and {overhead} %. Operations are
those of convolutions and linear layers (`sartor summary`), forward and back; the peak is that of
multiplying two 2048 x 2048 matrices in single precision with PyTorch's BLAS or oneDNN, whichever is
faster. The residual network trains on random images.

## On a busy machine

{crowded}

The same `sartor.fit(..., check=False, report=False)` alone and beside processes that do nothing but
compute ([beside.py](../benchmarks/beside.py)). With as many of these as cores, half of the machine
is the share of each side: a training that loses nothing else takes twice as long.

## A long training

{long}

One `sartor.fit` in a fresh process ([long_run.py](../benchmarks/long_run.py)). Memory is the
resident set. Log and checkpoints are everything between the loop's copy of its state and the files
on disk.

## Waiting times

{limits}

Each in a fresh process, with the set already on disk.

## Measured on

{machine}
"""
