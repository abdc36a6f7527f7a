"""Features of images by fixed rules: oriented gradients and colours, nothing learnt.

On a few thousand pictures a linear model on these is a baseline that small networks often do not
beat. Histograms of oriented gradients are those of Dalal and Triggs (2005): cells of 8 x 8 pixels,
nine directions without sign, blocks of 2 x 2 cells, normalized. Where a pixel has several channels,
the one with the largest gradient counts.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Float32Array, UInt8Array
from ..data.pictures.preprocess import Preprocess

SIDE = 48
"""Pixels of the longer side at which images are described; smaller ones are not enlarged."""
_CELL, _DIRECTIONS = 8, 9
_COLOUR_CELLS, _LEVELS = 2, 8
_AT_A_TIME = 500


def handcrafted(images: UInt8Array, side: int = SIDE) -> Float32Array:
    """Gradients and colours of images uint8 (N, C, H, W): float32 (N, D), each about 0 to 1."""
    return np.concatenate(
        [
            _described(smaller(images[start : start + _AT_A_TIME], side))
            for start in range(0, len(images), _AT_A_TIME)
        ]
    )


def smaller(images: UInt8Array, side: int) -> UInt8Array:
    """The images with no side above `side` pixels."""
    channels, height, width = images.shape[1:]
    shrink = side / max(height, width)
    if shrink >= 1:
        return images
    geometry = Preprocess(
        channels=channels,
        height=max(1, round(height * shrink)),
        width=max(1, round(width * shrink)),
        resize="stretch",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    return geometry.images(images)


def _described(images: UInt8Array) -> Float32Array:
    return np.concatenate([_gradients(images), _colours(images)], axis=1)


def _gradients(images: UInt8Array) -> Float32Array:
    """Histograms of oriented gradients, float32 (N, blocks * 36)."""
    values = images.astype(np.float32) / 255
    down, right = np.gradient(values, axis=(2, 3))
    strongest = np.hypot(down, right).argmax(axis=1)[:, None]
    down, right = (np.take_along_axis(one, strongest, 1)[:, 0] for one in (down, right))
    size = np.hypot(down, right)
    place = (np.arctan2(down, right) % np.pi) * (_DIRECTIONS / np.pi)
    low = np.floor(place).astype(int)
    share = place - low
    cell = _cell_size(images.shape[2:])
    cells = []
    for direction in range(_DIRECTIONS):
        weight = np.where(low % _DIRECTIONS == direction, 1 - share, 0)
        weight += np.where((low + 1) % _DIRECTIONS == direction, share, 0)
        cells.append(_sums(size * weight, cell))
    histograms = np.stack(cells, axis=3)
    windows = (min(2, histograms.shape[1]), min(2, histograms.shape[2]))
    blocks = np.lib.stride_tricks.sliding_window_view(histograms, windows, (1, 2))
    flat = blocks.reshape(*blocks.shape[:3], -1)
    flat = flat / (np.linalg.norm(flat, axis=3, keepdims=True) + 0.1)
    described: Float32Array = flat.reshape(len(images), -1).astype(np.float32)
    return described


def _cell_size(shape: tuple[int, ...]) -> int:
    """Eight pixels; less for images that would have fewer than four cells on a side."""
    return max(1, min(_CELL, min(shape) // 4))


def _sums(values: Float32Array, cell: int) -> Float32Array:
    """Sums over cells of (N, H, W); what is left at the edges is not counted."""
    count, height, width = values.shape
    rows, columns = height // cell, width // cell
    whole = values[:, : rows * cell, : columns * cell]
    sums: Float32Array = whole.reshape(count, rows, cell, columns, cell).sum(axis=(2, 4))
    return sums


def _colours(images: UInt8Array) -> Float32Array:
    """Roots of the shares of eight levels of each channel in each quarter, float32 (N, C * 32)."""
    found = []
    for rows in np.array_split(np.arange(images.shape[2]), _COLOUR_CELLS):
        for columns in np.array_split(np.arange(images.shape[3]), _COLOUR_CELLS):
            part = images[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] >> 5
            found += [(part == level).mean(axis=(2, 3)) for level in range(_LEVELS)]
    shares: Float32Array = np.concatenate(found, axis=1).astype(np.float32)
    return np.sqrt(shares)
