"""Whether a file holds all the pixels that it announces: what decoders accept in silence."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from struct import unpack_from

from PIL import Image

_SIGNATURE_BYTES = 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By the colour type of a PNG."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
_PASSES = (*_ADAM7, (0, 1, 1, 2))
"""x and y of the first pixel, and steps in x and y, of each pass of an interlaced PNG."""
_PIECE = 1 << 20
_FILL = (127, 128)
"""What libjpeg gives the channels of pixels whose data is missing; 127 where ink is inverted."""
_END_OF_JPEG, _MORE_DATA = b"\xff\xd9", b"\x55" * 4096


def missing_pixels(picture: Image.Image, content: bytes) -> str:
    """Why a loaded picture is not whole although its decoder did not complain; "" where it is.

    Of a PNG, any flipped bit and any missing row is found. Of a JPEG that is not progressive, the
    end of the data before the last block; what a flipped bit in its data makes is a picture like
    any other, as in most formats without checksums (BMP, TIFF, GIF, WebP).
    """
    if picture.format == "PNG":
        return _fault_of_png(picture, content)
    if picture.format in ("JPEG", "MPO") and _ends_in_fill(picture):
        return _fault_of_jpeg(content)
    return ""


def _fault_of_png(picture: Image.Image, content: bytes) -> str:
    kinds, data = [], []
    for kind, body, sound in _chunks(content):
        # Broken remarks beside whole pixels harm nobody.
        if not sound and (kind[:1].isupper() or kind == b"tRNS"):
            return f"a checksum does not match (chunk {kind.decode('latin-1')})"
        kinds.append(kind)
        if kind == b"IDAT":
            data.append(body)
    if kinds[-1:] != [b"IEND"]:
        return "the end of the file is missing"
    width, height, bits, colour, _, _, interlaced = unpack_from(">IIBBBBB", content, 16)
    # Rows that the data does not reach stay zero, so only then need they be counted.
    if not interlaced and not _last_row_is_zero(picture):
        return ""
    expected = _bytes_of_rows(width, height, bits * _CHANNELS.get(colour, 1), bool(interlaced))
    return "" if _inflates_to(data, expected) else "its data ends before the last row"


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Kind, body, and whether the checksum matches, of each whole chunk up to the last."""
    view, place = memoryview(content), _SIGNATURE_BYTES
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        kind, end = content[place + 4 : place + 8], place + 8 + length
        if end + 4 > len(content):
            return
        sum_ = int.from_bytes(content[end : end + 4])
        yield kind, view[place + 8 : end], zlib.crc32(view[place + 4 : end]) == sum_
        if kind == b"IEND":
            return
        place = end + 4


def _last_row_is_zero(picture: Image.Image) -> bool:
    return picture.crop((0, picture.height - 1, *picture.size)).getbbox() is None


def _bytes_of_rows(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of all rows, each after the byte that names its filter."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, step_x, step_y in passes:
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _inflates_to(data: list[memoryview], expected: int) -> bool:
    """Whether the data has so many bytes when inflated; never holding more than a piece of it.

    What comes after them is not looked at: a small file may inflate to more than a disk holds.
    """
    inflating, total = zlib.decompressobj(), 0
    for part in data:
        rest: bytes | memoryview = part
        while rest and not inflating.eof:
            total += len(inflating.decompress(rest, _PIECE))
            if total >= expected:
                return True
            rest = inflating.unconsumed_tail
    return total + len(inflating.flush(_PIECE)) >= expected


def _ends_in_fill(picture: Image.Image) -> bool:
    last = picture.getpixel((picture.width - 1, picture.height - 1))
    return all(value in _FILL for value in (last if isinstance(last, tuple) else (last,)))


def _fault_of_jpeg(content: bytes) -> str:
    """Compare with the same data and more behind it: only a decoder that lacks some takes it."""
    end = content.rfind(_END_OF_JPEG)
    longer = content[:end] + _MORE_DATA + _END_OF_JPEG
    same = end < 0 or _sum_of_pixels(content) == _sum_of_pixels(longer)
    return "" if same else "its data ends before the last row"


def _sum_of_pixels(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as picture:
        # There the data that is missing would only have sharpened the picture.
        return 0 if picture.info.get("progressive") else zlib.crc32(picture.tobytes())
