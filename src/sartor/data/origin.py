"""Which pictures a dataset was made of: plain data, so that they can be prepared again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..arrays import UInt8Array
from .listing import Listing
from .roster import Changes
from .settings import PreprocessSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class Origin:
    """The pictures of a dataset, and how they were resized: resizing twice changes pixels."""

    listing: Listing
    settings: PreprocessSettings
    """With what was left open filled in."""
    excluded: Mapping[int, str]
    """Why a picture was left out, by its index in the listing."""
    file_sha256: UInt8Array | None = None
    """uint8 (N, 32): the content of the file of each image of the dataset."""
    pixels_sha256: UInt8Array | None = None
    """uint8 (N, 32): the bytes of each image of the dataset."""
    fixes: Changes = field(default_factory=Changes)
    """What fixes say, by the index in the listing."""

    def filled_in(self, settings: PreprocessSettings) -> PreprocessSettings:
        """The geometry of `settings`, and that of the dataset for what they leave open."""
        size = settings.image_size or self.settings.image_size
        behind = settings.background
        return geometry_of(
            replace(
                settings,
                image_size=(size[0], size[-1]),
                channels=settings.channels or self.settings.channels,
                background=self.settings.background if behind == "auto" else behind,
                ink=self.settings.ink if settings.ink == "auto" else settings.ink,
                value_range=settings.value_range or self.settings.value_range,
            )
        )


def geometry_of(settings: PreprocessSettings) -> PreprocessSettings:
    """Without mean and standard deviation, which change no pixel."""
    return replace(settings, mean=(), std=())
