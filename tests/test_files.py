"""Writing: whole or not at all, and errors that say what to do."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from sartor import files
from sartor.errors import FileError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestAtomicWrite:
    def test_replaces_what_was_there(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        files.write_bytes(path, b"old")
        files.write_bytes(path, b"new")
        assert contents(tmp_path) == {"file": b"new"}

    @pytest.mark.parametrize("before", [{}, {"file": b"old"}])
    def test_a_fault_while_writing_changes_nothing(
        self, before: dict[str, bytes], tmp_path: Path
    ) -> None:
        for name, content in before.items():
            (tmp_path / name).write_bytes(content)
        with suppress(ZeroDivisionError), files.atomic_write(tmp_path / "file") as stream:
            stream.write(b"half of it")
            stream.write(bytes([1 // 0]))
        assert contents(tmp_path) == before

    def test_readers_see_nothing_before_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"old")
        with files.atomic_write(path) as stream:
            stream.write(b"x" * 1_000_000)
            stream.flush()
            assert path.read_bytes() == b"old"
        assert path.stat().st_size == 1_000_000

    @pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
    def test_a_full_disk(self, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"old")

        def refuse(*_arguments: object, **_options: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, step, refuse)
        with pytest.raises(FileError) as caught:
            files.write_bytes(path, b"new")
        monkeypatch.undo()
        assert caught.value.message == f"Cannot write {path}: no space left on device."
        assert "free some space" in caught.value.hint
        assert caught.value.exit_code == 1
        assert contents(tmp_path) == {"file": b"old"}

    @pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_permissions_follow_the_umask(self, mask: int, mode: int, tmp_path: Path) -> None:
        before = os.umask(mask)
        try:
            files.write_bytes(tmp_path / "file", b"")
            assert os.umask(mask) == mask, "left as it was"
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode

    def test_a_path_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FileError, match="not a directory") as caught:
            files.write_text(tmp_path / "file" / "below", "text")
        assert "choose another folder" in caught.value.hint

    def test_a_folder_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="no such file or directory"):
            files.write_text(tmp_path / "folder" / "file", "text")
        with pytest.raises(FileError, match="Cannot create the folder /proc/"):
            files.make_folder(Path("/proc/sartor/run"))

    def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "kept.tmp").touch()
        (tmp_path / ".hidden").touch()
        (tmp_path / ".file.a1b2c3d4.tmp").write_bytes(b"half")  # and then the process was killed
        assert len(contents(tmp_path)) == 3
        files.remove_temporary(tmp_path)
        assert set(contents(tmp_path)) == {"kept.tmp", ".hidden"}
        files.remove_temporary(tmp_path / "nowhere")


class TestJson:
    def test_round_trip_in_utf_8(self, tmp_path: Path) -> None:
        files.write_json(tmp_path / "file", {"name": "Größe", "rows": [1, None]})
        text = (tmp_path / "file").read_text("utf-8")
        assert json.loads(text) == {"name": "Größe", "rows": [1, None]}
        assert text.endswith("}\n")

    def test_lines_round_trip(self, tmp_path: Path) -> None:
        path, rows = tmp_path / "rows", [{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": None}]
        assert files.read_json_lines(path) == []
        for row in rows:
            files.append_json_line(path, row)
        assert files.read_json_lines(path) == rows
        files.write_json_lines(path, rows[:1])
        assert files.read_json_lines(path) == rows[:1]

    @pytest.mark.parametrize("cut", range(1, 24))
    def test_a_torn_line_is_left_out(self, cut: int, tmp_path: Path) -> None:
        path = tmp_path / "rows"
        files.write_json_lines(path, [{"epoch": 1}, {"epoch": 2}])
        whole = path.read_bytes()
        path.write_bytes(whole[:cut])
        # {"epoch": 1} takes 12 bytes and a line break.
        assert files.read_json_lines(path) == [{"epoch": 1}, {"epoch": 2}][: (cut + 1) // 13]

    @pytest.mark.parametrize("line", [b"\xff\xfe", b"[1]", b"3", b"null", b"\x00" * 20, b"{"])
    def test_reading_ends_at_damage(self, line: bytes, tmp_path: Path) -> None:
        path = tmp_path / "rows"
        path.write_bytes(b'{"epoch": 1}\n' + line + b'\n{"epoch": 3}\n')
        assert files.read_json_lines(path) == [{"epoch": 1}]

    def test_what_cannot_be_read_has_no_rows(self, tmp_path: Path) -> None:
        assert files.read_json_lines(tmp_path) == []

    def test_appending_to_a_full_disk(self) -> None:
        with pytest.raises(FileError, match="Cannot write /dev/full: no space left on device"):
            files.append_json_line(Path("/dev/full"), {"epoch": 1})


class TestReplaceKeepingPrevious:
    def test_what_stood_there_stays_as_previous(self, tmp_path: Path) -> None:
        new, current, previous = (tmp_path / name for name in ("new", "current", "previous"))
        for content in (b"1", b"2", b"3"):
            new.write_bytes(content)
            files.replace_keeping_previous(new, current, previous)
        assert contents(tmp_path) == {"current": b"3", "previous": b"2"}


def test_sha256_of() -> None:
    known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert files.sha256_of(b"") == known
    assert files.sha256_of(memoryview(b"")) == known


def test_an_error_without_a_number_keeps_its_text() -> None:
    with pytest.raises(FileError, match="Cannot look: fileno"), files.explain_os_errors("look"):
        io.BytesIO().fileno()


class TestWhatAKilledProcessLeaves:
    def killed_while_writing(self, path: Path) -> None:
        code = (
            "import os, signal, sys; from pathlib import Path; from sartor import files\n"
            "with files.atomic_write(Path(sys.argv[1])) as stream:\n"
            "    stream.write(b'half'); stream.flush()\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        subprocess.run([sys.executable, "-c", code, str(path)], check=False)

    def test_is_removed_at_any_depth(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        for path in (tmp_path / "file", tmp_path / "a" / "b" / "file"):
            self.killed_while_writing(path)
        (tmp_path / "mine.tmp").touch()
        assert len(list(tmp_path.rglob(".file.*.tmp"))) == 2
        files.remove_temporary(tmp_path)
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.tmp"]

    def test_what_is_being_written_stays(self, tmp_path: Path) -> None:
        with files.atomic_write(tmp_path / "file") as stream:
            stream.write(b"whole")
            files.remove_temporary(tmp_path)
            code = (
                "import sys; from pathlib import Path; from sartor import files\n"
                "files.remove_temporary(Path(sys.argv[1]))"
            )
            subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        assert contents(tmp_path) == {"file": b"whole"}

    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / ".file.abc.tmp").touch()
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "run" / ".link.tmp").symlink_to(tmp_path / "elsewhere" / ".file.abc.tmp")
        files.remove_temporary(tmp_path / "run")
        assert (tmp_path / "elsewhere" / ".file.abc.tmp").exists()

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        files.remove_temporary(tmp_path / "nowhere")

    def test_a_private_file(self, tmp_path: Path) -> None:
        files.write_bytes(tmp_path / "key", b"secret", private=True)
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


class TestSync:
    """What has to be on the disk is flushed, its name in its folder too."""

    @pytest.fixture
    def flushed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The names of what is flushed, in order."""
        names: list[str] = []

        def note(handle: int) -> None:
            names.append(Path(f"/proc/self/fd/{handle}").readlink().name)

        monkeypatch.setattr(os, "fsync", note)
        return names

    def test_a_file_and_its_folder(self, tmp_path: Path, flushed: list[str]) -> None:
        (tmp_path / "rows").touch()
        files.sync(tmp_path / "rows")
        assert flushed == ["rows", tmp_path.name]

    def test_a_folder_and_its_own(self, tmp_path: Path, flushed: list[str]) -> None:
        (tmp_path / "run").mkdir()
        files.sync(tmp_path / "run")
        assert flushed == ["run", tmp_path.name]

    def test_names_of_several_files_at_once(self, tmp_path: Path, flushed: list[str]) -> None:
        folder, other = tmp_path / "run", tmp_path / "other"
        folder.mkdir()
        other.mkdir()
        with files.names_flushed_together(folder):
            files.write_text(folder / "a", "text")
            files.write_text(folder / "b", "text")
            files.write_text(other / "c", "text")
        named = [name.split(".")[1] if name.startswith(".") else name for name in flushed]
        assert named == ["a", "b", "c", "other", "run"]
        files.write_text(folder / "d", "text")
        assert flushed[-1] == "run"

    def test_not_what_need_not_last(self, tmp_path: Path, flushed: list[str]) -> None:
        files.write_json(tmp_path / "holder", {}, durable=False)
        assert flushed == []

    def test_what_is_not_there(self, tmp_path: Path, flushed: list[str]) -> None:
        files.sync(tmp_path / "rows")
        assert flushed == []

    def test_new_folders(self, tmp_path: Path, flushed: list[str]) -> None:
        files.make_folder(tmp_path / "a" / "b")
        assert sorted(flushed) == sorted(["a", tmp_path.name])
        files.make_folder(tmp_path / "a" / "b")
        assert len(flushed) == 2

    @pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
    def test_where_folders_are_not_flushed(
        self, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(handle: int) -> None:
            if Path(f"/proc/self/fd/{handle}").is_dir():
                raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", refuse)
        files.write_text(tmp_path / "a", "text")
        assert contents(tmp_path) == {"a": b"text"}

    def test_an_error_of_the_disk_is_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_handle: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(FileError, match="input/output error"):
            files.sync(tmp_path)


def test_a_clock_that_was_set_makes_nobody_elses_file_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with files.atomic_write(tmp_path / "file") as stream:
        now = files.time.time()
        monkeypatch.setattr(files.time, "time", lambda: now + 30 * 24 * 3600)
        files.remove_temporary(tmp_path)
        stream.write(b"whole")
    assert contents(tmp_path) == {"file": b"whole"}


class TestWithoutLocks:
    """On a file system that has none, age decides what is abandoned."""

    @pytest.mark.parametrize(("days", "stays"), [(1, True), (8, False)])
    def test_age_decides(
        self, days: int, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(files.fcntl, "flock", refuse)
        path = tmp_path / ".file.abc.tmp"
        path.touch()
        then = files.time.time() - days * 24 * 3600
        os.utime(path, (then, then))
        files.remove_temporary(tmp_path)
        assert path.exists() == stays


def test_a_file_system_that_counts_no_room_sets_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    assert 0 <= files.free_bytes(tmp_path) < usage.total
    nothing = usage._replace(total=0, used=0, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nothing)
    assert files.free_bytes(tmp_path) > 2**60
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert files.free_bytes(tmp_path) == 0, "a disk that is full"
