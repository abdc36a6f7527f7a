"""Contrast, blur and sharpness: what adds up the pixels of a picture, or of a neighbourhood.

PyTorch's means and convolutions, which kornia's take, add up in an order that depends on the size
of the batch and the number of threads, and with the order the last bit. Here sums are of whole
numbers, which are exact in any order, or of a few terms in the order written.

Images are uint8 (B, C, H, W), and may be overwritten.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .chance import Chance, midpoints
from .geometry import changed, to_bytes
from .pixels import luma
from .vocabulary import Blur, Sharpness

_LEAST_SIGMA = 0.1


def blur(step: Blur, images: Tensor, chance: Chance) -> Tensor:
    """Blur some, each as strongly as chance says."""
    chosen = chance.unit(0) < step.chance
    weights = chance.entry(1, _gaussians(step.sigma, images.device))[:, chosen]
    return changed(images, chosen, lambda some: blurred(some, weights))


def sharpness(step: Sharpness, images: Tensor, chance: Chance) -> Tensor:
    """Soften or sharpen each."""
    return sharpened(images, (1 + chance.around(0, step.strength)).clamp_(min=0))


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Each away from its mean gray by its factor (B,): 0 is that gray, 1 changes nothing."""
    height, width = images.shape[2:]
    sums = luma(images).sum((1, 2), dtype=torch.int64)
    means = (sums.to(torch.float64) / (height * width)).to(torch.float32)
    factors, means = factors.view(-1, 1, 1, 1), means.view(-1, 1, 1, 1)
    return to_bytes((images * factors).add_(means * (1 - factors)))


def sharpened(images: Tensor, factors: Tensor) -> Tensor:
    """Each away from itself smoothed by its factor (B,): 0 is smooth, 1 changes nothing.

    Smooth is the mean over 3x3 pixels of which the middle weighs 5; the outermost stay, as in
    Pillow.
    """
    if min(images.shape[2:]) < 3:
        return images
    values = images.to(torch.float32)
    middle = values[:, :, 1:-1, 1:-1]
    rows = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = (box + 4 * middle) / 13
    images[:, :, 1:-1, 1:-1] = to_bytes((middle - smooth) * factors.view(-1, 1, 1, 1) + smooth)
    return images


def blurred(images: Tensor, weights: Tensor) -> Tensor:
    """Each by weights (R + 1, B) for a pixel and those 1 to R away; beyond the edges as on them."""
    values = images.to(torch.float32)
    for axis in (2, 3):
        values = _along(values, weights, axis)
    return to_bytes(values)


def _along(values: Tensor, weights: Tensor, axis: int) -> Tensor:
    reach, length = len(weights) - 1, values.shape[axis]
    margins = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
    padded = F.pad(values, margins, mode="replicate")
    result = values * weights[0].view(-1, 1, 1, 1)
    for away in range(1, reach + 1):
        before = padded.narrow(axis, reach - away, length)
        after = padded.narrow(axis, reach + away, length)
        result.add_((before + after).mul_(weights[away].view(-1, 1, 1, 1)))
    return result


@lru_cache(maxsize=16)
def _gaussians(largest: float, device: torch.device) -> Tensor:
    """float32 (R + 1, LEVELS): half a Gaussian for each standard deviation, 0.1 to `largest`."""
    away = torch.arange(math.ceil(2 * largest) + 1, dtype=torch.float64).unsqueeze(1)
    weights = (-0.5 * (away / midpoints(_LEAST_SIGMA, largest)) ** 2).exp()
    total = 2 * weights.sum(0) - weights[0]
    return (weights / total).to(torch.float32).to(device)
