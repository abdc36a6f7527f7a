"""All that a recipe's words ask for, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from . import colour, filters, geometry, pixels, policies
from .chance import Chance, Draws, chance_for, keys_of
from .mixing import Mixing
from .vocabulary import (
    BY_KORNIA,
    MIXING,
    Affine,
    Blur,
    ColorJitter,
    Crop,
    Cutmix,
    Cutout,
    Erase,
    Flip,
    Grayscale,
    Mixup,
    Perspective,
    RandAugment,
    ResizedCrop,
    Rotate,
    Sharpness,
    Shift,
    Step,
    TrivialAugment,
    VerticalFlip,
    steps_of,
)

_AT_ONCE = 1 << 20
"""Numbers that an operation is given at once on the processor: enough that calling PyTorch is a
small part of it."""
_WARPED_AT_ONCE = 1 << 17
"""The same for few operations on many floats, which are faster where all that they compute on the
way stays in a core's cache."""
_AT_ONCE_ON_DEVICE = 1 << 24
_OF_FEW_CALLS = (Rotate, Affine, ResizedCrop, Sharpness)


class Operation(NamedTuple):
    """One change of a batch."""

    draws: Draws
    change: Callable[[Tensor, Chance], Tensor]
    """uint8 (B, C, H, W), which it may overwrite -> the same shape."""
    at_once: int = _AT_ONCE
    """Numbers that it is given at once on the processor."""

    def __call__(self, images: Tensor, chance: Chance) -> Tensor:
        """The change, of many images a part at a time."""
        limit = self.at_once if images.device.type == "cpu" else _AT_ONCE_ON_DEVICE
        size = max(1, limit // images[0].numel())
        if len(images) <= size:
            return self.change(images, chance)
        parts = zip(torch.split(images, size), chance.split(size), strict=True)
        return torch.cat([self.change(*part) for part in parts])


@dataclass(frozen=True, eq=False, kw_only=True)
class Augmentation:
    """Random changes, each a pure function of (seed, epoch, index of the sample, how often it came
    before in the epoch).

    Batches of any size and composition, in any order and made by any thread, show a sample as the
    same picture; on the processor bit for bit.
    """

    operations: tuple[Operation, ...]
    mixing: Mixing | None
    seed: int

    def images(
        self, images: Tensor, indices: Tensor, epoch: int, repeats: Tensor | None = None
    ) -> Tensor:
        """The samples `indices`, int64 (B,), as they look in `epoch`; may overwrite the images.

        `repeats` says how often each came before in the epoch, int64 (B,); None: not at all.
        """
        if not self.operations:
            return images
        draws = (operation.draws for operation in self.operations)
        chance = self.chance(indices, epoch, *draws, repeats=repeats)
        first = 0
        for operation in self.operations:
            images = operation(images, chance.part(first, operation.draws.number))
            first += operation.draws.number
        return images

    def chance(
        self, indices: Tensor, epoch: int, *draws: Draws, repeats: Tensor | None = None
    ) -> Chance:
        """What chance says about these samples in `epoch`."""
        keys = keys_of(self.seed, epoch, draws, indices.device)
        return chance_for(indices, keys, epoch, repeats)


def augmentation_of(
    words: Sequence[str],
    *,
    seed: int,
    num_classes: int,
    mean: Sequence[float],
    device: torch.device | str = "cpu",
) -> Augmentation | None:
    """The augmentation that `words` ask for; None where they ask for none.

    `mean` is the mean colour, 0..1 for each channel, with which pixels are painted over.

    Raises:
        RecipeError: words that are none. MissingExtraError: kornia is needed and not there.
    """
    steps = steps_of(words)
    if not steps:
        return None
    colour.require_kornia([name for name, step in steps.items() if isinstance(step, BY_KORNIA)])
    fill = torch.tensor([round(255 * value) for value in mean]).clamp_(0, 255).to(torch.uint8)
    return Augmentation(
        operations=tuple(
            _operation(name, step, fill.to(device))
            for name, step in steps.items()
            if not isinstance(step, MIXING)
        ),
        mixing=_mixing(steps, num_classes),
        seed=seed,
    )


_CHANGES: dict[type[Step], tuple[int, Callable[..., Tensor]]] = {
    Flip: (1, geometry.flip),
    VerticalFlip: (1, geometry.vertical_flip),
    Crop: (2, geometry.crop),
    Shift: (2, geometry.shift),
    Rotate: (1, geometry.rotate),
    Affine: (5, geometry.affine),
    Perspective: (9, geometry.perspective),
    ResizedCrop: (4, geometry.resized_crop),
    Cutout: (2, pixels.cutout),
    Erase: (5, pixels.erase),
    Grayscale: (1, pixels.grayscale),
    ColorJitter: (4, colour.color_jitter),
    Blur: (2, filters.blur),
    Sharpness: (1, filters.sharpness),
    RandAugment: (policies.DRAWS, policies.randaugment),
    TrivialAugment: (policies.DRAWS, policies.trivialaugment),
}
"""Of each step the draws, of RandAugment those of one change, and the function."""


def _operation(name: str, step: Step, fill: Tensor) -> Operation:
    count, change = _CHANGES[type(step)]
    if isinstance(step, RandAugment):
        count *= step.count
    steady = isinstance(step, Flip) and step.chance == "alternating"
    paints = (fill,) if isinstance(step, Cutout | Erase) else ()
    limit = _WARPED_AT_ONCE if isinstance(step, _OF_FEW_CALLS) else _AT_ONCE
    return Operation(Draws(name, count, steady), partial(change, step, *paints), limit)


def _mixing(steps: Mapping[str, Step], num_classes: int) -> Mixing | None:
    mixup = next((step for step in steps.values() if isinstance(step, Mixup)), None)
    cutmix = next((step for step in steps.values() if isinstance(step, Cutmix)), None)
    if mixup is None and cutmix is None:
        return None
    return Mixing(mixup=mixup, cutmix=cutmix, num_classes=num_classes)
