"""Sums over neighbourhoods, against SciPy; against Pillow see `test_colour`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from sartor.data.augment import filters
from sartor.data.augment.chance import LEVELS
from sartor.data.augment.vocabulary import Blur, Sharpness

from .conftest import chance_of, noise


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_is_scipys(channels: int) -> None:
    images, chance = noise(8, channels, 9, 7), chance_of(8)
    changed = filters.blur(Blur(sigma=1.6, chance=0.6), images.clone(), chance)
    for k, (image, after) in enumerate(zip(images, changed, strict=True)):
        if chance.unit(0)[k] >= 0.6:
            assert torch.equal(after, image)
            continue
        sigma = 0.1 + 1.5 * (float(chance.whole(1, LEVELS)[k]) + 0.5) / LEVELS
        for plane, after_plane in zip(image, after, strict=True):
            theirs = ndimage.gaussian_filter(
                plane.numpy().astype(float), sigma, mode="nearest", radius=4
            )
            np.testing.assert_allclose(after_plane, theirs, atol=0.6)


def test_sharpness_takes_a_factor_not_below_zero() -> None:
    images, chance = noise(6, 1, 5, 5), chance_of(6)
    factors = (1 + chance.around(0, 3)).clamp(min=0)
    assert factors.min() == 0
    changed = filters.sharpness(Sharpness(strength=3), images.clone(), chance)
    assert torch.equal(changed, filters.sharpened(images.clone(), factors))


def test_the_mean_of_contrast_is_exact() -> None:
    """Also of many pixels, whose sum single precision could not hold."""
    images = noise(2, 1, 300, 300) | 1
    flat = filters.contrast(images.clone(), torch.zeros(2))
    for image, after in zip(images, flat, strict=True):
        assert after.unique().tolist() == [round(float(image.double().mean()))]
