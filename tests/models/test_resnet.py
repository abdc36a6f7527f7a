"""The residual family: what the paper says of it, at any size of images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.models.registry import build_model
from sartor.models.resnet import Residual
from sartor.models.summary import summarize

Shape = tuple[int, int, int]


def built(name: str = "resnet8", shape: Shape = (3, 32, 32), **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, input_shape=shape, num_classes=10, kwargs=kwargs)


def maps_of(model: nn.Module, shape: Shape) -> list[tuple[int, int]]:
    """Height and width of what each residual block gives."""
    sizes: list[tuple[int, int]] = []

    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        sizes.append((output.shape[2], output.shape[3]))

    for block in model.modules():
        if isinstance(block, Residual):
            block.register_forward_hook(note)
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return sizes


@pytest.mark.parametrize(("name", "blocks"), [("resnet8", 3), ("resnet14", 6), ("resnet20", 9)])
def test_its_name_counts_layers(name: str, blocks: int) -> None:
    """6n + 2: a convolution, n blocks of two in each of three stages, a linear layer."""
    model = built(name)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
    assert len(convolutions) + 1 == int(name.removeprefix("resnet"))
    assert sum(isinstance(module, Residual) for module in model.modules()) == blocks


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet8", 308_266), ("resnet14", 696_234), ("resnet20", 1_084_202)]
)
def test_parameters_are_as_documented(name: str, parameters: int) -> None:
    assert sum(one.numel() for one in built(name).parameters()) == parameters
    import sartor.models.resnet as module

    assert f"{parameters:,}" in str(getattr(module, name).__doc__)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((1, 8, 8), [(8, 8), (4, 4), (4, 4)]),
        ((3, 24, 24), [(24, 24), (12, 12), (6, 6)]),
        ((1, 28, 28), [(14, 14), (7, 7), (4, 4)]),
        ((3, 32, 32), [(16, 16), (8, 8), (4, 4)]),
        ((3, 64, 64), [(16, 16), (8, 8), (4, 4)]),
        ((3, 96, 64), [(24, 16), (12, 8), (6, 4)]),
        ((3, 224, 224), [(14, 14), (7, 7), (4, 4)]),
        ((3, 1, 40), [(1, 20), (1, 20), (1, 20)]),
        ((3, 5, 300), [(1, 18), (1, 18), (1, 18)]),
    ],
)
def test_maps_are_small_and_never_vanish(shape: Shape, sizes: list[tuple[int, int]]) -> None:
    assert maps_of(built(shape=shape), shape) == sizes


def test_a_new_block_lets_everything_pass() -> None:
    block = Residual(8, 8, halve=False)
    values = torch.randn(4, 8, 6, 6)
    for training in (True, False):
        assert torch.equal(block.train(training)(values), F.relu(values))


def test_a_block_is_the_equation_of_the_paper() -> None:
    torch.manual_seed(0)
    block = Residual(6, 10, halve=True)
    nn.init.normal_(block.norm2.weight)
    values = torch.randn(4, 6, 7, 5)
    change = F.conv2d(values, block.conv1.weight, stride=2, padding=1)
    change = F.relu(F.batch_norm(change, None, None, block.norm1.weight, block.norm1.bias, True))
    change = F.conv2d(change, block.conv2.weight, padding=1)
    change = F.batch_norm(change, None, None, block.norm2.weight, block.norm2.bias, True)
    pooled = F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)
    expected = F.relu(change + F.conv2d(pooled, block.shortcut[1].weight))
    torch.testing.assert_close(block(values), expected)
    assert expected.shape == (4, 10, 4, 3)


def test_the_first_answers_know_nothing() -> None:
    """Neither with the running figures it begins with nor with those of a batch."""
    images = torch.randn(64, 3, 64, 64)
    labels = torch.arange(64) % 10
    for name in ("resnet8", "resnet20"):
        model = built(name, (3, 64, 64))
        for training in (True, False):
            with torch.no_grad():
                loss = F.cross_entropy(model.train(training)(images), labels)
            assert loss == pytest.approx(2.303, abs=0.35)


def test_wide_maps_cost_little() -> None:
    """Twice the height and width is less than twice the work."""
    small, large = (summarize(built(shape=s), s).multiply_adds for s in ((3, 32, 32), (3, 64, 64)))
    assert large < 2 * small


def test_width_is_that_of_the_first_stage() -> None:
    model = built(width=16)
    linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
    assert linear.in_features == 64
