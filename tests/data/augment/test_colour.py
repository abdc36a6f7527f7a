"""Colours against Pillow and the standard library."""

from __future__ import annotations

import colorsys
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from sartor.data.augment import colour, filters
from sartor.data.augment.pipeline import augmentation_of
from sartor.data.augment.vocabulary import ColorJitter
from sartor.errors import MissingExtraError

from .conftest import chance_of, noise

FACTORS = torch.tensor([0.0, 0.3, 1.0, 1.9])
Change = Callable[[Tensor, Tensor], Tensor]


def picture_of(image: Tensor) -> Image.Image:
    pixels = image.numpy()
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def pixels_of(picture: Image.Image) -> npt.NDArray[np.uint8]:
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("change", "enhance", "levels"),
    [
        (colour.brightness, ImageEnhance.Brightness, 1),
        # Pillow rounds the mean to a whole number first.
        (filters.contrast, ImageEnhance.Contrast, 1.5),
        (colour.saturation, ImageEnhance.Color, 1.5),
        (filters.sharpened, ImageEnhance.Sharpness, 1.5),
    ],
    ids=["brightness", "contrast", "saturation", "sharpness"],
)
def test_enhancements_are_pillows(
    channels: int, change: Change, enhance: Any, levels: float
) -> None:
    images = noise(4, channels, 9, 7)
    for image, after, factor in zip(images, change(images.clone(), FACTORS), FACTORS, strict=True):
        theirs = pixels_of(enhance(picture_of(image)).enhance(float(factor)))
        np.testing.assert_allclose(after, theirs.astype(float), atol=levels)


def test_hue_is_that_of_colorsys() -> None:
    images, turns = noise(2, 3, 4, 5), torch.tensor([0.3, -0.45])
    for image, after, turn in zip(images, colour.hue(images, turns), turns, strict=True):
        for row in range(4):
            for column in range(5):
                hue, *rest = colorsys.rgb_to_hsv(*(image[:, row, column] / 255).tolist())
                expected = colorsys.hsv_to_rgb((hue + float(turn)) % 1, *rest)
                np.testing.assert_allclose(
                    after[:, row, column], np.multiply(expected, 255), atol=1
                )


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_is_pillows(channels: int) -> None:
    images = noise(2, channels, 6, 6) // 2 + 40
    images[1] = 77
    for image, after in zip(images, colour.stretched(images), strict=True):
        theirs = pixels_of(ImageOps.autocontrast(picture_of(image)))
        np.testing.assert_allclose(after, theirs.astype(float), atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_equalize_is_pillows(channels: int) -> None:
    images = noise(2, channels, 32, 32) // 2 + 40
    for image, after in zip(images, colour.equalized(images), strict=True):
        theirs = pixels_of(ImageOps.equalize(picture_of(image)))
        np.testing.assert_allclose(after, theirs.astype(float), atol=1)


def test_jitter_applies_each_factor_in_turn() -> None:
    images, chance = noise(6, 3, 5, 5), chance_of(6)
    step = ColorJitter(brightness=0.3, contrast=0.5, saturation=0.7, hue=0.2)
    expected = colour.brightness(images, 1 + chance.around(0, 0.3))
    expected = filters.contrast(expected, 1 + chance.around(1, 0.5))
    expected = colour.saturation(expected, 1 + chance.around(2, 0.7))
    expected = colour.hue(expected, chance.around(3, 0.2))
    assert torch.equal(colour.color_jitter(step, images.clone(), chance), expected)
    nothing = ColorJitter(brightness=0, contrast=0, saturation=0, hue=0)
    assert torch.equal(colour.color_jitter(nothing, images.clone(), chance), images)


@pytest.mark.parametrize("change", [colour.saturation, colour.hue], ids=["saturation", "hue"])
def test_gray_has_no_colour_to_change(change: Change) -> None:
    images = noise(4, 1, 3, 3)
    assert torch.equal(change(images, FACTORS), images)


def test_a_missing_kornia_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="color-jitter needs kornia") as caught:
        augmentation_of(["flip", "color-jitter"], seed=0, num_classes=2, mean=(0.5,))
    assert "pip install 'sartor[augment]'" in caught.value.hint
    assert augmentation_of(["flip", "blur"], seed=0, num_classes=2, mean=(0.5,)) is not None
