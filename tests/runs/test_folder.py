"""One run's folder: never overwritten, held by one process, checkpoints in the right order."""

from __future__ import annotations

import copy
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sartor.errors import FileError, RunError
from sartor.events import CheckpointDue, EpochDone
from sartor.runs import environment as environment_module
from sartor.runs.environment import describe_environment, differences, exact_processor, processor
from sartor.runs.folder import RunFolder, create_run
from sartor.runs.place import Place
from sartor.runs.sinks import Recorder


class TestCreateRun:
    def test_counts_up_and_never_reuses(self, tmp_path: Path) -> None:
        runs = tmp_path / "runs"
        made = [create_run(None, "digits-lenet", runs).name for _ in range(3)]
        assert made == ["digits-lenet-1", "digits-lenet-2", "digits-lenet-3"]
        (runs / "digits-lenet-1").rmdir()
        (runs / "digits-lenet-10").mkdir()
        (runs / "digits-lenet-old").mkdir()
        (runs / "digits-lenet-99-copy").mkdir()
        assert create_run(None, "digits-lenet", runs).name == "digits-lenet-11"
        assert create_run(None, "digits-mlp", runs).name == "digits-mlp-1"

    def test_many_at_once_get_folders_of_their_own(self, tmp_path: Path) -> None:
        made: list[str] = []
        threads = [
            threading.Thread(target=lambda: made.append(create_run(None, "x", tmp_path).name))
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(made)) == 16

    @pytest.mark.parametrize(
        ("stem", "name"),
        [
            ("../../esc", "esc-1"),
            ("/etc/x", "etc-x-1"),
            ("a/../../b", "a-..-..-b-1"),
            ("C:\\x", "C--x-1"),
            ("..", "run-1"),
            ("", "run-1"),
            ("a*[b]?", "a--b---1"),
            ("\x1b[31mred\n", "31mred--1"),
            ("\u202eevil", "evil-1"),
            ("x" * 300, "x" * 60 + "-1"),
            ("my data", "my data-1"),
            ("Bücher", "Bücher-1"),
        ],
    )
    def test_no_name_leads_out_of_the_folder(self, stem: str, name: str, tmp_path: Path) -> None:
        runs = tmp_path / "a" / "b" / "runs"
        assert create_run(None, stem, runs).path == runs / name
        assert [path.name for path in runs.iterdir()] == [name]
        assert create_run(None, stem, runs).name == f"{name[:-2]}-2"

    def test_out_is_exactly_that_folder(self, tmp_path: Path) -> None:
        out = tmp_path / "a" / "b" / "c"
        assert create_run(out, "x", tmp_path).path == out
        assert create_run(out, "x", tmp_path).path == out, "still empty"

    @pytest.mark.parametrize("name", ["recipe.toml", ".hidden", "folder/"])
    def test_out_that_holds_anything_is_refused(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "out" / name
        path.parent.mkdir()
        path.mkdir() if name.endswith("/") else path.touch()
        with pytest.raises(RunError, match=r"is not empty; runs are never overwritten"):
            create_run(tmp_path / "out", "x", tmp_path)

    def test_a_lock_alone_is_no_content(self, tmp_path: Path) -> None:
        with RunFolder(tmp_path).locked():
            pass
        create_run(tmp_path, "x", tmp_path)

    def test_what_a_fit_leaves_that_dies_before_its_recipe_is_no_content(
        self, tmp_path: Path
    ) -> None:
        folder = create_run(tmp_path / "run", "x", tmp_path)
        for name in (".lock", ".lock.json", "..lock.json.abcd.tmp", ".status.json.abcd.tmp"):
            (folder.path / name).touch()
            create_run(folder.path, "x", tmp_path)
        folder.begin()
        names = ("findings.json", "source.txt", "split.npz", "model.py", "input_ranges.json")
        for name in (*names, ".split.npz.abcd.tmp"):
            (folder.path / name).write_text("left")
            create_run(folder.path, "x", tmp_path)
        folder.write_status("running")
        create_run(folder.path, "x", tmp_path).begin()
        assert {path.name for path in folder.path.iterdir()} == {
            *(".lock", ".lock.json"),
            "status.json",
        }

    @pytest.mark.parametrize("name", ["recipe.toml", "mine.txt", "checkpoints", "report.html"])
    def test_but_anything_else_beside_it_is(self, name: str, tmp_path: Path) -> None:
        RunFolder(tmp_path).begin()
        (tmp_path / name).touch()
        with pytest.raises(RunError, match="is not empty"):
            create_run(tmp_path, "x", tmp_path)

    def test_a_status_is_written_where_it_is_another_one(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        written = []
        for state, report in (("running", "due"), ("running", "due"), ("running", "made")):
            folder.write_status(state, report=report)
            assert folder.status_document()["report"] == report
            written.append((tmp_path / "status.json").stat().st_ino)
        assert written[0] == written[1] != written[2]

    @pytest.mark.parametrize("status", [None, '{"state": "finished"}', "[]", "junk"])
    def test_and_files_that_no_fit_began(self, status: str | None, tmp_path: Path) -> None:
        (tmp_path / "model.py").write_text("mine")
        if status is not None:
            (tmp_path / "status.json").write_text(status)
        with pytest.raises(RunError, match="is not empty"):
            create_run(tmp_path, "x", tmp_path)

    def test_out_that_is_a_file_or_below_one(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/no/run")):
            with pytest.raises(FileError, match="Cannot create the folder") as caught:
                create_run(out, "x", tmp_path)
            assert caught.value.hint


class TestLock:
    def test_holds_until_released(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        assert not folder.is_locked()
        second = RunFolder(tmp_path).locked()
        with folder.locked():
            assert folder.is_locked()
            with pytest.raises(RunError, match=f"Another process is training {tmp_path}"):
                second.__enter__()
        assert not folder.is_locked()

    def test_is_released_after_a_fault(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), RunFolder(tmp_path).locked():
            print(1 // 0)  # noqa: T201
        assert not RunFolder(tmp_path).is_locked()

    def test_who_only_looks_does_not_get_in_the_way(self, tmp_path: Path) -> None:
        """`sartor runs`, again and again, while others want to train."""
        with RunFolder(tmp_path).locked():
            pass
        end = time.monotonic() + 0.3
        looking = threading.Thread(
            target=lambda: [
                RunFolder(tmp_path).is_locked() for _ in iter(lambda: time.monotonic() < end, False)
            ]
        )
        looking.start()
        while time.monotonic() < end:
            with RunFolder(tmp_path).locked():
                pass
        looking.join()

    def test_looking_at_a_lock_that_is_a_link_creates_and_empties_nothing(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "mine").write_text("precious")
        (tmp_path / ".lock").symlink_to(tmp_path / "mine")
        assert not RunFolder(tmp_path).is_locked()
        assert (tmp_path / "mine").read_text() == "precious"

    def test_where_no_lock_can_be(self, tmp_path: Path) -> None:
        assert not RunFolder(tmp_path / "gone").is_locked()
        (tmp_path / "file").touch()
        with pytest.raises(FileError, match="Cannot lock the run"):
            RunFolder(tmp_path / "file").locked().__enter__()


class TestStatus:
    def test_running_without_a_lock_was_killed(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        folder.write_status("running")
        assert folder.status()["state"] == "killed"
        with folder.locked():
            assert folder.status()["state"] == "running"

    def test_keeps_what_goes_with_it(self, tmp_path: Path) -> None:
        RunFolder(tmp_path).write_status("failed", reason="the disk is full")
        assert RunFolder(tmp_path).status() == {
            "format": 1,
            "state": "failed",
            "reason": "the disk is full",
        }


class Kept:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def to_bytes(self, _sealed: object = None) -> bytes:
        return self.content


class TestCheckpoints:
    def test_last_and_the_one_before_and_the_best(self, tmp_path: Path) -> None:
        record, folder = Recorder(Place(RunFolder(tmp_path), None)), RunFolder(tmp_path)
        assert folder.checkpoints("last") == folder.checkpoints("best") == []
        record(CheckpointDue(last=Kept(b"1"), best=None))
        assert [path.read_bytes() for path in folder.checkpoints("best")] == [b"1"]
        record(CheckpointDue(last=Kept(b"2"), best=Kept(b"best")))
        record(CheckpointDue(last=Kept(b"3"), best=None))
        assert [path.read_bytes() for path in folder.checkpoints("last")] == [b"3", b"2"]
        assert [path.read_bytes() for path in folder.checkpoints("best")] == [b"best", b"3", b"2"]

    def test_the_best_is_on_disk_before_the_last_knows_of_it(self, tmp_path: Path) -> None:
        class Dies(Kept):
            def to_bytes(self, _sealed: object = None) -> bytes:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            Recorder(Place(RunFolder(tmp_path), None))(
                CheckpointDue(last=Dies(b""), best=Kept(b"best"))
            )
        assert (tmp_path / "checkpoints" / "best.safetensors").read_bytes() == b"best"

    def test_settle_ends_what_was_half_done(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        folder.settle()
        folder.save_checkpoint(b"1")
        checkpoints = tmp_path / "checkpoints"
        (checkpoints / "last.safetensors").rename(checkpoints / "previous.safetensors")
        (checkpoints / "new.safetensors").write_bytes(b"2")
        (checkpoints / ".new.safetensors.abc.tmp").write_bytes(b"ha")
        for name in (".status.json.abc.tmp", "predictions/.val.npz.abc.tmp"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"ha")
        folder.settle()
        assert not list(tmp_path.rglob("*.tmp"))
        assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == {
            "last.safetensors": b"2",
            "previous.safetensors": b"1",
        }

    def test_checkpoints_that_are_a_link_are_not_followed(self, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / ".new.safetensors.abc.tmp").touch()
        (elsewhere / "new.safetensors").touch()
        run = RunFolder(tmp_path / "run")
        run.path.mkdir()
        (run.path / "checkpoints").symlink_to(elsewhere)
        with pytest.raises(RunError, match="There is no run at"):
            RunFolder(tmp_path / "gone").made_folder("predictions")
        assert not (tmp_path / "gone").exists()
        for write in (run.settle, lambda: run.save_checkpoint(b"1"), lambda: run.save_best(b"1")):
            with pytest.raises(RunError, match=f"is a link to {elsewhere}"):
                write()
        names = {path.name for path in elsewhere.iterdir()}
        assert names == {".new.safetensors.abc.tmp", "new.safetensors"}


def test_recorder_writes_rows(tmp_path: Path) -> None:
    names = ["epoch", "step", "seconds", "learning_rate", "images_per_second"]
    names += ["train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    row = {**dict.fromkeys(names, 0.5), "epoch": 1, "step": 3}
    record = Recorder(Place(RunFolder(tmp_path), None))
    record(EpochDone(row=row, best=True))
    record(EpochDone(row=row, best=False))
    assert RunFolder(tmp_path).history() == [row, row]
    RunFolder(tmp_path).history_path.write_text(json.dumps(row) + '\n{"epoch": 2}\n')
    assert RunFolder(tmp_path).history() == [row], "a row lacks columns"


def test_environment_is_json_and_names_versions() -> None:
    environment = json.loads(json.dumps(describe_environment()))
    assert environment["packages"]["torch"]
    assert environment["python"].startswith("3.")
    assert environment["cores"] >= 1
    assert environment["commit"] is None or len(environment["commit"]) == 40


def test_processors_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exact_processor().startswith(processor())
    facts = {"model name": "Abacus", "cpu family": "25", "model": "17"}
    monkeypatch.setattr(environment_module, "_cpuinfo", lambda: facts)
    assert (processor(), exact_processor()) == ("Abacus", "Abacus (cpu family 25, model 17)")
    monkeypatch.setattr(environment_module, "_cpuinfo", dict)
    assert exact_processor() == processor() != ""


class TestPlace:
    def test_a_folder_is_found_where_it_was_moved(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "runs" / "old").mkdir(parents=True)
        (tmp_path / "archive").mkdir()
        for before in (Path("runs/old"), tmp_path / "runs" / "old"):
            with Place.of(RunFolder(before)) as place:
                assert place.now().path == before
                before.rename(tmp_path / "archive" / "new")
                before.mkdir()  # of the same name, but another one
                expected = Path("archive/new")
                assert place.now().path == (
                    tmp_path / expected if before.is_absolute() else expected
                )
                before.rmdir()
                (tmp_path / "archive" / "new").rename(before)
                assert place.now().path == before

    def test_what_is_recorded_goes_where_the_folder_is(self, tmp_path: Path) -> None:
        old, new = RunFolder(tmp_path / "old"), RunFolder(tmp_path / "new")
        old.path.mkdir()
        with Place.of(old) as place:
            record = Recorder(place)
            record(CheckpointDue(last=Kept(b"1"), best=None))
            old.path.rename(new.path)
            record(CheckpointDue(last=Kept(b"2"), best=Kept(b"best")))
        assert not old.path.exists()
        assert [path.read_bytes() for path in new.checkpoints("best")] == [b"best", b"2", b"1"]

    def test_moved_while_it_is_written(self, tmp_path: Path) -> None:
        old, new = RunFolder(tmp_path / "old"), RunFolder(tmp_path / "new")
        old.path.mkdir()

        class Moves(Kept):
            def to_bytes(self, _sealed: object = None) -> bytes:
                if old.path.exists():
                    old.path.rename(new.path)
                return self.content

        with Place.of(old) as place:
            Recorder(place)(CheckpointDue(last=Moves(b"1"), best=None))
        assert not old.path.exists()
        assert [path.read_bytes() for path in new.checkpoints("last")] == [b"1"]

    def test_a_folder_that_was_deleted_is_not_made_again(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "run")
        folder.path.mkdir()
        with Place.of(folder) as place:
            folder.path.rmdir()
            for look in (
                place.now,
                lambda: Recorder(place)(CheckpointDue(last=Kept(b""), best=None)),
            ):
                with pytest.raises(RunError, match="was deleted or moved to another disk"):
                    look()
        assert not folder.path.exists()


class TestTwoGoodOnes:
    """What a damaged checkpoint must not do: take the place of a whole one."""

    def test_what_is_damaged_is_set_aside(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        for content in (b"1", b"2"):
            folder.save_checkpoint(content)
        last, previous = folder.checkpoints("last")
        folder.go_on_from(previous)
        assert [path.read_bytes() for path in folder.checkpoints("last")] == [b"1"]
        folder.save_checkpoint(b"3")
        assert [path.read_bytes() for path in folder.checkpoints("last")] == [b"3", b"1"]
        assert last.with_name("last.safetensors.damaged").read_bytes() == b"2"

    def test_where_the_newest_is_whole_nothing_moves(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        for content in (b"1", b"2"):
            folder.save_checkpoint(content)
        before = folder.checkpoints("last")
        folder.go_on_from(before[0])
        assert [path.read_bytes() for path in folder.checkpoints("last")] == [b"2", b"1"]


class TestEnvironments:
    def test_what_may_change_bits_is_named(self) -> None:
        here = describe_environment()
        assert differences(here, json.loads(json.dumps(here))) == []
        there = copy.deepcopy(here)
        there["packages"] |= {"torch": "2.0.0", "pillow": "1.0", "safetensors": None}
        there["processor"], there["cores"], there["platform"] = "Z80", 1, "CP/M"
        there["python"] = "3.99.1"
        there["arithmetic"] |= {"instructions": "none", "variables": {"MKL_CBWR": "AVX2"}}
        assert differences(there, here) == [
            f"torch {here['packages']['torch']} (was 2.0.0)",
            f"Python {'.'.join(here['python'].split('.')[:2])} (was 3.99)",
            f"processor {here['processor']} (was Z80)",
            f"instructions {here['arithmetic']['instructions']} (was none)",
            "MKL_CBWR none (was AVX2)",
        ]

    @pytest.mark.parametrize("then", [{}, {"packages": 3, "python": None, "arithmetic": []}])
    def test_what_was_not_written_down_is_not_compared(self, then: dict[str, Any]) -> None:
        assert differences(then, describe_environment()) == []
