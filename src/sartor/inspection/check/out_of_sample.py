"""Probabilities of the classes of each image, by a network that never saw it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from ...arrays import Float32Array, Int64Array, UInt8Array
from ...data.description import channel_statistics
from ...data.feed.batches import Batches, Feed
from ...data.pictures.preprocess import Preprocess
from ...device import choose_device
from ...inference.forward import Forward
from ...models.registry import build_model
from ...randomness import keys
from ...training.engines import hardware
from ...training.loop import Job, train
from ...training.objective import Objective
from ...training.optim import Optimizer
from ...training.seeding import seed_random_numbers
from ...training.settings import ResolvedTraining
from ...training.state import Progress
from .subject import Note

FOLDS = 4
LARGEST_SIDE = 32
"""Pixels; larger images are made smaller. A label that is wrong is wrong at a glance."""
_MODEL: dict[str, Any] = {"channels": (16, 32), "kernel": 3, "hidden": (64,), "dropout": 0.25}
_IMAGES_TO_SEE = 16_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 4, 25
_LARGE_SET = 10_000
_AT_A_TIME = 500
_FOLD_STREAM, _INITIAL_WEIGHTS = 7, -2


def probabilities(
    images: UInt8Array,
    indices: Int64Array,
    labels: Int64Array,
    num_classes: int,
    *,
    units: Int64Array | None = None,
    seed: int = 0,
    note: Note,
) -> Float32Array:
    """float32 (M, num_classes), by cross-validation with a small convolutional network.

    Args:
        images: uint8 (N, C, H, W).
        indices: the M images that are learnt and asked for.
        labels, units: of these, (M,).

    Images of one unit are on the same side of every fold, so that no copy gives an answer away.
    The same seed gives the same numbers on the same machine with as many threads.
    """
    images = _small(images, indices)
    folds = folds_of(labels, units, seed)
    found = np.zeros((len(labels), num_classes), np.float32)
    settings = _settings(len(labels))
    with hardware.tuned(settings):
        for fold in range(FOLDS):
            note(f"training on the labels to find wrong ones: fold {fold + 1} of {FOLDS}")
            taught, asked = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            found[asked] = _held_out(
                images, labels, num_classes, taught, asked, settings, seed * FOLDS + fold
            )
    return found


def folds_of(
    labels: Int64Array, units: Int64Array | None, seed: int, count: int = FOLDS
) -> Int64Array:
    """The fold of each image, from 0: every class is dealt out evenly, every unit whole."""
    units = np.arange(len(labels)) if units is None else units
    names, first, number = np.unique(units, return_index=True, return_inverse=True)
    order = np.lexsort((keys(len(names), seed, _FOLD_STREAM), labels[first]))
    dealt = np.empty(len(names), np.int64)
    dealt[order] = np.arange(len(names)) % count
    folds: Int64Array = dealt[number]
    return folds


def _held_out(
    images: UInt8Array,
    labels: Int64Array,
    num_classes: int,
    taught: Int64Array,
    asked: Int64Array,
    settings: ResolvedTraining,
    seed: int,
) -> Float32Array:
    """Train on some images, answer for others; float32 (len(asked), num_classes)."""
    channels, height, width = images.shape[1:]
    mean, std = channel_statistics(images, taught)
    preprocess = Preprocess(
        channels=channels, height=height, width=width, resize="stretch", mean=mean, std=std
    )
    layout = torch.channels_last

    def feed(indices: Int64Array) -> Feed:
        return Feed(
            images=torch.from_numpy(images).to(settings.device),
            labels=torch.from_numpy(labels).to(settings.device),
            indices=indices,
            normalize=preprocess.normalizer(settings.device),
            memory_format=layout,
        )

    seed_random_numbers(seed, _INITIAL_WEIGHTS)
    model: nn.Module = build_model(
        "lenet", input_shape=preprocess.input_shape, num_classes=num_classes, kwargs=_MODEL
    )
    model = model.to(settings.device).to(memory_format=layout)  # type: ignore[call-overload]
    job = Job(
        model=model,
        batches=Batches(
            feed=feed(taught),
            batch_size=settings.batch_size,
            shuffle=True,
            drop_last=False,
            seed=seed,
        ),
        val=None,
        objective=Objective(loss="cross-entropy"),
        optimizer=Optimizer(model, settings),
        settings=settings,
        classes=tuple(map(str, range(num_classes))),
    )
    for _ in train(job, Progress(), lambda: False):
        pass
    logits = Forward.of(model, settings).all_logits(feed(asked))
    held_out: Float32Array = logits.softmax(1).cpu().numpy()
    return held_out


def _settings(count: int) -> ResolvedTraining:
    """Long enough to learn what the classes are, too short to learn single labels by heart."""
    taught = max(count * (FOLDS - 1) // FOLDS, 1)
    epochs = min(max(math.ceil(_IMAGES_TO_SEE / taught), _FEWEST_EPOCHS), _MOST_EPOCHS)
    return ResolvedTraining(
        epochs=epochs,
        batch_size=256 if count >= _LARGE_SET else 32,
        lr=0.004 if count >= _LARGE_SET else 0.003,
        weight_decay=0.01,
        sched="onecycle",
        device=choose_device("auto"),
        # A second thread has too little to do with small batches.
        threads=hardware.chosen_threads(None) if count >= _LARGE_SET else 1,
        memory_format="channels-last",
        amp_dtype="float32",
        engine="plain",
    )


def _small(images: UInt8Array, indices: Int64Array) -> UInt8Array:
    """Some of the images, with no side above `LARGEST_SIDE` pixels."""
    channels, height, width = images.shape[1:]
    shrink = min(LARGEST_SIDE / max(height, width), 1)
    geometry = Preprocess(
        channels=channels,
        height=max(1, round(height * shrink)),
        width=max(1, round(width * shrink)),
        resize="stretch",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    small = np.empty((len(indices), *geometry.input_shape), np.uint8)
    for start in range(0, len(indices), _AT_A_TIME):
        small[start : start + _AT_A_TIME] = geometry.images(
            images[indices[start : start + _AT_A_TIME]]
        )
    return small
