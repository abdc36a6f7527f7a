"""Test-time augmentation: a picture is judged by the mean of what the network says of its views."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_logits(model: Callable[[Tensor], Tensor], images: Tensor, tta: str) -> Tensor:
    """Logits float32 (B, K) of images float (B, C, H, W): the mean over their views.

    `tta` is none; flip: also mirrored, left and right; shift: also moved by a pixel along each of
    the four diagonals, the pixels at the edge again; flip-shift: as it is, mirrored, moved up and
    to the left, and mirrored then moved down and to the right.
    """
    return torch.stack([model(view).float() for view in views_of(images, tta)]).mean(0)


def views_of(images: Tensor, tta: str) -> Iterator[Tensor]:
    """The images as they are, then changed as `mean_logits` says."""
    yield images
    if tta == "shift":
        yield from _moved(images, [(1, 1), (1, -1), (-1, 1), (-1, -1)])
    elif tta != "none":
        mirrored = images.flip(3)
        yield mirrored
        if tta == "flip-shift":
            yield from _moved(images, [(-1, -1)])
            yield from _moved(mirrored, [(1, 1)])


def _moved(images: Tensor, pixels: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """By so many pixels, -1, 0 or 1, down and to the right."""
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    layout = torch.channels_last if _is_channels_last(images) else torch.contiguous_format
    for down, right in pixels:
        view = padded[:, :, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
        yield view.contiguous(memory_format=layout)


def _is_channels_last(images: Tensor) -> bool:
    return images.is_contiguous(memory_format=torch.channels_last)
