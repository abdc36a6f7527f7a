"""From the bytes of a file to an upright picture, decoded no larger than it is needed."""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ...errors import PictureError
from .formats import HEAD_BYTES, MAX_FILE_BYTES, advice_on, read_by_extra
from .integrity import missing_pixels

MAX_PIXELS = 100_000_000
"""A picture with more is refused before it is decoded; 100 megapixels take 400 MB as RGB."""
_PROGRAMS = ("EPS", "WMF")
"""Formats that are programs, which other software would have to run."""
_SCALABLE = ("JPEG", "MPO")
"""Formats that can be decoded at a half, a quarter or an eighth of their size, at a lower price."""
_NOT_EXIF = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Other places where a file may name an orientation."""
LARGE = 16_000_000
# Beyond what malloc keeps for later, so that a large picture's memory goes back to the system.
Image.core.set_block_size(1 << 26)  # type: ignore[attr-defined]
_one_large_picture = threading.RLock()
"""Held while a picture of more than `LARGE` pixels is decoded: memory for one of them will do."""

Enough = Callable[[int, int], tuple[int, int]]
"""(width, height) of an upright picture -> (width, height) that a smaller decoding must reach."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of its picture before any pixel is decoded."""

    format: str
    mode: str
    width: int
    """As stored, before the EXIF tag turns the picture."""
    height: int
    orientation: int
    """Of the EXIF tag, 1 to 8; 1 where there is none that makes sense."""
    bits: int
    """Of each channel."""
    frames: int

    @property
    def turned(self) -> bool:
        """Whether width and height change places when the picture is upright."""
        return self.orientation >= 5

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) as it is meant to be seen."""
        return (self.height, self.width) if self.turned else (self.width, self.height)


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Without Pillow's warnings: of many pixels, where our own limit counts, and of damaged tags
    beside whole pixels. To be entered by only one thread, since filters belong to the process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class TooManyPixels(PictureError):  # noqa: N818  (what it says)
    """A picture that is refused before it is decoded."""


@contextmanager
def opened(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The picture with its header read; whatever its decoders raise inside becomes a PictureError.

    Raises:
        PictureError: not a picture, or damaged; the sentence begins with `name`.
        TooManyPixels: it has more than `max_pixels`.
    """
    if not content:
        raise PictureError(f"{name} is empty.", "Leave it out or replace it.")
    read_by_extra(content[:HEAD_BYTES])
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.format in _PROGRAMS:
                raise _not_a_picture(name, content)
            _check_size(name, picture, max_pixels)
            yield picture
    except PictureError:
        raise
    except MemoryError:
        raise no_memory_for(name) from None
    except UnidentifiedImageError:
        raise _not_a_picture(name, content) from None
    except Image.DecompressionBombError:
        raise TooManyPixels(f"{name} has too many pixels.", _too_large_hint(max_pixels)) from None
    except Exception as error:  # Pillow's decoders leave with all sorts on damaged files
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise PictureError(f"{name} is damaged: {reason}.", "Leave it out or replace it.") from None


def header_of(picture: Image.Image, content: bytes) -> Header:
    """What the file says of an `opened` picture that is not loaded yet."""
    return Header(
        format=picture.format or "",
        mode=picture.mode,
        width=picture.width,
        height=picture.height,
        orientation=_orientation(picture),
        bits=_bits(picture, content),
        frames=_frames(picture),
    )


def upright(picture: Image.Image, content: bytes, *, enough: Enough | None = None) -> Image.Image:
    """The pixels of an `opened` picture, turned as its EXIF tag says; the first of several frames.

    With `enough`, a JPEG may come at a half, a quarter or an eighth of its size, never below what
    `enough` says. Palettes become colours.
    """
    turned = _orientation(picture) >= 5
    if enough and picture.format in _SCALABLE:
        wanted = enough(*(picture.size[::-1] if turned else picture.size))
        picture.draft(None, wanted[::-1] if turned else wanted)
    with one_at_a_time(picture):
        picture.load()
        missing = missing_pixels(picture, content)
        if missing:
            raise ValueError(missing)
        # Now, while the name is known: a damaged file may point outside its palette.
        colours = picture.convert("RGBA") if picture.mode in ("P", "PA") else picture
        if _orientation(picture) > 1:
            ImageOps.exif_transpose(colours, in_place=True)
        return colours


def one_at_a_time(picture: Image.Image) -> nullcontext[bool] | threading.RLock:
    """A context in which threads wait for each other where the picture is a large one."""
    large = picture.width * picture.height > LARGE
    return _one_large_picture if large else nullcontext(True)


def decode_picture(content: bytes, name: str, enough: Enough | None = None) -> Image.Image:
    """An encoded picture, decoded; for an animation its first frame; turned as its EXIF tag says.

    Raises:
        PictureError: not a picture, damaged, or too large; the sentence begins with `name`.
    """
    with quiet_decoding(), opened(content, name) as picture:
        return upright(picture, content, enough=enough)


def read_content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        PictureError: it cannot be read, is larger than any picture, or is not a regular file, which
            might never end.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PictureError(f"{path} is a folder, not a file.", "Name a picture in it.")
        if not stat.S_ISREG(status.st_mode):
            raise PictureError(
                f"{path} is a device or a pipe, not a file.", "Save the picture as a file."
            )
        refuse_huge(str(path), status.st_size)
        return path.read_bytes()
    except MemoryError:
        raise no_memory_for(str(path)) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PictureError(f"Cannot read {path}: {reason}.", "Check the path.") from None


def refuse_huge(name: str, count: int) -> None:
    """Refuse a file of so many bytes before it is read.

    Raises:
        PictureError: no picture is so large.
    """
    if count > MAX_FILE_BYTES:
        raise PictureError(
            f"{name} has {count:,} bytes, more than any picture.",
            f"Leave it out, or shrink it: at most {MAX_FILE_BYTES:,} bytes are read.",
        )


def no_memory_for(name: str) -> PictureError:
    """What to say of a picture for which there is not enough memory; the others may still fit."""
    return PictureError(
        f"{name} needs more memory than is free.", "Leave it out, shrink it, or close programs."
    )


def _orientation(picture: Image.Image) -> int:
    tag = picture.getexif().get(ExifTags.Base.Orientation, 1)
    if tag != 1 and picture.format != "TIFF" and any(key in picture.info for key in _NOT_EXIF):
        # Without a tag Pillow takes what XMP or a text says, as browsers do not: programs that turn
        # a picture upright often leave it behind.
        exif = Image.Exif()
        exif.load(picture.info.get("exif", b""))
        tag = exif.get(ExifTags.Base.Orientation, 1)
    return tag if tag in range(1, 9) else 1


def _frames(picture: Image.Image) -> int:
    """Frames or pages; 1 where those after the first cannot be counted."""
    try:
        return int(getattr(picture, "n_frames", 1))
    except Exception:  # a later frame is damaged, and it is not used
        return 1


def _bits(picture: Image.Image, content: bytes) -> int:
    if picture.format == "PNG" and len(content) > 24:
        return content[24]
    if picture.format == "TIFF":
        stored = getattr(picture, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (1,))
        return min(int(max(stored)) if isinstance(stored, tuple) else int(stored), 255)
    if picture.mode == "1":
        return 1
    return 16 if picture.mode.startswith("I;16") else 32 if picture.mode in ("I", "F") else 8


def _check_size(name: str, picture: Image.Image, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        hint = _too_large_hint(max_pixels)
        raise TooManyPixels(f"{name} has {width:,} x {height:,} pixels.", hint)


def _too_large_hint(max_pixels: int) -> str:
    return f"At most {max_pixels:,} pixels are read; shrink it first."


def _not_a_picture(name: str, content: bytes) -> PictureError:
    advice = advice_on(content)
    if advice:
        return PictureError(f"{name} is {advice.what}.", advice.hint)
    return PictureError(
        f"{name} is not a picture that Pillow can read.", "Convert it to PNG or JPEG."
    )
