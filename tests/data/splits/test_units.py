"""Units: what groups and equal pixels tie together, however long the chain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sartor import load
from sartor.data.dataset import Dataset
from sartor.data.splits.duplicates import first_equals
from sartor.data.splits.units import units_of
from sartor.errors import SartorWarning


def dataset_of(pixels: list[int], groups: list[str] | None = None) -> Dataset:
    images = np.array(pixels, np.uint8).reshape(-1, 1, 1)
    labels = np.arange(len(pixels)) % 2
    return Dataset(images, labels, ("a", "b"), groups=None if groups is None else tuple(groups))


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 7))
def test_first_equals_is_the_first_of_equal_images(values: list[int], size: int) -> None:
    images = np.repeat(np.array(values, np.uint8), 3 * size).reshape(-1, 3, 1, size)
    assert first_equals(images).tolist() == [values.index(value) for value in values]


def test_a_single_pixel_makes_a_difference() -> None:
    images = np.zeros((3 * 4 * 5 + 1, 3, 4, 5), np.uint8)
    images[:-1].reshape(60, 60)[np.arange(60), np.arange(60)] = 1
    assert first_equals(images).tolist() == list(range(61))


def test_images_that_are_a_view_of_others() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    assert first_equals(images[:, :, ::-1].repeat(2, axis=0)).tolist() == [0, 0, 2, 2]


def test_nothing_ties_by_default() -> None:
    assert units_of(dataset_of([1, 1]), duplicates_together=False) is None


def test_a_group_without_a_name_is_none() -> None:
    units = units_of(dataset_of([0, 1, 2, 3], ["", "x", "", "x"]), duplicates_together=False)
    assert units is not None
    assert units.tolist() == [0, 1, 2, 1]


def test_a_chain_of_ties_holds() -> None:
    """0 and 1 are of one group, 1 and 2 are equal, 2 and 3 of another group."""
    dataset = dataset_of([9, 5, 5, 7, 1], ["x", "x", "y", "y", "z"])
    units = units_of(dataset, duplicates_together=True)
    assert units is not None
    assert units.tolist() == [0, 0, 0, 0, 4]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=40))
def test_units_are_connected_components(ties: list[tuple[int, int]]) -> None:
    """Against the plain definition: merge until nothing more touches."""
    parts = [{index} for index in range(len(ties))]
    for one, (pixel, group) in enumerate(ties):
        for other in range(one):
            if ties[other][0] == pixel or ties[other][1] == group:
                touching = [part for part in parts if one in part or other in part]
                parts = [part for part in parts if part not in touching] + [set().union(*touching)]
    first = {index: min(part) for part in parts for index in part}
    dataset = dataset_of([pixel for pixel, _ in ties], [f"g{group}" for _, group in ties])
    units = units_of(dataset, duplicates_together=True)
    assert units is not None
    assert units.tolist() == [first[index] for index in range(len(ties))]


def test_known_hashes_tell_what_is_equal_as_pixels_do(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    for number, which in enumerate([0, 1, 0, 2, 1, 0]):
        folder = tmp_path / ("odd" if number % 2 else "even")
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels[which]).save(folder / f"{number}.png")
    (tmp_path / "odd" / "damaged.png").write_bytes(b"\x89PNG")
    with pytest.warns(SartorWarning, match="cannot be read"):
        roster = load(tmp_path, max_unreadable=0.5).everything()
    assert roster.pixel_hashes is not None
    units = units_of(roster, duplicates_together=True)
    by_pixels = units_of(replace(roster, pixel_hashes=None), duplicates_together=True)
    assert units is not None
    assert len(np.unique(units)) == 3 + 1
    np.testing.assert_array_equal(units, by_pixels)
