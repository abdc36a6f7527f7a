"""EfficientNet-Lite: EfficientNet (Tan & Le 2019) for processors without squeeze-and-excitation.

As published in 2020 ("Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog):
ReLU6 in place of Swish, and only what lies between stem and top is scaled. Padding is that of
TensorFlow, which has more of it on the right and below, since the pretrained weights expect it.
Where those come from: `backbones.py`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .dropout import Dropout
from .headed import HeadedNetwork
from .mlp import Probability
from .whitening import margins

Trained = Literal["all", "last", "head"]
"""What training changes: everything, the last stages and the head, or only the head."""

_STEM, _TOP = 32, 1280
_FIRST_OF_LAST = 6
"""The stage with which the last ones begin: they hold seven parameters in ten."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first of them may halve the map."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
"""Those of lite0, which the others scale."""


def lite0(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    pretrained: bool = True,
    trained: Trained = "all",
    dropout: Probability = 0.2,
) -> EfficientNetLite:
    """3,371,008 parameters without the head, made for 224x224."""
    return _build(input_shape, num_classes, pretrained, trained, dropout, width=1.0, depth=1.0)


def lite1(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    pretrained: bool = True,
    trained: Trained = "all",
    dropout: Probability = 0.2,
) -> EfficientNetLite:
    """4,135,680 parameters without the head, made for 240x240."""
    return _build(input_shape, num_classes, pretrained, trained, dropout, width=1.0, depth=1.1)


def lite2(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    pretrained: bool = True,
    trained: Trained = "all",
    dropout: Probability = 0.3,
) -> EfficientNetLite:
    """4,811,072 parameters without the head, made for 260x260."""
    return _build(input_shape, num_classes, pretrained, trained, dropout, width=1.1, depth=1.2)


class Block(nn.Module):
    """x + f(x), where f expands the channels, convolves each for itself, and projects them back.

    Where f changes the shape, it is f(x).
    """

    def __init__(
        self, channels: int, width: int, *, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = channels * expansion
        self.residual = stride == 1 and channels == width
        self.expand = _convolved(channels, inner, 1) if expansion > 1 else nn.Sequential()
        self.depthwise = _convolved(inner, inner, kernel, stride=stride, groups=inner)
        self.project = _convolved(inner, width, 1, rectified=False)

    def forward(self, values: Tensor) -> Tensor:
        """float (B, channels, H, W) -> (B, width, H, W), or half of H and W, rounded up."""
        change: Tensor = self.project(self.depthwise(self.expand(values)))
        return values + change if self.residual else change


class Convolution(nn.Conv2d):
    """Without bias, padded as TensorFlow does for "SAME"."""

    def __init__(
        self, channels: int, width: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels, width, kernel, stride, padding, groups=groups, bias=False)
        nn.init.normal_(self.weight, std=math.sqrt(2 * groups / (kernel**2 * width)))

    def forward(self, values: Tensor) -> Tensor:
        """float (B, channels, H, W) -> (B, width, H / stride, W / stride), rounded up."""
        if self.stride[0] == 2:
            height, width = values.shape[2:]
            values = F.pad(values, margins(height, width, self.kernel_size[0]))
        return super().forward(values)


class EfficientNetLite(HeadedNetwork):
    """Stem, seven stages of blocks, top, and a linear head: images -> logits."""

    def __init__(
        self, channels: int, stages: tuple[Stage, ...], num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = _convolved(channels, _STEM, 3, stride=2)
        width = _STEM
        self.stages = nn.Sequential()
        for number, stage in enumerate(stages, start=1):
            self.stages.add_module(f"stage{number}", _stage(width, stage))
            width = stage.width
        self.top = _convolved(width, _TOP, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(_TOP, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """float (B, C, H, W) -> (B, 1280): means over the image, what the head is given."""
        features: Tensor = self.flatten(self.pool(self.top(self.stages(self.stem(images)))))
        return features

    def freeze(self, trained: Trained) -> None:
        """Leave everything but what is `trained` as it is, statistics of normalisation included."""
        parts: list[nn.Module] = [self.stem, *self.stages.children(), self.top]
        count = {"all": 0, "last": _FIRST_OF_LAST, "head": len(parts)}[trained]
        self.frozen = tuple(parts[:count])
        for number, part in enumerate(parts):
            part.requires_grad_(number >= count)
        self.train(self.training)


def weights_named_here(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of this file, from those of the package efficientnet_lite_pytorch.

    Raises:
        KeyError: a name that is not of that package.
    """
    numbers = sorted({int(name.split(".")[1]) for name in reference if name.startswith("_blocks.")})
    places = _places_of_blocks(reference, len(numbers))
    return {_name_here(name, places): tensor for name, tensor in reference.items()}


_OUTSIDE = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "top.conv",
    "_bn1": "top.norm",
    "_fc": "head",
}
_INSIDE = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def _name_here(name: str, places: list[str]) -> str:
    if not name.startswith("_blocks."):
        module, _, kind = name.partition(".")
        return f"{_OUTSIDE[module]}.{kind}"
    _, number, module, kind = name.split(".")
    return f"{places[int(number)]}.{_INSIDE[module]}.{kind}"


def _places_of_blocks(reference: Mapping[str, Tensor], count: int) -> list[str]:
    """Where each of the blocks stands here; a stage ends where the width or the map changes."""
    places, stage, block, before = [], 0, 0, None
    for number in range(count):
        width = reference[f"_blocks.{number}._project_conv.weight"].shape[0]
        stage, block = (stage, block + 1) if width == before else (stage + 1, 1)
        places.append(f"stages.stage{stage}.block{block}")
        before = width
    return places


def _build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    pretrained: bool,
    trained: Trained,
    dropout: float,
    *,
    width: float,
    depth: float,
) -> EfficientNetLite:
    """The network with random weights; `pretrained` says what `backbones.start` puts into it."""
    del pretrained
    first, *others, last = _STAGES
    deeper = [replace(one, blocks=math.ceil(depth * one.blocks)) for one in others]
    stages = tuple(
        replace(one, width=_rounded(width * one.width)) for one in (first, *deeper, last)
    )
    network = EfficientNetLite(input_shape[0], stages, num_classes, dropout)
    network.freeze(trained)
    return network


def _stage(channels: int, stage: Stage) -> nn.Sequential:
    blocks = OrderedDict[str, nn.Module]()
    for number in range(1, stage.blocks + 1):
        blocks[f"block{number}"] = Block(
            channels if number == 1 else stage.width,
            stage.width,
            kernel=stage.kernel,
            stride=stage.stride if number == 1 else 1,
            expansion=stage.expansion,
        )
    return nn.Sequential(blocks)


def _convolved(
    channels: int,
    width: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    rectified: bool = True,
) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module](
        conv=Convolution(channels, width, kernel, stride=stride, groups=groups),
        norm=nn.BatchNorm2d(width, eps=1e-3, momentum=0.01),
    )
    if rectified:
        layers["relu"] = nn.ReLU6(inplace=True)
    return nn.Sequential(layers)


def _rounded(width: float) -> int:
    """To the nearest multiple of 8, but not to less than nine tenths."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest
