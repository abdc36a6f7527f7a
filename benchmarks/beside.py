"""How long a training takes beside two other programs, with the engine native and with PyTorch's.

In each round the same `sartor.fit` runs alone, then beside two processes that do nothing but
compute, with one engine and then the other.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from busy_fit import busy

import sartor

RECIPE = "fashion-mlp"
EPOCHS = 2
OTHERS = 2
ENGINES = ("native", "plain")


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One engine's training; seconds of a whole `sartor.fit` without check and report."""

    engine: str
    alone: tuple[float, ...]
    busy: tuple[float, ...]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Beside:
        """As `dataclasses.asdict` gave it."""
        return cls(
            engine=document["engine"],
            alone=tuple(document["alone"]),
            busy=tuple(document["busy"]),
        )


def measure(dataset: sartor.Dataset, rounds: int) -> list[Beside]:
    """Each engine in turn, after a round that warms up."""
    alone: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    crowded: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for number in range(rounds + 1):
        for engine in ENGINES:
            seconds = seconds_of(dataset, engine)
            if number == 0:
                continue
            alone[engine].append(seconds)
            with busy(OTHERS):
                crowded[engine].append(seconds_of(dataset, engine))
    return [
        Beside(engine=engine, alone=tuple(alone[engine]), busy=tuple(crowded[engine]))
        for engine in ENGINES
    ]


def seconds_of(dataset: sartor.Dataset, engine: str) -> float:
    """Of one training."""
    with tempfile.TemporaryDirectory(prefix="sartor-bench-") as folder:
        began = time.perf_counter()
        sartor.fit(
            dataset,
            recipe=RECIPE,
            out=Path(folder) / "run",
            epochs=EPOCHS,
            engine=engine,
            device="cpu",
            check=False,
            report=False,
        )
        return time.perf_counter() - began


def table(found: Sequence[Beside]) -> list[str]:
    """In Markdown; nothing where nothing was measured."""
    return [
        f"| {RECIPE}, {EPOCHS} epochs | alone, s | beside {OTHERS} busy processes, s "
        "| lowest to highest | times as long |",
        "|---|--:|--:|--:|--:|",
        *_rows(found),
    ]


def _rows(found: Sequence[Beside]) -> Iterator[str]:
    for one in found:
        alone, crowded = statistics.median(one.alone), statistics.median(one.busy)
        yield (
            f"| engine {one.engine} | {alone:.2f} | {crowded:.2f} "
            f"| {min(one.busy):.2f} to {max(one.busy):.2f} | {crowded / alone:.1f} |"
        )
