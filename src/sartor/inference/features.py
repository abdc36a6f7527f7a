"""Features: what a frozen backbone makes of images, computed once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import AnyArray, Float32Array, Int64Array, UInt8Array
from ..events import Preparing
from ..home import Note, cache_home
from ..machine import available_cores
from ..models.weights import weights_sha256
from .feature_store import FeatureStore
from .forward import precision

VERSION = 1
"""Changes when the same image and the same weights would give other features."""
BLOCK = 32
"""Images of a forward pass, always: libraries choose other kernels for other numbers, and an
image's features must not depend on which others were computed with it."""


@runtime_checkable
class Backbone(Protocol):
    """A network whose last layer is a linear one on pooled features."""

    head: nn.Linear

    def features(self, images: Tensor) -> Tensor:
        """Normalised images float (B, C, H, W) -> features (B, F)."""


def backbone_in(network: nn.Module) -> Backbone | None:
    """The network, where it has features and a linear head on them."""
    head = getattr(network, "head", None)
    known = isinstance(head, nn.Linear) and callable(getattr(network, "features", None))
    return network if known and isinstance(network, Backbone) else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Features:
    """The features of a dataset's images by one backbone, as far as they are computed."""

    network: nn.Module
    """A `Backbone` on its device, in its layout, with the weights that count."""
    name: str
    """What the backbone is called."""
    images: Tensor
    """uint8 (N, C, H, W), at the size of the network's input, on its device."""
    floats: Callable[[Tensor], Tensor]
    """Images uint8 (B, C, H, W) as the network takes them."""
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    """Mean and standard deviation of each channel, as `floats` uses them."""
    device: str
    amp_dtype: str
    pixels_sha256: UInt8Array
    """uint8 (N, 32): see `hashes_of`."""
    mirrored: bool = False
    """Of the mirrored images: another array in the cache."""
    store: FeatureStore = field(init=False)

    def __post_init__(self) -> None:
        backbone = backbone_in(self.network)
        assert backbone is not None, "who asks for features has a backbone"
        folder = cache_home() / "features" / self._folder_name()
        object.__setattr__(
            self, "store", FeatureStore(folder=folder, width=backbone.head.in_features)
        )
        self.store.open()

    def missing(self) -> Int64Array:
        """Images whose features are not known yet, int64 (M,); of equal ones the first."""
        unknown = np.flatnonzero(self.store.rows_of(self.pixels_sha256) < 0)
        _, first = np.unique(self.pixels_sha256[unknown], axis=0, return_index=True)
        return unknown[np.sort(first)]

    def of(self, indices: Int64Array) -> Float32Array:
        """Features float32 (M, F) of the images with these indices; all of them are known."""
        rows = self.store.rows_of(self.pixels_sha256[indices])
        assert (rows >= 0).all(), "computed before they are asked for"
        return self.store.features(rows)

    def computed(self, note: Note) -> Iterator[Preparing]:
        """Compute what is missing, block by block, and say how far it is.

        Raises:
            FileError: the cache cannot be written.
        """
        if not len(self.missing()):
            return
        with self.store.filling(note):
            missing = self.missing()  # another process may have come first
            began = time.perf_counter()
            for start in range(0, len(missing), BLOCK):
                block = missing[start : start + BLOCK]
                self.store.append(self.pixels_sha256[block], self._features_of(block))
                done, seconds = start + len(block), time.perf_counter() - began
                yield Preparing(
                    activity="features",
                    done=done,
                    total=len(missing),
                    pictures_per_second=done / max(seconds, 1e-9),
                    seconds_left=seconds / done * (len(missing) - done),
                )

    def _features_of(self, indices: Int64Array) -> Float32Array:
        padded = np.concatenate([indices, np.repeat(indices[-1:], BLOCK - len(indices))])
        images = self.images[torch.from_numpy(padded).to(self.images.device)]
        backbone = backbone_in(self.network)
        assert backbone is not None
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode(), precision(self.device, self.amp_dtype):
                batch = self.floats(images.flip(3) if self.mirrored else images)
                found = backbone.features(batch).float().cpu().numpy()
        finally:
            self.network.train(was_training)
        return np.asarray(found[: len(indices)], np.float32)

    def _folder_name(self) -> str:
        """Other weights or another normalisation are another array; pixels say the rest."""
        frozen = {
            name: tensor
            for name, tensor in self.network.state_dict().items()
            if not name.startswith("head.")
        }
        facts = [VERSION, BLOCK, weights_sha256(frozen), self.normalization, self.amp_dtype]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        name = re.sub(r"[^A-Za-z0-9_.]+", "_", self.name)[:60].lstrip(".") or "backbone"
        return f"{name}-{key}{'-mirrored' if self.mirrored else ''}"


def hashes_of(images: AnyArray) -> UInt8Array:
    """SHA-256 of each image's bytes, uint8 (N, 32), of images uint8 (N, C, H, W)."""

    def one(image: AnyArray) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(image).data).digest()

    with ThreadPoolExecutor(available_cores()) as pool:
        digests = b"".join(pool.map(one, images))
    return np.frombuffer(digests, np.uint8).reshape(len(images), 32)
