"""A proof finds what a resume would get wrong, and says so of nothing else."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import sartor
from sartor import api
from sartor.api import proving
from sartor.api.proving import Death, Proof
from sartor.data.dataset import Dataset
from sartor.events import CheckpointDue, Event

FORGETFUL = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.linear, self.steps = nn.Linear(64, num_classes), 0

    def forward(self, images):
        self.steps += self.training
        return self.linear(images.flatten(1)) / (1 + self.steps)
"""
SETTINGS: dict[str, Any] = {"epochs": 1, "batch_size": 64, "threads": 1, "report": False}


@pytest.fixture(autouse=True)
def one_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs the start of a process."""
    monkeypatch.setattr(proving, "SIGNALS", ("SIGKILL",))


def test_a_run_that_resumes_as_it_should(run_copy: Path, command: Any) -> None:
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    answer = command("resume", run_copy, "--prove", "--json")
    assert answer.exit_code == 0, answer.err
    found = answer.document
    (death,) = found.pop("deaths")
    assert death["signal"] == "SIGKILL"
    assert 4 <= death["step"] < found["steps"]
    weights = found.pop("weights_sha256")
    assert found == {
        "run": str(run_copy),
        "equal": True,
        "steps": 2 * 7,
        "differences": [],
        "repeatable": True,
    }
    assert f"left alone: 14 steps, weights {weights[:12]}" in answer.err
    assert weights != sartor.Run.open(run_copy).weights_sha256
    after = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    assert after == before


def test_a_run_that_was_interrupted_and_one_that_was_extended(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, CheckpointDue):
            raise StopError

    folder = tmp_path / "run"
    settings: dict[str, Any] = {"epochs": 4, "checkpoint_seconds": 0.0, "threads": 1}
    with pytest.raises(StopError):
        sartor.fit("digits", model="linear", out=folder, on_event=stop, **settings)
    assert _is_proved_and_untouched(folder)
    sartor.resume(folder)
    sartor.resume(folder, epochs=6)
    assert _is_proved_and_untouched(folder)
    assert len(sartor.Run.open(folder).history) == 6


def _is_proved_and_untouched(folder: Path) -> bool:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    proof = api.prove(folder)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return proof.is_equal and after == before


# Its counter is what the training itself warns of.
@pytest.mark.filterwarnings("ignore:steps of Net changed")
def test_a_network_that_forgets(tmp_path: Path, command: Any) -> None:
    file = tmp_path / "net.py"
    file.write_text(FORGETFUL)
    run = sartor.fit("digits", model=f"{file}:Net", out=tmp_path / "run", **SETTINGS)
    file.unlink()  # the run has its own
    answer = command("resume", run.path, "--prove", "--quiet")
    assert (answer.exit_code, answer.out) == (1, "")
    assert "killed and resumed 1 time differs from one that was left alone" in answer.err
    assert "in buffers" in answer.err


class TestWhatCannotBeProved:
    def test_a_network_or_data_of_a_program(self, digits: Dataset, tmp_path: Path) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        run = sartor.fit(digits, model=network, out=tmp_path / "one", **SETTINGS)
        with pytest.raises(sartor.SartorError, match=r"The network of .* cannot be given to"):
            api.prove(run)
        mine = Dataset(digits.images[:300], digits.labels[:300], name="mine")
        run = sartor.fit(mine, model="linear", out=tmp_path / "two", **SETTINGS)
        with pytest.raises(sartor.SartorError, match=r"The data mine of .* cannot be given to"):
            api.prove(run)

    def test_with_more_epochs(self, run_copy: Path, command: Any) -> None:
        answer = command("resume", run_copy, "--prove", "--epochs", 9)
        assert (answer.exit_code, answer.out) == (2, "")
        assert "--prove trains a small copy" in answer.err

    def test_a_copy_that_cannot_be_trained(self) -> None:
        """What the training says comes through."""
        proving._refuse_failure(0, "")
        with pytest.raises(sartor.SartorError) as caught:
            proving._refuse_failure(1, "warning: few\nsartor: Cannot write x: full.\nFree some.\n")
        assert str(caught.value) == (
            "The small copy could not be trained: Cannot write x: full. Free some."
        )
        with pytest.raises(sartor.SartorError, match="it ended with code -9"):
            proving._refuse_failure(-signal.SIGKILL, "")


def test_what_cannot_be_repeated_is_not_blamed_on_the_resume() -> None:
    proof = Proof(
        run="r",
        steps=9,
        deaths=(Death("SIGKILL", 4),),
        differences=("weights", "history"),
        repeatable=False,
        weights_sha256="a",
    )
    assert not proof.is_equal
    assert "Two copies of r that nobody disturbed differ in weights and history" in proof.sentence
    assert "clock" in proof.hint
