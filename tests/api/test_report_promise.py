"""The report that `fit` promised is made, whatever came between, and judges validation images."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.api import reporting
from sartor.events import EpochDone, Event
from sartor.runs.folder import RunFolder
from tests.held import Hold

FIT = ["fit", "digits", "--model", "linear", "--epochs", "2", "--threads", "1", "--no-check"]


def test_killed_while_the_report_is_made(
    start: Any, command: Any, hold: Hold, tmp_path: Path
) -> None:
    out, writing = tmp_path / "run", hold._replace(function="sartor.api.reporting._write")
    process = start(*FIT, "--out", out, held=writing.before(1))
    writing.reached(1, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "report.html").exists()
    assert RunFolder(out).report_state() == "due"
    answer = command("resume", out)
    assert answer.exit_code == 0
    assert "Its report was not made yet" in answer.err
    assert f"report: {out / 'report.html'}" in answer.out
    assert json.loads((out / "report.json").read_text())["judged"]["split"] == "val"
    assert not (out / "predictions" / "test.npz").exists(), "the test images were left alone"
    assert RunFolder(out).report_state() == "made"
    (out / "report.html").unlink()
    assert "Its report" not in command("resume", out).err, "it was made once"


def test_a_report_that_failed_is_made_by_the_command_that_the_warning_names(
    tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise sartor.SartorError("Cannot write it: no space left on device.", "Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(reporting, "_write", full_disk)
        answer = command(*FIT, "--out", tmp_path / "my run")
    assert answer.exit_code == 0
    assert f"Try again: sartor resume '{tmp_path / 'my run'}'" in answer.err
    command("resume", tmp_path / "my run")
    document = json.loads((tmp_path / "my run" / "report.json").read_text())
    assert document["judged"]["split"] == "val"


@pytest.mark.parametrize("report", [True, False])
def test_a_stopped_run_ends_as_fit_was_told(report: bool, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, EpochDone):
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "run"
    settings: dict[str, Any] = {"model": "linear", "epochs": 3, "threads": 1, "out": out}
    with pytest.raises(sartor.Interrupted):
        sartor.fit("digits", report=report, on_event=stop, **settings)
    with pytest.raises(sartor.Interrupted):
        sartor.resume(out, on_event=stop)
    sartor.resume(out)
    assert (out / "report.html").exists() == report


def test_a_run_that_does_not_say_gets_none(trained: Path, tmp_path: Path, command: Any) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "report.html").unlink()
    RunFolder(run).write_status("finished")
    command("resume", run)
    assert not (run / "report.html").exists()
