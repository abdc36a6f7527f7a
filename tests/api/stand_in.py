"""A small network in the place of a real backbone, and pictures that it can tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sartor
from sartor.data.dataset import Dataset
from sartor.models import backbones
from sartor.models.backbones import BACKBONES
from sartor.models.registry import MODELS, Entry

NAME = "efficientnet-lite0"
QUIET: dict[str, Any] = {"threads": 1, "check": False, "report": False, "progress": False}
CLASSES = ("blue", "green", "red")


class StandIn(nn.Module):
    """As a backbone, and small: colours averaged over sixteenths."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(128, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return self.pool(self.norm(self.stem(images)).relu()).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(images)))


def build(
    *, input_shape: tuple[int, int, int], num_classes: int, pretrained: bool = True
) -> StandIn:
    del input_shape, pretrained
    return StandIn(num_classes)


def weights() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return StandIn(1000).state_dict()


def colours(count: int = 60, side: int = 48, seed: int = 0) -> Dataset:
    """Noise, brighter in the channel of the class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = generator.integers(0, 200, (count, 3, side, side), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 - label] += 10
    return Dataset(images, labels.astype(np.int64), CLASSES, name="colours")


def folder_of(path: Path, data: Dataset) -> Path:
    for index in range(len(data)):
        image, _, name = data[index]
        (path / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path / name / f"{index:03}.png")
    return path


def fitted(data: Any, out: Path, **settings: Any) -> sartor.Run:
    return sartor.fit(data, out=out, **{**QUIET, "image_size": 48, **settings})


def put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a real backbone, its weights at hand, with a network that takes no time."""
    import sartor.api.starting as starting
    import sartor.models.efficientnet_lite as module

    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "lite0", build)
    monkeypatch.setattr(starting, "pretrained_weights", lambda _: weights())
    monkeypatch.setattr(backbones, "weights_path", lambda _: tmp_path)
    assert isinstance(MODELS[NAME], Entry)
    assert NAME in BACKBONES
