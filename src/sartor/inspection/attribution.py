"""Which pixels are evidence for a prediction: one function, three methods, by captum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import Float32Array
from ..errors import MissingExtraError, ModelError, UsageError, unknown
from ..models.copying import copied_network

if TYPE_CHECKING:
    from types import ModuleType


METHODS = ("occlusion", "integrated-gradients", "grad-cam")
"""The first works for every network, and its map is a measured effect."""
_INTEGRATION_STEPS = 64
_STEPS_AT_ONCE = 16
_WINDOWS_A_SIDE = 8


def attribute(
    model: nn.Module, images: Tensor, targets: Tensor, *, method: str, baseline: Tensor
) -> Float32Array:
    """How far each pixel is evidence for (above 0) or against (below 0) the target class.

    Args:
        model: (B, C, H, W) -> (B, classes); a copy of it is asked, in evaluation mode.
        images: float (B, C, H, W), normalised as in training.
        targets: int64 (B,), the class whose output is explained.
        method: occlusion (Zeiler, Fergus 2014) covers a window with `baseline` and measures what
            the output loses. integrated-gradients (Sundararajan et al. 2017) sums, over all
            channels, the gradient on the way from `baseline` to the image; the map's sum is the
            difference of the outputs. grad-cam (Selvaraju et al. 2017) weighs the last feature
            maps of a convolutional network, and shows only evidence for the target.
        baseline: float (1, C, H, W) or smaller, what counts as nothing, such as a black image.

    Returns:
        float32 (B, H, W).

    Raises:
        UsageError: no such method. MissingExtraError: captum is not installed.
        ModelError: grad-cam of a network without convolution.
    """
    if method not in METHODS:
        raise UsageError(unknown("method", method, METHODS).capitalize() + ".", "Choose another.")
    captum = _captum()
    network = copied_network(model).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    explain = {
        "integrated-gradients": _integrated_gradients,
        "grad-cam": _grad_cam,
        "occlusion": _occlusion,
    }[method]
    with torch.enable_grad():
        maps = explain(captum, network, images.detach(), targets, baseline.expand_as(images[:1]))
    return np.asarray(maps.detach().float().cpu().numpy(), dtype=np.float32)


def _integrated_gradients(
    captum: ModuleType, network: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor
) -> Tensor:
    attributions: Tensor = captum.IntegratedGradients(network).attribute(
        images,
        baselines=baseline,
        target=targets,
        n_steps=_INTEGRATION_STEPS,
        internal_batch_size=max(len(images), _STEPS_AT_ONCE),
    )
    return attributions.sum(1)


def _grad_cam(
    captum: ModuleType, network: nn.Module, images: Tensor, targets: Tensor, _baseline: Tensor
) -> Tensor:
    layer = _last_map(network, images[:1])
    maps = captum.LayerGradCam(network, layer).attribute(
        images, target=targets, relu_attributions=True
    )
    return nn.functional.interpolate(maps, images.shape[2:], mode="bilinear")[:, 0]


def _occlusion(
    captum: ModuleType, network: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor
) -> Tensor:
    channels, *size = images.shape[1:]
    window = [min(length, max(2, round(2 * length / _WINDOWS_A_SIDE))) for length in size]
    strides = [max(1, length // 2) for length in window]
    with torch.no_grad():
        attributions: Tensor = captum.Occlusion(network).attribute(
            images,
            sliding_window_shapes=(channels, *window),
            strides=(channels, *strides),
            baselines=baseline,
            target=targets,
            perturbations_per_eval=_STEPS_AT_ONCE,
        )
    return attributions.mean(1)


def _last_map(network: nn.Module, image: Tensor) -> nn.Module:
    """The last convolution whose output still has places, found by watching one image pass."""
    seen: list[nn.Module] = []

    def watch(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            seen.append(module)

    with _hooked(_convolutions(network), watch), torch.no_grad():
        network(image)
    if not seen:
        raise ModelError(
            "grad-cam needs a convolution whose output has more than one position.",
            "Choose integrated-gradients or occlusion.",
        )
    return seen[-1]


def _convolutions(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


@contextmanager
def _hooked(
    modules: list[nn.Module], hook: Callable[[nn.Module, Any, Tensor], None]
) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _captum() -> ModuleType:
    try:
        import captum.attr
    except ImportError as error:
        raise MissingExtraError("Explaining a prediction", "captum", "explain") from error
    attr: ModuleType = captum.attr
    return attr
