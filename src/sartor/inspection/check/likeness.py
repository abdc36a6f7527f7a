"""Whether two pictures that look alike are one picture: turned, in its colours, in its details.

The search for neighbours compares few gray values, which is fast and forgets much. What it
finds is compared again here. A picture has eight orientations: four turns, each mirrored or not.
Its colours are its chroma, the two components of RGB that are orthogonal to gray, in units of its
contrast, so that a brighter copy has the same. Its details are what remains of one picture after
the other, its contrast and brightness fitted, is subtracted: of a copy, little, and that evenly.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, Int64Array, UInt8Array
from .bars import Images

T = TypeVar("T", bound=np.generic)
Bools = npt.NDArray[np.bool_]

TURNS = (
    "",
    "mirrored",
    "mirrored top to bottom",
    "turned by 180 degrees",
    "turned by 90 degrees",
    "turned by 90 degrees",
    "mirrored and turned by 90 degrees",
    "mirrored and turned by 90 degrees",
)
"""The orientations of a picture, in words; the order of `turned`."""
MOST_COLOUR_DIFFERENCE = 0.3
"""Of the stronger chroma: orange and yellow differ by more, recompressed copies by less."""
_LEAST_CHROMA = 0.15
"""In units of contrast: a difference of less than `MOST_COLOUR_DIFFERENCE` of this is none."""
_MOST_CONTRAST_RATIO = 2.5
"""A picture with less of another's contrast is not its copy: a pale circle is not a black one."""
_MOST_FADED = 64.0
"""Gray levels that black may have become: faded further towards white, orange is yellow."""
_COLOUR_SIDE = 8
_DETAIL_SIDE, _CELLS = 64, 8
_SURE_LEVELS, _SURE_SHARE = 15.0, 0.3
_AT_A_TIME = 512


class Colours(NamedTuple):
    """Chroma and contrast of pictures."""

    chroma: Float32Array
    """float32 (N, 2, 8, 8), in units of the contrast; (N, 0, ...) of gray pictures."""
    contrast: Float32Array
    """Standard deviation of the gray levels; float32 (N,)."""
    brightness: Float32Array
    """Mean of the gray levels; float32 (N,)."""


def turned(images: npt.NDArray[T], turn: int) -> npt.NDArray[T]:
    """Images (..., H, W) in one of the eight orientations of `TURNS`."""
    if turn >= 4:
        images = images.swapaxes(-1, -2)
    flips = (
        (False, False),
        (False, True),
        (True, False),
        (True, True),
        (True, False),
        (False, True),
        (False, False),
        (True, True),
    )[turn]
    if flips[0]:
        images = images[..., ::-1, :]
    return images[..., ::-1] if flips[1] else images


def orientations_of(shape: tuple[int, ...]) -> range:
    """Which turns keep a picture (..., H, W) in its frame."""
    return range(8 if shape[-1] == shape[-2] else 4)


def same_in_any_orientation(vectors: Float32Array, shape: tuple[int, int]) -> Float32Array:
    """What is equal for a picture in all its orientations, and near for a near one; (N, D).

    Of the places that turning and mirroring exchange, the values in ascending order. Sorting
    brings no two vectors (N, height * width) further apart, so that no copy is lost.
    """
    grid = np.arange(shape[0] * shape[1]).reshape(shape)
    orbits = np.stack([turned(grid, turn).ravel() for turn in orientations_of(shape)], axis=1)
    orbits = np.unique(np.sort(orbits, axis=1), axis=0)
    # A place on a diagonal stands in its orbit more than once.
    sizes = (np.diff(orbits, axis=1) > 0).sum(axis=1) + 1
    weights = np.sqrt(sizes / orbits.shape[1]).astype(np.float32)
    found: Float32Array = np.sort(vectors[:, orbits], axis=2) * weights[:, None]
    return found.reshape(len(vectors), -1)


def colours_of(images: Images, among: Int64Array) -> Colours:
    """Chroma and contrast of some of the images uint8 (N, C, H, W)."""
    count, (channels, height, width) = len(among), images.shape[1:]
    components = 2 if channels == 3 else 0
    chroma = np.zeros((count, components, _COLOUR_SIDE, _COLOUR_SIDE), np.float32)
    contrast, brightness = np.zeros((2, count), np.float32)
    rows, columns = averaging(height, _COLOUR_SIDE), averaging(width, _COLOUR_SIDE)
    for start in range(0, count, _AT_A_TIME):
        some = images[among[start : start + _AT_A_TIME]].astype(np.float32)
        part = slice(start, start + len(some))
        gray = some.mean(axis=1)
        contrast[part], brightness[part] = gray.std(axis=(1, 2)), gray.mean(axis=(1, 2))
        if components:
            small = np.zeros((len(some), channels, _COLOUR_SIDE, _COLOUR_SIDE), np.float32)
            shape = small[:, :, : len(rows), : len(columns)].shape
            small[:, :, : len(rows), : len(columns)] = (rows @ (some @ columns.T)).reshape(shape)
            red, green, blue = small.transpose(1, 0, 2, 3)
            two = np.stack([(red - green) / 2**0.5, (red + green - 2 * blue) / 6**0.5], axis=1)
            chroma[part] = two / np.maximum(contrast[part], 1)[:, None, None, None]
    return Colours(chroma, contrast, brightness)


def alike_in_colour(
    colours: Colours, one: Int64Array, other: Int64Array, turn: Int64Array
) -> Bools:
    """Whether the pictures of each pair have one colour; rows of `colours`, bool (P,)."""
    alike = np.ones(len(one), bool)
    for start in range(0, len(one), _AT_A_TIME):
        rows = slice(start, start + _AT_A_TIME)
        alike[rows] = _alike_in_contrast(colours, one[rows], other[rows])
        if colours.chroma.shape[1]:
            left = _turned_each(colours.chroma[one[rows]], turn[rows])
            right = colours.chroma[other[rows]]
            strength = np.maximum(_length(left), _length(right))
            limit = MOST_COLOUR_DIFFERENCE * np.maximum(strength, _LEAST_CHROMA)
            alike[rows] &= _length(left - right) <= limit
    return alike


def _alike_in_contrast(colours: Colours, one: Int64Array, other: Int64Array) -> Bools:
    paler = colours.contrast[one] <= colours.contrast[other]
    pale, strong = np.where(paler, one, other), np.where(paler, other, one)
    gain = colours.contrast[pale] / np.maximum(colours.contrast[strong], 1e-6)
    offset = colours.brightness[pale] - gain * colours.brightness[strong]
    alike: Bools = (gain * _MOST_CONTRAST_RATIO >= 1) & (np.abs(offset) <= _MOST_FADED)
    return alike


def alike_in_detail(images: Images, one: Int64Array, other: Int64Array, turn: Int64Array) -> Bools:
    """Whether a pair is one picture for sure, by its details; bool (P,)."""
    sure = np.zeros(len(one), bool)
    for start in range(0, len(one), _AT_A_TIME):
        rows = slice(start, start + _AT_A_TIME)
        sure[rows] = rest_of(images, one[rows], other[rows], turn[rows]) <= 1
    return sure


def rest_of(images: Images, one: Int64Array, other: Int64Array, turn: Int64Array) -> Float32Array:
    """What distinguishes each pair where it differs most; up to 1, it is one picture; (P,)."""
    left = _turned_each(_details(images[one]), turn)
    right = _details(images[other])
    flat = [values.reshape(len(values), -1) for values in (left, right)]
    flat = [values - values.mean(axis=1, keepdims=True) for values in flat]
    std = [values.std(axis=1) for values in flat]
    product = (flat[0] * flat[1]).mean(axis=1)
    gain = product / np.maximum(std[0] ** 2, 1e-6)
    rest = (flat[1] - gain[:, None] * flat[0]).reshape(right.shape)
    height, width = rest.shape[-2:]
    squares = (rest**2).mean(axis=1)
    cells = averaging(height, _CELLS) @ (squares @ averaging(width, _CELLS).T)
    worst = np.sqrt(cells.reshape(len(cells), -1).max(axis=1))
    allowed = np.maximum(_SURE_LEVELS, _SURE_SHARE * std[1])
    found: Float32Array = (worst / allowed).astype(np.float32)
    return found


def averaging(length: int, side: int) -> Float32Array:
    """A matrix that averages `length` pixels over at most `side` equal stretches."""
    count = min(length, side)
    edges = np.arange(count + 1) * (length / count)
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights: Float32Array = (overlap.clip(min=0) * (count / length)).astype(np.float32)
    return weights


def _details(images: UInt8Array) -> Float32Array:
    """float32 (N, C, H, W) with at most 64 x 64 pixels."""
    height, width = images.shape[2:]
    values = images.astype(np.float32)
    if max(height, width) <= _DETAIL_SIDE:
        return values
    small: Float32Array = averaging(height, _DETAIL_SIDE) @ (
        values @ averaging(width, _DETAIL_SIDE).T
    )
    return small


def _turned_each(values: Float32Array, turn: Int64Array) -> Float32Array:
    """Each picture (N, C, H, W) in its own orientation."""
    result = values.copy()
    for one in np.unique(turn).tolist():
        result[turn == one] = turned(values[turn == one], one)
    return result


def _length(values: Float32Array) -> Float32Array:
    """Root of the mean square of chroma (N, 2, 8, 8) over its places."""
    length: Float32Array = np.sqrt((values**2).sum(axis=1).mean(axis=(1, 2)))
    return length
