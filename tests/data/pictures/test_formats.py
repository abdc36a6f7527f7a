"""What a file is by its content, whatever it is called."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

import sartor
from sartor.data.pictures.formats import HEAD_BYTES, advice_on, format_of
from sartor.data.pictures.preprocess import read_picture
from sartor.data.unlabelled import Unlabelled
from sartor.errors import DataError, PictureError
from sartor.files import write_bytes

RNG = np.random.default_rng(0)


def encoded(kind: str, size: tuple[int, int] = (16, 16)) -> bytes:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("needs a Pillow with AVIF")
    pixels = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


KINDS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "HEIF")


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_known_by_their_first_bytes(kind: str) -> None:
    assert format_of(encoded(kind)[:HEAD_BYTES]) == kind


@pytest.mark.parametrize(
    "content", [b"", b"B", b"BMW and other cars", b"P5x", b"hello", bytes(64), b"RIFF....WAVE"]
)
def test_others_are_none(content: bytes) -> None:
    assert format_of(content) == ""


def mixed_folder(root: Path) -> Path:
    """JPEGs named .HEIC, PNGs without a suffix or with a strange one, and what is no picture."""
    for number, name in enumerate(("one", "two")):
        (root / name).mkdir(parents=True)
        for index in range(4):
            write_bytes(root / name / f"{index}.HEIC", encoded("JPEG"))
            write_bytes(root / name / f"photo{index}", encoded("PNG"))
            write_bytes(root / name / f"{index}.jpg!large", encoded("WEBP"))
        write_bytes(root / name / f"notes{number}", b"nothing to see")
    return root


def test_a_folder_is_read_by_content(tmp_path: Path) -> None:
    said: list[str] = []
    dataset = sartor.load(mixed_folder(tmp_path), on_event=lambda event: said.append(str(event)))
    assert len(dataset) == 24
    assert "Took 16 files for pictures by their content" in " ".join(said)
    assert "Left out 2 files that are not pictures" in " ".join(said)


@pytest.mark.parametrize("pack", ["zip", "tar", "gztar"])
def test_an_archive_is_read_by_content(tmp_path: Path, pack: str) -> None:
    import shutil

    archive = shutil.make_archive(str(tmp_path / "packed"), pack, mixed_folder(tmp_path / "set"))
    assert len(sartor.load(archive)) == 24


def test_check_names_a_jpeg_called_heic(tmp_path: Path) -> None:
    report = sartor.check(mixed_folder(tmp_path), only=["files"])
    assert "8 JPEG named .heic" in report.findings[0].summary


def test_a_folder_to_predict_is_read_by_content(tmp_path: Path) -> None:
    assert len(list(Unlabelled([mixed_folder(tmp_path) / "one"]))) == 12


class TestHeif:
    def heif_folder(self, root: Path) -> Path:
        for name in ("one", "two"):
            (root / name).mkdir(parents=True)
            for index in range(4):
                write_bytes(root / name / f"{index}.heic", encoded("HEIF"))
        return root

    def test_is_read_with_the_extra(self, tmp_path: Path) -> None:
        dataset = sartor.load(self.heif_folder(tmp_path))
        assert dataset.shape == (3, 16, 16)

    def test_without_the_extra_it_is_named_with_advice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = self.heif_folder(tmp_path)
        monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        monkeypatch.setattr("sartor.data.pictures.formats.find_spec", lambda _name: None)
        with pytest.raises(DataError, match=r"0.heic is a HEIF picture.*sartor\[heif\]"):
            sartor.load(root)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS"),
        (b'<?xml version="1.0"?><svg width="3">', "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"\xff\x0a" + bytes(9), "a JPEG XL picture"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    advice: Any = advice_on(content)
    assert words in advice.what
    write_bytes(tmp_path / "odd.png", content)
    with pytest.raises(PictureError, match=words) as error:
        read_picture(tmp_path / "odd.png")
    assert error.value.hint == advice.hint
