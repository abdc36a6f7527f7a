"""Why prepared images are equal whose files are not: what is hidden of them, and the way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from ...errors import PictureError
from ..listing import Listing
from ..settings import PreprocessSettings
from .decode import quiet_decoding
from .preprocess import Preprocess
from .value_range import numbers_of

_COMPARED = 8
_MEASURED = 64
"""Pictures whose numbers are looked at; each is read once."""
_LARGER = (256, 512)
"""Pixels a side at which pictures are compared that are equal at their prepared size."""


class Hidden(NamedTuple):
    """What tells pictures apart that look the same once they are prepared."""

    what: str
    """Follows "they differ only in"."""
    remedy: str
    """The setting that shows it."""


def what_is_hidden(
    listing: Listing, settings: PreprocessSettings, indices: Sequence[int]
) -> Hidden | None:
    """What the preparation with these settings hides of some pictures that are equal after it.

    Every other way to prepare them is tried on some, from the first to the last. None where none
    tells them apart: they are copies.
    """
    some = _spread_out(indices, _COMPARED)
    measured = _spread_out(indices, _MEASURED)
    with quiet_decoding():
        for hidden, otherwise in _other_ways(listing, settings, measured):
            if _distinct(listing, Preprocess.from_settings(otherwise), some):
                return hidden
    return None


def _spread_out(indices: Sequence[int], most: int) -> list[int]:
    """So many of them at most, at equal distances: classes stand one after the other."""
    last, count = len(indices) - 1, min(len(indices), most)
    return [indices[round(last * at / max(count - 1, 1))] for at in range(count)]


def _other_ways(
    listing: Listing, settings: PreprocessSettings, indices: list[int]
) -> Iterator[tuple[Hidden, PreprocessSettings]]:
    other = "black" if settings.background == "white" else "white"
    yield (
        Hidden(f"transparent areas, which {settings.background} hides", f"--background {other}"),
        replace(settings, background=other),
    )
    found = [numbers for index in indices if (numbers := numbers_of(listing, index))]
    if found:
        low, high = min(low for _, (low, _) in found), max(high for _, (_, high) in found)
        if low < high:
            yield (
                Hidden(
                    f"numbers from {low:g} to {high:g}, too narrow a range for 256 shades",
                    f"--value-range {low:g},{high:g}",
                ),
                replace(settings, value_range=(low, high)),
            )
    for side in _LARGER:
        if side > max(settings.image_size):
            yield (
                Hidden(
                    f"details that are lost at {max(settings.image_size)} pixels",
                    f"--image-size {side}",
                ),
                replace(settings, image_size=(side, side)),
            )


def _distinct(listing: Listing, geometry: Preprocess, indices: list[int]) -> bool:
    seen = set()
    for index in indices:
        try:
            name = listing.pictures.names[index]
            seen.add(geometry.seen(listing.pictures.read(index), name).pixels.tobytes())
        except PictureError:
            continue
    return len(seen) > 1
