"""Weights under the names of a network: which tensor of theirs is which of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "network.")
"""What wrappers put before the names of a network's tensors."""
COUNTERS = "num_batches_tracked"
"""How tensors end that count batches, and are no weights."""


@runtime_checkable
class _Renaming(Protocol):
    """A network that knows what its tensors are called elsewhere."""

    def weights_named_here(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Those that it knows, under its own names."""


def named_as(
    network: nn.Module, body: Sequence[str], given: Mapping[str, Tensor], *, in_order: bool
) -> tuple[Mapping[str, Tensor], str]:
    """Weights under the names of a network's tensors, and words on how they were matched.

    Tried in this order, and the first is taken that fits best: the names as they are, without the
    prefixes that wrappers put before them, as the network itself knows them, and by the order of
    the layers.

    Args:
        body: the names of the network's tensors that are to be found, in the order of its layers.
        in_order: the weights stand in the order of their layers too.
    """
    own = network.state_dict()
    tried: list[tuple[Mapping[str, Tensor], str]] = [(given, "")]
    plain = _without_prefixes(given)
    for bare, words in ((given, ""), (plain, ", their names without a wrapper's prefix")):
        tried += [(bare, words), ({f"body.{name}": one for name, one in bare.items()}, words)]
    if isinstance(network, _Renaming):
        for bare in (given, plain):
            renamed = network.weights_named_here(bare)
            tried.append((renamed, ", their names converted by timm"))
    if in_order:
        tried.append((_by_order(own, body, given), ", matched by the order of the layers"))

    def fitting(one: tuple[Mapping[str, Tensor], str]) -> int:
        return sum(name in one[0] and adapted(one[0][name], own[name]) is not None for name in body)

    return max(tried, key=fitting)


def _without_prefixes(given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without what wrappers put before the names; of several, one after the other."""
    names = {name: name for name in given}
    for _ in _PREFIXES:
        first = next(
            (one for one in _PREFIXES if any(name.startswith(one) for name in names.values())), None
        )
        if first is None:
            break
        names = {name: short.removeprefix(first) for name, short in names.items()}
    return {short: given[name] for name, short in names.items()}


def _by_order(
    own: Mapping[str, Tensor], body: Sequence[str], given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights under the names of a convolutional network whose layers stand in the same order.

    Empty unless every tensor has its counterpart: of the same kind and shape, at the same place.
    Not for networks with matrices besides the head: there a query and a key look the same.
    """
    theirs = [name for name in given if not name.endswith(COUNTERS)]
    rest = theirs[len(body) :]
    as_long = len(theirs) >= len(body) and len(rest) <= 2
    if not as_long or any(own[name].ndim == 2 for name in body) or not _in_natural_order(theirs):
        return {}
    pairs = list(zip(body, theirs, strict=False))
    same = all(
        name.rpartition(".")[2] == other.rpartition(".")[2]
        and adapted(given[other], own[name]) is not None
        for name, other in pairs
    )
    return {name: given[other] for name, other in pairs} if same else {}


def _in_natural_order(names: Sequence[str]) -> bool:
    """Whether numbers in the names never go back, as they do where names were sorted as words."""
    last: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        for place, part in enumerate(parts):
            if part.isdigit():
                before = ".".join(parts[:place])
                if int(part) < last.get(before, 0):
                    return False
                last[before] = int(part)
    return True


def adapted(given: Tensor, own: Tensor) -> Tensor | None:
    """A tensor in the shape and type of the network's; None where it does not fit.

    Filters of a first layer for colour are added up for gray, and those for gray are spread over
    three equal channels: both give for gray pictures what the layer gave before.
    """
    if not given.is_floating_point() and own.is_floating_point():
        return None
    if given.shape == own.shape:
        return given.to(own.dtype)
    channels = (given.shape[1], own.shape[1]) if given.ndim == own.ndim == 4 else (0, 0)
    others = given.shape[:1] + given.shape[2:] == own.shape[:1] + own.shape[2:]
    if channels == (3, 1) and others:
        return given.sum(dim=1, keepdim=True).to(own.dtype)
    if channels == (1, 3) and others:
        return (given / 3).expand_as(own).to(own.dtype)
    return None
