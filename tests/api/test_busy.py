"""A machine that becomes busy while a run trains: said, measured again, recorded, repeatable."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sartor
from sartor.api import remarks, running
from sartor.api import tuning as api_tuning
from sartor.errors import Interrupted
from sartor.events import Event, Note, StepDone
from sartor.runs.folder import RunFolder
from sartor.runs.seals import differences
from sartor.training import progress
from sartor.training.engines import race
from sartor.training.engines.race import Measurement, Timing
from sartor.training.pace import Pace

SETTINGS: dict[str, Any] = {
    "model": "lenet",
    "model_kwargs": {"channels": (2, 3), "hidden": (8,)},
    "epochs": 4,
    "batch_size": 400,
    "check": False,
    "report": False,
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """Engines are measured at the start, where nothing is far faster than two threads; later one
    thread is, as many times as the list says."""
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(api_tuning, "_FEWEST_STEPS", 1)
    monkeypatch.setattr(api_tuning, "_SHORTEST_SECONDS", 0.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_STEP_EVENTS", 0.0)
    monkeypatch.setattr(remarks, "_WORTH_SECONDS", 0.0)
    ratios: list[float] = []

    def measure(engines: Any, threads: Any, job_of: Any, _seconds: float) -> Measurement:
        ratio = ratios[-1] if ratios else 1.0
        job_of(engines[0])  # leaves no trace in the training
        plans = [engines[0], *(replace(engines[0], threads=one) for one in threads)]
        timings = [
            Timing(
                engine=plan,
                seconds_a_step=1.0,
                times_as_fast=ratio if plan.threads == 1 else 1.0,
                at_least=ratio if plan.threads == 1 else 1.0,
                quickest=1.0,
                rounds=3,
            )
            for plan in plans
        ]
        return Measurement(timings=tuple(timings), left_out=(), seconds=1.0, interruptions=0.0)

    monkeypatch.setattr(race, "measure", measure)
    return ratios


def fit_beside_others(
    out: Path, monkeypatch: pytest.MonkeyPatch, ratios: list[float], **more: Any
) -> tuple[sartor.Run, list[str]]:
    """A run beside which others begin to compute in its second epoch, and what was said."""
    said: list[str] = []
    stop = more.pop("stop", lambda _: False)
    with monkeypatch.context() as patch:

        def listen(event: Event) -> None:
            if isinstance(event, Note):
                said.append(event.text)
            if isinstance(event, StepDone) and event.epoch == 2 and not ratios:
                ratios.append(22.0)
                patch.setattr(Pace, "has_fallen", property(lambda self: not self.slept))
                patch.setattr(Pace, "begin_again", lambda self: setattr(self, "slept", True))
            if stop(event):
                os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(Pace, "slept", False, raising=False)
        run = sartor.fit("digits", out=out, on_event=listen, **{**SETTINGS, **more})
    return run, said


def test_it_is_said_and_the_faster_engine_goes_on(
    measured: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, said = fit_beside_others(tmp_path / "run", monkeypatch, measured)
    slow, again = said
    assert slow.startswith("Training has slowed down to ")
    assert slow.endswith("The engine is measured again after this epoch.")
    assert "from step 8 on with 1 thread, 22.0 times as fast as 2 threads" in again
    training = run.recipe.training
    assert training.threads == 1
    (change,) = training.engine_changes
    assert change.endswith("2 threads until step 8")
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    assert not differences(RunFolder(run.path)).recipe
    assert run.status["state"] == "finished"


def test_the_recipe_makes_it_again(
    measured: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    threads: list[int] = []
    really = running.hardware.tuned

    def tuned(settings: Any) -> Any:
        threads.append(settings.threads)
        return really(settings)

    run, _ = fit_beside_others(tmp_path / "run", monkeypatch, measured)
    monkeypatch.setattr(running.hardware, "tuned", tuned)
    monkeypatch.setattr("sartor.api.finishing.calibrate", lambda _run: None)
    again = sartor.fit(recipe=run.path / "recipe.toml", out=tmp_path / "again", report=False)
    assert threads[-2:] == [2, 1]
    assert again.weights_sha256 == run.weights_sha256
    assert again.recipe == run.recipe
    named = sartor.fit(
        recipe=run.path / "recipe.toml", threads=2, out=tmp_path / "named", report=False
    )
    assert named.recipe.training.engine_changes == ()


@pytest.mark.parametrize("epoch", [1, 3])
def test_stopped_and_resumed_it_ends_in_the_same_bits(
    measured: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, epoch: int
) -> None:
    def stop(event: Event) -> bool:
        return isinstance(event, StepDone) and event.epoch == epoch and event.position == 2

    run, _ = fit_beside_others(tmp_path / "run", monkeypatch, measured)
    measured.clear()
    cut = tmp_path / "cut"
    if epoch == 1:
        interrupt = lambda event: stop(event) and os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        with pytest.raises(Interrupted):
            sartor.fit(recipe=run.path / "recipe.toml", out=cut, report=False, on_event=interrupt)
    else:
        with pytest.raises(Interrupted):
            fit_beside_others(cut, monkeypatch, measured, stop=stop)
    resumed = sartor.resume(cut)
    assert resumed.weights_sha256 == run.weights_sha256
    assert resumed.recipe.training == run.recipe.training


def test_killed_between_the_recipe_and_its_checkpoint(
    measured: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, _ = fit_beside_others(tmp_path / "run", monkeypatch, measured)
    measured.clear()
    with monkeypatch.context() as patch:

        def die(*_: object) -> None:
            raise ZeroDivisionError

        patch.setattr(running, "snapshot", die)
        with pytest.raises(ZeroDivisionError):
            fit_beside_others(tmp_path / "cut", monkeypatch, measured)
    assert not differences(RunFolder(tmp_path / "cut")).recipe
    assert sartor.resume(tmp_path / "cut").weights_sha256 == run.weights_sha256


def test_what_is_not_far_faster_is_left(
    measured: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def quiet(_: Event) -> bool:
        if measured:
            measured[-1] = 1.5
        return False

    run, said = fit_beside_others(tmp_path / "run", monkeypatch, measured, stop=quiet)
    assert said[-1] == "Measured again: no other engine is far faster at present."
    assert run.recipe.training.engine_changes == ()
    assert run.recipe.training.threads == 2


def test_a_named_engine_is_kept(
    measured: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, said = fit_beside_others(tmp_path / "run", monkeypatch, measured, engine="native")
    assert len(said) == 1
    assert said[0].endswith("`sartor resume`.")
    assert run.recipe.training.engine_changes == ()
