"""The engine of a training: chosen once, kept, said, and never against what was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sartor
from sartor import native_module
from sartor.api import tuning as api_tuning
from sartor.errors import SartorWarning
from sartor.training.engines import native, race
from sartor.training.engines.hardware import ExecutionPlan
from sartor.training.engines.race import Measurement, Timing

SMALL: dict[str, Any] = {
    "model": "lenet",
    "model_kwargs": {"channels": (2, 3), "hidden": (8,)},
    "epochs": 2,
    "threads": 1,
    "check": False,
    "report": False,
    "seed": 3,
}


@pytest.fixture(autouse=True)
def without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices among the layouts of the plain engine."""
    monkeypatch.setattr(native, "reason_against", lambda *_: "a test is without")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[ExecutionPlan]]:
    """Measure even short trainings, in a cache of their own, and find contiguous the fastest.

    The list fills with the engines of every race.
    """
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(api_tuning, "_FEWEST_STEPS", 1)
    monkeypatch.setattr(api_tuning, "_SHORTEST_SECONDS", 0.0)
    races: list[list[ExecutionPlan]] = []
    really = race.measure

    def measure(engines: Any, threads: Any, job_of: Any, seconds: float) -> Measurement:
        races.append(list(engines))
        found = really(engines, threads, job_of, min(seconds, 0.02))
        timings = [
            Timing(
                engine=timing.engine,
                seconds_a_step=timing.seconds_a_step,
                times_as_fast=1.5 if timing.engine.memory_format == "contiguous" else 1.0,
                at_least=1.0,
                quickest=timing.seconds_a_step,
                rounds=timing.rounds,
            )
            for timing in found.timings
        ]
        return Measurement(
            timings=tuple(timings), left_out=found.left_out, seconds=1.25, interruptions=0.0
        )

    monkeypatch.setattr(race, "measure", measure)
    return races


def test_the_choice_is_kept_said_and_taken_again(
    measured: list[list[ExecutionPlan]], tmp_path: Path
) -> None:
    said: list[str] = []

    def listen(event: Any) -> None:
        if isinstance(event, sartor.events.Started):
            said.append(event.engine)

    one = sartor.fit("digits", out=tmp_path / "one", on_event=listen, **SMALL)
    assert one.recipe.training.memory_format == "contiguous"
    assert one.recipe.training.engine == "plain"
    two = sartor.fit("digits", out=tmp_path / "two", on_event=listen, **SMALL)
    assert len(measured) == 1, "the second takes what the first measured"
    assert two.recipe == one.recipe
    assert two.weights_sha256 == one.weights_sha256
    assert said == [
        "engine: contiguous; 1.5 times as fast as channels-last (measured in 1.2 s)",
        "engine: contiguous; 1.5 times as fast as channels-last (measured before)",
    ]
    document = json.loads((one.path / "engine.json").read_text())
    assert document["line"] == said[0]
    assert document["chosen"] == {
        "memory_format": "contiguous",
        "amp_dtype": "float32",
        "threads": 1,
        "engine": "plain",
    }
    assert {row["engine"]["memory_format"] for row in document["measured"]["timings"]} == {
        "contiguous",
        "channels-last",
    }


def test_a_named_choice_makes_the_same_weights(
    measured: list[list[ExecutionPlan]], tmp_path: Path
) -> None:
    """Measuring leaves no trace: the same as if the choice had been asked for."""
    tuned = sartor.fit("digits", out=tmp_path / "tuned", **SMALL)
    asked = sartor.fit(
        "digits", out=tmp_path / "asked", engine="plain", memory_format="contiguous", **SMALL
    )
    again = sartor.fit(recipe=tuned.path / "recipe.toml", out=tmp_path / "again", report=False)
    assert len(measured) == 1
    assert tuned.weights_sha256 == asked.weights_sha256 == again.weights_sha256
    assert again.recipe == tuned.recipe


def test_a_resumed_run_keeps_it(measured: list[list[ExecutionPlan]], tmp_path: Path) -> None:
    whole = sartor.fit("digits", out=tmp_path / "whole", **SMALL | {"sched": "constant"})
    begun = sartor.fit(
        "digits", out=tmp_path / "begun", **SMALL | {"sched": "constant", "epochs": 1}
    )
    races = len(measured)
    resumed = sartor.resume(begun, epochs=2, report=False)
    assert len(measured) == races
    assert resumed.weights_sha256 == whole.weights_sha256


def test_native_is_resumed_trained_again_and_predicted_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same bits as without a break."""
    monkeypatch.undo()
    settings = SMALL | {"sched": "constant", "threads": 2}
    whole = sartor.fit("digits", out=tmp_path / "whole", **settings)
    again = sartor.fit("digits", out=tmp_path / "again", **settings)
    begun = sartor.fit("digits", out=tmp_path / "begun", **settings | {"epochs": 1})
    resumed = sartor.resume(begun, epochs=2, report=False)
    assert whole.recipe.training.engine == "native"
    assert whole.weights_sha256 == again.weights_sha256 == resumed.weights_sha256
    plain = sartor.fit("digits", out=tmp_path / "plain", engine="plain", **settings)
    assert whole.weights_sha256 != plain.weights_sha256, "it was another engine"
    for one, other in zip(whole.history, plain.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)
    resumed.evaluate("test")
    saved = np.load(resumed.folder.predictions_path("test"))
    images = sartor.load("digits").images[saved["indices"][:64]]
    expected = torch.from_numpy(saved["logits"][:64]).double().softmax(1)
    torch.testing.assert_close(
        torch.from_numpy(resumed.predictor(calibrated=False).probabilities(images)),
        expected,
        rtol=1e-5,
        atol=1e-6,
    )


def test_what_was_asked_for_is_never_replaced(
    measured: list[list[ExecutionPlan]], tmp_path: Path
) -> None:
    for number, given in enumerate(
        [{"engine": "compiled"}, {"engine": "plain"}, {"engine": "plain", "threads": 1}]
    ):
        run = sartor.fit("digits", out=tmp_path / str(number), **SMALL | given)
        assert run.recipe.training.memory_format == "channels-last"
        assert run.recipe.training.engine == given["engine"]
        assert not (run.path / "engine.json").exists()
    assert measured == []
    given = {"memory_format": "channels-last", "amp_dtype": "auto"}
    run = sartor.fit("digits", out=tmp_path / "layout", **SMALL | given)
    assert run.recipe.training.memory_format == "channels-last"
    assert {one.memory_format for one in measured[0]} == {"channels-last"}


def test_bfloat16_is_tried_only_where_it_is_allowed(
    measured: list[list[ExecutionPlan]], tmp_path: Path
) -> None:
    run = sartor.fit("digits", out=tmp_path / "float", **SMALL)
    assert {one.amp_dtype for one in measured[-1]} == {"float32"}
    assert run.recipe.training.amp_dtype == "float32"
    sartor.fit("digits", out=tmp_path / "auto", amp_dtype="auto", **SMALL)
    assert {one.amp_dtype for one in measured[-1]} == {"float32", "bfloat16"}


@pytest.mark.parametrize(
    "other", [{"batch_size": 32}, {"opt": "sgd"}, {"augment": "flip"}, {"model": "resnet8"}]
)
def test_another_training_is_measured_anew(
    measured: list[list[ExecutionPlan]], tmp_path: Path, other: dict[str, Any]
) -> None:
    sartor.fit("digits", out=tmp_path / "one", **SMALL)
    settings = SMALL | other
    if "model" in other:
        settings.pop("model_kwargs")
    sartor.fit("digits", out=tmp_path / "other", **settings)
    assert len(measured) == 2


def test_short_trainings_measure_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(race, "measure", None)
    monkeypatch.setattr(api_tuning, "_FEWEST_STEPS", 1)
    # What is short must not depend on how busy the machine is.
    monkeypatch.setattr(api_tuning, "_SHORTEST_SECONDS", 60.0)
    for number in range(2):
        run = sartor.fit("digits", out=tmp_path / str(number), **SMALL)
        assert run.recipe.training.memory_format == "channels-last"
        assert not (run.path / "engine.json").exists()
    (kept,) = (tmp_path / "home" / "engines").glob("*.json")
    assert json.loads(kept.read_text())["seconds_a_step"] > 0, "so that the next decides the same"


@pytest.mark.parametrize("content", ["", "{}", '{"seconds_a_step": "x"}', '{"measured": {}}', "[]"])
def test_a_damaged_cache_is_measured_anew(
    measured: list[list[ExecutionPlan]], tmp_path: Path, content: str
) -> None:
    sartor.fit("digits", out=tmp_path / "one", **SMALL)
    (kept,) = (tmp_path / "home" / "engines").glob("*.json")
    kept.write_text(content)
    run = sartor.fit("digits", out=tmp_path / "two", **SMALL)
    assert len(measured) == 2
    assert run.recipe.training.memory_format == "contiguous"


def test_a_cache_that_cannot_be_written_leaves_the_usual(
    measured: list[list[ExecutionPlan]], tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "engines").write_text("in the way")
    run = sartor.fit("digits", out=tmp_path / "run", **SMALL)
    assert run.recipe.training.memory_format == "channels-last"
    assert measured == []


class Unique(nn.Module):
    """A network that refuses to be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def __deepcopy__(self, _: Any) -> Unique:
        raise TypeError("there is but one of me.")

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))


@pytest.mark.usefixtures("measured")
def test_what_cannot_be_copied_is_trained_as_usual_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(race, "choices", lambda default, *_: [default, default])
    settings = {"epochs": 1, "threads": 1, "check": False, "report": False}
    with pytest.warns(SartorWarning, match="could not be calibrated: The model cannot be copied"):
        run = sartor.fit("digits", model=Unique(), out=tmp_path / "run", **settings)
    document = run.folder.engine()
    assert document is not None
    assert document["line"] == (
        "engine: default (none could be measured): The model cannot be copied: there ..."
    )
    assert document["chosen"]["engine"] == run.recipe.training.engine == "plain"


@pytest.mark.parametrize(("seconds", "tried"), [(599.0, False), (601.0, True)])
def test_compiling_is_tried_for_long_trainings_alone(
    measured: list[list[ExecutionPlan]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    seconds: float,
    tried: bool,
) -> None:
    def with_compiled(found: Measurement, _job_of: Any, _seconds: float) -> Measurement:
        chosen = replace(found.timings[0].engine, engine="compiled")
        timing = Timing(
            engine=chosen,
            seconds_a_step=0.1,
            times_as_fast=9.0,
            at_least=9.0,
            quickest=0.1,
            rounds=3,
        )
        return replace(found, timings=(*found.timings, timing))

    steps = 2 * 21
    monkeypatch.setattr(race, "with_compiled", with_compiled)
    monkeypatch.setattr(race, "seconds_a_step", lambda _: seconds / steps)
    monkeypatch.setattr(api_tuning, "problem", lambda *_: None)
    found: list[Any] = []
    really = api_tuning.tune

    def tune(*given: Any) -> Any:
        found.append(really(*given))
        raise KeyboardInterrupt

    monkeypatch.setattr("sartor.api.fitting.tune", tune)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sartor.fit("digits", out=tmp_path / "run", **SMALL)
    assert [one.engine.engine == "compiled" for one in found] == [tried, tried]
    assert [one.document["measured_before"] for one in found] == [False, True]
    assert len(measured) == 1


@pytest.mark.usefixtures("measured")
def test_show_says_it(tmp_path: Path, command: Callable[..., Any]) -> None:
    run = sartor.fit("digits", out=tmp_path / "run", **SMALL)
    shown = command("show", run.path)
    assert "1.5 times as fast as channels-last" in shown.out
    document = command("show", run.path, "--json").document
    assert document["engine"]["chosen"]["memory_format"] == "contiguous"
    plain = sartor.fit("digits", out=tmp_path / "plain", engine="plain", **SMALL)
    assert command("show", plain.path, "--json").document["engine"] is None


@pytest.mark.parametrize(
    ("given", "device", "is_open"),
    [
        ({}, "cpu", {"memory_format", "threads"}),
        ({}, "cuda", {"memory_format"}),
        ({"amp_dtype": "auto"}, "cuda", {"memory_format", "amp_dtype"}),
        ({"threads": 2, "memory_format": "contiguous"}, "cpu", set()),
    ],
)
def test_what_is_open_is_what_nobody_set_and_matters(
    given: dict[str, Any], device: str, is_open: set[str]
) -> None:
    assert api_tuning._open_settings(sartor.Recipe().with_settings(given), device) == is_open


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["channels-last", "contiguous"])
@pytest.mark.parametrize("speed", [1.0, 1.9, 10.25])
@pytest.mark.parametrize("quickest", [0.1, 0.01])
def test_the_line_fits_a_terminal(
    precision: str, layout: str, speed: float, quickest: float
) -> None:
    usual = ExecutionPlan(
        memory_format="channels-last", amp_dtype="float32", threads=64, engine="plain"
    )
    chosen = ExecutionPlan(memory_format=layout, amp_dtype=precision, threads=16, engine="compiled")
    timings = [
        Timing(
            engine=one,
            seconds_a_step=0.1,
            times_as_fast=fast,
            at_least=fast,
            quickest=quickest,
            rounds=3,
        )
        for one, fast in ((usual, 1.0), (chosen, speed))
    ]
    measured = Measurement(timings=tuple(timings), left_out=(), seconds=12.3, interruptions=0.0)
    for before in (False, True):
        line = api_tuning._line(measured, before)
        assert len(line) <= 80
        assert line.startswith("engine: ")
        assert ("busy" in line) == (quickest < 0.1)


def test_what_a_busy_machine_says_is_taken_and_not_kept(
    measured: list[list[ExecutionPlan]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    really = race.measure

    def measure(*given: Any) -> Measurement:
        found = really(*given)
        timings = tuple(replace(one, at_least=one.times_as_fast * 4) for one in found.timings)
        return replace(found, timings=timings, interruptions=200.0)

    monkeypatch.setattr(race, "measure", measure)
    for name in ("one", "two"):
        run = sartor.fit("digits", out=tmp_path / name, **SMALL)
        assert run.recipe.training.memory_format == "contiguous"
        document = run.folder.engine()
        assert document is not None
        assert "while busy" in document["line"]
    assert len(measured) == 2, "each training measures for itself"
    assert not list((tmp_path / "home" / "engines").glob("*.json"))


class Watched(nn.Module):
    """A network that notes how it is computed; its copies note it in the same list."""

    seen: ClassVar[list[tuple[int, bool, torch.dtype]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3))
        self.head = nn.Linear(4 * 36, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = self.convs(images)
        layout = features.is_contiguous(memory_format=torch.channels_last)
        self.seen.append((torch.get_num_threads(), layout, features.dtype))
        return self.head(features.flatten(1))


@pytest.mark.parametrize("layout", ["channels-last", "contiguous"])
def test_judging_and_predicting_compute_as_training_did(tmp_path: Path, layout: str) -> None:
    run = sartor.fit(
        "digits",
        model=Watched(),
        out=tmp_path / "run",
        epochs=1,
        threads=3,
        memory_format=layout,
        amp_dtype="bfloat16",
        check=False,
        report=False,
    )
    before = torch.get_num_threads()
    expected = (3, layout == "channels-last", torch.bfloat16)
    picture = Image.fromarray(np.zeros((8, 8), np.uint8))
    for use in (lambda: run.evaluate("test"), lambda: run.predict([picture, picture])):
        Watched.seen.clear()
        use()
        assert set(Watched.seen) == {expected}
        assert torch.get_num_threads() == before


@pytest.mark.parametrize("kept", ["threading.Lock()", "iter(range(9))", "(n for n in range(9))"])
def test_a_network_that_python_cannot_copy_is_measured_too(
    measured: list[list[ExecutionPlan]], tmp_path: Path, kept: str
) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "import threading\nfrom torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(10))\n"
        f"        self.kept = {kept}\n"
    )
    settings = SMALL | {"model": f"{file}:Net", "model_kwargs": {}, "epochs": 1}
    run = sartor.fit("digits", out=tmp_path / "run", **settings)
    assert measured, "raced on networks built again"
    assert run.recipe.training.memory_format == "contiguous"


@pytest.mark.usefixtures("measured")
def test_the_environment_says_what_decided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sartor.training.engines.hardware.multiplies_bfloat16", lambda _: False)

    def said(name: str, **settings: Any) -> str:
        run = sartor.fit("digits", out=tmp_path / name, **SMALL | settings)
        found = json.loads((run.path / "environment.json").read_text())["engine_choice"]
        assert isinstance(found, str)
        return found

    assert said("measured", amp_dtype="auto").startswith("plain, float32, contiguous. Measured in ")
    again = said("again", amp_dtype="auto")
    assert again.startswith("plain, float32, contiguous. Measured before, ")
    assert "times as fast as plain, float32, channels-last, 1 thread: " in again
    assert "; plain, float32, contiguous, 1 thread: 1.50" in again
    asked = said("asked", engine="plain")
    assert asked == "plain, float32, channels-last: engine plain was asked for."
    monkeypatch.undo()
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(api_tuning, "_FEWEST_STEPS", 1)
    monkeypatch.setattr(race, "measure", None)
    narrow = said("narrow")
    assert narrow.startswith("native, float32, contiguous: not measured, as native is always")


def test_few_steps_are_a_duel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Native against bfloat16, kept under a name of its own; other trainings so short measure
    nothing."""
    monkeypatch.undo()
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(api_tuning, "_FEWEST_STEPS_OF_A_DUEL", 1)
    monkeypatch.setattr(api_tuning, "_SHORTEST_SECONDS", 0.0)
    monkeypatch.setattr("sartor.training.engines.hardware.multiplies_bfloat16", lambda _: True)
    races: list[list[ExecutionPlan]] = []

    def measure(engines: Any, threads: Any, _job_of: Any, _seconds: float) -> Measurement:
        races.append(list(engines))
        assert threads == []
        timings = [
            Timing(
                engine=one,
                seconds_a_step=0.01 / fast,
                times_as_fast=fast,
                at_least=fast,
                quickest=0.01 / fast,
                rounds=3,
            )
            for one, fast in zip(engines, (1.0, 1.2), strict=True)
        ]
        return Measurement(timings=tuple(timings), left_out=(), seconds=0.1, interruptions=0.0)

    monkeypatch.setattr(race, "measure", measure)
    wide = SMALL | {"model_kwargs": {"channels": (2, 64), "hidden": (8,)}}
    for name in ("one", "two"):
        run = sartor.fit("digits", out=tmp_path / name, amp_dtype="auto", **wide)
        assert (run.recipe.training.engine, run.recipe.training.amp_dtype) == ("plain", "bfloat16")
    ((default, other),) = races
    assert (default.engine, other.engine, other.amp_dtype) == ("native", "plain", "bfloat16")
    (kept,) = (tmp_path / "home" / "engines").glob("*.json")
    assert {"duel", "measured"} & set(json.loads(kept.read_text())) == {"duel"}
    sartor.fit("digits", out=tmp_path / "float", **wide)
    sartor.fit("digits", out=tmp_path / "narrow", amp_dtype="auto", **SMALL)
    assert len(races) == 1
    if native_module.bfloat16_sets():
        narrow = SMALL | {"model_kwargs": {"channels": (16, 16), "hidden": (8,)}}
        sartor.fit("digits", out=tmp_path / "both", amp_dtype="auto", **narrow)
        both = [(one.engine, one.amp_dtype) for one in races[-1]]
        assert both == [("native", "float32"), ("native", "bfloat16")]
