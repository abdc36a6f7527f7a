"""Results for people: tables of at most 80 columns on stdout."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..console.progress import duration, epoch_line
from ..console.streams import Plain
from ..reports.text import fitted, text_histogram
from ..wording import plain

if TYPE_CHECKING:
    from ..api import Prediction, Report
    from ..evaluation.as_given import AsGiven
    from ..evaluation.metrics import Evaluation
    from ..inspection.probes.range_test import RangeTest
    from ..runs.store import RunSummary

_REASONS_SHOWN = 5


def print_result(result: dict[str, Any], report: Path | None, following: str | None) -> None:
    """What the weights that are judged came to, and what to type next."""
    print(result_line(result))
    print(
        f"{result['epochs']} epoch{'' if result['epochs'] == 1 else 's'} in "
        f"{result['seconds']:.1f} s ({result['images_per_second']:,.0f} images/s)"
    )
    print(f"run: {result['run']}")
    if report:
        print(f"report: {report}")
    if following:
        print(f"next: {following}")


def result_line(result: dict[str, Any]) -> str:
    """The figures of the epoch whose weights are judged, and which epoch that is."""
    best = result["best"]
    part, row = ("val", best) if best else ("train", result)
    loss = row[f"{part}_loss"]
    name = f"best epoch, {best['epoch']} of" if best else "last epoch,"
    return (
        f"{part} accuracy {row[f'{part}_accuracy']:.2%}, "
        f"loss {'not finite' if loss is None else f'{loss:.4f}'} ({name} {result['epochs']})"
    )


def weights_line(weights: dict[str, Any]) -> str:
    """Which weights a figure is about."""
    if weights["chosen_on_validation"]:
        return f"weights of epoch {weights['epoch']}, the best on the validation split"
    return f"weights of epoch {weights['epoch']}, the last"


def print_range_test(test: RangeTest) -> None:
    """The running mean of the loss, a bar for every few rates, and what it suggests."""
    top = 1.5 * max(test.smoothed[:1], default=1.0)
    last = test.rates[-1] if test.rates else 0
    for rate, loss in list(zip(test.rates, test.smoothed, strict=True))[::4]:
        bar = "█" * round(50 * min(loss / top, 1))
        print(f"lr {rate:8.1e}  loss {loss:8.4f}  {bar}")
    if test.blew_up_at is not None:
        print(f"\nThe loss diverged at {test.blew_up_at:.1e}.")
    if test.suggestion is None:
        print(f"\nThe loss never dropped by 5 % up to {last:.1e}: no suggestion.")
    else:
        print(f"\nSuggestion: --lr {test.suggestion:g}, where the loss drops fastest.")


def print_dataset(description: dict[str, Any]) -> None:
    """Counts, shape, mean, standard deviation and a histogram of the classes."""
    channels, height, width = description["shape"]
    parts = ", ".join(f"{count:,} {name}" for name, count in description["parts"].items())
    size = f"{channels}x{height}x{width}"
    print(f"{description['set']}: {description['count']:,} images of {size} ({parts})")
    print(
        f"mean {_numbers(description['mean'])}, std {_numbers(description['std'])} (pixels in 0..1)"
    )
    print(f"fingerprint {description['fingerprint'][:16]}\n")
    names = [row["class"] for row in description["classes"]]
    for part in description["parts"]:
        print(f"{part}: {len(names)} classes")
        print(text_histogram([row[part] for row in description["classes"]], names))


def print_image(image: dict[str, Any], name: str) -> None:
    """What is known about one image of a set."""
    channels, height, width = image["shape"]
    part = f", {image['part']} images" if image["part"] else ""
    print(f"image {image['index']} of {name}{part}: class {image['class']}")
    if image["file"] is not None:
        print(f"file {image['file']}")
    print(
        f"{channels}x{height}x{width} pixels from {image['lowest']} to {image['highest']}, "
        f"mean {image['mean']}, std {image['std']}"
    )


def print_runs(summaries: Sequence[RunSummary]) -> None:
    """One line per run."""
    table = _table("run", "state")
    for heading in ("epochs", "train", "val", "time"):
        table.add_column(heading, justify="right")
    for run in summaries:
        table.add_row(
            _shortened(run.name, 36),
            run.state if run.seeds is None else f"{run.seeds} seeds: {run.state}",
            f"{run.epochs_done}/{run.epochs}",
            _percent(run.train_accuracy),
            _percent(run.val_accuracy),
            "" if run.seconds is None else duration(run.seconds),
        )
    _console().print(table)


def print_run(description: dict[str, Any], summary: RunSummary, recipe: str | None) -> None:
    """State, figures and history of one run; with `recipe` also that, as TOML."""
    weights = description["weights_sha256"]
    shown = f", weights {weights[:16]}" if weights else ""
    print(f"{description['run']}: {description['status']}{shown}")
    time = "" if summary.seconds is None else f", {duration(summary.seconds)}"
    print(
        f"{summary.model} on {summary.source}: {summary.epochs_done} of {summary.epochs} "
        f"epochs{time}"
    )
    if summary.val_accuracy is not None:
        print(f"val accuracy {summary.val_accuracy:.2%} (best epoch, {summary.best_epoch})")
    elif summary.train_accuracy is not None:
        print(f"train accuracy {summary.train_accuracy:.2%}")
    training = description["recipe"]["training"]
    if training["weight_decay"]:
        spared = ", not on biases and norms" if training["weight_decay_on"] == "weights" else ""
        print(f"weight decay {training['weight_decay']:g}{spared}")
    if description["engine"]:
        print(f"{description['engine'].get('line', '')}")
    history, training = description["history"], description["recipe"]["training"]
    for extension in training.get("extensions", ()):
        print(f"planned: {extension}, then extended")
    if history:
        print()
    balanced = any(map(_hides_small_classes, history))
    for row in history:
        print(epoch_line(row, training["epochs"], balanced=balanced))
    if recipe is None:
        print(f"\nrecipe: {description['run']}/recipe.toml")
    else:
        print(f"\n{recipe}", end="")


def print_evaluation(evaluation: Evaluation, run: str, weights: dict[str, Any]) -> None:
    """The headline, a line per class, and the confusion matrix where it fits."""
    low, high = evaluation.accuracy_interval
    correct = sum(row.correct for row in evaluation.per_class)
    print(run)
    print(weights_line(weights))
    part = "all images" if evaluation.split == "all" else f"{evaluation.split} split"
    print(f"{part}: {correct:,} of {evaluation.count:,} correct")
    loss = f"{evaluation.loss:.4f}" if math.isfinite(evaluation.loss) else "not finite"
    print(
        f"accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), loss {loss}"
    )
    if evaluation.choices > 1:
        print(
            f"These images chose the best of {evaluation.choices} epochs; the interval allows "
            "for that."
        )
    if evaluation.groups is not None:
        print_wrapped(groups_sentence(evaluation.groups))
    if evaluation.not_finite:
        print(not_finite_line(evaluation.not_finite, evaluation.count))
    print(
        f"balanced accuracy {evaluation.balanced_accuracy:.2%}, "
        f"macro F1 {evaluation.macro_f1:.2%} (all classes weighted equally)"
    )
    if evaluation.as_given:
        _print_as_given(evaluation.as_given)
    print()
    table = _table("class")
    for heading in ("count", "accuracy", "95 % interval", "precision", "recall", "F1"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in evaluation.per_class:
        low, high = row.interval
        table.add_row(
            name_cell(row.class_name),
            f"{row.count:,}",
            _percent(row.accuracy),
            f"{low:.1%} to {high:.1%}",
            _percent(row.precision),
            _percent(row.recall),
            _percent(row.f1),
        )
    _console().print(table)
    low, high = evaluation.weakest_interval
    _console().print(
        "Each interval is for its class by itself. Weakest class: "
        f"{evaluation.weakest.class_name}, {_percent(evaluation.weakest.accuracy)} ({low:.1%} to "
        f"{high:.1%}, which allows for its being picked from all classes)."
    )
    _print_confusion(evaluation)


def not_finite_line(not_finite: int, count: int) -> str:
    """That outputs are not finite."""
    return (
        f"The network's outputs are not finite for {not_finite:,} of {count:,} images: "
        "they count as wrong."
    )


def _print_as_given(given: AsGiven) -> None:
    """The figures without what the run's lists change, and why these change it."""
    low, high = given.accuracy_interval
    print(f"as given, undoing {given.what}:")
    print(
        f"  accuracy {given.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}) of "
        f"{given.count:,} images; the reasons:"
    )
    reasons = list(given.reasons())
    for reason, count in reasons[:_REASONS_SHOWN]:
        print(f"  {count:,}: {fitted(reason, 70)}")
    if len(reasons) > _REASONS_SHOWN:
        print(f"  and {len(reasons) - _REASONS_SHOWN:,} more reasons")


def print_report(report: Report) -> None:
    """What was judged, what it came to, and where the page lies."""
    evaluation, calibration = report.document["evaluation"], report.document["calibration"]
    if not evaluation:
        print("The run has neither test nor validation images: nothing was evaluated.")
    else:
        low, high = evaluation["accuracy_interval"]
        weights = report.document["run"]
        short = f"{'best' if weights['chosen_on_validation'] else 'last'} epoch, {weights['epoch']}"
        print(
            f"{report.split} split: accuracy {evaluation['accuracy']:.2%} "
            f"(95 % interval {low:.2%} to {high:.2%}), {short}"
        )
        if evaluation["groups"] is not None:
            print_wrapped(groups_sentence(evaluation["groups"]))
        if evaluation["not_finite"]:
            print(not_finite_line(evaluation["not_finite"], evaluation["count"]))
    if calibration:
        print(_calibration_lines(calibration["before"]))
        if calibration["after"]:
            print(f"at temperature {calibration['temperature']['value']:.3f}:")
            print(_calibration_lines(calibration["after"], "  "))
    for line in _baseline_lines(report.document):
        print(line)
    if report.path:
        print(f"report: {report.path}")


def _baseline_lines(document: dict[str, Any]) -> Iterator[str]:
    """Accuracy of each baseline; which the network does not beat; whether it overfits."""
    for one in document["baselines"]:
        low, high = one["accuracy_interval"]
        better = one["difference_interval"][1] < 0
        verdict = ", better than the network" if better else ", not beaten beyond chance"
        verdict = "" if one["beaten"] else verdict
        line = f"baseline {one['name']}: {one['accuracy']:.2%} ({low:.1%} to {high:.1%}){verdict}"
        yield from textwrap.wrap(line, 80, subsequent_indent="  ", break_on_hyphens=False)
    if document["overfitting"]:
        yield from textwrap.wrap(document["overfitting"], 80, break_on_hyphens=False)


def _calibration_lines(reliability: dict[str, Any], indent: str = "") -> str:
    """Confidence minus accuracy, and the calibration error beside what chance gives."""
    low, high = (f"{100 * limit:+.2f}" for limit in reliability["gap_interval"])
    verdict = f": {reliability['verdict']}" if reliability["verdict"] else ""
    return (
        f"{indent}confidence minus accuracy {100 * reliability['gap']:+.2f} points "
        f"({low} to {high}){verdict}\n"
        f"{indent}calibration error {reliability['ece']:.2%}, by chance up to "
        f"{reliability['ece_by_chance']:.2%}"
    )


def print_predictions(predictions: Sequence[Prediction], topk: int, shown: str) -> None:
    """One line per picture, with what else it might be where that fits; else a line for each.

    `shown` says what the numbers are: a probability, or a score.
    """
    names = [_shortened(one.file) for one in predictions]
    others = [
        ", ".join(f"{label} {p:.1%}" for label, p in one.top(topk)[1:]) for one in predictions
    ]
    labels = max(len("label"), *(len(one.label) for one in predictions))
    used = max(len("picture"), *map(len, names)) + labels + len(shown) + 9
    beside = topk > 1 and used + max(map(len, others)) <= 80
    table = _table()
    table.add_column("picture", no_wrap=True, min_width=max(map(len, names)))
    table.add_column("label")
    table.add_column(shown, justify="right", no_wrap=True)
    if beside:
        table.add_column("next", no_wrap=True)
    for name, one, text in zip(names, predictions, others, strict=True):
        cells: list[Any] = [name_cell(one.label), f"{one.probability:.1%}"]
        table.add_row(name, *cells, *([text] if beside else []))
        for label, probability in () if beside else one.top(topk)[1:]:
            table.add_row("", name_cell(label), f"{probability:.1%}")
    _console().print(table)


def _print_confusion(evaluation: Evaluation) -> None:
    count = len(evaluation.confusion)
    width = max(len(str(int(evaluation.confusion.max()))), len(str(count - 1))) + 1
    if count * width + 22 > 80:
        print("\nThe confusion matrix is too wide for 80 columns; --json prints it.")
        return
    print("\nconfusion matrix: true classes in rows, predicted in columns")
    print(" " * 22 + "".join(f"{label:>{width}}" for label in range(count)))
    for label, (row, entry) in enumerate(
        zip(evaluation.confusion, evaluation.per_class, strict=True)
    ):
        name = f"{label:>3} {entry.class_name[:17]:<17} "
        print(name + "".join(f"{value or '.':>{width}}" for value in row.tolist()))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `main.run`, which knows that it is not an error."""
        raise

    def render_str(self, text: str, **choices: Any) -> Text:
        """Names may hold anything."""
        return super().render_str(plain(text), **choices)


def _console() -> Console:
    # Names of files and classes stand as they are: "[red]" is no colour, ":smile:" no picture.
    # Its own sequences, for bold headings, must reach the terminal as they are.
    stream = sys.stdout.stream if isinstance(sys.stdout, Plain) else sys.stdout
    return _Console(file=stream, highlight=False, soft_wrap=False, markup=False, emoji=False)


def groups_sentence(groups: int) -> str:
    """That intervals know of groups."""
    return (
        f"The images come from {groups:,} group{'' if groups == 1 else 's'}; the intervals allow "
        "for images of one group being alike."
    )


def print_wrapped(text: str) -> None:
    """A sentence in lines of at most 80 columns."""
    _console().print(text)


def _table(*headings: str) -> Table:
    return Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def name_cell(name: str) -> Text:
    """A name in a table: cut at its end where its column is too narrow, never on two lines."""
    return Text(plain(name), no_wrap=True, overflow="ellipsis")


def _hides_small_classes(row: dict[str, Any]) -> bool:
    """Whether the accuracy of all images is better than that of the mean class by a point."""
    balanced = row.get("val_balanced_accuracy")
    return balanced is not None and row["val_accuracy"] - balanced >= 0.01


def _shortened(path: str, columns: int = 26) -> str:
    """The end of a long path, which tells files apart."""
    return path if len(path) <= columns else "…" + path[1 - columns :]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
