"""What is looked at before the first step and while a run is trained: its disk, machine, folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.api import finishing, running
from sartor.data.dataset import Dataset
from sartor.errors import FileError, RunError
from sartor.events import Event, Note, StepDone
from sartor.runs.folder import RunFolder

SMALL: dict[str, Any] = {
    "model": "mlp",
    "model_kwargs": {"hidden": (16,)},
    "batch_size": 300,
    "threads": 1,
    "report": False,
}


class TestDiskSpace:
    def test_a_disk_too_small_for_the_checkpoints_is_refused_before_anything_is_written(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Path] = []

        def free(folder: Path) -> int:
            asked.append(folder)
            return 9_000

        monkeypatch.setattr(running, "free_bytes", free)
        out = tmp_path / "a" / "run"
        with pytest.raises(sartor.SartorError) as caught:
            sartor.fit(digits, out=out, **SMALL)
        # 64 * 16 + 16 + 16 * 10 + 10 weights, two averages of each, four counts; three times that,
        # and twice the weights.
        wanted = 4 * (3 * (3 * 1210 + 4) + 2 * 1210)
        assert caught.value.message == (
            f"Checkpoints in {out} take up to {wanted / 1e6:.1f} MB; its disk has 0.0 MB left."
        )
        assert "--out" in caught.value.hint
        assert asked == [tmp_path]
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setattr(running, "free_bytes", lambda _: wanted)
        sartor.fit(digits, out=out, epochs=1, **SMALL)

    def test_what_is_there_already_is_replaced_and_needs_no_room(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = sartor.fit(digits, out=tmp_path / "run", epochs=1, **SMALL)
        there = sum(path.stat().st_size for path in (run.path / "checkpoints").iterdir())
        wanted = 4 * (3 * (3 * 1210 + 4) + 2 * 1210) - there
        monkeypatch.setattr(running, "free_bytes", lambda _: wanted - 1)
        with pytest.raises(FileError, match="Checkpoints in"):
            sartor.resume(run, epochs=2, report=False)
        monkeypatch.setattr(running, "free_bytes", lambda _: wanted)
        assert len(sartor.resume(run, epochs=2, report=False).history) == 2


class TestEnvironment:
    def test_what_may_change_bits_is_said_and_kept(self, run_copy: Path, command: Any) -> None:
        path = run_copy / "environment.json"
        was = json.loads(path.read_text())
        other = was | {"processor": "another one", "cores": 99, "changes": "nonsense"}
        path.write_text(json.dumps(other))
        for epochs in (4, 5):
            answer = command("resume", run_copy, "--epochs", epochs, "--json")
            assert answer.exit_code == 0
            said = "something has changed that results may depend on in their last digits"
            assert (said in answer.err) == (epochs == 4), "the same machine as the last time"
        now = json.loads(path.read_text())
        sentence = f"processor {was['processor']} (was another one)"
        assert now["changes"] == [{"step": 63, "differences": [sentence]}]
        assert now["processor"] == "another one"
        assert now["now"]["processor"] == was["processor"]

    @pytest.mark.parametrize("content", ["", "[]", '{"now": 3}', '{"packages": {"torch": []}}'])
    def test_of_a_damaged_one_nothing_is_known(
        self, content: str, run_copy: Path, command: Any
    ) -> None:
        (run_copy / "environment.json").write_text(content)
        assert command("resume", run_copy, "--epochs", 4).exit_code == 0


class TestMovedWhileItTrains:
    def test_it_goes_on_where_the_folder_is(self, digits: Dataset, tmp_path: Path) -> None:
        settings = SMALL | {"epochs": 3, "checkpoint_seconds": 0}
        expected = sartor.fit(digits, out=tmp_path / "still", **settings)
        said: list[str] = []

        def move(event: Event) -> None:
            if isinstance(event, StepDone) and not (tmp_path / "new").exists():
                (tmp_path / "old").rename(tmp_path / "new")
            if isinstance(event, Note):
                said.append(event.text)

        settings["report"] = True
        run = sartor.fit(digits, out=tmp_path / "old", on_event=move, **settings)
        assert run.path == tmp_path / "new"
        assert not (tmp_path / "old").exists()
        assert f"{tmp_path / 'old'} was moved: the run is in {run.path}" in said
        assert run.weights_sha256 == expected.weights_sha256
        assert RunFolder(run.path).status()["state"] == "finished"
        assert (run.path / "report.html").is_file()

    # The first try says what it misses; the second is made where the run is.
    @pytest.mark.filterwarnings("ignore:The report could not be made")
    @pytest.mark.filterwarnings("ignore:The calibration is not kept")
    @pytest.mark.parametrize("what", ["calibrate", "make_report"])
    def test_moved_while_it_is_judged(
        self, what: str, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        judge = getattr(finishing, what)

        def move(run: Any) -> None:
            if (tmp_path / "old").exists():
                (tmp_path / "old").rename(tmp_path / "new")
            judge(run)

        monkeypatch.setattr(finishing, what, move)
        settings = SMALL | {"epochs": 1, "report": True}
        run = sartor.fit(digits, out=tmp_path / "old", **settings)
        assert [path.name for path in tmp_path.iterdir()] == ["new"]
        assert run.path == tmp_path / "new"
        assert (run.path / "calibration" / "best.safetensors").is_file()
        assert (run.path / "report.html").is_file()
        assert run.result()["epochs"] == 1

    def test_a_folder_that_is_deleted_ends_the_training(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        def delete(event: Event) -> None:
            if isinstance(event, StepDone):
                shutil.rmtree(tmp_path / "run", ignore_errors=True)

        settings = SMALL | {"epochs": 3, "checkpoint_seconds": 0}
        with pytest.raises(RunError, match="was deleted or moved to another disk"):
            sartor.fit(digits, out=tmp_path / "run", on_event=delete, **settings)
        assert list(tmp_path.iterdir()) == []
