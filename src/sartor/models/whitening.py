"""A first convolution that needs no training: it whitens patches of the training images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 2
_EPSILON = 5e-4
_IMAGES_AT_ONCE = 250


class PatchWhitening(nn.Module):
    """A fixed convolution with stride 2 whose outputs are uncorrelated and of equal variance.

    Its filters are the eigenvectors of the second moments of image patches, each divided by the
    root of its eigenvalue, and each with both signs, since a ReLU follows: from "How to train your
    ResNet 8" (Page, 2019) and "94% on CIFAR-10 in 3.29 Seconds" (Jordan, 2024, section 3.2). They
    are a buffer, not a parameter: kept with the weights and never trained, so that the largest map
    of a network costs nothing on the way back. Until `fit` is called they are random and
    orthogonal.
    """

    weight: Tensor

    def __init__(self, channels: int, window: int) -> None:
        """Patches of `window` x `window` pixels, at least 2."""
        super().__init__()
        self.window = window
        size = channels * window**2
        filters = nn.init.orthogonal_(torch.empty(size, size)).view(size, channels, window, window)
        self.register_buffer("weight", torch.cat([filters, -filters]))

    def extra_repr(self) -> str:
        channels = self.weight.shape[1]
        return f"{channels}, {self.out_channels}, window={self.window}, stride={STRIDE}"

    @property
    def out_channels(self) -> int:
        """Twice the numbers in a patch."""
        return self.weight.shape[0]

    def forward(self, images: Tensor) -> Tensor:
        """float (B, C, H, W) -> (B, out_channels, H / 2, W / 2), rounded up."""
        height, width = images.shape[2:]
        padded = F.pad(images, margins(height, width, self.window))
        return F.conv2d(padded, self.weight, stride=STRIDE)

    @torch.no_grad()
    def fit(self, images: Tensor, mean: Tensor, std: Tensor) -> None:
        """Take the filters from images uint8 (N, C, H, W), whose `mean` and `std` (C,), in 0..1,
        normalise what the network will see.

        Images smaller than a patch leave the filters as they are.
        """
        if min(images.shape[2:]) < self.window:
            return
        area, size = self.window**2, self.weight[0].numel()
        centre, scale = (255 * one.double().repeat_interleave(area) for one in (mean, std))
        sums, products, count = _moments(images, self.window)
        means = sums / count - centre
        shifted = products / count - (sums / count).outer(sums / count) + means.outer(means)
        values, vectors = torch.linalg.eigh(shifted / scale.outer(scale))
        filters = (vectors / (values.clamp(min=0) + _EPSILON).sqrt()).T.flip(0)
        filters = filters.reshape(size, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))


def margins(height: int, width: int, window: int) -> tuple[int, int, int, int]:
    """Zeros left, right, above and below, with which windows at every second pixel halve an image,
    rounded up."""
    down, right = (
        max((-(-length // STRIDE) - 1) * STRIDE + window - length, 0) for length in (height, width)
    )
    return right // 2, right - right // 2, down // 2, down - down // 2


def _moments(images: Tensor, window: int) -> tuple[Tensor, Tensor, int]:
    """Of all patches: their sum (D,), the sum of their outer products (D, D), and their number.

    float64 sums of whole numbers below 2**53: exact, and so the same in any order.
    """
    size, count = images.shape[1] * window**2, 0
    sums, products = torch.zeros(size).double(), torch.zeros(size, size).double()
    for part in torch.split(images.cpu(), _IMAGES_AT_ONCE):
        patches = part.unfold(2, window, STRIDE).unfold(3, window, STRIDE)
        rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, size).double()
        sums += rows.sum(0)
        products += rows.T @ rows
        count += len(rows)
    return sums, products, count
