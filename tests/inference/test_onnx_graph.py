"""Backbones in ONNX Runtime: the same features as PyTorch's, and no graph of what is not known."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.inference.onnx_graph import Session, UnknownOperationError, onnx_of
from sartor.models.registry import build_model


class Mixed(nn.Module):
    """The operations of usual convolutional networks."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=2)
        self.norm = nn.BatchNorm2d(8)
        self.gate = nn.Conv2d(8, 8, 1, groups=2)
        self.two = nn.Conv2d(8, 6, 3, bias=False)
        self.out = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        values = F.max_pool2d(F.hardswish(self.norm(self.one(images))), 2)
        squeezed = F.relu_(self.gate(values.mean((2, 3), keepdim=True)))
        values = values * torch.sigmoid(squeezed) + 0.5
        values = F.relu6(self.two(F.pad(values, (0, 1, 1, 0))) * 2)
        return self.out(torch.flatten(F.adaptive_avg_pool2d(values, 1), 1))


def with_statistics(network: nn.Module) -> nn.Module:
    """Normalisation that does something, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) / 4)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return network.eval()


def pixels(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("count", [1, 3])
def test_operations_of_convolutional_networks(count: int) -> None:
    torch.manual_seed(0)
    network = with_statistics(Mixed())
    images = pixels(count, 20, 26)
    mean, std = (0.4, 0.5, 0.6), (0.3, 0.2, 0.25)
    session = Session(onnx_of(network, (3, 20, 26), mean, std), 1)
    with torch.no_grad():
        shifted = images / 255 - torch.tensor(mean).view(3, 1, 1)
        expected = network(shifted / torch.tensor(std).view(3, 1, 1)).numpy()
    np.testing.assert_allclose(session(images.numpy()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_backbone_at_another_size(layout: torch.memory_format) -> None:
    network = with_statistics(
        build_model("efficientnet-lite0", input_shape=(3, 64, 40), num_classes=3, kwargs={})
    )
    network = network.to(memory_format=layout)
    images = pixels(5, 64, 40)
    session = Session(onnx_of(network.features, (3, 64, 40)), 1)
    with torch.no_grad():
        expected = network.features(images / 255).numpy()
    difference = np.abs(session(images.numpy()) - expected).max()
    assert difference < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    "network",
    [
        lambda images: torch.cumsum(images, 0).flatten(1),
        lambda images: images.reshape(1, -1),
        lambda images: torch.add(images, images, alpha=2).flatten(1),
    ],
)
def test_what_is_not_known_is_refused(network: object) -> None:
    with pytest.raises(UnknownOperationError):
        onnx_of(network, (3, 4, 4))  # type: ignore[arg-type]


def test_the_compiler_is_not_imported() -> None:
    program = (
        "import sys, torch\n"
        "from sartor.inference.onnx_graph import onnx_of\n"
        "onnx_of(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)), (3, 2, 2))\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
