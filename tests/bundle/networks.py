"""Networks of users, for export: some that can be captured, some that cannot."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Everyday(nn.Module):
    """What people write by hand: functional calls, views, layers without a shape."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.LazyConv2d(6, 3, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.LazyLinear(num_classes)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        found = F.max_pool2d(F.gelu(self.norm(self.conv(images))), 2)
        found = F.interpolate(found, scale_factor=2, mode="bilinear")
        logits: Tensor = self.head(self.drop(found.view(found.size(0), -1)) * self.gain)
        return logits


class Attending(nn.Module):
    """A small transformer on patches, with a batch norm and a residual connection."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.norm(self.patches(images)).flatten(2).transpose(1, 2)
        mixed = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        logits: Tensor = self.head(self.last(mixed).mean(1))
        return logits


class Doubting(nn.Module):
    """A layer whose way depends on the values that it sees: no graph holds that."""

    def forward(self, images: Tensor) -> Tensor:
        if images.mean() > 0:
            return images * 2
        return images


class Routed(nn.Module):
    """A network with such a layer deep inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Sequential(nn.ReLU(), Doubting()))
        self.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

    def forward(self, images: Tensor) -> Any:
        return self.head(self.body(self.stem(images)))


class OneByOne(nn.Module):
    """A loop over the images: captured, it would hold for one number of them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(3))

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.body(image[None]) for image in images])


class Singular(nn.Module):
    """An operation that ONNX does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Any:
        return self.head(torch.linalg.svdvals(images[:, 0]))


class Restless(nn.Module):
    """Random when it classifies too, by the default of `F.dropout`."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Any:
        return self.head(F.dropout(images.flatten(1)))


class Comparing(nn.Module):
    """Looks at the other images of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Any:
        flat = images.flatten(1)
        return self.head(flat - flat.mean(0, keepdim=True))
