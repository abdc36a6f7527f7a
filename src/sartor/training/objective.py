"""Losses, as a sum over images and the weight to divide it by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Objective:
    """What training minimizes: sum(logits, labels) / weight(labels).

    Labels are int64 (B,), or of mixed pictures the share of each class, float32 (B, K). Then the
    losses cross-entropy and bce are those of each class, weighted with its share; mse is the
    distance from the shares.

    Sums and weights add up over batches and parts of batches; a mean of means would not be exact.
    """

    loss: str
    """cross-entropy, mse or bce."""
    smoothing: float = 0.0
    class_weights: Tensor | None = None
    """float32 (num_classes,) on the device, or None for all ones."""

    def sum(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum of the images' losses: logits float (B, K), labels (B,) or (B, K) -> scalar."""
        logits = logits.float()
        if self.loss == "cross-entropy":
            return F.cross_entropy(
                logits,
                labels,
                weight=self.class_weights,
                label_smoothing=self.smoothing,
                reduction="sum",
            )
        shares = labels if labels.ndim == 2 else F.one_hot(labels, logits.shape[1])
        shares = shares.to(logits.dtype)
        if self.loss == "mse":
            cells = F.mse_loss(logits, shares, reduction="none")
        else:
            cells = F.binary_cross_entropy_with_logits(logits, shares, reduction="none")
        losses = cells.mean(dim=1)
        if self.class_weights is not None:
            losses = losses * self._weights_of(self.class_weights, labels)
        return losses.sum()

    def weight(self, labels: Tensor) -> Tensor | int:
        """What the sum is divided by: the number of images, or the sum of their weights."""
        if self.class_weights is None:
            # len of a tensor takes four times as long, in every step.
            return labels.shape[0]
        return self._weights_of(self.class_weights, labels).sum()

    @staticmethod
    def _weights_of(class_weights: Tensor, labels: Tensor) -> Tensor:
        """Of each image, (B,); of a mixed one that of each class by its share."""
        if labels.ndim == 2:
            return (labels * class_weights).sum(dim=1)
        return class_weights[labels]

    def plain(self) -> Objective:
        """The same loss without smoothing and weights, for judging."""
        return Objective(loss=self.loss)


def untrained_loss(loss: str, num_classes: int) -> float:
    """The loss of outputs of zero, which for cross-entropy and bce is the chance level.

    Cross-entropy of equal probabilities is ln K; of a fair coin for each class, ln 2; the squared
    distance of zeros from a one-hot vector, averaged over its entries, is 1/K.
    """
    return {"cross-entropy": math.log(num_classes), "bce": math.log(2), "mse": 1 / num_classes}[
        loss
    ]


def chance_level(loss: str, num_classes: int) -> float | None:
    """The loss of a network that guesses; None for mse, whose first outputs may be of any size."""
    return None if loss == "mse" else untrained_loss(loss, num_classes)


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """n / (K n_k) for each class k, so that classes weigh the same in all; 0 for an empty one."""
    counts = torch.bincount(labels, minlength=num_classes).double()
    weights = len(labels) / (num_classes * counts)
    return torch.where(counts > 0, weights, 0.0).float()


def effective_weights(labels: Tensor, num_classes: int, beta: float) -> Tensor:
    """Inverse to a class's effective number of samples, (1 - beta^n) / (1 - beta); mean of all 1.

    From "Class-Balanced Loss Based on Effective Number of Samples" (Cui et al., 2019, CVPR): the
    more images of a class there are, the less information another one adds. With `beta` 0 all
    classes weigh 1, towards 1 as in `balanced_weights`. An empty class weighs 0. In the paper the
    weights of the classes add up to their number; here, as above, those of the images do.
    """
    counts = torch.bincount(labels, minlength=num_classes).double()
    # -expm1(n log1p(beta - 1)) is 1 - beta^n without its loss of digits near beta = 1.
    effective = -torch.expm1(counts * math.log1p(beta - 1)) if beta else (counts > 0).double()
    weights = torch.where(counts > 0, 1 / effective, 0.0)
    return (weights * len(labels) / (weights * counts).sum()).float()
