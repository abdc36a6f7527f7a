"""How fast pictures are predicted from files, beside what decoding alone takes.

    python benchmarks/predict.py              # 10,000 PNGs of 28x28, 3,000 JPEGs of 500x375
    python benchmarks/predict.py --many       # and 1,000,000 names of 28x28, for the memory
    python benchmarks/predict.py --quick      # fewer pictures, for a busy machine
    python benchmarks/predict.py --json       # the figures as one line of JSON

The PNGs are images of Fashion-MNIST, the JPEGs those of benchmarks/pictures.py: crops of two
photographs at quality 90. Each row is the median of several rounds, in which all contenders take
turns, since other programs may be at work: sartor from files to a file of JSON lines; decoding and
preparing alone with all cores; and the network alone. The last two bound the first: at best it is
as fast as the slower one, and on as many cores as there are at worst as slow as one after the
other. Processor time does not depend on other programs; wall time does.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import pictures

ROUNDS = 5
SMALL, LARGE = 10_000, 3_000
QUICK_SMALL, QUICK_LARGE = 2_000, 400
MILLION = 1_000_000


def main() -> None:
    """Make the pictures, measure, print a table."""
    options = parsed()
    if options.step:
        print(json.dumps(memory_of(Path(options.step), options.count)))
        return
    described = machine.describe(machine.command_of("predict"))
    with tempfile.TemporaryDirectory() as scratch:
        rows = [
            row
            for set_ in (
                small(Path(scratch), QUICK_SMALL if options.quick else SMALL),
                large(Path(scratch), QUICK_LARGE if options.quick else LARGE),
            )
            for row in measured(*set_, rounds=options.rounds)
        ]
        counts = [5_000, 50_000] if options.quick else [10_000, 100_000]
        memory = list(memories(Path(scratch), [*counts, *([MILLION] if options.many else [])]))
    if options.json:
        print(json.dumps({"machine": described, "rows": rows, "memory": memory}))
        return
    print("\n".join(table(rows)))
    print("\n".join(table(memory)))
    print("\n".join(f"{name}: {text}" for name, text in described.items()))


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", action="store_true", help="a million pictures too")
    parser.add_argument("--quick", action="store_true", help="fewer pictures")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def small(scratch: Path, count: int) -> tuple[str, Path, list[Path]]:
    """PNGs of 28x28, and runs of networks for them."""
    import sartor
    from sartor.data.pictures.preprocess import as_picture

    data = sartor.load("fashion-mnist")
    folder = scratch / "png"
    folder.mkdir()
    for number in range(count):
        as_picture(data.images[number]).save(folder / f"{number}.png")
    settings: dict[str, Any] = {"epochs": 1, "limit_per_class": 100, "report": False}
    runs = [
        sartor.fit("fashion-mnist", model=model, out=scratch / f"png-{model}", **settings).path
        for model in ("lenet", "convnet")
    ]
    return "PNG 28x28", folder, runs


def large(scratch: Path, count: int) -> tuple[str, Path, list[Path]]:
    """JPEGs of 500x375, and runs of networks for them."""
    import sartor

    folder = scratch / "jpeg"
    pictures.fill(folder, count, pictures.photographs(300))
    settings: dict[str, Any] = {"epochs": 1, "image_size": 64, "report": False, "recipe": "plain"}
    runs = [
        sartor.fit(
            folder, model=model, limit_per_class=40, out=scratch / f"jpeg-{model}", **settings
        ).path
        for model in ("convnet", "resnet8")
    ]
    return "JPEG 500x375", folder, runs


def measured(kind: str, folder: Path, runs: list[Path], *, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each run, and for its bundle by ONNX Runtime."""
    import sartor
    from sartor import api
    from sartor.api.predicting import Classifier
    from sartor.data.pictures.stream import decoded
    from sartor.data.unlabelled import Unlabelled

    for run in runs:
        bundle = run.with_name(f"{run.name}-bundle")
        api.export(run, bundle)
        for source in (run, bundle):
            predictor = sartor.Predictor(source)
            classifier = Classifier(predictor)
            once = decoded(Unlabelled([folder]), classifier.preprocess, size=10_000)
            images = next(once).images
            once.close()

            def predict(predictor: Any = predictor, folder: Path = folder) -> int:
                out = folder.parent / "out.jsonl"
                return sartor.predict_to_file(predictor, folder, out, overwrite=True).rows

            def decode(classifier: Any = classifier, folder: Path = folder) -> int:
                chunks = decoded(
                    Unlabelled([folder]), classifier.preprocess, size=classifier.pictures_at_once
                )
                return sum(len(chunk.names) for chunk in chunks)

            def network(predictor: Any = predictor, images: Any = images) -> int:
                with predictor.at_work():
                    for start in range(0, len(images), 256):
                        predictor.scored(images[start : start + 256])
                return len(images)

            figures = in_turns({"predict": predict, "decode": decode, "network": network}, rounds)
            walls = {name: statistics.median(one["wall"]) for name, one in figures.items()}
            work = {name: statistics.median(one["work"]) for name, one in figures.items()}
            yield {
                "pictures": kind,
                "network": run.name.rpartition("-")[2],
                "runtime": predictor.runtime,
                "pictures_per_second": round(1 / walls["predict"]),
                "lowest": round(1 / max(figures["predict"]["wall"])),
                "highest": round(1 / min(figures["predict"]["wall"])),
                "decoding_alone_per_second": round(1 / walls["decode"]),
                "network_alone_per_second": round(1 / walls["network"]),
                "processor_microseconds": round(1e6 * work["predict"]),
                "decoding_processor_microseconds": round(1e6 * work["decode"]),
                "network_processor_microseconds": round(1e6 * work["network"]),
            }


def in_turns(
    contenders: dict[str, Callable[[], int]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds per picture of each, by the clock and of the processor, one after the other."""
    found: dict[str, dict[str, list[float]]] = {
        name: {"wall": [], "work": []} for name in contenders
    }
    for number in range(rounds + 1):
        for name, work in contenders.items():
            begun, worked = time.perf_counter(), time.process_time()
            count = work()
            if number:  # the first round warms up
                found[name]["wall"].append((time.perf_counter() - begun) / count)
                found[name]["work"].append((time.process_time() - worked) / count)
    return found


def memories(scratch: Path, counts: list[int]) -> Iterator[dict[str, Any]]:
    """Peak of memory of a process for each number of pictures."""
    for count in counts:
        command = [sys.executable, __file__, "--step", str(scratch), "--count", str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        yield dict(json.loads(done.stdout))


def memory_of(scratch: Path, count: int) -> dict[str, Any]:
    """Predict so many pictures, named one by one; the peak after the first tenth and at the end."""
    import sartor

    peaks: list[int] = []

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    def names() -> Iterator[str]:
        for number in range(count):
            if number == count // 10:
                peaks.append(peak())
            yield str(scratch / "png" / f"{number % QUICK_SMALL}.png")

    out = scratch / "many.jsonl"
    begun = time.perf_counter()
    sartor.predict_to_file(scratch / "png-lenet", names(), out, overwrite=True, topk=1)
    return {
        "pictures": count,
        "pictures_per_second": round(count / (time.perf_counter() - begun)),
        "peak_megabytes_after_a_tenth": peaks[0],
        "peak_megabytes": peak(),
        "file_megabytes": round(out.stat().st_size / 1e6),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A row each."""
    names = list(rows[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|" + "---|" * len(names))
    return lines + [
        "| "
        + " | ".join(
            f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in names
        )
        + " |"
        for row in rows
    ]


if __name__ == "__main__":
    main()
