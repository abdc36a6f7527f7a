"""Which numbers become black and white in deep pictures: one range for a whole set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.data.listing import Listing
from sartor.data.pictures.value_range import value_range_of
from sartor.data.settings import DataSettings
from sartor.data.sources import find_source
from sartor.errors import RecipeError


def deep(root: Path, kind: Any, levels: tuple[float, float], count: int = 8) -> Path:
    """Pictures of two classes, which differ in nothing but their brightness."""
    grain = np.arange(256).reshape(16, 16) / 2560
    for name, level in zip(("dark", "light"), levels, strict=True):
        (root / name).mkdir(parents=True)
        for number in range(count):
            values = level * (0.9 + grain + number / 1000)
            Image.fromarray(values.astype(kind)).save(root / name / f"{number}.tiff")
    return root


def listing(root: Path) -> Listing:
    opened = find_source(DataSettings(source=str(root)))
    assert isinstance(opened, Listing)
    return opened


@pytest.mark.parametrize(
    ("kind", "levels", "expected"),
    [
        (np.float32, (20, 240), (0, 255)),
        (np.float32, (0.1, 0.9), (0, 1)),
        (np.float32, (-0.9, 0.5), (-1, 1)),
        (np.float32, (3_000, 40_000), (0, 65_535)),
        (np.int32, (20, 240), (0, 255)),
        (np.int32, (200, 40_000), (0, 65_535)),
        (np.uint16, (200, 40_000), None),
        (np.uint8, (20, 240), None),
    ],
)
def test_of_a_set(
    tmp_path: Path, kind: Any, levels: tuple[float, float], expected: tuple[float, float] | None
) -> None:
    assert value_range_of(listing(deep(tmp_path, kind, levels))) == expected


def test_signed_numbers_keep_their_own_range(tmp_path: Path) -> None:
    low, high = value_range_of(listing(deep(tmp_path, np.int32, (-1_000, 2_000)))) or (0, 0)
    assert (low, high) == (-1_006, 2_013)


@pytest.mark.filterwarnings("ignore::sartor.errors.SartorWarning")
@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        (np.float32, (20, 240)),
        (np.float32, (0.1, 0.9)),
        (np.int32, (200, 40_000)),
        (np.int32, (-1_000, 2_000)),
    ],
)
def test_brightness_is_kept(tmp_path: Path, kind: Any, levels: tuple[float, float]) -> None:
    """One picture's own range decides nothing, in training as in prediction."""
    root = deep(tmp_path / "set", kind, levels)
    dataset = sartor.load(root)
    dark, light = (dataset.images[dataset.labels == label].mean() for label in (0, 1))
    assert light - dark > 100
    settings = {"model": "linear", "epochs": 8, "lr": 0.1, "threads": 1}
    out = tmp_path / "run"
    run = sartor.fit(dataset, check=False, report=False, out=out, **settings)
    assert len(run.recipe.preprocess.value_range) == 2
    answers = run.predict([root / "dark" / "0.tiff", root / "light" / "0.tiff"])
    assert [answer.label for answer in answers] == ["dark", "light"]


def test_a_range_that_is_given(tmp_path: Path) -> None:
    """16-bit pictures that use 40 of 65,536 values look all the same until it is."""
    root = deep(tmp_path, np.uint16, (30_000, 30_040))
    assert np.ptp(sartor.load(root).images) < 30
    stretched = sartor.load(root, value_range=(26_000, 32_000))
    assert np.ptp(stretched.images) > 100
    assert stretched.fingerprint != sartor.load(root).fingerprint


@pytest.mark.parametrize("wrong", [(5,), (5, 5), (9, 1), (1, 2, 3)])
def test_a_range_is_two_numbers(wrong: tuple[float, ...]) -> None:
    with pytest.raises(RecipeError, match="two numbers, the lower one first"):
        sartor.load("digits", value_range=wrong)
