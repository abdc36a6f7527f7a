"""A small convolutional network after LeNet-5 (LeCun et al. 1998), with ReLU and max-pooling."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

from torch import nn

from ..settings import Range
from .mlp import Probability, Widths, linear_layers


def build(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    channels: Widths = (6, 12),
    kernel: Annotated[int, Range(1)] = 5,
    hidden: Widths = (120, 60),
    dropout: Probability = 0.0,
) -> nn.Sequential:
    """Convolutions, each with max-pooling and ReLU, then linear layers: 32,998 parameters on MNIST.

    A convolution is valid (no padding) and pooling halves. So that images of any size fit, and
    something is left of small ones, an axis shorter than two kernels is padded by half a kernel,
    and an axis of length 1 is not halved.
    """
    layers: dict[str, nn.Module] = {}
    depth, *size = input_shape
    for number, width in enumerate(channels, start=1):
        padding = [0 if length >= 2 * kernel else kernel // 2 for length in size]
        layers[f"conv{number}"] = nn.Conv2d(depth, width, kernel, padding=(padding[0], padding[1]))
        size = [length + 2 * pad - kernel + 1 for length, pad in zip(size, padding, strict=True)]
        window = [min(length, 2) for length in size]
        if max(window) > 1:
            # Pooling first leaves ReLU a quarter of the work. Both only ever pick or clip at 0, so
            # values and gradients are those of ReLU first.
            layers[f"pool{number}"] = nn.MaxPool2d((window[0], window[1]))
            size = [length // step for length, step in zip(size, window, strict=True)]
        layers[f"relu{number}"] = nn.ReLU()
        depth = width
    layers["flatten"] = nn.Flatten()
    features = depth * size[0] * size[1]
    layers |= linear_layers(features, hidden, num_classes, dropout, first=len(channels) + 1)
    return nn.Sequential(OrderedDict(layers))
