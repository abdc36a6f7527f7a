"""A small convolutional network made to be trained in seconds, after those of the speed records.

What makes it quick on a processor: the image is halved at once, by a convolution that is not
trained (`whitening`); every stage pools before it normalizes; channels are multiples of 16, which
fill the vector units.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

from torch import nn

from ..errors import UsageError
from ..settings import Range
from .resnet import Residual, convolution
from .whitening import STRIDE, PatchWhitening, margins

Widths = Annotated[tuple[int, ...], Range(1, 4096)]


def build(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    widths: Widths = (64, 128),
    depth: Annotated[int, Range(1, 16)] = 2,
    first_stride: Annotated[int, Range(1, 2)] = 2,
    residual: bool = False,
    patch: Annotated[int, Range(2, 8)] = 4,
    whitened: bool = True,
    largest_map: Annotated[int, Range(0, 4096)] = 0,
    parts: Annotated[int, Range(1, 16)] = 1,
) -> nn.Sequential:
    """A stage for each of `widths`, of `depth` convolutions, 3x3: 278,538 parameters on MNIST.

    Every stage halves the map, by pooling after its first convolution, the first one only where
    `first_stride` is 2; a side of one pixel is not halved. With `residual`, the convolutions after
    the first of a stage are residual blocks of two, so `depth` is odd. `patch` is the side of the
    patches that are whitened first, in pixels; without `whitened` a convolution of that size is
    trained in its place. Where the map is then higher or wider than `largest_map`, one convolution
    after the other of the first width halves it, so that large images cost little more. The last
    map is averaged over `parts` x `parts` of its regions, each with its own weights in the linear
    layer: with more than one, where something is counts too.
    """
    if residual and depth % 2 == 0:
        raise UsageError(
            f"A residual block has two convolutions, so depth {depth} of convnet must be odd.",
            "Choose depth 3 or 5, or leave residual out.",
        )
    channels, *size = input_shape
    layers = _halved(channels, size, patch, whitened)
    size = [-(-length // 2) for length in size]
    channels = 2 * channels * patch**2
    halvings = 0
    while 0 < largest_map < max(size):
        halvings += 1
        window = [min(length, 2) for length in size]
        layers |= _convolved(channels, widths[0], f"0_{halvings}", window, size)
        size = [length // step for length, step in zip(size, window, strict=True)]
        channels = widths[0]
    for stage, width in enumerate(widths, start=1):
        window = [min(length, 2 if stage > 1 else first_stride) for length in size]
        layers |= _convolved(channels, width, f"{stage}_1", window, size)
        size = [length // step for length, step in zip(size, window, strict=True)]
        for number in range(2, depth + 1):
            if not residual:
                layers |= _convolved(width, width, f"{stage}_{number}", [1, 1], size)
            elif number % 2 == 0:
                layers[f"block{stage}_{number // 2}"] = Residual(width, width, halve=False)
        channels = width
    layers |= {"pool": nn.AdaptiveAvgPool2d(parts), "flatten": nn.Flatten()}
    layers["linear"] = nn.Linear(channels * parts**2, num_classes)
    return nn.Sequential(OrderedDict(layers))


def _halved(channels: int, size: list[int], patch: int, whitened: bool) -> dict[str, nn.Module]:
    """The first convolution, which gives twice as many channels as a patch has numbers."""
    relu = nn.ReLU(inplace=True)
    if whitened:
        return {"whitening": PatchWhitening(channels, patch), "relu": relu}
    width = 2 * channels * patch**2
    trained = nn.Conv2d(channels, width, patch, stride=STRIDE, bias=False)
    nn.init.kaiming_normal_(trained.weight, mode="fan_out", nonlinearity="relu")
    pad = nn.ZeroPad2d(margins(size[0], size[1], patch))
    return {"pad": pad, "conv": trained, "norm": nn.BatchNorm2d(width), "relu": relu}


def _convolved(
    channels: int, width: int, name: str, window: list[int], size: list[int]
) -> dict[str, nn.Module]:
    """A convolution, 3x3, what pools its map where a window is larger than a pixel, and ReLU."""
    layers: dict[str, nn.Module] = {}
    beyond = [1 - length % step for length, step in zip(size, window, strict=True)]
    if min(beyond) < 1:
        # Pooling would drop the last row or column, so it is not computed: without a margin there.
        layers[f"pad{name}"] = nn.ZeroPad2d((1, beyond[1], 1, beyond[0]))
    layers[f"conv{name}"] = convolution(channels, width, 3, padded=min(beyond) == 1)
    if max(window) > 1:
        layers[f"pool{name}"] = nn.MaxPool2d((window[0], window[1]))
    layers[f"norm{name}"] = nn.BatchNorm2d(width)
    layers[f"relu{name}"] = nn.ReLU(inplace=True)
    return layers
