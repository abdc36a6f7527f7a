"""What the rounds say, and what the page makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peers.goals import GOALS
from peers.page import document, goal_table
from peers.peak import prediction_flops
from peers.results import Results, Row, RunStatistics, epoch_seconds, step_seconds
from peers.tasks import TASKS, Task

BATCHES = next(task for task in TASKS if task.key == "batches/mnist-logistic")
PREDICT = next(task for task in TASKS if task.key == "predict/fashion-cnn")
DEFAULTS = next(task for task in TASKS if task.key == "defaults/mnist-logistic")


def row(seconds: float, *, epochs: int = 1, **more: float) -> Row:
    figures = {"first_seconds": 0.5, "head_seconds": 0.1, "loss": 1.25, "accuracy": 0.75}
    return figures | {"epochs": epochs, "seconds": seconds, "others": 0.01} | more


def one_round(loop: float, sartor: float) -> dict[str, Any]:
    """Seconds per epoch of both."""
    return {
        "date": "2026-01-02 03:04 UTC",
        "peak_flops": {"mm": 1e9, "oneDNN": 2e9},
        "start_seconds": {"loop": 1.5, "sartor": 2.5},
        "rows": {
            DEFAULTS.key: {"loop": row(2 * loop, epochs=2), "sartor": row(sartor)},
            BATCHES.key: {
                "bare": row(5.0, epochs=2, one_epoch_seconds=4.0),
                "loop": row(9.0, epochs=3, one_epoch_seconds=3.0),
                "sartor": row(3.0, epochs=3, one_epoch_seconds=2.0),
            },
        },
    }


def answers(seconds: float, *, one_p50: float | None = None) -> Row:
    figures = {"first_seconds": 0.5, "seconds": seconds, "agreement": 1.0, "others": 0.02}
    return figures | ({"one_p50": one_p50, "one_p99": 2 * one_p50} if one_p50 else {})


def results() -> Results:
    """Ratios 10, 30, 21."""
    rounds = [one_round(10.0, 1.0), one_round(9.0, 0.3), one_round(2.1, 0.1)]
    return Results(machine={"processor": "abacus"}, rounds=rounds)


def test_predictions_have_a_table_of_their_own() -> None:
    found = results()
    for one, seconds in zip(found.rounds, (0.5, 0.1, 0.2), strict=True):
        rows = {"sartor": answers(seconds, one_p50=50e-6), "lightning": answers(2 * seconds)}
        one["rows"][PREDICT.key] = rows
    text = document(found).split("## Prediction")[1]
    cells = line_with(text, "sartor", "50,000").split(" | ")
    # Of 2 GFLOP/s.
    share = 50_000 * prediction_flops("fashion-cnn") / 2e9
    assert cells[2:7] == ["20,000 to 100,000", f"{share:.1%}", "50", "100", "100.00%"]
    assert line_with(text, "Lightning", "25,000").split(" | ")[4:6] == ["-", "-"]
    assert "at most 2.0% of" in text


def line_with(text: str, *beginnings: str) -> str:
    (line,) = [one for one in text.splitlines() if one.startswith(f"| {' | '.join(beginnings)} |")]
    return line


@pytest.mark.parametrize(
    ("task", "found", "expected"),
    [
        (DEFAULTS, row(6.0, epochs=3), 2.0),
        (BATCHES, row(9.0, epochs=4, one_epoch_seconds=3.0), 2.0),
    ],
)
def test_an_epoch_is_a_share_of_the_training_or_what_the_later_ones_add(
    task: Task, found: Row, expected: float
) -> None:
    assert epoch_seconds(task, found) == expected
    assert step_seconds(task, found) == expected / task.steps


def test_a_ratio_is_taken_within_each_round() -> None:
    found = results().ratios(DEFAULTS.key, "loop", "sartor", lambda r: r["seconds"] / r["epochs"])
    assert found == pytest.approx([10, 30, 21])
    assert RunStatistics.of(found).median == pytest.approx(21)


def test_rounds_are_added_to_those_on_the_disk(tmp_path: Path) -> None:
    before = results()
    before.save(tmp_path / "peers.json")
    after = Results.load(tmp_path / "peers.json")
    assert after == before
    after.rounds.append(one_round(1.0, 1.0))
    assert len(after.rows(DEFAULTS.key, "loop")) == 4


def test_goals_are_judged_by_what_is_documented() -> None:
    text = "\n".join(goal_table(results()))
    cells = line_with(text, "mnist-logistic", "tutorial loop").split(" | ")
    assert cells[2:6] == ["35", "21.00 (10.00 to 30.00)", "no", "-"]
    assert "not measured" in line_with(text, "fashion-cnn", "Lightning")
    assert len(text.splitlines()) == 2 + len(GOALS) == 2 + 4 * 6
    slower = results()
    for one in slower.rounds:
        one["rows"][DEFAULTS.key]["loop"]["seconds"] *= 2
    assert "| yes |" in line_with("\n".join(goal_table(slower)), "mnist-logistic", "tutorial loop")
    for one in slower.rounds:
        one["rows"][BATCHES.key]["sartor"]["seconds"] = 50.0
    assert "| no |" in line_with("\n".join(goal_table(slower)), "mnist-logistic", "tutorial loop")


def test_the_page_has_every_figure() -> None:
    text = document(results())
    batches, defaults = text.split("## As documented")
    step = 1e6 / BATCHES.steps
    assert f"| {3 * step:,.0f} | {3 * step:,.0f} to {3 * step:,.0f} | {2 * step:+,.0f} |" in (
        line_with(batches, "tutorial loop")
    )
    cells = line_with(defaults, "tutorial loop", "2").split(" | ")
    assert cells[2:4] == ["9.000", "2.100 to 10.000"]
    # 50,000 images in 9 seconds, each 31,360 operations, of 2 GFLOP/s.
    assert cells[-4:] == ["5,556", "8.7%", "1.2500", "75.00% |"]
    assert "| processor | abacus |" in text
    assert text.count("Rounds: 3.") == 2
    assert "at most 1.0% of" in text
