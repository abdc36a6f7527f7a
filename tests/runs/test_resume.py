"""Trained longer: as if the longer training had been meant from the start, or a sentence."""

from __future__ import annotations

import math
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.api.opened import load_checkpoint
from sartor.data.dataset import Dataset
from sartor.events import EpochDone, Event, Note
from sartor.runs.folder import RunFolder

SMALL: dict[str, Any] = {
    "model": "mlp",
    "model_kwargs": {"hidden": (16,), "dropout": 0.2},
    "batch_size": 300,
    "threads": 1,
    "report": False,
}


class TestLonger:
    @pytest.mark.parametrize(
        "settings",
        [
            {"opt": "sgd", "lr": 0.1},
            {"opt": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True},
            {"opt": "adam", "clip_grad": 1.0},
            {"opt": "adamw", "weight_decay": 0.01, "grad_accum_steps": 2, "val_fraction": 0.0},
            {"opt": "rmsprop", "momentum": 0.5, "smoothing": 0.1, "sched": "step"},
            {"opt": "sgd", "augment": "crop=1 flip=alternating rotate mixup", "workers": 2},
        ],
        ids=lambda settings: " ".join(map(str, settings.values())),
    )
    def test_with_a_constant_schedule_it_equals_the_long_training(
        self, settings: dict[str, Any], digits: Dataset, tmp_path: Path
    ) -> None:
        settings = {"sched": "constant"} | settings | SMALL
        long = sartor.fit(digits, epochs=4, out=tmp_path / "long", **settings)
        run = sartor.fit(digits, epochs=2, out=tmp_path / "run", **settings)
        longer = sartor.resume(run.path, epochs=4, data=digits)
        assert longer.weights_sha256 == long.weights_sha256
        assert [row["train_loss"] for row in run.history] == [
            row["train_loss"] for row in long.history
        ]
        assert run.recipe == long.recipe
        assert run.evaluate().to_json() == long.evaluate().to_json()

    def test_augmented_and_interrupted_amid_an_epoch_it_ends_with_the_same_bits(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        augment = ["flip", "shift=0.2", "rotate=20", "erase=0.5", "mixup", "cutmix"]
        settings: dict[str, Any] = SMALL | {"augment": augment, "epochs": 3}
        whole = sartor.fit(digits, out=tmp_path / "whole", **settings)
        out = tmp_path / "run"
        with pytest.raises(sartor.Interrupted):
            # The first step of the second epoch is the next.
            sartor.fit(digits, out=out, on_event=interrupt_after(1), **settings)
        assert load_checkpoint(RunFolder(out), "last").progress.position > 0
        resumed = sartor.resume(out, data=digits)
        assert resumed.weights_sha256 == whole.weights_sha256
        figures = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        for row, expected in zip(resumed.history, whole.history, strict=True):
            assert [row[name] for name in figures] == [expected[name] for name in figures]

    def test_the_recipe_before_is_kept(self, run_copy: Path, command: Any) -> None:
        before = (run_copy / "recipe.toml").read_text()
        assert command("resume", run_copy, "--epochs", 4).exit_code == 0
        assert (run_copy / "recipe-before-1.toml").read_text() == before
        assert sartor.Run.open(run_copy).recipe.training.epochs == 4
        assert command("resume", run_copy, "--epochs", 5, "--json").document["epochs"] == 5
        assert sartor.load_recipe(run_copy / "recipe-before-2.toml").training.epochs == 4

    def test_a_finished_run_says_so(self, run_copy: Path, command: Any) -> None:
        before = {path: path.read_bytes() for path in run_copy.rglob("*.*") if path.is_file()}
        for more in ([], ["--epochs", 3]):
            answer = command("resume", run_copy, "--json", *more)
            assert answer.exit_code == 0
            assert f"{run_copy} is finished; train it longer with --epochs N." in answer.err
            assert answer.document["epochs"] == 3
        assert before == {path: path.read_bytes() for path in before}

    @pytest.mark.parametrize(
        ("epochs", "reason"),
        [
            (2, "has 3 epochs already, more than --epochs 2"),
            (0, "epochs must be at least 1"),
            (-3, "epochs must be at least 1"),
        ],
    )
    def test_fewer_epochs_than_done(
        self, epochs: int, reason: str, run_copy: Path, command: Any
    ) -> None:
        before = (run_copy / "recipe.toml").read_text()
        answer = command("resume", run_copy, "--epochs", epochs)
        assert (answer.exit_code, answer.out) == (2, "")
        assert reason in answer.err
        assert (run_copy / "recipe.toml").read_text() == before

    def test_as_many_epochs_as_are_done_but_in_the_next_one(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        with pytest.raises(sartor.Interrupted):
            sartor.fit(digits, epochs=5, out=out, on_event=interrupt_after(2), **SMALL)
        with pytest.raises(sartor.SartorError, match="in epoch 3 already") as caught:
            sartor.resume(out, epochs=2)
        assert caught.value.exit_code == 2
        # Fewer than planned, and still ahead, is fine.
        run = sartor.resume(out, epochs=3)
        assert (len(run.history), run.status["state"]) == (3, "finished")


class TestRecordedExtensions:
    """From the recipe of a run that was extended, the same weights are made in one training."""

    @pytest.mark.parametrize(
        ("settings", "epochs", "interruptions"),
        [
            ({"sched": "cosine", "warmup_epochs": 0.5}, (3, 5, 4), (1, 2)),
            ({"sched": "onecycle", "opt": "sgd", "lr": 0.1}, (2, 3, 6), ()),
            ({"sched": "constant", "patience": 2, "lr": 1e-9}, (10, 10, 12), ()),
            ({"sched": "cosine", "patience": 1, "lr": 0.01}, (2, 4, 8), (1,)),
        ],
        ids=lambda value: str(value),
    )
    def test_it_makes_the_same_weights(
        self,
        settings: dict[str, Any],
        epochs: tuple[int, ...],
        interruptions: tuple[int, ...],
        digits: Dataset,
        tmp_path: Path,
    ) -> None:
        """Each of `epochs` is asked for in turn, with an interruption in some epochs on the way."""
        out, told = tmp_path / "run", list[Event]()
        stops = iter([*interruptions, 99, 99, 99])
        with suppress(sartor.Interrupted):
            stop = interrupt_after(next(stops))
            sartor.fit(digits, epochs=epochs[0], out=out, on_event=stop, **SMALL | settings)
        for count in epochs[1:]:
            stop = interrupt_after(next(stops))

            def on_event(event: Event, stop: Any = stop) -> None:
                told.append(event)
                stop(event)

            with suppress(sartor.Interrupted):
                sartor.resume(out, epochs=count, data=digits, report=False, on_event=on_event)
        run = sartor.Run.open(out)
        made = sartor.fit(digits, recipe=out / "recipe.toml", out=tmp_path / "made", report=False)
        assert made.weights_sha256 == run.weights_sha256
        assert made.status["state"] == run.status["state"]
        names = ("epoch", "step", "learning_rate", "train_loss", "val_accuracy")
        for row, expected in zip(made.history, run.history, strict=True):
            assert [row[name] for name in names] == [expected[name] for name in names]
        assert made.recipe.training == run.recipe.training

    def test_the_jump_is_said_before_it(self, run_copy: Path, command: Any) -> None:
        answer = command("resume", run_copy, "--epochs", 4)
        said, rest = answer.err.split("resuming after step")
        run = sartor.Run.open(run_copy)
        last, following = (
            run.history[2]["learning_rate"],
            0.002 * (1 + math.cos(0.75 * math.pi)) / 2,
        )
        assert f"goes up from {last:.3g} to {following:.3g}: the cosine schedule" in said
        assert "planned over 3 epochs until here, continues as one over 4 epochs" in said
        assert "epoch 4/4" in rest
        shown = command("show", run_copy).out
        assert "planned: 3 epochs until step 63, then extended" in shown

    def test_a_constant_rate_has_no_jump(self, digits: Dataset, tmp_path: Path) -> None:
        told: list[Event] = []
        run = sartor.fit(digits, epochs=1, out=tmp_path / "run", sched="constant", **SMALL)
        sartor.resume(run, epochs=2, data=digits, on_event=told.append)
        assert not any("learning rate" in event.text for event in told if isinstance(event, Note))
        assert run.recipe.training.extensions == ()

    def test_killed_before_its_first_step_it_goes_on(self, digits: Dataset, tmp_path: Path) -> None:
        settings = SMALL | {"lr": 1e-9, "patience": 2, "epochs": 10}
        run = sartor.fit(digits, out=tmp_path / "run", **settings)
        longer = run.recipe.extended(10, run.history[-1]["step"])
        run.folder.recipe_path.rename(run.path / "recipe-before-1.toml")
        run.folder.recipe_path.write_text(longer.to_toml())
        assert len(sartor.resume(run, data=digits, report=False).history) == 5

    @pytest.mark.parametrize("changes", [{"epochs": 3}, {"batch_size": 100}])
    def test_another_plan_has_none(
        self, changes: dict[str, Any], digits: Dataset, tmp_path: Path
    ) -> None:
        run = sartor.fit(digits, epochs=1, out=tmp_path / "run", **SMALL)
        with pytest.warns(sartor.SartorWarning, match="goes up"):
            sartor.resume(run, epochs=2, data=digits, report=False)
        recipe = run.folder.recipe_path
        assert len(run.recipe.training.extensions) == 1
        other = sartor.fit(digits, recipe=recipe, out=tmp_path / "x", report=False, **changes)
        assert other.recipe.training.extensions == ()
        few = Dataset(digits.images[:700], digits.labels[:700])
        other = sartor.fit(few, recipe=recipe, out=tmp_path / "y", report=False)
        assert other.recipe.training.extensions == ()

    @pytest.mark.parametrize(
        "texts",
        [["soon"], ["0 epochs until step 3"], ["2 epochs until step 9", "3 epochs until step 9"]],
    )
    def test_nonsense_is_refused(self, texts: list[str]) -> None:
        with pytest.raises(sartor.SartorError, match="extensions must be"):
            sartor.Recipe().with_settings({"extensions": texts})


def interrupt_after(epoch: int) -> Any:
    def on_event(event: Event) -> None:
        if isinstance(event, EpochDone) and event.row["epoch"] == epoch:
            signal.raise_signal(signal.SIGINT)

    return on_event


class TestStoppedEarly:
    @pytest.fixture
    def stopped(self, digits: Dataset, tmp_path: Path) -> sartor.Run:
        """With so small a learning rate no epoch is better than the first."""
        settings = SMALL | {"lr": 1e-9, "patience": 2, "epochs": 10}
        run = sartor.fit(digits, out=tmp_path / "run", **settings)
        assert run.status["state"] == "stopped early"
        assert len(run.history) == 3
        return run

    def test_without_epochs_it_is_finished(self, stopped: sartor.Run, command: Any) -> None:
        answer = command("resume", stopped.path, "--json")
        assert "is finished" in answer.err
        assert answer.document["epochs"] == 3
        assert stopped.status["state"] == "stopped early"

    @pytest.mark.parametrize("epochs", [10, 20])
    def test_with_epochs_patience_counts_anew(
        self, epochs: int, stopped: sartor.Run, command: Any
    ) -> None:
        assert command("resume", stopped.path, "--epochs", epochs, "--json").document["epochs"] == 5
        assert stopped.status["state"] == "stopped early"

    def test_one_epoch_more(self, stopped: sartor.Run, command: Any) -> None:
        assert command("resume", stopped.path, "--epochs", 4, "--json").document["epochs"] == 4
        assert stopped.status["state"] == "finished"


class TestWhereTheRunIs:
    def test_a_moved_run_goes_on_from_another_folder(
        self, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
    ) -> None:
        moved = run_copy.rename(tmp_path / "a new name")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert command("resume", "../a new name", "--epochs", 4, "--json").exit_code == 0
        assert list(Path().iterdir()) == []
        assert RunFolder(moved).status()["state"] == "finished"

    def test_a_run_on_a_folder_goes_on_from_another_folder(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
    ) -> None:
        write_idx(tmp_path / "pictures" / "small", digits)
        monkeypatch.chdir(tmp_path / "pictures")
        out = tmp_path / "run"
        fit = command("fit", "small", "--epochs", 2, "--out", out, "--json", "--threads", 1)
        assert fit.exit_code == 0
        monkeypatch.chdir(tmp_path)
        assert command("resume", out, "--epochs", 3, "--json").document["epochs"] == 3
        assert command("evaluate", out, "--json").document["count"] == 100
        (tmp_path / "pictures").rename(tmp_path / "gone")
        answer = command("evaluate", out)
        assert answer.exit_code == 1
        assert f"data {tmp_path / 'pictures' / 'small'} is not at hand" in answer.err


def write_idx(folder: Path, dataset: Dataset) -> None:
    folder.mkdir(parents=True)
    for name, part in (("train", slice(0, 400)), ("t10k", slice(400, 500))):
        images, labels = dataset.images[part, 0], dataset.labels[part].astype("uint8")
        header = b"".join(n.to_bytes(4, "big") for n in (0x803, *images.shape))
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = b"".join(n.to_bytes(4, "big") for n in (0x801, len(labels)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def test_a_finished_run_has_the_history_of_its_checkpoint_again(run_copy: Path) -> None:
    """As a run that goes on has: what was changed in it, by whomever, is not kept."""
    path, folder = run_copy / "history.jsonl", RunFolder(run_copy)
    before = folder.history()
    path.write_text(path.read_text().replace('"epoch": 2', '"epoch": 3'))
    assert folder.history() != before
    sartor.resume(run_copy)
    assert folder.history() == before
