"""A network as a chain of layers: what the engine `native` computes, and why it does not.

A layer becomes a dict of numbers and arrays. The arrays are the network's own memory, so that what
the engine writes is seen by PyTorch, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from .. import native_module
from ..models.dropout import Dropout
from ..models.resnet import Residual
from ..models.whitening import STRIDE, PatchWhitening, margins
from ..torch_internals import has_hooks

Layer = dict[str, Any]
Shape = tuple[int, int, int]
"""(channels, height, width)."""

_FLATTEN: Layer = {"kind": "flatten"}
_RELU: Layer = {"kind": "relu"}
_NOTHING = (0, 0, 0, 0)


class NotAChainError(Exception):
    """A network that the engine does not compute; the text is a clause that says why."""


def layers_of(network: nn.Module, input_shape: Shape, *, frozen_norms: bool = False) -> list[Layer]:
    """The layers of a network for images of that shape.

    Args:
        frozen_norms: batch normalisation keeps its averages in training.

    Raises:
        NotAChainError: it has something that the engine does not compute.
    """
    _refuse_unknown(network)
    place = _Place(shape=input_shape, frozen_norms=frozen_norms)
    return _joined(list(_layers(network, "", place)))


def network_of(
    layers: Sequence[Layer], input_shape: Shape, num_classes: int, threads: int, instructions: str
) -> Any:
    """The engine's network of these layers.

    Raises:
        NotAChainError: the engine is not here, or the shapes do not fit.
    """
    module = native_module.module()
    if module is None:
        raise NotAChainError(str(native_module.missing()))
    isa = None if instructions == "auto" else instructions
    try:
        return module.Network(list(layers), input_shape, num_classes, threads, isa)
    except (ValueError, TypeError, OverflowError) as error:
        raise NotAChainError(str(error).rstrip(".")) from error


def array_of(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor's own memory."""
    return tensor.detach().numpy()


@dataclass(kw_only=True)
class _Place:
    """Where in the chain a layer stands."""

    shape: Shape
    """Of the images."""
    frozen_norms: bool
    at_images: bool = True
    """Whether the layer is the first, so that it is given the images themselves."""


def _layers(module: nn.Module, name: str, place: _Place) -> Iterator[Layer]:
    match module:
        case nn.Sequential():
            for key, child in module.named_children():
                yield from _layers(child, f"{name}.{key}" if name else key, place)
        case Residual():
            yield from _residual(module, name, place)
        case nn.Identity():
            pass
        case _:
            layer = _layer(module, name, place)
            if layer is None:
                raise NotAChainError(f"it has no kernel for {described(name, module)}")
            place.at_images = False
            yield layer


def _layer(module: nn.Module, name: str, place: _Place) -> Layer | None:
    match module:
        case nn.Flatten(start_dim=1, end_dim=-1):
            return _FLATTEN
        case nn.ReLU():
            return _RELU
        case nn.Linear():
            return {
                "kind": "linear",
                "name": name,
                "in": module.in_features,
                "out": module.out_features,
                "weight": array_of(module.weight),
                "bias": _optional(module.bias),
            }
        case nn.Conv2d(groups=1, dilation=(1, 1), padding_mode="zeros"):
            if isinstance(module.padding, str):
                return None
            down, right = module.padding
            return _convolution(
                name, module.weight, module.bias, module.stride, (down, down, right, right)
            )
        case PatchWhitening() if place.at_images:
            left, right, top, bottom = margins(*place.shape[1:], module.window)
            return _convolution(
                name, module.weight, None, (STRIDE, STRIDE), (top, bottom, left, right)
            )
        case nn.ZeroPad2d():
            left, right, top, bottom = module.padding
            return {"kind": "pad", "padding": (top, bottom, left, right)}
        case nn.MaxPool2d(dilation=1 | (1, 1), ceil_mode=False, return_indices=False):
            return {"kind": "max_pool", **_window(module)}
        case nn.AvgPool2d(divisor_override=None):
            averaging = {"ceil": module.ceil_mode, "count_padding": module.count_include_pad}
            return {"kind": "avg_pool", **_window(module), **averaging}
        case nn.AdaptiveAvgPool2d():
            output = _pair(module.output_size)
            return None if None in output else {"kind": "adaptive_avg_pool", "output": output}
        case nn.BatchNorm2d() | nn.BatchNorm1d():
            return _normalization(module, name, place)
        case Dropout() | nn.Dropout():
            return {"kind": "dropout", "p": module.p} if module.p < 1 else None
        case _:
            return None


def _residual(module: Residual, name: str, place: _Place) -> Iterator[Layer]:
    def parts(*layers: tuple[str, nn.Module]) -> list[Layer]:
        found = [one for key, layer in layers for one in _layers(layer, f"{name}.{key}", place)]
        return _joined(found)

    body = [
        *parts(("conv1", module.conv1), ("norm1", module.norm1)),
        _RELU,
        *parts(("conv2", module.conv2), ("norm2", module.norm2)),
    ]
    yield {"kind": "residual", "body": body, "shortcut": parts(("shortcut", module.shortcut))}
    yield _RELU


def _convolution(
    name: str,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, int, int, int],
) -> Layer:
    outputs, inputs, height, width = weight.shape
    return {
        "kind": "conv",
        "name": name,
        "in": inputs,
        "out": outputs,
        "kernel": (height, width),
        "stride": stride,
        "padding": padding,
        "weight": array_of(weight),
        "bias": _optional(bias),
    }


def _normalization(
    module: nn.BatchNorm1d | nn.BatchNorm2d, name: str, place: _Place
) -> Layer | None:
    if not (module.affine and module.track_running_stats) or module.momentum is None:
        return None
    mean, variance = module.running_mean, module.running_var
    assert mean is not None and variance is not None, "tracked"  # noqa: PT018
    return {
        "kind": "batch_norm",
        "name": name,
        "channels": module.num_features,
        "weight": array_of(module.weight),
        "bias": array_of(module.bias),
        "mean": array_of(mean),
        "variance": array_of(variance),
        "momentum": module.momentum,
        "epsilon": module.eps,
        "frozen": place.frozen_norms,
    }


def _joined(layers: list[Layer]) -> list[Layer]:
    """The same with margins as part of the convolution that follows them.

    Raises:
        NotAChainError: something else follows.
    """
    found: list[Layer] = []
    margin = _NOTHING
    for layer in layers:
        if layer["kind"] == "pad":
            if margin != _NOTHING or min(layer["padding"]) < 0:
                raise NotAChainError("it takes margins of zeros before a convolution only")
            margin = layer["padding"]
            continue
        if margin != _NOTHING:
            if layer["kind"] != "conv":
                raise NotAChainError("it takes margins of zeros before a convolution only")
            padding = tuple(a + b for a, b in zip(layer["padding"], margin, strict=True))
            layer, margin = {**layer, "padding": padding}, _NOTHING
        found.append(layer)
    if margin != _NOTHING:
        raise NotAChainError("it takes margins of zeros before a convolution only")
    return found


def _refuse_unknown(network: nn.Module) -> None:
    """Raise where a network's code or memory is not what its layers say.

    Raises:
        NotAChainError: it has hooks, patches, shared parameters, or numbers of another kind.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    if len({id(one) for one in modules.values()}) < len(modules):
        raise NotAChainError("a layer is used twice")
    for name, module in modules.items():
        if type(module) not in _KINDS:
            raise NotAChainError(f"it has no kernel for {described(name, module)}")
        if has_hooks(module) or "forward" in vars(module):
            raise NotAChainError(f"{described(name, module)}, has a hook")
    seen: set[int] = set()
    for name, tensor in [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]:
        if id(tensor) in seen:
            raise NotAChainError(f"{name} is used twice")
        seen.add(id(tensor))
        if has_hooks(tensor):
            raise NotAChainError(f"{name} has a hook")
        if tensor.device.type != "cpu":
            raise NotAChainError(f"it runs on the CPU, not on {tensor.device.type}")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise NotAChainError(f"{name} is not float32")
        if not tensor.is_contiguous():
            raise NotAChainError(f"{name} does not lie in memory row by row")


def _window(module: nn.MaxPool2d | nn.AvgPool2d) -> Layer:
    return {
        "kernel": _pair(module.kernel_size),
        "stride": _pair(module.stride),
        "padding": _pair(module.padding),
    }


def _pair(size: Any) -> tuple[Any, Any]:
    return (size, size) if size is None or isinstance(size, int) else (size[0], size[1])


def _optional(tensor: Tensor | None) -> npt.NDArray[Any] | None:
    return None if tensor is None else array_of(tensor)


def described(name: str, module: nn.Module) -> str:
    """A layer of a network by its name there, its class and its settings, on one line."""
    settings = module.extra_repr() if not any(True for _ in module.children()) else ""
    kind = f"{type(module).__name__}({settings})" if settings else f"a {type(module).__name__}"
    return f'layer "{name}", {kind}' if name else f"the network, {kind}"


_KINDS = (
    nn.Sequential,
    Residual,
    nn.Identity,
    nn.Flatten,
    nn.ReLU,
    nn.Linear,
    nn.Conv2d,
    PatchWhitening,
    nn.ZeroPad2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    Dropout,
    nn.Dropout,
)
