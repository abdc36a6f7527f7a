"""Accuracy on folders of pictures by the features of a frozen backbone, and what they cost.

    python benchmarks/own_pictures.py --build DIR
    python benchmarks/transfer.py DIR [DIR/photos ...]

Each line is printed as soon as it is there: a folder, pictures of a class to learn from, and over
the seeds mean and standard deviation of the accuracy on the test images, which are the same for all
seeds. The features are those of the cache, and computed first where they are not in it; a test
holds them to be what the whole network computes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import sartor
from sartor.assembly import prepare_material
from sartor.inference.features import Features
from sartor.models.backbones import BACKBONES

BACKBONE = "efficientnet-lite0"
SEEDS = 5
PER_CLASS = (5, 20, None)
_QUIET = {"threads": 1, "check": False, "report": False, "progress": False}


def main(folders: list[Path]) -> None:
    """Measure each folder, or each folder in a folder of these."""
    for folder in folders:
        pictures = sartor.load(folder, image_size=BACKBONES[BACKBONE].image_size, channels=3)
        print_cost(folder, pictures)
        for count in PER_CLASS:
            print_accuracy(folder, pictures, count)


def print_cost(folder: Path, pictures: sartor.Dataset) -> None:
    """A fit on pictures that are prepared, and a second one, which finds the features."""
    times = []
    for _ in range(2):
        wall, processor = time.perf_counter(), time.process_time()
        run = fitted(pictures, 0, None)
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    first, second = times
    print(
        f"{folder.name}: {len(pictures):,} pictures, {run.recipe.model.model}; first fit "
        f"{first[0]:.1f} s ({first[1]:.1f} of the processor), second {second[0]:.1f} s "
        f"({second[1]:.1f})",
        flush=True,
    )


def print_accuracy(folder: Path, pictures: sartor.Dataset, count: int | None) -> None:
    """Over the seeds."""
    found = np.array([accuracy(fitted(pictures, seed, count)) for seed in range(SEEDS)])
    spread = 100 * found.std(ddof=1)
    print(
        f"{folder.name}, {count or 'all'} per class: {found.mean():.1%} ± {spread:.1f}"
        f"  ({' '.join(f'{one:.1%}' for one in found)})",
        flush=True,
    )


def fitted(pictures: sartor.Dataset, seed: int, count: int | None) -> sartor.Run:
    """A run on features."""
    out = Path(tempfile.mkdtemp()) / "run"
    return sartor.fit(pictures, model=BACKBONE, seed=seed, limit_per_class=count, out=out, **_QUIET)


def accuracy(run: sartor.Run) -> float:
    """On the test images, from their features."""
    dataset, split, recipe = run.dataset(), run.split(), run.recipe_here
    material, network = prepare_material(recipe, dataset, split), run.network()
    features = Features(
        network=network,
        name=recipe.model.model,
        images=material.images,
        floats=material.feed(split.test, recipe.training).floats,
        normalization=(material.preprocess.mean, material.preprocess.std),
        device=recipe.training.device,
        amp_dtype=recipe.training.amp_dtype,
        pixels_sha256=dataset.origin.pixels_sha256,
    )
    head = network.head
    logits = features.of(split.test) @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    return float((logits.argmax(1) == dataset.labels[split.test]).mean())


def _folders(names: list[str]) -> list[Path]:
    found = []
    for path in map(Path, names):
        inner = [path / name for name in ("icons", "photos") if (path / name).is_dir()]
        found += inner or [path]
    return found


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    main(_folders(sys.argv[1:]))
