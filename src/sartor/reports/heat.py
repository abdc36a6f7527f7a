"""Maps of evidence, drawn over the image that they are about."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import UInt8Array

_FOR, _AGAINST = np.array([202, 0, 32]), np.array([5, 113, 176])


def heat_over(image: UInt8Array, heat: npt.NDArray[np.float32]) -> UInt8Array:
    """A map (H, W) over a pale copy of its image (C, H, W), as uint8 (3, H, W).

    Red speaks for, blue against; the strongest pixel is opaque, 0 is clear.
    """
    gray = image.mean(axis=0, keepdims=True)
    pale = 255 - (255 - np.repeat(gray, 3, axis=0)) * 0.35
    strength = np.abs(heat) / (float(np.abs(heat).max()) or 1.0)
    colours = np.where(heat[None] >= 0, _FOR[:, None, None], _AGAINST[:, None, None])
    mixed = pale * (1 - strength) + colours * strength
    return np.asarray(mixed.round().clip(0, 255), dtype=np.uint8)
