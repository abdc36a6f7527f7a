"""Which parameters weight decay acts on."""

from __future__ import annotations

from torch import nn

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def weight_names(model: nn.Module) -> frozenset[str]:
    """Names of the trainable weights of layers: of two dimensions or more, no bias, no norm's.

    Decay keeps products with weights small. Biases, and the scales and shifts of norms, are few and
    only moved off by it. The networks of timm are trained in the same way.
    """
    of_norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters(recurse=False)
    }
    return frozenset(
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and parameter.ndim > 1
        and name.rpartition(".")[2] != "bias"
        and id(parameter) not in of_norms
    )


def decayed_parameters(model: nn.Module) -> int:
    """How many numbers weight decay acts on by default: those of `weight_names`."""
    parameters = dict(model.named_parameters())
    return sum(parameters[name].numel() for name in weight_names(model))
