"""A training that is killed, interrupted or out of disk ends, once resumed, in the same bits."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sartor
from sartor import api
from sartor.data.dataset import Dataset
from sartor.events import EpochDone, Event
from sartor.runs.folder import RunFolder
from tests.held import Hold

FIT = ["fit", "digits", "--model", "lenet", "--model-kwargs", "dropout=0.3", "--batch-size", "32"]
FIT += ["--warmup-epochs", "1", "--threads", "1", "--seed", "5", "--no-report", "--no-check"]
EPOCHS = 300
HELD = 80
"""At the end of so many of its epochs a process waits for a test that has not seen any before."""
TIMES = ("seconds", "images_per_second")


@pytest.fixture(scope="module", autouse=True)
def dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """Dies and resumes about 140 times, beside the other tests, for those at the end."""
    line = [sys.executable, str(Path(__file__).parent / "dying.py")]
    line.append(str(tmp_path_factory.mktemp("dying")))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield process
        process.kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `FIT` comes to when nothing happens to it."""
    run = sartor.fit(
        "digits",
        model="lenet",
        model_kwargs={"dropout": 0.3},
        epochs=EPOCHS,
        batch_size=32,
        warmup_epochs=1,
        threads=1,
        seed=5,
        report=False,
        check=False,
        out=tmp_path_factory.mktemp("undisturbed") / "run",
    )
    return outcome(run.path)


def outcome(path: Path) -> dict[str, Any]:
    """All of a run that must not depend on what happened to it."""
    run = sartor.Run.open(path)
    best = api.predictions_of(run, "test", checkpoint="best")
    return {
        "weights": run.weights_sha256,
        "best": best.weights_sha256,
        "logits": best.logits.tobytes(),
        "history": [{key: row[key] for key in row if key not in TIMES} for row in run.history],
        "state": run.status["state"],
        "recipe": run.recipe,
    }


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Look closely until something happened; the process must not end before."""
    give_up = time.monotonic() + 120
    while not happened() and process.poll() is None:
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(0.001)
    if process.poll() is not None:
        pytest.fail(f"ended too early: {process.communicate()}")


def trains_on(out: Path) -> Callable[[], bool]:
    """Whether a process trains it that has added two epochs to those there are now."""
    there = epochs_of(out)
    return lambda: RunFolder(out).status()["state"] == "running" and epochs_of(out) > there + 1


def epochs_of(out: Path) -> int:
    return len(RunFolder(out).history())


class TestSigkill:
    def test_as_soon_as_the_folder_appears(
        self, start: Any, command: Any, hold: Hold, tmp_path: Path, undisturbed: dict[str, Any]
    ) -> None:
        out = tmp_path / "run"
        process = start(*FIT, "--epochs", EPOCHS, "--out", out, held=hold.before(HELD))
        wait_until(out.exists, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL

        complete = (out / "recipe.toml").exists()
        answer = command("resume", out, "--json", "--quiet")
        if not complete:
            assert answer.exit_code == 1
            assert "is not a complete run" in answer.err
            return
        assert answer.exit_code == 0
        assert answer.document["weights_sha256"] == undisturbed["weights"]
        assert outcome(out) == undisturbed

    def test_between_the_end_and_saying_so(self, run_copy: Path, command: Any) -> None:
        RunFolder(run_copy).write_status("running")
        assert RunFolder(run_copy).status()["state"] == "killed"
        answer = command("resume", run_copy, "--json")
        assert "is finished" in answer.err
        assert answer.document["epochs"] == 3
        assert RunFolder(run_copy).status()["state"] == "finished"

    def test_before_anything_was_written(self, tmp_path: Path, command: Any) -> None:
        (tmp_path / "run").mkdir()
        for verb in ("resume", "evaluate", "show"):
            answer = command(verb, tmp_path / "run")
            assert answer.exit_code == 1
            assert answer.out == ""
            assert "is not a complete run: its recipe.toml cannot be read." in answer.err
            assert "train again" in answer.err


class TestSignals:
    def test_killed_then_interrupted_then_terminated(
        self, start: Any, command: Any, hold: Hold, tmp_path: Path, undisturbed: dict[str, Any]
    ) -> None:
        out = tmp_path / "runs" / "one"
        for words, number, exit_code, state in (
            ([*FIT, "--epochs", EPOCHS, "--out", out], signal.SIGKILL, -9, "killed"),
            (["resume", out, "--json"], signal.SIGINT, 130, "interrupted"),
            (["resume", out, "--json"], signal.SIGTERM, 143, "interrupted"),
        ):
            grows = trains_on(out)
            process = start(*words, held=hold.before(HELD))
            wait_until(grows, process)
            listed = command("runs", out.parent, "--json").document
            assert [run["state"] for run in listed] == ["running"]
            process.send_signal(number)
            hold.end(HELD)
            stdout, stderr = process.communicate()
            assert process.returncode == exit_code
            assert stdout == ""
            assert "Traceback" not in stderr
            if number != signal.SIGKILL:
                assert "all is saved" in stderr
                assert f"sartor resume {out}" in stderr
            assert RunFolder(out).status()["state"] == state
        assert command("resume", out, "--json").exit_code == 0
        assert outcome(out) == undisturbed

    def test_the_second_ctrl_c_ends_at_once(self, start: Any, command: Any, tmp_path: Path) -> None:
        file, stuck = tmp_path / "net.py", tmp_path / "stuck"
        file.write_text(GETS_STUCK)
        words = ["fit", "digits", "--model", f"{file}:Net", "--model-kwargs", f"mark={stuck}"]
        words += ["--epochs", "2", "--threads", "1", "--out"]
        out, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
        heard = stuck.with_suffix(".heard")
        process = start(*words, out)
        wait_until(stuck.exists, process)
        for words_in_use in (["resume", out], ["fit", "digits", "--epochs", 1, "--out", out]):
            assert command(*words_in_use).exit_code == 1
        refused = command("resume", out).err
        assert f"Another process is training {out}." in refused
        assert re.search(rf"Wait for process {process.pid} \(since .*\), or stop it", refused)
        # Judging a run while it trains is fine.
        assert command("evaluate", out, "--json").document["count"] == 359
        process.send_signal(signal.SIGINT)
        wait_until(heard.exists, process)  # the first one waits for the end of the step
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "Stopped." in stderr
        assert "Traceback" not in stderr
        assert RunFolder(out).status()["state"] == "interrupted"

        assert command("resume", out).exit_code == 0
        assert command(*words, undisturbed).exit_code == 0
        assert outcome(out)["logits"] == outcome(undisturbed)["logits"]


GETS_STUCK = """
import signal
import time
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, mark: str):
        super().__init__()
        self.linear, self.mark, self.step = nn.Linear(64, num_classes), Path(mark), 0

    def forward(self, images):
        self.step += self.training
        if self.step == 5 and not self.mark.exists():
            before = signal.getsignal(signal.SIGINT)
            self.mark.touch()
            while signal.getsignal(signal.SIGINT) is before:
                time.sleep(0.01)
            self.mark.with_suffix(".heard").touch()
            time.sleep(600)
        return self.linear(images.flatten(1))
"""


class Signalling(nn.Module):
    """Sends a signal to its own process at one of its training steps."""

    def __init__(self, step: int | None, number: int = signal.SIGINT) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(64, 10)
        self.at, self.number, self.step = step, number, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.step += self.training
        if self.training and self.step == self.at:
            signal.raise_signal(self.number)
        return self.linear(images.flatten(1))


SETTINGS: dict[str, Any] = {"batch_size": 400, "epochs": 3, "threads": 1, "report": False}


@pytest.fixture(scope="module")
def weights(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("weights") / "run"
    return sartor.fit(digits, model=Signalling(None), out=out, **SETTINGS).weights_sha256


# Its counter is hidden state, which is warned of.
@pytest.mark.filterwarnings("ignore:step of Signalling changed")
class TestInPython:
    # 4 steps an epoch: the first, in an epoch, its last, the first of the next, the very last.
    @pytest.mark.parametrize("step", [1, 2, 4, 5, 12])
    def test_interrupted_is_raised_and_resume_goes_on(
        self, step: int, digits: Dataset, tmp_path: Path, weights: str
    ) -> None:
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(sartor.Interrupted) as caught:
            sartor.fit(digits, model=Signalling(step), out=tmp_path / "run", **SETTINGS)
        assert caught.value.exit_code == 130
        assert caught.value.signal_name == "SIGINT"
        assert f"after step {step}," in caught.value.message
        assert signal.getsignal(signal.SIGINT) is before
        assert sartor.Run.open(tmp_path / "run").status["state"] == "interrupted"
        run = sartor.resume(tmp_path / "run", model=Signalling(None))
        assert run.weights_sha256 == weights
        assert len(run.history) == 3

    def test_sigterm(self, digits: Dataset, tmp_path: Path) -> None:
        model = Signalling(3, signal.SIGTERM)
        with pytest.raises(sartor.Interrupted) as caught:
            sartor.fit(digits, model=model, out=tmp_path / "run", **SETTINGS)
        assert caught.value.exit_code == 143

    def test_a_signal_after_the_last_step_changes_nothing(
        self, digits: Dataset, tmp_path: Path, weights: str
    ) -> None:
        def at_the_end(event: Event) -> None:
            if isinstance(event, EpochDone) and event.row["epoch"] == 3:
                signal.raise_signal(signal.SIGINT)

        model = Signalling(None)
        run = sartor.fit(digits, model=model, out=tmp_path / "run", on_event=at_the_end, **SETTINGS)
        assert run.status["state"] == "finished"
        assert run.weights_sha256 == weights

    def test_two_signals_stop_at_once(self, digits: Dataset, tmp_path: Path) -> None:
        def twice(event: Event) -> None:
            if isinstance(event, EpochDone):
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            sartor.fit(digits, model=Signalling(None), out=out, on_event=twice, **SETTINGS)
        assert sartor.Run.open(out).status["state"] == "interrupted"

    def test_outside_the_main_thread_nobody_listens(
        self, digits: Dataset, tmp_path: Path, weights: str
    ) -> None:
        found: list[str] = []

        def work() -> None:
            model = Signalling(None)
            run = sartor.fit(digits, model=model, out=tmp_path / "run", **SETTINGS)
            found.append(run.weights_sha256)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [weights]


@pytest.fixture(scope="module")
def found(dying: subprocess.Popen[str]) -> dict[str, Any]:
    stdout, stderr = dying.communicate(timeout=600)
    assert dying.returncode == 0, stderr
    found: dict[str, Any] = json.loads(stdout)
    assert found["undisturbed"]["state"] == "finished"
    return found


class TestEverywhere:
    """What `dying.py` found, which worked beside the tests above."""

    def test_one_death_at_every_touch_of_the_file_system(self, found: dict[str, Any]) -> None:
        assert len(found["once"]) > 100
        states = set()
        for death in found["once"]:
            if death["was_run"]:
                assert found["undisturbed"].items() <= death.items(), death["touch"]
                states.add(death["was"])
            else:
                assert death["again"] == found["undisturbed"], death["touch"]
                if death["touch"] > 1:
                    assert "is not a complete run" in death["error"]
        assert states == {"killed", "finished"}

    def test_many_deaths_of_one_run(self, found: dict[str, Any]) -> None:
        assert found["often"].pop("deaths") > 10
        assert found["often"] == found["undisturbed"]

    def test_deaths_while_a_finished_run_is_trained_longer(self, found: dict[str, Any]) -> None:
        assert len(found["extended"]) > 15
        for death in found["extended"]:
            assert found["longer"].items() <= death.items(), death["touch"]

    def test_a_full_disk(self, found: dict[str, Any]) -> None:
        disk = found["disk"]
        assert disk["error"].startswith("Cannot write ")
        assert "/new.safetensors: file too large." in disk["error"]
        assert "ulimit" in disk["error"]
        assert disk["was"] == "failed"
        assert disk["steps"] == 4, "the last good checkpoint has every step, and not the last row"
        assert not [name for name in disk["files"] if name.endswith(".tmp")]
        assert disk["as_if_nothing_happened"]
