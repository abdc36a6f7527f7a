"""Accuracy of the default on the two folders beside the baselines, and what each choice brings.

Every result is kept as soon as it is there, with its machine; what is kept is not measured again.
Baselines are compared on the test split, choices on the validation split of a larger draw.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from own_pictures_baselines import right_by_cnn, right_by_svm

import sartor
from sartor.api import splitting
from sartor.api.split_predictions import predictions_of
from sartor.arrays import BoolArray
from sartor.data.splits.duplicates import first_equals
from sartor.data.splits.split import Split
from sartor.files import write_json
from sartor.recipe import Recipe

RESULTS = machine.DOCS / "own_pictures.json"
SETS = ("icons", "photos")
SARTOR, SVM, CNN = "sartor fit", "HOG, colours and SVM", "plain CNN, same time"
METHODS = (SARTOR, SVM, CNN)
SEEDS = 5
_ALIKE: Mapping[str, Any] = {"threads": 1, "engine": "native", "transfer": "scratch"}
"""From random weights, by the engine that `fit` takes for this network, with one thread: seconds of
processor time compare, and bits repeat."""
_FOR_CHOICES = 0.3
"""Share of the training images that choices are judged on."""

_OF_PICTURES = ("image_size", "background")
_NETWORK = {"widths": (32, 64, 128), "depth": 2, "patch": 2, "largest_map": 32, "parts": 4}

CHOICES: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "resnet8": {"model": "resnet8"},
    "mean over the whole last map, not over sixteenths": {"model_kwargs": {**_NETWORK, "parts": 1}},
    "quarters instead of sixteenths": {"model_kwargs": {**_NETWORK, "parts": 2}},
    "three convolutions per stage, residual": {
        "model_kwargs": {**_NETWORK, "depth": 3, "residual": True}
    },
    "first convolution trained, not whitening": {"model_kwargs": {**_NETWORK, "whitened": False}},
    "half as wide again": {"model_kwargs": {**_NETWORK, "widths": (48, 96, 192)}},
    "only mirrored, not moved": {"augment": ("flip",)},
    "not mirrored": {"augment": ("crop=6,edge",)},
    "parts of pictures instead of moved ones": {"augment": ("flip", "resized-crop=0.5")},
    "turned, too": {"augment": ("flip", "affine=10,0.1,0.15,5")},
    "cutmix besides": {"augment": ("flip", "crop=6,edge", "cutmix")},
    "batches of 64": {"batch_size": 64},
    "labels not smoothed": {"smoothing": 0.0},
    "cosine instead of one cycle": {"sched": "cosine"},
    "weight decay 0.2": {"weight_decay": 0.2},
    "one view in judging": {"tta": "none"},
    "48 pixels": {"image_size": 48},
    "over black": {"background": "black"},
}
"""The default with one choice undone."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One training, judged."""

    data: str
    """icons or photos."""
    of: str
    """One of METHODS, or a key of CHOICES."""
    seed: int
    part: str
    """test for methods, val for choices."""
    accuracy: float
    right: str
    """Of each image of the part, in their order: 1 if it was predicted right, else 0."""
    seconds: float
    """Processor time, decoding left out."""
    machine: Mapping[str, str]


def measure(
    folder: Path, *, kind: str | None, only: str | None, minutes: float, fresh: bool
) -> list[Result]:
    """All results, after measuring what is missing for at most so many minutes."""
    torch.set_num_threads(1)
    results = [] if fresh else kept()
    ends = time.monotonic() + 60 * minutes
    for data, of, seed in missing(results, kind, only):
        if time.monotonic() > ends:
            break
        results.append(measured(folder, data, of, seed, results))
        print(f"{data}, {of}, seed {seed}: {results[-1].accuracy:.1%}", file=sys.stderr)
        write_json(RESULTS, [asdict(one) for one in results])
    return results


def kept() -> list[Result]:
    """What was measured before."""
    return [Result(**one) for one in json.loads(RESULTS.read_text())] if RESULTS.exists() else []


def missing(
    results: Sequence[Result], kind: str | None, only: str | None
) -> Iterator[tuple[str, str, int]]:
    """Set, method or choice, and seed of what is to be measured, sartor before the network."""
    done = {(one.data, one.of, one.seed) for one in results}
    kinds = {"baselines": METHODS, "choices": tuple(CHOICES)}
    for name, trials in kinds.items():
        for seed in range(SEEDS):
            for data in SETS:
                for of in trials:
                    wanted = kind in (None, name) and only in (None, data)
                    if wanted and (data, of, seed) not in done:
                        yield data, of, seed


def measured(folder: Path, data: str, of: str, seed: int, results: Sequence[Result]) -> Result:
    """Train once and judge."""
    settings = {} if of in METHODS else {"val_fraction": _FOR_CHOICES, **CHOICES[of]}
    seen = {name: settings.pop(name) for name in _OF_PICTURES if name in settings}
    dataset = dataset_of(folder / data, **seen)
    part = "test" if of in METHODS else "val"
    described = machine.describe(machine.command_of("own_pictures"))
    split = split_of(dataset, seed)
    began = time.process_time()
    if of in (SVM, CNN):
        if of == SVM:
            right = right_by_svm(dataset, split, part)
        else:
            (own,) = (r for r in results if (r.data, r.of, r.seed) == (data, SARTOR, seed))
            right = right_by_cnn(dataset, split, part, seed=seed, seconds=own.seconds)
    else:
        right = trained(dataset, part, seed=seed, **settings)
    return Result(
        data=data,
        of=of,
        seed=seed,
        part=part,
        accuracy=float(right.mean()),
        right="".join(map(str, right.astype(int))),
        seconds=time.process_time() - began,
        machine=described,
    )


def trained(dataset: sartor.Dataset, part: str, **settings: Any) -> BoolArray:
    """Which images of a part the default with these settings predicts right."""
    with tempfile.TemporaryDirectory(prefix="sartor-own-") as folder:
        run = sartor.fit(dataset, out=Path(folder) / "run", report=False, **_ALIKE, **settings)
        predictions = predictions_of(run, part)
        return predictions.predicted() == predictions.labels


@cache
def dataset_of(folder: Path, **settings: Any) -> sartor.Dataset:
    """A folder of pictures as `sartor fit FOLDER` reads it, of equal pictures only the first.

    Ten copies of one picture among the test images would make one answer count ten times.
    """
    everything = sartor.load(folder, **settings)
    assert everything.files is not None
    copies = np.flatnonzero(first_equals(everything.images) != np.arange(len(everything)))
    with tempfile.TemporaryDirectory(prefix="sartor-own-") as scratch:
        listed = Path(scratch) / "copies.txt"
        listed.write_text("\n".join(everything.files[index] for index in copies))
        return sartor.load(folder, exclude=str(listed), **settings) if len(copies) else everything


def split_of(dataset: sartor.Dataset, seed: int) -> Split:
    """The split that `sartor fit --seed SEED` makes."""
    return splitting.split_of(Recipe().with_settings({"seed": seed}), dataset)
