"""The networks themselves: shapes, counts of parameters, and agreement with the textbook's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.models.registry import build_model
from sartor.models.summary import summarize

MNIST = (1, 28, 28)


def built(name: str, input_shape: tuple[int, int, int] = MNIST, **kwargs: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, input_shape=input_shape, num_classes=10, kwargs=kwargs)


def kinds(model: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in model.children()]


@pytest.mark.parametrize(
    ("name", "parameters"), [("linear", 7_850), ("mlp", 669_706), ("lenet", 32_998)]
)
def test_parameters_on_mnist(name: str, parameters: int) -> None:
    assert sum(one.numel() for one in built(name).parameters()) == parameters


def test_lenet_shows_the_shape_after_every_operation() -> None:
    assert [(row.name, row.output_shape) for row in summarize(built("lenet"), MNIST).rows] == [
        ("conv1", (1, 6, 24, 24)),
        ("pool1", (1, 6, 12, 12)),
        ("relu1", (1, 6, 12, 12)),
        ("conv2", (1, 12, 8, 8)),
        ("pool2", (1, 12, 4, 4)),
        ("relu2", (1, 12, 4, 4)),
        ("flatten", (1, 192)),
        ("linear3", (1, 120)),
        ("relu3", (1, 120)),
        ("linear4", (1, 60)),
        ("relu4", (1, 60)),
        ("linear5", (1, 10)),
    ]


def relu_before_pooling(model: nn.Module, images: Tensor) -> Tensor:
    weights = list(model.parameters())
    x = F.max_pool2d(F.relu(F.conv2d(images, weights[0], weights[1])), 2)
    x = F.max_pool2d(F.relu(F.conv2d(x, weights[2], weights[3])), 2)
    x = F.relu(F.linear(x.reshape(-1, 192), weights[4], weights[5]))
    x = F.relu(F.linear(x, weights[6], weights[7]))
    return F.linear(x, weights[8], weights[9])


def test_lenet_is_the_network_with_relu_before_pooling_bit_for_bit() -> None:
    model, labels = built("lenet"), torch.arange(20) % 10
    images = torch.rand(20, *MNIST)
    parameters = list(model.parameters())
    ours, textbook = model(images), relu_before_pooling(model, images)
    assert torch.equal(ours, textbook)
    gradients = [
        torch.autograd.grad(F.cross_entropy(logits, labels), parameters)
        for logits in (ours, textbook)
    ]
    for left, right in zip(*gradients, strict=True):
        assert torch.equal(left, right)


def test_lenet_draws_its_weights_in_the_order_of_its_layers() -> None:
    model = built("lenet")
    torch.manual_seed(0)
    textbook = [
        nn.Conv2d(1, 6, 5),
        nn.Conv2d(6, 12, 5),
        nn.Linear(192, 120),
        nn.Linear(120, 60),
        nn.Linear(60, 10),
    ]
    expected = [parameter for layer in textbook for parameter in layer.parameters()]
    assert all(map(torch.equal, model.parameters(), expected))


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((1, 1, 1), [(1, 1), (1, 1)]),  # padded twice, never pooled
        ((1, 4, 28), [(2, 12), (1, 4)]),  # only the short axis is padded
        ((1, 5, 5), [(2, 2), (1, 1)]),  # padded twice
        ((1, 8, 8), [(4, 4), (2, 2)]),  # padded twice
        ((1, 16, 16), [(6, 6), (3, 3)]),  # valid once, then padded
        ((3, 17, 23), [(6, 9), (3, 4)]),  # halving rounds down
        ((3, 224, 224), [(110, 110), (53, 53)]),
    ],
)
def test_lenet_fits_images_of_any_size(
    shape: tuple[int, int, int], sizes: list[tuple[int, int]]
) -> None:
    rows = summarize(built("lenet", shape), shape).rows
    stages = [row.output_shape[2:] for row in rows if row.name in ("relu1", "relu2")]
    assert stages == sizes


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 5), (1, 28, 28)])
def test_lenet_takes_any_kernel(kernel: int, shape: tuple[int, int, int]) -> None:
    model = built("lenet", shape, kernel=kernel, channels=(2, 3, 4))
    assert model(torch.rand(2, *shape)).shape == (2, 10)


def test_settings_shape_the_network() -> None:
    mlp = built("mlp", hidden=(128, 64, 32), dropout=0.2)
    assert kinds(mlp) == ["Flatten", *["Linear", "ReLU", "Dropout"] * 3, "Linear"]
    assert [tuple(one.shape) for one in mlp.parameters() if one.ndim == 2] == [
        (128, 784),
        (64, 128),
        (32, 64),
        (10, 32),
    ]
    lenet = built("lenet", channels=(4,), kernel=3, hidden=(7,), dropout=0.5)
    assert kinds(lenet) == [
        *("Conv2d", "MaxPool2d", "ReLU", "Flatten", "Linear", "ReLU", "Dropout", "Linear")
    ]
    assert kinds(built("mlp", hidden=())) == kinds(built("linear"))
