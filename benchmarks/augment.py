"""How many pictures per second augmentation changes, beside one picture at a time with Pillow.

    python benchmarks/augment.py                     flip and crop, and each word by itself
    python benchmarks/augment.py --words flip crop   one line, for these words together
    python benchmarks/augment.py --training          what it costs in training, and threads ahead
    python benchmarks/augment.py --page docs/feed.md writes the table into the page

60,000 gray pictures of 28x28 lie in memory as bytes; as many threads as there are cores draw them
in the order of an epoch, as a training's workers do. Measured are the change itself, gathered and
changed 1,024 at a time, and all of a training's way: batches of 64, changed, mixed, normalised to
floats. A round is an epoch, of slow words half a second. Printed are the median over the rounds,
the slowest and the fastest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import machine
import numpy as np
import torch
from PIL import Image, ImageOps

import sartor
from sartor.data.augment.pipeline import augmentation_of
from sartor.data.augment.vocabulary import MIXING, STEPS, steps_of
from sartor.data.feed.batches import Batches, Feed
from sartor.data.feed.order import epoch_order
from sartor.data.pictures.preprocess import Preprocess

TARGET = 1_000_000
COUNT, SIDE, BATCH, SMALL_BATCH, ROUNDS = 60_000, 28, 1_024, 64, 7
ROUND_SECONDS = 0.5
BEGIN, END = "<!-- augment -->", "<!-- end of augment -->"
TRAININGS = {"fashion-cnn": "fashion-mnist", "mnist-mlp": "mnist"}


class Speed(NamedTuple):
    """Pictures per second."""

    median: float
    slowest: float
    fastest: float


class Speeds(NamedTuple):
    """Of the same words in two ways, where they can be measured so."""

    changed: Speed | None
    """Bytes to bytes, 1,024 at a time."""
    batches: Speed | None
    """Batches of 64 floats, as a model takes them."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    given = _parse(words)
    cases = [given.words] if given.words else _cases()
    how = given.rounds, given.threads, given.count
    speeds = {
        " ".join(case): Speeds(
            None if _mixes(case) else measure(case, *how), measure_batches(case, *how)
        )
        for case in cases
    }
    if not given.words:
        pillow = measure_pillow(given.rounds, given.count)
        speeds["flip crop, one at a time with Pillow"] = Speeds(pillow, None)
    trained = measure_training(given.rounds) if given.training else {}
    if given.json:
        print(json.dumps({"speeds": _plain(speeds) | trained}))
        return 0
    described = machine.describe(machine.command_of("augment"))
    lines = [*machine.markdown_of(described), "", *_table(speeds), *_training(trained)]
    if given.page:
        machine.written_into(given.page, BEGIN, END, lines)
    print("\n".join(lines))
    return 0


def measure(words: Sequence[str], rounds: int, threads: int, count: int = COUNT) -> Speed:
    """Pictures per second that are gathered and changed."""
    augmentation = augmentation_of(words, seed=0, num_classes=10, mean=(0.3,))
    assert augmentation is not None
    images = _images(count)

    def change(rows: torch.Tensor, epoch: int) -> int:
        return len(augmentation.images(images.index_select(0, rows), rows, epoch))

    rows = torch.split(torch.from_numpy(epoch_order(count, 0, 0)), BATCH)
    change(rows[0], 0)  # Tables are computed and libraries imported.
    began = time.perf_counter()
    change(rows[0], 0)
    batches = rows[: max(threads, int(ROUND_SECONDS / (time.perf_counter() - began)))]
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return _timed(lambda epoch: sum(pool.map(partial(change, epoch=epoch), batches)), rounds)


def measure_batches(words: Sequence[str], rounds: int, threads: int, count: int = COUNT) -> Speed:
    """Pictures per second that become batches of 64, drawn in groups as training draws them."""
    look = {"channels": 1, "height": SIDE, "width": SIDE, "resize": "stretch"}
    batches = Batches(
        feed=Feed(
            images=_images(count),
            labels=torch.arange(count) % 10,
            indices=np.arange(count),
            normalize=Preprocess(**look, mean=(0.3,), std=(0.3,)).normalizer("cpu"),
        ),
        batch_size=SMALL_BATCH,
        shuffle=True,
        drop_last=False,
        seed=0,
        augmentation=augmentation_of(words, seed=0, num_classes=10, mean=(0.3,)),
    )

    def draw(group: int, epoch: int) -> int:
        return sum(len(batch.labels) for batch in batches.group(epoch, group))

    draw(0, 0)  # Tables are computed and libraries imported.
    began = time.perf_counter()
    draw(0, 0)
    groups = range(-(-len(batches) // batches.together))
    groups = groups[: max(threads, int(ROUND_SECONDS / (time.perf_counter() - began)))]
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return _timed(lambda epoch: sum(pool.map(partial(draw, epoch=epoch), groups)), rounds)


def measure_pillow(rounds: int, count: int = COUNT) -> Speed:
    """The same as `flip crop`, as a data set of PyTorch's usually does it."""
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(pixels) for pixels in rng.integers(0, 256, (1_000, SIDE, SIDE), np.uint8)
    ]

    def change(_: int) -> int:
        for picture in pictures[:count]:
            if rng.random() < 0.5:
                picture = ImageOps.mirror(picture)
            left, top = rng.integers(0, 9, 2)
            np.asarray(ImageOps.expand(picture, 4).crop((left, top, left + SIDE, top + SIDE)))
        return min(len(pictures), count)

    return _timed(change, rounds)


def measure_training(rounds: int) -> dict[str, dict[str, float]]:
    """Images per second in training: plain, augmented, and augmented by threads ahead."""
    ways: dict[str, dict[str, object]] = {"plain": {}}
    for workers in (0, 1, 2):
        ways[f"flip crop, {workers} workers"] = {"augment": "flip crop", "workers": workers}
    found: dict[str, dict[str, float]] = {}
    for recipe, source in TRAININGS.items():
        dataset, speeds = sartor.load(source), {name: [] for name in ways}
        for _ in range(rounds):
            for name, settings in ways.items():
                with tempfile.TemporaryDirectory() as folder:
                    run = sartor.fit(
                        dataset, recipe=recipe, epochs=1, out=Path(folder) / "run", **settings
                    )
                    speeds[name].append(run.history[-1]["images_per_second"])
        found[recipe] = {name: statistics.median(several) for name, several in speeds.items()}
    return found


def _timed(change: Callable[[int], int], rounds: int) -> Speed:
    change(0)
    speeds = []
    for epoch in range(1, rounds + 1):
        began = time.perf_counter()
        speeds.append(change(epoch) / (time.perf_counter() - began))
    return Speed(statistics.median(speeds), min(speeds), max(speeds))


def _images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 1, SIDE, SIDE), dtype=torch.uint8, generator=generator)


def _cases() -> list[list[str]]:
    return [["flip", "crop"], *([name] for name in STEPS)]


def _mixes(words: Sequence[str]) -> bool:
    """Labels are mixed as well: there is no change of bytes by itself."""
    return any(isinstance(step, MIXING) for step in steps_of(words).values())


def _plain(speeds: Mapping[str, Speeds]) -> dict[str, dict[str, dict[str, float] | None]]:
    return {
        words: {way: speed and speed._asdict() for way, speed in both._asdict().items()}
        for words, both in speeds.items()
    }


def _cell(speed: Speed | None) -> str:
    if speed is None:
        return "-"
    return f"{speed.median:,.0f} ({speed.slowest:,.0f} to {speed.fastest:,.0f})"


def _table(speeds: Mapping[str, Speeds]) -> list[str]:
    rows = [
        f"| {name} | {_cell(both.changed)} | {_cell(both.batches)} |"
        for name, both in speeds.items()
    ]
    head = ["| words | changed, pictures per second | in batches of 64 floats |", "|---|---|---|"]
    return [*head, *rows, "", f"Target for flip and crop on 2 cores: {TARGET:,}."]


def _training(trained: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = [
        f"| {recipe} | {name} | {speed:,.0f} |"
        for recipe, speeds in trained.items()
        for name, speed in speeds.items()
    ]
    return ["", "| recipe | way | images per second |", "|---|---|---|", *rows] if rows else []


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--words", nargs="+", help="words of --augment to measure together")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed; at least 5 to publish")
    parser.add_argument("--count", type=int, default=COUNT, help="pictures in memory")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="default: one a core"
    )
    parser.add_argument("--training", action="store_true", help="measure whole trainings too")
    parser.add_argument("--page", type=Path, help="written into")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
