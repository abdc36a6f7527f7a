"""What a pretrained backbone sees in the pictures of a set: features, computed when asked for.

They are those that `fit` trains a head on, from the same cache: who checks a set and trains on it
afterwards, or the other way round, has them computed once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import nn

from ...arrays import Float32Array, UInt8Array
from ...data.dataset import Dataset
from ...data.pictures.prepare import prepared_as
from ...data.pictures.preprocess import Preprocess
from ...device import choose_device
from ...events import Event, Note
from ...inference.features import Backbone as Network
from ...inference.features import Features, hashes_of
from ...models.backbones import PackagedBackbone, pretrained_weights
from ...models.registry import build_model

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True, eq=False, kw_only=True)
class BackboneFeatures:
    """The features of every image of a dataset."""

    backbone: PackagedBackbone
    dataset: Dataset
    on_event: Callable[[Event], None]
    """Told how far they are."""

    @property
    def name(self) -> str:
        """Of the backbone."""
        return self.backbone.name

    @property
    def side(self) -> int:
        """See `Seen`."""
        return self.backbone.image_size

    @cached_property
    def of_all(self) -> Float32Array:
        """float32 (N, F), of the images as they stand in the dataset.

        Raises:
            MissingExtraError: the weights are not on this machine. CorruptDataError: nor whole.
            DataError: a picture cannot be read any more. FileError: the cache cannot be written.
        """
        images, hashes = self._images()
        features = self._features(images, hashes)
        for event in features.computed(lambda text: self.on_event(Note(text))):
            self.on_event(event)
        return features.of(np.arange(len(images)))

    def _images(self) -> tuple[UInt8Array, UInt8Array]:
        """The images in colour at the backbone's size, uint8 (N, 3, H, W), and their hashes."""
        side, origin = self.side, self.dataset.origin
        if origin is None:
            images = _resized(self.dataset.images, side)
            return images, hashes_of(images)
        settings = replace(origin.settings, image_size=(side, side), channels=3)
        pictures = prepared_as(origin, settings, on_event=self.on_event)
        assert pictures.files == self.dataset.files, "the same pictures at another size"
        assert pictures.origin is not None, "made of pictures"
        hashes = pictures.origin.pixels_sha256
        return pictures.images, hashes_of(pictures.images) if hashes is None else hashes

    def _features(self, images: UInt8Array, hashes: UInt8Array) -> Features:
        backbone, device = self.backbone, choose_device("auto")
        layout = torch.channels_last
        network = network_of(backbone)
        network = network.to(device).to(memory_format=layout)  # type: ignore[call-overload]
        normalize = Preprocess(
            channels=3,
            height=backbone.image_size,
            width=backbone.image_size,
            resize="stretch",
            mean=backbone.mean,
            std=backbone.std,
        ).normalizer(device)
        return Features(
            network=network,
            name=backbone.name,
            images=_tensor(images).to(device),
            floats=lambda some: normalize(some).contiguous(memory_format=layout),
            normalization=(backbone.mean, backbone.std),
            device=device,
            amp_dtype="float32",
            pixels_sha256=hashes,
        )


def network_of(backbone: PackagedBackbone) -> nn.Module:
    """A backbone's network with its pretrained weights; it is a `features.Backbone`.

    Raises:
        MissingExtraError: the weights are not on this machine. CorruptDataError: nor whole.
    """
    network = build_model(
        backbone.name,
        input_shape=(3, backbone.image_size, backbone.image_size),
        num_classes=_IMAGENET_CLASSES,
        kwargs={"pretrained": False},
    )
    network.load_state_dict(pretrained_weights(backbone))
    assert isinstance(network, Network), "a backbone has features"
    return network


def _resized(images: UInt8Array, side: int) -> UInt8Array:
    """Images uint8 (N, C, H, W) in colour, with bars where they are not square."""
    blank = (0.0,) * 3
    geometry = Preprocess(
        channels=3, height=side, width=side, resize="letterbox", mean=blank, std=(1.0,) * 3
    )
    return geometry.images(images)


def _tensor(images: UInt8Array) -> torch.Tensor:
    """The same memory as a tensor; nothing writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)
