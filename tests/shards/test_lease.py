"""Leases: one owner at a time, whoever dies, and however long anybody sleeps."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sartor.files import take_once, write_once
from sartor.shards.lease import Lease, Leases, Worker, is_gone

SECONDS = 60.0


@pytest.fixture
def of_worker(tmp_path: Path) -> Callable[..., Leases]:
    """The leases of one folder, as seen by a worker of some name."""
    for name in ("leases", "workers"):
        (tmp_path / name).mkdir()

    def leases(name: str, seconds: float = SECONDS) -> Leases:
        worker = replace(Worker.here(), name=name)
        return Leases(
            folder=tmp_path / "leases",
            workers=tmp_path / "workers",
            worker=worker,
            seconds=seconds,
        )

    return leases


def nothing() -> None:
    """What a worker does with each sign of life."""


def age(path: Path, seconds: float) -> None:
    """As if nobody had touched a file for so long."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


@contextmanager
def held(leases: Leases, name: str) -> Iterator[Lease]:
    lease = leases.take(name, nothing)
    assert lease is not None
    try:
        yield lease
    finally:
        lease.release()


def test_one_worker_has_it_until_it_gives_it_back(of_worker: Callable[..., Leases]) -> None:
    one, other = of_worker("one"), of_worker("other")
    with held(one, "00000"):
        assert other.take("00000", nothing) is None
        with held(other, "00001"):
            assert set(one.owners()) == {"00000", "00001"}
    with held(other, "00000") as lease:
        assert lease.taken == 1
    assert one.owners() == {}


def test_a_lease_that_nobody_keeps_alive_is_taken_over(
    of_worker: Callable[..., Leases], tmp_path: Path
) -> None:
    one, other = of_worker("one"), of_worker("other")
    sleeping = one.take("00000", nothing)
    assert sleeping is not None
    age(tmp_path / "leases" / "00000", SECONDS - 5)
    assert other.take("00000", nothing) is None
    age(tmp_path / "leases" / "00000", 10)
    assert other.owners()["00000"]["over"]
    with held(other, "00000") as lease:
        assert lease.taken == 2
        # Who wakes up neither gives back nor keeps alive what is another's.
        sleeping.release()
        assert other.owners()["00000"]["name"] == "other"
    assert sorted(path.name for path in (tmp_path / "leases").iterdir()) == [".clock"]


def test_the_sleeper_learns_of_it(of_worker: Callable[..., Leases], tmp_path: Path) -> None:
    beats: list[float] = []
    sleeping = of_worker("one", 0.2).take("00000", lambda: beats.append(time.monotonic()))
    assert sleeping is not None
    until = time.monotonic() + 60
    while len(beats) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert beats, "it says that it is alive"
    assert not sleeping.lost
    (tmp_path / "leases" / "00000").write_bytes(b'{"name": "other"}')
    while not sleeping.lost and time.monotonic() < until:
        time.sleep(0.01)
    assert sleeping.lost
    sleeping.release()
    assert (tmp_path / "leases" / "00000").exists()


def test_a_process_of_this_machine_that_ended_is_known_at_once(
    of_worker: Callable[..., Leases], tmp_path: Path
) -> None:
    words = "import json; from sartor.shards.lease import Worker; "
    words += "print(json.dumps(vars(Worker.here())))"
    answer = subprocess.run([sys.executable, "-c", words], capture_output=True, check=True)
    owner = json.loads(answer.stdout)
    if not owner["machine"]:
        pytest.skip("the system does not say which processes are its own")
    assert is_gone(owner)
    assert not is_gone({**owner, "machine": "another"})
    assert not is_gone(vars(Worker.here()))
    # Its number may have come again.
    assert is_gone({**vars(Worker.here()), "born": "1"})
    (tmp_path / "leases" / "00000").write_text(json.dumps(owner))
    with held(of_worker("other"), "00000") as lease:
        assert lease.taken == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b'{"taken": "many", "pid": {}}'])
def test_a_damaged_lease_is_one_of_somebody_unknown(
    of_worker: Callable[..., Leases], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "leases" / "00000"
    path.write_bytes(content)
    leases = of_worker("one")
    assert leases.take("00000", nothing) is None
    age(path, SECONDS + 1)
    with held(leases, "00000"):
        pass


def test_of_many_at_once_one_takes_over(of_worker: Callable[..., Leases], tmp_path: Path) -> None:
    path = tmp_path / "leases" / "00000"
    for round_ in range(20):
        path.write_text(json.dumps({"name": "dead", "round": round_}))
        age(path, SECONDS + 1)
        gate = threading.Barrier(4)

        def take(number: int, gate: threading.Barrier = gate) -> Lease | None:
            gate.wait()
            return of_worker(f"worker{number}").take("00000", nothing)

        with ThreadPoolExecutor(4) as pool:
            taken = [one for one in pool.map(take, range(4)) if one is not None]
        assert len(taken) == 1
        for one in taken:
            one.release()
        path.unlink(missing_ok=True)


def test_a_claim_of_a_worker_that_died_is_in_the_way_once(
    of_worker: Callable[..., Leases], tmp_path: Path
) -> None:
    path = tmp_path / "leases" / "00000"
    dead = json.dumps({"name": "dead"}).encode()
    path.write_bytes(dead)
    age(path, SECONDS + 1)
    claim = path.with_name(f".00000.{hashlib.sha256(dead).hexdigest()[:16]}")
    claim.write_bytes(b'{"name": "dead, too"}')
    leases = of_worker("one")
    assert leases.take("00000", nothing) is None, "it may be at work"
    assert claim.exists()
    age(claim, SECONDS + 1)
    assert leases.take("00000", nothing) is None
    with held(leases, "00000") as lease:
        assert lease.taken == 1
        assert not claim.exists()


def test_who_saw_a_dead_lease_that_another_has_taken_over_leaves_it(
    of_worker: Callable[..., Leases], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "leases" / "00000"
    path.write_text('{"name": "dead"}')
    age(path, SECONDS + 1)
    one, two = of_worker("one"), of_worker("two")
    is_over, first = Leases._is_over, list[Lease]()

    def meanwhile(leases: Leases, path: Path, mark: dict[str, object]) -> bool:
        found = is_over(leases, path, mark)
        if leases is two and not first:
            first.extend(filter(None, [one.take("00000", nothing)]))
        return found

    monkeypatch.setattr(Leases, "_is_over", meanwhile)
    assert two.take("00000", nothing) is None
    assert not first[0].lost
    assert json.loads(path.read_text())["name"] == "one"
    assert [one.name for one in path.parent.glob(".00000.*")] == []
    first[0].release()


def test_a_lease_that_ended_many_is_forgiven(
    of_worker: Callable[..., Leases], tmp_path: Path
) -> None:
    path = tmp_path / "leases" / "00000"
    path.write_text(json.dumps({"name": "dead", "taken": 9}))
    of_worker("one").forgive(9)
    assert path.exists()
    of_worker("one").forgive(8)
    assert not path.exists()


def test_what_is_written_once_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert take_once(path, b"first")
    assert not take_once(path, b"second")
    with write_once(path) as stream:
        stream.write(b"third")
    assert path.read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("sartor.files.os.link", refused)
    assert take_once(tmp_path / "file", b"first")
    assert not take_once(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
