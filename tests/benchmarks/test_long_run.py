"""The benchmark of long trainings looks at what it says, and puts everything back."""

from __future__ import annotations

import json
from dataclasses import asdict

import long_run
import pytest
from long_run import LongRun

from sartor.runs.sinks import Recorder
from sartor.training import progress


@pytest.mark.usefixtures("mnist")
def test_memory_pace_and_keeping_are_measured() -> None:
    before = progress.snapshot, Recorder.__call__
    found = long_run.train("mnist-logistic", 3)
    assert (progress.snapshot, Recorder.__call__) == before
    assert list(found.memory) == [1, 3]
    assert all(10 < mib < 100_000 for mib in found.memory.values())
    assert 0 < found.first_us < 1e6
    assert 0 < found.last_us < 1e6
    assert found.checkpoints >= 2
    assert 0 < found.keeping < 1


def test_the_table_says_what_was_reached(some_long_run: LongRun) -> None:
    _, _, memory, pace, keeping = long_run.table([some_long_run])
    assert memory.startswith("| some-recipe, 100 epochs | memory after epochs 10, 50, 100, MiB |")
    assert memory.endswith("| 100, 150, 110 | +10.00 % | 2 % | no |")
    assert pace.endswith("| 200.0, 202.0 | +1.00 % | 2 % | yes |")
    assert "| log and 7 checkpoints, s | 0.15 of 10.0 | +1.50 % | 1 % | no |" in keeping


def test_too_few_epochs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        long_run.main(["--epochs", "2"])
    assert "at least 3" in capsys.readouterr().err


def test_it_survives_json(some_long_run: LongRun) -> None:
    assert LongRun.from_json(json.loads(json.dumps(asdict(some_long_run)))) == some_long_run
