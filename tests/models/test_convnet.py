"""The quick convolutional network: its shape at any size of images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sartor.models import convnet
from sartor.models.registry import build_model
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
