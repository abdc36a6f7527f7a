"""A small convolutional network made to be trained in seconds, after those of the speed records.

What makes it quick on a processor: the image is halved at once, by a convolution that is not
trained (`whitening`); every stage pools before it normalizes; channels are multiples of 16, which
fill the vector units.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

from torch import nn

from ..settings import Range
from .resnet import convolution
from .whitening import PatchWhitening

Widths = Annotated[tuple[int, ...], Range(1, 4096)]


def build(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    widths: Widths = (64, 128),
    depth: Annotated[int, Range(1, 16)] = 2,
    patch: Annotated[int, Range(2, 8)] = 4,
) -> nn.Sequential:
    """A stage for each of `widths`, each of `depth` convolutions, 3x3, of which the first halves.

    278,538 parameters on MNIST. `patch` is the side of the patches that are whitened first, in
    pixels. A map of one pixel is not halved.
    """
    channels, *size = input_shape
    whitening = PatchWhitening(channels, patch)
    layers: dict[str, nn.Module] = {"whitening": whitening, "relu": nn.ReLU(inplace=True)}
    size = [-(-length // 2) for length in size]
    channels = whitening.out_channels
    for stage, width in enumerate(widths, start=1):
        for number in range(1, depth + 1):
            name = f"{stage}_{number}"
            layers[f"conv{name}"] = convolution(channels, width, 3)
            window = [min(length, 2) for length in size]
            if number == 1 and max(window) > 1:
                layers[f"pool{name}"] = nn.MaxPool2d((window[0], window[1]))
                size = [length // step for length, step in zip(size, window, strict=True)]
            layers[f"norm{name}"] = nn.BatchNorm2d(width)
            layers[f"relu{name}"] = nn.ReLU(inplace=True)
            channels = width
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    layers["linear"] = nn.Linear(channels, num_classes)
    return nn.Sequential(OrderedDict(layers))
