"""How fast a folder of full-size JPEGs is prepared, and how fast it is trained from then on.

    python benchmarks/pictures.py               # 1,000 and 10,000 pictures
    python benchmarks/pictures.py --large       # 100,000 too
    python benchmarks/pictures.py --json        # the figures as one line of JSON

The pictures are crops of the two photographs in scikit-learn, 500x375 pixels at quality 90, as the
ordinary JPEG of ImageNet is. Every step runs in a process of its own, so that its peak of memory is
its own: "cold" decodes all and gives out every batch once, "warm" finds them in the cache.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine

DISTINCT, CLASSES = 500, 4
WIDTH, HEIGHT, QUALITY = 500, 375, 90
BATCH = 128


def main() -> None:
    """Make the pictures, measure each size, print a table."""
    options = parsed()
    if options.step:
        print(json.dumps(measured(options.step, Path(options.folder))))
        return
    counts = [1_000, 10_000, *([100_000] if options.large else [])]
    described = machine.describe(machine.command_of("pictures"))
    with tempfile.TemporaryDirectory() as scratch:
        originals = photographs(DISTINCT)
        rows = [row_of(count, originals, Path(scratch)) for count in counts]
    if options.json:
        print(json.dumps({"machine": described, "rows": rows}))
        return
    print("\n".join(table(rows)))
    print("\n".join(f"{name}: {text}" for name, text in described.items()))


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="100,000 pictures too")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def photographs(count: int) -> list[bytes]:
    """Encoded crops of real photographs, each another."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    whole = [Image.fromarray(image) for image in load_sample_images().images]
    made = []
    for number in range(count):
        source = whole[number % len(whole)]
        height = int(rng.integers(300, source.height + 1))
        width = height * WIDTH // HEIGHT
        left = int(rng.integers(0, source.width - width + 1))
        top = int(rng.integers(0, source.height - height + 1))
        part = source.crop((left, top, left + width, top + height))
        stream = io.BytesIO()
        part.resize((WIDTH, HEIGHT)).save(stream, "JPEG", quality=QUALITY)
        made.append(stream.getvalue())
    return made


def row_of(count: int, originals: list[bytes], scratch: Path) -> dict[str, Any]:
    """All figures of one size."""
    folder = scratch / f"pictures-{count}"
    fill(folder, count, originals)
    environment = {**os.environ, "SARTOR_HOME": str(scratch / f"home-{count}")}
    cold, warm, memory = (step(name, folder, environment) for name in ("cold", "warm", "memory"))
    return {
        "pictures": count,
        "cold_pictures_per_second": round(count / cold["load_seconds"], 1),
        "processor_milliseconds_a_picture": round(1e3 * cold["load_processor_seconds"] / count, 3),
        "cold_epoch_seconds": round(cold["load_seconds"] + cold["epoch_seconds"], 3),
        "warm_start_seconds": round(warm["load_seconds"], 3),
        "warm_epoch_seconds": round(warm["epoch_seconds"], 4),
        "in_memory_epoch_seconds": round(memory["epoch_seconds"], 4),
        "warm_over_cold": round(
            (cold["load_seconds"] + cold["epoch_seconds"]) / warm["epoch_seconds"], 1
        ),
        "peak_megabytes_cold": round(cold["peak_bytes"] / 1e6),
        "peak_megabytes_warm": round(warm["peak_bytes"] / 1e6),
    }


def fill(folder: Path, count: int, originals: list[bytes]) -> None:
    """A folder for each class; files of the same content share their bytes on the disk."""
    store = folder.parent / "originals"
    if not store.exists():
        store.mkdir()
        for number, content in enumerate(originals):
            (store / f"{number}.jpg").write_bytes(content)
    for label in range(CLASSES):
        (folder / f"class-{label}").mkdir(parents=True)
    for number in range(count):
        place = folder / f"class-{number % CLASSES}" / f"{number}.jpg"
        place.hardlink_to(store / f"{number % len(originals)}.jpg")


def step(name: str, folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """The figures of one process."""
    command = [sys.executable, __file__, "--step", name, "--folder", str(folder)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def measured(name: str, folder: Path) -> dict[str, float]:
    """Load the pictures and give out every batch; "memory" copies them into memory before."""
    import dataclasses

    import numpy as np

    import sartor
    from sartor import api, assembly  # noqa: F401  (PyTorch is loaded before the clock starts)
    from sartor.data.splits.split import make_split
    from sartor.recipe import Recipe

    begun, worked = time.perf_counter(), time.process_time()
    data = sartor.load(folder)
    loaded, worked = time.perf_counter() - begun, time.process_time() - worked
    if name == "memory":
        data = dataclasses.replace(data, images=np.array(data.images))
    recipe = Recipe().with_settings({"mean": (0.5,), "std": (0.5,)})
    split = make_split(data, val_fraction=0, test_fraction=0, seed=0)
    batches = assembly.assemble(recipe, data, split).job.batches
    seconds = []
    # Of a cold start the first epoch counts, of a warm one the best.
    for epoch in range(1 if name == "cold" else 3):
        begun = time.perf_counter()
        for position in range(len(batches)):
            batches.batch(epoch, position)
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "load_seconds": loaded,
        "load_processor_seconds": worked,
        "epoch_seconds": min(seconds),
        "peak_bytes": float(peak),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A row a size."""
    names = list(rows[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|" + "---|" * len(names))
    return lines + ["| " + " | ".join(f"{row[name]:,}" for name in names) + " |" for row in rows]


if __name__ == "__main__":
    main()
