"""A multi-layer perceptron: linear layers with ReLU between them."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated

from torch import nn

from ..settings import Range
from .dropout import Dropout

Widths = Annotated[tuple[int, ...], Range(1)]
"""Outputs of each layer."""
Probability = Annotated[float, Range(0, 0.99)]


def build(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    hidden: Widths = (512, 512),
    dropout: Probability = 0.0,
) -> nn.Sequential:
    """669,706 parameters on MNIST; without hidden layers it is logistic regression."""
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    layers |= linear_layers(math.prod(input_shape), hidden, num_classes, dropout)
    return nn.Sequential(OrderedDict(layers))


def linear_layers(
    num_features: int,
    hidden: tuple[int, ...],
    num_classes: int,
    dropout: float,
    *,
    first: int = 1,
) -> dict[str, nn.Module]:
    """Hidden layers and the one that gives the logits, numbered from `first`."""
    layers: dict[str, nn.Module] = {}
    for number, width in enumerate(hidden, start=first):
        layers[f"linear{number}"] = nn.Linear(num_features, width)
        layers[f"relu{number}"] = nn.ReLU()
        if dropout > 0:
            layers[f"dropout{number}"] = Dropout(dropout)
        num_features = width
    layers[f"linear{first + len(hidden)}"] = nn.Linear(num_features, num_classes)
    return layers
