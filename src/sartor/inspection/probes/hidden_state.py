"""State of a network that no checkpoint holds: what changes in its attributes while it trains."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import GeneratorType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...files import sha256_of

_OWN = frozenset(vars(nn.Module()))
"""What every module has: parameters, buffers, hooks; `training` is the loop's."""
_WITHOUT = ("torch", "sartor")
"""Packages whose layers keep all state in parameters and buffers."""
_DEPTH, _LONGEST = 4, 1_000
_UNTOLD = "untold"

Marks = Mapping[str, object]
"""What stands for the present value of each attribute, by "attribute of Module (name)"."""


def marks_of(model: nn.Module) -> Marks:
    """The attributes of a user's own modules that are neither parameters nor in the state dict."""
    kept = {id(one) for one in (*model.parameters(), *model.state_dict(keep_vars=True).values())}
    marks = {}
    for name, module in model.named_modules():
        if type(module).__module__.partition(".")[0] in _WITHOUT:
            continue
        owner = f"{type(module).__name__} ({name})" if name else type(module).__name__
        attributes = {key: value for key, value in vars(module).items() if key not in _OWN}
        buffers = dict(module.named_buffers(recurse=False))
        for key, value in {**attributes, **buffers}.items():
            if id(value) not in kept:
                marks[f"{key} of {owner}"] = _mark_or_untold(value, kept)
    return marks


def changed(before: Marks, after: Marks) -> list[str]:
    """Attributes that changed or are new; tensors that belong to a graph are results of a step."""
    return [
        name
        for name, mark in after.items()
        if mark != before.get(name, _UNTOLD) and _UNTOLD not in (mark, before.get(name))
    ]


def sentence(names: list[str]) -> str:
    """What it means that these attributes change."""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    them = "it" if len(names) == 1 else "them"
    return (
        f"{shown} changed in training, but no checkpoint holds {them}: a resumed run "
        "starts without, and may end with other weights. Keep such state as a tensor with "
        "register_buffer()."
    )


def _mark_or_untold(value: Any, kept: set[int]) -> object:
    try:
        return _mark(value, kept, _DEPTH)
    except Exception:  # whatever the attributes of a user's own object may do when looked at
        return _UNTOLD


def _mark(value: Any, kept: set[int], depth: int) -> object:
    """Equal for equal values; `_UNTOLD` where that cannot be known."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, Tensor):
        return _UNTOLD if value.grad_fn is not None or id(value) in kept else _tensor_mark(value)
    if isinstance(value, np.ndarray):
        return sha256_of(value.tobytes()) if value.dtype != object else _UNTOLD
    if isinstance(value, torch.Generator):
        return _tensor_mark(value.get_state())
    if isinstance(value, random.Random):
        return hash(value.getstate())
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state(legacy=False))
    return _mark_of_parts(value, kept, depth)


def _mark_of_parts(value: Any, kept: set[int], depth: int) -> object:
    if not depth or isinstance(value, nn.Module) or callable(value):
        return _UNTOLD
    if isinstance(value, GeneratorType):
        frame = value.gi_frame
        return None if frame is None else (frame.f_lasti, _all(frame.f_locals, kept, depth))
    if isinstance(value, Mapping):
        return _all(value, kept, depth)
    if isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "deque":
        return len(value), _all(dict(enumerate(value)), kept, depth)
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        return _all(attributes, kept, depth)
    text = repr(value)  # such as count(5) of itertools
    return _UNTOLD if " at 0x" in text else text


def _all(values: Mapping[Any, Any], kept: set[int], depth: int) -> object:
    pairs = list(values.items())[:_LONGEST]
    return tuple((repr(key), _mark(value, kept, depth - 1)) for key, value in pairs)


def _tensor_mark(tensor: Tensor) -> object:
    if tensor.device.type == "meta" or tensor.is_sparse or tensor.is_quantized:
        return _UNTOLD
    flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return tuple(tensor.shape), str(tensor.dtype), sha256_of(flat.numpy().tobytes())
