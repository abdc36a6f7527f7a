"""Keeps the gradients of float16 in its range (Micikevicius et al., 2018, mixed precision).

The slope that goes back is multiplied by a scale, and the gradients are divided by it afterwards. A
step whose gradients overflowed is left out, and the scale halved; after 2,000 that did not, it is
doubled. All of it stays on the device, so nobody waits to be told.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
        torch._amp_foreach_non_finite_check_and_unscale_(
            gradients, self.overflow, self.scale.reciprocal()
        )
        torch._amp_update_scale_(
            self.scale, self._steps, self.overflow, _GROWTH, _BACKOFF, _STEPS_TO_GROW
        )
