"""The simulation of intervals counts what it says, and writes its page."""

from __future__ import annotations

from pathlib import Path

import interval_coverage as coverage
import numpy as np
import pytest


def test_an_interval_that_holds_the_truth_now_and_then_is_counted() -> None:
    def draw(random: np.random.Generator) -> coverage.Draw:
        value = float(random.random())
        return coverage.Draw((0.0, 0.25), value, (0.0, 1.0))

    row = coverage.counted(coverage.Case("now and then", draw), 400, 0)
    assert 70 < row.covered < 130
    assert (row.usual, row.repetitions, row.width) == (400, 400, 0.25)
    resampled = coverage.counted(coverage.Case("", draw, resamples=True), 400, 0)
    assert resampled.repetitions == 100


def test_worlds_have_the_figures_that_they_say() -> None:
    cells = coverage.joint(10, 0.8, 5)
    assert cells.sum() == pytest.approx(1)
    many = coverage.predictions_from(cells, 100_000, np.random.default_rng(0))
    right = many.predicted() == many.labels
    assert right.mean() == pytest.approx(cells.trace(), abs=0.01)
    calibrated = coverage.classifier(50_000, 3.0, 1.0, np.random.default_rng(0))
    confidences = calibrated.probabilities().max(axis=1)
    accuracy = (calibrated.predicted() == calibrated.labels).mean()
    assert confidences.mean() == pytest.approx(accuracy, abs=0.01)


def test_every_entry_has_a_table_and_covers_in_some_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    words = ["--repetitions", "4", "--only", "seeds", "--page", str(page)]
    assert coverage.main(words) == 0
    text = page.read_text()
    assert "## Mean over seeds" in text
    assert "| 5 seeds, each with images of its own |" in text
    assert "command" in text
    assert "## Mean over seeds" in capsys.readouterr().out
    for entry in coverage.ENTRIES:
        case = next(entry.cases())
        low, high = case.draw(np.random.default_rng(0)).shown
        assert low < high, entry.name
