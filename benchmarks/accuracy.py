"""How much accuracy the recipes reach in how many seconds, and what each of their choices brings.

    python benchmarks/accuracy.py                        everything that is not measured yet
    python benchmarks/accuracy.py --only fashion-fast    what is missing of one recipe
    python benchmarks/accuracy.py --fresh                forget what was measured before

Results are kept in docs/recipes.json, each with its machine and commit, and docs/recipes.md is
written from all of them, so that the hour it takes may be spent in pieces. Goals are judged on test
images, on which no choice was made; ablations on validation images, a part of the training set.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import machine
import torch
import tutorial
from accuracy_page import (
    KEPT,
    Ablation,
    Goal,
    Result,
    Settings,
    document,
    of,
)
from bench import samples_of

import sartor
from sartor.files import write_json, write_text
from sartor.training.engines.hardware import chosen_threads

RESULTS = machine.DOCS / "recipes.json"
_LOOP_EPOCHS = 5

_IN_ONE_EPOCH: Settings = {"batch_size": 64, "augment": [], "tta": "none"}
"""What fashion-fast needs for so few steps."""

GOALS = (
    Goal(recipe="mnist-fast", accuracy=0.990, limit=1.5, seeds=3),
    Goal(
        recipe="mnist-best",
        settings={
            "epochs": 4,
            "model_kwargs": {"widths": [28, 56]},
            "batch_size": 64,
            "augment": ["rotate=10", "shift=0.07"],
            "tta": "none",
        },
        accuracy=0.995,
        limit=12,
        seeds=5,
    ),
    Goal(recipe="mnist-best", settings={"epochs": 3}, accuracy=0.995, limit=30, seeds=10),
    Goal(recipe="mnist-best", accuracy=0.997, limit=180, seeds=3),
    Goal(
        recipe="fashion-fast",
        settings={"epochs": 1, "model_kwargs": {"widths": [32, 48]}, **_IN_ONE_EPOCH},
        accuracy=0.90,
        limit=2.5,
        seeds=5,
    ),
    Goal(recipe="fashion-fast", accuracy=0.92, limit=10, seeds=5),
    Goal(
        recipe="fashion-best",
        settings={
            "epochs": 9,
            "model_kwargs": {"widths": [48, 96]},
            "lr": 0.006,
            "augment": ["flip"],
            "tta": "flip",
        },
        accuracy=0.935,
        limit=50,
        seeds=3,
    ),
    Goal(recipe="fashion-best", accuracy=0.945, limit=240, seeds=3),
)

RACE = Goal(
    recipe="fashion-fast",
    settings={
        "epochs": 1,
        "model_kwargs": {"widths": [16, 32]},
        "limit_per_class": 4000,
        **_IN_ONE_EPOCH,
    },
    accuracy=0.873,
    limit=0,
    seeds=5,
)


def _ablations(recipe: str, seeds: int, undone: Mapping[str, Settings]) -> tuple[Ablation, ...]:
    every = {"as it is": {}, **_UNDONE, **undone}
    return tuple(
        Ablation(recipe=recipe, name=name, settings=settings, seeds=seeds)
        for name, settings in every.items()
    )


_UNDONE: Mapping[str, Settings] = {
    "labels not smoothed": {"smoothing": 0.0},
    "cosine instead of one cycle": {"sched": "cosine"},
}

_LENET: Settings = {"channels": [12, 24], "kernel": 5, "hidden": [64]}

ABLATIONS = {
    "mnist-fast": _ablations(
        "mnist-fast",
        5,
        {
            "twice the batch": {"batch_size": 128},
            "kernels of 3 pixels": {"model_kwargs": {**_LENET, "kernel": 3}},
            "no hidden layer": {"model_kwargs": {**_LENET, "hidden": []}},
        },
    ),
    "fashion-fast": _ablations(
        "fashion-fast",
        3,
        {
            "half the batch": {"batch_size": 64, "lr": 0.006},
            "first convolution trained, not whitening": {
                "model_kwargs": {"widths": [24, 48], "whitened": False}
            },
            "one view": {"tta": "none"},
            "one view, not mirrored": {"augment": [], "tta": "none"},
            "mirrored in turns": {"augment": ["flip=alternating"]},
            "one view, not mirrored, widths 24, 64, four epochs, half the batch": {
                **_IN_ONE_EPOCH,
                "epochs": 4,
                "lr": 0.006,
                "model_kwargs": {"widths": [24, 64]},
            },
        },
    ),
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is missing; write after each result."""
    given = parsed_arguments(words)
    torch.set_num_threads(chosen_threads(None))
    results = [] if given.fresh else kept_results()
    began = time.perf_counter()
    for trial, seed in missing(results, given):
        if time.perf_counter() - began > given.minutes * 60:
            break
        results.append(measured(trial, seed))
        say(results[-1])
        write_json(RESULTS, [asdict(one) for one in results])
    page = machine.DOCS / "recipes.md"
    kept = {name: machine.between(page, *marks) for name, marks in KEPT.items()}
    write_text(page, document(GOALS, ABLATIONS, RACE, results, kept))
    return 0


def parsed_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    recipes = sorted({goal.recipe for goal in GOALS})
    parser.add_argument("--only", choices=recipes, help="one recipe")
    parser.add_argument(
        "--kind", choices=["goals", "ablations", "race"], help="one kind of measurement"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so many")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    return parser.parse_args(words)


def kept_results() -> list[Result]:
    """What was measured before."""
    return [Result(**one) for one in json.loads(RESULTS.read_text())] if RESULTS.exists() else []


def missing(
    results: Sequence[Result], given: argparse.Namespace
) -> Iterator[tuple[Goal | Ablation, int]]:
    """What is not measured yet on this processor, and with which seed; one seed of everything after
    the other."""
    kinds = {
        "race": [RACE],
        "goals": list(GOALS),
        "ablations": [one for some in ABLATIONS.values() for one in some],
    }
    trials = [
        trial
        for kind, some in kinds.items()
        for trial in some
        if given.kind in (None, kind) and given.only in (None, trial.recipe)
    ]
    here = machine.processor()
    for seed in range(max((trial.seeds for trial in trials), default=0)):
        for trial in trials:
            found = of(trial.command, results)
            known = {one.seed for one in found if one.machine["processor"] == here}
            if seed < trial.seeds and seed not in known:
                yield trial, seed


def measured(trial: Goal | Ablation, seed: int) -> Result:
    """Train once and judge."""
    described = machine.describe(machine.command_of("accuracy"))
    source = "mnist" if trial.recipe.startswith("mnist") else "fashion-mnist"
    if isinstance(trial, Ablation):
        settings = {"val_fraction": 1 / 6, **trial.settings}
        accuracy, seconds = trained(trial.recipe, source, settings, seed, "val")
        return Result(
            of=trial.command, seed=seed, accuracy=accuracy, seconds=seconds, machine=described
        )
    loop_accuracy, loop_seconds = looped(seed) if trial is RACE else (None, None)
    accuracy, seconds = trained(trial.recipe, source, trial.settings, seed, "test")
    return Result(
        of=trial.command,
        seed=seed,
        accuracy=accuracy,
        seconds=seconds,
        loop_accuracy=loop_accuracy,
        loop_seconds=loop_seconds,
        machine=described,
    )


def trained(
    recipe: str, source: str, settings: Settings, seed: int, split: str
) -> tuple[float, float]:
    """Accuracy of the last weights, and seconds."""
    with tempfile.TemporaryDirectory(prefix="sartor-accuracy-") as folder:
        run = sartor.fit(
            dataset_of(source), recipe=recipe, seed=seed, out=Path(folder) / "run", **settings
        )
        accuracy = run.evaluate(split, checkpoint="last").accuracy
        return accuracy, run.history[-1]["seconds"]


def looped(seed: int) -> tuple[float, float]:
    """Test accuracy of the plain loop of fashion-cnn after five epochs, and their seconds."""
    dataset = dataset_of("fashion-mnist")
    torch.manual_seed(seed)
    training = tutorial.TRAININGS["fashion-cnn"]
    network, samples = training.network(), samples_of(dataset)
    began = time.perf_counter()
    tutorial.fit(training, network, samples, _LOOP_EPOCHS)
    seconds = time.perf_counter() - began
    assert dataset.test is not None, "the set brings its own"
    tests = tutorial.ImageSet(
        torch.from_numpy(dataset.images[dataset.test, 0]),
        torch.from_numpy(dataset.labels[dataset.test]),
    )
    loader = torch.utils.data.DataLoader(tests, batch_size=1000)
    return tutorial.evaluate(network, loader).correct / len(tests), seconds


@cache
def dataset_of(source: str) -> sartor.Dataset:
    """A named set, read once."""
    return sartor.load(source, on_event=sartor.PlainProgress())


def say(result: Result) -> None:
    """Tell how it goes, on stderr."""
    loop = (
        f"  loop {result.loop_accuracy:.2%} {result.loop_seconds:.1f} s"
        if result.loop_seconds
        else ""
    )
    print(
        f"{result.of}, seed {result.seed}: {result.accuracy:.2%} in {result.seconds:.1f} s{loop}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
