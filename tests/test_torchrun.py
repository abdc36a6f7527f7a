"""Started by torchrun, on one machine and on two: killed, cut off and stopped, a training goes on
to the bits that it would have come to."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor import native_module
from tests.held import HELD, PATIENCE, Hold
from tests.test_several import environment

EPOCHS, EARLY, LATE = 6, 2, 4
"""Of a training; and at the end of which of them a process is held, see held.py."""
SETTINGS: dict[str, Any] = {
    "model": "lenet",
    "model_kwargs": {"dropout": 0.3},
    "epochs": EPOCHS,
    "batch_size": 64,
    "augment": ("crop=2",),
    "threads": 1,
    "limit_per_class": 60,
}
FIT = ["fit", "digits", "--model", "lenet", "--model-kwargs", "dropout=0.3", "--batch-size", "64"]
FIT += ["--augment", "crop=2", "--epochs", str(EPOCHS), "--threads", "1", "--limit-per-class", "60"]
FIT += ["--no-report", "--no-check"]
FIT += ["--out", "run", "--engine"]
NATIVE = "native" if native_module.module() else "plain"
UNDISTURBED = f"""
import sartor
for engine in {sorted({"plain", NATIVE})}:
    sartor.fit("digits", out=engine, engine=engine, report=False, check=False, **{SETTINGS})
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--monitor-interval", "0.1"]
TIMES = ("seconds", "images_per_second")
FreePort = Callable[[], int]


def outcome(run: Path) -> dict[str, Any]:
    """All of a run that must not depend on what happened to it."""
    found = sartor.Run.open(run)
    return {
        "weights": found.weights_sha256,
        "best": found.network("best").state_dict()["conv1.weight"].tolist(),
        "history": [{k: row[k] for k in row if k not in TIMES} for row in found.history],
        "state": found.status["state"],
    }


def started(words: list[str], folder: Path, **options: Any) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *words], cwd=folder, text=True, **pipes, **options)


def by_hand(
    size: int, port: int, words: list[str], folder: Path, **said: str
) -> list[subprocess.Popen[str]]:
    """As a launcher does it that is not torchrun."""
    places = [environment(rank, size, port) | said for rank in range(size)]
    return [started(words, folder, env=place) for place in places]


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, free_port: FreePort
) -> dict[str, dict[str, Any]]:
    """What two processes come to, by engine."""
    folder = tmp_path_factory.mktemp("undisturbed") / "host"
    for process in by_hand(2, free_port(), ["-c", UNDISTURBED], folder):
        code, _, err = ended(process)
        assert code == 0, err
    return {engine: outcome(folder / engine) for engine in ("plain", NATIVE)}


def test_a_killed_process_is_started_again_and_all_go_on_to_the_same_bits(
    undisturbed: dict[str, Any], hold: Hold, tmp_path: Path
) -> None:
    launch = ["--nproc-per-node", "2", "--max-restarts", "1", HELD]
    line = [*TORCHRUN[1:], *launch, *FIT, NATIVE, "--checkpoint-seconds", "0"]
    said = {**os.environ, **hold.before(EARLY)}
    launcher = started(line, tmp_path / "host", env=said)
    os.kill(hold.reached(EARLY, launcher), signal.SIGKILL)
    assert len(sartor.Run.open(tmp_path / "host/run").history) == EARLY - 1
    hold.end(EARLY)
    code, out, err = ended(launcher)
    assert code == 0, err
    assert "A process ended; all go on with run from its last checkpoint." in err
    assert "Traceback" not in err
    assert out.count("run: run") == 1
    assert outcome(tmp_path / "host/run") == undisturbed[NATIVE]


def test_a_signal_to_one_stops_all_after_the_same_step(
    undisturbed: dict[str, Any], hold: Hold, free_port: FreePort, tmp_path: Path
) -> None:
    """And two processes go on to the same bits, one to other last digits."""
    host = tmp_path / "host"
    line = [HELD, *FIT, "plain"]
    processes = by_hand(2, free_port(), line, host, **hold.before(EARLY))
    hold.reached(EARLY, *processes)
    processes[1].send_signal(signal.SIGTERM)
    hold.end(EARLY)
    first, second = map(ended, processes)
    assert first[0] == second[0] == 128 + signal.SIGTERM, first[2]
    assert "2 processes on 1 machine, 1 thread each: of the 64 images of a batch each" in first[2]
    assert "Stopped after step" in first[2]
    # Who follows prints nothing and writes nothing.
    assert second[1:] == ("", "")
    assert sartor.Run.open(host / "run").status["state"] == "interrupted"
    rows = len(sartor.Run.open(host / "run").history)
    assert rows == EARLY, "after the first step of the next epoch"
    shutil.copytree(host / "run", tmp_path / "other/run")
    line = ["-m", "sartor", "resume", "run"]
    first, second = map(ended, by_hand(2, free_port(), line, host))
    assert first[0] == 0, first[2]
    assert "run: run" in first[1]
    assert second == (0, "", "")
    sartor.resume(tmp_path / "other/run", report=False)
    expected, other = undisturbed["plain"], outcome(tmp_path / "other/run")
    assert outcome(host / "run") == expected
    assert other["state"] == "finished"
    assert other["history"][:rows] == expected["history"][:rows]
    last = other["history"][-1]
    assert last["step"] == expected["history"][-1]["step"]
    assert last["train_loss"] == pytest.approx(expected["history"][-1]["train_loss"], abs=0.02)


Start = Callable[[int], subprocess.Popen[str]]
_numbers = itertools.count()


@pytest.fixture
def hosts(
    tmp_path: Path, hold: Hold, free_port: FreePort
) -> Iterator[tuple[Start, Callable[[str], None]]]:
    """Two machines with a cable between them: what starts torchrun on one of them, and what sets
    the cable up or down. Each has its own disk."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (Debian's package iproute2)")
    mark = f"{os.getpid() % 10_000}x{next(_numbers)}"
    names, cables = [[f"{kind}{mark}{end}" for end in "ab"] for kind in ("sartor", "sv")]
    port, running = free_port(), []

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)

    with ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "del", name)
            ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
            for place, (name, cable) in enumerate(zip(names, cables, strict=True)):
                ip("link", "set", cable, "netns", name)
                ip("-n", name, "addr", "add", f"10.213.7.{place + 1}/24", "dev", cable)
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "link", "set", cable, "up")
        except subprocess.CalledProcessError:
            pytest.skip("needs the right to make network namespaces")

        def start(place: int) -> subprocess.Popen[str]:
            said = {"GLOO_SOCKET_IFNAME": cables[place], "SARTOR_HOME": str(tmp_path / f"c{place}")}
            said |= hold.before(EARLY, LATE) | {"PYTHONDONTWRITEBYTECODE": "1"}
            conf = f"is_host={int(place == 0)},join_timeout={PATIENCE}"
            meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"10.213.7.1:{port}"]
            meeting += ["--rdzv-id", "test", "--rdzv-conf", conf]
            meeting += ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "0"]
            meeting += ["--local-addr", f"10.213.7.{place + 1}", HELD]
            folder = tmp_path / f"host{place}"
            folder.mkdir()
            running.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", names[place], *TORCHRUN, *meeting, *FIT, NATIVE],
                    cwd=folder,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**os.environ, **said},
                )
            )
            return running[-1]

        yield start, lambda state: ip("-n", names[1], "link", "set", cables[1], state)
        for process in running:
            process.kill()
            process.communicate()


def test_a_host_that_is_cut_off_is_waited_for_and_one_that_dies_ends_the_training(
    undisturbed: dict[str, Any], hosts: Any, hold: Hold, tmp_path: Path
) -> None:
    """From whose last checkpoint one process goes on."""
    start, cable = hosts
    launchers = [start(0), start(1)]
    run = tmp_path / "host0/run"
    hold.reached(EARLY, *launchers)
    cable("down")
    hold.end(EARLY)
    rows = (run / "history.jsonl").read_bytes()
    assert rows.count(b"\n") == EARLY - 1
    time.sleep(1)
    assert (run / "history.jsonl").read_bytes() == rows, "nobody goes on alone"
    cable("up")
    died = hold.reached(LATE, *launchers)
    launchers[1].kill()
    os.kill(died, signal.SIGKILL)
    code, _, err = ended(launchers[0])
    assert code == 1
    assert "sartor: This process could not add up with the other processes: " in err or (
        "sartor: This process could not collect from the other processes: " in err
    )
    assert "`sartor resume` goes on from it." in err
    assert "This should not have happened" not in err
    assert list((tmp_path / "host1").iterdir()) == [], "only the first process writes"
    expected = undisturbed[NATIVE]["history"]
    assert outcome(run)["history"] == expected[: LATE - 1], "the cut has changed no bit"
    resumed = sartor.resume(run, report=False)
    assert resumed.status["state"] == "finished"
    assert resumed.history[-1]["step"] == expected[-1]["step"]
    # From the last checkpoint on by one process: the same but for rounding.
    for row, other in zip(resumed.history[:EARLY], expected[:EARLY], strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], abs=1e-4)
