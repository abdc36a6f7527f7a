"""What a file is by its first bytes, whatever it is called; and advice on what cannot be read."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

HEAD_BYTES = 512
"""So many bytes are enough for everything here."""
MAX_FILE_BYTES = 1 << 30
"""A larger file is refused before it is read: 100 megapixels of 3 x 16 bits take 600 MB."""
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"qoif", "QOI"),
    (b"8BPS", "PSD"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


class Advice(NamedTuple):
    """What a file is that is not a picture for us, and what to do about it."""

    what: str
    """Follows "NAME is"."""
    hint: str


_TO_PNG = "Convert it to PNG."
_OTHERS: tuple[tuple[bytes, Advice], ...] = (
    (b"%PDF", Advice("not a picture, but a PDF document", "Save its pages as PNG.")),
    (
        b"version https://git-lfs",
        Advice("not a picture, but a pointer of Git LFS", "Fetch the file: git lfs pull"),
    ),
    (b"\xff\x0a", Advice("a JPEG XL picture, which Pillow cannot read", _TO_PNG)),
    (b"\0\0\0\x0cJXL ", Advice("a JPEG XL picture, which Pillow cannot read", _TO_PNG)),
    (b"v/1\x01", Advice("an OpenEXR picture, which Pillow cannot read", "Convert it to TIFF.")),
    (b"PK\3\4", Advice("not a picture, but a zip archive", "Unpack it first.")),
    (b"\x1f\x8b", Advice("not a picture, but compressed by gzip", "Unpack it first.")),
    (
        b"\x93NUMPY",
        Advice(
            "not a picture, but a NumPy array", "Save all of them by numpy.savez(FILE, x=, y=)."
        ),
    ),
    (b"\x1aE\xdf\xa3", Advice("not a picture, but a video", "Save its frames as pictures.")),
)


def format_of(head: bytes) -> str:
    """The format of a picture, by Pillow's name, from its first bytes; "" for anything else."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            # Two letters alone may also begin a text.
            return name if name != "BMP" or head[6:10] == b"\0\0\0\0" else ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    return _of_container(head)


def _of_container(head: bytes) -> str:
    """HEIF or AVIF; "" for other files that are built like these, such as videos."""
    if head[4:8] != b"ftyp":
        return ""
    length = int.from_bytes(head[:4])
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(length, len(head)), 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "AVIF"
    return "HEIF" if any(brand in _HEIF_BRANDS for brand in brands) else ""


def advice_on(content: bytes) -> Advice | None:
    """What content is that Pillow does not read; None where nothing is known of it."""
    head = content[:HEAD_BYTES]
    kind = format_of(head)
    if kind in ("HEIF", "AVIF"):
        article = "an" if kind == "AVIF" else "a"
        return Advice(
            f"{article} {kind} picture, which needs pillow-heif: pip install 'sartor[heif]'",
            "Install it, or convert the picture to JPEG.",
        )
    if head[128:132] == b"DICM":
        return Advice("not a picture, but a DICOM file", "Convert its picture to PNG or TIFF.")
    if head[4:8] == b"ftyp":
        return Advice("not a picture, but a video", "Save its frames as pictures.")
    for signature, advice in _OTHERS:
        if head.startswith(signature):
            return advice
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        return Advice("not a picture, but an SVG drawing", _TO_PNG)
    if text.startswith((b"<!doctype html", b"<html")):
        return Advice("not a picture, but a web page", "Download the picture itself.")
    return None


def read_by_extra(head: bytes) -> None:
    """Teach Pillow the format of a picture that an optional library reads, if it is there."""
    kind = format_of(head)
    if kind in ("HEIF", "AVIF") and find_spec("pillow_heif"):
        import_module("pillow_heif").register_heif_opener()
