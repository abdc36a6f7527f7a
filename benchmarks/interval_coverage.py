"""How often each interval that sartor shows holds the truth, by simulation.

    python benchmarks/interval_coverage.py                          # some minutes of a core, tables
    python benchmarks/interval_coverage.py --repetitions 200        # a quick look
    python benchmarks/interval_coverage.py --page docs/coverage.md  # writes the page

Each case draws sets of images from a world whose true figure is known, lets sartor make the
interval of each, and counts how often it holds the truth. What resamples the images is repeated a
quarter as often. An interval that is added to sartor is added here by one function in `ENTRIES`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
import numpy.typing as npt

from sartor import files
from sartor.evaluation.bootstrap import (
    balanced_accuracy,
    bootstrap,
    interval_of_mean_over_classes,
    macro_f1,
    mean_of,
)
from sartor.evaluation.calibration import (
    calibration_error,
    confidence_of,
    errors_by_chance,
    gap_interval,
    log_probabilities,
)
from sartor.evaluation.coverage import risk_coverage_area
from sartor.evaluation.intervals import of_the_best, simultaneous, wilson
from sartor.evaluation.paired import difference_interval, holm, mcnemar
from sartor.evaluation.predictions import Predictions
from sartor.evaluation.seed_statistics import statistics_over_seeds

Interval = tuple[float, float]
Random = np.random.Generator
Numbers = npt.NDArray[np.float64]
SLOWER = 4
_LARGE = 400_000


@dataclass(frozen=True)
class Draw:
    """One simulated set of images."""

    shown: Interval
    """The interval that sartor shows."""
    truth: float
    usual: Interval | None = None
    """What the usual method would show instead."""


@dataclass(frozen=True)
class Case:
    """A situation that an interval is made in."""

    situation: str
    draw: Callable[[Random], Draw]
    resamples: bool = False


@dataclass(frozen=True)
class Entry:
    """An interval that sartor shows."""

    name: str
    method: str
    cases: Callable[[], Iterator[Case]]
    usual: str = ""
    """The method that `Draw.usual` is of."""


@dataclass(frozen=True)
class Row:
    """What a case came to."""

    situation: str
    covered: int
    repetitions: int
    width: float
    usual: int | None


# ------------------------------------------------------------------------------------ worlds


def joint(classes: int, accuracy: float, imbalance: float) -> Numbers:
    """Probability of each true class (row) and predicted class, with mistakes spread unevenly."""
    random = np.random.default_rng(1)
    sizes = imbalance ** (-np.arange(classes) / max(classes - 1, 1))
    recalls = accuracy + random.uniform(-1, 1, classes) * min(0.2, 0.9 * (1 - accuracy))
    cells = np.zeros((classes, classes))
    for place in range(classes):
        others = np.arange(classes) != place
        cells[place, others] = random.dirichlet(np.full(classes - 1, 0.3)) * (1 - recalls[place])
        cells[place, place] = recalls[place]
    found: Numbers = cells * (sizes / sizes.sum())[:, None]
    return found


def predictions_from(cells: Numbers, count: int, random: Random) -> Predictions:
    """Certain predictions of `count` images drawn from a joint distribution."""
    size = len(cells)
    drawn = random.choice(size * size, count, p=cells.ravel() / cells.sum())
    logits = np.eye(size, dtype=np.float32)[drawn % size]
    return as_predictions(logits, drawn // size)


def as_predictions(logits: Numbers, labels: npt.NDArray[np.int64]) -> Predictions:
    """Predictions of the cross-entropy of some network."""
    return Predictions(
        logits=logits,
        labels=labels,
        indices=np.arange(len(labels)),
        classes=tuple(map(str, range(logits.shape[1]))),
        split="test",
        loss="cross-entropy",
        weights_sha256="",
        dataset_fingerprint="",
    )


def classifier(count: int, sharpness: float, temperature: float, random: Random) -> Predictions:
    """A classifier of five classes that is calibrated at that temperature."""
    logits = random.normal(size=(count, 5)) * sharpness
    noise = -np.log(-np.log(random.random((count, 5))))
    labels = (logits / temperature + noise).argmax(axis=1)
    return as_predictions(logits.astype(np.float32), labels)


def mean_f1(cells: Numbers) -> float:
    """Macro F1 in the whole world."""
    return float((2 * cells.diagonal() / (cells.sum(0) + cells.sum(1))).mean())


def mean_recall(cells: Numbers) -> float:
    """Balanced accuracy in the whole world."""
    return float((cells.diagonal() / cells.sum(1)).mean())


# ------------------------------------------------------------------------------------ shares


def accuracies() -> Iterator[Case]:
    """Also that of a class, and precision: a share of some images."""
    for count in (10, 100, 1_000, 10_000):
        for share in (0.6, 0.9, 0.99):

            def draw(random: Random, count: int = count, share: float = share) -> Draw:
                return Draw(wilson(int(random.binomial(count, share)), count), share)

            yield Case(f"{count:,} images, {share:.0%} correct", draw)


def f1_of_a_class() -> Iterator[Case]:
    for count in (50, 500):
        for place in (0, 9):
            cells = joint(10, 0.85, 5)
            truth = 2 * cells[place, place] / (cells[place].sum() + cells[:, place].sum())

            def draw(
                random: Random,
                count: int = count,
                place: int = place,
                truth: float = truth,
                cells: Numbers = cells,
            ) -> Draw:
                found = random.multinomial(count, cells.ravel()).reshape(cells.shape)
                right = int(found[place, place])
                union = int(found[place].sum() + found[:, place].sum()) - right
                low, high = (2 * one / (1 + one) for one in wilson(right, union))
                return Draw((low, high), truth)

            size = "largest" if place == 0 else "smallest"
            yield Case(f"{count} images, the {size} of 10 classes", draw)


def weakest_classes() -> Iterator[Case]:
    for classes, each in ((3, 30), (10, 20), (10, 100), (100, 10), (100, 100)):
        for spread in (0.0, 0.05):
            shares = np.clip(0.9 + spread * np.linspace(-1, 1, classes), 0, 1)

            def draw(
                random: Random, classes: int = classes, each: int = each, shares: Numbers = shares
            ) -> Draw:
                right = random.binomial(each, shares)
                weakest = int(right.argmin())
                got = int(right[weakest])
                return Draw(
                    simultaneous(got, each, classes), float(shares[weakest]), wilson(got, each)
                )

            kind = "85 to 95 %" if spread else "all 90 %"
            yield Case(f"{classes} classes of {each} images, {kind}", draw)


def confused_pairs() -> Iterator[Case]:
    for classes, count in ((10, 200), (10, 2_000), (30, 1_000)):
        pairs = classes * (classes - 1) // 2
        share = 0.1 / pairs

        def draw(
            random: Random, pairs: int = pairs, count: int = count, share: float = share
        ) -> Draw:
            most = int(random.binomial(count // 5, share * 5, pairs).max())
            return Draw(simultaneous(most, count // 5, pairs), share * 5, wilson(most, count // 5))

        yield Case(f"{pairs} pairs, {count // 5} images in each, equally often confused", draw)


def best_epochs() -> Iterator[Case]:
    for epochs, count in ((10, 150), (50, 150), (50, 1_000), (100, 5_000)):
        for alike in (0.5, 4.0):

            def draw(
                random: Random, epochs: int = epochs, count: int = count, alike: float = alike
            ) -> Draw:
                # How hard an image is; epochs agree on those that are easy or impossible.
                ease = random.beta(0.9 * alike, 0.1 * alike, count)
                rights = (random.random((epochs, count)) < ease).sum(axis=1)
                best = int(rights.max())
                return Draw(of_the_best(best, count, epochs), 0.9, wilson(best, count))

            kind = "that agree" if alike < 1 else "that differ"
            yield Case(f"best of {epochs} equal epochs {kind}, {count:,} images", draw)


# ------------------------------------------------------------------------------------ resampling


def means_over_classes(name: str) -> Iterator[Case]:
    statistic, truth_of = {
        "macro F1": (macro_f1, mean_f1),
        "balanced accuracy": (balanced_accuracy, mean_recall),
    }[name]
    for classes, count in ((3, 30), (10, 60), (10, 300), (30, 200), (100, 700)):
        for accuracy, imbalance in ((0.5, 1.0), (0.9, 1.0), (0.9, 10.0)):
            cells = joint(classes, accuracy, imbalance)

            def draw(random: Random, count: int = count, cells: Numbers = cells) -> Draw:
                predictions = predictions_from(cells, count, random)
                found = bootstrap({"": statistic(predictions)}, count)[""]
                occur = np.union1d(predictions.labels, predictions.predicted())
                if name != "macro F1":
                    occur = np.unique(predictions.labels)
                sizes = np.bincount(predictions.labels, minlength=len(cells))[occur].tolist()
                return Draw(
                    interval_of_mean_over_classes(found, sizes),
                    truth_of(cells),
                    (float(found.low), float(found.high)),
                )

            kind = "" if imbalance == 1 else ", sizes 1 to 10"
            yield Case(
                f"{classes} classes{kind}, {count} images, {accuracy:.0%} correct", draw, True
            )


def losses() -> Iterator[Case]:
    for sharpness, temperature, kind in ((3.0, 1.0, "calibrated"), (6.0, 3.0, "overconfident")):
        random = np.random.default_rng(5)
        truth = float(classifier(_LARGE, sharpness, temperature, random).example_losses().mean())
        for count in (30, 100, 1_000):

            def draw(
                random: Random,
                count: int = count,
                world: tuple[float, float] = (sharpness, temperature),
                truth: float = truth,
            ) -> Draw:
                each = classifier(count, *world, random).example_losses()
                found = bootstrap({"": mean_of(each)}, count)[""]
                return Draw((float(found.low), float(found.high)), truth)

            yield Case(f"{count:,} images, {kind}", draw, True)


def areas() -> Iterator[Case]:
    def parts(count: int, random: Random) -> tuple[Numbers, npt.NDArray[np.bool_]]:
        predictions = classifier(count, 3.0, 1.0, random)
        predicted = predictions.predicted()
        confidences = confidence_of(log_probabilities(predictions), predicted)
        return confidences, predicted == predictions.labels

    whole = parts(_LARGE, np.random.default_rng(6))
    truth = float(risk_coverage_area(*whole)(np.ones((1, _LARGE)))[0])
    for count in (30, 100, 1_000):

        def draw(random: Random, count: int = count) -> Draw:
            found = bootstrap({"": risk_coverage_area(*parts(count, random))}, count)[""]
            return Draw((float(found.low), float(found.high)), truth)

        yield Case(f"{count:,} images", draw, True)


# ------------------------------------------------------------------------------------ calibration


def gaps() -> Iterator[Case]:
    for count in (30, 100, 1_000):
        for mean, shift in ((0.8, 0.0), (0.97, 0.0), (0.97, 0.05), (0.995, 0.0)):
            shape = 30 * mean, 30 * (1 - mean)
            large = np.random.default_rng(7).beta(*shape, _LARGE)
            truth = float((large - np.clip(large - shift, 0, 1)).mean())

            def draw(
                random: Random,
                count: int = count,
                shape: tuple[float, float] = shape,
                shift: float = shift,
                truth: float = truth,
            ) -> Draw:
                confidences = random.beta(*shape, count)
                right = random.random(count) < confidences - shift
                gap = confidences - right
                error = gap.std(ddof=1) / np.sqrt(count) if count > 1 else 1.0
                usual = float(gap.mean() - 1.96 * error), float(gap.mean() + 1.96 * error)
                return Draw(gap_interval(confidences, right), truth, usual)

            kind = "calibrated" if shift == 0 else "5 points overconfident"
            yield Case(f"{count:,} images, mean confidence {mean:.1%}, {kind}", draw)


def errors_within_chance() -> Iterator[Case]:
    for count in (50, 500, 5_000):
        for mean in (0.7, 0.97):

            def draw(random: Random, count: int = count, mean: float = mean) -> Draw:
                confidences = random.beta(10 * mean, 10 * (1 - mean), count)
                right = random.random(count) < confidences
                limit = float(np.quantile(errors_by_chance(confidences), 0.95))
                return Draw((0.0, limit), calibration_error(confidences, right))

            yield Case(f"{count:,} images, mean confidence {mean:.0%}, calibrated", draw, True)


# ------------------------------------------------------------------------------------ comparisons


def differences() -> Iterator[Case]:
    for count in (20, 100, 1_000):
        for only_first, only_second in ((0.02, 0.05), (0.1, 0.1), (0.05, 0.25)):
            rates = only_first, only_second, 1 - only_first - only_second

            def draw(
                random: Random, count: int = count, rates: tuple[float, float, float] = rates
            ) -> Draw:
                lost, gained, _ = (int(one) for one in random.multinomial(count, rates))
                return Draw(difference_interval(lost, gained, count), rates[1] - rates[0])

            yield Case(f"{count:,} images, {only_first:.0%} lost, {only_second:.0%} gained", draw)


def tests_of_equal_models() -> Iterator[Case]:
    """Covered is a comparison in which nothing is claimed."""
    for pairs, count in ((1, 100), (1, 1_000), (3, 1_000), (15, 1_000)):

        def draw(random: Random, pairs: int = pairs, count: int = count) -> Draw:
            rates = 0.05, 0.05, 0.9
            found = [
                mcnemar(*(int(one) for one in random.multinomial(count, rates)[:2]))
                for _ in range(pairs)
            ]
            return Draw((0.05 + 1e-12, 1.0), min(holm(found)))

        yield Case(
            f"{pairs} {'pair' if pairs == 1 else 'pairs'} of equal models, {count:,} images", draw
        )


def means_over_seeds() -> Iterator[Case]:
    for seeds in (2, 3, 5, 10):

        def draw(random: Random, seeds: int = seeds) -> Draw:
            values = random.normal(0.9, 0.004, seeds)
            return Draw(statistics_over_seeds(values.tolist(), highest=1).interval, 0.9)

        yield Case(f"{seeds} seeds, each with images of its own", draw)


ENTRIES = (
    Entry("Accuracy, recall and precision", "Wilson", accuracies),
    Entry("F1 of a class", "Wilson, of the share that F1 follows from", f1_of_a_class),
    Entry(
        "The weakest class",
        "Clopper-Pearson at Bonferroni's level",
        weakest_classes,
        "Wilson, without regard to the choice",
    ),
    Entry(
        "The pair of classes confused most often",
        "Clopper-Pearson at Bonferroni's level",
        confused_pairs,
        "Wilson, without regard to the choice",
    ),
    Entry(
        "Accuracy on the images that chose the epoch",
        "Wilson; below, Clopper-Pearson at Bonferroni's level",
        best_epochs,
        "Wilson, without regard to the choice",
    ),
    Entry(
        "Macro F1",
        "Wilson at the effective number of images, less the bias",
        lambda: means_over_classes("macro F1"),
        "percentiles of the bootstrap",
    ),
    Entry(
        "Balanced accuracy",
        "Wilson at the effective number of images, less the bias",
        lambda: means_over_classes("balanced accuracy"),
        "percentiles of the bootstrap",
    ),
    Entry("Loss and log loss", "percentiles of the bootstrap", losses),
    Entry("Area under the risk-coverage curve", "percentiles of the bootstrap", areas),
    Entry("Confidence minus accuracy", "MOVER", gaps, "mean and standard error"),
    Entry(
        "Calibration error within chance",
        "95 % quantile of 5,000 draws; covered: a calibrated classifier stays below",
        errors_within_chance,
    ),
    Entry("Difference of two accuracies", "Tango", differences),
    Entry(
        "Verdict on equal models",
        "McNemar's exact test with Holm's correction; covered: no difference is claimed",
        tests_of_equal_models,
    ),
    Entry("Mean over seeds", "Student", means_over_seeds),
)


# ------------------------------------------------------------------------------------ counting


def counted(case: Case, repetitions: int, seed: int) -> Row:
    """How often the interval holds the truth."""
    random = np.random.default_rng(seed)
    repetitions = max(1, repetitions // SLOWER) if case.resamples else repetitions
    covered = usual = 0
    widths = []
    for _ in range(repetitions):
        draw = case.draw(random)
        low, high = draw.shown
        covered += low <= draw.truth <= high
        widths.append(high - low)
        if draw.usual is not None:
            usual += draw.usual[0] <= draw.truth <= draw.usual[1]
    return Row(
        situation=case.situation,
        covered=covered,
        repetitions=repetitions,
        width=float(np.mean(widths)),
        usual=usual if draw.usual is not None else None,
    )


def section(entry: Entry, rows: Sequence[Row]) -> list[str]:
    """An interval's heading and table."""
    other = bool(entry.usual)
    lines = [f"## {entry.name}", "", f"Method: {entry.method}."]
    if other:
        lines[-1] += f" Usual instead: {entry.usual}."
    lines += ["", "| situation | covers | mean width |" + " usual |" * other]
    lines.append("|---|---|---|" + "---|" * other)
    for row in rows:
        low, high = wilson(row.covered, row.repetitions)
        share = f"{row.covered / row.repetitions:.1%} ({low:.1%} to {high:.1%})"
        line = f"| {row.situation} | {share} | {row.width:.3f} |"
        if other:
            line += f" {row.usual / row.repetitions:.1%} |" if row.usual is not None else " |"
        lines.append(line)
    return [*lines, ""]


def page(tables: Sequence[str], described: dict[str, str], seconds: float, repetitions: int) -> str:
    """docs/coverage.md."""
    facts = "\n".join(f"    {name:12} {text}" for name, text in described.items())
    return "\n".join(
        [
            "# How often an interval holds the truth",
            "",
            "An interval at 95 % should hold the true figure in 95 of 100 samples of images. Here",
            "each interval that sartor shows is made for many samples whose truth is known.",
            f"{repetitions:,} samples per case, {max(1, repetitions // SLOWER):,} where images are "
            "resampled;",
            "the range beside each share is what so many samples can tell. All of it supposes that",
            "images are independent of each other. To make the page again:",
            "`python benchmarks/interval_coverage.py --page PAGE`.",
            "",
            *tables,
            "## Made by",
            "",
            facts,
            f"    {'seconds':12} {seconds:.0f}",
            "",
        ]
    )


def main(words: Sequence[str] | None = None) -> int:
    """Simulate, print the tables, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000, help="samples per case")
    parser.add_argument("--only", default="", help="entries whose name holds this text")
    parser.add_argument("--page", type=Path, help="write the page into this file")
    given = parser.parse_args(words)
    # Before the start, since files may change while it runs.
    described, began = (
        machine.describe(machine.command_of("interval_coverage")),
        time.perf_counter(),
    )
    tables: list[str] = []
    for entry in ENTRIES:
        if given.only.lower() in entry.name.lower():
            rows = [
                counted(case, given.repetitions, seed) for seed, case in enumerate(entry.cases())
            ]
            lines = section(entry, rows)
            print("\n".join(lines), flush=True)
            tables += lines
    if given.page:
        files.write_text(
            given.page, page(tables, described, time.perf_counter() - began, given.repetitions)
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
