"""Colour and focus, by kornia (the extra "augment").

kornia computes; what it is told comes from `chance`. Whatever treats each number by itself runs on
the whole batch. Means, convolutions and the like add numbers up in an order that PyTorch chooses by
the size of the batch; so that no bit depends on the batch, these run picture by picture.

Images are uint8 (B, C, H, W).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from ...errors import UsageError
from .chance import Chance
from .geometry import changed, to_bytes
from .vocabulary import Blur, ColorJitter, Sharpness


def color_jitter(step: ColorJitter, images: Tensor, chance: Chance) -> Tensor:
    """Brightness, contrast, saturation and hue of each by its own factors."""
    if step.brightness:
        images = brightness(images, 1 + chance.around(0, step.brightness))
    if step.contrast:
        images = contrast(images, 1 + chance.around(1, step.contrast))
    if step.saturation:
        images = saturation(images, 1 + chance.around(2, step.saturation))
    if step.hue:
        images = hue(images, chance.around(3, step.hue))
    return images


def blur(step: Blur, images: Tensor, chance: Chance) -> Tensor:
    """Blur some, each as strongly as chance says."""
    chosen = chance.unit(0) < step.chance
    sigmas = chance.unit(1)[chosen] * (step.sigma - 0.1) + 0.1
    side = 2 * math.ceil(2 * step.sigma) + 1

    def blurred(values: Tensor, sigma: Tensor) -> Tensor:
        both = sigma.view(1, 1).expand(1, 2)
        # Mirrored borders would need more pixels than small pictures have.
        gaussian = _kornia("filters").gaussian_blur2d
        result: Tensor = gaussian(values, (side, side), both, "replicate")
        return result

    return changed(images, chosen, lambda some: _one_by_one(some, sigmas, blurred))


def sharpness(step: Sharpness, images: Tensor, chance: Chance) -> Tensor:
    """Soften or sharpen each."""
    return sharpened(images, (1 + chance.around(0, step.strength)).clamp_(min=0))


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Each times its factor (B,): 0 is black, 1 changes nothing."""
    return _batch(images, factors, _kornia("enhance").adjust_brightness_accumulative)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Each away from its mean gray by its factor (B,): 0 is that gray, 1 changes nothing."""
    return _one_by_one(images, factors, _kornia("enhance").adjust_contrast_with_mean_subtraction)


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


def sharpened(images: Tensor, factors: Tensor) -> Tensor:
    """Each away from itself smoothed by its factor (B,): 0 is smooth, 1 changes nothing."""
    if min(images.shape[2:]) < 3:
        return images
    return _one_by_one(images, factors, _kornia("enhance").sharpness)


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
        UsageError: these steps need kornia, and it is not installed.
    """
    if names and importlib.util.find_spec("kornia") is None:
        raise UsageError(
            f"The augmentation {names[0]} needs kornia, which is not installed.",
            "Install it with: pip install 'sartor[augment]'",
        )


def _batch(images: Tensor, factors: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return to_bytes(change(_floats(images), factors) * 255)


def _one_by_one(
    images: Tensor, factors: Tensor, change: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    pairs = zip(torch.split(images, 1), torch.split(factors, 1), strict=True)
    return torch.cat([_batch(image, factor, change) for image, factor in pairs])


def _floats(images: Tensor) -> Tensor:
    return images.to(torch.float32).div_(255)


def _kornia(module: str) -> ModuleType:
    # Importing it takes a second.
    return importlib.import_module(f"kornia.{module}")
