"""What preprocess does can be undone, and done again changes nothing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from sartor.data.pictures.preprocess import Preprocess, as_picture

SIDE = st.integers(1, 12)


@st.composite
def preprocesses(draw: st.DrawFn) -> Preprocess:
    """Any of them."""
    channels = draw(st.sampled_from([1, 3]))

    def of_each(low: float, high: float) -> tuple[float, ...]:
        return tuple(draw(st.floats(low, high, width=32)) for _ in range(channels))

    return Preprocess(
        channels=channels,
        height=draw(SIDE),
        width=draw(SIDE),
        resize=draw(st.sampled_from(["letterbox", "crop", "stretch"])),
        mean=of_each(0, 1),
        std=of_each(0.0625, 2),
        background=draw(st.sampled_from(["white", "black"])),
        resampling=draw(st.sampled_from(["bicubic", "bilinear", "box"])),
    )


def images_for(preprocess: Preprocess, count: int = 3) -> st.SearchStrategy[Any]:
    """Images of the size that it makes."""
    return arrays.arrays(np.uint8, (count, *preprocess.input_shape))


@given(preprocesses())
def test_every_byte_comes_back_from_what_the_network_sees(preprocess: Preprocess) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1)
    pixels = pixels.expand(256, preprocess.channels, 1, 1)
    seen = preprocess.normalizer("cpu")(pixels)
    scale, shift = preprocess.scale_and_shift()
    assert torch.equal(((seen - shift) / scale).round().to(torch.uint8), pixels)
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (preprocess.mean, preprocess.std))
    assert torch.equal(((seen * std + mean) * 255).round().to(torch.uint8), pixels)
    assert (seen.diff(dim=0) > 0).all(), "what is brighter stays so"


@settings(max_examples=60)
@given(st.data())
def test_an_image_of_the_right_size_stays_as_it_is(data: st.DataObject) -> None:
    preprocess = data.draw(preprocesses())
    images = data.draw(images_for(preprocess))
    assert np.array_equal(preprocess.images(images), images)
    for image in images:
        assert np.array_equal(preprocess.picture(as_picture(image)), image)
        stream = io.BytesIO()
        as_picture(image).save(stream, "PNG")
        assert np.array_equal(preprocess.encoded(stream.getvalue(), "x"), image)


@settings(max_examples=60)
@given(preprocesses(), SIDE, SIDE, st.sampled_from(["L", "RGB", "RGBA", "P", "1"]), st.data())
def test_done_twice_it_is_done_once(
    preprocess: Preprocess, height: int, width: int, mode: str, data: st.DataObject
) -> None:
    values = data.draw(arrays.arrays(np.uint8, (height, width, 4)))
    picture = Image.fromarray(values, "RGBA").convert(mode)
    once = preprocess.picture(picture)
    assert once.shape == preprocess.input_shape
    assert once.dtype == np.uint8
    assert np.array_equal(preprocess.picture(as_picture(once)), once)
    inverted = preprocess.picture(picture.convert("L"), invert=True)
    assert inverted.shape == once.shape
