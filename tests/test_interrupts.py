"""Ctrl-C while Python imports, a terminal that is closed, a reader that goes away."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sartor.runs.folder import RunFolder
from tests.held import Hold

FIT = ["fit", "digits", "--model", "linear", "--threads", "1", "--no-report", "--no-check"]
LONG = [*FIT, "--epochs", "100000"]


def wait_for(happened: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(0.005)


def rows(out: Path) -> int:
    return len(RunFolder(out).history())


def read_all(terminal: int) -> None:
    """What was written to it, so that there is room for more."""
    while select.select([terminal], [], [], 0)[0]:
        os.read(terminal, 1000)


class TestWhileModulesAreImported:
    @pytest.mark.parametrize("swallows", ["except BaseException", "except KeyboardInterrupt"])
    def test_code_that_swallows_everything_cannot_swallow_it(
        self, swallows: str, tmp_path: Path
    ) -> None:
        (tmp_path / "greedy.py").write_text(
            f"import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\n{swallows}:\n    pass\n"
        )
        code = (
            "from sartor.interrupts import end_silently_during_imports as install\n"
            "install()\n"
            "import greedy\n"
            "print('went on')\n"
        )
        answer = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", "")

    def test_elsewhere_it_is_raised(self) -> None:
        code = (
            "import signal\n"
            "from sartor.interrupts import end_silently_during_imports as install\n"
            "install()\n"
            "try:\n"
            "    signal.raise_signal(signal.SIGINT)\n"
            "except KeyboardInterrupt:\n"
            "    print('raised')\n"
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "raised\n", "")

    @pytest.mark.parametrize("share", [0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
    def test_a_real_start(
        self, share: float, start: Any, tmp_path: Path, seconds_to_start: float
    ) -> None:
        process = start(*LONG, "--out", tmp_path / "run")
        wait_for(lambda: seconds_of(process) >= share * seconds_to_start)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 130, stderr
        assert stdout == ""
        assert "Traceback" not in stderr
        assert "should not have happened" not in stderr


@pytest.fixture(scope="module")
def seconds_to_start(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a process computes until its first epoch is over."""
    out = tmp_path_factory.mktemp("start") / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "sartor", *LONG, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: rows(out) >= 1)
    seconds = seconds_of(process)
    process.kill()
    process.wait()
    return seconds


def seconds_of(process: subprocess.Popen[Any]) -> float:
    """How long a process has computed, however long it waited for others to let it."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class TestTheTerminal:
    def test_sighup_saves_as_sigterm_does(self, start: Any, tmp_path: Path) -> None:
        out = tmp_path / "run"
        process = start(*LONG, "--out", out)
        wait_for(lambda: rows(out) >= 1)
        process.send_signal(signal.SIGHUP)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGHUP
        assert "all is saved" in stderr
        assert RunFolder(out).status()["state"] == "interrupted"

    def test_nohup_is_respected(self, start: Any, tmp_path: Path) -> None:
        out = tmp_path / "run"
        ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
        # A pipe that nobody reads would be full before long.
        process = start(*LONG, "--out", out, stderr=subprocess.DEVNULL, **ignoring)
        wait_for(lambda: rows(out) >= 1)
        process.send_signal(signal.SIGHUP)
        before = rows(out)
        wait_for(lambda: rows(out) > before + 1 or process.poll() is not None)
        assert process.poll() is None, "it goes on"

    def test_a_terminal_that_vanishes_does_not_end_a_training(
        self, start: Any, hold: Hold, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        ours, theirs = pty.openpty()

        def in_the_terminal() -> None:
            os.setsid()
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as after `disown`

        process = start(
            *FIT,
            "--epochs",
            "300",
            "--out",
            out,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=in_the_terminal,
            held=hold.before(200),
        )
        os.close(theirs)

        def has_begun() -> bool:
            read_all(ours)
            return rows(out) >= 3

        wait_for(has_begun)
        os.close(ours)
        hold.end(200)
        assert process.wait(timeout=120) == 0
        assert RunFolder(out).status()["state"] == "finished"
        assert rows(out) == 300

    @pytest.mark.parametrize("stream", ["stdout", "stderr"])
    def test_a_reader_that_goes_away(self, stream: str, start: Any, tmp_path: Path) -> None:
        process = start(*FIT, "--seeds", "2", "--epochs", "2", "--out", tmp_path / "runs")
        getattr(process, stream).close()
        (process.stderr if stream == "stdout" else process.stdout).read()
        assert process.wait() == 0
        for seed in ("seed-0", "seed-1"):
            assert RunFolder(tmp_path / "runs" / seed).status()["state"] == "finished"
