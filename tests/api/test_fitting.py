"""Training in Python: one recipe, one set of weights, and all that comes of it in a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sartor
from sartor import api
from sartor.data.dataset import Dataset
from sartor.data.feed.ahead import Ahead
from sartor.data.feed.batches import Batch, Batches
from sartor.errors import (
    DataError,
    FileError,
    RecipeError,
    RunError,
    UsageError,
)
from sartor.events import CheckpointDue, Ended, EpochDone, Event, Started
from sartor.runs.folder import RunFolder

SMALL: dict[str, Any] = {
    "model": "mlp",
    "model_kwargs": {"hidden": (16,), "dropout": 0.2},
    "batch_size": 200,
    "epochs": 2,
    "threads": 1,
    "report": False,
}
COLUMNS = {
    "epoch",
    "step",
    "seconds",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "images_per_second",
    "val_balanced_accuracy",
    "val_macro_f1",
}


@pytest.fixture(scope="module")
def run(trained: Path) -> sartor.Run:
    """The finished run; only read here, but for its predictions."""
    return sartor.Run.open(trained)


class TestFit:
    def test_same_recipe_same_weights_other_seed_others(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        runs = [
            sartor.fit(digits, out=tmp_path / str(number), seed=seed, **SMALL)
            for number, seed in enumerate((7, 7, 8))
        ]
        one, same, other = (run.weights_sha256 for run in runs)
        assert one == same != other
        assert runs[0].recipe == runs[1].recipe
        assert not np.array_equal(runs[0].split().val, runs[2].split().val)
        assert np.array_equal(runs[0].split().test, runs[2].split().test), "comparable"

    def test_threads_that_prepare_batches_change_no_bit(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[int] = []
        before = Ahead.batch
        monkeypatch.setattr(Ahead, "batch", lambda *place: made.append(1) or before(*place))
        # The engine native gathers images that are not changed by itself.
        settings = SMALL | {"engine": "plain"}
        alone = sartor.fit(digits, out=tmp_path / "alone", **settings)
        assert not made
        helped = sartor.fit(digits, out=tmp_path / "helped", workers=2, **settings)
        assert len(made) == helped.result()["steps"]
        assert helped.weights_sha256 == alone.weights_sha256

    def test_a_fault_in_such_a_thread_ends_training_with_its_sentence(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = Batches.group

        def failing(batches: Batches, epoch: int, group: int) -> list[Batch]:
            if epoch == 1:
                raise DataError("The disk went away.", "Plug it in.")
            return before(batches, epoch, group)

        monkeypatch.setattr(Batches, "group", failing)
        settings = SMALL | {"epochs": 3, "engine": "plain"}
        with pytest.raises(DataError, match="The disk went away"):
            sartor.fit(digits, out=tmp_path / "run", workers=1, **settings)
        assert RunFolder(tmp_path / "run").status()["state"] == "failed"

    def test_images_that_would_fill_the_memory_are_refused(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        with pytest.raises(RecipeError, match=r"4096x4096 take .* GiB; this machine has"):
            sartor.fit(digits, out=out, image_size=4096, **SMALL)
        assert not out.exists()

    def test_nothing_around_it_decides(self, digits: Dataset, tmp_path: Path) -> None:
        torch.manual_seed(1)
        np.random.seed(1)
        one = sartor.fit(digits, out=tmp_path / "one", **SMALL).weights_sha256
        after = torch.rand(3)
        torch.manual_seed(1)
        assert torch.equal(after, torch.rand(3)), "training leaves the generator as it was"
        assert sartor.fit(digits, out=tmp_path / "two", **SMALL).weights_sha256 == one

    def test_a_run_can_be_made_again_from_its_recipe(self, run: sartor.Run, tmp_path: Path) -> None:
        again = sartor.fit(recipe=run.path / "recipe.toml", out=tmp_path / "again")
        assert again.weights_sha256 == run.weights_sha256
        assert again.recipe == run.recipe
        assert (again.path / "recipe.toml").read_bytes() == (run.path / "recipe.toml").read_bytes()
        assert (again.path / "split.npz").read_bytes() == (run.path / "split.npz").read_bytes()
        third = sartor.fit(recipe=run.recipe, out=tmp_path / "third", seed=4)
        assert third.weights_sha256 != run.weights_sha256

    def test_the_recipe_is_complete(self, digits: Dataset, tmp_path: Path) -> None:
        settings = SMALL | {"batch_size": "all", "device": "auto", "threads": None}
        recipe = sartor.fit(digits, out=tmp_path / "run", **settings).recipe
        assert recipe.training.batch_size == 1294
        assert recipe.training.device != "auto"
        assert recipe.training.memory_format != "auto"
        assert recipe.training.threads
        assert recipe.preprocess.image_size == (8, 8)
        assert recipe.preprocess.channels == 1
        assert len(recipe.preprocess.mean) == len(recipe.preprocess.std) == 1
        assert recipe.data.fingerprint == digits.fingerprint
        assert recipe.model.model_kwargs == {"hidden": (16,), "dropout": 0.2}
        assert type(recipe).from_toml(recipe.to_toml()) == recipe
        assert sartor.Recipe.from_toml(recipe.to_toml()).settings() == recipe.settings()

    def test_the_test_split_is_not_touched(self, digits: Dataset, tmp_path: Path) -> None:
        """Other images and labels there: the same weights, history and best epoch."""
        test = np.arange(0, len(digits), 5)
        images, labels = digits.images.copy(), digits.labels.copy()
        images[test], labels[test] = 255 - images[test], (labels[test] + 1) % 10
        found = []
        for number, (pixels, classes) in enumerate(
            [(digits.images, digits.labels), (images, labels)]
        ):
            data = Dataset(pixels, classes, test=test)
            run = sartor.fit(data, out=tmp_path / str(number), **SMALL)
            rows = [row["val_loss"] for row in run.history]
            best = api.load_checkpoint(run.folder, "best").weights_sha256
            found.append((run.weights_sha256, best, rows, run.recipe.preprocess))
        assert found[0] == found[1]

    def test_without_a_validation_split(self, digits: Dataset, tmp_path: Path) -> None:
        run = sartor.fit(digits, out=tmp_path / "run", val_fraction=0.0, **SMALL)
        assert run.history[0]["val_loss"] is None
        assert run.history[0]["val_accuracy"] is None
        assert run.result()["val_accuracy"] is None
        assert "train accuracy" in repr(run)
        assert run.evaluate("test").to_json() == run.evaluate(checkpoint="last").to_json()
        with pytest.raises(UsageError, match=r"val split of .* has no images") as caught:
            run.evaluate("val")
        assert "--split" in caught.value.hint
        assert caught.value.exit_code == 2
        with pytest.raises(RecipeError, match="patience needs a validation split"):
            sartor.fit(digits, val_fraction=0.0, patience=3, **SMALL)

    def test_history_and_result(self, run: sartor.Run) -> None:
        assert [row["epoch"] for row in run.history] == [1, 2, 3]
        assert all(row.keys() == COLUMNS for row in run.history)
        assert [row["step"] for row in run.history] == [21, 42, 63]
        result = run.result()
        assert result["steps"] == 63
        assert result["weights_sha256"] == run.weights_sha256
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            assert result[name] == run.history[-1][name]
        assert result["seconds"] >= run.history[-1]["seconds"]

    def test_events_come_in_order(self, digits: Dataset, tmp_path: Path) -> None:
        events: list[Event] = []
        sartor.fit(digits, out=tmp_path / "run", on_event=events.append, **SMALL)
        kinds = [type(event) for event in events if isinstance(event, Started | EpochDone | Ended)]
        assert kinds == [Started, EpochDone, EpochDone, Ended]
        started = next(event for event in events if isinstance(event, Started))
        assert (started.train_images, started.val_images, started.test_images) == (1294, 144, 359)
        assert started.expected_loss == pytest.approx(math.log(10))
        assert started.steps_per_epoch == 7
        assert isinstance(events[-2], CheckpointDue), "nothing is lost at the end"

    def test_what_a_listener_raises_comes_out_and_the_run_can_go_on(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        def fails(event: Event) -> None:
            if isinstance(event, EpochDone):
                raise ZeroDivisionError("mine")

        with pytest.raises(ZeroDivisionError, match="mine"):
            sartor.fit(digits, out=tmp_path / "run", on_event=fails, **SMALL)
        run = sartor.Run.open(tmp_path / "run")
        assert run.status == {
            "format": 1,
            "state": "failed",
            "reason": "mine",
            "report": "none",
        }
        whole = sartor.fit(digits, out=tmp_path / "whole", **SMALL)
        assert run.resume().weights_sha256 == whole.weights_sha256

    def test_status_can_be_read_while_it_trains(self, digits: Dataset, tmp_path: Path) -> None:
        states = []

        def look(event: Event) -> None:
            if isinstance(event, EpochDone):
                states.append(sartor.Run.open(tmp_path / "run").status["state"])

        sartor.fit(digits, out=tmp_path / "run", on_event=look, **SMALL)
        assert states == ["running", "running"]

    def test_the_default_folder_counts_up(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        paths = [str(sartor.fit(digits, **SMALL).path) for _ in range(2)]
        assert paths == ["runs/digits-mlp-1", "runs/digits-mlp-2"]
        assert sartor.Run.open("latest").path == Path(paths[1])
        assert sartor.evaluate("digits-mlp-1").count == 359

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"epochs": 0}, ["epochs must be at least 1"]),
            ({"epoch": 3}, ['unknown setting "epoch"; did you mean "epochs"?']),
            ({"lr": math.nan, "batch_size": -3}, ["lr must be", "batch_size must be"]),
            ({"opt": "adm", "sched": "cosin"}, ['mean "adam"', 'mean "cosine"']),
            ({"model": "mpl"}, ['unknown model "mpl"; did you mean "mlp"?']),
            ({"model_kwargs": {"hiden": 3}}, ['did you mean "hidden"?']),
            ({"val_fraction": 1.5, "seed": -1}, ["val_fraction must be", "seed must be"]),
            ({"recipe": "fashon-cnn"}, ['did you mean "fashion-cnn"?']),
            ({"class_weights": (1.0, 2.0)}, ["class_weights must be 10 numbers"]),
            ({"nesterov": True}, ["nesterov needs opt sgd"]),
        ],
    )
    def test_wrong_settings(
        self,
        settings: dict[str, Any],
        words: list[str],
        digits: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError) as caught:
            sartor.fit(digits, **(SMALL | settings))
        assert all(word in str(caught.value) for word in words), caught.value
        assert list(tmp_path.iterdir()) == []

    def test_unknown_data(self) -> None:
        with pytest.raises(UsageError, match=r'Unknown set "digitz"; did you mean "digits"?'):
            sartor.load("digitz")

    def test_a_recipe_for_other_data(
        self, run: sartor.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        text = (run.path / "recipe.toml").read_text().replace(run.recipe.data.fingerprint, "0" * 64)
        Path("recipe.toml").write_text(text)
        with pytest.raises(DataError, match="its fingerprint differs"):
            sartor.fit(recipe="recipe.toml")

    def test_recipes_are_loaded_by_name_and_by_path(self, tmp_path: Path) -> None:
        recipe = sartor.load_recipe("fashion-cnn")
        (tmp_path / "mine.toml").write_text(recipe.to_toml())
        assert sartor.load_recipe(tmp_path / "mine.toml") == recipe

    def test_out_where_nothing_can_be_written(self, digits: Dataset, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FileError, match="Cannot create the folder"):
            sartor.fit(digits, out=tmp_path / "file" / "run", **SMALL)
        with pytest.raises(RunError, match="is not empty"):
            sartor.fit(digits, out=tmp_path, **SMALL)
