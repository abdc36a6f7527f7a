"""Losses, as a sum over images and the weight to divide it by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Objective:
    """What training makes small: sum(logits, labels) / weight(labels).

    Sums and weights add up over batches and parts of batches; a mean of means would not be exact.
    """

    loss: str
    """cross-entropy, mse or bce."""
    smoothing: float = 0.0
    class_weights: Tensor | None = None
    """float32 (num_classes,) on the device, or None for all ones."""

    def sum(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum of the images' losses: logits float (B, K), labels int64 (B,) -> scalar."""
        logits = logits.float()
        if self.loss == "cross-entropy":
            return F.cross_entropy(
                logits,
                labels,
                weight=self.class_weights,
                label_smoothing=self.smoothing,
                reduction="sum",
            )
        one_hot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        if self.loss == "mse":
            cells = F.mse_loss(logits, one_hot, reduction="none")
        else:
            cells = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
        losses = cells.mean(dim=1)
        if self.class_weights is not None:
            losses = losses * self.class_weights[labels]
        return losses.sum()

    def weight(self, labels: Tensor) -> Tensor | int:
        """What the sum is divided by: the number of images, or the sum of their weights."""
        return len(labels) if self.class_weights is None else self.class_weights[labels].sum()

    def plain(self) -> Objective:
        """The same loss without smoothing and weights, for judging."""
        return Objective(loss=self.loss)


def untrained_loss(loss: str, num_classes: int) -> float:
    """The loss of a network that knows nothing: outputs near zero.

    Cross-entropy of equal probabilities is ln K; of a fair coin for each class, ln 2; the squared
    distance of zeros from a one-hot vector, averaged over its entries, is 1/K.
    """
    return {"cross-entropy": math.log(num_classes), "bce": math.log(2), "mse": 1 / num_classes}[
        loss
    ]


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """n / (K n_k) for each class k, so that classes weigh the same in all; 0 for an empty one."""
    counts = torch.bincount(labels, minlength=num_classes).double()
    weights = len(labels) / (num_classes * counts)
    return torch.where(counts > 0, weights, 0.0).float()
