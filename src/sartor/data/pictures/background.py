"""What lies behind transparent pictures where nothing is said: white, or black if it hides less.

A shape can be seen as far as its outline differs from what lies behind it. The outline is where the
alpha channel changes; its colour is that of the more opaque side. Labels are not looked at, and
neither are pictures that the source sets aside for testing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...arrays import Int64Array, UInt8Array
from ...errors import PictureError
from ..listing import Listing
from .decode import opened, quiet_decoding, upright
from .flattening import is_deep

_PICTURES_ASKED, _TRANSPARENT_ENOUGH, _OPAQUE_ENOUGH = 1024, 256, 64
"""So many pictures are looked at, evenly spaced; fewer where so many say something."""
_SIDE = 64
"""Pictures are measured at no more than so many pixels a side."""
_SEEN = 48
"""Levels of 255 from which a colour is told from what lies behind it, in one channel at least."""
_MARGIN = 0.05
"""Black is chosen where it hides less of the outlines than white does, by this share of them."""
_DARK, _MOST = 16, 0.9
"""Opaque images lie on black where this share of them has a border no lighter than this."""


class Background(NamedTuple):
    """What lies behind the pictures of a set."""

    colour: str
    """white or black."""
    transparent: int
    """Pictures with transparent areas among those that were looked at."""


def background_of(listing: Listing, excluded: Container[int] = ()) -> Background:
    """White, or black where less of the outlines is hidden on it; by a sample of the pictures.

    Where none is transparent, black if nearly all of them lie on black already.
    """
    aside = set() if listing.test is None else set(listing.test.tolist())
    asked = [i for i in range(len(listing)) if i not in aside and i not in excluded]
    hidden: list[tuple[float, float]] = []
    borders: list[int] = []
    with quiet_decoding():
        for index in evenly(asked, _PICTURES_ASKED):
            small = _small(listing, index, opaque_too=len(borders) < _OPAQUE_ENOUGH)
            if small is None:
                continue
            shares = hidden_shares(small)
            if shares:
                hidden.append(shares)
            else:
                borders.append(_border(np.asarray(small)[..., :3]))
            if len(hidden) == _TRANSPARENT_ENOUGH:
                break
    if not hidden:
        return Background(_behind(borders), 0)
    on_white, on_black = np.mean(hidden, axis=0)
    return Background("black" if on_white - on_black > _MARGIN else "white", len(hidden))


def background_of_images(images: UInt8Array, indices: Int64Array) -> str:
    """Black where nearly all of these images (N, C, H, W) have a black border, otherwise white."""
    asked = evenly(indices.tolist(), _OPAQUE_ENOUGH)
    return _behind([_border(images[index].transpose(1, 2, 0)) for index in asked])


def hidden_shares(picture: Image.Image) -> tuple[float, float] | None:
    """The shares of an RGBA picture's outline that cannot be seen on white and on black.

    None where there is no outline, since nothing or everything is transparent.
    """
    pixels = np.asarray(picture, dtype=np.float32)
    hidden, outline = np.zeros(2), 0.0
    for one, other in ((pixels[1:], pixels[:-1]), (pixels[:, 1:], pixels[:, :-1])):
        change = np.abs(one[..., 3] - other[..., 3])
        colour = np.where((one[..., 3] > other[..., 3])[..., None], one, other)[..., :3]
        unseen = 255 - colour.min(axis=-1) < _SEEN, colour.max(axis=-1) < _SEEN
        hidden += [float(change[where].sum()) for where in unseen]
        outline += float(change.sum())
    if not outline:
        return None
    on_white, on_black = (hidden / outline).tolist()
    return on_white, on_black


def _small(listing: Listing, index: int, *, opaque_too: bool) -> Image.Image | None:
    """The picture as RGBA, reduced; None where it cannot be read, or is not asked for."""
    try:
        content = listing.pictures.read(index)
        with opened(content, listing.pictures.names[index]) as picture:
            if is_deep(picture):
                return None
            if not (opaque_too or picture.has_transparency_data):
                return None
            whole = upright(picture, content, enough=lambda _width, _height: (_SIDE, _SIDE))
            # Premultiplied, so that colours of what is transparent do not leak into the rest.
            small = whole.convert("RGBA").convert("RGBa")
            small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
            return small.convert("RGBA")
    except PictureError:
        return None


def _border(image: UInt8Array) -> int:
    """The median of the outermost pixels of an image (H, W, C), each by its lightest channel."""
    light = image.max(axis=-1)
    ring = (light[0], light[-1], light[:, 0], light[:, -1])
    return int(np.median(np.concatenate(ring)))


def _behind(borders: Sequence[int]) -> str:
    dark = sum(border <= _DARK for border in borders)
    return "black" if borders and dark >= _MOST * len(borders) else "white"


def evenly(indices: Sequence[int], count: int) -> Iterable[int]:
    """At most `count` of them, evenly spaced."""
    step = max(1, -(-len(indices) // count))
    return indices[::step]
