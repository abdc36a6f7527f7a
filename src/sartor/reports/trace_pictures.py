"""Tensors as pictures: feature maps as tiles, vectors as strips, weights shaped like their input.

Blue is negative, white 0, red positive; each picture has its own scale, the same on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Float64Array, UInt8Array

# From ColorBrewer's RdBu (Harrower and Brewer, 2003), distinguishable with any colour blindness.
_NEGATIVE_TO_POSITIVE = (
    (5, 48, 97),
    (67, 147, 195),
    (209, 229, 240),
    (255, 255, 255),
    (253, 219, 199),
    (214, 96, 77),
    (103, 0, 31),
)
_SHADES = 129
"""An odd number, so that one of them is exactly 0; few, so that pictures are small files."""
_GAP, _BROKEN = (231, 229, 224), (255, 0, 255)
_FEW_CHANNELS = 4
_STRIP = 40
"""Numbers in a row of a vector's picture."""
_WIDE = 2.0
"""Width over height that a grid of tiles comes close to."""
_SHOWN_WIDTH, _SHOWN_HEIGHT, _LARGEST_SCALE = 336, 260, 24
"""Pixels of the page."""
MOST_PIXELS = 40_000
"""Of one picture; more numbers are drawn together or left out."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawing:
    """A tensor as a picture."""

    pixels: UInt8Array
    """(3, height, width), one pixel per number, and gaps between tiles."""
    limit: float
    """The number at the end of the scale, blue for -limit and red for limit."""
    what: str
    """What the picture shows, such as "6 maps of 24x24"."""

    @property
    def width(self) -> int:
        """In pixels of the page."""
        return int(self.pixels.shape[2]) * self._scale

    @property
    def height(self) -> int:
        """In pixels of the page."""
        return int(self.pixels.shape[1]) * self._scale

    @property
    def _scale(self) -> int:
        _, height, width = self.pixels.shape
        fitting = min(_SHOWN_WIDTH // width, _SHOWN_HEIGHT // height, _LARGEST_SCALE)
        return int(max(1, fitting))


def draw_output(values: Float64Array, most_pixels: int = MOST_PIXELS) -> Drawing:
    """What a layer gives for one image: (C, H, W), (T, D), (F,) or anything else."""
    if values.ndim == 3 and min(values.shape[1:]) > 1:
        return _tiles(values, most_pixels, "map")
    if values.ndim <= 1 or values.size == max(values.shape):
        return _strip(values.reshape(-1), most_pixels)
    return _matrix(values.reshape(values.shape[0], -1), most_pixels)


def draw_weight(
    values: Float64Array, image_shape: tuple[int, ...], most_pixels: int = MOST_PIXELS
) -> Drawing:
    """A parameter, or its gradient: filters as tiles, rows that look at an image as images."""
    if values.ndim == 4 and min(values.shape[2:]) > 1:
        return _kernels(values, most_pixels)
    if values.ndim == 2 and len(image_shape) == 3 and values.shape[1] == math.prod(image_shape):
        channels, height, width = image_shape
        rows = values.reshape(len(values) * channels, height, width)
        return _tiles(rows, most_pixels, "row")
    if values.ndim <= 1:
        return _strip(values.reshape(-1), most_pixels)
    return _matrix(values.reshape(len(values), -1), most_pixels)


# ------------------------------------------------------------------------------------ layouts


def _tiles(maps: Float64Array, most_pixels: int, noun: str) -> Drawing:
    count, height, width = maps.shape
    maps, note = _smaller(maps, min(most_pixels, 4096))
    tall, wide = maps.shape[1:]
    shown = max(1, min(count, most_pixels // ((tall + 1) * (wide + 1))))
    columns = _columns(shown, math.sqrt(shown * _WIDE * tall / wide))
    many = f"{_counted(shown, noun)} of {height}x{width}"
    what = many if shown == count else f"first {shown} of {count} {noun}s of {height}x{width}"
    return _drawing(_grid(maps[:shown], columns), what + note)


def _columns(count: int, wish: float) -> int:
    """Near to the wish, and leaving the last row as full as can be."""
    candidates = range(max(1, math.ceil(0.6 * wish)), max(1, math.floor(1.6 * wish)) + 1)
    fitting = [columns for columns in candidates if columns <= count] or [count]
    return min(fitting, key=lambda columns: (-count % columns, abs(columns - wish)))


def _kernels(weights: Float64Array, most_pixels: int) -> Drawing:
    """One column per filter, one row per input channel; filters of one channel as tiles."""
    filters, channels, height, width = weights.shape
    if channels == 1:
        return _tiles(weights[:, 0], most_pixels, "filter")
    most_tiles = most_pixels // ((width + 1) * (height + 1))
    # A few channels of many filters say more than all channels of one.
    columns = max(1, min(filters, 360 // (width + 1), most_tiles // min(channels, _FEW_CHANNELS)))
    rows = max(1, min(channels, most_tiles // columns))
    shown = weights[:columns, :rows].swapaxes(0, 1).reshape(-1, height, width)
    whole = columns == filters and rows == channels
    parts = "" if whole else f"; {columns} filters and {rows} channels are shown"
    what = f"{filters} filters (columns) of {height}x{width} for {channels} channels (rows){parts}"
    return _drawing(_grid(shown, columns), what)


def _strip(values: Float64Array, most_pixels: int) -> Drawing:
    shown = values[:most_pixels]
    rows = math.ceil(len(shown) / max(_STRIP, math.isqrt(len(shown))))
    columns = math.ceil(len(shown) / rows)
    cells = np.full(rows * columns, np.inf)
    cells[: len(shown)] = shown
    lines = "" if rows == 1 else f", in {rows} rows"
    first = "" if len(shown) == len(values) else f"the first {len(shown):,} of "
    what = f"{first}{_counted(len(values), 'number')}{lines}"
    return _drawing(cells.reshape(rows, columns), what)


def _matrix(values: Float64Array, most_pixels: int) -> Drawing:
    rows, columns = values.shape
    step = max(1, math.ceil(math.sqrt(values.size / most_pixels)))
    # The most conspicuous number of each block: a mean would be 0 nearly everywhere.
    note = "" if step == 1 else f"; each pixel is the largest of {step}x{step}"
    what = f"{rows:,} rows (outputs) of {columns:,} (inputs){note}"
    return _drawing(_peaks(values, step), what)


def _grid(tiles: Float64Array, columns: int) -> Float64Array:
    """Tiles in rows, with a gap of one pixel between them; gaps are infinite."""
    count, height, width = tiles.shape
    rows = math.ceil(count / columns)
    cells = np.full((rows * columns, height + 1, width + 1), np.inf)
    cells[:count, :height, :width] = tiles
    grid = cells.reshape(rows, columns, height + 1, width + 1).swapaxes(1, 2)
    return grid.reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1]


def _smaller(maps: Float64Array, most_pixels: int) -> tuple[Float64Array, str]:
    """Maps of at most so many pixels each, by the mean of blocks."""
    count, height, width = maps.shape
    step = math.ceil(math.sqrt(height * width / most_pixels))
    if step <= 1:
        return maps, ""
    tall, wide = max(1, height // step), max(1, width // step)
    blocks = maps[:, : tall * step, : wide * step].reshape(count, tall, step, wide, step)
    return blocks.mean(axis=(2, 4)), f"; each pixel is the mean of {step}x{step}"


def _peaks(values: Float64Array, step: int) -> Float64Array:
    if step == 1:
        return values
    rows, columns = (math.ceil(length / step) * step for length in values.shape)
    padded = np.zeros((rows, columns))
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(rows // step, step, columns // step, step).swapaxes(1, 2)
    flat = blocks.reshape(rows // step, columns // step, step * step)
    highest, lowest = flat.max(axis=2), flat.min(axis=2)
    peaks: Float64Array = np.where(highest >= -lowest, highest, lowest)
    return peaks


def _drawing(cells: Float64Array, what: str) -> Drawing:
    """Colours for numbers; infinities are gaps, NaN is magenta."""
    finite = np.abs(cells[np.isfinite(cells)])
    limit = float(finite.max(initial=0.0))
    share = np.nan_to_num(cells, nan=0, posinf=0, neginf=0) / (limit or 1.0)
    shade = np.rint((share + 1) / 2 * (_SHADES - 1)).astype(np.intp)
    pixels = _palette()[shade]
    pixels[np.isposinf(cells)] = _GAP
    pixels[np.isnan(cells) | np.isneginf(cells)] = _BROKEN
    return Drawing(pixels=np.ascontiguousarray(pixels.transpose(2, 0, 1)), limit=limit, what=what)


def _palette() -> UInt8Array:
    """(shades, 3), from the most negative to the most positive."""
    stops = np.linspace(0, 1, len(_NEGATIVE_TO_POSITIVE))
    places = np.linspace(0, 1, _SHADES)
    channels: Any = zip(*_NEGATIVE_TO_POSITIVE, strict=True)
    columns = [np.interp(places, stops, channel) for channel in channels]
    palette: UInt8Array = np.rint(np.stack(columns, axis=1)).astype(np.uint8)
    return palette


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("s" if count != 1 else "")
