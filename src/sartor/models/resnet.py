"""Small residual networks after those for CIFAR (He et al. 2016, section 4.2), for any image size.

Three stages of residual blocks, each with half the size and twice the channels of the one before,
then the mean over the image and one linear layer. Made for processors: what is large is shrunk
early, by pooling before normalization and ReLU, which then have a quarter of the work.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

import torch
from torch import Tensor, nn

from ..settings import Range

Channels = Annotated[int, Range(1, 4096)]

_STAGES = 3
_LARGEST_MAP = 24
"""Height or width, in pixels, of what the first stage works on, at most; more is halved before."""
_SMALLEST_MAP = 4
"""Nothing smaller than this is made, by halving what is larger."""


def resnet8(
    *, input_shape: tuple[int, int, int], num_classes: int, width: Channels = 32
) -> nn.Sequential:
    """One block per stage: 308,266 parameters for 10 classes of colour images of 32x32."""
    return _build(input_shape, num_classes, width, blocks=1)


def resnet14(
    *, input_shape: tuple[int, int, int], num_classes: int, width: Channels = 32
) -> nn.Sequential:
    """Two blocks per stage: 696,234 parameters for 10 classes of colour images of 32x32."""
    return _build(input_shape, num_classes, width, blocks=2)


def resnet20(
    *, input_shape: tuple[int, int, int], num_classes: int, width: Channels = 32
) -> nn.Sequential:
    """Three blocks per stage: 1,084,202 parameters for 10 classes of colour images of 32x32."""
    return _build(input_shape, num_classes, width, blocks=3)


class Residual(nn.Module):
    """relu(x + f(x)), where f is two 3x3 convolutions; x by a 1x1 convolution if its shape changes.

    The last normalization begins with a scale of 0, so a new block lets everything pass as it is.
    """

    def __init__(self, channels: int, width: int, *, halve: bool) -> None:
        super().__init__()
        self.conv1 = convolution(channels, width, 3, stride=2 if halve else 1)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3)
        self.norm2 = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm2.weight)
        shortcut: list[nn.Module] = []
        if halve:
            # The mean of all four pixels, where a stride would use only one of them.
            shortcut.append(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False))
        if channels != width:
            shortcut.append(convolution(channels, width, 1))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, values: Tensor) -> Tensor:
        """float (B, channels, H, W) -> (B, width, H, W), or half of H and W, rounded up."""
        change = torch.relu_(self.norm1(self.conv1(values)))
        change = self.norm2(self.conv2(change))
        return torch.relu_(change + self.shortcut(values))


def _build(
    input_shape: tuple[int, int, int], num_classes: int, width: int, *, blocks: int
) -> nn.Sequential:
    channels, *size = input_shape
    layers: dict[str, nn.Module] = {}
    halvings = 0
    while max(size) >> halvings > _LARGEST_MAP:
        halvings += 1
    for number in range(1, max(halvings, 1) + 1):
        # Narrow where the image is still large.
        out = max(width >> (max(halvings, 1) - number), min(width, 16))
        layers[f"conv{number}"] = convolution(channels, out, 3)
        if halvings:
            window = tuple(min(length, 2) for length in size)
            layers[f"pool{number}"] = nn.MaxPool2d((window[0], window[1]))
            size = [length // step for length, step in zip(size, window, strict=True)]
        layers[f"norm{number}"] = nn.BatchNorm2d(out)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        channels = out
    for stage in range(1, _STAGES + 1):
        for block in range(1, blocks + 1):
            halve = stage > 1 and block == 1 and min(size) > _SMALLEST_MAP
            layers[f"stage{stage}_block{block}"] = Residual(channels, width, halve=halve)
            size = [-(-length // 2) for length in size] if halve else size
            channels = width
        width *= 2
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    layers["linear"] = nn.Linear(channels, num_classes)
    return nn.Sequential(OrderedDict(layers))


def convolution(
    channels: int, width: int, kernel: int, stride: int = 1, *, padded: bool = True
) -> nn.Conv2d:
    """Without bias, which the normalization after it takes away; weights as He et al. 2015."""
    padding = kernel // 2 if padded else 0
    layer = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
