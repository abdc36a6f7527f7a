"""Looking at a set from Python: the figures that the command prints, and its drawings."""

from __future__ import annotations

from typing import Any

import pytest

from sartor.api import describing
from sartor.data.dataset import Dataset


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return describing.open_unprepared("digits")


def test_describe_is_what_the_command_says(digits: Dataset, command: Any) -> None:
    said = command("data", "digits", "--json").document
    assert describing.describe(digits)["fingerprint"] == said["fingerprint"]
    assert describing.describe("digits")["count"] == said["count"] == len(digits)


def test_one_axes_per_image(digits: Dataset) -> None:
    assert len(describing.samples_figure(digits, 5).axes) == 5
    assert len(describing.image_figure(digits, 3).axes) == 1


def test_augmentation_begins_with_the_image_as_it_is(digits: Dataset) -> None:
    figure = describing.augmentation_figure(digits, ["flip"], 3, count=4)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["image 3: 3", "epoch 1", "epoch 2", "epoch 3"]
