"""A run that was trained on another machine: what is not here is replaced, and that is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import sartor
from sartor import device, native_module
from sartor.data.pictures.preprocess import as_picture
from sartor.errors import RecipeError, UsageError
from sartor.recipe import ResolvedRecipe
from sartor.runs.folder import RunFolder
from sartor.runs.seals import seals_of
from sartor.training.settings import RETIRED_ENGINES
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
    found, expected = elsewhere.to_json(), sartor.evaluate(trained).to_json()
    assert found.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-6)
    assert found == expected, "but for rounding, for here it is another engine"


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
    assert recipe.training.engine == "native"
    there = sartor.Run.open(trained, device="mps").here(recipe)
    assert (there.training.device, there.training.engine) == ("mps", "plain")
    assert sartor.Run.open(trained).here(recipe) == recipe, "the training's own device is here"
    with pytest.raises(UsageError, match="There is no cuda device here"):
        sartor.Run.open(trained, device="cuda").here(recipe)


@pytest.mark.parametrize("engine", RETIRED_ENGINES)
def test_a_run_of_an_engine_that_is_gone_is_read_and_goes_on_with_plain(
    engine: str, run_copy: Path
) -> None:
    run = sartor.Run.open(as_trained_with(run_copy, engine=engine, memory_format="contiguous"))
    assert run.recipe.training.engine == engine
    assert sartor.evaluate(run).accuracy > 0, "in silence: no warning, which would be an error"
    said: list[str] = []

    def listen(event: object) -> None:
        if isinstance(event, sartor.events.Note):
            said.append(event.text)

    resumed = sartor.resume(run, epochs=4, report=False, on_event=listen)
    assert any(f"The engine {engine} that" in text and "is gone" in text for text in said)
    training = resumed.recipe.training
    assert training.engine == "plain"
    assert training.engine_changes[0].startswith(f"{engine}, float32, contiguous")
    assert len(resumed.history) == 4


class TestWithoutTheEngineNative:
    @pytest.fixture(autouse=True)
    def without(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
        native_module.module.cache_clear()
        monkeypatch.setattr(native_module, "_found", lambda: (None, "it was not built"))
        yield
        native_module.module.cache_clear()

    def test_a_training_takes_the_plain_one_and_says_once_how_to_have_it(
        self, tmp_path: Path
    ) -> None:
        said: list[str] = []

        def listen(event: object) -> None:
            if isinstance(event, sartor.events.Note):
                said.append(event.text)

        for number in range(2):
            run = sartor.fit(
                "digits",
                epochs=1,
                out=tmp_path / str(number),
                check=False,
                report=False,
                on_event=listen,
            )
            assert run.recipe.training.engine == "plain"
            environment = json.loads((run.path / "environment.json").read_text())
            assert environment["native"] == {
                "missing": "it was not built",
                "unused": "it was not built",
            }
        assert sum("C++17 compiler" in text for text in said) == 1

    def test_who_asks_for_it_is_told_why_not(self) -> None:
        with pytest.raises(RecipeError, match="engine native is not available: it was not"):
            sartor.fit("digits", engine="native")

    def test_a_run_that_it_trained_is_used_all_the_same(self, trained: Path) -> None:
        with pytest.warns(sartor.SartorWarning, match="engine native, which this machine does not"):
            assert sartor.evaluate(sartor.Run.open(trained)).accuracy > 0

    def test_a_run_that_goes_on_without_it_says_since_when(self, run_copy: Path) -> None:
        said: list[str] = []

        def listen(event: object) -> None:
            if isinstance(event, sartor.events.Note):
                said.append(event.text)

        before = sartor.Run.open(run_copy)
        assert before.recipe.training.engine == "native"
        step = before.history[-1]["step"]
        with pytest.warns(sartor.SartorWarning) as warned:
            run = sartor.resume(run_copy, epochs=4, report=False, on_event=listen)
        assert any("engine native, which this machine does not" in str(one) for one in warned)
        (text,) = [text for text in said if "recipe.toml records the change" in text]
        assert text.startswith("Engine native is not available: it was not built: from step ")
        assert f"from step {step} on, in epoch 4, with plain" in text
        training = run.recipe.training
        assert training.engine == "plain"
        assert training.engine_changes == (
            f"native, float32, contiguous, 1 thread until step {step}",
        )
        assert len(run.history) == 4

    def test_changes_that_were_still_to_come_end_with_it(self, run_copy: Path) -> None:
        step = sartor.Run.open(run_copy).history[-1]["step"]
        changes = (f"native, float32, contiguous, 2 threads until step {step + 7}",)
        as_trained_with(run_copy, engine="plain", engine_changes=changes)
        with pytest.warns(sartor.SartorWarning):
            run = sartor.resume(run_copy, epochs=4, report=False)
        assert run.recipe.training.engine_changes == (
            f"native, float32, contiguous, 2 threads until step {step}",
        )
        assert run.recipe.training.threads == 2
