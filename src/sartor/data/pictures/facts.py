"""What was seen of each picture while it was decoded: what the checks of a dataset read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

ROW = np.dtype(
    [
        ("format", "<U8"),
        ("mode", "<U8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("orientation", "u1"),
        ("frames", "<i4"),
        ("bits", "u1"),
        ("gray", "?"),
        ("file_bytes", "<i8"),
        ("file_sha256", "u1", (32,)),
        ("pixels_sha256", "u1", (32,)),
    ]
)
"""The facts of one picture as they lie in the cache; zeros and "" where nothing was seen."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PictureFacts:
    """One column per fact, one row per picture, in the order of the listing."""

    rows: npt.NDArray[Any]
    """Of the type `ROW`, (N,)."""
    faults: Mapping[int, str] = field(default_factory=dict)
    """Why a picture cannot be read, by its index: one sentence that names it."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def readable(self) -> npt.NDArray[np.bool_]:
        """Whether each picture can be read."""
        able = np.ones(len(self), bool)
        able[list(self.faults)] = False
        return able

    @property
    def formats(self) -> npt.NDArray[np.str_]:
        """As Pillow says it ("JPEG", "PNG", ...), whatever the file is called."""
        return self._column("format")

    @property
    def modes(self) -> npt.NDArray[np.str_]:
        """Pillow's word for the kind of pixels as stored: "L", "RGB", "P", "CMYK", "I;16"."""
        return self._column("mode")

    @property
    def widths(self) -> npt.NDArray[np.int32]:
        """Pixels, as stored, before the EXIF tag turns the picture."""
        return self._column("width")

    @property
    def heights(self) -> npt.NDArray[np.int32]:
        """Pixels, as stored, before the EXIF tag turns the picture."""
        return self._column("height")

    @property
    def orientations(self) -> npt.NDArray[np.uint8]:
        """How the EXIF tag says that the camera was held, 1 to 8; 1 is upright, or no tag."""
        return self._column("orientation")

    @property
    def frames(self) -> npt.NDArray[np.int32]:
        """More than 1 for an animation or several pages, of which the first is used."""
        return self._column("frames")

    @property
    def bits(self) -> npt.NDArray[np.uint8]:
        """Bits of each channel in the file: 1, 8, 16, 32."""
        return self._column("bits")

    @property
    def grays(self) -> npt.NDArray[np.bool_]:
        """Whether no pixel of the prepared image has a colour."""
        return self._column("gray")

    @property
    def file_bytes(self) -> npt.NDArray[np.int64]:
        """Length of the encoded picture."""
        return self._column("file_bytes")

    @property
    def file_sha256(self) -> npt.NDArray[np.uint8]:
        """SHA-256 of the encoded picture, (N, 32): equal rows are copies of one file."""
        return self._column("file_sha256")

    @property
    def pixels_sha256(self) -> npt.NDArray[np.uint8]:
        """SHA-256 of the prepared image, (N, 32): equal rows look the same to the network."""
        return self._column("pixels_sha256")

    def _column(self, name: str) -> npt.NDArray[Any]:
        column: npt.NDArray[Any] = self.rows[name]
        return column
