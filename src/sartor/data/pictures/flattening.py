"""Pictures of any mode as 8 bits of gray or RGB, without transparency."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

LEVELS = {"white": 255, "black": 0}
"""Of each background."""
_BAND_PIXELS = 1_000_000
"""Colours are converted so many pixels at a time, which bounds the memory for large pictures."""


def has_transparency(picture: Image.Image) -> bool:
    """Whether any of it is transparent; a colour that stands for transparent is taken to occur."""
    if picture.getbands()[-1] not in ("A", "a"):
        return bool(picture.has_transparency_data)
    lowest, _ = picture.getextrema()[-1]  # type: ignore[misc]  # a pair per band, with several
    return bool(lowest < 255)


def flattened(picture: Image.Image, *, background: int) -> Image.Image:
    """Any mode as gray (L) or RGB: transparency over `background`, 16 bits scaled, not cut."""
    if picture.mode.startswith(("I", "F")):
        return _scaled_to_8_bits(picture, background)
    if picture.mode == "P" or picture.has_transparency_data:
        return _by_bands(picture, "RGB", lambda band: _laid_over(band, background))
    if picture.mode in ("L", "RGB"):
        return picture
    return picture.convert(Image.getmodebase(picture.mode))


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


def _scaled_to_8_bits(picture: Image.Image, background: int) -> Image.Image:
    """Gray from 16-bit integers in 0..65535, wider integers, or floats in 0..1.

    Where wider integers (mode I) or floats exceed that, they are scaled from their own range;
    wider integers that stay below 256 are taken for bytes.
    """
    bottom, top = 0.0, 0.0
    for band in _bands(picture):
        values = _numbers(picture.crop(band))
        finite = values[np.isfinite(values)]
        bottom = min(bottom, float(finite.min(initial=0)))
        top = max(top, float(finite.max(initial=0)))
    if picture.mode.startswith("F"):
        low, high = bottom, max(top, 1.0)
    else:
        low, high = 0.0, 255.0 if picture.mode == "I" and top <= 255 else max(top, 65535.0)

    def convert(band: Image.Image) -> Image.Image:
        values = _numbers(band)
        scaled = (np.nan_to_num(values, posinf=high, neginf=low) - low) / (high - low) * 255
        scaled[values == picture.info.get("transparency")] = background
        return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))

    return _by_bands(picture, "L", convert)


def _numbers(picture: Image.Image) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # a NaN may be of the signaling kind
        return np.asarray(picture, dtype=np.float64)
