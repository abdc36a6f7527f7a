"""Comparisons and summaries over seeds for people: at most 80 columns on stdout."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..evaluation.comparison import rounded
from ..evaluation.paired import POWER
from ..runs.store import seed_folders
from .tables import (
    _console,
    _percent,
    _table,
    groups_sentence,
    name_cell,
    not_finite_line,
    shortened,
)
from .tables import print_wrapped as _print_wrapped

if TYPE_CHECKING:
    from ..api.comparing import Comparison, SeedGroup
    from ..api.seeds import SeedRuns
    from ..evaluation.comparison import ClassDifference, Pair
    from ..evaluation.seed_statistics import SeedStatistics

_MOST_CLASSES = 12
_MOST_SENTENCES = 3


def print_comparison(comparison: Comparison) -> None:
    """Verdicts first, then what they rest on: figures, classes, recipes, seeds."""
    print(f"{comparison.split} split: {comparison.count:,} images, the same for every run")
    groups = comparison.pairs[0].groups
    if groups is not None:
        _print_wrapped(groups_sentence(groups) + " Tests exchange whole groups.")
    print()
    _print_verdicts(comparison)
    print()
    _console().print(_runs_table(comparison))
    _print_cautions(comparison)
    print()
    if comparison.recipe_pairs:
        print("Pairs of single runs are about their weights only; --json prints them.")
    elif len(comparison.pairs) == 1:
        _print_pair(comparison.pairs[0])
        _print_classes(comparison.pairs[0])
    else:
        _print_pairs(comparison)
        _print_told_classes(comparison)
    _print_recipes(comparison)
    for group in comparison.seed_groups:
        _print_group(group, comparison)
    if not comparison.recipe_pairs and any(not pair.same_recipe for pair in comparison.pairs):
        print()
        _print_wrapped(
            "These verdicts are about these weights. Which recipe is better shows over seeds: fit "
            "--seeds N --out DIR for each, then compare the folders."
        )


def seed_line(seed: int, result: dict[str, Any]) -> str:
    """What the training with one seed came to."""
    best = result["best"]
    part, row = ("val", best) if best else ("train", result)
    epoch = f"best epoch, {best['epoch']} of {result['epochs']}" if best else "last epoch"
    infinite = "" if row[f"{part}_loss"] is not None else ", loss not finite"
    return (
        f"seed {seed}: {part} accuracy {row[f'{part}_accuracy']:.2%}{infinite} ({epoch}), "
        f"{result['seconds']:.1f} s, {result['run']}"
    )


def print_seeds(trained: SeedRuns) -> None:
    """Mean and standard deviation over the seeds, and what to type next."""
    shown: dict[str, SeedStatistics | None] = dict(trained.best)
    if trained.best["val_accuracy"] is None:
        shown = {name: one for name, one in trained.summary.items() if name.startswith("train")}
    if trained.test:
        shown |= {"test_accuracy": trained.test.accuracy, "test_loss": trained.test.loss}
    print(f"\n{len(trained)} seeds, each with its own validation images")
    table = _table("last epoch" if trained.best["val_accuracy"] is None else "best epoch")
    for heading in ("mean", "std", "95 % interval of mean", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for name, statistics in shown.items():
        if statistics is not None:
            table.add_row(name.replace("_", " "), *_statistics_cells(name, statistics))
    _console().print(table)
    if trained.test:
        low, high = trained.test.mean.interval
        _print_wrapped(
            f"Each seed was judged once on the same {trained.test.mean.count:,} test images. For "
            f"other test images as well, the 95 % interval of the mean is {low:.2%} to {high:.2%}."
        )
        print("next, which images they differ on, or other recipes' folders and runs:")
        print(f"sartor compare {shlex.join(map(str, _places(trained)))}")


def _places(trained: SeedRuns) -> list[Path]:
    """The folder of the runs, where they have one of their own; else each of them."""
    paths = [run.path for run in trained]
    parent = paths[0].parent
    return [parent] if [one.path for one in seed_folders(parent)] == paths else paths


def _print_verdicts(comparison: Comparison) -> None:
    if comparison.recipe_pairs:
        for recipes in comparison.recipe_pairs:
            _print_wrapped(f"{recipes.verdict}.")
        return
    told = [pair for pair in comparison.pairs if pair.distinguishable]
    untold = [pair for pair in comparison.pairs if not pair.distinguishable]
    for pair in told:
        _print_wrapped(f"{pair.verdict}.")
    if len(untold) <= _MOST_SENTENCES:
        for pair in untold:
            _print_wrapped(f"{pair.verdict}.")
    else:
        others = "other " if told else ""
        print(f"None of the {len(untold)} {others}pairs is distinguishable on these images.")


def _runs_table(comparison: Comparison) -> Table:
    table = _table("", "run")
    several = _several_losses(comparison)
    for heading in ("correct", "accuracy", "95 % interval", *([] if several else ["loss"])):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, run in enumerate(comparison.runs, 1):
        low, high = run.interval
        table.add_row(
            str(number),
            shortened(run.name, 28),
            f"{run.correct:,}",
            _percent(run.accuracy),
            f"{low:.2%} to {high:.2%}",
            *([] if several else [_loss(run.loss)]),
        )
    return table


def _several_losses(comparison: Comparison) -> bool:
    return len({run.loss_kind for run in comparison.runs}) > 1


def _loss(loss: float) -> str:
    return f"{loss:.4f}" if math.isfinite(loss) else "not finite"


def _print_cautions(comparison: Comparison) -> None:
    """That losses cannot be compared, or outputs are not finite."""
    if _several_losses(comparison):
        losses = (
            f"{_loss(run.loss)} ({run.loss_kind}) for {number}"
            for number, run in enumerate(comparison.runs, 1)
        )
        _print_wrapped(f"Losses of different kinds, which cannot be compared: {', '.join(losses)}.")
    for run in comparison.runs:
        if run.not_finite:
            _print_wrapped(f"{run.name}: {not_finite_line(run.not_finite, run.count)}")


def _print_pair(pair: Pair) -> None:
    gained, lost = len(pair.only_second), len(pair.only_first)
    neither = pair.count - pair.both - gained - lost
    _print_wrapped(
        f"2 - 1: {100 * pair.difference:+z.2f} points, 95 % interval {_interval(pair.interval)}; "
        f"{_test_name(pair)} p {_p_value(pair.p_value)}"
    )
    _print_wrapped(
        f"images: {pair.both:,} correct in both, {gained:,} only in 2, {lost:,} only in 1, "
        f"{neither:,} in neither"
    )
    low, high = pair.interval
    if (low > 0 or high < 0) and not pair.distinguishable:
        print("The interval excludes 0, but the exact test decides: not significant.")


def _test_name(pair: Pair) -> str:
    return "exact McNemar" if pair.groups is None else "exact group-wise"


def _print_pairs(comparison: Comparison) -> None:
    table = _table("pair")
    for heading in ("points", "95 % interval", "gained", "lost", "p (Holm)", "needed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in comparison.pairs:
        table.add_row(
            _numbers(pair, comparison),
            f"{100 * pair.difference:+z.2f}" + " *" * pair.distinguishable,
            _interval(pair.interval),
            f"{len(pair.only_second):,}",
            f"{len(pair.only_first):,}",
            _p_value(pair.p_adjusted),
            f"{rounded(pair.images_needed):,}" if pair.images_needed else "",
        )
    _console().print(table)
    _print_wrapped(
        f"p: {_test_name(comparison.pairs[0])} test, two-sided, corrected for the number of pairs; "
        "it decides (*). Each interval is for its own pair only. needed: images that would show "
        "such a difference "
        f"with a power of {POWER:.0%}, if the runs keep differing as on these."
    )


def _print_classes(pair: Pair) -> None:
    """Every class of a pair, those that can be told apart first."""
    entries = sorted(
        (entry for entry in pair.per_class if entry.count),
        key=lambda entry: (not entry.distinguishable, -abs(entry.difference)),
    )
    table = _table("class")
    for heading in ("images", "1", "2", "2 - 1", "95 % interval", "p (Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in entries[:_MOST_CLASSES]:
        first, second = entry.accuracies or (None, None)
        figures = f"{entry.count:,}", _percent(first), _percent(second)
        table.add_row(name_cell(entry.class_name), *figures, *_class_cells(entry))
    print()
    _console().print(table)
    if not entries[0].distinguishable:
        print("No single class differs significantly.")
    if len(entries) > _MOST_CLASSES:
        hidden = len(entries) - _MOST_CLASSES
        print(f"{hidden} classes that differ less are not shown; --json prints them.")


def _print_told_classes(comparison: Comparison) -> None:
    """The classes that can be told apart, of every pair."""
    table = _table("pair", "class")
    for heading in ("images", "points", "95 % interval", "p (Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in comparison.pairs:
        for entry in pair.per_class:
            if entry.distinguishable:
                cells = _numbers(pair, comparison), name_cell(entry.class_name), f"{entry.count:,}"
                table.add_row(*cells, *_class_cells(entry))
    print()
    if table.row_count:
        _console().print(table)
    else:
        print("No single class differs significantly in any pair.")


def _class_cells(entry: ClassDifference) -> tuple[str, str, str]:
    return (
        f"{100 * entry.difference:+z.1f}" + " *" * entry.distinguishable,
        _interval(entry.interval, 1),
        _p_value(entry.p_adjusted),
    )


def _print_recipes(comparison: Comparison) -> None:
    print()
    if not comparison.recipe_differences:
        print("The recipes are the same.")
    elif len(comparison.runs) == 2 and _fits_table(comparison.recipe_differences):
        table = _table("what differs", "1", "2")
        for setting, values in comparison.recipe_differences.items():
            table.add_row(setting, *map(_value, values))
        _console().print(table)
    else:
        print("What differs in the recipes, with the numbers of the runs:")
        for setting, values in comparison.recipe_differences.items():
            _print_wrapped(f"  {setting}: {_by_value(values)}")


def _fits_table(differences: dict[str, list[Any]]) -> bool:
    """Whether the settings and both their values fit side by side into 80 columns."""
    columns = zip(*([name, *map(_value, both)] for name, both in differences.items()), strict=True)
    return sum(max(map(len, column)) for column in columns) + 6 <= 80


def _by_value(values: list[Any]) -> str:
    """Each value with the numbers of the runs that have it."""
    numbers: dict[str, list[str]] = {}
    for number, value in enumerate(values, 1):
        numbers.setdefault(_value(value), []).append(str(number))
    return "; ".join(f"{value} ({', '.join(runs)})" for value, runs in numbers.items())


def _print_group(group: SeedGroup, comparison: Comparison) -> None:
    names = "These runs" if len(group.names) == len(comparison.runs) else ", ".join(group.names)
    seeds = ", ".join(map(str, group.seeds))
    (low, high), (lowest, highest) = group.accuracy.interval, group.mean.interval
    print()
    _print_wrapped(
        f"{names} differ only in the seed ({seeds}): mean accuracy "
        f"{group.accuracy.mean:.2%} (95 % interval {low:.2%} to {high:.2%} over seeds on these "
        f"images, {lowest:.2%} to {highest:.2%} for other images as well), standard deviation "
        f"{100 * group.accuracy.std:.2f} points."
    )


def _statistics_cells(name: str, statistics: SeedStatistics) -> tuple[str, ...]:
    def shown(value: float) -> str:
        return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4f}"

    low, high = statistics.interval
    return (
        shown(statistics.mean),
        shown(statistics.std),
        f"{shown(low)} to {shown(high)}",
        shown(statistics.lowest),
        shown(statistics.highest),
    )


def _numbers(pair: Pair, comparison: Comparison) -> str:
    """ "2 - 1": the numbers of the second run and of the first."""
    names = [run.name for run in comparison.runs]
    return f"{names.index(pair.second) + 1} - {names.index(pair.first) + 1}"


def _interval(interval: tuple[float, float], digits: int = 2) -> str:
    low, high = interval
    return f"{100 * low:+.{digits}f} to {100 * high:+.{digits}f}"


def _p_value(p_value: float) -> str:
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return " ".join(f"{name}={_value(each)}" for name, each in value.items()) or "-"
    if isinstance(value, list):
        return ",".join(map(_value, value)) or "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
