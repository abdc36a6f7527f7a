"""Forward passes by the engine `native`, with the weights that PyTorch has at that moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import UInt8Array
from ..data.feed.batches import Feed
from ..data.pictures.preprocess import Normalizer
from ..device import torch_threads
from ..torch_internals import Watch
from .chain import NotAChainError, array_of, layers_of, network_of
from .novelty import Watched

if TYPE_CHECKING:
    from .._native import Network

_IMAGES_AT_ONCE, _PIXELS_AT_ONCE = 512, 2**19
"""A batch of evaluation."""
_SECONDS_AT_ONCE = 0.05
"""One call, in which nobody can interrupt, makes several batches where they take no longer."""


class NativeForward:
    """A network in evaluation mode: float32 (B, C, H, W) -> logits (B, K).

    Where the network has become another since it was given, so that the engine does not compute it
    (it got a hook, say), PyTorch does.
    """

    def __init__(self, network: nn.Module, threads: int, instructions: str) -> None:
        self._torch_network = network
        self._threads, self._instructions = threads, instructions
        self._made: _Made | None = None
        names = [name for name, one in network.named_modules() if isinstance(one, nn.Linear)]
        self._last_linear = names[-1] if names else ""

    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 (B, K)."""
        made = self._network(tuple(images.shape[1:]))
        if made is None:
            with torch_threads(self._threads):
                return self._torch_network(images)  # type: ignore[no-any-return]
        logits = torch.empty(len(images), made.outputs)
        made.forward(array_of(images.contiguous()), array_of(logits))
        return logits

    def gives(self, layer: str) -> bool:
        """Whether `seen` gives what this layer is given."""
        return bool(layer) and layer == self._last_linear

    def seen(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the last linear layer is given, float32 (B, F), and logits (B, K)."""
        made = self._network(tuple(images.shape[1:]))
        if made is None:
            with torch_threads(self._threads):
                features, logits = Watched(self._torch_network, self._last_linear)(images)
            return features, logits
        logits = torch.empty(len(images), made.outputs)
        features = torch.empty(len(images), made.features)
        made.forward(array_of(images.contiguous()), array_of(logits), array_of(features))
        return features, logits

    def of_bytes(
        self, images: UInt8Array, normalize: Normalizer, *, with_features: bool
    ) -> tuple[Tensor, Tensor] | None:
        """As `seen` of normalised images, given as bytes (B, C, H, W); without the features,
        float32 (B, 0). None where the engine does not compute the network."""
        made = self._network(images.shape[1:])
        if made is None:
            return None
        # Arrays of NumPy: for a single image, making tensors would take as long as the network.
        logits = np.empty((len(images), made.outputs), np.float32)
        features = np.empty((len(images), made.features if with_features else 0), np.float32)
        made.forward_bytes(
            np.ascontiguousarray(images),
            np.arange(len(images)),
            *normalize.of_channels,
            logits,
            features if with_features else None,
        )
        return torch.from_numpy(features), torch.from_numpy(logits)

    def gathers(self, feed: Feed) -> bool:
        """Whether `over` can be asked for a feed."""
        return can_gather(feed) and self._network(tuple(feed.images.shape[1:])) is not None

    def over(self, feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and labels of every image of a feed that it gathers, in order."""
        size = _images_at_once(feed)
        for _, logits, rows in self._parts(feed, with_features=False):
            labels = feed.labels.index_select(0, rows)
            yield from zip(torch.split(logits, size), torch.split(labels, size), strict=True)

    def seen_over(self, feed: Feed) -> tuple[Tensor, Tensor]:
        """As `seen`, of every image of a feed that it gathers, in order."""
        parts = list(self._parts(feed, with_features=True))
        return torch.cat([one.features for one in parts]), torch.cat([one.logits for one in parts])

    def _parts(self, feed: Feed, *, with_features: bool) -> Iterator[_Part]:
        made = self._network(tuple(feed.images.shape[1:]))
        normalize = feed.normalize
        assert made is not None, "gathers"
        assert isinstance(normalize, Normalizer), "gathers"
        if feed.mapped_file is not None:
            feed.mapped_file.check()
        size = _images_at_once(feed)
        rows = torch.from_numpy(feed.indices)
        # By itself, for what an image's logits are must not depend on how long the others took.
        whole = len(rows) // size * size
        start, batches = 0, 1
        while start < len(rows):
            stop = min(start + batches * size, whole if start < whole else len(rows))
            part, began = rows[start:stop], time.perf_counter()
            logits = torch.empty(len(part), made.outputs)
            features = torch.empty(len(part), made.features if with_features else 0)
            made.forward_bytes(
                array_of(feed.images),
                array_of(part),
                *normalize.of_channels,
                array_of(logits),
                array_of(features) if with_features else None,
            )
            if 2 * (time.perf_counter() - began) < _SECONDS_AT_ONCE:
                batches *= 2
            yield _Part(features, logits, part)
            start = stop

    def _network(self, input_shape: tuple[int, ...]) -> Network | None:
        """The engine's network, with the weights of now."""
        made = self._made
        if made is None or input_shape != made.input_shape or not made.watch.is_same():
            # In one piece, for several threads may ask at once.
            made = self._made = self._new(input_shape)
        elif made.network is not None:
            writes = made.watch.writes()
            if writes != made.writes:
                made.network.refresh()
                made.writes = writes
        return made.network

    def _new(self, input_shape: tuple[int, ...]) -> _Made:
        watch = Watch(self._torch_network)
        writes, network = watch.writes(), None
        channels, height, width = shape = input_shape
        with suppress(NotAChainError):
            layers = layers_of(self._torch_network, (channels, height, width))
            network = network_of(
                layers, (channels, height, width), 0, self._threads, self._instructions
            )
        return _Made(shape, network, watch, writes)


class _Part(NamedTuple):
    features: Tensor
    """float32 (B, F)."""
    logits: Tensor
    """float32 (B, K)."""
    rows: Tensor
    """Which images of the dataset these are, int64 (B,)."""


@dataclass
class _Made:
    """What was made of a network as it was."""

    input_shape: tuple[int, ...]
    network: Network | None
    """None: the engine does not compute it."""
    watch: Watch
    writes: int
    """As `Watch.writes` when it last took the weights."""


def can_gather(feed: Feed) -> bool:
    """Whether the engine can gather a feed's images itself: bytes in memory, in its own order."""
    return (
        feed.read_ahead is None
        and isinstance(feed.normalize, Normalizer)
        and feed.images.device.type == "cpu"
        and feed.images.is_contiguous()
    )


def _images_at_once(feed: Feed) -> int:
    """Whole blocks of 16."""
    blocks = min(_IMAGES_AT_ONCE, _PIXELS_AT_ONCE // feed.images[0].numel()) // 16
    return max(1, blocks) * 16
