"""Resumed at any step, a training ends with the bits of the one that nobody disturbed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sartor
from sartor.api.opened import load_checkpoint
from sartor.data.dataset import Dataset
from sartor.events import CheckpointDue, Event
from sartor.runs.folder import RunFolder

FIGURES = ("epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
SMALL: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 64,
    "threads": 1,
    "report": False,
    "engine": "plain",
    "checkpoint_seconds": 0,
}
KINDS: dict[str, dict[str, Any]] = {
    "augmented, dropout, accumulated": {
        "model": "mlp",
        "model_kwargs": {"hidden": (8,), "dropout": 0.3},
        "augment": ["flip", "rotate=20", "mixup"],
        "grad_accum_steps": 2,
        "clip_grad": 1.0,
    },
    "balanced, batch norm, momentum": {
        "model": "convnet",
        "opt": "sgd",
        "lr": 0.05,
        "momentum": 0.9,
        "sampler": "balanced",
        "smoothing": 0.1,
        "image_size": 8,
    },
}


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    """Enough for a few steps."""
    kept = np.arange(300)
    return Dataset(digits.images[kept], digits.labels[kept], digits.classes, name="few")


@pytest.mark.parametrize("kind", KINDS)
def test_at_every_step_of_a_run(kind: str, few: Dataset, tmp_path: Path) -> None:
    settings = SMALL | KINDS[kind]
    out, copies = tmp_path / "whole", []

    def keep(event: Event) -> None:
        """What a kill at this moment would leave."""
        if isinstance(event, CheckpointDue) and (out / "recipe.toml").exists():
            copies.append(Path(shutil.copytree(out, tmp_path / f"killed-{len(copies)}")))

    whole = sartor.fit(few, out=out, on_event=keep, **settings)
    steps = whole.history[-1]["step"]
    seen = set()
    for copy in copies:
        if RunFolder(copy).checkpoints("last"):
            seen.add(load_checkpoint(RunFolder(copy), "last").progress.step)
        resumed = sartor.resume(copy, data=few)
        assert resumed.weights_sha256 == whole.weights_sha256, copy.name
        assert [[row[name] for name in FIGURES] for row in resumed.history] == [
            [row[name] for name in FIGURES] for row in whole.history
        ]
        assert resumed.split_sha256 == whole.split_sha256
    assert seen >= set(range(1, steps)), "each step was one to resume at"
