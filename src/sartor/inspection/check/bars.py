"""Letterboxed images without their bars, which are no part of a picture.

The bars beside an opaque picture are black, those beside one with transparency have the colour that
is put behind it. So a cut-out and its copy as JPEG, which has white where the other has nothing,
would differ most in what neither of them shows.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...arrays import Int64Array, UInt8Array
from .geometry import contents
from .subject import Subject


class Images(Protocol):
    """Images uint8 (N, C, H, W), of which some can be had at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Int64Array, /) -> UInt8Array: ...


class WithoutBars:
    """Images in which every bar has the mean colour of its picture."""

    def __init__(self, images: UInt8Array, contents: Int64Array) -> None:
        """`contents` says what is no bar: top, left, height, width; int64 (N, 4)."""
        self.images, self.contents = images, contents

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | Int64Array, /) -> UInt8Array:
        """A copy of some of the images."""
        found = np.array(self.images[rows])
        for image, frame in zip(found, self.contents[rows].tolist(), strict=True):
            top, left, height, width = frame
            if (height, width) == image.shape[1:]:
                continue
            picture = image[:, top : top + height, left : left + width].copy()
            image[:] = picture.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8)
            image[:, top : top + height, left : left + width] = picture
        return found


def without_bars(subject: Subject) -> Images:
    """The images of a set; where they are letterboxed, without bars."""
    images = subject.dataset.images
    if subject.prepared is None or subject.prepared.geometry.resize != "letterbox":
        return images
    return WithoutBars(images, contents(subject))
