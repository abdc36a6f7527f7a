"""The lessons: each runs from top to bottom, and every claim in it holds."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent.parent / "docs" / "lessons"
LESSONS = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_keeps_its_word(
    lesson: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        runpy.run_path(str(lesson))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_a_notebook(lesson: Path) -> None:
    """Cells of prose and of code in turn, each opened as editors expect it."""
    text = lesson.read_text()
    assert text.startswith("# %% [markdown]\n# # ")
    cells = text.split("# %%")[1:]
    prose = [cell for cell in cells if cell.startswith(" [markdown]\n")]
    assert len(prose) >= 6
    for cell in prose:
        lines = cell.rstrip().splitlines()[1:]
        assert all(line.startswith("#") for line in lines)
    code = [cell for cell in cells if cell not in prose]
    assert all(cell.startswith("\n") and cell.strip() for cell in code)
    assert text.count("assert ") >= 5


def test_there_are_five_and_the_page_names_them() -> None:
    page = (FOLDER / "README.md").read_text()
    assert len(LESSONS) == 5
    assert all(f"({lesson.name})" in page for lesson in LESSONS)
