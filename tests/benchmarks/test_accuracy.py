"""Goals and ablations are trained as they say, and the page says what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import accuracy
import pytest
from accuracy_page import (
    Ablation,
    Goal,
    Result,
    ablation_table,
    document,
    goal_table,
    machines,
    race_lines,
)

from sartor.data.dataset import Dataset
from sartor.recipe import load_recipe

MACHINE = {"processor": "some", "torch": "2", "sartor": "0", "date": "now"}
GOAL = Goal(
    recipe="fashion-fast",
    settings={"epochs": 1, "model_kwargs": {"widths": [16, 32]}},
    accuracy=0.9,
    limit=6,
    seeds=2,
)


def result(of: str, seed: int, accuracy: float, seconds: float, **more: float) -> Result:
    return Result(of=of, seed=seed, accuracy=accuracy, seconds=seconds, machine=MACHINE, **more)


def test_a_goal_is_the_command_that_makes_it_again() -> None:
    assert GOAL.command == (
        "sartor fit --recipe fashion-fast --epochs 1 --model-kwargs widths=16,32"
    )
    moved = {"augment": ["rotate=10", "shift=0.1"], "tta": "none"}
    assert replace(GOAL, settings=moved).command.endswith(
        "--augment rotate=10 shift=0.1 --tta none"
    )
    assert replace(GOAL, settings={"augment": []}).command.endswith("--augment none")


@pytest.mark.parametrize(
    ("accuracies", "seconds", "reached"),
    [
        ((0.89, 0.92), (5, 6), "yes"),
        ((0.89, 0.90), (5, 6), "no"),
        ((0.91, 0.92), (6, 7), "no"),
        ((0.95,), (1,), "no"),  # too few seeds
    ],
)
def test_a_goal_is_reached_by_the_means(
    accuracies: tuple[float, ...], seconds: tuple[float, ...], reached: str
) -> None:
    pairs = enumerate(zip(accuracies, seconds, strict=True))
    found = [result(GOAL.command, seed, *pair) for seed, pair in pairs]
    assert goal_table([GOAL], found)[-1].endswith(f"| {reached} |")


def test_an_ablation_is_compared_seed_by_seed() -> None:
    base, other = (
        Ablation(recipe="r", name=name, settings={}, seeds=2) for name in ("as it is", "no x")
    )
    found = [
        result(base.command, 0, 0.90, 10),
        result(base.command, 1, 0.92, 20),
        result(other.command, 1, 0.91, 30),
    ]
    row = ablation_table([base, other], found)[-1]
    assert row == "| no x | 1 | 91.00% | -1.00 | 30.0 | 1.50 |"


def test_a_race_tells_the_median_share_of_the_time() -> None:
    found = [
        result(GOAL.command, seed, 0.9, 1.0, loop_accuracy=loop, loop_seconds=seconds)
        for seed, (loop, seconds) in enumerate([(0.87, 10.0), (0.88, 30.0), (0.91, 20.0)])
    ]
    (line,) = race_lines(GOAL, found)
    assert "1/20.0 of its time (median of 3 pairs, 1/10.0 to 1/30.0)" in line
    assert "ahead in 2 of 3" in line


def test_goals_and_ablations_are_recipes_that_ship() -> None:
    for trial in [accuracy.RACE, *accuracy.GOALS, *sum(accuracy.ABLATIONS.values(), ())]:
        load_recipe(trial.recipe).with_settings(trial.settings)
    for recipe, some in accuracy.ABLATIONS.items():
        assert some[0].name == "as it is"
        assert {one.recipe for one in some} == {recipe}
        assert len({one.name for one in some}) == len(some)


def test_what_is_missing_is_trained_judged_and_written(
    small_sets: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"widths": [16], "depth": 1}
    lenet = {"channels": [4, 8], "hidden": [16]}
    goal = Goal(
        recipe="mnist-fast", settings={"model_kwargs": lenet}, accuracy=0.5, limit=9, seeds=2
    )
    as_it_is = Ablation(
        recipe="fashion-fast", name="as it is", settings={"model_kwargs": small}, seeds=1
    )
    monkeypatch.setattr(accuracy, "dataset_of", small_sets.__getitem__)
    monkeypatch.setattr(accuracy, "GOALS", (goal,))
    monkeypatch.setattr(accuracy, "ABLATIONS", {"fashion-fast": (as_it_is,)})
    monkeypatch.setattr(accuracy, "RACE", goal)
    monkeypatch.setattr(accuracy, "RESULTS", tmp_path / "recipes.json")
    monkeypatch.setattr(accuracy.machine, "DOCS", tmp_path)
    elsewhere = result(goal.command, 1, 0.5, 1.0)
    here = MACHINE | {"processor": accuracy.machine.processor()}
    known = replace(result(goal.command, 0, 0.5, 1.0), machine=here)
    (tmp_path / "recipes.json").write_text(json.dumps([vars(elsewhere), vars(known)]))
    assert accuracy.main([]) == 0
    kept = accuracy.kept_results()
    assert [(one.of, one.seed) for one in kept] == [
        (goal.command, 1),
        (goal.command, 0),
        (as_it_is.command, 0),
        (goal.command, 1),
    ]
    assert kept[:2] == [elsewhere, known]
    assert kept[3].loop_seconds is not None
    assert all(0 < one.accuracy <= 1 and one.seconds > 0 for one in kept)
    page = (tmp_path / "recipes.md").read_text()
    assert page == document((goal,), accuracy.ABLATIONS, goal, kept)
    assert f"`{goal.command}` | 2 |" in page
    assert "\nsome:\n" in page
    assert f"`{goal.command}` | 1 |" in page, "another processor's figures stand by themselves"


def test_a_machine_is_described_once_with_all_that_differs() -> None:
    here = {"processor": "abacus", "torch": "2", "date": "2026-11-25", "load before": "0.5"}
    later = here | {"date": "2026-11-27", "load before": "10.0", "command": "x --only y"}
    other = here | {"processor": "another"}
    results = [
        Result(of="x", seed=seed, accuracy=1, seconds=1, machine=described)
        for seed, described in enumerate([later, here, other])
    ]
    first, second = machines(results)
    assert first == {
        "processor": "abacus",
        "torch": "2",
        "date": "2026-11-25 to 2026-11-27",
        "load before": "0.5 to 10.0",
        "command": "make accuracy",
    }
    assert second["processor"] == "another"
