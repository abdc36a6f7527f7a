"""A network in evaluation mode: the one way from images to logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .. import native_module
from ..arrays import UInt8Array
from ..data.feed.batches import Feed
from ..data.feed.shares import Share
from ..data.pictures.preprocess import Normalizer
from ..device import torch_threads
from .native_forward import NativeForward
from .novelty import Novelty, Watched, last_linear
from .views import mean_logits, views_of


class ForwardSettings(Protocol):
    """What of a recipe decides the bits of a forward pass."""

    @property
    def device(self) -> str: ...
    @property
    def amp_dtype(self) -> str: ...
    @property
    def tta(self) -> str: ...
    @property
    def engine(self) -> str: ...
    @property
    def threads(self) -> int | None: ...
    @property
    def instructions(self) -> str: ...


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
    compiled: NativeForward | None = None
    """The same network in the engine `native`, for what it was trained by."""

    @classmethod
    def of(cls, network: nn.Module, settings: ForwardSettings) -> Forward:
        """The network as resolved settings run it."""
        compiled = None
        if settings.engine == "native" and native_module.module() is not None:
            compiled = NativeForward(network, settings.threads or 1, settings.instructions)
        return cls(
            network=network,
            device=settings.device,
            amp_dtype=settings.amp_dtype,
            tta=settings.tta,
            compiled=compiled,
        )

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 (B, K) of normalised images float (B, C, H, W).

        The network must be in evaluation mode.
        """
        with precision(self.device, self.amp_dtype):
            return mean_logits(self.compiled or self.network, images, self.tta)

    @torch.inference_mode()
    def last_linear(self, images: Tensor) -> str:
        """As `novelty.last_linear` of the network in evaluation mode."""
        with evaluating(self.network), precision(self.device, self.amp_dtype):
            return last_linear(self.network, images)

    @torch.inference_mode()
    def seen(self, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        """Features float32 (B, F) of normalised images as they are, and the logits of their views.

        Args:
            layer: as for `Watched`.
        """
        watched: Callable[[Tensor], tuple[Tensor, Tensor]] = Watched(self.network, layer)
        if self.compiled is not None and self.compiled.gives(layer):
            watched = self.compiled.seen
        with precision(self.device, self.amp_dtype):
            pairs = [watched(view) for view in views_of(images, self.tta)]
        return pairs[0][0], torch.stack([logits for _, logits in pairs]).mean(0)

    def all_seen(self, feed: Feed, layer: str) -> tuple[Tensor, Tensor]:
        """As `seen`, of every image of a feed, in order, on the device."""
        compiled = self.compiled
        if compiled is not None and compiled.gives(layer) and self._gathers(feed):
            return compiled.seen_over(feed)
        with evaluating(self.network):
            pairs = [self.seen(images, layer) for images, _ in feed.in_order(_batch_size(feed))]
        features, logits = zip(*pairs, strict=True)
        return torch.cat(features), torch.cat(logits)

    @torch.inference_mode()
    def scored(self, images: Tensor, novelty: Novelty | None, layer: str) -> Scored:
        """Logits, and scores where there is something that gives them."""
        if novelty is None:
            return Scored(self.logits(images), None)
        features, logits = self.seen(images, layer)
        return Scored(logits, novelty(features, logits))

    @torch.inference_mode()
    def scored_bytes(
        self,
        images: UInt8Array,
        normalize: Callable[[Tensor], Tensor],
        novelty: Novelty | None,
        layer: str,
    ) -> Scored | None:
        """As `scored`, of images as bytes (B, C, H, W), where the engine native takes them itself;
        else None."""
        compiled = self.compiled
        if compiled is None or self.tta != "none" or not isinstance(normalize, Normalizer):
            return None
        if novelty is not None and not compiled.gives(layer):
            return None
        found = compiled.of_bytes(images, normalize, with_features=novelty is not None)
        if found is None:
            return None
        features, logits = found
        return Scored(logits, None if novelty is None else novelty(features, logits))

    def over(self, feed: Feed, share: Share | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits float32 (B, K) and labels of every image of a feed, in order.

        With a `share`, only the batches of one of several processes: the same batches as one
        process makes, so that each logit has the same bits.

        The network is in evaluation mode meanwhile, and afterwards in the mode it was in before.
        """
        if share is None and self.compiled is not None and self._gathers(feed):
            yield from self.compiled.over(feed)
            return
        with evaluating(self.network):
            for images, labels in feed.in_order(_batch_size(feed), share):
                yield self.logits(images), labels

    def _gathers(self, feed: Feed) -> bool:
        """Whether the engine native takes the bytes of a feed itself."""
        return self.compiled is not None and self.tta == "none" and self.compiled.gathers(feed)

    def own_threads(self) -> AbstractContextManager[None]:
        """Threads for PyTorch's part of the work: one beside the engine native, which leaves it so
        little that waiting for another thread would take longer."""
        return nullcontext() if self.compiled is None else torch_threads(1)

    def all_logits(self, feed: Feed) -> Tensor:
        """Logits float32 (N, K) of every image of a feed, in order, on the device."""
        return torch.cat([logits for logits, _ in self.over(feed)])

    def all_scored(self, feed: Feed, novelty: Novelty | None, layer: str) -> Scored:
        """As `scored`, of every image of a feed, in order, on the device."""
        if novelty is None:
            return Scored(self.all_logits(feed), None)
        with evaluating(self.network):
            parts = [
                self.scored(images, novelty, layer)
                for images, _ in feed.in_order(_batch_size(feed))
            ]
        scores = [part.novelty for part in parts if part.novelty is not None]
        return Scored(
            torch.cat([part.logits for part in parts]), torch.cat(scores) if scores else None
        )


class Scored(NamedTuple):
    """What a network says of images, and how novel they are."""

    logits: Tensor
    """float32 (N, K)."""
    novelty: Tensor | None
    """float32 (N,); None without a score."""


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, and afterwards in the mode it was in before."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


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
