"""Pages: the frame that all of them share, and pictures in them."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from sartor.arrays import UInt8Array
from sartor.errors import DataError
from sartor.reports.page import _environment, make_sheet, picture_uri, render

CHILD = """{% extends "base.html" %}
{% from "parts.html" import section, picture %}
{% set sections = [("one", "The first")] %}
{% block title %}{{ name }}{% endblock %}
{% block content %}{% call section("one", "The first") %}{{ name }}{% endcall %}{% endblock %}
"""


def images(*shape: int) -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def rendered(**values: object) -> str:
    template = _environment().from_string(CHILD)
    return template.render(sheets=(), version="1", **values)


class TestRender:
    def test_values_are_escaped(self) -> None:
        assert "&lt;script&gt;" in rendered(name="<script>")
        assert "<script>" not in rendered(name="<script>")

    def test_a_missing_value_is_an_error(self) -> None:
        with pytest.raises(UndefinedError, match="name"):
            rendered()

    def test_the_frame_asks_for_nothing_outside(self) -> None:
        page = render("base.html", sheets=[make_sheet({0: images(1, 8, 8)})])
        assert "default-src 'none'" in page
        assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(?!["']?(data:|#))""", page)

    def test_the_navigation_names_the_sections(self) -> None:
        page = rendered(name="x")
        assert '<a href="#one">The first</a>' in page
        assert '<section id="one" aria-labelledby="one-heading">' in page


class TestPictures:
    @pytest.mark.parametrize("shape", [(28, 28), (1, 5, 7), (3, 9, 4)])
    def test_every_pixel_is_kept(self, shape: tuple[int, ...]) -> None:
        image = images(*shape)
        pixels = np.asarray(decoded(picture_uri(image)))
        expected = image.transpose(1, 2, 0) if len(shape) == 3 and shape[0] == 3 else image
        assert np.array_equal(pixels, expected.squeeze())

    @pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 20), (1, 8, 8)])
    @pytest.mark.parametrize("number", [1, 2, 7, 50])
    def test_a_window_shows_its_picture(self, shape: tuple[int, int, int], number: int) -> None:
        several = images(number, *shape)
        sheet = make_sheet({f"key {place}": image for place, image in enumerate(several)})
        whole = np.asarray(decoded(sheet.uri).convert("RGB"))
        height, width = shape[1:]
        for place, image in enumerate(several):
            x, y = (
                -int(side) // sheet.scale
                for side in re.findall(r"(-?\d+)px", sheet.position(f"key {place}"))
            )
            seen = whole[y : y + height, x : x + width].transpose(2, 0, 1)
            assert np.array_equal(seen, np.broadcast_to(image, (3, height, width)))

    def test_large_images_are_made_smaller(self) -> None:
        sheet = make_sheet({0: images(3, 300, 600)})
        assert sheet.tile == (48, 96)
        assert sheet.scale == 1

    def test_a_sheet_weighs_little_even_where_nothing_can_be_compressed(self) -> None:
        sheet = make_sheet(dict(enumerate(images(250, 3, 96, 96))))
        assert len(sheet.uri) < 1_300_000
        assert sheet.tile == (96, 96)

    def test_no_pictures_and_different_ones(self) -> None:
        assert 0 not in make_sheet({})
        with pytest.raises(DataError, match="differ in shape"):
            make_sheet({0: images(1, 8, 8), 1: images(1, 9, 8)})
