"""What the settings leave open, from the pictures: size, channels, background, range of values."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace

from ...errors import PictureError
from ..listing import Listing
from ..settings import PreprocessSettings
from .background import background_of
from .decode import header_of, opened, quiet_decoding
from .value_range import value_range_of

DEFAULT_SIZE = (64, 64)
"""Height and width in pixels where the pictures differ in size, or are larger than `LARGEST`."""
LARGEST = 96
"""Pixels on the longer side up to which pictures of one size keep it."""
_GRAY = frozenset(("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"))


def complete(
    listing: Listing,
    settings: PreprocessSettings,
    *,
    excluded: Container[int] = (),
    looked_at: Callable[[int], None] = lambda _count: None,
) -> PreprocessSettings:
    """The settings with size, channels, background and range of values filled in.

    Where all pictures have one size of at most 96 pixels it is kept, otherwise it is 64x64; images
    are gray where every picture is. Looking ends as soon as both are clear. The background is that
    of `background_of`, the range that of `value_range_of`.
    """
    if settings.background == "auto":
        settings = replace(settings, background=background_of(listing, excluded).colour)
    if not settings.value_range:
        settings = replace(settings, value_range=value_range_of(listing, excluded) or ())
    size = settings.image_size
    if size and settings.channels:
        return replace(settings, image_size=_both(size))
    found: set[tuple[int, int]] = set()
    colour = False
    with quiet_decoding():
        for index in range(len(listing)):
            looked_at(index)
            if index in excluded:
                continue
            header = _header(listing, index)
            if header is None:
                continue
            found.add(header[0])
            colour = colour or header[1] not in _GRAY
            if (size or _fallen_back(found)) and (settings.channels or colour):
                break
    if not size:
        size = DEFAULT_SIZE if not found or _fallen_back(found) else found.pop()
    channels = settings.channels or (3 if colour else 1)
    return replace(settings, image_size=_both(size), channels=channels)


def _header(listing: Listing, index: int) -> tuple[tuple[int, int], str] | None:
    """(height, width) and mode of a picture; None where it cannot be read."""
    name = listing.pictures.names[index]
    try:
        content = listing.pictures.read(index)
        with opened(content, name) as picture:
            if max(picture.size) > LARGEST:
                # How it is turned matters no more.
                return picture.size, picture.mode
            width, height = header_of(picture, content).upright_size
            # The colours of a palette may all be gray.
            gray = picture.mode == "P" and _is_gray(picture.getpalette() or [])
            return (height, width), "L" if gray else picture.mode
    except PictureError:
        return None


def _is_gray(palette: list[int]) -> bool:
    return palette[::3] == palette[1::3] == palette[2::3]


def _fallen_back(sizes: set[tuple[int, int]]) -> bool:
    return len(sizes) > 1 or any(max(size) > LARGEST for size in sizes)


def _both(size: tuple[int, ...]) -> tuple[int, int]:
    return (size[0], size[-1])
