"""Everything used of PyTorch that is not public, in one place.

Private names may change in any release, so pyproject.toml bounds the version of torch from above,
and a test holds each name here to the signature that this code calls. No other module uses one.

The fused kernels update all parameters in one call; the public optimizers reach them only through
parameter groups and hooks, which cost more than the arithmetic of a small network. The kernels of
gradient scaling stay on the device, which `torch.amp.GradScaler` does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

fused_sgd = torch._fused_sgd_
fused_adam = torch._fused_adam_
fused_adamw = torch._fused_adamw_
unscale_and_find_overflow = torch._amp_foreach_non_finite_check_and_unscale_
update_scale = torch._amp_update_scale_

Normalization = nn.modules.batchnorm._NormBase
"""Base class of batch and instance normalization."""

BFLOAT16_INSTRUCTIONS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""Functions of `torch.cpu`; any of these instructions multiplies bfloat16."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Dictionaries of an `nn.Module`."""
TENSOR_HOOKS = "_backward_hooks"
"""A dictionary of a `Tensor`, or None."""
ONEDNN_LINEAR = "_linear_pointwise"
"""An operation of `torch.ops.mkldnn`."""


def has_hooks(one: nn.Module | Tensor) -> bool:
    """Whether a hook is registered on a module (not on its children) or a parameter."""
    names = (TENSOR_HOOKS,) if isinstance(one, Tensor) else HOOKS
    return any(getattr(one, name) for name in names)


def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for products of bfloat16; False where torch cannot say."""
    found = (getattr(torch.cpu, name, None) for name in BFLOAT16_INSTRUCTIONS)
    return any(supported() for supported in found if supported is not None)


def has_onednn_linear() -> bool:
    """Whether this build of PyTorch has `onednn_linear`."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, ONEDNN_LINEAR)


def onednn_linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows @ weight.T + bias of float32 matrices on the CPU, by oneDNN."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


def set_class(module: nn.Module, kind: type[nn.Module]) -> None:
    """Turn a module into one of another class, with the same attributes.

    It keeps its identity, names, parameters and hooks, in its parents and in copies, which neither
    replacing the module nor patching its `forward` would. `kind` must not add attributes.
    """
    module.__class__ = kind
