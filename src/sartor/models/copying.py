"""Copies of networks, also of those that hold what Python itself does not copy."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ..errors import ModelError
from .custom import reason_of

_LOCKS = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
    threading.Condition: threading.Condition,
    threading.Event: threading.Event,
    threading.Semaphore: threading.Semaphore,
    threading.local: threading.local,
}
"""What guards a network that several threads use; a copy needs one of its own."""
_DEPTH = 4


def copied_network(network: nn.Module) -> nn.Module:
    """A deep copy; locks are new ones.

    Raises:
        ModelError: it holds something that cannot be copied, such as a generator or an open file.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        for value in vars(module).values():
            memo |= {id(lock): _LOCKS[type(lock)]() for lock in _locks_in(value, _DEPTH)}
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:  # whatever a network of the user's own may hold
        raise ModelError(
            f"The model cannot be copied: {_culprit(network) or reason_of(error)}.",
            "Make it in forward() or in a function of the file, do not keep it in the model.",
        ) from error


def _locks_in(value: Any, depth: int) -> Iterator[Any]:
    """Locks among an attribute, its elements and the attributes of these."""
    if type(value) in _LOCKS:
        yield value
    elif depth and not isinstance(value, nn.Module):
        for part in _parts(value):
            yield from _locks_in(part, depth - 1)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    attributes = getattr(value, "__dict__", None)
    return list(attributes.values()) if isinstance(attributes, dict) else []


def _culprit(network: nn.Module) -> str | None:
    """The attribute that cannot be copied, and why."""
    for name, module in network.named_modules():
        for key, value in vars(module).items():
            if key.startswith("_") and key in vars(nn.Module()):
                continue
            try:
                copy.deepcopy(value)
            except Exception as error:
                owner = f"{type(module).__name__} ({name})" if name else type(module).__name__
                return f"{key} of {owner}: {reason_of(error)}"
    return None
