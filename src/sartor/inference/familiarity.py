"""Whether an image looks like those that a network was trained on, by a few plain figures.

A classifier answers whatever it is shown, often with confidence. What is brighter, flatter or
busier than anything in training, its answer says nothing about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..arrays import Float64Array, UInt8Array
from ..machine import available_cores

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value of each figure in training."""

MOST_IMAGES = 5_000
"""So many training images say what is usual."""
_PIXELS_AT_ONCE = 400_000
"""What fits into a processor's cache."""
_MOST_THREADS = 4
_MARGIN = 0.1
"""Of a range's width: so far beyond is still like it."""
_NEVER_LESS = 0.02
_LARGEST = 1e6
"""No figure is so large, but somebody's JSON may say anything."""


def ranges_of(images: UInt8Array) -> dict[str, tuple[float, float]]:
    """The range of each figure over training images uint8 (N, C, H, W)."""
    step = max(1, _PIXELS_AT_ONCE // max(images[:1, 0].size, 1))
    places = range(0, len(images), step)
    if not places:
        return {}
    with ThreadPoolExecutor(min(_MOST_THREADS, available_cores()), "sartor-figures") as threads:
        parts = list(threads.map(lambda start: _figures(images[start : start + step]), places))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: (float(column.min()), float(column.max())) for name, column in columns.items()}


def differences(images: UInt8Array, ranges: Ranges) -> list[list[str]]:
    """For each image uint8 (N, C, H, W), in what it lies outside the ranges of training."""
    figures = _figures(images)
    return [
        [sentence for name in figures for sentence in _outside(name, figures[name][row], ranges)]
        for row in range(len(images))
    ]


def readable(kept: Any) -> dict[str, tuple[float, float]]:
    """Ranges from JSON; what is none is left out."""
    if not isinstance(kept, Mapping):
        return {}
    return {
        name: (float(pair[0]), float(pair[1]))
        for name, pair in kept.items()
        if isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(value, int | float) and abs(value) < _LARGEST for value in pair)
    }


def _outside(name: str, value: float, ranges: Ranges) -> Iterator[str]:
    if name not in ranges:
        return
    low, high = ranges[name]
    margin = max(_NEVER_LESS, _MARGIN * (high - low))
    if not low - margin <= value <= high + margin:
        yield f"{name} {value:.2f}, in training {low:.2f} to {high:.2f}"


def _figures(images: UInt8Array) -> dict[str, Float64Array]:
    """Of each image, in 0..1."""
    # In whole numbers as long as they stay exact, for this looks at every pixel of training.
    gray = images.sum(1, dtype=np.uint16).astype(np.float32) / (255 * images.shape[1])
    edges = np.concatenate([gray[:, 0], gray[:, -1], gray[:, :, 0], gray[:, :, -1]], axis=1)
    steps = [np.abs(np.diff(gray, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    figures = {
        "brightness": gray.mean((1, 2)),
        "contrast": gray.std((1, 2)),
        "brightness at the edges": edges.mean(1),
        "detail": sum(np.nan_to_num(step) for step in steps) / 2,
    }
    if images.shape[1] == 3:
        figures["colour"] = (images.max(1) - images.min(1)).mean((1, 2)) / 255
    return {name: np.asarray(column, np.float64) for name, column in figures.items()}
