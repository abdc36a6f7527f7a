"""Images that belong to no class, made from some that do: what a novelty score is tried on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..arrays import Float64Array, Int64Array, UInt8Array
from ..randomness import keys

_STREAM = 14
_TILES = 4
"""Tiles per side."""
_BLOB_SIDE = 4
"""Points per side that a smooth image is drawn through."""


def noise_of(kind: str, images: UInt8Array, labels: Int64Array) -> UInt8Array:
    """Images of one of `KINDS`, uint8 (N, C, H, W), made of as many images of that shape.

    Always the same ones of the same images.
    """
    return KINDS[kind](images, labels)


def _uniform(images: UInt8Array, _labels: Int64Array) -> UInt8Array:
    return _bytes(images.size, 0).reshape(images.shape)


def _smooth(images: UInt8Array, _labels: Int64Array) -> UInt8Array:
    count, channels, height, width = images.shape
    points = _bytes(count * channels * _BLOB_SIDE**2, 1).reshape(count, channels, -1, _BLOB_SIDE)
    down, across = (_between(length) for length in (height, width))
    drawn = down @ points.astype(np.float64) @ across.T
    low, high = (f(drawn, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    scaled: UInt8Array = np.rint(255 * (drawn - low) / np.maximum(high - low, 1)).astype(np.uint8)
    return scaled


def _pixels(images: UInt8Array, _labels: Int64Array) -> UInt8Array:
    count, channels, height, width = images.shape
    order = np.argsort(keys(count * height * width, 0, _STREAM, 2).reshape(count, -1), axis=1)
    flat = images.reshape(count, channels, -1)
    return np.take_along_axis(flat, order[:, None], axis=2).reshape(images.shape)


def _tiles(images: UInt8Array, _labels: Int64Array) -> UInt8Array:
    """Tiles in another order; what is left over at the lower and right edge stays."""
    count, _, height, width = images.shape
    down, across = (max(1, length // min(_TILES, length)) for length in (height, width))
    rows, columns = height // down, width // across
    order = np.argsort(keys(count * rows * columns, 0, _STREAM, 3).reshape(count, -1), axis=1)
    result = images.copy()
    for place in range(rows * columns):
        top, left = place // columns * down, place % columns * across
        for number, source in enumerate(order[:, place].tolist()):
            other_top, other_left = source // columns * down, source % columns * across
            result[number, :, top : top + down, left : left + across] = images[
                number, :, other_top : other_top + down, other_left : other_left + across
            ]
    return result


def _blends(images: UInt8Array, labels: Int64Array) -> UInt8Array:
    """Each with one of another class in equal shares, where there is another class."""
    partners = np.arange(len(images))
    for place in range(len(images)):
        others = np.flatnonzero(labels != labels[place])
        if len(others):
            partners[place] = others[place % len(others)]
    mean = (images.astype(np.uint16) + images[partners]) // 2
    return mean.astype(np.uint8)


def _inverted(images: UInt8Array, _labels: Int64Array) -> UInt8Array:
    return 255 - images


KINDS: Mapping[str, Callable[[UInt8Array, Int64Array], UInt8Array]] = {
    "uniform noise": _uniform,
    "smooth noise": _smooth,
    "shuffled pixels": _pixels,
    "shuffled tiles": _tiles,
    "blends": _blends,
    "inverted": _inverted,
}
"""What each is called, and how it is made."""


def _bytes(count: int, stream: int) -> UInt8Array:
    return keys(-(-count // 8), 0, _STREAM, stream).view(np.uint8)[:count]


def _between(length: int) -> Float64Array:
    """Weights (length, points) of the linear interpolation between evenly spaced points."""
    places = np.linspace(0, _BLOB_SIDE - 1, length)
    weights: Float64Array = np.maximum(0.0, 1 - np.abs(places[:, None] - np.arange(_BLOB_SIDE)))
    return weights
