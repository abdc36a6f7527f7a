"""Workers: every shard once, in order, whatever happens to any of them."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sartor.data.pictures.stream import Place
from sartor.errors import CorruptDataError, DataError, FileError, UsageError
from sartor.files import sha256_of_file
from sartor.shards.folder import MANIFEST, MERGING, WorkFolder
from sartor.shards.manifest import Listed, Manifest, write_manifest
from sartor.shards.merging import merged
from sartor.shards.plan import Plan
from sartor.shards.working import MOST_DEATHS, Worked, work

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")


class Lengths:
    """A task: the length of each name; names with an x cannot be read."""

    def __init__(self, on_table: Callable[[], object] = lambda: None) -> None:
        """`on_table` is called at the beginning of each shard."""
        self.done: list[str] = []
        self._on_table = on_table

    def table(
        self, pictures: Sequence[Listed], done: Callable[[int], None], stopped: Callable[[], bool]
    ) -> Any:
        """See `Task`, as the rest."""
        self._on_table()
        if stopped():
            return None
        self.done += [one.file for one in pictures]
        done(len(pictures))
        return pyarrow.table(
            {
                "file": [one.file for one in pictures],
                "length": [len(one.file) for one in pictures],
                "error": pyarrow.array(
                    ["no picture" if "x" in one.file else None for one in pictures],
                    pyarrow.string(),
                ),
            }
        )

    def finish(self, folder: WorkFolder, stopped: Callable[[], bool]) -> dict[str, Any] | None:
        return merged(folder, "lengths.parquet", stopped)


NAMES = [f"{'x' * (number % 7 == 0)}{number}.png" for number in range(23)]


def begun(path: Path, names: Sequence[str] = NAMES, shard_size: int = 5, **more: Any) -> WorkFolder:
    """A folder with a plan."""
    path.mkdir()
    listed = [Listed(name, Place(f"/pictures/{name}")) for name in names]
    written = write_manifest(path / MANIFEST, listed, shard_size)
    plan = Plan(
        task="predict",
        pictures=written.pictures,
        shard_size=shard_size,
        root=written.root,
        manifest_sha256=sha256_of_file(path / MANIFEST) or "",
        **more,
    )
    return WorkFolder.begin(path, plan)


def done_by(folder: WorkFolder, task: Lengths | None = None, **more: Any) -> Worked:
    return work(folder, folder.manifest(), task or Lengths(), **more)


def rows(folder: WorkFolder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(
        folder.path / "lengths.parquet"
    ).to_pylist()
    return found


EXPECTED = [
    {"file": name, "length": len(name), "error": "no picture" if "x" in name else None}
    for name in NAMES
]


class TestOneWorker:
    def test_every_picture_once_and_in_order(self, tmp_path: Path) -> None:
        folder, task = begun(tmp_path / "work"), Lengths()
        worked = done_by(folder, task)
        assert (worked.complete, worked.stopped) == (True, False)
        assert (worked.shards, worked.pictures) == (5, 23)
        assert sorted(task.done) == sorted(NAMES)
        assert rows(folder) == EXPECTED
        assert worked.summary == folder.summary()
        assert worked.summary["without"] == 4
        assert worked.summary["file_sha256"] == sha256_of_file(folder.path / "lengths.parquet")
        assert not list((folder.path / "leases").glob("[!.]*"))

    def test_what_is_done_is_not_done_again(self, tmp_path: Path) -> None:
        folder = begun(tmp_path / "work")
        done_by(folder)
        task = Lengths()
        assert done_by(folder, task).complete
        assert task.done == []

    def test_events_tell_how_far_all_are(self, tmp_path: Path) -> None:
        events: list[Any] = []
        done_by(begun(tmp_path / "work"), on_event=events.append)
        last = events[-1]
        assert (last.done, last.total, last.shards_done, last.ended) == (23, 23, 5, True)

    def test_one_that_is_asked_to_stop_leaves_its_shard(self, tmp_path: Path) -> None:
        folder, asked = begun(tmp_path / "work"), threading.Event()
        worked = done_by(folder, Lengths(asked.set), stopped=asked.is_set)
        assert (worked.stopped, worked.complete, worked.shards) == (True, False, 0)
        assert not list((folder.path / "leases").glob("[!.]*"))
        assert done_by(folder).complete
        assert rows(folder) == EXPECTED


class TestResults:
    def test_bytes_do_not_depend_on_who_did_what(self, tmp_path: Path) -> None:
        one, other = begun(tmp_path / "one"), begun(tmp_path / "other")
        done_by(one)
        workers = [threading.Thread(target=done_by, args=(other,)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert other.summary() == one.summary()
        assert sha256_of_file(other.path / "lengths.parquet") == one.summary()["file_sha256"]  # type: ignore[index]

    @pytest.mark.parametrize(
        "damage", ["gone", "cut", "flipped", "of another shard", "of another plan"]
    )
    def test_one_that_is_not_right_is_made_again(self, tmp_path: Path, damage: str) -> None:
        folder, good = begun(tmp_path / "work"), begun(tmp_path / "good")
        done_by(good)
        # All results, but not joined.
        done_by(folder, Lengths())
        (folder.path / "summary.json").unlink()
        path = folder.result_path(2)
        content = path.read_bytes()
        other = begun(tmp_path / "other", lease_seconds=30.0)
        done_by(other)
        damaged = {
            "cut": content[:-9],
            "flipped": content.replace(b".png", b".pnk"),
            "of another shard": folder.result_path(1).read_bytes(),
            "of another plan": other.result_path(2).read_bytes(),
        }
        path.unlink()
        if damage != "gone":
            assert damaged[damage] != content
            path.write_bytes(damaged[damage])
        task = Lengths()
        assert done_by(folder, task).complete
        assert task.done == NAMES[10:15]
        assert folder.summary() == good.summary()
        assert path.read_bytes() == content

    def test_a_late_result_of_one_who_slept_changes_nothing(self, tmp_path: Path) -> None:
        folder = begun(tmp_path / "work")

        def sleep() -> None:
            """Meanwhile others see no sign of life, and do it all."""
            if (folder.path / "summary.json").exists():
                return
            lease = next((folder.path / "leases").glob("[0-9]*"))
            lease.unlink()
            done_by(folder)

        worked = done_by(folder, Lengths(sleep))
        assert worked.complete
        assert rows(folder) == EXPECTED

    def test_of_another_plan_counts_for_nothing(self, tmp_path: Path) -> None:
        folder = begun(tmp_path / "work")
        done_by(folder)
        (folder.path / "plan.json").unlink()
        again = WorkFolder.begin(folder.path, Plan(**{**vars(folder.plan), "lease_seconds": 9.0}))
        assert again.summary() is None
        task = Lengths()
        assert done_by(again, task).complete
        assert sorted(task.done) == sorted(NAMES)


class TestFaults:
    def test_a_full_disk_is_said_and_the_shard_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = begun(tmp_path / "work")
        link = os.link

        def full(source: Any, target: Any) -> None:
            if str(target).endswith("3.parquet"):
                raise OSError(errno.ENOSPC, "No space left on device")
            link(source, target)

        with monkeypatch.context() as patch:
            patch.setattr("sartor.files.os.link", full)
            with pytest.raises(FileError, match=r"00003.parquet: no space left.*free some space"):
                done_by(folder)
        assert not list((folder.path / "leases").glob("[!.]*"))
        assert done_by(folder).complete
        assert rows(folder) == EXPECTED

    def test_a_shard_that_ends_every_worker_is_left(self, tmp_path: Path) -> None:
        folder, task = begun(tmp_path / "work", lease_seconds=1.0), Lengths()
        lease = folder.path / "leases" / "00003"
        lease.write_text(json.dumps({"name": "dead", "taken": MOST_DEATHS}))
        os.utime(lease, (0, 0))
        with pytest.raises(DataError, match=r"1 of 5 shards are left.*15.png to 19.png"):
            done_by(folder, task)
        assert sorted(task.done) == sorted(NAMES[:15] + NAMES[20:])
        lease.unlink()
        assert done_by(folder).complete
        assert rows(folder) == EXPECTED

    def test_who_does_not_wait_leaves_the_rest_to_others(self, tmp_path: Path) -> None:
        folder = begun(tmp_path / "work")
        (folder.path / "leases" / "00001").write_text('{"name": "somebody"}')
        worked = done_by(folder, wait=False)
        assert (worked.complete, worked.stopped, worked.shards) == (False, False, 4)

    def test_nobody_joins_twice(self, tmp_path: Path) -> None:
        folder = begun(tmp_path / "work")
        (folder.path / "leases" / MERGING).write_text('{"name": "somebody"}')
        worked = done_by(folder, wait=False)
        assert (worked.complete, worked.shards) == (False, 5)


class TestPlan:
    def test_survives_its_file(self, tmp_path: Path) -> None:
        folder = begun(tmp_path / "work", settings={"topk": 3}, identity={"classes": ["a", "b"]})
        assert WorkFolder.open(folder.path).plan == folder.plan

    @pytest.mark.parametrize(
        "content", [b"", b"{}", b"[1]", b'{"format": 1}', b'{"format": 99}', b"\xff\xfe"]
    )
    def test_another_file_is_no_plan(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "plan.json").write_bytes(content)
        with pytest.raises(FileError, match=r"plan\.json.*Plan again"):
            WorkFolder.open(tmp_path)

    def test_no_plan(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no plan.*--plan predict"):
            WorkFolder.open(tmp_path)

    def test_what_differs_is_named(self, tmp_path: Path) -> None:
        plan = begun(tmp_path / "work", identity={"weights_sha256": "a" * 64}).plan
        plan.refuse_others({"weights_sha256": "a" * 64})
        with pytest.raises(UsageError, match=r"another weights sha256: aaa.*bbb"):
            plan.refuse_others({"weights_sha256": "b" * 64})


class TestManifest:
    def test_survives_its_file(self, tmp_path: Path) -> None:
        listed = [
            Listed("a.png", Place("/data/x/a.png"), 1, "val", "patient 3"),
            Listed("b.zip/c.png", Place("/data/x/b.zip", "c.png"), 0),
            Listed("d/3", Place("/data/d.parquet", row=3), None, "test"),
            Listed("nothing", None, fault="Cannot read nothing: no such file.", hint="Check it."),
            Listed("\\xff.png", Place(os.fsdecode(b"/data/\xff\n.png"))),
        ]
        written = write_manifest(tmp_path / "manifest", listed, 2)
        assert written == (5, "/data")
        found = Manifest(tmp_path / "manifest")
        assert list(found) == listed
        assert found.shard(1) == listed[2:4]
        elsewhere = Manifest(tmp_path / "manifest", root="/data", here=Path("/mnt/here"))
        places = [one.place and one.place.path for one in elsewhere]
        assert places[:3] == ["/mnt/here/x/a.png", "/mnt/here/x/b.zip", "/mnt/here/d.parquet"]

    def test_a_damaged_one_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "manifest"
        path.write_bytes(b"PAR1 nothing of the sort PAR1")
        with pytest.raises(CorruptDataError, match=r"manifest is damaged"):
            Manifest(path)

    def test_no_pictures(self, tmp_path: Path) -> None:
        assert write_manifest(tmp_path / "manifest", [], 2) == (0, "")
