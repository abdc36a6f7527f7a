"""Whether a step of training fits into memory, before the first one is taken."""

from __future__ import annotations

import math

import torch
from torch import nn

from ...errors import ModelError
from ...machine import total_memory
from ...models.summary import summarize
from ...training.loop import Job

_SMALL = 2**20
"""Values in the images of a step up to which nothing is computed: no usual network is too large."""
_COPIES = 4
"""Of every parameter: itself, its gradient, and what an optimizer keeps."""


def check_memory(job: Job, image_shape: tuple[int, int, int], images: int) -> None:
    """Refuse a step that memory cannot hold: what every layer gives is kept for the way back.

    Less than is needed in the end: what this refuses cannot work.

    Args:
        images: of a part of a step.

    Raises:
        ModelError: too little memory; with the number of images that fits.
    """
    if images * math.prod(image_shape) <= _SMALL or not _trains_all(job.model):
        return
    try:
        summary = summarize(job.model, image_shape, count_multiply_adds=False)
    except ModelError:  # a network of the user's own that takes no zeros, or no single image
        return
    memory = _memory(job.settings.device)
    fixed = _COPIES * summary.parameter_bytes
    if not memory or fixed + images * summary.memory_bytes <= memory:
        return
    fitting = max(0, int((memory - fixed) // summary.memory_bytes))
    advice = "Choose a smaller network or --image-size."
    if fitting >= 2:
        advice = f"Lower --batch-size to {2 ** int(math.log2(fitting))}, or --image-size."
    raise ModelError(
        f"A step with {images} images of {'x'.join(map(str, image_shape))} takes at least "
        f"{(fixed + images * summary.memory_bytes) / 2**30:.1f} GiB of memory; "
        f"{job.settings.device} has {memory / 2**30:.1f} GiB.",
        advice,
    )


def _trains_all(model: nn.Module) -> bool:
    """What is frozen keeps nothing for the way back."""
    return all(parameter.requires_grad for parameter in model.parameters())


def _memory(device: str) -> int:
    """Bytes of memory for a device, 0 where that is not known."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return total_memory()
