"""Pillow's resampling with nothing left to its version: which axis comes first decides last bits.

Up to version 12 Pillow resamples along the rows first; from 13 on along the columns where that is
less work. Values are rounded to bytes in between, so the same picture would come out differently by
a level or two. Here the order is that of Pillow 13, with every version.
"""

from __future__ import annotations

from PIL import Image

Box = tuple[float, float, float, float]
"""left, top, right, bottom; of pixels, in fractions too."""


def resampled(
    picture: Image.Image,
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    box: Box | None = None,
) -> Image.Image:
    """The picture, or the part of it in `box`, at another (width, height)."""
    width, height = size
    wide, tall = picture.size
    left, top, right, bottom = box or (0, 0, wide, tall)
    if tall - height > max(0, 2 * (wide - width)):
        low = picture.resize((wide, height), resample, (0, top, wide, bottom))
        return low.resize(size, resample, (left, 0, right, height))
    narrow = picture.resize((width, tall), resample, (left, 0, right, tall))
    return narrow.resize(size, resample, (0, top, width, bottom))


def crop_box(picture: Image.Image, size: tuple[int, int]) -> Box:
    """The largest part in the middle that has the shape of `size`, as `ImageOps.fit` takes it."""
    wide, tall = picture.size
    ratio, wanted = wide / tall, size[0] / size[1]
    across = wanted * tall if ratio > wanted else wide
    down = wide / wanted if ratio < wanted else tall
    left, top = (wide - across) * 0.5, (tall - down) * 0.5
    return left, top, left + across, top + down
