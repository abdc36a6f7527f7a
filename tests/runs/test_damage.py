"""A damaged run is read as far as it can be, and says so; what cannot be is one sentence."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sartor
from sartor import api
from sartor.data.splits.split import Split
from sartor.events import CheckpointDue, EpochDone, Event
from sartor.runs.folder import RunFolder
from sartor.training.state import Checkpoint

VERBS = ("show", "resume", "evaluate")


@pytest.fixture(scope="module")
def half_trained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run `trained`, interrupted in its third epoch: two checkpoints, one best."""

    def interrupt(event: Event) -> None:
        if isinstance(event, EpochDone) and event.row["epoch"] == 2:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path_factory.mktemp("half") / "run"
    with pytest.raises(sartor.Interrupted):
        sartor.fit(recipe=trained / "recipe.toml", out=out, on_event=interrupt)
    return out


@pytest.fixture
def stopped(half_trained: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(half_trained, tmp_path / "stopped"))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def flip_the_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)


def change_the_progress(path: Path) -> None:
    # JSON within JSON: how often its quotes are escaped does not matter here.
    def one_more(found: re.Match[bytes]) -> bytes:
        return found[1] + str(int(found[2]) + 1).encode()

    content, changes = re.subn(rb'([^_]step\\+": )(\d+)\b', one_more, path.read_bytes(), count=1)
    assert changes == 1
    path.write_bytes(content)


DAMAGES = [cut_in_half, empty, flip_a_weight, flip_the_header, change_the_progress]


def checkpoint(run: Path, name: str) -> Path:
    return run / "checkpoints" / f"{name}.safetensors"


class TestCheckpoints:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_the_one_before_is_used_and_the_end_is_the_same(
        self, damage: Callable[[Path], None], stopped: Path, trained: Path, command: Any
    ) -> None:
        damage(checkpoint(stopped, "last"))
        answer = command("resume", stopped, "--json")
        assert f"warning: {checkpoint(stopped, 'last')} is damaged: " in answer.err
        assert "previous.safetensors is used instead." in answer.err
        expected = sartor.Run.open(trained)
        assert answer.document["weights_sha256"] == expected.weights_sha256
        assert evaluated(stopped, command) == evaluated(trained, command)

    def test_the_one_before_is_used_where_the_last_is_gone(
        self, stopped: Path, trained: Path, command: Any
    ) -> None:
        checkpoint(stopped, "last").unlink()
        answer = command("resume", stopped, "--json")
        assert answer.document["weights_sha256"] == sartor.Run.open(trained).weights_sha256

    def test_without_any_checkpoint_it_begins_again(
        self, stopped: Path, trained: Path, command: Any
    ) -> None:
        shutil.rmtree(stopped / "checkpoints")
        assert "has no checkpoint yet" in command("evaluate", stopped).err
        answer = command("resume", stopped, "--json")
        assert answer.document["weights_sha256"] == sartor.Run.open(trained).weights_sha256
        assert len(RunFolder(stopped).history()) == 3

    def test_both_damaged_is_one_sentence(self, stopped: Path, command: Any) -> None:
        for name in ("last", "previous"):
            cut_in_half(checkpoint(stopped, name))
        before = {path: path.read_bytes() for path in stopped.rglob("*.*") if path.is_file()}
        answer = command("resume", stopped)
        assert (answer.exit_code, answer.out) == (1, "")
        assert str(checkpoint(stopped, "last")) in answer.err
        assert str(checkpoint(stopped, "previous")) in answer.err
        assert "No older checkpoint is whole: train again." in answer.err
        assert before == {path: path.read_bytes() for path in before}

    @pytest.mark.parametrize("damage", [cut_in_half, flip_a_weight, Path.unlink])
    def test_without_the_best_the_last_is_judged_with_a_warning(
        self, damage: Callable[[Path], None], run_copy: Path, command: Any
    ) -> None:
        damage(checkpoint(run_copy, "best"))
        answer = command("evaluate", run_copy, "--json")
        assert "warning: " in answer.err
        assert "last.safetensors is used instead." in answer.err
        last = command("evaluate", run_copy, "--json", "--checkpoint", "last")
        assert last.err == ""
        # Where the last epoch is the best one, it is called that.
        best = sartor.Run.open(run_copy).best_row
        assert best is not None
        named = dict.fromkeys(
            ("looks", *("checkpoint", "chosen_on_validation") * (best["epoch"] == 3))
        )
        assert answer.document | named == last.document | named

    def test_a_checkpoint_replaced_while_it_is_read(
        self, stopped: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listed = RunFolder(stopped).checkpoints("last")
        checkpoint(stopped, "last").unlink()
        monkeypatch.setattr(RunFolder, "checkpoints", lambda *_: listed)
        with pytest.warns(sartor.SartorWarning, match=r"previous\.safetensors is used instead"):
            assert api.load_checkpoint(RunFolder(stopped), "last").progress.step == 0

    def test_a_damaged_last_and_a_death_while_it_is_replaced(
        self, stopped: Path, trained: Path
    ) -> None:
        """Then `previous` is the damaged one, and the whole one is still called `new`."""
        folder = stopped / "checkpoints"
        shutil.copy(folder / "last.safetensors", folder / "new.safetensors")
        cut_in_half(folder / "last.safetensors")
        (folder / "last.safetensors").replace(folder / "previous.safetensors")
        assert sartor.evaluate(stopped, checkpoint="last").count == 359
        run = sartor.resume(stopped)
        assert run.weights_sha256 == sartor.Run.open(trained).weights_sha256
        assert not (folder / "new.safetensors").exists()

    @pytest.mark.parametrize("damage", DAMAGES[:2])
    def test_a_training_does_not_go_on_to_another_end(
        self, damage: Callable[[Path], None], stopped: Path, trained: Path, command: Any
    ) -> None:
        best = checkpoint(stopped, "best")
        damage(best)
        answer = command("resume", stopped)
        assert (answer.exit_code, answer.out) == (1, "")
        assert f"{best} is damaged" in answer.err
        assert f"again for the same result: sartor fit --recipe {stopped}/recipe.toml" in answer.err
        best.unlink()
        assert command("resume", stopped).exit_code == 0
        assert sartor.Run.open(stopped).weights_sha256 == sartor.Run.open(trained).weights_sha256

    def test_after_the_next_save_there_are_two_whole_ones(self, stopped: Path) -> None:
        cut_in_half(checkpoint(stopped, "last"))
        kept: list[int] = []

        def look(event: object) -> None:
            if isinstance(event, CheckpointDue):
                # What was saved before this one.
                found = [Checkpoint.from_bytes(path.read_bytes(), "") for path in paths()]
                kept.append(len(found))

        def paths() -> list[Path]:
            return RunFolder(stopped).checkpoints("last")

        with pytest.warns(sartor.SartorWarning, match=r"previous\.safetensors is used instead"):
            sartor.resume(stopped, on_event=look)
        assert set(kept) == {2}


def evaluated(run: Path, command: Any) -> Any:
    """What is said of the test images, but for the count of looks at them."""
    return command("evaluate", run, "--json").document | {"looks": None}


def rewrite_state(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a checkpoint says of the training, with a checksum that is right."""
    from safetensors.torch import load, save

    from sartor.training import state

    content = path.read_bytes()
    tensors = load(content)
    document = json.loads(state._metadata(content)["state"])
    change(document)
    text = json.dumps(document)
    kept = {"state": text, "sha256": state._checksum(tensors, text)}
    path.write_bytes(save(tensors, {"sartor": json.dumps(kept)}))


class TestOtherFiles:
    @pytest.mark.parametrize("content", [None, b"", b"junk", b"PK\x03\x04"])
    def test_split(self, content: bytes | None, run_copy: Path, command: Any) -> None:
        path = run_copy / "split.npz"
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        recipe = (run_copy / "recipe.toml").read_text()
        for words in (["evaluate", run_copy], ["resume", run_copy, "--epochs", 5]):
            answer = command(*words)
            assert (answer.exit_code, answer.out) == (1, "")
            assert "split.npz" in answer.err
            assert "from its recipe.toml" in answer.err
        assert (run_copy / "recipe.toml").read_text() == recipe, "nothing was changed"
        assert command("show", run_copy).exit_code == 0

    def test_recipe_that_is_no_toml(self, run_copy: Path, command: Any) -> None:
        (run_copy / "recipe.toml").write_text("[training\n")
        for verb in VERBS:
            answer = command(verb, run_copy)
            assert (answer.exit_code, answer.out) == (1, "")
            assert f"The recipe of {run_copy} cannot be used" in answer.err

    def test_recipe_of_another_version(self, run_copy: Path, command: Any) -> None:
        path = run_copy / "recipe.toml"
        path.write_text(path.read_text() + "workrs = 3\n")
        for verb in VERBS:
            answer = command(verb, run_copy)
            assert answer.exit_code == 1
            assert 'unknown [training] key "workrs"; did you mean "workers"?' in answer.err
            assert "another version of sartor; its environment.json says which" in answer.err

    def test_format_of_another_version(self, run_copy: Path, command: Any) -> None:
        (run_copy / "status.json").write_text('{"format": 999, "state": "finished"}')
        for verb in VERBS:
            answer = command(verb, run_copy)
            assert answer.exit_code == 1
            assert "has format 999; this version of sartor reads format 1." in answer.err
            assert "environment.json" in answer.err

    @pytest.mark.parametrize("content", [None, b"", b"[]", b"3", b'{"format": 1}', b"{}"])
    def test_status_is_not_needed(
        self, content: bytes | None, run_copy: Path, command: Any
    ) -> None:
        path = run_copy / "status.json"
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        assert command("show", run_copy, "--json").document["status"] == "broken"
        assert command("resume", run_copy, "--json").document["epochs"] == 3
        assert RunFolder(run_copy).status()["state"] == "finished", "it is known again"

    def test_checkpoint_of_a_newer_version(self, run_copy: Path, command: Any) -> None:
        def newer(change: Callable[[dict[str, Any]], object]) -> None:
            for path in (run_copy / "checkpoints").iterdir():
                rewrite_state(path, change)

        newer(lambda state: state["progress"].update(momentum_of_mood=1))
        for verb in ("evaluate", "resume"):
            answer = command(verb, run_copy)
            assert answer.exit_code == 1
            assert "comes from a newer version of sartor: it holds momentum_of_mood" in answer.err
        newer(lambda state: state.update(progress=[3]))
        assert "cannot be read" in command("evaluate", run_copy).err
        newer(lambda state: state.update(format=2))
        assert (
            "has the format 2; this version of sartor reads 1." in command("evaluate", run_copy).err
        )

    @pytest.mark.parametrize("torn", [b'{"epoch": 4, "st', b"\x00\x00\x00"])
    def test_a_torn_line_of_history_is_left_out_and_mended(
        self, torn: bytes, stopped: Path, command: Any
    ) -> None:
        path = stopped / "history.jsonl"
        path.write_bytes(path.read_bytes() + torn)
        assert [row["epoch"] for row in command("show", stopped, "--json").document["history"]] == [
            1,
            2,
        ]
        assert command("resume", stopped).exit_code == 0
        assert [json.loads(line)["epoch"] for line in path.read_bytes().splitlines()] == [1, 2, 3]

    def test_lost_history_comes_back_from_the_checkpoint(
        self, stopped: Path, trained: Path, command: Any
    ) -> None:
        (stopped / "history.jsonl").unlink()
        assert command("resume", stopped).exit_code == 0
        losses = [row["train_loss"] for row in RunFolder(stopped).history()]
        assert losses == [row["train_loss"] for row in RunFolder(trained).history()]

    def test_show_tells_what_is_left(self, run_copy: Path, command: Any) -> None:
        shutil.rmtree(run_copy / "checkpoints")
        answer = command("show", run_copy, "--json")
        assert answer.exit_code == 0
        assert "warning: " in answer.err
        assert answer.document["weights_sha256"] is None
        assert len(answer.document["history"]) == 3

    def test_data_that_changed(self, run_copy: Path, digits: sartor.Dataset) -> None:
        images = digits.images.copy()
        images[7, 0, 0, 0] ^= 1
        other = sartor.Dataset(images, digits.labels, digits.classes, name="digits")
        for call in (sartor.evaluate, sartor.resume):
            more = {"epochs": 5} if call is sartor.resume else {}
            with pytest.raises(sartor.SartorError, match=r"is not what .* was trained on"):
                call(run_copy, data=other, **more)  # type: ignore[operator]

    def test_weights_of_another_network(self, run_copy: Path, command: Any) -> None:
        path = run_copy / "recipe.toml"
        path.write_text(path.read_text().replace("120", "121"))
        more = ("--trust",)
        for words in (["evaluate", run_copy, *more], ["resume", run_copy, "--epochs", 4, *more]):
            answer = command(*words)
            assert answer.exit_code == 1
            assert f"The weights in {run_copy} do not fit its model" in answer.err


ODD_VALUES = ["NaN", "Infinity", '"fast"', "[1]", "{}", "true", "1" + "0" * 400]
"""What may stand where a number belongs, if somebody else wrote the file."""


class TestList:
    @pytest.fixture
    def runs(self, trained: Path, tmp_path: Path) -> Path:
        """A folder of runs, all but one broken in their own way."""
        runs = tmp_path / "runs"

        def broken(name: str) -> Path:
            return Path(shutil.copytree(trained, runs / name))

        broken("whole")
        (broken("no-recipe") / "recipe.toml").unlink()
        (broken("no-toml") / "recipe.toml").write_bytes(b"\xff[[[")
        (broken("odd-recipe") / "recipe.toml").write_text('training = 3\n[model]\nmodel = ["x"]')
        (broken("odd-epochs") / "recipe.toml").write_text('[training]\nepochs = "many"')
        (broken("no-status") / "status.json").unlink()
        (broken("odd-status") / "status.json").write_text("[1, 2]")
        (broken("future") / "status.json").write_text('{"format": 999}')
        (broken("torn-history") / "history.jsonl").write_text('{"epoch": 1}\n{"epo')
        (broken("no-history") / "history.jsonl").unlink()
        shutil.rmtree(broken("no-checkpoints") / "checkpoints")
        RunFolder(broken("killed")).write_status("running")
        (broken("nested-recipe") / "recipe.toml").write_text("a = " + "[" * 5_000)
        (broken("long-number") / "recipe.toml").write_text("[training]\nepochs = " + "9" * 5_000)
        for name in ("status.json", "history.jsonl"):
            (broken(f"deep-{name}") / name).write_text("[" * 100_000 + "]" * 100_000)
            (broken(f"fifo-{name}") / name).unlink()
            os.mkfifo(runs / f"fifo-{name}" / name)
        (broken("odd-state") / "status.json").write_text('{"format": 1, "state": {"a": NaN}}')
        row = json.loads((trained / "history.jsonl").read_text().splitlines()[0])
        for number, odd in enumerate(ODD_VALUES):
            for column in ("seconds", "train_accuracy", "val_accuracy"):
                path = broken(f"odd-{column}-{number}") / "history.jsonl"
                path.write_text(json.dumps(row | {column: "X"}).replace('"X"', odd) + "\n")
        (runs / "empty").mkdir()
        (runs / "a-file").touch()
        return runs

    def test_tolerates_everything(self, runs: Path, command: Any) -> None:
        answer = command("runs", runs, "--json")
        assert answer.exit_code == 0
        states = {run["name"]: run["state"] for run in answer.document}
        odd = {name for name in states if re.fullmatch(r"odd-.*-\d", name)}
        assert len(odd) == 3 * len(ODD_VALUES)
        assert {states.pop(name) for name in odd} == {"finished"}
        assert states == {
            "whole": "finished",
            "no-recipe": "broken",
            "no-toml": "broken",
            "odd-recipe": "finished",
            "odd-epochs": "finished",
            "no-status": "broken",
            "odd-status": "broken",
            "future": "other version",
            "torn-history": "finished",
            "no-history": "finished",
            "no-checkpoints": "finished",
            "killed": "killed",
            "nested-recipe": "broken",
            "long-number": "broken",
            "deep-status.json": "broken",
            "fifo-status.json": "broken",
            "deep-history.jsonl": "finished",
            "fifo-history.jsonl": "finished",
            "odd-state": "broken",
            "empty": "broken",
        }
        table = command("runs", runs)
        assert table.exit_code == 0
        assert all(name in table.out for name in states)
        assert max(map(len, table.out.splitlines())) <= 80

    def test_is_instant(self, runs: Path) -> None:
        code = (
            "import sys; from sartor.cli.main import run; code = run(['runs', sys.argv[1]]);"
            "sys.exit(code or (7 if {'torch', 'numpy'} & set(sys.modules) else 0))"
        )
        answer = subprocess.run([sys.executable, "-c", code, str(runs)], capture_output=True)
        assert answer.returncode == 0, answer.stderr

    @pytest.mark.parametrize("verb", VERBS)
    def test_other_verbs_answer_with_a_sentence(self, verb: str, runs: Path, command: Any) -> None:
        for folder in sorted(runs.iterdir()):
            answer = command(verb, folder)
            assert answer.exit_code in (0, 1), (folder, answer)
            if answer.exit_code:
                assert answer.err.startswith("sartor: "), (folder, answer)
                assert len(answer.err.strip().splitlines()) == 2, "what is wrong, what to do"


def test_the_split_of_a_run_is_the_one_it_was_trained_with(trained: Path) -> None:
    split = sartor.Run.open(trained).split()
    content = (trained / "split.npz").read_bytes()
    assert all(np.array_equal(split.part(n), Split.from_bytes(content).part(n)) for n in ("train",))
