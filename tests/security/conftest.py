"""The scripts in benchmarks/ are no package: they find each other in their own folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import sartor

# Behind all else: one of them is called as a library, coverage.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def picture(digits: sartor.Dataset, tmp_path: Path) -> Path:
    from sartor.data.pictures.preprocess import as_picture

    as_picture(digits.images[0]).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


@pytest.fixture
def verbs(run_copy: Path, picture: Path) -> list[list[Any]]:
    """The words of every verb that takes a run."""
    run = run_copy
    return [
        ["show", run],
        ["evaluate", run],
        ["report", run],
        ["predict", run, picture],
        ["resume", run, "--epochs", 4],
        ["export", run, "--out", "bundle", "--no-onnx"],
        ["summary", run],
        ["trace", run],
    ]
