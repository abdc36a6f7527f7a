"""PNGs that are written here hold the pixels that went in, for whoever reads them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sartor.data.pictures.decode import decode_picture
from sartor.data.pictures.png import png_of


@given(
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 1000),
    flat=st.booleans(),
)
def test_no_pixel_is_lost(channels: int, size: tuple[int, int], seed: int, flat: bool) -> None:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (channels, *size), np.uint8)
    if flat:
        image[:] = image[:, :1, :1]
    with Image.open(io.BytesIO(png_of(image))) as picture:
        picture.verify()
    read = np.asarray(decode_picture(png_of(image), "made here"))
    expected = image[0] if channels == 1 else image.transpose(1, 2, 0)
    assert np.array_equal(read, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_plain_picture_is_small(channels: int) -> None:
    assert len(png_of(np.full((channels, 64, 64), 7, np.uint8))) < 300
