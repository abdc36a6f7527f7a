"""What `bench.py` writes: its results as numbers, as tables and as docs/benchmarks.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import machine


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training, done both ways."""

    name: str
    """Of the recipe and of the training in `tutorial.TRAININGS`."""
    source: str
    """Named set."""
    target: float
    """The ratio that sartor is to reach."""
    sartor_epochs: int
    """Epochs of sartor's in a round, against one of the loop's."""
    pooled: bool = False
    """Whether the set's test images are used too, as the split that is judged every epoch."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the recipe."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One pair of measurements; times in seconds an epoch."""

    train_images: int
    """Images an epoch trains on; the same for both."""
    loop_seconds: float
    fit_seconds: float
    """From the call of `sartor.fit` until it returns."""
    history_seconds: float
    """`seconds` of the history's last row: from the images that lie ready to the last epoch's end,
    without the last checkpoint."""
    images_per_second: float
    """As the history has it: training alone, no validation and no checkpoint."""

    @property
    def ratio(self) -> float:
        """How many times as fast sartor is, everything included."""
        return self.loop_seconds / self.fit_seconds


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
    rounds: int
    ratio: float
    lowest: float
    highest: float
    loop_seconds: float
    fit_seconds: float
    history_seconds: float
    loop_images_per_second: float
    fit_images_per_second: float
    images_per_second: float
    """Of the training steps alone."""

    @property
    def reached(self) -> bool:
        return self.ratio >= self.case.target


def result_of(case: Case, rounds: Sequence[Round]) -> Result:
    """Medians over the rounds, and the lowest and highest ratio."""
    ratios = [pair.ratio for pair in rounds]
    loop_seconds = statistics.median(pair.loop_seconds for pair in rounds)
    fit_seconds = statistics.median(pair.fit_seconds for pair in rounds)
    return Result(
        case=case,
        rounds=len(rounds),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        loop_seconds=loop_seconds,
        fit_seconds=fit_seconds,
        history_seconds=statistics.median(pair.history_seconds for pair in rounds),
        loop_images_per_second=rounds[0].train_images / loop_seconds,
        fit_images_per_second=rounds[0].train_images / fit_seconds,
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
    """Seconds an epoch and images a second, medians, in Markdown."""
    head = (
        "| training | epochs a round: loop, sartor | loop, s | sartor, s | its `seconds` "
        "| loop, images/s | sartor, images/s | its `images_per_second` |"
    )
    rows = [
        f"| {r.case.name} | 1, {r.case.sartor_epochs} | {r.loop_seconds:.2f} | {r.fit_seconds:.3f} "
        f"| {r.history_seconds:.3f} | {r.loop_images_per_second:,.0f} "
        f"| {r.fit_images_per_second:,.0f} | {r.images_per_second:,.0f} |"
        for r in results
    ]
    return [head, "|---|--:|--:|--:|--:|--:|--:|--:|", *rows]


def limit_table(limits: Sequence[Limit]) -> list[str]:
    """Waiting times, in Markdown."""
    if not limits:
        return []
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


def raw_results(
    described: Mapping[str, str], rounds: Mapping[str, Sequence[Round]], limits: Sequence[Limit]
) -> dict[str, Any]:
    """Every single result, for JSON."""
    return {
        "machine": dict(described),
        "rounds": {name: [asdict(pair) for pair in pairs] for name, pairs in rounds.items()},
        "limits": [asdict(one) for one in limits],
    }


def document(
    described: Mapping[str, str], results: Sequence[Result], limits: Sequence[Limit]
) -> str:
    """docs/benchmarks.md."""
    return _PAGE.format(
        ratios="\n".join(ratio_table(results)),
        rounds=results[0].rounds,
        times="\n".join(time_table(results)),
        limits="\n".join(limit_table(limits)),
        machine="\n".join(machine.markdown_of(described)),
    )


_PAGE = """\
# How fast sartor is

Written by `benchmarks/bench.py` (`make bench`); every single result is in
[benchmarks.json](benchmarks.json).

## Beside the plain PyTorch loop

{ratios}

Rounds: {rounds}, after one that warms up. In a round the loop trains one epoch, then sartor one or
more, and the ratio compares their times of an epoch. Time of the loop: its epoch alone. Time of
sartor: all of `sartor.fit`, from the call until it returns, with the fingerprint of the data, the
checkpoints on the disk and the history, divided by its epochs. Both have the same hyper-parameters,
the images in memory and all the cores.

The loop is [tutorial.py](../benchmarks/tutorial.py): a `Dataset` that makes a Pillow picture and a
tensor of every sample, a `DataLoader` without workers, networks and optimizers of `torch` with
default flags, `.item()` for loss and number correct of every batch. Both judge 10,000 images after
every epoch, fashion-cnn apart, whose walk-through judges none. For mnist-mlp these are drawn from
all 70,000 images, since its recipe has no validation split; 60,000 are left to train on.

Seconds an epoch and images a second, medians over the rounds:

{times}

`seconds` and `images_per_second` are those of the run's history: the first leaves out the last
checkpoint, the second counts the training steps alone.

## Waiting times

{limits}

Each in a fresh process, the set on the disk already.

## Measured on

{machine}
"""
