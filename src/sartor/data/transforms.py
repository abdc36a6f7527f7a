"""Changes of whole sets of images as functions: uint8 (N, C, H, W) in and out, nothing altered.

What every picture must go through, in training and ever after, stands in a recipe's `preprocess`;
what only training shall change at random, in its `augment`. These are the same, to try by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import UInt8Array
from ..errors import DataError, UsageError
from .pictures.preprocess import Preprocess


def resized(images: UInt8Array, height: int, width: int, way: str = "stretch") -> UInt8Array:
    """All of one size; way is stretch, crop (fill, cut the rest) or letterbox (keep all, pad)."""
    return _geometry(images.shape[1], height, width, way).images(images)


def grayscale(images: UInt8Array) -> UInt8Array:
    """With one channel, the luma of ITU-R 601."""
    _, _, height, width = images.shape
    return _geometry(1, height, width, "stretch").images(images)


def centre_crop(images: UInt8Array, height: int, width: int) -> UInt8Array:
    """The middle of each.

    Raises:
        DataError: the images are smaller.
    """
    down, right = _room(images, height, width)
    return _window(images, down // 2, right // 2, height, width)


def five_crop(images: UInt8Array, height: int, width: int) -> UInt8Array:
    """The corners and the centre of each, (N, 5, C, height, width): top left, top right, bottom
    left, bottom right, centre.

    A classifier's mean over the five is a little better than its answer to the whole (Krizhevsky
    et al., 2012).

    Raises:
        DataError: the images are smaller.
    """
    down, right = _room(images, height, width)
    corners = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))
    return np.stack([_window(images, *corner, height, width) for corner in corners], axis=1)


def augmented(
    images: UInt8Array,
    augment: str | Sequence[str],
    *,
    epoch: int = 0,
    seed: int = 0,
    mean: Sequence[float] | None = None,
) -> UInt8Array:
    """The images as training sees them in an epoch, counted from 0: `augmented(images, "flip")`.

    `mean` is the colour, 0..1 for each channel, with which erase and cutout paint; by default
    black.

    Raises:
        RecipeError: words that `--augment` does not know. UsageError: mixup or cutmix, which change
            labels too. MissingExtraError: kornia is needed and not there.
    """
    import torch

    from .augment.pipeline import augmentation_of

    words = [augment] if isinstance(augment, str) else augment
    colour = mean or (0.0,) * images.shape[1]
    augmentation = augmentation_of(words, seed=seed, num_classes=0, mean=colour)
    pixels = torch.tensor(images)
    if augmentation is not None and augmentation.mixing is not None:
        raise UsageError("mixup and cutmix change labels too.", "Leave them to training.")
    if augmentation is None or not len(images):
        return pixels.numpy()
    return augmentation.images(pixels, torch.arange(len(images)), epoch).numpy()


def _geometry(channels: int, height: int, width: int, way: str) -> Preprocess:
    zero, one = (0.0,) * channels, (1.0,) * channels
    return Preprocess(channels=channels, height=height, width=width, resize=way, mean=zero, std=one)


def _window(images: UInt8Array, top: int, left: int, height: int, width: int) -> UInt8Array:
    return np.ascontiguousarray(images[:, :, top : top + height, left : left + width])


def _room(images: UInt8Array, height: int, width: int) -> tuple[int, int]:
    down, right = images.shape[2] - height, images.shape[3] - width
    if min(height, width) < 1 or min(down, right) < 0:
        raise DataError(
            f"No window of {height}x{width} fits into images of "
            f"{images.shape[2]}x{images.shape[3]} pixels.",
            "Crop to less, or resize first.",
        )
    return down, right
