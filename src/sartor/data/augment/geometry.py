"""Where pixels go: flips and crops byte by byte, turns and the like by bilinear interpolation.

Images are uint8 (B, C, H, W), contiguous, and may be overwritten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .chance import Chance, midpoints
from .vocabulary import Affine, Crop, Flip, Perspective, ResizedCrop, Rotate, Shift, VerticalFlip


def flip(step: Flip, images: Tensor, chance: Chance) -> Tensor:
    """Mirror some, left and right."""
    if step.chance == "alternating":
        # The draw is the same in every epoch: see `pipeline`.
        chosen = chance.whole(0, 2) == chance.epoch % 2
    else:
        chosen = chance.unit(0) < step.chance
    return changed(images, chosen, lambda some: some.flip(3))


def vertical_flip(step: VerticalFlip, images: Tensor, chance: Chance) -> Tensor:
    """Mirror some, top and bottom."""
    return changed(images, chance.unit(0) < step.chance, lambda some: some.flip(2))


def crop(step: Crop, images: Tensor, chance: Chance) -> Tensor:
    """Cut a random window out of each padded image."""
    return _cut(images, step.pixels, step.pixels, step.padding, chance)


def shift(step: Shift, images: Tensor, chance: Chance) -> Tensor:
    """Move each by at most a share of its size, in whole pixels."""
    height, width = images.shape[2:]
    return _cut(images, round(step.share * height), round(step.share * width), "zero", chance)


def rotate(step: Rotate, images: Tensor, chance: Chance) -> Tensor:
    """Turn each about its centre."""
    cosine, sine = chance.entry(0, _turns(step.degrees, images.device))
    return warped(images, linear_grid(images, cosine, sine, -sine, cosine))


def affine(step: Affine, images: Tensor, chance: Chance) -> Tensor:
    """Shear, resize, turn and move each, in this order."""
    height, width = images.shape[2:]
    cosine, sine = chance.entry(0, _turns(step.degrees, images.device))
    (shear,) = chance.entry(1, _shears(step.shear, images.device))
    size = chance.around(2, step.scale) + 1
    down = chance.around(3, step.share * height)
    right = chance.around(4, step.share * width)
    # The way back: first the move is undone, then the turn, then the shear.
    across = ((cosine + shear * sine) / size, (sine - shear * cosine) / size)
    along = (-sine / size, cosine / size)
    start = (-across[0] * right - across[1] * down, -along[0] * right - along[1] * down)
    return warped(images, linear_grid(images, *across, *along, *start))


def resized_crop(step: ResizedCrop, images: Tensor, chance: Chance) -> Tensor:
    """Enlarge a random part of each."""
    height, width = images.shape[2:]
    area = chance.unit(0) * (1 - step.smallest) + step.smallest
    (ratio,) = chance.entry(1, logarithmic(step.ratio, images.device))
    share_down = (area / ratio).sqrt().clamp(max=1)
    share_right = (area * ratio).sqrt().clamp(max=1)
    down = chance.around(2, 1) * (1 - share_down) * (height / 2)
    right = chance.around(3, 1) * (1 - share_right) * (width / 2)
    zero = torch.zeros_like(area)
    return warped(images, linear_grid(images, share_right, zero, zero, share_down, right, down))


def perspective(step: Perspective, images: Tensor, chance: Chance) -> Tensor:
    """Move the corners of some inwards."""
    corners = torch.stack([chance.unit(1 + draw) for draw in range(8)]) * (step.distortion / 2)
    chosen = chance.unit(0) < step.chance
    return changed(
        images, chosen, lambda some: warped(some, _seen_askew(some, corners[:, chosen].unbind()))
    )


def changed(images: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The images with a change of those that are chosen, bool (B,)."""
    rows = chosen.nonzero().squeeze(1)
    if not len(rows):
        return images
    after = change(images.index_select(0, rows))
    if images.device.type != "cpu":
        return images.index_copy_(0, rows, after)
    # NumPy copies whole images, PyTorch byte by byte: fifteen times slower.
    images.numpy()[rows.numpy()] = after.numpy()
    return images


class Grid(NamedTuple):
    """From where each pixel takes its value; -1 and 1 are the outer edges of the image."""

    x: Tensor
    """float32 (B, H, W)."""
    y: Tensor
    """float32 (B, H, W)."""


def linear_grid(
    images: Tensor,
    xx: Tensor,
    xy: Tensor,
    yx: Tensor,
    yy: Tensor,
    x0: Tensor | float = 0.0,
    y0: Tensor | float = 0.0,
) -> Grid:
    """x = xx*X + xy*Y + x0, y = yx*X + yy*Y + y0, in pixels from the centre; each (B,)."""
    height, width = images.shape[2:]
    across = _from_centre(width, images.device).view(1, 1, -1)
    down = _from_centre(height, images.device).view(1, -1, 1)

    def mapped(by_x: Tensor, by_y: Tensor, start: Tensor | float, size: int) -> Tensor:
        starts = start.view(-1, 1, 1) if isinstance(start, Tensor) else start
        edges = 2 / size
        return ((by_x.view(-1, 1, 1) * across) + (by_y.view(-1, 1, 1) * down + starts)).mul_(edges)

    return Grid(mapped(xx, xy, x0, width), mapped(yx, yy, y0, height))


def warped(images: Tensor, grid: Grid) -> Tensor:
    """Bilinear interpolation; outside the image all is black."""
    # As torch.stack(grid, dim=-1), which takes nine times as long, and longer than the sampling.
    places = torch.view_as_real(torch.complex(grid.x, grid.y))
    values = F.grid_sample(images.to(torch.float32), places, align_corners=False)
    return to_bytes(values)


def to_bytes(values: Tensor) -> Tensor:
    """Floats around 0..255 as the nearest uint8."""
    return values.round_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=16)
def logarithmic(factor: float, device: torch.device) -> Tensor:
    """float32 (1, LEVELS): from 1 / factor to factor, of which each octave has as many."""
    return midpoints(-math.log(factor), math.log(factor)).exp().float().unsqueeze(0).to(device)


def _cut(images: Tensor, down: int, right: int, padding: str, chance: Chance) -> Tensor:
    height, width = images.shape[2:]
    padded = _padded(images, down, right, padding)
    high, wide = height + 2 * down, width + 2 * right
    corners = chance.whole(0, 2 * down + 1) * wide + chance.whole(1, 2 * right + 1)
    starts = _row_starts(images.shape, high, wide, images.device) + corners.view(-1, 1, 1)
    # Every stretch of `width` bytes, of which neighbours overlap: a row of a window is one of them.
    stretches = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    return stretches.index_select(0, starts.view(-1)).view(images.shape)


@lru_cache(maxsize=4)
def _row_starts(shape: torch.Size, high: int, wide: int, device: torch.device) -> Tensor:
    """int64 (B, C, H): where each row of the windows at the top left begins."""
    count, channels, height, _ = shape
    planes = torch.arange(count * channels, device=device).view(count, channels, 1)
    return planes * (high * wide) + torch.arange(height, device=device) * wide


def _padded(images: Tensor, down: int, right: int, padding: str) -> Tensor:
    if padding == "zero":
        return F.pad(images, (right, right, down, down))
    height, width = images.shape[2:]
    rows = _beyond(height, down, padding).to(images.device)
    columns = _beyond(width, right, padding).to(images.device)
    return images.index_select(2, rows).index_select(3, columns)


def _beyond(size: int, reach: int, padding: str) -> Tensor:
    """The pixels that stand in for -reach .. size + reach - 1."""
    places = torch.arange(-reach, size + reach)
    if padding == "edge" or size == 1:
        return places.clamp(0, size - 1)
    period = 2 * (size - 1)
    return (size - 1) - ((places % period) - (size - 1)).abs()


def _from_centre(size: int, device: torch.device) -> Tensor:
    return torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2


def _seen_askew(images: Tensor, corners: tuple[Tensor, ...]) -> Grid:
    """The way back from a picture whose corners have moved inwards, each (B,) down and right.

    The way there, from the unit square to four corners, is Heckbert's (1989); its inverse is the
    adjugate matrix.
    """
    y0, x0, y1, x1, y2, x2, y3, x3 = corners  # clockwise from the top left
    x1, x2, y2, y3 = 1 - x1, 1 - x2, 1 - y2, 1 - y3
    x12, x32, y12, y32 = x1 - x2, x3 - x2, y1 - y2, y3 - y2
    x_sum, y_sum = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    area = x12 * y32 - x32 * y12
    g = (x_sum * y32 - x32 * y_sum) / area
    h = (x12 * y_sum - x_sum * y12) / area
    a, b, c = x1 - x0 + g * x1, x3 - x0 + h * x3, x0
    d, e, f = y1 - y0 + g * y1, y3 - y0 + h * y3, y0
    height, width = images.shape[2:]
    across = ((_from_centre(width, images.device) + width / 2) / width).view(1, 1, -1)
    down = ((_from_centre(height, images.device) + height / 2) / height).view(1, -1, 1)

    def plane(by_x: Tensor, by_y: Tensor, start: Tensor) -> Tensor:
        return by_x.view(-1, 1, 1) * across + (by_y.view(-1, 1, 1) * down + start.view(-1, 1, 1))

    # Far outside the corners the depth may vanish or change its sign: nothing is seen there.
    depth = plane(d * h - e * g, b * g - a * h, a * e - b * d).clamp_(min=1e-6)
    x = plane(e - f * h, c * h - b, b * f - c * e) / depth
    y = plane(f * g - d, a - c * g, c * d - a * f) / depth
    return Grid((2 * x - 1).clamp_(-3, 3), (2 * y - 1).clamp_(-3, 3))


@lru_cache(maxsize=16)
def _turns(degrees: float, device: torch.device) -> Tensor:
    """float32 (2, LEVELS): cosine and sine of -degrees..degrees."""
    angles = midpoints(-math.radians(degrees), math.radians(degrees))
    return torch.stack([angles.cos(), angles.sin()]).float().to(device)


@lru_cache(maxsize=16)
def _shears(degrees: float, device: torch.device) -> Tensor:
    """float32 (1, LEVELS): tangent of -degrees..degrees."""
    return midpoints(-math.radians(degrees), math.radians(degrees)).tan().float()[None].to(device)
