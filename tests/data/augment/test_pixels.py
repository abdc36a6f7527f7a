"""Painting over in loops; gray as Pillow's."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from sartor.data.augment import pixels
from sartor.data.augment.chance import LEVELS
from sartor.data.augment.vocabulary import Cutout, Erase, Grayscale

from .conftest import chance_of, noise, shapes


def colours(channels: int) -> Tensor:
    return torch.tensor([7, 99, 200][:channels], dtype=torch.uint8)


def painted(image: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    result = image.clone()
    for row in range(max(top, 0), min(top + height, image.shape[1])):
        for column in range(max(left, 0), min(left + width, image.shape[2])):
            result[:, row, column] = colours(len(image))
    return result


@given(shapes, st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_cutout(shape: tuple[int, int, int, int], side: int) -> None:
    images, chance = noise(*shape), chance_of(shape[0])
    step, (count, channels, height, width) = Cutout(pixels=side), shape
    changed = pixels.cutout(step, colours(channels), images.clone(), chance)
    for k in range(count):
        top = int(chance.whole(0, height)[k]) - side // 2
        left = int(chance.whole(1, width)[k]) - side // 2
        assert torch.equal(changed[k], painted(images[k], top, left, side, side))


@given(shapes, st.floats(0, 1), st.floats(0, 0.4), st.floats(0.4, 1))
@settings(deadline=None, max_examples=60)
def test_erase(
    shape: tuple[int, int, int, int], share: float, smallest: float, largest: float
) -> None:
    images, chance = noise(*shape), chance_of(shape[0])
    step, (count, channels, height, width) = (
        Erase(chance=share, smallest=smallest, largest=largest),
        shape,
    )
    changed = pixels.erase(step, colours(channels), images.clone(), chance)
    for k in range(count):
        if chance.unit(0)[k] >= share:
            assert torch.equal(changed[k], images[k])
            continue
        area = smallest + (largest - smallest) * float(chance.unit(1)[k])
        level = (float(chance.whole(2, LEVELS)[k]) + 0.5) / LEVELS
        ratio = 3.3 ** (2 * level - 1)
        possible = [
            painted(images[k], place(3, height, high, k), place(4, width, wide, k), high, wide)
            for high in rounded(math.sqrt(area * ratio) * height, height)
            for wide in rounded(math.sqrt(area / ratio) * width, width)
        ]
        assert any(torch.equal(changed[k], one) for one in possible)


def rounded(length: float, most: int) -> set[int]:
    """Both neighbours where single precision may round to either."""
    return {min(max(round(length + nudge), 1), most) for nudge in (-1e-4, 1e-4)}


def place(draw: int, size: int, length: int, sample: int) -> int:
    unit = float(chance_of(sample + 1).unit(draw)[sample])
    return math.floor(unit * (size + 1 - length))


@given(shapes)
@settings(deadline=None, max_examples=30)
def test_grayscale_is_pillows(shape: tuple[int, int, int, int]) -> None:
    images, chance = noise(*shape), chance_of(shape[0])
    changed = pixels.grayscale(Grayscale(chance=0.5), images.clone(), chance)
    for image, after, unit in zip(images, changed, chance.unit(0), strict=True):
        expected = image.numpy()
        if unit < 0.5 and len(image) == 3:
            luma = Image.fromarray(expected.transpose(1, 2, 0)).convert("L")
            expected = np.broadcast_to(np.asarray(luma), expected.shape)
        np.testing.assert_array_equal(after, expected)
