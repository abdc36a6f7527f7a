"""Pictures of any mode as 8 bits of gray or RGB, without transparency."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

ValueRange = tuple[float, float]
"""The numbers that become black and white."""
LEVELS = {"white": 255, "black": 0}
"""Of each background."""
_USUAL_INTEGERS: tuple[ValueRange, ...] = ((0.0, 255.0), (0.0, 65535.0))
_USUAL_FLOATS: tuple[ValueRange, ...] = ((0.0, 1.0), (-1.0, 1.0), *_USUAL_INTEGERS)
_OVERSHOOT = 0.05
_BAND_PIXELS = 1_000_000
"""Colours are converted so many pixels at a time, which bounds the memory for large pictures."""


def has_transparency(picture: Image.Image) -> bool:
    """Whether any of it is transparent; a colour that stands for transparent is taken to occur."""
    if picture.getbands()[-1] not in ("A", "a"):
        return bool(picture.has_transparency_data)
    lowest, _ = picture.getextrema()[-1]  # type: ignore[misc]  # a pair per band, with several
    return bool(lowest < 255)


def is_deep(picture: Image.Image) -> bool:
    """Whether it has numbers of more than 8 bits: 16-bit or wider integers, or floats."""
    return picture.mode.startswith(("I", "F"))


def flattened(
    picture: Image.Image, *, background: int, value_range: ValueRange | None = None
) -> Image.Image:
    """Any mode as gray (L) or RGB: transparency over `background`, deep pictures scaled.

    Args:
        value_range: the numbers that become black and white; by default the `usual_range` of the
            picture's own.
    """
    if is_deep(picture):
        return _scaled_to_8_bits(picture, background, value_range)
    if picture.mode == "P" or picture.has_transparency_data:
        return _by_bands(picture, "RGB", lambda band: _laid_over(band, background))
    if picture.mode in ("L", "RGB"):
        return picture
    return picture.convert(Image.getmodebase(picture.mode))


def extremes(picture: Image.Image) -> ValueRange | None:
    """The lowest and the highest number of a deep picture; None where none is finite."""
    found = []
    for band in _bands(picture):
        values = _numbers(picture.crop(band))
        found.append(values[np.isfinite(values)])
    lows, highs = [v.min() for v in found if v.size], [v.max() for v in found if v.size]
    return (float(min(lows)), float(max(highs))) if lows else None


def not_finite(picture: Image.Image) -> int:
    """How many of its numbers are none, or infinite: they become black or white."""
    return sum(int((~np.isfinite(_numbers(picture.crop(band)))).sum()) for band in _bands(picture))


def usual_range(mode: str, found: ValueRange) -> ValueRange:
    """The range that numbers of this mode are likely to be meant in, from those that were found.

    The first usual one that holds them (floats may exceed it a little, as after resizing), or else
    their own, with 0 in it. 16-bit integers always mean 0 to 65,535.
    """
    if mode.startswith("I;16"):
        return _USUAL_INTEGERS[-1]
    bottom, top = found
    floats = mode.startswith("F")
    for low, high in _USUAL_FLOATS if floats else _USUAL_INTEGERS:
        more = _OVERSHOOT * (high - low) if floats and high <= 255 else 0.0
        if low - more <= bottom and top <= high + more:
            return low, high
    return min(bottom, 0.0), max(top, 0.0)


def _by_bands(
    picture: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """What `convert` makes of every pixel, a band of rows at a time."""
    whole = Image.new(mode, picture.size)
    for band in _bands(picture):
        whole.paste(convert(picture.crop(band)), band)
    return whole


def _bands(picture: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    rows = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        yield 0, top, picture.width, min(top + rows, picture.height)


def _laid_over(picture: Image.Image, background: int) -> Image.Image:
    layered = picture.convert("LA" if picture.mode == "La" else "RGBA").convert("RGBA")
    canvas = Image.new("RGBA", picture.size, (background, background, background, 255))
    return Image.alpha_composite(canvas, layered).convert("RGB")


def _scaled_to_8_bits(
    picture: Image.Image, background: int, value_range: ValueRange | None
) -> Image.Image:
    """Gray of what is deeper than 8 bits; what is no number is black."""
    low, high = value_range or usual_range(picture.mode, extremes(picture) or (0.0, 0.0))

    def convert(band: Image.Image) -> Image.Image:
        values = _numbers(band)
        scaled = (np.nan_to_num(values, posinf=high, neginf=low, nan=low) - low) / (high - low)
        scaled[values == picture.info.get("transparency")] = background / 255
        return Image.fromarray((scaled * 255).round().clip(0, 255).astype(np.uint8))

    return _by_bands(picture, "L", convert)


def _numbers(picture: Image.Image) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # a NaN may be of the signaling kind
        return np.asarray(picture, dtype=np.float64)
