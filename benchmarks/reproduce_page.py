"""What `reproduce.py` writes: figures, whether they agree, why not, and docs/reproduction.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import machine
import numpy as np


class Reported(NamedTuple):
    """A figure of a walk-through."""

    value: float | None
    """None where it announces the figure and never gives it."""
    digits: int
    """Behind the point, as it is printed."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is reported, and what sartor gives, one value per seed."""

    name: str
    reported: Reported
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds, estimated with n - 1."""
        return statistics.stdev(self.values)

    @property
    def agrees(self) -> bool | None:
        """Whether the reported value lies within two standard deviations, or lowest to highest."""
        value, digits = self.reported
        if value is None:
            return None
        # It was rounded, so it stands for half a unit of its last digit to either side.
        slack = 0.5 * math.pow(10, -digits)
        near = abs(value - self.mean) <= 2 * self.deviation + slack
        return near or min(self.values) - slack <= value <= max(self.values) + slack


def _chance(recipe: str, seeds: int, mean: str, deviation: str, low: str, high: str) -> str:
    return (
        f"chance, with few seeds. Over {seeds} it agrees: mean {mean}, standard deviation "
        f"{deviation}, {low} to {high} "
        f"(`python benchmarks/reproduce.py --only {recipe} --seeds {seeds}`)."
    )


REASONS: Mapping[tuple[str, str], str] = {
    ("mnist-mlp", "training loss in epoch 2"): _chance(
        "mnist-mlp", 20, "0.3918", "0.0030", "0.3866", "0.3982"
    ),
    ("mnist-mlp", "test accuracy of digit 1, %"): _chance(
        "mnist-mlp", 20, "98.01", "0.27", "97.62", "98.68"
    ),
    ("mnist-mlp", "test accuracy of digit 5, %"): _chance(
        "mnist-mlp", 20, "86.98", "1.34", "84.19", "90.02"
    ),
    ("mnist-logistic", "validation accuracy after epoch 10"): _chance(
        "mnist-logistic", 40, "0.8293", "0.0040", "0.8202", "0.8389"
    ),
    ("mnist-logistic", "validation accuracy after epoch 15"): _chance(
        "mnist-logistic", 40, "0.8438", "0.0037", "0.8372", "0.8516"
    ),
    ("mnist-logistic", "validation accuracy after epoch 20"): _chance(
        "mnist-logistic", 40, "0.8528", "0.0034", "0.8453", "0.8610"
    ),
}
"""Why a figure differs, by recipe and figure; each found by an experiment. Said only if it does."""
_UNEXPLAINED = (
    "not explained yet. More seeds (`--only {recipe} --seeds 20`) tell chance from cause."
)


def share_by_chance(seeds: int) -> float:
    """How often `agrees` is False for one more draw from the very distribution of the others."""
    draws = np.random.default_rng(0).standard_normal((100_000, seeds + 1))
    one, others = draws[:, 0], draws[:, 1:]
    near = abs(one - others.mean(axis=1)) <= 2 * others.std(axis=1, ddof=1)
    within = (others.min(axis=1) <= one) & (one <= others.max(axis=1))
    return 1 - float((near | within).mean())


def tables(figures: Mapping[str, Sequence[Figure]]) -> list[str]:
    """A heading, a table and the reasons for every recipe, in Markdown."""
    lines: list[str] = []
    for recipe, found in figures.items():
        lines += [f"## {recipe}", "", *table(found), "", *reasons(recipe, found)]
    return lines


def table(found: Sequence[Figure]) -> list[str]:
    """One row per figure."""
    head = "| figure | reported | sartor, mean | standard deviation | lowest to highest | agrees |"
    return [head, "|---|--:|--:|--:|--:|---|", *map(row, found)]


def row(figure: Figure) -> str:
    """Numbers with the reported number's digits; the deviation with one more."""
    value, digits = figure.reported

    def text(number: float) -> str:
        return f"{number:,.{digits}f}"

    verdict = {None: "", True: "yes", False: "no"}[figure.agrees]
    return (
        f"| {figure.name} | {'-' if value is None else text(value)} | {text(figure.mean)} "
        f"| {figure.deviation:,.{digits + 1}f} "
        f"| {text(min(figure.values))} to {text(max(figure.values))} | {verdict} |"
    )


def reasons(recipe: str, found: Sequence[Figure]) -> list[str]:
    """A sentence for every figure that differs."""
    unexplained = _UNEXPLAINED.format(recipe=recipe)
    lines = [
        f"- {figure.name}: {REASONS.get((recipe, figure.name), unexplained)}"
        for figure in found
        if figure.agrees is False
    ]
    return [*lines, ""] if lines else []


def document(described: Mapping[str, str], figures: Mapping[str, Sequence[Figure]]) -> str:
    """docs/reproduction.md."""
    judged = [one for found in figures.values() for one in found if one.agrees is not None]
    seeds = len(judged[0].values)
    return _PAGE.format(
        agreeing=sum(bool(one.agrees) for one in judged),
        judged=len(judged),
        seeds=seeds,
        chance=share_by_chance(seeds),
        tables="\n".join(tables(figures)),
        machine="\n".join(machine.markdown_of(described)),
    )


_PAGE = """\
# The walk-throughs, reproduced

Written by `benchmarks/reproduce.py` (`make reproduce`). sartor grew out of PyTorch walk-throughs;
here their figures are compared with those of its recipes, each trained with {seeds} seeds. A seed
decides the split, the first weights, the order of the images and what dropout drops. Each figure of
a walk-through is one draw; its seed is not known.

"Agrees" means that the reported figure lies within two standard deviations of our mean, or between
our lowest and highest: {agreeing} of {judged} do. A standard deviation estimated from {seeds} seeds
is rough: of figures drawn exactly like ours, {chance:.0%} would be judged not to agree. Figures of
the same run rise and fall together, and so do their verdicts.

mnist-logistic is trained for 20 epochs, as its walk-through is in the end; the first 5 are those of
the recipe.

{tables} ## Measured on

{machine}
"""
