"""How unlike the training images an image is, from the features and logits of a network."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .calibration import NoveltyScore

NEIGHBOURS = 5
"""The distance to the nearest but four."""


class Novelty(nn.Module):
    """A `NoveltyScore` as a module that torch.export and ONNX can take.

    mahalanobis: the distance to the nearest class mean, in the covariance that the classes share
    (K. Lee et al., 2018, A Simple Unified Framework). neighbours: the distance on the unit sphere
    to the fifth nearest of some training images (Y. Sun et al., 2022, Out-of-Distribution Detection
    with Deep Nearest Neighbors). energy: -log sum exp of the logits (W. Liu et al., 2020,
    Energy-based Out-of-distribution Detection); under bce -sum log(1 + exp) of them (H. Wang et
    al., 2021).
    """

    def __init__(self, score: NoveltyScore, loss: str) -> None:
        super().__init__()
        self.method = score.method
        self._loss = loss
        for name, array in score.arrays.items():
            # A copy, for the array may be read-only.
            self.register_buffer(name, torch.from_numpy(np.array(array, np.float32)))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """float32 (N,): scores of images with features (N, F) and logits (N, K); NaN where these
        are not finite."""
        if self.method == "mahalanobis":
            centred = features.float() - self.get_buffer("centre")
            return distances(
                centred @ self.get_buffer("whitening"), self.get_buffer("means"), nearest=1
            )
        if self.method == "neighbours":
            centred = features.float() - self.get_buffer("centre")
            return distances(centred, self.get_buffer("rows"), nearest=NEIGHBOURS)
        if self.method == "angles":
            return distances(
                at_length_one(features.float()), self.get_buffer("rows"), nearest=NEIGHBOURS
            )
        if self._loss == "bce":
            return -F.softplus(logits.float()).sum(1)
        return -logits.float().logsumexp(1)


def distances(places: Tensor, others: Tensor, *, nearest: int) -> Tensor:
    """The distance (N,) of each place (N, D) to its so-many-th nearest of some others (R, D)."""
    products = places @ others.T
    squares = (places * places).sum(1, keepdim=True) - 2 * products + (others * others).sum(1)
    if nearest == 1:
        found = squares.amin(1)
    else:
        count = min(nearest, others.shape[0])
        found = squares.topk(count, dim=1, largest=False).values[:, count - 1]
    return found.clamp_min(0).sqrt()


def at_length_one(features: Tensor) -> Tensor:
    """Features (N, F) as directions."""
    return features / (features * features).sum(1, keepdim=True).sqrt().clamp_min(1e-12)


class Watched(nn.Module):
    """A network that gives what one of its layers was given, beside its logits."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        """
        Args:
            layer: name of a module that sees each image once; empty for none, whose features are
                the logits.
        """
        super().__init__()
        self.network = network
        self.layer = layer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 (N, F) and logits float32 (N, K) of normalised images (N, C, H, W)."""
        if not self.layer:
            logits = self.network(images).float()
            return logits, logits
        seen: list[Tensor] = []

        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0])

        handle = self.network.get_submodule(self.layer).register_forward_pre_hook(keep)
        try:
            logits = self.network(images).float()
        finally:
            handle.remove()
        return seen[0].flatten(1).float(), logits


def last_linear(network: nn.Module, images: Tensor) -> str:
    """Name of the linear layer that is called last, where it sees each image once; else empty.

    Args:
        images: two or more normalised images (N, C, H, W) on the network's device, to try it with.
    """
    called: list[tuple[nn.Module, tuple[int, ...]]] = []

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        called.append((layer, tuple(inputs[0].shape)))

    handles = [
        module.register_forward_pre_hook(watch)
        for module in network.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        return ""
    last, shape = called[-1]
    # A layer that is called several times, or on parts of an image, does not describe an image.
    once = sum(layer is last for layer, _ in called) == 1 and shape[0] == len(images)
    names = {module: name for name, module in network.named_modules()}
    return names[last] if once else ""
