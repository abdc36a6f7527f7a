"""Ink on paper, prepared as sets of handwritten digits were: what was written, large and centred.

MNIST's pictures are light on dark; the ink's longer side takes 20 of 28 pixels, and its centre of
mass stands in the middle (LeCun et al., 1998). A network that has seen nothing else fails on a
small 7 in the corner of a white page. So pictures of one's own are made like those: what is paper
is found, what is ink is cut out, thin lines are drawn as broad as a pen's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from ...arrays import UInt8Array
from .resampling import resampled

MASS, BOX = "mass", "box"
WAYS = (MASS, BOX)
"""mass: as MNIST; box: the ink reaches from top to bottom and is stretched in width, as in the set
digits."""

Ink = npt.NDArray[np.float64]
"""(H, W) in 0..1: how much of a pixel is ink."""
_Mask = npt.NDArray[np.bool_]

_SHARE = 20 / 28
"""Of the picture's side that the longer side of the ink takes, where it is placed by its mass."""
_BOX_WIDTH = 0.7
"""Of the picture's width that the ink of a digit in its box takes."""
_WIDENED = 2.5
"""Narrow ink is stretched so many times at most: a 1 stays a 1."""
_WORKED_AT = 600
"""Pixels of the longer side at which ink is looked for; larger pictures are reduced."""
_PAPER_AT = 32
"""The light on the paper changes slowly: it is estimated at this size."""
_ONE_COLOUR = 4.0
_MOST_EDGES = 0.6
"""A page is of one colour where so much of its edges is within so many gray levels of it."""
_FAINTEST = 12.0
"""Gray levels between paper and ink below which there is no ink."""
_DARKEST = 0.999
"""A small digit on a large page covers a thousandth of it."""
_NOISE, _FULL = 0.25, 0.75
"""Of the usual ink's darkness: what is less is paper, what is more is ink altogether."""
_SPECK = 0.04
"""Parts of so little of the largest part's area are dust."""
_AT_THE_EDGE = 0.1
"""A part at the picture's edge is a shadow or the table, where another part has so much of it."""
_PEN = {MASS: (0.08, 0.115), BOX: (0.15, 0.16)}
"""Of the ink's longer side: a thinner line is drawn broader, up to the second."""
_MOST_INK = 0.75
"""Of a prepared picture's pixels; the others are black."""
_ITS_OWN = 1.5
"""Pixels by which the ink of a prepared picture may be larger or smaller, or off the middle."""


def ink_picture(picture: Image.Image, height: int, width: int, way: str) -> UInt8Array | None:
    """The ink of a gray or colour picture as uint8 (height, width), light on dark.

    A picture that is prepared already, which is of this size with its ink light, centred and of the
    right size, stays as it is. None where no ink is found.

    Args:
        picture: mode L or RGB.
        way: one of `WAYS`.
    """
    gray = picture.convert("L")
    if gray.size == (width, height) and _is_prepared(np.asarray(gray), way):
        return np.array(gray)
    found = _ink(picture)
    if found is None:
        return None
    return _placed(_broad(found, way), height, width, way)


def _is_prepared(image: UInt8Array, way: str) -> bool:
    """Whether an image has its ink light on black, of the size and at the place of the set's."""
    rows, columns = np.nonzero(image)
    if not len(rows) or len(rows) >= _MOST_INK * image.size:
        return False
    height, width = image.shape
    if way == BOX:
        return bool(np.ptp(rows) + 1 == height)
    longer = max(np.ptp(rows), np.ptp(columns)) + 1
    weights = image[rows, columns].astype(np.float64)
    centre = np.array([weights @ rows, weights @ columns]) / weights.sum()
    off = np.abs(centre - np.array([height, width]) / 2).max()
    return bool(abs(longer - _SHARE * min(height, width)) <= _ITS_OWN and off <= _ITS_OWN)


def _ink(picture: Image.Image) -> Ink | None:
    """The ink alone, cut out; None where there is none."""
    reduced = picture.copy()
    reduced.thumbnail((_WORKED_AT, _WORKED_AT), Image.Resampling.BICUBIC)
    difference = _difference_from_paper(reduced)
    if difference is None:
        return None
    usual = np.median(difference[difference > _otsu(difference)])
    ink = np.clip((difference / usual - _NOISE) / (_FULL - _NOISE), 0, 1)
    ink *= _without_dust(ink > 0, ink)
    rows, columns = np.nonzero(ink > 0)
    if not len(rows):
        return None
    return np.asarray(ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])


def _difference_from_paper(picture: Image.Image) -> Ink | None:
    """Gray levels by which each pixel is darker than the paper, or lighter where ink is light.

    In the channel in which ink and paper differ most: yellow chalk hardly differs in blue.
    """
    strongest, best = None, _FAINTEST
    for band in picture.split():
        values = np.asarray(band, dtype=np.float64)
        signed = ndimage.gaussian_filter(values, max(values.shape) / 500) - _paper(band)
        for one in (-signed, signed):
            # Ink goes further from the paper than the paper's own spots go the other way.
            strength = float(np.quantile(one, _DARKEST) - np.quantile(-one, _DARKEST))
            if strength > best:
                strongest, best = np.maximum(one, 0), strength
    return strongest


def _paper(band: Image.Image) -> Ink:
    """What each pixel would be without ink.

    The colour of the edges where they have one; on a photograph, where the light changes, the
    median of half a picture's width around the pixel.
    """
    values = np.asarray(band, np.float64)
    edges = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    middle = np.median(edges)
    if (np.abs(edges - middle) <= _ONE_COLOUR).mean() >= _MOST_EDGES:
        return np.full_like(values, middle)
    small = np.asarray(resampled(band, (_PAPER_AT, _PAPER_AT), Image.Resampling.BOX), np.float32)
    smooth = ndimage.median_filter(small, _PAPER_AT // 2 + 1, mode="nearest")
    return np.asarray(resampled(Image.fromarray(smooth), band.size), dtype=np.float64)


def _otsu(values: Ink) -> float:
    """The threshold between ink and the rest of smallest variance within the two (Otsu, 1979)."""
    counts, edges = np.histogram(values, bins=128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = sums / below - (sums[-1] - sums) / above
        between = below * above * apart**2
    return float(middles[int(np.nanargmax(between))])


def _without_dust(mask: _Mask, ink: Ink) -> _Mask:
    """The parts that were written: none of dust, nor of what reaches in from the edge."""
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if count <= 1:
        return mask
    numbers = np.arange(1, count + 1)
    areas = np.asarray(ndimage.sum_labels(ink, parts, numbers))
    frame = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    inside = ~np.isin(numbers, frame)
    if inside.any() and areas[inside].max() >= _AT_THE_EDGE * areas.max():
        areas[~inside] = 0
    return np.isin(parts, numbers[areas >= _SPECK * areas.max()])


def _broad(ink: Ink, way: str) -> Ink:
    """With lines as broad as a pen's, where they are thinner."""
    thinnest, wanted = (share * max(ink.shape) for share in _PEN[way])
    inside = ndimage.distance_transform_edt(np.pad(ink > 0.5, 1))
    ridge = (inside > 0) & (inside == ndimage.maximum_filter(inside, 3))
    if not ridge.any():
        return ink
    broad = 2 * float(inside[ridge].mean()) - 1
    if broad >= thinnest:
        return ink
    reach = (wanted - broad) / 2
    padded = np.pad(ink, int(np.ceil(reach)) + 1)
    outside = np.asarray(ndimage.distance_transform_edt(padded <= 0.5))
    return np.asarray(np.maximum(padded, np.clip(reach + 0.5 - outside, 0, 1)))


def _placed(ink: Ink, height: int, width: int, way: str) -> UInt8Array:
    """Resized and put where it belongs: its centre of mass, or of its box, in the middle."""
    tall, wide = _size(ink, height, width, way)
    whole = Image.fromarray((ink * 255).round().astype(np.uint8))
    shrinks = tall < ink.shape[0]
    filter_ = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    small = np.asarray(resampled(whole, (wide, tall), filter_))
    small = np.clip(small * (255 / max(1, small.max())), 0, 255).round().astype(np.uint8)
    canvas = np.zeros((height, width), np.uint8)
    if way == MASS:
        down, right = ndimage.center_of_mass(small)
        top, left = round(height / 2 - down), round(width / 2 - right)
    else:
        top, left = (height - tall) // 2, (width - wide) // 2
    top, left = min(max(0, top), height - tall), min(max(0, left), width - wide)
    canvas[top : top + tall, left : left + wide] = small
    return canvas


def _size(ink: Ink, height: int, width: int, way: str) -> tuple[int, int]:
    """(height, width) of the ink in the picture."""
    tall, wide = ink.shape
    if way == MASS:
        scale = _SHARE * min(height, width) / max(tall, wide)
        return max(1, round(tall * scale)), max(1, round(wide * scale))
    scale = height / tall
    return height, max(1, round(min(_BOX_WIDTH * width, _WIDENED * wide * scale)))
