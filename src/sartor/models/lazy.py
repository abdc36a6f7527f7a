"""Layers that learn their shape from the first images: `nn.LazyLinear` and its sisters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import ModelError
from .custom import reason_of

_IMAGES = 2
"""As many as a normalization layer needs."""


def materialise(network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """The network itself, after black images of (C, H, W) went through it if a layer waits for
    that: from then on its parameters can be counted, copied and trained.

    Their first values come from PyTorch's random numbers.

    Raises:
        ModelError: it cannot take such images, or a layer is not part of its forward pass.
    """
    if not _waiting(network):
        return network
    device = next((one.device for one in network.parameters() if not is_lazy(one)), None)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(_IMAGES, *input_shape, device=device))
    except Exception as error:  # whatever a network of the user's own may leave with
        raise ModelError(
            f"The model cannot take images of shape {tuple(input_shape)} (channels, height, "
            f"width): {reason_of(error)}.",
            "Set --image-size and --channels to what it expects, or change the model.",
        ) from error
    finally:
        network.train(was_training)
    if waiting := _waiting(network):
        raise ModelError(
            f"{waiting[0]} of the model has no shape yet after images went through it.",
            "Use it in forward() in evaluation mode too, or remove it.",
        )
    return network


def _waiting(network: nn.Module) -> list[str]:
    """The layers that still wait for their first input, each to begin a sentence with."""
    return [
        f'Layer "{name}" ({type(module).__name__})' if name else type(module).__name__
        for name, module in network.named_modules()
        if any(is_lazy(one) for one in (*module.parameters(False), *module.buffers(False)))
    ]
