"""Keeps the gradients of float16 in its range (Micikevicius et al., 2018, mixed precision).

The loss is multiplied by a scale before the backward pass, and the gradients are divided by it
afterwards. A step whose gradients overflowed is skipped, and the scale halved; after 2,000 steps
without overflow it is doubled. All of it stays on the device, so nothing waits for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..torch_internals import unscale_and_find_overflow, update_scale

_FIRST = 65_536.0
_GROWTH, _BACKOFF, _STEPS_TO_GROW = 2.0, 0.5, 2_000


class GradientScale:
    """The scale, and what decides about it."""

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), _FIRST, device=device)
        self.overflow = torch.zeros((), device=device)
        """1 where the gradients unscaled last were not all finite, else 0."""
        self._steps = torch.zeros((), dtype=torch.int32, device=device)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is kept from step to step."""
        return {"scaling.scale": self.scale, "scaling.steps": self._steps}

    def unscale(self, gradients: list[Tensor]) -> None:
        """Divide the gradients of a step by the scale, in place, and adapt it for the next."""
        self.overflow.zero_()
        unscale_and_find_overflow(gradients, self.overflow, self.scale.reciprocal())
        update_scale(self.scale, self._steps, self.overflow, _GROWTH, _BACKOFF, _STEPS_TO_GROW)
