"""What `reproduce.py` writes: figures, whether they agree, why not, and docs/reproduction.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import machine


class Reported(NamedTuple):
    """A figure of a walk-through."""

    value: float | None
    """None where it announces the figure and never gives it."""
    digits: int
    """Behind the point, as it is printed."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is reported, and what sartor gives, one value a seed."""

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
        value = self.reported.value
        if value is None:
            return None
        near = abs(value - self.mean) <= 2 * self.deviation
        return near or min(self.values) <= value <= max(self.values)


REASONS: Mapping[str, str] = {}
"""Why a figure differs, by recipe and figure; each found by an experiment. Said only if it does."""


def tables(figures: Mapping[str, Sequence[Figure]]) -> list[str]:
    """A heading, a table and the reasons for every recipe, in Markdown."""
    lines: list[str] = []
    for recipe, found in figures.items():
        lines += [f"## {recipe}", "", *table(found), "", *reasons(recipe, found)]
    return lines


def table(found: Sequence[Figure]) -> list[str]:
    """One row a figure."""
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
    lines = [
        f"- {figure.name}: {REASONS.get(f'{recipe}: {figure.name}', 'not explained yet.')}"
        for figure in found
        if figure.agrees is False
    ]
    return [*lines, ""] if lines else []


def document(described: Mapping[str, str], figures: Mapping[str, Sequence[Figure]]) -> str:
    """docs/reproduction.md."""
    judged = [one for found in figures.values() for one in found if one.agrees is not None]
    return _PAGE.format(
        agreeing=sum(bool(one.agrees) for one in judged),
        judged=len(judged),
        seeds=len(judged[0].values),
        tables="\n".join(tables(figures)),
        machine="\n".join(machine.markdown_of(described)),
    )


_PAGE = """\
# The walk-throughs' figures, made again

Written by `benchmarks/reproduce.py` (`make reproduce`). sartor grew from walk-throughs of PyTorch;
here their figures stand beside those of its recipes, each trained with {seeds} seeds. A seed
decides the split, the first weights, the order of the images and what dropout leaves out. The
walk-throughs name no seed, so theirs is one draw from a distribution of which ours are {seeds}.

"Agrees" says that the reported figure lies within two standard deviations of our mean, or between
our lowest and highest: {agreeing} of {judged} do.

{tables}
## Made on

{machine}
"""
