"""Make the test vectors of preprocess: small PNGs, and what each becomes.

    python tests/vectors/make_vectors.py

The pictures are written byte by byte, without Pillow, so that every kind of PNG is among them. What
they become is what sartor makes of them; docs/preprocess.md says how, and the tests hold both a
second implementation and sartor itself to these files.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sartor.data.pictures.preprocess import Preprocess

FOLDER = Path(__file__).parent / "preprocess"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
_BANDS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
Samples = npt.NDArray[np.int64]


def way(**changes: Any) -> Preprocess:
    """A preprocess with what is usual, but for `changes`."""
    usual: dict[str, Any] = {"channels": 1, "height": 12, "width": 12, "resize": "letterbox"}
    return Preprocess(**usual | {"mean": (0.0,), "std": (1.0,)} | changes)


WAYS = {
    "gray-letterbox": way(),
    "colour-letterbox-on-black": way(channels=3, height=14, width=10, background="black"),
    "colour-letterbox-on-white": way(channels=3, height=8, width=16),
    "colour-crop": way(channels=3, height=9, width=9, resize="crop"),
    "gray-crop": way(height=11, width=7, resize="crop", background="black"),
    "colour-stretch": way(channels=3, height=8, width=8, resize="stretch"),
    "range": way(value_range=(100.0, 5000.0)),
    "ink-mass": way(height=28, width=28, ink="mass"),
    "ink-box": way(height=8, width=8, ink="box"),
}
PLAIN = tuple(name for name in WAYS if not name.startswith(("ink", "range")))


def noise(height: int, width: int, bands: int, top: int, seed: int) -> Samples:
    """Smooth shapes with grain, in 0..top; the same on every machine."""
    y, x, band = np.meshgrid(*map(np.arange, (height, width, bands)), indexing="ij")
    wave = ((x * 7 + y * 5 + band * 31 + seed * 13) % 64) / 63
    grain = ((x * 7919 + y * 104729 + band * 1299709 + seed * 15485863) % 997) / 996
    block = ((x // 5 + y // 4 + band + seed) % 3) / 2
    return np.asarray((0.4 * wave + 0.25 * grain + 0.35 * block) * top, np.int64)


def png(
    samples: Samples,
    bits: int,
    colour_type: int,
    *,
    palette: Samples | None = None,
    transparent: bytes = b"",
    orientation: int = 0,
    mark: bytes = b"",
) -> bytes:
    """A PNG of samples (H, W, bands), rows filtered by each of the five filters in turn."""
    height, width, bands = samples.shape
    assert bands == _BANDS[colour_type]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    step = max(1, bands * bits // 8)
    parts = [_chunk(b"IHDR", header)]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    if transparent:
        parts.append(_chunk(b"tRNS", transparent))
    if orientation:
        parts.append(_chunk(b"eXIf", mark + _exif(orientation)))
    parts.append(_chunk(b"IDAT", zlib.compress(_filtered(_rows(samples, bits), step), 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    sum_ = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", sum_)


def _exif(orientation: int) -> bytes:
    """Big-endian where odd, to have both."""
    order, mark = (">", b"MM\0*") if orientation % 2 else ("<", b"II*\0")
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def _rows(samples: Samples, bits: int) -> list[bytes]:
    flat = samples.reshape(len(samples), -1)
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in flat]
    if bits == 8:
        return [row.astype(np.uint8).tobytes() for row in flat]
    shifts = np.arange(bits)[::-1]
    single = (flat[..., None] >> shifts & 1).reshape(len(flat), -1)
    return [np.packbits(row).tobytes() for row in single]


def _filtered(rows: list[bytes], step: int) -> bytes:
    parts, above = [], bytes(len(rows[0]))
    for number, row in enumerate(rows):
        left = bytes(step) + row[:-step]
        corner = bytes(step) + above[:-step]
        kind = number % 5
        guesses = (
            (0, a, b, (a + b) // 2, _paeth(a, b, c))[kind]
            for a, b, c in zip(left, above, corner, strict=False)
        )
        parts.append(bytes([kind, *((x - g) & 255 for x, g in zip(row, guesses, strict=False))]))
        above = row
    return b"".join(parts)


def _paeth(left: int, above: int, corner: int) -> int:
    near = left + above - corner
    return min((left, above, corner), key=lambda one: abs(near - one))


def page(height: int, width: int, *, ink: int, paper: int) -> Samples:
    """A 7 with a crossing, written small in a corner of a page."""
    canvas = np.full((height, width, 1), paper, np.int64)
    tall, wide = height // 3, width // 4
    top, left = height // 8, width // 2
    canvas[top : top + 3, left : left + wide] = ink
    for row in range(tall):
        at = left + wide - 3 - row * (wide - 6) // tall
        canvas[top + row, at : at + 3] = ink
    canvas[top + tall // 2, left + 2 : left + wide - 2] = (ink + paper) // 2
    return canvas


def pictures() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    """Name, content, and the ways of preparing it."""
    yield "gray_61x37.png", png(noise(37, 61, 1, 255, 1), 8, GRAY), PLAIN
    yield "gray_3x5.png", png(noise(5, 3, 1, 255, 2), 8, GRAY), PLAIN
    yield "gray_1x1.png", png(noise(1, 1, 1, 255, 3), 8, GRAY), PLAIN
    yield "gray_same_size.png", png(noise(12, 12, 1, 255, 4), 8, GRAY), PLAIN
    for bits in (1, 2, 4):
        samples = noise(21, 33, 1, 2**bits - 1, bits)
        yield f"gray_{bits}bit.png", png(samples, bits, GRAY), PLAIN
    for bits, key in ((1, 0), (2, 1), (4, 0), (8, 60)):
        samples = noise(20, 26, 1, 2**bits - 1, 5)
        samples[4:9, 3:12] = key
        keyed = png(samples, bits, GRAY, transparent=struct.pack(">H", key))
        yield f"gray_{bits}bit_key_{key}.png", keyed, PLAIN
    deep = noise(29, 31, 1, 65535, 6)
    yield "gray_16bit.png", png(deep, 16, GRAY), (*PLAIN, "range")
    yield "gray_16bit_dim.png", png(deep // 12, 16, GRAY), (*PLAIN, "range")
    deep[3:9, 4:20] = 777
    keyed = png(deep, 16, GRAY, transparent=struct.pack(">H", 777))
    yield "gray_16bit_key.png", keyed, (*PLAIN, "range")
    yield "gray_alpha.png", png(noise(18, 25, 2, 255, 7), 8, GRAY_ALPHA), PLAIN
    yield "gray_alpha_16bit.png", png(noise(18, 25, 2, 65535, 8), 16, GRAY_ALPHA), PLAIN
    yield "rgb_40x64.png", png(noise(64, 40, 3, 255, 9), 8, RGB), PLAIN
    yield "rgb_16bit.png", png(noise(23, 19, 3, 65535, 10), 16, RGB), PLAIN
    yield "rgb_thin_150x1.png", png(noise(1, 150, 3, 255, 11), 8, RGB), PLAIN
    yield "rgb_thin_2x97.png", png(noise(97, 2, 3, 255, 12), 8, RGB), PLAIN
    coloured = noise(16, 22, 3, 255, 13)
    coloured[2:7, 5:15] = (200, 10, 90)
    of_key = struct.pack(">HHH", 200, 10, 90)
    yield "rgb_key.png", png(coloured, 8, RGB, transparent=of_key), PLAIN
    yield "rgb_16bit_key.png", png(coloured * 257, 16, RGB, transparent=of_key), PLAIN
    yield "rgba.png", png(noise(27, 35, 4, 255, 14), 8, RGBA), PLAIN
    yield "rgba_16bit.png", png(noise(13, 17, 4, 65535, 15), 16, RGBA), PLAIN
    solid = noise(15, 28, 4, 255, 16)
    solid[..., 3] = 255
    yield "rgba_opaque.png", png(solid, 8, RGBA), PLAIN
    cut = noise(30, 24, 4, 255, 17)
    cut[..., 3] = np.where(cut[..., 3] > 110, 255, 0)
    yield "rgba_cut_out.png", png(cut, 8, RGBA), PLAIN
    colours = noise(16, 3, 1, 255, 18)[..., 0]
    indices = noise(26, 37, 1, 15, 19)
    yield "palette.png", png(indices, 4, PALETTE, palette=colours), PLAIN
    alphas = bytes([0, 40, 255, 128, 200])
    with_alpha = png(indices, 4, PALETTE, palette=colours, transparent=alphas)
    yield "palette_alpha.png", with_alpha, PLAIN
    many = noise(256, 3, 1, 255, 20)[..., 0]
    yield "palette_256.png", png(noise(19, 45, 1, 255, 21), 8, PALETTE, palette=many), PLAIN
    few = png(noise(14, 11, 1, 1, 22), 1, PALETTE, palette=colours[:2])
    yield "palette_1bit.png", few, PLAIN
    for orientation in range(2, 9):
        turned = png(noise(9, 16, 3, 255, 23), 8, RGB, orientation=orientation)
        yield f"exif_{orientation}.png", turned, ("gray-letterbox", "colour-crop")
    turned = png(noise(9, 16, 3, 255, 23), 8, RGB, orientation=6, mark=b"Exif\0\0")
    yield "exif_6_marked.png", turned, ("gray-letterbox",)
    turned = png(noise(20, 31, 2, 255, 24), 8, GRAY_ALPHA, orientation=6)
    yield "exif_6_alpha.png", turned, PLAIN
    turned = png(noise(21, 30, 1, 65535, 25), 16, GRAY, orientation=8)
    yield "exif_8_16bit.png", turned, (*PLAIN, "range")
    inks = ("ink-mass", "ink-box")
    yield "ink_on_paper.png", png(page(90, 120, ink=30, paper=235), 8, GRAY), inks
    yield "ink_on_board.png", png(page(70, 64, ink=240, paper=20), 8, GRAY), inks
    on_nothing = np.repeat(page(80, 60, ink=0, paper=0), 4, axis=2)
    on_nothing[..., 3] = page(80, 60, ink=255, paper=0)[..., 0]
    yield "ink_on_nothing.png", png(on_nothing, 8, RGBA), inks
    yield "ink_none.png", png(np.full((40, 50, 1), 128, np.int64), 8, GRAY), inks
    uneven = page(96, 80, ink=0, paper=0)[..., 0] + np.arange(96)[:, None] // 2 + 120
    seven = page(96, 80, ink=1, paper=0)[..., 0] > 0
    uneven = np.where(seven, uneven // 3, uneven)[..., None]
    yield "ink_in_the_shade.png", png(uneven, 8, GRAY), inks


def vectors() -> list[dict[str, Any]]:
    """A row for each picture and way: what the picture becomes."""
    rows = []
    for name, content, names in pictures():
        for one in names:
            pixels = WAYS[one].encoded(content, name).transpose(1, 2, 0)
            encoded = base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()
            rows.append({"file": name, "preprocess": one, "pixels": encoded})
    return rows


def main() -> None:
    """Write the pictures and `vectors.json`."""
    FOLDER.mkdir(exist_ok=True)
    for name, content, _ in pictures():
        (FOLDER / name).write_bytes(content)
    ways = {name: asdict(one) for name, one in WAYS.items()}
    lines = ",\n".join(json.dumps(row) for row in vectors())
    described = json.dumps(ways, indent=1)
    text = f'{{"preprocess": {described},\n"vectors": [\n{lines}\n]}}\n'
    (FOLDER / "vectors.json").write_text(text)


if __name__ == "__main__":
    main()
