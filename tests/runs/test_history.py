"""The best epoch of a history, against the one that training itself keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.data.dataset import Dataset
from sartor.runs.history import best_row
from sartor.runs.store import summarize_run


@pytest.mark.parametrize("monitor", ["val_accuracy", "val_loss", "val_macro_f1"])
def test_terminal_report_and_evaluate_name_one_figure(
    monitor: str, digits: Dataset, tmp_path: Path
) -> None:
    """A rate so high that the last epoch is not the best one."""
    small = Dataset(digits.images[:600], digits.labels[:600])
    settings: dict[str, Any] = {"model": "mlp", "lr": 0.2, "sched": "constant", "epochs": 8}
    run = sartor.fit(small, out=tmp_path / "run", monitor=monitor, threads=1, **settings)
    best = run.best_row
    assert best is not None
    assert best["epoch"] != 8, "else this shows nothing"
    assert run.judged_weights() == {
        "checkpoint": "best",
        "epoch": best["epoch"],
        "chosen_on_validation": True,
    }
    figure = best["val_accuracy"]
    assert run.result()["best"] == {name: best[name] for name in run.result()["best"]}
    assert run.result()["val_accuracy"] == run.history[-1]["val_accuracy"]
    assert run.evaluate("val").accuracy == figure
    report = sartor.report(run, "val").document
    assert report["evaluation"]["accuracy"] == figure
    assert (report["run"]["epoch"], report["run"]["best_epoch"]) == (best["epoch"], best["epoch"])
    summary = summarize_run(run.folder)
    assert (summary.best_epoch, summary.val_accuracy) == (best["epoch"], figure)
    assert f"val accuracy {figure:.2%} (best epoch, {best['epoch']})" in repr(run)


ROWS = [
    {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0},
    {"epoch": 2, "val_accuracy": 0.7, "val_loss": 0.9},
    {"epoch": 3, "val_accuracy": 0.7, "val_loss": 0.8},
    {"epoch": 4, "val_accuracy": 0.7, "val_loss": 0.8},
    {"epoch": 5, "val_accuracy": 0.6, "val_loss": 0.3},
]


@pytest.mark.parametrize(("monitor", "epoch"), [("val_accuracy", 3), ("val_loss", 5)])
def test_of_equal_ones_the_lower_loss_decides(monitor: str, epoch: int) -> None:
    best = best_row(ROWS, monitor)
    assert best is not None
    assert best["epoch"] == epoch


@pytest.mark.parametrize(
    "rows",
    [[], [{"epoch": 1, "val_accuracy": None}], [{"val_accuracy": "x"}], [{"val_loss": 1.0}]],
)
def test_without_figures_there_is_none(rows: list[dict[str, Any]]) -> None:
    assert best_row(rows, "val_accuracy") is None
    odd = [{"epoch": 1, "val_accuracy": float("nan")}, {"epoch": 2, "val_accuracy": 0.1}]
    assert best_row([*rows, *odd], "val_accuracy") == odd[1]
