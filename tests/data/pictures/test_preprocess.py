"""How a picture becomes the model's input: geometry, colour, faults, and one path for all."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sartor.data.named.catalogue import load_named
from sartor.data.pictures.decode import MAX_PIXELS
from sartor.data.pictures.flattening import flattened
from sartor.data.pictures.preprocess import (
    Preprocess,
    as_picture,
    read_picture,
)
from sartor.data.settings import PreprocessSettings
from sartor.errors import PictureError, RecipeError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (24, 20)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (24, 20, 3)).astype(np.uint8)


def prepared(channels: int, height: int, width: int, resize: str = "letterbox") -> Preprocess:
    return Preprocess(
        channels=channels,
        height=height,
        width=width,
        resize=resize,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )


def saved(picture: Image.Image, path: Path, **options: Any) -> Path:
    picture.save(path, **options)
    return path


class TestGeometry:
    """A picture of 4x2: black, white, white, black columns; all resizing is exact on it."""

    WIDE = Image.fromarray(np.array([[0, 255, 255, 0]] * 2, np.uint8))

    def test_letterbox_keeps_all_and_pads_evenly(self) -> None:
        pixels = prepared(1, 4, 4).picture(self.WIDE)
        assert pixels[0].tolist() == [[0] * 4, [0, 255, 255, 0], [0, 255, 255, 0], [0] * 4]

    def test_letterbox_of_a_tall_one_pads_at_the_sides(self) -> None:
        pixels = prepared(1, 4, 4).picture(self.WIDE.transpose(Image.Transpose.ROTATE_90))
        assert pixels[0].tolist() == [[0] * 4, [0, 255, 255, 0], [0, 255, 255, 0], [0] * 4]
        white = prepared(1, 4, 8).picture(Image.new("L", (2, 2), 255))
        assert (white[0] == [0, 0, 255, 255, 255, 255, 0, 0]).all()

    def test_crop_cuts_the_longer_side_evenly(self) -> None:
        pixels = prepared(1, 2, 2, "crop").picture(self.WIDE)
        assert pixels[0].tolist() == [[255, 255], [255, 255]]

    def test_stretch_fills(self) -> None:
        picture = Image.fromarray(np.repeat([[10, 200]], 2, axis=0).astype(np.uint8))
        pixels = prepared(1, 2, 8, "stretch").picture(picture)
        expected = picture.resize((8, 2), Image.Resampling.BICUBIC)
        assert np.array_equal(pixels[0], np.asarray(expected))
        assert pixels.shape == (1, 2, 8)

    def test_shrinking_averages_rather_than_picks(self) -> None:
        """Antialiasing: a fine chessboard becomes gray, not black or white."""
        board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
        for resize in ("letterbox", "crop", "stretch"):
            small = prepared(1, 8, 8, resize).picture(board)
            assert np.abs(small.astype(int) - 127).max() < 12

    @pytest.mark.parametrize("size", [(10_000, 1), (1, 10_000), (57, 1), (1, 57)])
    @pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
    def test_the_thinnest_picture_leaves_a_trace(self, size: tuple[int, int], resize: str) -> None:
        """Where ImageOps.pad gives a black square or fails."""
        pixels = prepared(1, 28, 28, resize).picture(Image.new("L", size, 255))
        assert pixels.max() == 255

    @settings(deadline=None, max_examples=60)
    @given(*[st.integers(1, 40)] * 4)
    def test_letterbox_is_that_of_pillow(self, w: int, h: int, width: int, height: int) -> None:
        picture = Image.fromarray(
            np.random.default_rng(w * 41 + h).integers(0, 255, (h, w), np.uint8)
        )
        ours = prepared(1, height, width).picture(picture)
        theirs = ImageOps.pad(picture, (width, height), Image.Resampling.BICUBIC, color=0)
        scale = min(width / w, height / h)
        if all(abs(side * scale % 1 - 0.5) > 1e-9 and side * scale > 0.5 for side in (w, h)):
            assert np.array_equal(ours[0], np.asarray(theirs))

    def test_nothing_is_resampled_where_the_size_fits(self) -> None:
        assert np.array_equal(prepared(1, 24, 20).picture(Image.fromarray(GRAY))[0], GRAY)

    def test_height_comes_before_width(self) -> None:
        process = Preprocess.from_settings(PreprocessSettings(image_size=(6, 9), channels=3))
        assert process.input_shape == (3, 6, 9)
        assert process.picture(Image.new("L", (5, 5))).shape == (3, 6, 9)


class TestExif:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_orientation_is_obeyed(self, tmp_path: Path, form: str, orientation: int) -> None:
        """Bright in the upper left quarter, however the camera was held."""
        upright = np.zeros((16, 32), np.uint8)
        upright[:8, :16] = 250
        undo = {
            1: lambda a: a,
            2: np.fliplr,
            3: lambda a: np.rot90(a, 2),
            4: np.flipud,
            5: np.transpose,
            6: lambda a: np.rot90(a, 1),
            7: lambda a: np.rot90(a, 2).T,
            8: lambda a: np.rot90(a, -1),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(np.ascontiguousarray(undo(upright))).convert("RGB")
        file = saved(stored, tmp_path / f"turned.{form.lower()}", format=form, exif=exif)
        pixels = prepared(1, 16, 32).picture(read_picture(file))
        assert np.abs(pixels[0].astype(int) - upright).max() < 16


class TestColour:
    def test_gray_of_16_bits_is_scaled_not_cut(self, tmp_path: Path) -> None:
        values = np.array([[0, 257, 32_896, 65_535]], np.uint16)
        file = saved(Image.fromarray(values), tmp_path / "deep.png")
        pixels = prepared(1, 1, 4).picture(read_picture(file))
        assert pixels[0].tolist() == [[0, 1, 128, 255]]

    def test_a_dark_picture_of_16_bits_stays_dark(self, tmp_path: Path) -> None:
        """Its scale must not depend on whether one pixel happens to exceed 255."""
        values = np.array([[0, 255]], np.uint16)
        file = saved(Image.fromarray(values), tmp_path / "dark.png")
        assert prepared(1, 1, 2).picture(read_picture(file))[0].tolist() == [[0, 1]]

    @pytest.mark.parametrize(
        ("values", "gray"),
        [
            (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
            (np.array([[0, 32_896, 65_535]], np.int32), [0, 128, 255]),
            (np.array([[0, 1_000_000, 2_000_000]], np.int32), [0, 128, 255]),
            (np.array([[-5, 0, 65_535]], np.int32), [0, 0, 255]),
            (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
            (np.array([[0, 20, 40]], np.float32), [0, 20, 40]),
            (np.array([[204, 230, 255]], np.float32), [204, 230, 255]),
            (np.array([[0, 32_896, 65_535]], np.float32), [0, 128, 255]),
            (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
            (np.array([[-0.02, 0.2, 1.02]], np.float32), [0, 51, 255]),
            (np.array([[-1000, 500, 2000]], np.float32), [0, 128, 255]),
            (np.array([[-7, -7, -7]], np.float32), [0, 0, 0]),
            (np.array([[np.nan, 0.2, 1]], np.float32), [0, 51, 255]),
            (np.array([[np.inf, 0.2, 1]], np.float32), [255, 51, 255]),
            (np.array([[-np.inf, 0.2, 1]], np.float32), [0, 51, 255]),
            (np.array([[np.nan, np.nan, np.nan]], np.float32), [0, 0, 0]),
        ],
    )
    def test_wide_numbers(self, tmp_path: Path, values: Any, gray: list[int]) -> None:
        file = saved(Image.fromarray(values), tmp_path / "wide.tiff")
        assert prepared(1, 1, 3).picture(read_picture(file))[0, 0].tolist() == gray

    def test_one_bit_is_black_and_white(self, tmp_path: Path) -> None:
        bits = Image.fromarray(np.array([[0, 255, 255, 0]], np.uint8)).convert("1")
        file = saved(bits, tmp_path / "bits.png")
        assert prepared(1, 1, 4).picture(read_picture(file))[0].tolist() == [[0, 255, 255, 0]]

    def test_palette_gives_its_colours_not_its_indices(self, tmp_path: Path) -> None:
        picture = Image.new("P", (2, 1))
        picture.putpalette([250, 10, 20, 30, 240, 50])
        picture.putpixel((1, 0), 1)
        pixels = prepared(3, 1, 2).picture(read_picture(saved(picture, tmp_path / "p.png")))
        assert pixels[:, 0].T.tolist() == [[250, 10, 20], [30, 240, 50]]

    @pytest.mark.parametrize(
        ("background", "nothing", "half"),
        [("black", [0, 0, 0], [100, 50, 25]), ("white", [255, 255, 255], [227, 177, 152])],
    )
    def test_alpha_lies_over_the_background(
        self, tmp_path: Path, background: str, nothing: list[int], half: list[int]
    ) -> None:
        pixels = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]], np.uint8)
        file = saved(Image.fromarray(pixels), tmp_path / "alpha.png")
        preprocess = replace(prepared(3, 1, 3), background=background)
        flat = preprocess.picture(read_picture(file))[:, 0].T.astype(int)
        assert flat[0].tolist() == [200, 100, 50]
        assert flat[1].tolist() == nothing
        assert np.abs(flat[2] - half).max() <= 1

    @pytest.mark.parametrize(
        ("background", "ink", "seen"), [("black", 0, [255, 0]), ("white", 255, [0, 255])]
    )
    def test_inverted_alpha_lies_over_the_background_too(
        self, tmp_path: Path, background: str, ink: int, seen: list[int]
    ) -> None:
        """A stroke on nothing is inverted without a box around it."""
        pixels = np.full((1, 2, 4), ink, np.uint8)
        pixels[0, :, 3] = [255, 0]
        file = saved(Image.fromarray(pixels), tmp_path / "stroke.png")
        preprocess = replace(prepared(1, 1, 2), background=background)
        assert preprocess.picture(read_picture(file), invert=True)[0].tolist() == [seen]

    @pytest.mark.parametrize("background", ["white", "black"])
    def test_what_is_transparent_is_padded_with_its_background(self, background: str) -> None:
        preprocess = replace(prepared(1, 4, 2, "letterbox"), background=background)
        behind = {"white": 255, "black": 0}[background]
        assert preprocess.picture(Image.new("LA", (2, 2), (100, 200)))[0, 0, 0] == behind
        for opaque in (Image.new("LA", (2, 2), (100, 255)), Image.new("L", (2, 2), 100)):
            assert preprocess.picture(opaque)[0, :, 0].tolist() == [0, 100, 100, 0]

    @pytest.mark.parametrize(
        ("picture", "transparency"),
        [
            (Image.new("L", (2, 2), 200), 200),
            (Image.new("RGB", (2, 2), (200, 9, 9)), (200, 9, 9)),
            (Image.fromarray(np.full((2, 2), 51_400, np.uint16)), 51_400),
            (Image.new("P", (2, 2), 1), 1),
            (Image.new("1", (2, 2), 1), 1),
        ],
        ids=["L", "RGB", "16 bits", "palette", "1 bit"],
    )
    def test_a_transparent_colour_is_transparent(
        self, tmp_path: Path, picture: Image.Image, transparency: Any
    ) -> None:
        if picture.mode == "P":
            picture.putpalette([0, 0, 0, 200, 200, 200])
        file = saved(picture, tmp_path / "keyed.png", transparency=transparency)
        read = read_picture(file)
        if picture.mode == "1" and read.info["transparency"] != 255:
            pytest.skip("needs another Pillow: this one does not find the transparent bit")
        assert prepared(1, 2, 2).picture(read).min() == 255
        assert flattened(read, background=255).convert("L").getextrema() == (255, 255)

    def test_cmyk(self, tmp_path: Path) -> None:
        """Pure cyan, yellow and black."""
        inks = np.array([[[255, 0, 0, 0]], [[0, 0, 255, 0]], [[0, 0, 0, 255]]], np.uint8)
        picture = Image.fromarray(np.repeat(np.repeat(inks, 16, 0), 48, 1), mode=None)
        picture = Image.frombytes("CMYK", (48, 48), picture.tobytes())
        file = saved(picture, tmp_path / "inks.jpg", quality=100, subsampling=0)
        pixels = prepared(3, 48, 48).picture(read_picture(file)).astype(int)
        for row, colour in [(8, [0, 255, 255]), (24, [255, 255, 0]), (40, [0, 0, 0])]:
            assert np.abs(pixels[:, row, 24] - colour).max() < 8

    @pytest.mark.parametrize("mode", ["RGBX", "YCbCr", "LAB", "HSV", "RGBa", "RGBA", "CMYK"])
    def test_modes_of_colour_keep_colour(self, mode: str) -> None:
        red = Image.new("RGB", (2, 2), (220, 30, 30)).convert(
            "RGBA" if mode == "RGBa" else mode if mode != "RGBX" else "RGB"
        )
        red = red.convert(mode)
        pixels = prepared(3, 2, 2).picture(red)[:, 0, 0].astype(int)
        assert np.abs(pixels - [220, 30, 30]).max() < 8

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "I", "F", "I;16"])
    def test_modes_of_gray_become_any_channels(self, mode: str) -> None:
        picture = Image.new("LA" if mode == "La" else mode, (3, 2)).convert(mode)
        assert prepared(1, 2, 3).picture(picture).shape == (1, 2, 3)
        assert prepared(3, 2, 3).picture(picture).shape == (3, 2, 3)

    def test_gray_for_a_model_of_colour(self) -> None:
        pixels = prepared(3, 24, 20).picture(Image.fromarray(GRAY))
        assert all(np.array_equal(plane, GRAY) for plane in pixels)

    def test_colour_for_a_model_of_gray_is_luma(self) -> None:
        """Of ITU-R 601: green counts most."""
        pixels = prepared(1, 24, 20).picture(Image.fromarray(COLOUR))
        luma = COLOUR @ np.array([0.299, 0.587, 0.114])
        assert np.abs(pixels[0] - luma).max() <= 1

    def test_first_frame_of_an_animation(self, tmp_path: Path) -> None:
        frames = [Image.new("L", (4, 4), value) for value in (50, 200, 100)]
        for name in ("moving.gif", "moving.png", "moving.webp"):
            file = tmp_path / name
            frames[0].save(file, save_all=True, append_images=frames[1:], lossless=True)
            pixels = prepared(1, 4, 4).picture(read_picture(file)).astype(int)
            assert np.abs(pixels - 50).max() <= 1


class TestInvert:
    def test_turns_every_value(self) -> None:
        pixels = prepared(1, 24, 20).picture(Image.fromarray(GRAY), invert=True)
        assert np.array_equal(pixels[0], 255 - GRAY)

    def test_turns_each_channel(self) -> None:
        pixels = prepared(3, 24, 20).picture(Image.fromarray(COLOUR), invert=True)
        assert np.array_equal(pixels.transpose(1, 2, 0), 255 - COLOUR)

    def test_comes_before_padding(self) -> None:
        """White paper becomes black, and so is what is added beside it."""
        pixels = prepared(1, 8, 8).picture(Image.new("L", (8, 2), 255), invert=True)
        assert pixels.max() == 0


class TestOnePath:
    """Images of a dataset and files of the same pictures give the model the same bits."""

    @pytest.mark.parametrize("shape", [(8, 8), (28, 28), (11, 5), (20, 33)])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
    def test_digits(
        self, tmp_path: Path, shape: tuple[int, int], channels: int, resize: str
    ) -> None:
        process = prepared(channels, *shape, resize)
        digits = load_named("digits").images[:3]
        self.same(process, digits, tmp_path, "png")

    @pytest.mark.parametrize("form", ["png", "bmp", "tiff", "ppm"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_colour(self, tmp_path: Path, form: str, channels: int) -> None:
        images = RNG.integers(0, 256, (2, 3, 9, 13)).astype(np.uint8)
        self.same(prepared(channels, 9, 13), images, tmp_path, form)
        self.same(prepared(channels, 28, 20), images, tmp_path, form)

    def same(self, process: Preprocess, images: Any, folder: Path, form: str) -> None:
        normalize = process.normalizer("cpu")
        from_dataset = normalize(torch.from_numpy(process.images(images)))
        files = [
            saved(as_picture(image), folder / f"{number}.{form}")
            for number, image in enumerate(images)
        ]
        pictures = [process.picture(read_picture(file)) for file in files]
        assert torch.equal(normalize(torch.from_numpy(np.stack(pictures))), from_dataset)

    def test_images_that_fit_are_passed_through(self) -> None:
        images = RNG.integers(0, 256, (2, 3, 9, 13)).astype(np.uint8)
        assert prepared(3, 9, 13).images(images) is images


class TestNormalizer:
    @settings(deadline=None, max_examples=60)
    @given(
        st.integers(0, 10**6),
        st.lists(st.tuples(st.floats(-2, 2), st.floats(0.01, 10)), min_size=1, max_size=3).filter(
            lambda pairs: len(pairs) != 2
        ),
    )
    def test_is_pixel_over_255_minus_mean_over_std(
        self, seed: int, statistics: list[tuple[float, float]]
    ) -> None:
        mean, std = zip(*statistics, strict=True)
        channels = len(mean)
        images = np.random.default_rng(seed).integers(0, 256, (5, channels, 4, 3)).astype(np.uint8)
        process = Preprocess(
            channels=channels, height=4, width=3, resize="stretch", mean=mean, std=std
        )
        given_images = torch.from_numpy(images)
        result = process.normalizer("cpu")(given_images)
        shape = (-1, 1, 1)
        exact = (images / 255 - np.reshape(mean, shape)) / np.reshape(std, shape)
        assert result.dtype == torch.float32
        scale = max(1.0, float(np.abs(np.array(mean) / np.array(std)).max()), 1 / min(std))
        np.testing.assert_allclose(result.numpy(), exact, rtol=1e-6, atol=3e-7 * scale)
        assert np.array_equal(given_images.numpy(), images)

    def test_one_number_serves_all_channels(self) -> None:
        process = Preprocess.from_settings(
            PreprocessSettings(image_size=(2, 2), channels=3, mean=(0.5,), std=(0.25,))
        )
        assert (process.mean, process.std) == ((0.5,) * 3, (0.25,) * 3)

    def test_nothing_given_is_pixels_in_0_to_1(self) -> None:
        process = Preprocess.from_settings(PreprocessSettings(image_size=(1, 2), channels=1))
        result = process.normalizer("cpu")(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        assert result.flatten().tolist() == pytest.approx([0, 1])

    def test_refuses_another_number_of_values_all_at_once(self) -> None:
        wrong = PreprocessSettings(image_size=(2, 2), channels=3, mean=(0.1, 0.2), std=(1, 1))
        with pytest.raises(RecipeError) as caught:
            Preprocess.from_settings(wrong)
        assert [problem.split()[0] for problem in caught.value.problems] == ["mean", "std"]


def png_claiming(width: int, height: int) -> bytes:
    """A header and a few bytes of data, small however large the picture says it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def encoded(form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(COLOUR).save(stream, form, **options)
    return stream.getvalue()


class TestFaults:
    """Every fault names the file, says what is wrong, and what to do."""

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "is empty"),
            (b"Dear diary,\n", "is not a picture"),
            (png_claiming(60_000, 60_000), "too many pixels|60,000 x 60,000 pixels"),
            (png_claiming(10_001, 10_000), "10,001 x 10,000 pixels"),
            (encoded("JPEG")[:-400], "is damaged"),
            (encoded("JPEG")[:100], "is not a picture|is damaged"),
            (encoded("PNG")[:-600], "is damaged"),
            (encoded("GIF")[:60], "is damaged|is not a picture"),
            (encoded("BMP")[:-50], "is damaged"),
            (encoded("WEBP")[:-50], "is damaged|is not a picture"),
            (encoded("TIFF")[:-500], "is damaged"),
        ],
        ids=[
            *("empty", "text", "huge", "large"),
            *("jpeg", "head", "png", "gif", "bmp", "webp", "tiff"),
        ],
    )
    def test_content(self, tmp_path: Path, content: bytes, reason: str) -> None:
        file = tmp_path / "file.png"
        file.write_bytes(content)
        with pytest.raises(PictureError, match=reason) as caught:
            read_picture(file)
        assert str(file) in caught.value.message
        assert caught.value.hint

    def test_a_huge_one_is_refused_before_it_is_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "huge.png"
        file.write_bytes(png_claiming(MAX_PIXELS // 1_000 + 1, 1_000))
        monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
        with pytest.raises(PictureError, match="pixels"):
            read_picture(file)

    def test_the_largest_that_Pillow_only_warns_of_is_read(  # noqa: N802
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
        file = saved(Image.fromarray(GRAY), tmp_path / "warned.png")
        assert read_picture(file).size == (20, 24)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="is a folder, not a file"):
            read_picture(tmp_path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="no such file"):
            read_picture(tmp_path / "nothing.png")

    def test_an_index_outside_the_palette(self, tmp_path: Path) -> None:
        """Known only when colours are looked up, and still blamed on the file."""
        picture = Image.new("P", (8, 8), 1)
        picture.putpalette([0, 0, 0, 9, 9, 9])
        stream = io.BytesIO()
        picture.save(stream, "PNG", bits=8)
        content = stream.getvalue()
        at = content.index(b"PLTE")
        data = content[at : at + 4] + bytes(3)
        short = struct.pack(">I", 3) + data + struct.pack(">I", zlib.crc32(data))
        file = tmp_path / "palette.png"
        file.write_bytes(content[: at - 4] + short + content[at + 4 + 6 + 4 :])
        read = read_or_fault(file)
        if isinstance(read, PictureError):
            assert str(file) in read.message
        else:  # an older Pillow takes the missing colour for black
            assert prepared(1, 8, 8).picture(read).max() == 0


def read_or_fault(file: Path) -> Image.Image | PictureError:
    try:
        return read_picture(file)
    except PictureError as error:
        return error


REAL_FILES: dict[str, bytes] = {
    "gray.png": b"",
    "turned.jpg": encoded(
        "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    ),
    "progressive.jpg": encoded("JPEG", progressive=True),
    "colour.png": encoded("PNG"),
    "colour.gif": encoded("GIF"),
    "colour.bmp": encoded("BMP"),
    "raw.tiff": encoded("TIFF"),
    "lzw.tiff": encoded("TIFF", compression="tiff_lzw"),
    "lossy.webp": encoded("WEBP"),
    "lossless.webp": encoded("WEBP", lossless=True),
}


def gray_png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray((GRAY.astype(np.uint16)) * 256).save(stream, "PNG")
    return stream.getvalue()


REAL_FILES["gray.png"] = gray_png()


@pytest.mark.parametrize("name", REAL_FILES)
def test_flipped_bytes_give_a_fault_or_a_picture(tmp_path: Path, name: str) -> None:
    """Never another exception, never a warning, never a picture of another shape."""
    original, file = REAL_FILES[name], tmp_path / name
    rng = np.random.default_rng(1)
    read = 0
    for _ in range(80):
        damaged = bytearray(original)
        # Faults at the beginning are the interesting ones: headers and tags.
        reach = len(damaged) if rng.random() < 0.5 else 120
        for place in rng.integers(0, min(reach, len(damaged)), rng.integers(1, 4)):
            damaged[place] = rng.choice([damaged[place] ^ (1 << rng.integers(8)), 0, 255])
        if rng.random() < 0.2:
            del damaged[rng.integers(len(damaged)) :]
        file.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = read_or_fault(file)
            if isinstance(picture, PictureError):
                assert picture.hint
                assert "\n" not in picture.message
                continue
            pixels = prepared(3, 6, 7).picture(picture)
        assert (pixels.shape, pixels.dtype) == ((3, 6, 7), np.uint8)
        read += 1
    assert name.endswith("png") or read > 8, "the fuzz reached decoding"
