"""PNG for very many small images: written in a third of the time that Pillow takes."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from ...arrays import UInt8Array

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _COLOUR = 0, 2
_UP = 2
"""The filter that takes from each row the one above it."""


def png_of(image: UInt8Array) -> bytes:
    """An image uint8 (C, H, W) of 1 or 3 channels as a PNG, without loss (W3C PNG, 3rd edition)."""
    channels, height, width = image.shape
    pixels = image.transpose(1, 2, 0).reshape(height, width * channels)
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    # Runs only: what deflate finds besides in filtered rows is not worth its time.
    deflating = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    data = deflating.compress(rows.data) + deflating.flush()
    kind = _COLOUR if channels == 3 else _GRAY
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"".join(
        [_SIGNATURE, _chunk(b"IHDR", head), _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
