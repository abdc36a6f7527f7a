"""A first convolution, to few channels, with the max-pooling that follows it, as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_CHANNELS = 16
"""Fewer do not fill a vector unit."""


class PooledConvolution:
    """Forward and backward pass of both layers; the images get no gradient.

    The kernel, in its four places under a pooling window, makes four kernels that are a pixel
    larger, at stride 2: four times as many channels, which fill vectors better, and pooling is the
    maximum of four maps instead of a search. `make bench` has what that does to a step of LeNet:
    2.1 ms instead of 2.5 on two cores of an AMD EPYC (docs/benchmarks.md).
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer
        outputs, inputs, height, width = layer.weight.shape
        # Zero but for the four windows, which every pass writes.
        self._kernels = layer.weight.new_zeros(4, outputs, inputs, height + 1, width + 1)

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H', W')."""
        layer = self.layer
        for window in self._windows(self._kernels):
            window.copy_(layer.weight)
        self._values = values.contiguous()
        self._larger = self._kernels.flatten(0, 1)
        maps = F.conv2d(self._values, self._larger, None, 2, layer.padding)
        self._maps = maps.view(len(maps), 4, layer.out_channels, *maps.shape[2:])
        result = self._largest()
        return result if layer.bias is None else result.add_(layer.bias[:, None, None])

    def backward(self, gradient: Tensor, onward: bool) -> Tensor:
        """As `Link.backward`."""
        assert not onward, "the gradient of images"
        weight, bias = self.layer.weight, self.layer.bias
        if bias is not None and bias.requires_grad:
            add_gradient(bias, gradient.sum((0, 2, 3)))
        if weight.requires_grad:
            tensors = self._to_largest(gradient), self._values, self._larger
            _, of_larger, _ = convolution_backward(
                tensors, self.layer, (False, True, False), stride=2
            )
            first, *others = self._windows(of_larger.contiguous().view(self._kernels.shape))
            add_gradient(weight, sum(others, start=first))
        return gradient

    def _windows(self, kernels: Tensor) -> list[Tensor]:
        """(4, O, C, H + 1, W + 1) -> the place of the kernel in each of the four, (O, C, H, W)."""
        height, width = self.layer.weight.shape[2:]
        return [
            kernels[2 * down + right, :, :, down : down + height, right : right + width]
            for down in (0, 1)
            for right in (0, 1)
        ]

    def _largest(self) -> Tensor:
        """Of the four pixels under each window, (B, O, H', W')."""
        first, second, third, fourth = self._maps.unbind(1)
        self._upper, self._lower = torch.maximum(first, second), torch.maximum(third, fourth)
        return torch.maximum(self._upper, self._lower)

    def _to_largest(self, gradient: Tensor) -> Tensor:
        """The gradient of the maps, (B, 4 * O, H', W'), written over them.

        It goes to the largest pixel under a window and, of equal ones, to the first in the order of
        reading, as in PyTorch.
        """
        first, second, third, fourth = self._maps.unbind(1)
        to_lower = where_positive(gradient, self._lower.sub_(self._upper))
        pairs = ((first, second, gradient - to_lower), (third, fourth, to_lower))
        for one, other, to_both in pairs:
            where_positive(to_both, other.sub_(one), out=other)
            torch.sub(to_both, other, out=one)
        return self._maps.flatten(1, 2)


def can_be_pooled(layers: Sequence[nn.Module]) -> bool:
    """Whether two layers are what a `PooledConvolution` computes."""
    if len(layers) != 2:
        return False
    layer, pool = layers
    return (
        isinstance(layer, nn.Conv2d)
        and isinstance(pool, nn.MaxPool2d)
        and layer.out_channels < FEW_CHANNELS
        and layer.groups == 1
        and layer.stride == layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and pool.kernel_size in (2, (2, 2))
        and pool.stride in (2, (2, 2))
        and pool.padding in (0, (0, 0))
        and pool.dilation in (1, (1, 1))
        and not pool.ceil_mode
        and not pool.return_indices
    )


def convolution_backward(
    tensors: Sequence[Tensor],
    layer: nn.Conv2d,
    wanted: tuple[bool, bool, bool],
    stride: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a convolution's input, weight and bias; None instead of one not wanted.

    The tensors are the gradient of the result, the input and the weight; `stride` replaces that of
    the layer.
    """
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        *tensors,
        [layer.out_channels],
        [stride, stride] if stride else layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0, 0],
        layer.groups,
        wanted,
    )
    return found


def add_gradient(parameter: Tensor, gradient: Tensor) -> None:
    """To that of a parameter, in the parameter's layout, on which the optimizers rely."""
    if gradient.stride() != parameter.stride():
        gradient = torch.empty_like(parameter).copy_(gradient)
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def where_positive(gradient: Tensor, values: Tensor, out: Tensor | None = None) -> Tensor:
    """The gradient where a value is positive, else zero."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(
        gradient, values, 0, grad_input=torch.empty_like(gradient) if out is None else out
    )
    return result
