"""From a listing to a dataset: every picture decoded once and brought to one size."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ..errors import DataError, PictureError
from ..events import Event
from .dataset import Dataset, UInt8Array
from .facts import ROW, PictureFacts
from .listing import Listing
from .preprocess import Preprocess, decode_picture
from .settings import PreprocessSettings

DEFAULT_SIZE = 64
"""Height and width in pixels where nothing is said and the pictures differ in size."""
Sink = Callable[[Event], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """Every picture of a listing as bytes of one size, and what was seen of it.

    A picture that cannot be read has its row all the same, so that indices are those of the
    listing; what stands in it means nothing, and `facts.faults` says why. A dataset leaves it out.
    """

    listing: Listing
    geometry: Preprocess
    """Size, channels and way of resizing of the images."""
    images: UInt8Array
    """uint8 (N, C, H, W), a row for each picture of the listing; mapped from the cache."""
    facts: PictureFacts

    def dataset(self, excluded: Mapping[int, str] | None = None) -> Dataset:
        """The pictures that are not excluded.

        Args:
            excluded: reasons by the index of the picture in the listing.

        Raises:
            DataError: one that is not excluded cannot be read; the sentence names them.
        """
        listing, left_out = self.listing, dict(excluded or {})
        unread = [index for index in sorted(self.facts.faults) if index not in left_out]
        if unread:
            raise DataError(self.facts.faults[unread[0]], "Leave it out.")
        assert not left_out, "not made yet"
        return Dataset(
            self.images,
            listing.labels,
            listing.classes,
            test=listing.test,
            val=listing.val,
            groups=listing.groups,
            files=listing.pictures.names,
            name=listing.name,
        )


def prepare(
    listing: Listing, settings: PreprocessSettings, *, on_event: Sink | None = None
) -> Dataset:
    """The dataset of all pictures, at the size and with the channels that the settings say.

    Raises:
        DataError: pictures cannot be read; the sentence names them.
    """
    return prepared(listing, settings, on_event=on_event).dataset()


def prepared(
    listing: Listing,
    settings: PreprocessSettings,
    *,
    on_event: Sink | None = None,  # noqa: ARG001
) -> Prepared:
    """Every picture at the size and with the channels that the settings say, and its facts.

    A picture that cannot be read stops nothing here.
    """
    geometry = Preprocess.from_settings(_complete(listing, settings))
    images = np.zeros((len(listing), *geometry.input_shape), np.uint8)
    rows, faults = np.zeros(len(listing), ROW), {}
    for index, name in enumerate(listing.pictures.names):
        try:
            content = listing.pictures.read(index)
            images[index] = geometry.picture(decode_picture(content, name))
        except PictureError as error:
            faults[index] = error.message
            continue
        row = rows[index]
        with Image.open(io.BytesIO(content)) as picture:
            row["format"], row["mode"] = picture.format, picture.mode
            row["width"], row["height"] = picture.size
            row["orientation"] = picture.getexif().get(0x0112, 1)
            row["frames"] = getattr(picture, "n_frames", 1)
        row["bits"], row["gray"] = 8, (images[index] == images[index][:1]).all()
        row["file_bytes"] = len(content)
        row["file_sha256"] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        row["pixels_sha256"] = np.frombuffer(hashlib.sha256(images[index]).digest(), np.uint8)
    facts = PictureFacts(rows=rows, faults=faults)
    return Prepared(listing=listing, geometry=geometry, images=images, facts=facts)


def _complete(listing: Listing, settings: PreprocessSettings) -> PreprocessSettings:
    """The settings with size and channels filled in, from the pictures' headers."""
    size, channels = settings.image_size, settings.channels
    sizes, modes = set(), set()
    for index in range(len(listing)):
        try:
            with Image.open(io.BytesIO(listing.pictures.read(index))) as picture:
                sizes.add((picture.height, picture.width))
                modes.add(picture.mode)
        except (PictureError, OSError):
            continue
    if not size:
        size = sizes.pop() if len(sizes) == 1 else (DEFAULT_SIZE, DEFAULT_SIZE)
    size = size if len(size) == 2 else (*size, *size)
    gray = all(mode[0] in "1LIF" for mode in modes)
    return replace(settings, image_size=size, channels=channels or (1 if gray else 3))
