"""RandAugment and TrivialAugment: which of fourteen changes a picture gets is left to chance.

Both papers, and the strengths of torchvision's implementations, except that pictures are moved by a
share of their size; on gray pictures the change of colour does nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

import torch
from torch import Tensor

from . import colour, filters
from .chance import Chance
from .geometry import changed, linear_grid, warped
from .vocabulary import RandAugment, TrivialAugment

STRONGEST = 30


@dataclass(frozen=True, kw_only=True)
class Space:
    """What the strongest level, 30, means."""

    shear: float
    """Pixels along one axis for each along the other."""
    share: float
    """Of height or width, by which a picture moves."""
    degrees: float
    factor: float
    """Added to 1 or taken from it, for brightness, colour, contrast, sharpness."""
    bits: int
    """Taken from each value by posterize."""


GENTLE = Space(shear=0.3, share=150 / 331, degrees=30, factor=0.9, bits=4)
"""RandAugment's."""
WIDE = Space(shear=0.99, share=32 / 224, degrees=135, factor=0.99, bits=6)
"""TrivialAugment's."""


class Change(Protocol):
    """Images uint8 (B, C, H, W) by their levels, int64 (B,) in -30..30."""

    def __call__(self, images: Tensor, levels: Tensor, space: Space) -> Tensor: ...


DRAWS = 3
"""For each change: which, how strong, to which side."""


def randaugment(step: RandAugment, images: Tensor, chance: Chance) -> Tensor:
    """A few changes of one strength, one after the other."""
    for number in range(step.count):
        draws = chance.part(DRAWS * number, DRAWS)
        levels = torch.full_like(draws.words[0], step.strength)
        images = _changed_by_one(images, draws, levels, GENTLE)
    return images


def trivialaugment(_: TrivialAugment, images: Tensor, chance: Chance) -> Tensor:
    """One change of any strength."""
    return _changed_by_one(images, chance, chance.whole(1, STRONGEST + 1), WIDE)


def _changed_by_one(images: Tensor, chance: Chance, levels: Tensor, space: Space) -> Tensor:
    """Each image by the change that the first draw chooses, to the side that the third does."""
    which = chance.whole(0, len(CHANGES))
    signed = torch.where(chance.whole(2, 2) == 1, levels, -levels)
    for number, change in enumerate(CHANGES.values()):
        chosen = which == number
        images = changed(images, chosen, partial(change, levels=signed[chosen], space=space))
    return images


def _shear_x(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    one, zero = _one_and_zero(levels)
    return warped(images, linear_grid(images, one, _shares(levels, space.shear), zero, one))


def _shear_y(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    one, zero = _one_and_zero(levels)
    return warped(images, linear_grid(images, one, zero, _shares(levels, space.shear), one))


def _move_x(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    one, zero = _one_and_zero(levels)
    way = _shares(levels, space.share * images.shape[3])
    return warped(images, linear_grid(images, one, zero, zero, one, way, 0.0))


def _move_y(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    one, zero = _one_and_zero(levels)
    way = _shares(levels, space.share * images.shape[2])
    return warped(images, linear_grid(images, one, zero, zero, one, 0.0, way))


def _rotate(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    turns = _turns(space.degrees, images.device)
    cosine, sine = turns.index_select(1, levels + STRONGEST)
    return warped(images, linear_grid(images, cosine, sine, -sine, cosine))


def _brightness(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    return colour.brightness(images, 1 + _shares(levels, space.factor))


def _color(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    return colour.saturation(images, 1 + _shares(levels, space.factor))


def _contrast(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    return filters.contrast(images, 1 + _shares(levels, space.factor))


def _sharpness(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    return filters.sharpened(images, 1 + _shares(levels, space.factor))


def _posterize(images: Tensor, levels: Tensor, space: Space) -> Tensor:
    """Keep the highest bits of each value."""
    dropped = (levels.abs() * space.bits + STRONGEST // 2) // STRONGEST
    kept = (255 << dropped) & 255
    return images & kept.to(torch.uint8).view(-1, 1, 1, 1)


def _solarize(images: Tensor, levels: Tensor, space: Space) -> Tensor:  # noqa: ARG001
    """Invert the values from a threshold on: 255 at level 0, 0 at level 30."""
    thresholds = 255 - (255 * levels.abs()) // STRONGEST
    return torch.where(images >= thresholds.view(-1, 1, 1, 1), 255 - images, images)


def _autocontrast(images: Tensor, levels: Tensor, space: Space) -> Tensor:  # noqa: ARG001
    return colour.stretched(images)


def _equalize(images: Tensor, levels: Tensor, space: Space) -> Tensor:  # noqa: ARG001
    return colour.equalized(images)


def _identity(images: Tensor, levels: Tensor, space: Space) -> Tensor:  # noqa: ARG001
    return images


CHANGES: dict[str, Change] = {
    "identity": _identity,
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "move-x": _move_x,
    "move-y": _move_y,
    "rotate": _rotate,
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}


def _shares(levels: Tensor, most: float) -> Tensor:
    return levels.to(torch.float32) * (most / STRONGEST)


def _one_and_zero(levels: Tensor) -> tuple[Tensor, Tensor]:
    one = torch.ones_like(levels, dtype=torch.float32)
    return one, torch.zeros_like(one)


@lru_cache(maxsize=16)
def _turns(degrees: float, device: torch.device) -> Tensor:
    """float32 (2, 61): cosine and sine for each level from -30 to 30."""
    levels = torch.arange(-STRONGEST, STRONGEST + 1, dtype=torch.float64)
    angles = levels * (math.radians(degrees) / STRONGEST)
    return torch.stack([angles.cos(), angles.sin()]).float().to(device)
