"""The parts of a network from its input to its head, for training them at different rates."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

_LARGE = 0.5
"""A part with a larger share of the parameters is taken as the parts that it is made of."""
_LAST = 0.5
"""Share of the parameters that the last parts and the head have together, at least."""


def parts_of(network: nn.Module) -> list[list[str]]:
    """The names of a network's parameters, part by part from the input to the head.

    The order is that in which the network's layers were defined, as is usual in the libraries; a
    layer that is called the head comes last in any case.
    """
    total = sum(parameter.numel() for parameter in network.parameters())
    parts = [names for names in _opened(network, "", total) if names]
    return sorted(parts, key=lambda names: all(name.startswith("head.") for name in names))


def learning_rate_factors(network: nn.Module, decay: float) -> dict[str, float]:
    """What each parameter's learning rate is multiplied by: 1 for the last part, the head, and
    `decay` times that of the following part for every other."""
    parts = parts_of(network)
    return {
        name: decay ** (len(parts) - 1 - number)
        for number, names in enumerate(parts)
        for name in names
    }


def early_parameters(network: nn.Module) -> set[str]:
    """The parameters of all parts but the last ones."""
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    parts, found, total = parts_of(network), 0, sum(sizes.values())
    while parts and found < _LAST * total:
        found += sum(sizes.get(name, 0) for name in parts.pop())
    return {name for names in parts for name in names}


def _opened(module: nn.Module, prefix: str, total: int) -> Iterator[list[str]]:
    yield [f"{prefix}{name}" for name, _ in module.named_parameters(recurse=False)]
    for name, child in module.named_children():
        size = sum(parameter.numel() for parameter in child.parameters())
        if size > _LARGE * total and any(True for _ in child.children()):
            yield from _opened(child, f"{prefix}{name}.", total)
        else:
            yield [f"{prefix}{name}.{inner}" for inner, _ in child.named_parameters()]
