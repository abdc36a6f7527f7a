"""The quick convolutional network: its shape at any size of images."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from sartor.errors import UsageError
from sartor.models import convnet
from sartor.models.registry import build_model
from sartor.models.resnet import Residual
from sartor.models.summary import summarize

Shape = tuple[int, int, int]


def built(shape: Shape = (1, 28, 28), **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_model("convnet", input_shape=shape, num_classes=10, kwargs=kwargs)


def test_parameters_are_as_documented() -> None:
    count = sum(one.numel() for one in built().parameters())
    assert f"{count:,}" in str(convnet.build.__doc__)


@pytest.mark.parametrize(
    ("shape", "maps"),
    [
        ((1, 28, 28), [(7, 7), (3, 3)]),
        ((3, 64, 64), [(16, 16), (8, 8)]),
        ((1, 8, 8), [(2, 2), (1, 1)]),
        ((3, 1, 40), [(1, 10), (1, 5)]),
        ((1, 1, 1), [(1, 1), (1, 1)]),
    ],
)
def test_every_stage_halves_until_a_pixel_is_left(
    shape: Shape, maps: list[tuple[int, int]]
) -> None:
    model, found = built(shape), []
    for name, module in model.named_children():
        if name in ("norm1_1", "norm2_1"):
            module.register_forward_hook(lambda _m, _i, out: found.append(tuple(out.shape[2:])))
    with torch.no_grad():
        model.eval()(torch.zeros(2, *shape))
    assert found == maps


def test_widths_and_depth_are_those_asked_for() -> None:
    summary = summarize(built(widths=(16, 32, 48), depth=3), (1, 28, 28))
    outputs = [row.output_shape[1] for row in summary.rows if row.kind == "Conv2d"]
    assert outputs == [16] * 3 + [32] * 3 + [48] * 3


def test_the_first_stage_may_keep_the_size() -> None:
    model, sizes = built(first_stride=1), []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[2:])))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 1, 28, 28))
    assert sizes == [(14, 14), (14, 14), (7, 7), (7, 7)]


def test_residual_blocks_take_two_convolutions() -> None:
    model = built(depth=5, residual=True)
    blocks = [name for name, module in model.named_children() if isinstance(module, Residual)]
    assert blocks == ["block1_1", "block1_2", "block2_1", "block2_2"]
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 2 * 5
    with pytest.raises(UsageError, match="depth 4 of convnet must be odd"):
        built(depth=4, residual=True)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 40), (1, 1, 1)])
def test_a_trained_first_convolution_gives_the_same_shape(shape: Shape) -> None:
    shapes = []
    for whitened in (True, False):
        model = built(shape, whitened=whitened)
        found: list[torch.Size] = []
        model.get_submodule("conv1_1").register_forward_pre_hook(
            lambda _m, given, found=found: found.append(given[0].shape)
        )
        model.eval()(torch.zeros(2, *shape))
        shapes += found
    assert shapes[0] == shapes[1]
    assert model.get_submodule("conv").weight.requires_grad


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 14, 10), (1, 9, 3)])
def test_what_pooling_drops_is_not_computed_and_nothing_else_changes(
    shape: Shape,
) -> None:
    lean = built(shape)
    full = nn.Sequential()
    for name, layer in lean.named_children():
        if isinstance(layer, nn.ZeroPad2d):
            continue
        if isinstance(layer, nn.Conv2d):
            layer = copy.deepcopy(layer)
            layer.padding = (1, 1)
        full.add_module(name, layer)
    assert len(full) < len(lean)
    images = torch.rand(3, *shape)
    torch.testing.assert_close(lean(images), full(images), rtol=1e-5, atol=1e-6)
    names = [name for name, _ in lean.named_children()]
    assert isinstance(lean, nn.Sequential)
    before_pooling = lean[: names.index("conv2_1") + 1](images)
    assert all(length % 2 == 0 or length == 1 for length in before_pooling.shape[2:])


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((3, 64, 64), [(16, 16), (8, 8)]),
        ((3, 96, 96), [(24, 24), (12, 12), (6, 6)]),
        ((3, 225, 160), [(56, 40), (28, 20), (14, 10), (7, 5)]),
        ((1, 1, 200), [(1, 50), (1, 25), (1, 12), (1, 6)]),
    ],
)
def test_large_maps_are_halved_first_where_a_largest_is_given(
    shape: Shape, sizes: list[tuple[int, int]]
) -> None:
    model, found = built(shape, largest_map=32, depth=1), []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _m, _i, out: found.append(tuple(out.shape[2:])))
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, *shape)).shape == (1, 10)
    assert found == sizes


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 1)])
def test_parts_of_the_last_map_have_weights_of_their_own(shape: Shape) -> None:
    last_map = torch.rand(1, 128, 4, 4, generator=torch.Generator().manual_seed(0))
    for parts, same in ((1, True), (2, False)):
        model = built(shape, parts=parts).eval()
        with torch.no_grad():
            assert model(torch.zeros(2, *shape)).shape == (2, 10)
            tail = nn.Sequential(*list(model.children())[-3:])
            assert torch.allclose(tail(last_map), tail(last_map.flip(3)), atol=1e-5) == same
