"""The forward and the backward pass of a chain of simple layers, written out.

Autograd records every operation and replays the record backwards; for a small network that takes
as long as the arithmetic. In a chain each gradient follows from the next one. They equal those of
autograd up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.dropout import Dropout, scaled_mask
from ..objective import Objective
from ..settings import TrainingSettings
from ..torch_internals import has_hooks
from . import kernels
from .kernels import OneDnnLinear, Product
from .pooled import (
    FEW_CHANNELS,
    PooledConvolution,
    add_gradient,
    can_be_pooled,
    convolution_backward,
    where_positive,
)

_aten = torch.ops.aten


class Link(Protocol):
    """A layer of a chain. The forward pass keeps what the backward pass needs."""

    @property
    def layer(self) -> nn.Module:
        """Whose parameters it uses."""
        ...

    def forward(self, values: Tensor, /) -> Tensor:
        """(B, ...) -> (B, ...)."""
        ...

    def backward(self, gradient: Tensor, onward: bool, /) -> Tensor:
        """From the gradient of the result, give the layer's parameters theirs.

        Returns the gradient of the input if it goes `onward`, else anything.
        """
        ...


class Chain:
    """The passes of a network, without autograd."""

    def __init__(self, links: Sequence[Link]) -> None:
        trained = [number for number, link in enumerate(links) if _is_trained(link.layer)]
        self._links = links
        self._first = trained[0] if trained else len(links)

    @torch.no_grad()
    def __call__(
        self, objective: Objective, images: Tensor, labels: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum of the losses, and logits float32 (B, K).

        The gradient of sum * scale is added to that of each parameter.
        """
        values = images
        for link in self._links:
            values = link.forward(values)
        loss, gradient = objective.sum_and_gradient(values, labels)
        gradient = gradient * scale
        for number in range(len(self._links) - 1, self._first - 1, -1):
            gradient = self._links[number].backward(gradient, number > self._first)
        return loss, values


def chain_of(model: nn.Module, settings: TrainingSettings) -> Chain | None:
    """The passes of a model; None unless it is a chain of layers known here, in float32 on
    the CPU.

    With the engine onednn, large matrix products are oneDNN's.
    """
    layers = list(_layers(model))
    if settings.amp_dtype != "float32" or not _is_plain(model, layers):
        return None
    product = kernels.quickest_product if settings.engine == "onednn" else F.linear
    links: list[Link] = []
    if can_be_pooled(layers[:2]):
        links.append(PooledConvolution(cast(nn.Conv2d, layers[0])))
        layers = layers[2:]
    for layer in layers:
        link = _link(layer, product)
        if link is None:
            return None
        links.append(link)
    return Chain(links)


class _Flatten:
    def __init__(self, layer: nn.Flatten) -> None:
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        self._values = values
        return values.flatten(1)

    def backward(self, gradient: Tensor, _onward: bool) -> Tensor:
        gradient = gradient.view(self._values.shape)
        if gradient.stride() != self._values.stride():
            gradient = torch.empty_like(self._values).copy_(gradient)
        return gradient


class _Linear:
    def __init__(self, layer: nn.Linear, product: Product) -> None:
        self.layer = layer
        self._product = product

    def forward(self, values: Tensor) -> Tensor:
        self._values = values
        return self._product(values, self.layer.weight, self.layer.bias)

    def backward(self, gradient: Tensor, onward: bool) -> Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        if weight.requires_grad:
            add_gradient(weight, self._product(gradient.t(), self._values.t()))
        if bias is not None and bias.requires_grad:
            add_gradient(bias, gradient.sum(0))
        return self._product(gradient, weight.t()) if onward else gradient


class _ReLU:
    def __init__(self, layer: nn.ReLU) -> None:
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        self._result = values.relu()
        return self._result

    def backward(self, gradient: Tensor, _onward: bool) -> Tensor:
        return where_positive(gradient, self._result)


class _Dropout:
    def __init__(self, layer: Dropout) -> None:
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        active = self.layer.training and self.layer.p > 0
        self._mask = scaled_mask(values, self.layer.p) if active else None
        return values if self._mask is None else values * self._mask

    def backward(self, gradient: Tensor, _onward: bool) -> Tensor:
        return gradient if self._mask is None else gradient * self._mask


class _MaxPool:
    def __init__(self, layer: nn.MaxPool2d) -> None:
        self.layer = layer
        sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        self._settings = (*(_pair(size) for size in sizes), layer.ceil_mode)

    def forward(self, values: Tensor) -> Tensor:
        self._values = values
        result: Tensor
        result, self._places = _aten.max_pool2d_with_indices(values, *self._settings)
        return result

    def backward(self, gradient: Tensor, _onward: bool) -> Tensor:
        settings, places = self._settings, self._places
        backward = _aten.max_pool2d_with_indices_backward
        result: Tensor = backward(gradient, self._values, *settings, places)
        return result


class _Convolution:
    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        layer = self.layer
        self._values = values
        return F.conv2d(
            values,
            layer.weight,
            layer.bias,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
        )

    def backward(self, gradient: Tensor, onward: bool) -> Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        tensors = (gradient, self._values, weight)
        own = (weight.requires_grad, bias is not None and bias.requires_grad)
        if self.layer.out_channels < FEW_CHANNELS:
            # Each gradient in the layout that suits its kernel.
            apart, lasts = (
                [one.contiguous(memory_format=layout) for one in tensors]
                for layout in (torch.contiguous_format, torch.channels_last)
            )
            of_values, _, _ = convolution_backward(apart, self.layer, (onward, False, False))
            _, of_weight, of_bias = convolution_backward(lasts, self.layer, (False, *own))
        else:
            of_values, of_weight, of_bias = convolution_backward(
                tensors, self.layer, (onward, *own)
            )
        if own[0]:
            add_gradient(weight, of_weight)
        if bias is not None and own[1]:
            add_gradient(bias, of_bias)
        return of_values if onward else gradient


def _link(layer: nn.Module, product: Product) -> Link | None:
    match layer:
        case nn.Flatten(start_dim=1, end_dim=-1):
            return _Flatten(layer)
        case nn.Linear():
            return _Linear(layer, product)
        case nn.ReLU():
            return _ReLU(layer)
        case Dropout():
            return _Dropout(layer)
        case nn.MaxPool2d(return_indices=False):
            return _MaxPool(layer)
        case nn.Conv2d(padding_mode="zeros") if not isinstance(layer.padding, str):
            return _Convolution(layer)
        case _:
            return None


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Those of a chain, one after the other; of anything else, itself."""
    if type(model) is nn.Sequential:
        for child in model:
            yield from _layers(child)
    else:
        yield model


def _is_plain(model: nn.Module, layers: Sequence[nn.Module]) -> bool:
    """Whether the layers are of known classes, each used once, with no hook or patch anywhere."""
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    return (
        all(type(layer) in _KINDS for layer in layers)
        and len({id(parameter) for parameter in parameters}) == len(parameters)
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in parameters)
        and not any(has_hooks(one) for one in model.modules())
        and not any(has_hooks(one) for one in parameters)
        and not any("forward" in vars(one) for one in model.modules())
    )


def _is_trained(layer: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in layer.parameters())


def _pair(size: int | Sequence[int]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


_KINDS = (nn.Flatten, nn.Linear, OneDnnLinear, nn.ReLU, Dropout, nn.MaxPool2d, nn.Conv2d)
