"""What an image costs in an epoch, from a thousand images to a million.

    python benchmarks/scale.py                      writes docs/feed.md
    python benchmarks/scale.py --counts 1000 5000   other sizes
    python benchmarks/scale.py --measure 1000 FILE  one size, one line of JSON; used by the above

The images are those of Fashion-MNIST, 28x28 and gray, repeated with shifts until they are enough;
they lie in a .npy file, which is mapped. Each size is measured in a process of its own, the sizes
in turns, so that a slow spell of the machine meets all of them alike. Measured are

    start       fingerprint, split, mean and spread, once
    feed        an epoch of batches of 64, order included, plain and with flip and crop
    training    an epoch of the recipe mnist-logistic (a linear model) on one thread, validation
                and checkpoints included: the time from one row of the history to the next
    memory      what the process had at most of its own, and of the file's pages, above what it
                had before the images were opened
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import machine
import numpy as np
import torch

import sartor
from sartor import assembly
from sartor.data.augment.pipeline import augmentation_of
from sartor.data.dataset import Dataset
from sartor.data.feed.batches import Batches
from sartor.data.splits.split import make_split
from sartor.recipe import Recipe, ResolvedRecipe, load_recipe

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS = 3
BATCH = 64
WORDS = ("flip", "crop=4")
SECONDS = 2.0
PAGE = machine.DOCS / "feed.md"
BEGIN, END = "<!-- scale -->", "<!-- end of scale -->"
TOLERANCE = 0.10

Figures = dict[str, float]


def main(words: Sequence[str] | None = None) -> int:
    """Measure and write the page, or print one measurement."""
    given = _parse(words)
    if given.measure:
        count, path = given.measure
        print(json.dumps(measure(Path(path), int(count), given.seconds)))
        return 0
    described = machine.describe(machine.command_of("scale"))
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = in_turns(given.counts, given.rounds, given.seconds, Path(folder))
    page = [*machine.markdown_of(described), "", *table(found), "", *verdicts(found)]
    if given.page:
        machine.written_into(given.page, BEGIN, END, page)
    print("\n".join(page))
    return 0


def in_turns(
    counts: Sequence[int], rounds: int, seconds: float, folder: Path
) -> dict[int, list[Figures]]:
    """Every size as often as there are rounds."""
    paths = {count: folder / f"images-{count}.npy" for count in counts}
    originals = sartor.load("fashion-mnist").images
    for count, path in paths.items():
        write_images(originals, count, path)
    found: dict[int, list[Figures]] = {count: [] for count in counts}
    for turn in range(rounds):
        for count, path in paths.items():
            print(f"round {turn + 1}, {count:,} images", file=sys.stderr)
            command = [sys.executable, __file__, "--measure", str(count), str(path)]
            command += ["--seconds", str(seconds)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[count].append(json.loads(answer.stdout))
    return found


def write_images(originals: np.ndarray, count: int, path: Path) -> None:
    """`count` images, each time round the originals moved by another few pixels."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *originals.shape[1:]))
    for turn, start in enumerate(range(0, count, len(originals))):
        part = originals[: count - start]
        images[start : start + len(part)] = np.roll(part, (turn % 5 - 2, turn // 5 % 5 - 2), (2, 3))
    images.flush()


def measure(path: Path, count: int, seconds: float) -> Figures:
    """Microseconds per image, and mebibytes."""
    torch.set_num_threads(1)
    warm_up()
    with highest_memory() as memory:
        began = time.perf_counter()
        dataset = Dataset(np.load(path, mmap_mode="r"), np.arange(count) % 10, name="scale")
        recipe, split = recipe_for(dataset), split_of(dataset)
        assembled = assembly.assemble(recipe, dataset, split)
        material, recipe = assembled.material, assembled.recipe
        start = time.perf_counter() - began
        figures = {"start": start / count * 1e6}
        for name, augment in (("feed", ()), ("augmented", WORDS)):
            batches = batches_of(material, recipe, augment)
            figures[name] = epochs_cost(batches, seconds)
        figures["training"] = training_cost(dataset, count, seconds)
    return {name: round(value, 4) for name, value in figures.items()} | memory


def warm_up() -> None:
    """Import and compute what the first training of a process does, beside the point here."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 1, 28, 28), np.uint8)
    train(Dataset(images, np.arange(200) % 10), epochs=1)


def recipe_for(dataset: Dataset) -> Recipe:
    """The linear model's."""
    return load_recipe("mnist-logistic").with_settings({"source": dataset.name, "threads": 1})


def split_of(dataset: Dataset) -> object:
    """A tenth for validation, a tenth for testing."""
    return make_split(dataset, val_fraction=0.1, test_fraction=0.1, seed=0)


def batches_of(
    material: assembly.Material, recipe: ResolvedRecipe, augment: Sequence[str]
) -> Batches:
    """Those of a training, of 64 images."""
    augmentation = (
        augmentation_of(augment, seed=0, num_classes=10, mean=(0.3,)) if augment else None
    )
    return Batches(
        feed=material.feed(material.split.train, recipe.training),
        batch_size=BATCH,
        shuffle=True,
        drop_last=False,
        seed=0,
        augmentation=augmentation,
    )


def epochs_cost(batches: Batches, seconds: float) -> float:
    """Microseconds per image of whole epochs, the median over as many as take so many seconds."""
    costs, began = [], time.perf_counter()
    for epoch in range(1_000_000):
        epoch_began = time.perf_counter()
        for position in range(len(batches)):
            batches.batch(epoch, position)
        costs.append((time.perf_counter() - epoch_began) / len(batches.feed) * 1e6)
        if epoch >= 2 and time.perf_counter() - began > seconds:
            break
    return statistics.median(costs[1:])


def training_cost(dataset: Dataset, count: int, seconds: float) -> float:
    """Microseconds per image between two rows of the history, the mean over the epochs."""
    epochs = max(4, int(seconds / (count * 5e-6)))
    rows = train(dataset, epochs=min(epochs, 200))
    # The median of single epochs would suffer from the history's rounding, to a tenth of a
    # millisecond.
    seconds = (rows[-1]["seconds"] - rows[0]["seconds"]) / (len(rows) - 1)
    return seconds / (0.8 * count) * 1e6


def train(dataset: Dataset, epochs: int) -> list[Mapping[str, float]]:
    """The history of a training as a user would start it."""
    with tempfile.TemporaryDirectory() as folder:
        run = sartor.fit(
            dataset,
            recipe="mnist-logistic",
            epochs=epochs,
            batch_size=BATCH,
            threads=1,
            engine="plain",
            out=Path(folder) / "run",
            check=False,
            report=False,
        )
        return list(run.history)


@contextmanager
def highest_memory() -> Iterator[Figures]:
    """Filled at the end with the highest of what the process had, in MiB above the beginning."""
    highest, before, ended = memory_now(), memory_now(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for name, value in memory_now().items():
                highest[name] = max(highest[name], value)

    watcher, result = threading.Thread(target=watch, daemon=True), {}
    watcher.start()
    try:
        yield result
    finally:
        ended.set()
        watcher.join()
        result |= {name: round(highest[name] - before[name], 1) for name in before}


def memory_now() -> Figures:
    """MiB that belong only to this process, and of files that are mapped."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    keys = {"own": "RssAnon", "file": "RssFile"}
    return {name: int(lines[key].split()[0]) / 1024 for name, key in keys.items()}


COLUMNS: Mapping[str, str] = {
    "start": "start, us per image",
    "feed": "feed, us per image",
    "augmented": "feed with flip and crop, us per image",
    "training": "training, us per image",
    "own": "own memory, MiB",
    "file": "pages of the file, MiB",
}


def table(found: Mapping[int, Sequence[Figures]]) -> list[str]:
    """A line for each size: medians, and the lowest to the highest."""
    lines = [f"| images | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for count, rounds in found.items():
        cells = [_cell([figures[name] for figures in rounds]) for name in COLUMNS]
        lines.append(f"| {count:,} | {' | '.join(cells)} |")
    rounds = len(next(iter(found.values())))
    return [*lines, "", f"Medians of {rounds} processes each, with lowest to highest in brackets."]


def verdicts(found: Mapping[int, Sequence[Figures]]) -> list[str]:
    """How flat each cost is: the lowest and the highest size against the middle of both."""
    lines = []
    for name in ("feed", "augmented", "training"):
        costs = [statistics.median(f[name] for f in rounds) for rounds in found.values()]
        middle = (min(costs) + max(costs)) / 2
        reach = max(costs) / middle - 1
        said = "flat" if reach <= TOLERANCE else "not flat"
        lines.append(
            f"- {COLUMNS[name].split(',')[0]}: within {reach:.1%} of {middle:.3g} us, {said}."
        )
    return lines


def _cell(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    form: Callable[[float], str] = (
        (lambda v: f"{v:,.0f}") if middle >= 20 else (lambda v: f"{v:.3f}")
    )
    return f"{form(middle)} ({form(min(values))} to {form(max(values))})"


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="images")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="processes for each size")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each figure")
    parser.add_argument("--folder", help="where the images lie meanwhile; needs a gigabyte")
    parser.add_argument("--page", type=Path, default=PAGE, help="written into")
    parser.add_argument("--measure", nargs=2, metavar=("COUNT", "FILE"), help="one size")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
