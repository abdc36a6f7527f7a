"""What was measured: one file of JSON, to which rounds are added; and what the rounds say."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sartor.files import write_json

from .tasks import Task

Row = dict[str, Any]
"""One contender in one round of one task, as its process answered."""


@dataclass
class Results:
    """Everything in docs/peers.json."""

    machine: dict[str, str]
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """Each: date, start_seconds by contender, peak_flops by library, and rows by task and
    contender."""

    @classmethod
    def load(cls, path: Path) -> Results:
        return cls(**json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        write_json(path, {"machine": self.machine, "rounds": self.rounds})

    def contenders(self, key: str) -> list[str]:
        """Those that were measured in this task, in the order of the rounds."""
        found: dict[str, None] = {}
        for one in self.rounds:
            found |= dict.fromkeys(one["rows"].get(key, {}))
        return list(found)

    def rows(self, key: str, contender: str) -> list[Row]:
        """Of every round that has them."""
        return [
            one["rows"][key][contender]
            for one in self.rounds
            if contender in one["rows"].get(key, {})
        ]

    def ratios(self, key: str, over: str, under: str, value: Callable[[Row], float]) -> list[float]:
        """Of the same quantity of two contenders, round by round."""
        pairs = [one["rows"].get(key, {}) for one in self.rounds]
        return [
            value(rows[over]) / value(rows[under])
            for rows in pairs
            if over in rows and under in rows
        ]

    def figures(self, name: str) -> list[float]:
        """One of the figures of all rows."""
        return [
            row[name]
            for one in self.rounds
            for rows in one["rows"].values()
            for row in rows.values()
        ]

    def peak(self) -> float:
        """Operations per second: the median of the rounds, each with its better library."""
        return statistics.median(max(one["peak_flops"].values()) for one in self.rounds)

    def start_seconds(self, contender: str) -> list[float]:
        """From the start of its process until the tool is imported."""
        found = [one["start_seconds"].get(contender) for one in self.rounds]
        return [seconds for seconds in found if seconds is not None]


@dataclass(frozen=True, kw_only=True)
class RunStatistics:
    """Several measurements of one quantity."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> RunStatistics:
        return cls(median=statistics.median(values), lowest=min(values), highest=max(values))


def epoch_seconds(task: Task, row: Row) -> float:
    """Of an epoch.

    batches: what each epoch after the first adds to a training, so that what comes once (building
    loops, choosing an engine, closing files) is left out. defaults: all of a training over its
    epochs.
    """
    if task.table == "batches":
        return float(row["seconds"] - row["one_epoch_seconds"]) / (row["epochs"] - 1)
    return float(row["seconds"]) / float(row["epochs"])


def step_seconds(task: Task, row: Row) -> float:
    """Of a step: of an epoch over its steps."""
    return epoch_seconds(task, row) / task.steps
