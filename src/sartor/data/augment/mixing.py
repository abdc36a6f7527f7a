"""mixup and cutmix: each picture with a part of another, and with a part of its label.

The other is any of the training pictures, as chance says for (seed, epoch, index of the sample, how
often it came before in the epoch), and it looks as it does in its own right in that epoch. Where
the classes are drawn equally often, so are those of the others. Most libraries mix a batch with
itself. That spares preparing a second picture, but what a picture becomes depends on who else is in
the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .chance import Chance, Draws, midpoints
from .pixels import boxes
from .vocabulary import Cutmix, Mixup

DRAWS = Draws("mixing", 5)


class Mixed(NamedTuple):
    """Blended pictures and what they show."""

    images: Tensor
    """float32 (B, C, H, W)."""
    labels: Tensor
    """float32 (B, num_classes): the share of each class; a row sums to 1."""


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """mixup, cutmix, or for each picture one of them, as likely as the other."""

    mixup: Mixup | None
    cutmix: Cutmix | None
    num_classes: int

    def partners(self, chance: Chance, count: int) -> Tensor:
        """The place of the other picture for each, int64 (B,), among so many."""
        return chance.whole(0, count)

    def blend(
        self, images: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor], chance: Chance
    ) -> Mixed:
        """The first of both mixed with the second: floats (B, C, H, W), int64 (B,)."""
        (one, other), (label, other_label) = images, labels
        shares, weights = self._shares(one, chance)
        # Two products and a sum, each rounded for itself: the same bits wherever in a batch.
        mixed = (one * weights).add_(other * (1 - weights))
        return Mixed(mixed, self._soft(label, shares).add_(self._soft(other_label, 1 - shares)))

    def _shares(self, images: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
        """What the first keeps: its share (B,), and that of each pixel (B, 1, H or 1, W or 1)."""
        if self.cutmix is None:
            assert self.mixup is not None, "one of the two"
            (share,) = chance.entry(1, _quantiles(self.mixup.alpha, images.device))
            return share, share.view(-1, 1, 1, 1)
        cut_share, kept = _cut(self.cutmix, images, chance)
        if self.mixup is None:
            return cut_share, kept
        (share,) = chance.entry(1, _quantiles(self.mixup.alpha, images.device))
        blended = chance.whole(2, 2) == 1
        weights = torch.where(blended.view(-1, 1, 1, 1), share.view(-1, 1, 1, 1), kept)
        return torch.where(blended, share, cut_share), weights

    def _soft(self, labels: Tensor, shares: Tensor) -> Tensor:
        rows = torch.zeros(len(labels), self.num_classes, device=labels.device)
        return rows.scatter_(1, labels.unsqueeze(1), shares.unsqueeze(1))


def _cut(step: Cutmix, images: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
    """The share that is kept, and where: 1 and 0, (B, 1, H, W); the rectangle may be cut off."""
    height, width = images.shape[2:]
    (share,) = chance.entry(1, _quantiles(step.alpha, images.device))
    side = (1 - share).sqrt()
    high, wide = (side * height).to(torch.int64), (side * width).to(torch.int64)
    top = chance.whole(3, height) - high // 2
    left = chance.whole(4, width) - wide // 2
    bottom, right = (top + high).clamp(max=height), (left + wide).clamp(max=width)
    top, left = top.clamp(min=0), left.clamp(min=0)
    area = ((bottom - top) * (right - left)).to(torch.float32)
    kept = boxes(images, top, left, bottom, right).logical_not()
    return 1 - area / (height * width), kept.to(images.dtype)


@lru_cache(maxsize=16)
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    """float32 (1, LEVELS): the Beta(alpha, alpha) distribution as that many values."""
    from scipy.special import betaincinv

    ranks = midpoints(0, 1).numpy()
    values = np.asarray(betaincinv(alpha, alpha, ranks), dtype=np.float32)
    return torch.from_numpy(values).unsqueeze(0).to(device)
