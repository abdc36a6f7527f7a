"""A network in evaluation mode: the one way from images to logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..data.feed.batches import Feed
from .views import mean_logits


class ForwardSettings(Protocol):
    """What of a recipe decides the bits of a forward pass."""

    @property
    def device(self) -> str: ...
    @property
    def amp_dtype(self) -> str: ...
    @property
    def tta(self) -> str: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Forward:
    """A network with the precision and the views that belong to its logits.

    It changes nothing of the process: whoever opens a stretch of work sets threads and kernels.
    """

    network: nn.Module
    """On its device, in its layout, with its weights."""
    device: str
    amp_dtype: str
    """float32, bfloat16 or float16."""
    tta: str
    """Views that the logits are averaged over; see `views.mean_logits`."""

    @classmethod
    def of(cls, network: nn.Module, settings: ForwardSettings) -> Forward:
        """The network as resolved settings run it."""
        return cls(
            network=network,
            device=settings.device,
            amp_dtype=settings.amp_dtype,
            tta=settings.tta,
        )

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 (B, K) of normalised images float (B, C, H, W).

        The network must be in evaluation mode.
        """
        with precision(self.device, self.amp_dtype):
            return mean_logits(self.network, images, self.tta)

    def over(self, feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits float32 (B, K) and labels of every image of a feed, in order.

        The network is in evaluation mode meanwhile, and afterwards in the mode it was in before.
        """
        was_training = self.network.training
        self.network.eval()
        try:
            for images, labels in feed.in_order(_batch_size(feed)):
                yield self.logits(images), labels
        finally:
            self.network.train(was_training)

    def all_logits(self, feed: Feed) -> Tensor:
        """Logits float32 (N, K) of every image of a feed, in order, on the device."""
        return torch.cat([logits for logits, _ in self.over(feed)])


def precision(device: str, amp_dtype: str) -> AbstractContextManager[object]:
    """The arithmetic of a forward pass."""
    if amp_dtype in ("float32", "auto"):
        return nullcontext()
    return torch.autocast(device, dtype=getattr(torch, amp_dtype))


def _batch_size(feed: Feed) -> int:
    """At most four million pixels and 500 images, which suits a processor's cache.

    As measured on two cores with 28x28: 1,000 images at once are 2 % faster for small networks, and
    up to a quarter slower for those with large maps. Not measured for each run, so that figures can
    be made again.
    """
    _, channels, height, width = feed.images.shape
    return max(1, min(500, 4_000_000 // (channels * height * width)))
