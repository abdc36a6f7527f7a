"""Weights from elsewhere for a new network: what fits is taken over, what does not is named.

Layers are matched by name and shape, rows of the head by the name of their class, never by their
position: a head whose classes are not known is not taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .matching import COUNTERS, adapted, named_as

_ENOUGH = 0.5
"""Share of a network's parameters, without its head, that must be found; with fewer, the weights
are those of another network."""
_SHOWN = 4
"""Names in a sentence."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StartingWeights:
    """Weights that a training starts from."""

    tensors: Mapping[str, Tensor]
    sha256: str
    """Of the file, or of a run's weights."""
    origin: str
    """Where they come from, in words."""
    classes: tuple[str, ...] | None = None
    """What the rows of the head mean; None where nothing says so."""
    licence: str | None = None
    """Of the weights, where it is known."""
    whole: bool = False
    """Whether they must fit entirely, the head left out: they were made for this very network."""
    in_order: bool = False
    """Whether the tensors stand in the order of the layers, as in a state dict that was pickled."""


def take_weights(network: nn.Module, weights: StartingWeights, classes: Sequence[str]) -> list[str]:
    """Put weights into a network whose outputs mean `classes`; sentences on what was taken.

    Raises:
        ModelError: they are those of another network; how many fit, and which do not.
    """
    own = network.state_dict()
    head = _head_of(network, len(classes))
    body = [name for name in own if name not in head and not name.endswith(COUNTERS)]
    given, mapped = named_as(network, body, weights.tensors, in_order=weights.in_order)
    fitting = {name: adapted(given[name], own[name]) for name in body if name in given}
    taken = {name: tensor for name, tensor in fitting.items() if tensor is not None}
    enough = 1.0 if weights.whole else _ENOUGH
    _refuse_others(own, body, given, taken, weights, enough)
    counters = {
        name: given[name]
        for name in own
        if name.endswith(COUNTERS) and name in given and given[name].shape == own[name].shape
    }
    rows, of_head = _head_rows(own, given, head, weights.classes, classes)
    _refuse_not_finite({**taken, **rows}, weights.origin)
    network.load_state_dict({**own, **taken, **counters, **rows})
    return [
        f"starts from {weights.origin}: {_of_all(len(taken), body)} tensors taken{mapped}",
        *_of_channels(own, given, taken),
        *_left_out(own, body, given, taken, weights),
        *of_head,
    ]


def knows_none(network: nn.Module, weights: StartingWeights, num_classes: int) -> bool:
    """Whether no tensor of a network has a namesake among the weights, whatever its shape."""
    head = _head_of(network, num_classes)
    body = [name for name in network.state_dict() if name not in head]
    body = [name for name in body if not name.endswith(COUNTERS)]
    given, _ = named_as(network, body, weights.tensors, in_order=weights.in_order)
    return not any(name in given for name in body)


def _head_of(network: nn.Module, num_classes: int) -> list[str]:
    """The tensors of the layer that gives the logits: the last one, with a row for each class."""
    layers = [(name, one) for name, one in network.named_modules() if list(_own(one))]
    if not layers:
        return []
    name, layer = layers[-1]
    tensors = dict(_own(layer))
    if not isinstance(layer, nn.Linear | nn.Conv2d) or layer.weight.shape[0] != num_classes:
        return []
    return [f"{name}.{key}" if name else key for key in tensors]


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return module.named_parameters(recurse=False)


def _of_channels(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], taken: Mapping[str, Tensor]
) -> list[str]:
    """What was done where the weights are for colour and the network for gray, or the other way."""
    changed = [name for name in taken if given[name].shape != own[name].shape]
    if not changed:
        return []
    if given[changed[0]].shape[1] == 3:
        return [f"its first layer was for colour: its filters are added up for gray ({changed[0]})"]
    return [
        f"its first layer was for gray: its filters are shared by three channels ({changed[0]})"
    ]


def _head_rows(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    head: Sequence[str],
    learnt: Sequence[str] | None,
    classes: Sequence[str],
) -> tuple[dict[str, Tensor], list[str]]:
    """The head's tensors with the rows of classes that were learnt, and a sentence on it."""
    if learnt is None:
        return {}, [f"its head is new, for {len(classes)} classes"] if head else []
    kept = [name for name in classes if name in learnt]
    here = torch.tensor([classes.index(name) for name in kept], dtype=torch.int64)
    there = torch.tensor([learnt.index(name) for name in kept], dtype=torch.int64)
    rows = {}
    for name in head:
        tensor = given.get(name)
        if tensor is None or tensor.shape != (len(learnt), *own[name].shape[1:]):
            return {}, ["its head does not fit and is new"]
        rows[name] = own[name].clone()
        rows[name][here.to(rows[name].device)] = tensor[there].to(rows[name])
    new = [name for name in classes if name not in learnt]
    gone = [name for name in learnt if name not in classes]
    sentence = f"its head keeps {_of_all(len(kept), classes)} classes"
    sentence += f"; new: {_listed(new)}" if new else ""
    sentence += f"; left out: {_listed(gone)}" if gone else ""
    return rows, [sentence]


def _refuse_others(
    own: Mapping[str, Tensor],
    body: Sequence[str],
    given: Mapping[str, Tensor],
    taken: Mapping[str, Tensor],
    weights: StartingWeights,
    enough: float,
) -> None:
    found = sum(own[name].numel() for name in taken)
    if not body or found >= enough * sum(own[name].numel() for name in body):
        return
    named = [name for name in body if name in given]
    unused = [name for name in weights.tensors if name not in own]
    raise ModelError(
        f"The weights of {weights.origin} are those of another network: of {len(body)} tensors "
        f"{len(named)} have a namesake there and {len(taken)} the same shape"
        f"{_examples(own, body, given, taken)}"
        f"{f'; there instead {_listed(unused)}' if unused else ''}.",
        "Name the network that they were trained with by --model, or leave --weights out.",
    )


def _refuse_not_finite(taken: Mapping[str, Tensor], origin: str) -> None:
    broken = [name for name, tensor in taken.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ModelError(
            f"The weights of {origin} are not finite in {_of_all(len(broken), list(taken))} "
            f"tensors: {_listed(broken)}.",
            "Their training may have diverged; take them from an earlier checkpoint, or others.",
        )


def _examples(
    own: Mapping[str, Tensor],
    body: Sequence[str],
    given: Mapping[str, Tensor],
    taken: Mapping[str, Tensor],
) -> str:
    missing = [name for name in body if name not in given]
    shapes = [
        f"{name} {_shape(own[name])} there {_shape(given[name])}"
        for name in body
        if name in given and name not in taken
    ]
    parts = [f"missing {_listed(missing)}"] if missing else []
    parts += [f"of another shape {_listed(shapes)}"] if shapes else []
    return f"; {'; '.join(parts)}" if parts else ""


def _left_out(
    own: Mapping[str, Tensor],
    body: Sequence[str],
    given: Mapping[str, Tensor],
    taken: Mapping[str, Tensor],
    weights: StartingWeights,
) -> list[str]:
    """What of the network and of the weights found no counterpart."""
    without = [name for name in body if name not in taken]
    # Of weights made for this very network, that is the head that they were trained with.
    others = [] if weights.whole else [name for name in given if name not in own]
    unused = [
        name if name in weights.tensors else name.removeprefix("body.")
        for name in others
        if not name.endswith(COUNTERS)
    ]
    sentences = []
    if without:
        sentences.append(f"drawn at random, since nothing fits: {_listed(without)}")
    if unused:
        sentences.append(f"not used: {_listed(unused)}")
    return sentences


def _of_all(count: int, things: Sequence[str]) -> str:
    return f"all {count}" if count == len(things) else f"{count} of {len(things)}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(itertools.islice(names, _SHOWN))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
