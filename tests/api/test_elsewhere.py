"""A run that was trained on another machine: what is not here is replaced, and that is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import sartor
from sartor import device
from sartor.data.pictures.preprocess import as_picture
from sartor.errors import UsageError
from sartor.recipe import ResolvedRecipe
from sartor.runs.folder import RunFolder
from sartor.runs.seals import seals_of
from sartor.training.state import Checkpoint


@pytest.fixture(autouse=True)
def _only_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_present", lambda: {"cuda": False, "mps": False, "cpu": True})


ON_A_GPU = {"device": "cuda", "amp_dtype": "float16", "engine": "graph"}


def as_trained_with(run: Path, **settings: Any) -> Path:
    """The run as a machine would have left it that trained with these settings."""
    recipe = ResolvedRecipe.from_toml((run / "recipe.toml").read_text())
    (run / "recipe.toml").write_text(recipe.with_settings(settings).to_toml())
    sealed = seals_of(RunFolder(run))
    for path in (run / "checkpoints").iterdir():
        kept = Checkpoint.from_bytes(path.read_bytes(), path.name)
        path.write_bytes(kept.to_bytes(sealed))
    return run


def with_gradient_scale(run: Path) -> None:
    """What float16 keeps in a checkpoint besides."""
    for path in (run / "checkpoints").iterdir():
        kept = Checkpoint.from_bytes(path.read_bytes(), path.name)
        if kept.optimizer:
            kept.optimizer["scaling.scale"] = torch.tensor(1024.0)
            kept.optimizer["scaling.steps"] = torch.tensor(7, dtype=torch.int32)
            path.write_bytes(kept.to_bytes())


@pytest.fixture
def from_a_gpu(run_copy: Path) -> Path:
    with_gradient_scale(run_copy)
    return as_trained_with(run_copy, **ON_A_GPU)


@pytest.fixture
def picture(digits: sartor.Dataset, tmp_path: Path) -> Path:
    as_picture(digits.images[0]).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def test_every_verb_runs_on_what_is_here_and_says_so_once(
    from_a_gpu: Path, trained: Path, picture: Path, command: Any
) -> None:
    other = shutil.copytree(trained, from_a_gpu.parent / "other")
    for words in (
        ["evaluate", from_a_gpu],
        ["predict", from_a_gpu, picture, "--explain", picture.with_suffix(".svg")],
        ["report", from_a_gpu],
        ["trace", from_a_gpu, "--image", 3],
        ["summary", from_a_gpu],
        ["compare", other, from_a_gpu, "--split", "test"],
        ["resume", from_a_gpu, "--epochs", 4],
    ):
        shutil.rmtree(from_a_gpu / "predictions", ignore_errors=True)
        answer = command(*words)
        assert answer.exit_code == 0, answer.err
        assert answer.err.count("which this machine does not have") == 1, (words, answer.err)
        assert "device cuda, amp_dtype float16, engine graph" in answer.err
        assert "using device cpu, amp_dtype float32, engine plain" in answer.err
    assert "which this machine" not in command("evaluate", from_a_gpu).err, "now it is a CPU run"


def test_the_figures_are_those_of_the_processor(from_a_gpu: Path, trained: Path) -> None:
    with pytest.warns(sartor.SartorWarning, match="this machine does not have"):
        elsewhere = sartor.evaluate(from_a_gpu)
    assert elsewhere.to_json() == sartor.evaluate(trained).to_json()


def test_resume_keeps_what_it_was_and_records_what_it_is(from_a_gpu: Path) -> None:
    with pytest.warns(sartor.SartorWarning, match="this machine does not have"):
        run = sartor.resume(from_a_gpu, epochs=4)
    before = ResolvedRecipe.from_toml((run.path / "recipe-before-1.toml").read_text())
    assert (before.training.device, before.training.engine) == ("cuda", "graph")
    assert (run.recipe.training.device, run.recipe.training.engine) == ("cpu", "plain")
    assert len(run.history) == 4


@pytest.mark.parametrize("verb", ["evaluate", "report", "resume", "trace", "predict"])
def test_a_device_that_is_asked_for_must_be_here(
    verb: str, run_copy: Path, picture: Path, command: Any
) -> None:
    more = {"resume": ["--epochs", 4], "predict": [picture]}.get(verb, [])
    answer = command(verb, run_copy, *more, "--device", "cuda")
    assert answer.exit_code == 2
    assert "There is no cuda device here. " in answer.err.replace("\n", " ")
    answer = command(verb, as_trained_with(run_copy, **ON_A_GPU), *more, "--device", "cpu")
    assert answer.exit_code == 0, answer.err
    assert "this machine" not in answer.err, "it was asked for"


def test_an_engine_for_the_processor_is_left_on_another_device(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_present", lambda: {"cuda": False, "mps": True, "cpu": True})
    recipe = sartor.Run.open(trained).recipe
    assert recipe.training.engine == "direct"
    there = sartor.Run.open(trained, device="mps").here(recipe)
    assert (there.training.device, there.training.engine) == ("mps", "plain")
    assert sartor.Run.open(trained).here(recipe) == recipe, "the training's own device is here"
    with pytest.raises(UsageError, match="There is no cuda device here"):
        sartor.Run.open(trained, device="cuda").here(recipe)
