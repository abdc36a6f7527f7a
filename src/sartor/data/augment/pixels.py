"""What pixels become, where they are: painted over, or gray.

Images are uint8 (B, C, H, W), contiguous, and may be overwritten.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .chance import Chance
from .geometry import changed, logarithmic
from .vocabulary import Cutout, Erase, Grayscale

_THINNEST = 3.3


def cutout(step: Cutout, fill: Tensor, images: Tensor, chance: Chance) -> Tensor:
    """Paint a square around a random pixel of each; what is beyond the edges is cut off."""
    height, width = images.shape[2:]
    top = chance.whole(0, height) - step.pixels // 2
    left = chance.whole(1, width) - step.pixels // 2
    return _painted(images, boxes(images, top, left, top + step.pixels, left + step.pixels), fill)


def erase(step: Erase, fill: Tensor, images: Tensor, chance: Chance) -> Tensor:
    """Paint a rectangle somewhere on some."""
    return changed(
        images,
        chosen := chance.unit(0) < step.chance,
        lambda some: _erased(step, fill, some, Chance(chance.words[1:, chosen], chance.epoch)),
    )


def grayscale(step: Grayscale, images: Tensor, chance: Chance) -> Tensor:
    """Make some gray; those of one channel are."""
    if images.shape[1] == 1:
        return images
    return changed(images, chance.unit(0) < step.chance, gray)


def gray(images: Tensor) -> Tensor:
    """The luma of each in all three channels."""
    return luma(images).unsqueeze(1).expand_as(images)


def luma(images: Tensor) -> Tensor:
    """uint8 (B, H, W): of colours the luma of ITU-R 601, bit for bit as Pillow's mode L."""
    if images.shape[1] == 1:
        return images[:, 0]
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16).to(torch.uint8)


def boxes(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """bool (B, 1, H, W): true inside; bottom and right are the first outside."""
    count, _, height, width = images.shape
    stripes = _between(left, right, width)
    # Each row is the stripe of its image or all outside, which is copied as a whole.
    stripes = torch.cat([torch.zeros_like(stripes[:1]), stripes])
    numbers = torch.arange(1, count + 1, device=images.device).unsqueeze(1)
    which = _between(top, bottom, height).to(torch.int64).mul_(numbers)
    return stripes.index_select(0, which.view(-1)).view(count, 1, height, width)


def _erased(step: Erase, fill: Tensor, images: Tensor, chance: Chance) -> Tensor:
    height, width = images.shape[2:]
    area = chance.unit(0) * (step.largest - step.smallest) + step.smallest
    (ratio,) = chance.entry(1, logarithmic(_THINNEST, images.device))
    high = (area * ratio).sqrt().mul_(height).round_().clamp_(1, height)
    wide = (area / ratio).sqrt().mul_(width).round_().clamp_(1, width)
    top = (chance.unit(2) * (height + 1 - high)).floor_()
    left = (chance.unit(3) * (width + 1 - wide)).floor_()
    return _painted(images, boxes(images, top, left, top + high, left + wide), fill)


def _between(first: Tensor, end: Tensor, size: int) -> Tensor:
    """bool (B, size): the places from `first` on and before `end`, each (B,)."""
    places = torch.arange(size, device=first.device, dtype=first.dtype)
    return (places >= first.unsqueeze(1)) & (places < end.unsqueeze(1))


def _painted(images: Tensor, where: Tensor, fill: Tensor) -> Tensor:
    """The images with bytes of `fill`, one a channel, at the places `where`, bool."""
    # Arithmetic of bytes is several times faster than torch.where.
    masks = where.view(torch.uint8).neg()
    return ((images ^ fill.view(1, -1, 1, 1)) & masks) ^ images
