"""A checkpoint is read once, and again whenever its file changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import sartor
from sartor.api import kept_checkpoints
from sartor.api.kept_checkpoints import checkpoint_at
from sartor.api.opened import load_checkpoint
from sartor.errors import CheckpointError
from sartor.models.weights import weights_sha256
from sartor.runs.folder import RunFolder
from sartor.training.state import Checkpoint, Progress


def content(value: float) -> bytes:
    weights = {"a": torch.full((100,), value)}
    return Checkpoint(
        weights=weights, optimizer={}, progress=Progress(step=1), classes=("x", "y")
    ).to_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "last.safetensors"
    path.parent.mkdir()
    path.write_bytes(content(1))
    return path


def read(path: Path) -> Checkpoint:
    return checkpoint_at(RunFolder(path.parent.parent), path)


def test_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(path)
    monkeypatch.setattr(Checkpoint, "from_bytes", None)
    assert read(path) is first


def test_read_again_where_it_is_another_file(path: Path) -> None:
    assert read(path).weights["a"][0] == 1
    other = path.with_name("new")
    other.write_bytes(content(2))
    other.replace(path)
    assert read(path).weights["a"][0] == 2


def test_damage_is_found_after_it_was_read(path: Path) -> None:
    """One bit, in place, and the time of the file as it was."""
    read(path)
    before = path.stat()
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(CheckpointError, match="checksum"):
            read(path)


def test_few_and_small_ones_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(path)
    for name in ("b", "c"):
        path.with_name(name).write_bytes(content(3))
        read(path.with_name(name))
    assert read(path) is not first
    assert len(kept_checkpoints._kept) <= 2
    monkeypatch.setattr(kept_checkpoints, "_LARGEST_BYTES", 10)
    path.with_name("d").write_bytes(content(4))
    assert read(path.with_name("d")) is not read(path.with_name("d"))


def test_training_on_changes_nothing_that_others_were_given(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {
        "model": "linear",
        "report": False,
        "engine": "plain",
        "limit_per_class": 10,
    }
    run = sartor.fit("digits", out=tmp_path / "run", epochs=1, **quiet)
    before = load_checkpoint(run.folder, "last")
    step, history = before.progress.step, list(before.progress.history)
    weights = before.weights_sha256
    sartor.resume(run.path, epochs=3)
    assert (before.progress.step, before.progress.history) == (step, history)
    assert weights_sha256(before.weights) == weights
    assert load_checkpoint(run.folder, "last").progress.epoch == 3
