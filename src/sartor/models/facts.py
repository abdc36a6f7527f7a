"""What is known of a network with pretrained weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network with pretrained weights. None means that its source does not say."""

    name: str
    """That of the network, as `--model` takes it."""
    licence: str | None
    """Of the weights."""
    source: str
    """Who trained it, and on what."""
    image_size: int
    """Height and width in pixels that the weights are used at."""
    mean: tuple[float, ...]
    """Subtracted from each channel of pixels in 0..1."""
    std: tuple[float, ...]
    """Divides each channel after that."""
    resampling: str
    """Filter of resizing that the weights were trained with."""
    features: int | None = None
    """How many numbers the head is given for an image."""
    parameters: int | None = None
    """Without the head."""
    multiply_adds: int | None = None
    """For one image of `image_size`, without the head."""
    accuracy: float | None = None
    """Top-1 on ImageNet's validation images, in 0..1, as its authors state it."""
    file_bytes: int | None = None
    """Of the file of the weights."""
    extra: str = "pretrained"
    """The extra of sartor that it needs."""
