"""Results for people: tables of at most 80 columns on stdout."""

from __future__ import annotations

import math
import re
import shlex
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
from ..console.streams import Plain, print_text
from ..reports.text import fitted, text_histogram
from ..wording import message, one_line

if TYPE_CHECKING:
    from ..api import Exported, Report, Site
    from ..evaluation.as_given import AsGiven
    from ..evaluation.metrics import Evaluation
    from ..inspection.probes.range_test import RangeTest
    from ..runs.store import RunSummary

_REASONS_SHOWN = 5
_BLANK_ENDS = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)


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


def print_exported(made: Exported) -> None:
    """What was written, how large it is, how it was checked, and what to type next."""
    table = _table("file")
    table.add_column("size", justify="right")
    folders: dict[str, list[int]] = {}
    for name, size in made.files.items():
        folder, slash, _ = name.rpartition("/")
        folders.setdefault(f"{folder}/" if slash else name, []).append(size)
    for name, sizes in folders.items():
        files = f" ({len(sizes)} files)" if name.endswith("/") else ""
        table.add_row(name + files, _bytes(sum(sizes)))
    _console().print(table)
    if made.agreement:
        found = made.agreement
        ties = f", {found.ties:,} tied" if found.ties else ""
        print(
            f"model.onnx answers as PyTorch does on {found.images:,} {made.split} images, "
            f"{_listed(found.batches)} at once:"
        )
        print(
            f"the same class for all{ties}; probabilities differ by at most "
            f"{found.largest_difference:.1e}"
        )
    if made.quantized:
        print_wrapped(made.quantized.sentence)
    path = shlex.quote(str(made.path))
    print(f"bundle: {made.path}")
    print(f"sha256: {made.sha256}")
    print(f"next: sartor verify {path}, sartor predict {path} PICTURE")


def print_site(site: Site) -> None:
    """What was written, and how to look at it."""
    print(f"site: {site.path}, {len(site.files)} files, {sum(site.files.values()) / 1e6:.0f} MB")
    path = shlex.quote(str(site.path))
    print(f"next: python -m http.server --bind 127.0.0.1 --directory {path}")


def _listed(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}"


def _bytes(size: int) -> str:
    return f"{size:,} B" if size < 10_000 else f"{size / 1e3:,.0f} kB"


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
        print_text(text_histogram([row[part] for row in description["classes"]], names))


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
            shortened(run.name, 36),
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
    if description["transfer"]:
        print_wrapped(str(description["transfer"].get("sentence", "")))
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
        print_text(f"\n{recipe}".removesuffix("\n"))


def print_evaluation(evaluation: Evaluation, judged: str, weights: str) -> None:
    """The headline, a line per class, and the confusion matrix where it fits.

    Args:
        judged: which run or bundle, and on what where it is not its own data.
        weights: which weights the figures are about, in words.
    """
    low, high = evaluation.accuracy_interval
    correct = sum(row.correct for row in evaluation.per_class)
    print(judged)
    print(weights)
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
    if evaluation.unmatched:
        for sentence in evaluation.unmatched.sentences():
            print_wrapped(sentence)
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
    if evaluation.sets or evaluation.novelty:
        print()
    _print_promises(evaluation)
    _print_confusion(evaluation)


def percent(share: float) -> str:
    """As short as it can be: 95 %, 99.5 %."""
    return f"{100 * share:.4g} %"


def _print_promises(evaluation: Evaluation) -> None:
    """How large sets are and how often they hold the class; how many images are unknown."""
    sets = None if evaluation.sets is None else evaluation.sets.to_json()
    novelty = None if evaluation.novelty is None else evaluation.novelty.to_json()
    for sentence in promise_sentences(sets, novelty):
        print_wrapped(sentence)


def promise_sentences(sets: dict[str, Any] | None, novelty: dict[str, Any] | None) -> Iterator[str]:
    """What was promised and what was found, as `evaluate --json` gives both."""
    if sets:
        low, high = sets["interval"]
        expected = ""
        if sets["expected"]:
            least, most = sets["expected"]
            expected = f"; {least:.1%} to {most:.1%} are within chance"
        judged = [row for row in sets["per_class"] if row["count"]]
        weakest = min(judged, key=lambda row: row["coverage"])
        yield (
            f"Sets are to contain the true class for {percent(sets['promised'])} of all images. "
            f"Here they do for {sets['coverage']:.2%} (95 % interval {low:.2%} to {high:.2%}"
            f"{expected}), with {sets['mean_size']:.2f} classes on average. Lowest for a class: "
            f"{weakest['class']}, {weakest['coverage']:.1%}."
            + ("" if sets["kept"] else " That is fewer than chance explains.")
        )
    if novelty:
        low, high = novelty["interval"]
        yield (
            f"Unknown: {novelty['unknown']:,} of {novelty['count']:,} images, "
            f"{novelty['share']:.2%} (95 % interval {low:.2%} to {high:.2%}). At most "
            f"{percent(round(novelty['promised'], 3))} is expected for images like the validation "
            "images."
        )


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
        print_text(_calibration_lines(calibration["before"]))
        if calibration["after"]:
            print(f"at temperature {calibration['temperature']['value']:.3f}:")
            print_text(_calibration_lines(calibration["after"], "  "))
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
        yield from textwrap.wrap(one_line(line), 80, subsequent_indent="  ", break_on_hyphens=False)
    if document["overfitting"]:
        yield from textwrap.wrap(document["overfitting"], 80, break_on_hyphens=False)


def _calibration_lines(reliability: dict[str, Any], indent: str = "") -> str:
    """Confidence minus accuracy, and the calibration error beside what chance gives."""
    low, high = (f"{100 * limit:+z.2f}" for limit in reliability["gap_interval"])
    verdict = f": {reliability['verdict']}" if reliability["verdict"] else ""
    return (
        f"{indent}confidence minus accuracy {100 * reliability['gap']:+z.2f} points "
        f"({low} to {high}){verdict}\n"
        f"{indent}calibration error {reliability['ece']:.2%}, by chance up to "
        f"{reliability['ece_by_chance']:.2%}"
    )


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
    def print(self, *objects: Any, **choices: Any) -> None:
        """Without blanks at the ends of lines: rich leaves them where it breaks and fills lines."""
        with self.capture() as captured:
            super().print(*objects, **choices)
        self.file.write(_BLANK_ENDS.sub(r"\1", captured.get()))
        self.file.flush()

    def on_broken_pipe(self) -> None:
        """Leave it to `main.run`, which knows that it is not an error."""
        raise

    def render_str(self, text: str, **choices: Any) -> Text:
        """Names may hold anything."""
        return super().render_str(message(text), **choices)


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
    return Text(one_line(name), no_wrap=True, overflow="ellipsis")


def _hides_small_classes(row: dict[str, Any]) -> bool:
    """Whether the accuracy of all images is better than that of the mean class by a point."""
    balanced = row.get("val_balanced_accuracy")
    return None not in (balanced, row["val_accuracy"]) and row["val_accuracy"] - balanced >= 0.01


def shortened(path: str, columns: int = 26) -> str:
    """The end of a long path, which tells files apart."""
    path = one_line(path)
    return path if len(path) <= columns else "…" + path[1 - columns :]


def print_line(text: str, *, bold: bool = False) -> None:
    """One line as it is, never broken."""
    _console().print(Text(one_line(text), style="bold" if bold else ""), soft_wrap=True)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
