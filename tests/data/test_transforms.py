"""Transforms against Pillow and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sartor.arrays import UInt8Array
from sartor.data import transforms
from sartor.data.augment.pipeline import augmentation_of
from sartor.errors import DataError, RecipeError, UsageError

RNG = np.random.default_rng(0)
COLOUR: UInt8Array = RNG.integers(0, 256, (3, 3, 9, 7)).astype(np.uint8)
GRAY: UInt8Array = COLOUR[:, :1]


@pytest.mark.parametrize("images", [COLOUR, GRAY], ids=["colour", "gray"])
def test_resized_is_pillows(images: UInt8Array) -> None:
    stretched = transforms.resized(images, 5, 12)
    cropped = transforms.resized(images, 4, 4, "crop")
    for image, wide, square in zip(images, stretched, cropped, strict=True):
        picture = Image.fromarray(image.transpose(1, 2, 0).squeeze())
        theirs = picture.resize((12, 5), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(wide.transpose(1, 2, 0).squeeze(), theirs)
        theirs = ImageOps.fit(picture, (4, 4), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(square.transpose(1, 2, 0).squeeze(), theirs)


def test_grayscale_is_pillows() -> None:
    gray = transforms.grayscale(COLOUR)
    assert gray.shape == (3, 1, 9, 7)
    for image, after in zip(COLOUR, gray, strict=True):
        np.testing.assert_array_equal(
            after[0], Image.fromarray(image.transpose(1, 2, 0)).convert("L")
        )


def test_crops_are_windows() -> None:
    np.testing.assert_array_equal(transforms.centre_crop(COLOUR, 5, 4), COLOUR[:, :, 2:7, 1:5])
    five = transforms.five_crop(COLOUR, 5, 4)
    assert five.shape == (3, 5, 3, 5, 4)
    for k, (rows, columns) in enumerate(
        [
            (np.s_[:5], np.s_[:4]),
            (np.s_[:5], np.s_[-4:]),
            (np.s_[-5:], np.s_[:4]),
            (np.s_[-5:], np.s_[-4:]),
            (np.s_[2:7], np.s_[1:5]),
        ]
    ):
        np.testing.assert_array_equal(five[:, k], COLOUR[:, :, rows, columns])
    np.testing.assert_array_equal(transforms.centre_crop(COLOUR, 9, 7), COLOUR)


@pytest.mark.parametrize("size", [(10, 2), (2, 8), (0, 3)])
def test_a_window_must_fit(size: tuple[int, int]) -> None:
    for crop in (transforms.centre_crop, transforms.five_crop):
        with pytest.raises(DataError, match="into images of 9x7"):
            crop(COLOUR, *size)


def test_augmented_is_what_training_sees() -> None:
    before = COLOUR.copy()
    changed = transforms.augmented(COLOUR, "flip crop=2", epoch=3, seed=5)
    augmentation = augmentation_of(["flip", "crop=2"], seed=5, num_classes=2, mean=(0, 0, 0))
    assert augmentation is not None
    expected = augmentation.images(torch.tensor(COLOUR), torch.arange(3), 3)
    np.testing.assert_array_equal(changed, expected)
    np.testing.assert_array_equal(COLOUR, before)
    assert not np.array_equal(changed, transforms.augmented(COLOUR, "flip crop=2", epoch=4, seed=5))
    np.testing.assert_array_equal(transforms.augmented(COLOUR, ()), COLOUR)
    assert transforms.augmented(COLOUR[:0], "flip").shape == (0, 3, 9, 7)


def test_augmented_refuses_what_it_cannot_do() -> None:
    with pytest.raises(RecipeError, match="unknown augmentation"):
        transforms.augmented(COLOUR, "flop")
    with pytest.raises(UsageError, match="change labels too"):
        transforms.augmented(COLOUR, ["flip", "mixup"])
