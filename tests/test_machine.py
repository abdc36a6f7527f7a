"""Cores as a container's control group allows them, not as its host has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sartor import machine


def group(root: Path, lines: str, **files: str) -> Path:
    """A system's files: what the process is in, and the groups' own by their paths."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_max", "cpu.max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_version_2_and_the_groups_around(tmp_path: Path) -> None:
    files = {"a__b__cpu_max": "max 100000\n", "a__cpu_max": "150000 100000\n"}
    assert machine.core_quota(group(tmp_path, "0::/a/b\n", **files)) == 1.5


def test_in_a_container_the_mount_is_its_own(tmp_path: Path) -> None:
    root = group(tmp_path, "0::/../host/slice\n", cpu_max="50000 100000\n")
    assert machine.core_quota(root) == 0.5


def test_version_1(tmp_path: Path) -> None:
    root = group(tmp_path, "4:memory:/\n2:cpu,cpuacct:/docker/x\n")
    folder = root / "sys/fs/cgroup/cpu,cpuacct"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert machine.core_quota(root) is None
    (folder / "cpu.cfs_quota_us").write_text("300000\n")
    assert machine.core_quota(root) == 3.0


def test_nothing_said_is_no_limit(tmp_path: Path) -> None:
    assert machine.core_quota(tmp_path) is None
    assert machine.core_quota(group(tmp_path, "0::/\n", cpu_max="damaged\n")) is None


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (0.2, 1), (1.5, 2), (2.0, 2), (64.0, 8)])
def test_cores_are_the_least_of_all(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "core_quota", lambda: quota)
    assert machine.available_cores() == cores


class TestOthers:
    def test_what_they_had_of_the_cores_of_this_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/stat").write_text(
            "cpu  99 99 99 99 99 99 99 99 0 0\n"
            "cpu0 100 10 20 5000 7 1 2 3 0 0\n"
            "cpu1 9000 0 0 0 0 0 0 0 0 0\n"
            "cpu2 200 0 0 9000 0 0 0 64 0 0\n"
            "intr 12 34\n"
        )
        monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _pid: {0, 2}, raising=False)
        monkeypatch.setattr(machine.os, "sysconf", lambda _name: 100)
        monkeypatch.setattr(machine.os, "times", lambda: os.times_result((1.5, 0.5, 0, 0, 0)))
        assert machine.seconds_of_others(tmp_path) == pytest.approx(4.0 - 2.0)

    def test_nothing_said(self, tmp_path: Path) -> None:
        assert machine.seconds_of_others(tmp_path) is None
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/stat").write_text("cpu0 damaged\n")
        assert machine.seconds_of_others(tmp_path) is None

    @pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc/stat")
    def test_another_process_counts(self) -> None:
        before = machine.seconds_of_others()
        subprocess.run([sys.executable, "-c", "sum(range(60_000_000))"], check=True)
        after = machine.seconds_of_others()
        assert before is not None
        assert after is not None
        assert after - before > 0.3
