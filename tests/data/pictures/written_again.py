"""Preprocess written a second time, from docs/preprocess.md only: no Pillow, no code of sartor.

It is slow and plain on purpose: what stands here can be carried over to any language. The numbers
in comments are the sections of the page.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]


class Png(NamedTuple):
    """What a PNG holds, before any decision."""

    samples: Pixels
    """(H, W, bands) as stored, in 0..2^bits - 1."""
    bits: int
    colour_type: int
    palette: Pixels | None
    transparent: bytes | None
    orientation: int


# 1. Decoding


def decode_png(content: bytes) -> Png:
    """Chunks, filters and samples of a PNG that is not interlaced."""
    chunks: list[tuple[bytes, bytes]] = []
    place = 8
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    named = dict(chunks)
    width, height, bits, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", named[b"IHDR"])
    assert not interlaced
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    data = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    rows = _unfiltered(data, height, (width * bands * bits + 7) // 8, max(1, bands * bits // 8))
    palette = named.get(b"PLTE")
    return Png(
        samples=_samples(rows, bits)[:, : width * bands].reshape(height, width, bands),
        bits=bits,
        colour_type=colour_type,
        palette=None if palette is None else np.frombuffer(palette, np.uint8).reshape(-1, 3),
        transparent=named.get(b"tRNS"),
        orientation=_orientation(named.get(b"eXIf", b"")),
    )


def _unfiltered(data: bytes, height: int, row_bytes: int, step: int) -> Pixels:
    rows = np.zeros((height, row_bytes), np.uint8)
    above = [0] * row_bytes
    for y in range(height):
        begin = y * (row_bytes + 1)
        kind, row = data[begin], list(data[begin + 1 : begin + 1 + row_bytes])
        for x in range(row_bytes):
            left = row[x - step] if x >= step else 0
            corner = above[x - step] if x >= step else 0
            guess = (0, left, above[x], (left + above[x]) // 2, _paeth(left, above[x], corner))
            row[x] = (row[x] + guess[kind]) & 255
        rows[y] = above = row
    return rows


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda one: abs(guess - one))


def _samples(rows: Pixels, bits: int) -> Pixels:
    if bits == 16:
        return rows.view(">u2").astype(np.int64)
    if bits == 8:
        return rows.astype(np.int64)
    single = np.unpackbits(rows, axis=1).reshape(len(rows), -1, bits).astype(np.int64)
    return np.asarray(single @ (1 << np.arange(bits)[::-1]))


def _orientation(exif: bytes) -> int:
    if not exif:
        return 1
    exif = exif.removeprefix(b"Exif\0\0")
    order = "<" if exif[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, start)
    for entry in range(count):
        tag, _, _, value = struct.unpack_from(order + "HHIH", exif, start + 2 + 12 * entry)
        if tag == 0x0112 and 1 <= value <= 8:
            return int(value)
    return 1


# 2. Upright


def upright(pixels: Pixels, orientation: int) -> Pixels:
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


# 3. Gray or colour of 8 bits


def flattened(png: Png, preprocess: dict[str, Any]) -> tuple[Pixels, int]:
    """uint8-valued (H, W) or (H, W, 3), and the level of the padding."""
    behind = {"white": 255, "black": 0}[preprocess["background"]]
    if png.colour_type == 0 and png.bits == 16:
        key = struct.unpack(">H", png.transparent) if png.transparent else ()
        gray = _scaled(png.samples[..., 0], key, behind, preprocess["value_range"])
        return gray, behind if key else 0
    colours, alpha = _rgb_and_alpha(png)
    if alpha is None:
        return colours, 0
    if png.colour_type == 3 and not (alpha < 255).any():
        return colours, 0
    mixed = _over(_as_colour(colours), alpha, behind)
    keyed = png.transparent is not None and png.colour_type in (0, 2)
    return mixed, behind if keyed or (alpha < 255).any() else 0


def _rgb_and_alpha(png: Png) -> tuple[Pixels, Pixels | None]:
    if png.colour_type == 3:
        assert png.palette is not None
        index = png.samples[..., 0]
        table = np.full(256, 255, np.int64)
        given = np.frombuffer(png.transparent or b"", np.uint8)
        table[: len(given)] = given
        return png.palette[index].astype(np.int64), table[index]
    eight = _to_8_bits(png.samples, png.bits)
    if png.colour_type in (4, 6):
        return eight[..., 0] if png.colour_type == 4 else eight[..., :3], eight[..., -1]
    colours = eight[..., 0] if png.colour_type == 0 else eight
    if png.transparent is None:
        return colours, None
    key = np.array(struct.unpack(f">{len(png.transparent) // 2}H", png.transparent))
    # As Pillow does: of gray below 8 bits, the key of 1 bit only is scaled as the samples are.
    key = key * 255 if png.bits == 1 else key & 255
    return colours, np.where((eight == key).all(-1), 0, 255)


def _to_8_bits(samples: Pixels, bits: int) -> Pixels:
    return samples >> 8 if bits == 16 else samples * (255 // ((1 << bits) - 1))


def _scaled(values: Pixels, key: tuple[int, ...], behind: int, value_range: list[float]) -> Pixels:
    fractions = bool(value_range) and max(map(abs, value_range)) <= 1
    low, high = value_range if value_range and not fractions else (0.0, 65535.0)
    shares = (values - low) / (high - low)
    if key:
        shares[values == key[0]] = behind / 255
    return np.clip(np.rint(shares * 255), 0, 255).astype(np.int64)


def _over(colours: Pixels, alpha: Pixels, behind: int) -> Pixels:
    """What is transparent, over the background."""
    a = alpha[..., None].astype(np.int64)
    total = 128 * (colours * a + behind * (255 - a)) + 0x4000
    return ((total >> 8) + total) >> 15


def _as_colour(pixels: Pixels) -> Pixels:
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def gray_of(pixels: Pixels) -> Pixels:
    if pixels.ndim == 2:
        return pixels
    weights = np.array([19595, 38470, 7471])
    return np.asarray((pixels.astype(np.int64) @ weights + 0x8000) >> 16)


# 4. Resampling

Box = tuple[float, float, float, float]
"""left, top, right, bottom."""


def resampled(
    pixels: Pixels, width: int, height: int, box: Box | None = None, resampling: str = "bicubic"
) -> Pixels:
    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
    tall, wide = pixels.shape[:2]
    if tall - height > 0 and tall - height > 2 * (wide - width):
        low = _along_columns(pixels, height, top, bottom, resampling)
        return _along_rows(low, width, left, right, resampling)
    narrow = _along_rows(pixels, width, left, right, resampling)
    return _along_columns(narrow, height, top, bottom, resampling)


def _along_columns(pixels: Pixels, size: int, begin: float, end: float, resampling: str) -> Pixels:
    return _along_rows(pixels.swapaxes(0, 1), size, begin, end, resampling).swapaxes(0, 1)


def _along_rows(pixels: Pixels, size: int, begin: float, end: float, resampling: str) -> Pixels:
    result = np.empty((pixels.shape[0], size, *pixels.shape[2:]), np.int64)
    kernels = coefficients(pixels.shape[1], size, begin, end, resampling)
    for x, (first, weights) in enumerate(kernels):
        total = np.full(result[:, 0].shape, 1 << 21, np.int64)
        for offset, weight in enumerate(weights):
            total = total + pixels[:, first + offset].astype(np.int64) * weight
        result[:, x] = np.clip(total >> 22, 0, 255)
    return result


def coefficients(
    length: int, size: int, begin: float, end: float, resampling: str = "bicubic"
) -> list[tuple[int, list[int]]]:
    """For each pixel of the result the first one that it is made of, and the weights."""
    begin, end = np.float32(begin), np.float32(end)
    scale = float(end - begin) / size
    stretch = max(scale, 1.0)
    reach, weight_at = FILTERS[resampling]
    support, found = reach * stretch, []
    for x in range(size):
        centre = float(begin) + (x + 0.5) * scale
        first = max(0, math.trunc(centre - support + 0.5))
        last = min(length, math.trunc(centre + support + 0.5))
        weights = [weight_at((at - centre + 0.5) * (1 / stretch)) for at in range(first, last)]
        total = 0.0
        for weight in weights:
            total += weight
        fixed = [weight / total * (1 << 22) for weight in weights]
        found.append((first, [math.trunc(w - 0.5 if w < 0 else w + 0.5) for w in fixed]))
    return found


def bicubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0


def bilinear(x: float) -> float:
    return max(0.0, 1 - abs(x))


def box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


FILTERS = {"bicubic": (2.0, bicubic), "bilinear": (1.0, bilinear), "box": (0.5, box)}


# 5. Ways of resizing


def resized(
    pixels: Pixels, width: int, height: int, way: str, padding: int, resampling: str = "bicubic"
) -> Pixels:
    tall, wide = pixels.shape[:2]
    if (tall, wide) == (height, width):
        return pixels
    if way == "stretch":
        return resampled(pixels, width, height, None, resampling)
    if way == "crop":
        return resampled(pixels, width, height, crop_box(wide, tall, width / height), resampling)
    scale = min(width / wide, height / tall)
    inner_width, inner_height = max(1, round(wide * scale)), max(1, round(tall * scale))
    left, top = round((width - inner_width) / 2), round((height - inner_height) / 2)
    canvas = np.full((height, width, *pixels.shape[2:]), padding, np.int64)
    inner = resampled(pixels, inner_width, inner_height, None, resampling)
    canvas[top : top + inner_height, left : left + inner_width] = inner
    return canvas


def crop_box(wide: int, tall: int, wanted: float) -> Box:
    ratio = wide / tall
    across = wanted * tall if ratio > wanted else wide
    down = wide / wanted if ratio < wanted else tall
    left, top = (wide - across) * 0.5, (tall - down) * 0.5
    return left, top, left + across, top + down


# All of it


def prepared(content: bytes, preprocess: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """A PNG as uint8 (H, W, C); for preprocess without ink."""
    png = decode_png(content)
    png = png._replace(samples=upright(png.samples, png.orientation))
    pixels, padding = flattened(png, preprocess)
    if preprocess["channels"] == 1:
        pixels = gray_of(pixels)
    size = preprocess["width"], preprocess["height"]
    pixels = resized(
        pixels, *size, preprocess["resize"], padding, preprocess.get("resampling", "bicubic")
    )
    shaped = pixels.reshape(*pixels.shape[:2], -1)
    repeats = preprocess["channels"] // shaped.shape[2]
    return np.repeat(shaped, repeats, axis=2).astype(np.uint8)
