"""Preprocess is what docs/preprocess.md says: held to vectors, and to a second implementation."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sartor.data.pictures import resampling
from sartor.data.pictures.preprocess import Preprocess
from sartor.data.settings import RESAMPLINGS

from .written_again import crop_box, gray_of, prepared, resampled, resized

FOLDER = Path(__file__).parents[2] / "vectors" / "preprocess"
VECTORS = json.loads((FOLDER / "vectors.json").read_bytes())
ROWS = VECTORS["vectors"]
sides = st.integers(1, 90)


def expected(row: dict[str, Any]) -> npt.NDArray[np.uint8]:
    way = VECTORS["preprocess"][row["preprocess"]]
    pixels = np.frombuffer(base64.b64decode(row["pixels"]), np.uint8)
    return pixels.reshape(way["height"], way["width"], way["channels"])


def in_words(row: dict[str, Any]) -> str:
    return f"{row['file']}-{row['preprocess']}"


def test_the_vectors_hold_every_picture_in_the_folder() -> None:
    assert {row["file"] for row in ROWS} == {path.name for path in FOLDER.glob("*.png")}
    assert len(ROWS) > 150


@pytest.mark.parametrize("row", ROWS, ids=in_words)
def test_sartor_prepares_every_vector_bit_by_bit(row: dict[str, Any]) -> None:
    kept = VECTORS["preprocess"][row["preprocess"]]
    way = Preprocess(**{name: _frozen(value) for name, value in kept.items()})
    pixels = way.read(FOLDER / row["file"]).transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels, expected(row))


@pytest.mark.parametrize("row", [r for r in ROWS if "ink" not in r["preprocess"]], ids=in_words)
def test_what_is_written_from_the_page_prepares_them_bit_by_bit(row: dict[str, Any]) -> None:
    content = (FOLDER / row["file"]).read_bytes()
    again = prepared(content, VECTORS["preprocess"][row["preprocess"]])
    np.testing.assert_array_equal(again, expected(row))


@given(wide=sides, tall=sides, width=sides, height=sides, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_the_resampling_of_the_page_is_ours_whatever_the_version_of_pillow(
    wide: int, tall: int, width: int, height: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (tall, wide, 3), np.uint8)
    for name in RESAMPLINGS:
        filter_ = Image.Resampling[name.upper()]
        ours = resampling.resampled(Image.fromarray(pixels), (width, height), filter_)
        again = resampled(pixels, width, height, None, name)
        np.testing.assert_array_equal(again, np.asarray(ours))


@given(wide=sides, tall=sides, width=sides, height=sides, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_crop_and_letterbox_of_the_page_are_ours(
    wide: int, tall: int, width: int, height: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (tall, wide), np.uint8)
    picture = Image.fromarray(pixels)
    for way, name in (("crop", "bicubic"), ("letterbox", "bilinear"), ("stretch", "box")):
        ours = Preprocess(
            channels=1,
            height=height,
            width=width,
            resize=way,
            resampling=name,
            mean=(0.0,),
            std=(1.0,),
        )
        again = resized(pixels, width, height, way, 0, name)
        np.testing.assert_array_equal(again, ours.picture(picture)[0])


def test_a_crop_is_the_part_that_pillow_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = []
    monkeypatch.setattr(Image.Image, "resize", lambda _self, *_, box: boxes.append(box))
    for wide, tall, width, height in ((640, 480, 9, 9), (31, 97, 7, 11), (50, 50, 8, 8)):
        picture = Image.new("L", (wide, tall))
        ImageOps.fit(picture, (width, height))
        fitted = boxes.pop()
        assert fitted == resampling.crop_box(picture, (width, height))
        assert fitted == crop_box(wide, tall, width / height)


def test_every_colour_has_the_gray_of_the_page() -> None:
    levels = np.arange(0, 256, 5)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 1, 3)
    by_pillow = Image.fromarray(colours.astype(np.uint8)).convert("L")
    np.testing.assert_array_equal(gray_of(colours), np.asarray(by_pillow))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
