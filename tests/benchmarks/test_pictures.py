"""The pictures that are measured are ordinary JPEGs, and every step gives its figures."""

from __future__ import annotations

import io
from pathlib import Path

import pictures
import pytest
from PIL import Image


def test_photographs_are_ordinary_and_each_another() -> None:
    made = pictures.photographs(4)
    assert len(set(made)) == 4
    for content in made:
        with Image.open(io.BytesIO(content)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (500, 375))
        assert 20_000 < len(content) < 120_000


@pytest.mark.parametrize("step", ["cold", "warm", "memory"])
def test_a_step_has_its_figures(tmp_path: Path, step: str) -> None:
    pictures.fill(tmp_path / "set", 16, pictures.photographs(3))
    figures = pictures.measured(step, tmp_path / "set")
    assert set(figures) == {
        "load_seconds",
        "load_processor_seconds",
        "epoch_seconds",
        "peak_bytes",
    }
    assert all(value > 0 for value in figures.values())


def test_the_table_has_a_row_for_each_size() -> None:
    rows = [{"pictures": 1_000, "cold": 1.5}, {"pictures": 10_000, "cold": 15.0}]
    assert pictures.table(rows)[2:] == ["| 1,000 | 1.5 |", "| 10,000 | 15.0 |"]
