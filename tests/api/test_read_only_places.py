"""Where nothing can be written, what only reads works, and the rest says why it does not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture

REASONS = ("read-only file system", "permission denied")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in the folder can be written: no rights, or for root, who has all, a mount."""
    with _mounted(folder) if os.geteuid() == 0 else _without_rights(folder):
        yield


@contextmanager
def _without_rights(folder: Path) -> Iterator[None]:
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@contextmanager
def _mounted(folder: Path) -> Iterator[None]:
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(run_copy: Path, digits: Dataset, tmp_path: Path) -> Path:
    """A folder with a run, a bundle, a few labelled pictures, and a plan."""
    folder = tmp_path / "place"
    for label in range(2):
        (folder / "pictures" / str(label)).mkdir(parents=True)
        for number, index in enumerate((digits.labels == label).nonzero()[0][:6]):
            path = folder / "pictures" / str(label) / f"{number}.png"
            as_picture(digits.images[index]).save(path)
    run_copy.rename(folder / "run")
    sartor.Run.open(folder / "run").export(folder / "bundle.zip", onnx=False)
    return folder


def test_verbs_in_a_folder_that_is_read_only(
    place: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading: list[list[Any]] = [
        ["data", "pictures"],
        ["predict", "run", "pictures/0/0.png"],
        ["predict", "bundle.zip", "pictures/0/0.png"],
        ["evaluate", "run", "--split", "val"],
        ["show", "run"],
        ["runs", "."],
        ["verify", "bundle.zip"],
    ]
    writing: list[list[Any]] = [
        ["fit", "pictures", "--model", "linear", "--epochs", 1, "--threads", 1],
        ["fit", "pictures", "--model", "linear", "--epochs", 1, "--out", "new/run"],
        ["resume", "run", "--epochs", 9],
        ["predict", "run", "pictures", "--out", "predictions.csv"],
        ["export", "run", "--out", "new.zip", "--no-onnx"],
        ["report", "run", "--out", "page.html"],
    ]
    before = contents(place)
    with read_only(place):
        monkeypatch.chdir(place)  # now: a working folder stays what it was below a mount
        for words in reading:
            answer = command(*words)
            assert answer.exit_code == 0, (words, answer.err)
        for words in writing:
            answer = command(*words)
            assert answer.exit_code == 1, (words, answer.err)
            assert any(reason in answer.err for reason in REASONS), (words, answer.err)
        assert contents(place) == before


def test_a_plan_that_cannot_be_followed(place: Path, command: Any) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    sartor.plan_work(place / "job", "decode", place / "pictures", image_size=8)
    before = contents(place)
    with read_only(place):
        answer = command("work", place / "job", "--threads", 1)
        assert answer.exit_code == 1
        assert any(reason in answer.err for reason in REASONS)
        assert command("work", place / "job", "--status").exit_code == 0
    assert contents(place) == before
    assert command("work", place / "job", "--threads", 1).exit_code == 0


def test_a_cache_that_cannot_be_written(
    place: Path, command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("SARTOR_HOME", str(cache))
    with read_only(cache):
        answer = command("data", place / "pictures")
        assert answer.exit_code == 1
        assert str(cache) in answer.err
        assert "SARTOR_HOME" in answer.err
        assert command("predict", place / "bundle.zip", place / "pictures/0/0.png").exit_code == 0
