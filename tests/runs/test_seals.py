"""What was changed in a run's files is named; a changed recipe is used only for who vouches."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.api import resuming
from sartor.errors import RunError
from sartor.events import EpochDone, Event
from sartor.runs.folder import RunFolder
from sartor.runs.seals import differences
from sartor.training.state import Checkpoint


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def sentences(run: Path) -> list[str]:
    return differences(RunFolder(run)).sentences(run / "recipe.toml")


def test_a_run_that_nobody_touched_differs_in_nothing(trained: Path, command: Any) -> None:
    assert sentences(trained) == []
    assert command("show", trained).err == ""


def test_keys_of_a_newer_version_are_named(run_copy: Path, command: Any) -> None:
    path = run_copy / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"paused_at": 3}))
    answer = command("evaluate", run_copy)
    assert answer.exit_code == 0
    assert "status.json holds paused_at, which this version of sartor does not know" in answer.err


def verbs(run: Path, picture: Path, other: Path) -> list[list[Any]]:
    return [
        ["evaluate", run],
        ["predict", run, picture],
        ["report", run],
        ["trace", run],
        ["summary", run],
        ["compare", run, other],
        ["resume", run, "--epochs", 4],
    ]


class TestTheRecipe:
    @pytest.fixture
    def edited(self, run_copy: Path) -> Path:
        """A changed standard deviation changes predictions, and nothing else would tell."""
        std = sartor.Run.open(run_copy).recipe.preprocess.std
        edit(run_copy / "recipe.toml", f"std = [{std[0]}]", "std = [0.9]")
        shutil.rmtree(run_copy / "predictions", ignore_errors=True)
        return run_copy

    def test_is_named_and_refused(
        self, edited: Path, trained: Path, picture: Path, command: Any
    ) -> None:
        for words in verbs(edited, picture, trained):
            answer = command(*words)
            assert answer.exit_code == 1, words
            said = f"{edited}/recipe.toml is not what the run was trained with: std [0.9] (was [0."
            assert said in answer.err, words
            assert "--trust" in answer.err
        answer = command("show", edited)
        assert answer.exit_code == 0
        assert "std [0.9] (was" in answer.err

    def test_is_used_if_somebody_vouches_for_it(
        self, edited: Path, trained: Path, picture: Path, command: Any
    ) -> None:
        for words in verbs(edited, picture, trained):
            shutil.rmtree(edited / "predictions", ignore_errors=True)
            answer = command(*words, "--trust")
            assert answer.exit_code == 0, (words, answer.err)
            assert "warning: " in answer.err
            assert "std [0.9] (was" in answer.err
        assert sentences(edited) == [], "what was trained on with it is sealed with it"

    def test_in_python(self, edited: Path) -> None:
        with pytest.raises(RunError, match=r"std \[0.9\]"):
            sartor.evaluate(edited)
        with pytest.warns(sartor.SartorWarning, match=r"std \[0.9\]"):
            sartor.evaluate(edited, trust=True)

    def test_what_is_only_written_differently_is_no_change(self, run_copy: Path) -> None:
        path = run_copy / "recipe.toml"
        path.write_text("# my best run\n" + path.read_text().replace("epochs = 3", "epochs =   3"))
        assert sentences(run_copy) == []

    def test_where_the_data_lies_may_change(self, run_copy: Path, command: Any) -> None:
        edit(run_copy / "recipe.toml", 'workers = "auto"', "workers = 1")
        answer = command("evaluate", run_copy)
        assert answer.exit_code == 0
        assert "warning: " in answer.err
        assert "workers 1 (was auto)" in answer.err

    def test_another_device_by_hand_is_named_and_used(self, run_copy: Path, command: Any) -> None:
        edit(run_copy / "recipe.toml", 'device = "cpu"', 'device = "mps"')
        out = command("evaluate", run_copy, "--device", "cpu")
        assert out.exit_code == 0
        assert "device mps (was cpu)" in out.err

    def test_a_number_of_epochs_by_hand(self, run_copy: Path, command: Any) -> None:
        edit(run_copy / "recipe.toml", "epochs = 3", "epochs = 5")
        answer = command("resume", run_copy)
        assert answer.exit_code == 1
        assert "epochs 5 (was 3)" in answer.err

    def test_an_extension_is_no_change_at_any_moment(
        self, run_copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(resuming, "run_training", die)
            with pytest.raises(ZeroDivisionError):
                sartor.resume(run_copy, epochs=5)
        assert sartor.Run.open(run_copy).recipe.training.epochs == 5
        assert not differences(RunFolder(run_copy)).recipe
        assert sartor.evaluate(run_copy).count == 359
        sartor.resume(run_copy)
        assert sentences(run_copy) == []

    def test_runs_from_before_are_open(self, run_copy: Path) -> None:
        for path in (run_copy / "checkpoints").iterdir():
            path.write_bytes(Checkpoint.from_bytes(path.read_bytes(), "").to_bytes({}))
        edit(run_copy / "recipe.toml", "lr = 0.002", "lr = 0.2")
        assert sentences(run_copy) == []
        assert sartor.evaluate(run_copy).count == 359


class TestOtherFiles:
    def change_history(self, run: Path) -> None:
        path = run / "history.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows[1]["val_accuracy"] = 0.999
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def change_status(self, run: Path) -> None:
        last = run / "checkpoints" / "last.safetensors"
        kept = Checkpoint.from_bytes(last.read_bytes(), "last")
        kept.progress.epoch = 2
        kept.progress.history.pop()
        kept.progress.best_epoch = min(kept.progress.best_epoch, 2)
        last.write_bytes(kept.to_bytes())

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (change_history, "val_accuracy of epoch 2 is 0.999 (was 0."),
            (change_status, "status.json says finished, but the checkpoint has 2 of 3 epochs."),
        ],
    )
    def test_are_named(
        self, change: Callable[[object, Path], None], said: str, run_copy: Path, command: Any
    ) -> None:
        change(self, run_copy)
        for verb in ("show", "evaluate"):
            answer = command(verb, run_copy)
            assert answer.exit_code == 0
            assert said in answer.err
            assert answer.err.count("warning: ") == 1

    def test_the_model_file(self, command: Any) -> None:
        Path("net.py").write_text(
            "from torch import nn\n"
            "def net(num_classes):\n"
            "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
        )
        run = sartor.fit("digits", model="net.py:net", epochs=1, threads=1, report=False).path
        with (run / "model.py").open("a") as file:
            file.write("# mine\n")
        assert command("evaluate", run).exit_code == 1
        answer = command("evaluate", run, "--trust")
        assert answer.exit_code == 0
        assert "model.py is not the file that the run was trained with." in answer.err

    def test_a_training_that_goes_on_is_no_change(self, trained: Path, tmp_path: Path) -> None:
        out, seen = tmp_path / "run", []

        def look(event: Event) -> None:
            seen.append(sentences(out) if (out / "recipe.toml").exists() else [])
            if isinstance(event, EpochDone) and event.row["epoch"] == 2:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(sartor.Interrupted):
            sartor.fit(recipe=trained / "recipe.toml", out=out, report=False, on_event=look)
        sartor.resume(out)
        assert not [one for one in seen if one]
        assert sentences(out) == []


@pytest.fixture
def picture(digits: sartor.Dataset, tmp_path: Path) -> Path:
    from sartor.data.pictures.preprocess import as_picture

    as_picture(digits.images[0]).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"
