"""What a user may say about the data and its preparation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..settings import OneOf, Range

DUPLICATES = ("auto", "together", "ignored")
RESIZE_WAYS = ("letterbox", "crop", "stretch")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the images come from and how they are divided."""

    source: str = "digits"
    """A named set (digits, mnist, fashion-mnist, kmnist, emnist, cifar10, cifar100) or a folder
    of IDX files."""
    fingerprint: str = ""
    """SHA-256 of the dataset; filled in when a run is made, checked when it is resumed."""
    val_fraction: Annotated[float, Range(0, 0.9)] = 0.1
    """Share of the training images held out for validation where the source brings no such part,
    stratified, whole groups; 0 trains on all of them."""
    test_fraction: Annotated[float, Range(0, 0.9)] = 0.2
    """Share held out for testing where the source brings no test part of its own."""
    duplicates: Annotated[str, OneOf("way with duplicates", DUPLICATES)] = "auto"
    """Equal images: kept together on one side of the split, or ignored; auto: together where they
    come from picture files, ignored in named sets and arrays."""
    limit_per_class: Annotated[int | None, Range(1, 1_000_000_000)] = None
    """Train on at most so many images of each class, for quick trials; validation and test stay
    whole."""
    split_hash: str = ""
    """SHA-256 of the split; filled in when a run is made, checked when it is resumed."""


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """How a picture becomes the model's input; the same in training and ever after."""

    image_size: Annotated[tuple[int, ...], Range(1, 4096)] = ()
    """Height and width of the input in pixels, or one number for both; default: as in the data."""
    channels: Annotated[int | None, Range(1, 3)] = None
    """1 for gray, 3 for colour; default: as in the data."""
    resize: Annotated[str, OneOf("way to resize", RESIZE_WAYS)] = "letterbox"
    """Where sizes differ: letterbox (keep all, pad), crop (fill, cut the rest) or stretch."""
    mean: Annotated[tuple[float, ...], Range(-1_000, 1_000)] = ()
    """Subtracted from each channel (pixels in 0..1); default: measured on the training split."""
    std: Annotated[tuple[float, ...], Range(0, open_low=True)] = ()
    """Divides each channel after that; default: measured on the training split."""
