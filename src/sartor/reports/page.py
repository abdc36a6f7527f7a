"""Pages: one HTML file each, which opens anywhere, needs no network and runs no script."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ..arrays import UInt8Array
from ..data.pictures.preprocess import as_picture
from ..errors import DataError

LARGEST_PICTURE = 96
"""Pixels of the longer side; a larger image is made smaller for a page."""
_SHOWN_SIZE = 72
_NOTHING = "\u2013"
# What a sheet may weigh, so that a page with two of them stays under 3 MB.
_HEAVIEST_SHEET_BYTES = 900_000


def render(template: str, *, sheets: Sequence[Sheet] = (), **values: Any) -> str:
    """A page from a file in templates/; every value is escaped, a missing one is an error."""
    page = _environment().get_template(template)
    return page.render(sheets=sheets, version=version("sartor"), **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sartor.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "count": count,
        "number": number,
        "interval": interval,
        "points": points,
        "points_interval": points_interval,
    }
    return environment


# ------------------------------------------------------------------------------------ numbers


def percent(share: float | None, digits: int = 2) -> str:
    """0.874 as "87.40 %", with a space that does not break; a dash for None."""
    return _NOTHING if share is None else f"{100 * share:.{digits}f}\u00a0%"


def interval(limits: Sequence[float] | None, digits: int = 1, *, share: bool = True) -> str:
    """Two limits as "86.7 to 88.0 %"; shares in per cent, other numbers as they are."""
    if limits is None:
        return _NOTHING
    low, high = (100 * limit if share else limit for limit in limits)
    return f"{low:.{digits}f}\u00a0to\u00a0{high:.{digits}f}" + ("\u00a0%" if share else "")


def points(difference: float | None, digits: int = 1) -> str:
    """0.012 as "+1.2 points", the difference of two shares; a dash for None."""
    return _NOTHING if difference is None else f"{_signed(difference, digits)}\u00a0points"


def points_interval(limits: Sequence[float] | None, digits: int = 1) -> str:
    """Two differences as "-0.8 to +1.6 points"."""
    if limits is None:
        return _NOTHING
    low, high = (_signed(limit, digits) for limit in limits)
    return f"{low}\u00a0to\u00a0{high}\u00a0points"


def _signed(difference: float, digits: int) -> str:
    # A minus as wide as the plus; and a zero that was rounded has no sign.
    written = f"{100 * difference:+.{digits}f}"
    return written[1:] if float(written) == 0 else written.replace("-", "\u2212")


def count(value: int | None) -> str:
    """12345 as "12,345"; a dash for None."""
    return _NOTHING if value is None else f"{value:,}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many digits after the point; a dash for None and NaN."""
    return _NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


# ------------------------------------------------------------------------------------ pictures


def picture_uri(image: UInt8Array) -> str:
    """A data URI (PNG, every pixel as it is) of an image uint8 (C, H, W) or (H, W)."""
    return _uri(_encoded(_as_picture(image), "PNG"), "png")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Many small pictures of one shape in a single one; a page shows each through a window."""

    name: str
    """A word; tells the sheets of a page apart."""
    uri: str
    columns: int
    rows: int
    tile: tuple[int, int]
    """Height and width of one picture, in its own pixels."""
    places: Mapping[Hashable, int]
    """Where each picture stands, counted along the rows."""

    @property
    def scale(self) -> int:
        """How many pixels of the page a picture's pixel takes: small ones are enlarged."""
        return max(1, round(_SHOWN_SIZE / max(self.tile)))

    @property
    def css(self) -> Markup:
        """The rules that the page needs once."""
        height, width = (self.scale * side for side in self.tile)
        return Markup(
            f".sheet-{self.name}{{width:{width}px;height:{height}px;"
            f"background-size:{self.columns * width}px {self.rows * height}px;"
            f"background-image:url({self.uri})}}"
        )

    def position(self, key: Hashable) -> str:
        """The style of the window through which one picture is seen."""
        row, column = divmod(self.places[key], self.columns)
        height, width = (self.scale * side for side in self.tile)
        return f"background-position:{-column * width}px {-row * height}px"

    def __contains__(self, key: object) -> bool:
        return key in self.places


def make_sheet(images: Mapping[Any, UInt8Array], *, name: str = "images") -> Sheet:
    """One sheet of images uint8 (C, H, W) or (H, W), all of one shape, each under its key.

    Images of at most `LARGEST_PICTURE` pixels per side keep every pixel, unless there are so many
    that the sheet would weigh too much for a page.

    Raises:
        DataError: the images differ in shape.
    """
    if len({image.shape for image in images.values()}) > 1:
        raise DataError("The images of a sheet differ in shape.", "Make a sheet for each shape.")
    pictures = [_small(_as_picture(image)) for image in images.values()] or [Image.new("L", (1, 1))]
    width, height = pictures[0].size
    columns = min(math.ceil(math.sqrt(len(pictures) * height / width)), len(pictures))
    rows = math.ceil(len(pictures) / columns)
    whole = Image.new(pictures[0].mode, (columns * width, rows * height))
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        whole.paste(picture, (column * width, row * height))
    return Sheet(
        name=name,
        uri=_sheet_uri(whole),
        columns=columns,
        rows=rows,
        tile=(height, width),
        places={key: place for place, key in enumerate(images)},
    )


def _as_picture(image: UInt8Array) -> Image.Image:
    return as_picture(image[None] if image.ndim == 2 else image)


def _small(picture: Image.Image) -> Image.Image:
    if max(picture.size) <= LARGEST_PICTURE:
        return picture
    shrink = LARGEST_PICTURE / max(picture.size)
    width, height = (max(1, round(side * shrink)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX)


def _sheet_uri(whole: Image.Image) -> str:
    content = _encoded(whole, "PNG")
    if len(content) <= _HEAVIEST_SHEET_BYTES:
        return _uri(content, "png")
    for quality in (90, 75, 50, 25):
        content = _encoded(whole, "JPEG", quality=quality)
        if len(content) <= _HEAVIEST_SHEET_BYTES:
            break
    return _uri(content, "jpeg")


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
