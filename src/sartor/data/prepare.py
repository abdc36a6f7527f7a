"""From a listing to a dataset: every picture decoded and brought to one size."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from .dataset import Dataset
from .listing import Listing
from .preprocess import Preprocess, decode_picture
from .settings import PreprocessSettings

DEFAULT_SIZE = 64
"""Height and width in pixels where nothing is said and the pictures differ in size."""


def prepare(listing: Listing, settings: PreprocessSettings) -> Dataset:
    """Decode every picture, at the size and with the channels that the settings say.

    Raises:
        PictureError: one cannot be read; the sentence names it.
    """
    geometry = Preprocess.from_settings(_complete(listing, settings))
    images = np.empty((len(listing), *geometry.input_shape), np.uint8)
    for index, name in enumerate(listing.pictures.names):
        images[index] = geometry.picture(decode_picture(listing.pictures.read(index), name))
    return Dataset(
        images,
        listing.labels,
        listing.classes,
        test=listing.test,
        val=listing.val,
        groups=listing.groups,
        files=listing.pictures.names,
        name=listing.name,
    )


def _complete(listing: Listing, settings: PreprocessSettings) -> PreprocessSettings:
    """The settings with size and channels filled in, from the pictures' headers."""
    size, channels = settings.image_size, settings.channels
    sizes, modes = set(), set()
    for index in range(len(listing)):
        with Image.open(io.BytesIO(listing.pictures.read(index))) as picture:
            sizes.add((picture.height, picture.width))
            modes.add(picture.mode)
    if not size:
        size = sizes.pop() if len(sizes) == 1 else (DEFAULT_SIZE, DEFAULT_SIZE)
    size = size if len(size) == 2 else (*size, *size)
    gray = all(mode[0] in "1LIF" for mode in modes)
    return replace(settings, image_size=size, channels=channels or (1 if gray else 3))
