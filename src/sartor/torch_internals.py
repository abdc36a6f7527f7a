"""Everything used of PyTorch that is not public, in one place.

Private names may change in any release, so pyproject.toml bounds the version of torch from above,
and a test holds each name here to the signature that this code calls. No other module uses one.

The fused kernels update all parameters in one call; the public optimizers reach them only through
parameter groups and hooks, which cost more than the arithmetic of a small network. The kernels of
gradient scaling stay on the device, which `torch.amp.GradScaler` does not.
"""

from __future__ import annotations

import torch
import torch.utils._python_dispatch
from torch import Tensor, nn

fused_sgd = torch._fused_sgd_
fused_adam = torch._fused_adam_
fused_adamw = torch._fused_adamw_
unscale_and_find_overflow = torch._amp_foreach_non_finite_check_and_unscale_
update_scale = torch._amp_update_scale_

Normalization = nn.modules.batchnorm._NormBase
"""Base class of batch and instance normalization."""
BatchNormalization = nn.modules.batchnorm._BatchNorm
"""Base class of batch normalization only."""
DispatchMode = torch.utils._python_dispatch.TorchDispatchMode
"""Sees every operation that is carried out while it is entered."""

BFLOAT16_INSTRUCTIONS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""Functions of `torch.cpu`; any of these instructions multiplies bfloat16."""
MEMBERS = ("_parameters", "_buffers", "_modules")
"""Dictionaries of an `nn.Module`, with None for what it does without."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Dictionaries of an `nn.Module`."""
TENSOR_HOOKS = "_backward_hooks"
"""A dictionary of a `Tensor`, or None."""


def has_hooks(one: nn.Module | Tensor) -> bool:
    """Whether a hook is registered on a module (not on its children) or a parameter."""
    names = (TENSOR_HOOKS,) if isinstance(one, Tensor) else HOOKS
    return any(getattr(one, name) for name in names)


class Watch:
    """Sees whether a network is still what it was: the same layers, parameters and memory, and no
    hook. Made for networks of a few layers, whose forward pass takes microseconds."""

    def __init__(self, network: nn.Module) -> None:
        modules = list(network.modules())
        dictionaries = [getattr(one, name) for one in modules for name in MEMBERS]
        self._members = [(kept, name, kept[name]) for kept in dictionaries for name in kept]
        self._hooks = [getattr(one, name) for one in modules for name in HOOKS]
        self._tensors = [*network.parameters(), *network.buffers()]
        self._places = self._places_now()
        self._uncounted = any(tensor.is_inference() for tensor in self._tensors)
        self._asked = 0

    def is_same(self) -> bool:
        """Whether nothing was replaced since then; numbers may have been written."""
        for kept, name, member in self._members:
            if kept.get(name) is not member:
                return False
        return not any(self._hooks) and self._places_now() == self._places

    def writes(self) -> int:
        """A number that grows when PyTorch writes to the memory of a parameter or a buffer.

        It also grows each time where PyTorch does not count: of what was made in inference mode.
        """
        if self._uncounted:
            self._asked += 1
            return self._asked
        return sum([tensor._version for tensor in self._tensors])

    def _places_now(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self._tensors]


def version_of(tensor: Tensor) -> int:
    """How often PyTorch has written to a tensor's memory."""
    return tensor._version


def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for products of bfloat16; False where torch cannot say."""
    found = (getattr(torch.cpu, name, None) for name in BFLOAT16_INSTRUCTIONS)
    return any(supported() for supported in found if supported is not None)


def become(module: nn.Module, kind: type[nn.Module]) -> None:
    """Make a layer one of another class, with the same parameters, buffers and hooks."""
    module.__class__ = kind
