"""A run that cannot be written to is judged; what is not kept is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sartor


@pytest.fixture
def full(run_copy: Path) -> Path:
    """A run whose places for predictions and reports are taken, as if it were read-only."""
    for name in ("predictions", "report.html", "report.json", "mistakes.csv"):
        path = run_copy / name
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        path.unlink(missing_ok=True)
    (run_copy / "predictions").touch()
    (run_copy / "mistakes.csv").mkdir()
    return run_copy


def test_evaluate_prints_the_figures(full: Path, trained: Path, command: Any) -> None:
    answer = command("evaluate", full, "--json")
    assert answer.exit_code == 0
    expected = command("evaluate", trained, "--json").document
    # Every look at the test images is counted.
    assert answer.document | {"looks": None} == expected | {"looks": None}
    assert answer.err.count("warning: ") == 1
    assert f"The predictions are not kept in the run. Cannot create the folder {full}" in answer.err


def test_compare(full: Path, trained: Path, command: Any) -> None:
    answer = command("compare", trained, full)
    assert answer.exit_code == 0
    assert "The predictions are not kept in the run." in answer.err


def test_report_prints_the_figures_and_says_how_to_have_the_page(
    full: Path, command: Any, tmp_path: Path
) -> None:
    answer = command("report", full)
    assert answer.exit_code == 0
    assert "test split: accuracy" in answer.out
    assert "report:" not in answer.out
    assert f"The report is not kept in the run. Cannot write {full / 'mistakes.csv'}" in answer.err
    assert "--out FILE.html" in answer.err
    assert command("report", full, "--out", tmp_path / "page.html").exit_code == 0
    assert (tmp_path / "page.html").is_file()


@pytest.mark.filterwarnings("ignore:The predictions are not kept")
def test_report_in_python(full: Path) -> None:
    with pytest.warns(sartor.SartorWarning, match="The report is not kept in the run"):
        report = sartor.report(full)
    assert report.path is None
    assert "(not saved)" in repr(report)
    assert report._repr_html_()


def test_predictions_that_are_a_link_are_not_followed(
    run_copy: Path, tmp_path: Path, command: Any
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (run_copy / "predictions").rename(elsewhere)
    (elsewhere / "test.npz").write_bytes(b"mine")
    (run_copy / "predictions").symlink_to(elsewhere)
    answer = command("evaluate", run_copy)
    assert answer.exit_code == 1
    assert f"is a link to {elsewhere}" in answer.err
    assert (elsewhere / "test.npz").read_bytes() == b"mine"
