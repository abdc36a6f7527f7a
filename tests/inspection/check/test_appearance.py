"""Blank, dark, bright and blurred pictures: planted, and none where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from sartor.data.dataset import Dataset
from sartor.inspection.check.appearance import distances, looks_of

from .conftest import Found, subject_of


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    """Noise that was smoothed a little: textures of middle brightness."""
    random = np.random.default_rng(0)
    images = ndimage.gaussian_filter(random.normal(size=(200, 32, 32)), (0, 1, 1))
    images = (128 + 90 * images / images.std()).clip(0, 255)
    return Dataset(images.astype(np.uint8), np.arange(200) % 2)


def changed(dataset: Dataset, index: int, image: object) -> Dataset:
    images = dataset.images.copy()
    images[index, 0] = np.asarray(image)
    return Dataset(images, dataset.labels)


def test_a_set_without_outliers(found: Found, digits: Dataset, scenes: Dataset) -> None:
    for dataset in (digits, scenes):
        assert not found(subject_of(dataset), "appearance")


def test_looks_are_those_of_scipy(scenes: Dataset) -> None:
    image = scenes.images[3, 0].astype(float)
    looks = looks_of(scenes.images)
    laplacian = ndimage.laplace(image)[1:-1, 1:-1]
    assert looks.brightness[3] == pytest.approx(image.mean(), rel=1e-5)
    assert looks.std[3] == pytest.approx(image.std(), rel=1e-4)
    assert looks.edges[3] == pytest.approx(laplacian.std() / image.std(), rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "index", "severity"),
    [
        ("blank", 5, "warning"),
        ("very dark", 6, "note"),
        ("very bright", 7, "note"),
        ("blurred", 8, "note"),
    ],
)
def test_planted_outliers(
    found: Found, scenes: Dataset, kind: str, index: int, severity: str
) -> None:
    before = scenes.images[index, 0]
    image = {
        "blank": np.full((32, 32), 77),
        "very dark": before // 30,
        "very bright": 247 + before // 30,
        "blurred": Image.fromarray(before).filter(ImageFilter.GaussianBlur(4)),
    }[kind]
    findings = found(subject_of(changed(scenes, index, image)), "appearance")
    assert [item.index for item in findings[kind].items] == [index]
    assert findings[kind].severity == severity


def test_a_blank_picture_is_only_that(found: Found, scenes: Dataset) -> None:
    assert list(found(subject_of(changed(scenes, 5, np.zeros((32, 32)))), "appearance")) == [
        "blank"
    ]


class TestDistances:
    def test_of_normal_values_are_standard_deviations(self) -> None:
        values = np.random.default_rng(0).normal(10, 3, 100_001)
        assert np.allclose(distances(values), (values - 10) / 3, atol=0.1)

    def test_skew_makes_no_outliers_below(self) -> None:
        values = np.random.default_rng(0).exponential(1, 1001)
        assert distances(values).min() > -3

    def test_constant_values_are_not_far(self) -> None:
        assert not distances(np.full(10, 4.0)).any()
        assert not distances(np.array([1.0, 1, 1, 1, 9])).any()
