"""Colour, by kornia (the extra "augment").

kornia computes, on the whole batch; what it is told for each picture comes from `chance`, and not
from kornia's own draws, which one generator makes for the batch. Of its functions those are taken
that treat every number or colour by itself: see `filters` for why.

Images are uint8 (B, C, H, W).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from ...errors import MissingExtraError
from . import filters
from .chance import Chance
from .geometry import to_bytes
from .vocabulary import ColorJitter


def color_jitter(step: ColorJitter, images: Tensor, chance: Chance) -> Tensor:
    """Brightness, contrast, saturation and hue of each by its own factors."""
    if step.brightness:
        images = brightness(images, 1 + chance.around(0, step.brightness))
    if step.contrast:
        images = filters.contrast(images, 1 + chance.around(1, step.contrast))
    if step.saturation:
        images = saturation(images, 1 + chance.around(2, step.saturation))
    if step.hue:
        images = hue(images, chance.around(3, step.hue))
    return images


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Each times its factor (B,): 0 is black, 1 changes nothing."""
    return _batch(images, factors, _kornia("enhance").adjust_brightness_accumulative)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Each away from gray by its factor (B,): 0 is gray, 1 changes nothing."""
    if images.shape[1] == 1:
        return images
    return _batch(images, factors, _kornia("enhance").adjust_saturation_with_gray_subtraction)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """The colours of each turned by a share (B,) of their circle."""
    if images.shape[1] == 1:
        return images
    return _batch(images, turns * (2 * math.pi), _kornia("enhance").adjust_hue)


def equalized(images: Tensor) -> Tensor:
    """The histogram of each channel made flat."""
    return to_bytes(_kornia("enhance").equalize(_floats(images)) * 255)


def stretched(images: Tensor) -> Tensor:
    """Each channel stretched to all of 0..255; one of a single value stays."""
    flat = images.amin((2, 3), True) == images.amax((2, 3), True)
    return torch.where(
        flat, images, to_bytes(_kornia("enhance").normalize_min_max(_floats(images)) * 255)
    )


def require_kornia(names: list[str]) -> None:
    """Say now, and not at the first batch, that it is missing.

    Raises:
        MissingExtraError: these steps need kornia, and it is not installed.
    """
    if names and importlib.util.find_spec("kornia") is None:
        raise MissingExtraError(f"The augmentation {names[0]}", "kornia", "augment")


def _batch(images: Tensor, factors: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return to_bytes(change(_floats(images), factors) * 255)


def _floats(images: Tensor) -> Tensor:
    return images.to(torch.float32).div_(255)


def _kornia(module: str) -> ModuleType:
    # Importing it takes a second.
    return importlib.import_module(f"kornia.{module}")
