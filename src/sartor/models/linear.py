"""Logistic regression: one linear layer from the pixels to the classes."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn


def build(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """7,850 parameters on MNIST: 784 weights and a bias for each of 10 classes."""
    linear = nn.Linear(math.prod(input_shape), num_classes)
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=linear))
