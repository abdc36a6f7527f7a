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

_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "network.")
"""What wrappers put before the names of a network's tensors."""
_ENOUGH = 0.5
"""Share of a network's parameters, without its head, that must be found; with fewer, the weights
are those of another network."""
_SHOWN = 4
"""Names in a sentence."""
_COUNTERS = "num_batches_tracked"


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


def take_weights(network: nn.Module, weights: StartingWeights, classes: Sequence[str]) -> list[str]:
    """Put weights into a network whose outputs mean `classes`; sentences on what was taken.

    Raises:
        ModelError: they are those of another network; how many fit, and which do not.
    """
    own = network.state_dict()
    head = _head_of(network, len(classes))
    given = _named_as(own, weights.tensors)
    body = [name for name in own if name not in head and not name.endswith(_COUNTERS)]
    fitting = {name: _adapted(given[name], own[name]) for name in body if name in given}
    taken = {name: tensor for name, tensor in fitting.items() if tensor is not None}
    _refuse_others(own, body, given, taken, weights.origin)
    counters = {
        name: given[name]
        for name in own
        if name.endswith(_COUNTERS) and name in given and given[name].shape == own[name].shape
    }
    rows, of_head = _head_rows(own, given, head, weights.classes, classes)
    network.load_state_dict({**own, **taken, **counters, **rows})
    return [
        f"starts from {weights.origin}: {_of_all(len(taken), body)} tensors taken",
        *_left_out(own, body, given, taken),
        *of_head,
    ]


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


def _named_as(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`given` under the names of `own` as far as only a wrapper's prefix tells them apart."""
    candidates = [given]
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in given):
            candidates.append({name.removeprefix(prefix): one for name, one in given.items()})
    return max(candidates, key=lambda one: len(own.keys() & one.keys()))


def _adapted(given: Tensor, own: Tensor) -> Tensor | None:
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
    origin: str,
) -> None:
    found = sum(own[name].numel() for name in taken)
    if not body or found >= _ENOUGH * sum(own[name].numel() for name in body):
        return
    named = [name for name in body if name in given]
    raise ModelError(
        f"The weights of {origin} are those of another network: of {len(body)} tensors "
        f"{len(named)} have a namesake there and {len(taken)} the same shape"
        f"{_examples(own, body, given, taken)}.",
        "Name the network that they were trained with by --model, or leave --weights out.",
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
) -> list[str]:
    """What of the network and of the weights found no counterpart."""
    without = [name for name in body if name not in taken]
    unused = [name for name in given if name not in own and not name.endswith(_COUNTERS)]
    sentences = []
    if without:
        sentences.append(f"drawn at random, for nothing fits: {_listed(without)}")
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
