"""From bytes to pixels: what a header says, what is not whole, and how little is decoded."""

from __future__ import annotations

import io
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import GifImagePlugin, Image
from PIL.PngImagePlugin import PngInfo
from sklearn.datasets import load_sample_images

from sartor.data.pictures import decode, integrity
from sartor.data.pictures.decode import (
    TooManyPixels,
    decode_picture,
    header_of,
    opened,
    quiet_decoding,
)
from sartor.data.pictures.flattening import flattened
from sartor.data.pictures.preprocess import Preprocess
from sartor.errors import PictureError

PHOTOGRAPHS = [Image.fromarray(image) for image in load_sample_images().images]
SMALL = PHOTOGRAPHS[0].resize((60, 44))


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def geometry(size: int, resize: str = "letterbox", channels: int = 3) -> Preprocess:
    return Preprocess(
        channels=channels, height=size, width=size, resize=resize, mean=(0.0,), std=(1.0,)
    )


def reason(content: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        decode_picture(content, "x")
    return caught.value.message


def pixels_or_reason(process: Preprocess, content: bytes) -> Any:
    try:
        return process.encoded(content, "x")
    except PictureError as error:
        return error.message


class TestScaledDecoding:
    @pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
    def test_differs_little_from_a_full_one(self, resize: str, options: dict[str, Any]) -> None:
        process = geometry(64, resize)
        for photograph in PHOTOGRAPHS:
            content = encoded(photograph.resize((500, 375)), "JPEG", quality=90, **options)
            with Image.open(io.BytesIO(content)) as whole:
                full = process.picture(whole).astype(int)
            found = np.abs(process.encoded(content, "x") - full)
            assert 0 < found.mean() < 2.5
            assert np.percentile(found, 99) < 20

    @pytest.mark.parametrize(
        ("stored", "target", "resize", "decoded"),
        [
            ((500, 375), 64, "letterbox", (125, 94)),
            ((500, 375), 64, "stretch", (250, 188)),
            ((500, 375), 64, "crop", (250, 188)),
            ((500, 375), 128, "letterbox", (250, 188)),
            ((500, 375), 250, "letterbox", (500, 375)),
            ((300, 1200), 64, "letterbox", (38, 150)),
            ((300, 1200), 64, "crop", (150, 600)),
            ((2000, 16), 32, "letterbox", (250, 2)),
        ],
    )
    def test_keeps_enough_pixels(
        self, stored: Any, target: int, resize: str, decoded: tuple[int, int]
    ) -> None:
        content = encoded(Image.new("RGB", stored, (9, 80, 200)), "JPEG")
        enough = geometry(target, resize).enough
        assert decode_picture(content, "x", enough).size == decoded

    def test_a_turned_one_is_as_large_as_an_upright_one(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        content = encoded(Image.new("RGB", (1200, 300)), "JPEG", exif=exif)
        for resize, size in (("letterbox", (38, 150)), ("crop", (150, 600))):
            assert decode_picture(content, "x", geometry(64, resize).enough).size == size

    def test_no_other_format_is_reduced(self) -> None:
        for form in ("PNG", "WEBP", "BMP", "TIFF", "GIF"):
            content = encoded(Image.new("RGB", (500, 400)), form)
            assert decode_picture(content, "x", geometry(8).enough).size == (500, 400)


class TestHeader:
    @pytest.mark.parametrize(
        ("picture", "form", "bits"),
        [
            (SMALL, "JPEG", 8),
            (SMALL, "PNG", 8),
            (SMALL.convert("1"), "PNG", 1),
            (SMALL.convert("1"), "TIFF", 1),
            (Image.fromarray(np.zeros((4, 5), np.uint16)), "PNG", 16),
            (Image.fromarray(np.zeros((4, 5), np.uint16)), "TIFF", 16),
            (Image.fromarray(np.zeros((4, 5), np.float32)), "TIFF", 32),
            (SMALL.convert("CMYK"), "JPEG", 8),
        ],
    )
    def test_says_what_is_stored(self, picture: Image.Image, form: str, bits: int) -> None:
        content = encoded(picture, form)
        with opened(content, "x") as file:
            header = header_of(file, content)
        assert (header.format, header.bits, header.frames) == (form, bits, 1)
        assert (header.width, header.height) == header.upright_size == picture.size

    def test_counts_frames(self) -> None:
        frames = [Image.new("L", (4, 4), value) for value in (1, 200, 90)]
        content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
        with opened(content, "x") as file:
            assert header_of(file, content).frames == 3

    def test_only_exif_says_what_is_upright(self) -> None:
        xmp = b'<rdf:Description tiff:Orientation="6"/>'
        exif = Image.Exif()
        exif[0x0112] = 8
        wide, png = Image.new("RGB", (30, 10)), PngInfo()
        png.add_itxt("XML:com.adobe.xmp", xmp.decode())
        text = PngInfo()
        raw = exif.tobytes()
        text.add_text("Raw profile type exif", f"\nexif\n{len(raw)}\n{raw.hex()}\n")
        for content in (
            encoded(wide, "JPEG", xmp=xmp),
            encoded(wide, "PNG", pnginfo=png),
            encoded(wide, "PNG", pnginfo=text),
        ):
            assert decode_picture(content, "x").size == (30, 10)
        for content in (
            encoded(wide, "JPEG", xmp=xmp, exif=exif),
            encoded(wide, "TIFF", exif=exif),
        ):
            assert decode_picture(content, "x").size == (10, 30)

    @pytest.mark.parametrize("tag", [0, 9, 77])
    def test_a_senseless_orientation_is_upright(self, tag: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = tag
        content = encoded(SMALL, "JPEG", exif=exif)
        with opened(content, "x") as file:
            assert header_of(file, content).orientation == 1


def png(rows: int, *, value: int = 200, height: int = 20, width: int = 10) -> bytes:
    """A gray PNG that announces `height` rows and brings `rows`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header)
    data += chunk(b"IDAT", zlib.compress((b"\0" + bytes([value]) * width) * rows))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


class TestWhatIsMissing:
    """Decoders fill it in and say nothing."""

    def test_rows_of_a_png(self) -> None:
        assert decode_picture(png(20), "x").getextrema() == (200, 200)
        assert "before the last row" in reason(png(19))
        assert "truncated" in reason(png(0))

    def test_a_black_png_is_whole(self) -> None:
        assert decode_picture(png(20, value=0), "x").getextrema() == (0, 0)
        assert "before the last row" in reason(png(19, value=0))

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
    @pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 3), (13, 8), (8, 17)])
    def test_no_whole_png_is_refused(self, mode: str, size: tuple[int, int]) -> None:
        black = Image.new(mode, size)
        if mode == "P":
            black.putpalette([0, 0, 0, 9, 9, 9])
        assert decode_picture(encoded(black, "PNG"), "x").size == size

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_the_end_of_a_jpeg_that_was_closed_again(
        self, mode: str, options: dict[str, Any], share: float
    ) -> None:
        content = encoded(SMALL.convert(mode), "JPEG", quality=95, **options)
        kept = 620 + int((len(content) - 620) * share)
        assert "before the last row" in reason(content[:kept] + b"\xff\xd9")

    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_a_jpeg_that_is_gray_all_over_is_whole(self, mode: str) -> None:
        content = encoded(Image.new("RGB", (41, 23), (128, 128, 128)).convert(mode), "JPEG")
        assert decode_picture(content, "x").size == (41, 23)

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
    def test_a_file_cut_off_anywhere(self, form: str) -> None:
        content = encoded(SMALL, form)
        for kept in np.linspace(1, len(content) - 12, 24).astype(int):
            assert reason(content[:kept]).startswith("x ")

    def test_a_picture_with_remarks_behind_it(self) -> None:
        """Cameras and editors append what is theirs."""
        for form in ("JPEG", "PNG"):
            assert decode_picture(encoded(SMALL, form) + b"remarks", "x").size == SMALL.size

    @settings(deadline=None, max_examples=100)
    @given(st.data())
    def test_any_flipped_bit_of_a_png_is_found(self, data: st.DataObject) -> None:
        content = bytearray(encoded(SMALL, "PNG"))
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        assert reason(bytes(content)).startswith("x ")

    @settings(deadline=None, max_examples=100)
    @given(st.sampled_from(["JPEG", "GIF", "WEBP", "TIFF", "BMP"]), st.data())
    def test_flipped_bits_elsewhere_give_a_fault_or_a_picture(
        self, form: str, data: st.DataObject
    ) -> None:
        content = bytearray(encoded(SMALL, form))
        for bit in data.draw(st.lists(st.integers(0, 8 * len(content) - 1), max_size=3)):
            content[bit // 8] ^= 1 << bit % 8
        process = geometry(8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = pixels_or_reason(process, bytes(content))
        if isinstance(found, str):
            assert found.startswith("x ")
            assert "\n" not in found
        else:
            assert found.shape == (3, 8, 8)


class TestLargePictures:
    def test_in_bands_is_as_in_one_piece(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (23, 10, 4)).astype(np.uint8)
        wide = rng.integers(0, 70_000, (23, 10)).astype(np.int32)
        floats = rng.normal(size=(23, 10)).astype(np.float32)
        floats[3, 3], floats[20, 1] = np.nan, np.inf
        pictures = [Image.fromarray(one) for one in (pixels, wide, floats)]
        pictures.append(Image.fromarray(pixels).convert("P"))
        whole = [np.asarray(flattened(one, background=0)) for one in pictures]
        monkeypatch.setattr("sartor.data.pictures.flattening._BAND_PIXELS", 40)
        for one, expected in zip(pictures, whole, strict=True):
            assert np.array_equal(flattened(one, background=0), expected)

    def test_come_one_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decode, "LARGE", 1)
        inside, most, lock = 0, 0, threading.Lock()
        load = Image.Image.load

        def watched(self: Image.Image) -> Any:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            with lock:
                inside -= 1
            return load(self)

        monkeypatch.setattr(Image.Image, "load", watched)
        content = encoded(SMALL, "PNG")
        with quiet_decoding(), ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: geometry(8).seen(content, "x"), range(8)))
        assert most == 1


class TestFromStrangers:
    def test_no_more_is_inflated_than_the_picture_has(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A black picture of one pixel, followed by 50 MB of zeros in 50 kB."""
        inflated = 0
        make = zlib.decompressobj

        class Counting:
            def __init__(self) -> None:
                self._inner = make()

            def decompress(self, data: bytes, most: int) -> bytes:
                nonlocal inflated
                part = self._inner.decompress(data, most)
                inflated += len(part)
                return part

            def __getattr__(self, name: str) -> Any:
                return getattr(self._inner, name)

        monkeypatch.setattr(integrity.zlib, "decompressobj", Counting)
        small = encoded(Image.new("L", (1, 1)), "PNG")
        start = small.index(b"IDAT") - 4
        body = b"IDAT" + zlib.compress(bytes(50_000_000))
        chunk = (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
        content = small[:start] + chunk + small[small.index(b"IEND") - 4 :]
        assert not geometry(8).encoded(content, "x").any()
        assert 0 < inflated <= 1 << 20

    def test_later_frames_are_not_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(_picture: Image.Image) -> int:
            raise AssertionError("it was")

        stream = io.BytesIO()
        frames = [Image.new("L", (4, 4), shade) for shade in (0, 100, 200)]
        frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
        monkeypatch.setattr(GifImagePlugin.GifImageFile, "n_frames", property(refused))
        with quiet_decoding():
            image = geometry(8).from_stranger(stream.getvalue(), "x", max_pixels=16)
            assert not image.any()
            with pytest.raises(TooManyPixels, match=r"x has 4 x 4 pixels"):
                geometry(8).from_stranger(stream.getvalue(), "x", max_pixels=15)
