"""Fine-tuning from the head on features, and the choice between the two."""

from __future__ import annotations

import html
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

import sartor
from sartor.api import starting, transferring
from sartor.api.opened import load_checkpoint
from sartor.cli.main import run as command_line
from sartor.data.dataset import Dataset
from sartor.errors import Interrupted, RecipeError
from sartor.events import EpochDone, Event, Note, Preparing, RungChosen

from .stand_in import NAME, colours, fitted, put_in_place, weights

LADDER: dict[str, Any] = {
    "model": NAME,
    "transfer": "ladder",
    "epochs": 3,
    "batch_size": 20,
    "engine": "plain",
    "augment": ("flip",),
}
CLEAR: dict[str, Any] = {"lr": 0.02, "epochs": 12, "layer_decay": 1.0, "freeze_epochs": 0}
"""Settings with which the stand-in learns far more than its first features show."""
COUNT = 150


@pytest.fixture(autouse=True)
def small_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(tmp_path, monkeypatch)


def correct_on_val(run: sartor.Run, checkpoint: str) -> np.ndarray:
    run.evaluate("val", checkpoint=checkpoint)
    from sartor.evaluation.predictions import Predictions

    found = Predictions.load(run.folder.predictions_path("val"))
    return found.predicted() == found.labels


class TestLadder:
    def test_the_head_is_epoch_0_and_stays_where_fine_tuning_is_not_clearly_better(
        self, tmp_path: Path
    ) -> None:
        run = fitted(colours(COUNT), tmp_path / "run", **LADDER)
        head = fitted(colours(COUNT), tmp_path / "head", model=NAME)
        assert [row["epoch"] for row in run.history] == [0, 1, 2, 3]
        assert run.history[0]["val_accuracy"] == head.history[0]["val_accuracy"]
        assert run.folder.transfer()["taken"] == "features"
        best = load_checkpoint(run.folder, "best")
        assert best.weights_sha256 == head.weights_sha256
        assert run.result()["best"]["epoch"] == run.folder.transfer()["epoch"] == 0
        assert load_checkpoint(run.folder, "last").weights_sha256 != head.weights_sha256

    def test_the_fine_tuned_network_is_taken_where_it_is_clearly_better(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        colour_blind = weights()
        colour_blind["stem.weight"] = (
            colour_blind["stem.weight"].mean(1, keepdim=True).repeat(1, 3, 1, 1)
        )
        monkeypatch.setattr(starting, "pretrained_weights", lambda _: colour_blind)
        said: list[Event] = []
        run = fitted(
            colours(COUNT),
            tmp_path / "run",
            **LADDER | CLEAR,
            val_fraction=0.4,
            on_event=said.append,
        )
        found = run.folder.transfer()
        tuned = correct_on_val(run, "best")
        head = fitted(colours(COUNT), tmp_path / "head", model=NAME, val_fraction=0.4)
        before = correct_on_val(head, "best")
        assert found["taken"] == "finetune"
        assert run.result()["best"]["epoch"] == found["epoch"] == 12
        document = sartor.report(run, "val").document
        assert document["training"]["epochs"] == 12
        assert document["transfer"] == found
        page = " ".join((run.path / "report.html").read_text().split())
        assert found["sentence"] in page
        assert found["correct"] == {"features": before.sum(), "finetune": tuned.sum()}
        assert found["only_finetune"] == (tuned & ~before).sum()
        assert found["only_features"] == (before & ~tuned).sum()
        low, high = found["interval"]
        assert 0 < low < found["difference"] < high
        differing = found["only_finetune"] + found["only_features"]
        assert binomtest(found["only_finetune"], differing).pvalue < 0.05
        (event,) = [one for one in said if isinstance(one, RungChosen)]
        assert event.sentence == found["sentence"]
        assert "the fine-tuned network is taken" in event.sentence

    def test_normalisation_keeps_its_averages_bit_for_bit(self, tmp_path: Path) -> None:
        run = fitted(colours(COUNT), tmp_path / "run", **LADDER | CLEAR)
        trained, given = load_checkpoint(run.folder, "last").weights, weights()
        assert not torch.equal(trained["norm.weight"], given["norm.weight"])
        for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
            assert torch.equal(trained[name], given[name]), name

    def test_the_last_parts_are_trained_first(self, tmp_path: Path) -> None:
        settings = LADDER | {"epochs": 1, "freeze_epochs": 1}
        frozen = fitted(colours(COUNT), tmp_path / "frozen", **settings)
        free = fitted(colours(COUNT), tmp_path / "free", **settings | {"freeze_epochs": 0})
        given = weights()["stem.weight"]
        after_frozen, after_free = (
            load_checkpoint(run.folder, "last").weights for run in (frozen, free)
        )
        assert torch.equal(after_frozen["stem.weight"], given)
        assert not torch.equal(after_free["stem.weight"], given)
        before = load_checkpoint(frozen.folder, "best").weights["head.weight"]
        assert not torch.equal(after_frozen["head.weight"], before)

    @pytest.mark.parametrize("where", ["features", "between", "steps", "last epoch"])
    @pytest.mark.parametrize("way", ["ladder", "finetune"])
    def test_stopped_anywhere_it_ends_bit_for_bit_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, way: str
    ) -> None:
        settings = LADDER | {"transfer": way, "freeze_epochs": 2}
        whole = fitted(colours(COUNT), tmp_path / "whole", **settings)
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "other-home"))
        is_there: dict[str, Callable[[Event], bool]] = {
            "features": lambda event: isinstance(event, Preparing),
            "between": lambda event: isinstance(event, EpochDone) and event.row["epoch"] == 0,
            "steps": lambda event: isinstance(event, EpochDone) and event.row["epoch"] == 1,
            "last epoch": lambda event: isinstance(event, EpochDone) and event.row["epoch"] == 2,
        }

        def stop(event: Event) -> None:
            if is_there[where](event):
                signal.raise_signal(signal.SIGINT)

        out = tmp_path / "stopped"
        with pytest.raises(Interrupted):
            fitted(colours(COUNT), out, **settings, on_event=stop)
        resumed = sartor.resume(out, data=colours(COUNT), progress=False)
        for which in ("last", "best"):
            one, other = (load_checkpoint(run.folder, which) for run in (whole, resumed))
            assert one.weights_sha256 == other.weights_sha256, which
        assert resumed.folder.transfer() == whole.folder.transfer()
        figures = ("epoch", "step", "val_accuracy", "train_loss")
        rows = [
            [[row[name] for name in figures] for row in run.history] for run in (whole, resumed)
        ]
        assert rows[0] == rows[1]

    def test_killed_before_the_choice_is_kept_it_is_made_again(self, tmp_path: Path) -> None:
        class Killed(BaseException):
            pass

        def die(event: Event) -> None:
            if isinstance(event, RungChosen):
                raise Killed

        whole = fitted(colours(COUNT), tmp_path / "whole", **LADDER)
        with pytest.raises(Killed):
            fitted(colours(COUNT), tmp_path / "killed", **LADDER, on_event=die)
        resumed = sartor.resume(tmp_path / "killed", data=colours(COUNT), progress=False)
        assert resumed.status["state"] == "finished"
        assert resumed.folder.transfer() == whole.folder.transfer()
        assert resumed.weights_sha256 == whole.weights_sha256

    def test_while_it_is_fine_tuned_the_head_is_what_answers(self, tmp_path: Path) -> None:
        def stop(event: Event) -> None:
            if isinstance(event, EpochDone) and event.row["epoch"] == 2:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(Interrupted):
            fitted(colours(COUNT), tmp_path / "run", **LADDER | CLEAR, on_event=stop)
        head = fitted(colours(COUNT), tmp_path / "head", model=NAME)
        run = sartor.Run.open(tmp_path / "run")
        assert load_checkpoint(run.folder, "best").weights_sha256 == head.weights_sha256

    def test_it_needs_validation_images_and_has_no_patience(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="validation images"):
            fitted(colours(), tmp_path / "run", **LADDER, val_fraction=0)
        with pytest.raises(RecipeError, match="patience means nothing"):
            fitted(colours(), tmp_path / "run", **LADDER, patience=2)


class TestTheChoice:
    HEAD, TUNED = "1" * 10 + "0" * 30, "0" * 2 + "1" * 30 + "0" * 8

    def test_images_of_one_group_count_for_as_many_as_are_independent(self) -> None:
        alone = transferring.chosen_rung(self.HEAD, self.TUNED)
        each = transferring.chosen_rung(self.HEAD, self.TUNED, np.arange(40))
        grouped = transferring.chosen_rung(self.HEAD, self.TUNED, np.arange(40) // 10)
        assert alone.is_tuned
        assert each.is_tuned
        assert not grouped.is_tuned
        low, high = grouped.document["interval"]
        assert low < 0 < grouped.document["difference"] == 0.5 < high
        assert (alone.document["groups"], grouped.document["groups"]) == (None, 4)
        assert "of 40 validation images of 4 groups the head" in grouped.sentence

    def test_one_group_says_nothing(self) -> None:
        found = transferring.chosen_rung("0" * 40, "1" * 40, np.zeros(40, np.int64))
        assert not found.is_tuned
        assert found.document["interval"] == [-1.0, 1.0]
        assert "of 1 group the head" in found.sentence

    def test_a_run_counts_its_groups(self, tmp_path: Path) -> None:
        data = colours(COUNT)
        groups = tuple(f"shelf {number // 6}" for number in range(COUNT))
        data = Dataset(data.images, data.labels, data.classes, groups=groups)
        run = fitted(data, tmp_path / "run", **LADDER | {"epochs": 1}, report=True)
        found = run.folder.transfer()
        names = {groups[index] for index in run.split().val}
        assert found["groups"] == len(names)
        assert json.loads((run.path / "report.json").read_text())["transfer"] == found
        sentence = found["sentence"]
        page = html.unescape((run.path / "report.html").read_text())
        assert sentence[1:] in page

    def test_show_says_it(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run = fitted(colours(COUNT), tmp_path / "run", **LADDER | {"epochs": 1})
        assert command_line(["show", str(run.path)]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert run.folder.transfer()["sentence"] in shown


class TestWhenItIsClimbed:
    def test_with_enough_images_and_nothing_else_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transferring, "ENOUGH_TO_FINETUNE", 40)
        run = fitted(colours(), tmp_path / "run", model=NAME)
        assert run.recipe.training.transfer == "ladder"
        assert run.recipe.training.freeze_norms
        assert 0 < run.recipe.training.lr <= 1e-4
        assert len(run.history) == run.recipe.training.epochs + 1

    @pytest.mark.parametrize("settings", [{}, {"transfer": "features"}, {"val_fraction": 0.0}])
    def test_not_otherwise(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
    ) -> None:
        if settings:
            monkeypatch.setattr(transferring, "ENOUGH_TO_FINETUNE", 10)
        said: list[Event] = []
        run = fitted(colours(), tmp_path / "run", model=NAME, **settings, on_event=said.append)
        assert run.recipe.training.transfer == "features"
        notes = [event.text for event in said if isinstance(event, Note)]
        assert any("not tried" in text for text in notes) == ("transfer" not in settings)
