"""Which numbers become black and white in pictures of more than 8 bits: measured over a set.

The brightness of one picture must not decide how another looks, nor its own: where each was scaled
to its own range, dark and bright pictures would be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import TypeVar

from PIL import Image

from ...errors import PictureError
from ..listing import Listing
from .background import evenly
from .decode import opened, quiet_decoding, upright
from .flattening import ValueRange, extremes, is_deep, not_finite, usual_range

Answer = TypeVar("Answer")

_ASKED_FIRST, _ASKED = 64, 512
"""So many pictures are looked at, evenly spaced; the rest only where the first hold deep ones."""


def value_range_of(listing: Listing, excluded: Container[int] = ()) -> ValueRange | None:
    """The usual range that holds the numbers of a sample of wide integers or floats, or their own.

    None where there are none, or several kinds: then each picture's kind decides. Pictures that the
    source sets aside for testing are not asked.
    """
    aside = set() if listing.test is None else set(listing.test.tolist())
    asked = [i for i in range(len(listing)) if i not in aside and i not in excluded]
    if not _measured(listing, evenly(asked, _ASKED_FIRST)):
        return None
    found = _measured(listing, evenly(asked, _ASKED))
    modes = {mode for mode, _ in found}
    mode = modes.pop()
    if modes or mode.startswith("I;16"):
        return None
    ranges = [each for _, each in found]
    return usual_range(mode, (min(low for low, _ in ranges), max(high for _, high in ranges)))


def numbers_of(listing: Listing, index: int) -> tuple[str, ValueRange] | None:
    """Mode and extremes of a deep picture; None for all others, and where it cannot be read."""
    return _of_deep(listing, index, _numbers)


def not_finite_in(listing: Listing, index: int) -> int | None:
    """How many numbers of a deep picture are not finite; None as for `numbers_of`."""
    return _of_deep(listing, index, not_finite)


def _of_deep(
    listing: Listing, index: int, told: Callable[[Image.Image], Answer | None]
) -> Answer | None:
    try:
        content = listing.pictures.read(index)
        with opened(content, listing.pictures.names[index]) as picture:
            if not is_deep(picture):
                return None
            return told(upright(picture, content))
    except PictureError:
        return None


def _numbers(picture: Image.Image) -> tuple[str, ValueRange] | None:
    found = extremes(picture)
    return (picture.mode, found) if found else None


def _measured(listing: Listing, indices: Iterable[int]) -> list[tuple[str, ValueRange]]:
    with quiet_decoding():
        found = [numbers_of(listing, index) for index in indices]
    return [one for one in found if one is not None]
