"""How a picture becomes the model's input: the same steps in training and ever after."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ...arrays import Float32Array, UInt8Array
from ...errors import RecipeError
from ..settings import PreprocessSettings
from .decode import (
    Header,
    decode_picture,
    header_of,
    one_at_a_time,
    opened,
    quiet_decoding,
    read_content,
    upright,
)
from .flattening import LEVELS, ValueRange, flattened, has_transparency
from .resampling import crop_box, resampled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_INK_PIXELS = 1200
"""A side that a picture of ink is reduced to at most while it is decoded."""
_SPARE = 1.9
"""A JPEG is decoded at no less than so many times the size that is wanted of it. What comes of it
differs from a full decoding as little as Lanczos does from bicubic; and 500 pixels, the usual side
of a photograph in a dataset, can be decoded at a quarter for 64."""


class Normalizer:
    """uint8 (B, C, H, W) -> float32: pixel * scale + shift."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        """Both float32 (C, 1, 1), as `Preprocess.scale_and_shift` gives them."""
        self.scale, self.shift = scale, shift
        # A plain number is half the price of a broadcast tensor.
        single = scale.numel() == 1
        self._factor, self._offset = (one.item() if single else one for one in (scale, shift))
        self._shifts = bool(shift.any())

    def __call__(self, images: Tensor) -> Tensor:
        """The images as the network takes them, in memory of their own."""
        scaled = images.float().mul_(self._factor)
        return scaled.add_(self._offset) if self._shifts else scaled

    @cached_property
    def of_channels(self) -> tuple[Float32Array, Float32Array]:
        """Scale and shift as arrays (C,), for the engine native."""
        return self.scale.flatten().cpu().numpy(), self.shift.flatten().cpu().numpy()


class Decoded(NamedTuple):
    """An encoded picture that became an image, and what its file says of it."""

    pixels: UInt8Array
    """uint8 (C, H, W)."""
    header: Header


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Geometry and colour of the model's input, with nothing left open.

    Every way of resizing uses one of Pillow's filters with antialiasing. docs/preprocess.md says
    it all, so that it can be written again in another language.
    """

    channels: int
    height: int
    width: int
    resize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    background: str = "white"
    """What lies behind transparent areas: white or black."""
    value_range: tuple[float, ...] = ()
    """Numbers that become black and white in pictures of more than 8 bits; () for what is usual."""
    ink: str = "off"
    """How ink on paper is prepared: mass or box, see `ink.py`; or off."""
    resampling: str = "bicubic"
    """Pillow's filter of resizing."""

    @classmethod
    def from_settings(cls, settings: PreprocessSettings) -> Preprocess:
        """From settings in which size and channels are filled in; no mean is 0, no std is 1, and
        an open background is white, and ink is left alone where nothing is said.

        Raises:
            RecipeError: mean or std have neither one number nor one a channel.
        """
        channels = settings.channels or 1
        height, width = settings.image_size
        statistics = {"mean": settings.mean or (0.0,), "std": settings.std or (1.0,)}
        problems = [
            f"{name} must be one number or {channels}, one a channel, not {len(values)}"
            for name, values in statistics.items()
            if len(values) not in (1, channels)
        ]
        if problems:
            raise RecipeError(problems, "Leave mean and std out to have them measured.")
        mean, std = (v if len(v) == channels else v * channels for v in statistics.values())
        return cls(
            channels=channels,
            height=height,
            width=width,
            resize=settings.resize,
            mean=mean,
            std=std,
            background="white" if settings.background == "auto" else settings.background,
            value_range=settings.value_range,
            ink="off" if settings.ink == "auto" else settings.ink,
            resampling=settings.resampling,
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width

    def picture(self, picture: Image.Image, *, invert: bool = False) -> UInt8Array:
        """One picture of any size and mode as uint8 (C, H, W).

        `invert` turns dark-on-light into light-on-dark, before any padding is added. What was
        transparent has the colour of the background in the end, and pictures that have such areas
        are padded with it, others with black. Where ink is prepared it is found on dark and on
        light; a picture without any is resized as others are.
        """
        inked = self._inked(picture, invert=invert) if self.ink != "off" else None
        return self._fitted(picture, invert=invert) if inked is None else inked

    def _inked(self, picture: Image.Image, *, invert: bool) -> UInt8Array | None:
        """The ink of a picture as uint8 (C, H, W); None where there is none."""
        # scipy.ndimage takes long to import, and few pictures are ink on paper.
        from .ink import ink_picture

        # On a transparent picture it shows against white or against black.
        for behind in (255, 0) if has_transparency(picture) else (255,):
            flat = flattened(picture, background=behind, value_range=self._range_for(picture))
            # Ink is found either way; what is prepared but for this stays as it is.
            flat = ImageOps.invert(flat) if invert else flat
            found = ink_picture(flat, self.height, self.width, self.ink)
            if found is not None:
                return np.repeat(found[None], self.channels, axis=0)
        return None

    def _fitted(self, picture: Image.Image, *, invert: bool = False) -> UInt8Array:
        """The whole picture at the input's size."""
        behind = LEVELS[self.background]
        padding = behind if has_transparency(picture) else 0
        flat = flattened(
            picture,
            background=255 - behind if invert else behind,
            value_range=self._range_for(picture),
        )
        # Gray becomes colour when it is small, which comes to the same.
        if self.channels == 1 and flat.mode != "L":
            flat = flat.convert("L")
        if invert:
            flat = ImageOps.invert(flat)
        if flat.size != (self.width, self.height):
            flat = self._resized(flat, padding)
        pixels = np.asarray(flat, dtype=np.uint8)
        if flat.mode == "L":
            return np.repeat(pixels[None], self.channels, axis=0)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def read(self, path: Path, *, invert: bool = False) -> UInt8Array:
        """As `encoded`, from a file.

        Raises:
            PictureError: no such file, not a picture, damaged, or too large.
        """
        return self.encoded(read_content(path), str(path), invert=invert)

    def encoded(self, content: bytes, name: str, *, invert: bool = False) -> UInt8Array:
        """One encoded picture (JPEG, PNG, ...) as uint8 (C, H, W), in training and ever after.

        Raises:
            PictureError: not a picture, damaged, or too large; the sentence begins with `name`.
        """
        with quiet_decoding():
            return self.seen(content, name, invert=invert).pixels

    def from_stranger(self, content: bytes, name: str, *, max_pixels: int) -> UInt8Array:
        """As `encoded`, safe in several threads inside one `quiet_decoding`.

        Nothing is looked at but the first frame, for a small file may have millions of them.

        Raises:
            TooManyPixels: more than `max_pixels`, in which case nothing was decoded.
        """
        with opened(content, name, max_pixels=max_pixels) as picture, one_at_a_time(picture):
            return self.picture(upright(picture, content, enough=self.enough))

    def seen(self, content: bytes, name: str, *, invert: bool = False) -> Decoded:
        """As `encoded`, with the header; safe in several threads inside one `quiet_decoding`."""
        # Even the header's EXIF tag may stand behind the pixels, which are then decoded for it.
        with opened(content, name) as picture, one_at_a_time(picture):
            header = header_of(picture, content)
            whole = upright(picture, content, enough=self.enough)
            return Decoded(self.picture(whole, invert=invert), header)

    def enough(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) that a picture of this size may be reduced to while it is decoded."""
        if self.ink != "off":
            # What was written may be a small part of it.
            return min(width, _INK_PIXELS), min(height, _INK_PIXELS)
        across, down = self.width / width, self.height / height
        if self.resize != "stretch":
            across = down = min(across, down) if self.resize == "letterbox" else max(across, down)
        return math.ceil(_SPARE * width * across), math.ceil(_SPARE * height * down)

    def images(self, images: UInt8Array) -> UInt8Array:
        """A dataset's images (N, C, H, W), brought to the input's size and channels; uint8.

        Their ink was prepared when the set was made.
        """
        return self._all(images, self._fitted)

    def pictures(self, images: UInt8Array) -> UInt8Array:
        """The same of images (N, C, H, W) that no set prepared, where they have another size."""
        return self._all(images, self.picture)

    def _all(self, images: UInt8Array, prepare: Callable[[Image.Image], UInt8Array]) -> UInt8Array:
        if images.shape[1:] == self.input_shape:
            return images
        prepared = np.empty((len(images), *self.input_shape), np.uint8)
        for index, image in enumerate(images):
            prepared[index] = prepare(as_picture(image))
        return prepared

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """float32 (C, 1, 1) each: pixel * scale + shift is (pixel / 255 - mean) / std."""
        import torch

        std = torch.tensor(self.std, dtype=torch.float64).view(-1, 1, 1)
        mean = torch.tensor(self.mean, dtype=torch.float64).view(-1, 1, 1)
        return (1 / (255 * std)).float(), (-mean / std).float()

    def normalizer(self, device: torch.device | str) -> Normalizer:
        """A function uint8 (B, C, H, W) -> float32 on `device`: (pixel / 255 - mean) / std."""
        return Normalizer(*(one.to(device) for one in self.scale_and_shift()))

    def _range_for(self, picture: Image.Image) -> ValueRange | None:
        """The range of values, which says nothing of integers where it is one of fractions."""
        if not self.value_range:
            return None
        low, high = self.value_range
        fractions = max(abs(low), abs(high)) <= 1
        return None if fractions and not picture.mode.startswith("F") else (low, high)

    def _resized(self, picture: Image.Image, padding: int) -> Image.Image:
        size, filter_ = (self.width, self.height), Image.Resampling[self.resampling.upper()]
        if self.resize == "letterbox":
            return _letterboxed(picture, size, padding, filter_)
        if self.resize == "crop":
            return resampled(picture, size, filter_, crop_box(picture, size))
        return resampled(picture, size, filter_)


def as_picture(image: UInt8Array) -> Image.Image:
    """A uint8 image (C, H, W) with 1 or 3 channels as a picture."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def read_picture(path: Path, preprocess: Preprocess | None = None) -> Image.Image:
    """A file's picture, upright; with `preprocess` decoded no larger than that needs it.

    Raises:
        PictureError: no such file, not a picture, damaged, or too large.
    """
    enough = preprocess.enough if preprocess else None
    return decode_picture(read_content(path), str(path), enough)


def _letterboxed(
    picture: Image.Image, size: tuple[int, int], padding: int, filter_: Image.Resampling
) -> Image.Image:
    """As `ImageOps.pad`, which loses a picture so thin that less than half a pixel is left."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    corner = round((size[0] - width) / 2), round((size[1] - height) / 2)
    canvas = Image.new(picture.mode, size, (padding,) * len(picture.getbands()))
    canvas.paste(resampled(picture, (width, height), filter_), corner)
    return canvas
